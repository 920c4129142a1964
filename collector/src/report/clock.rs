//! An axis of time with ticks on the clock (UTC).

use gridstep_wire::Micros;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// Steps between ticks, seconds.
const STEPS: [i64; 18] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400];

/// Seconds since 1970.
#[derive(Debug, Clone)]
pub(super) struct Clock(pub(super) Range<f64>);

impl Ranged for Clock {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.0.start) / (self.0.end - self.0.start).max(1e-9);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let most = hint.max_num_points().clamp(2, 12) as f64;
        let span = self.0.end - self.0.start;
        let days = (span / most / 86_400.0).ceil().max(1.0) as i64 * 86_400;
        let step = STEPS.into_iter().find(|&step| span / step as f64 <= most).unwrap_or(days);
        let first = (self.0.start / step as f64).ceil() as i64;
        (first..).map(|index| (index * step) as f64).take_while(|&at| at <= self.0.end).collect()
    }

    fn range(&self) -> Range<f64> {
        self.0.clone()
    }
}

impl ValueFormatter<f64> for Clock {
    fn format_ext(&self, value: &f64) -> String {
        let span = self.0.end - self.0.start;
        let Ok(stamp) = jiff::Timestamp::from_second(*value as i64) else { return String::new() };
        let form = match span {
            span if span <= 600.0 => "%H:%M:%S",
            span if span <= 2.0 * 86_400.0 => "%H:%M",
            _ => "%m-%d %H:%M",
        };
        stamp.strftime(form).to_string()
    }
}

/// "2025-10-09 08:53:20"
pub(super) fn time(at: Micros) -> String {
    let stamp = jiff::Timestamp::from_microsecond(at.0);
    stamp.map_or_else(|_| format!("{} us", at.0), |stamp| stamp.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// "3 h 20 min", "57 min 2 s"
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as i64;
    match whole {
        ..60 => format!("{seconds:.0} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..172_800 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}
