//! The fleet's power as the API gives it.

use crate::incidents::rfc3339;
use crate::judge::PowerPoint;
use crate::live::{SwingsView, View};
use crate::power::Resolved;
use serde::Serialize;

/// More points than a screen is wide tell nothing.
const MAX_POINTS: usize = 1500;
/// Bins that the judging keeps.
const MAX_SECONDS: u32 = 900;

#[derive(Serialize)]
pub(super) struct Series<'a> {
    /// The collector's clock, RFC 3339.
    now: String,
    /// Everything up to here has been judged.
    judged_until: Option<String>,
    limits: Option<Resolved>,
    #[serde(flatten)]
    swings: &'a SwingsView,
    points: Vec<Point>,
}

/// Some bins together.
#[derive(Debug, PartialEq, Serialize)]
struct Point {
    /// Centre of the bins, RFC 3339.
    at: String,
    /// Mean.
    watts: f64,
    /// Lowest and highest of the bins: what swings within a point shows in them.
    watts_min: f64,
    watts_max: f64,
    /// The lowest of the bins, 0 to 1.
    completeness: f64,
}

pub(super) fn series(view: &View, seconds: u32) -> Series<'_> {
    let judged = (view.judged_until.0 > 0).then(|| rfc3339(view.judged_until));
    Series {
        now: rfc3339(view.at),
        judged_until: judged,
        limits: view.limits,
        swings: &view.swings,
        points: points(&view.power, seconds.clamp(1, MAX_SECONDS)),
    }
}

fn points(power: &[PowerPoint], seconds: u32) -> Vec<Point> {
    let Some(last) = power.last() else { return Vec::new() };
    let since = last.at - i64::from(seconds) * 1_000_000;
    let power = &power[power.partition_point(|point| point.at <= since)..];
    power.chunks(power.len().div_ceil(MAX_POINTS).max(1)).map(point).collect()
}

/// `bins` is not empty.
fn point(bins: &[PowerPoint]) -> Point {
    let watts = bins.iter().map(|bin| bin.watts);
    let centre = bins[0].at + (bins[bins.len() - 1].at.0 - bins[0].at.0) / 2;
    Point {
        at: rfc3339(centre),
        watts: watts.clone().sum::<f64>() / bins.len() as f64,
        watts_min: watts.clone().fold(f64::INFINITY, f64::min),
        watts_max: watts.fold(f64::NEG_INFINITY, f64::max),
        completeness: bins.iter().map(|bin| bin.completeness).fold(1.0, f64::min),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridstep_wire::Micros;

    fn bins(count: i64) -> Vec<PowerPoint> {
        (0..count).map(|bin| PowerPoint { at: Micros(bin * 100_000), watts: (bin % 2) as f64, completeness: 1.0 }).collect()
    }

    #[test]
    fn few_bins_stay_as_they_are() {
        assert_eq!(points(&bins(100), 5).len(), 50);
        assert!(points(&[], 5).is_empty());
    }

    #[test]
    fn what_swings_within_a_point_shows_in_its_extremes() {
        let points = points(&bins(9000), 900);
        assert!(points.len() <= MAX_POINTS);
        assert_eq!((points[0].watts, points[0].watts_min, points[0].watts_max), (0.5, 0.0, 1.0));
    }
}
