//! What was not seen during a restart: looked for when the agents have had time to bring it.

use crate::judge::{Judge, PowerPoint};
use crate::store::Gap;
use gridstep_wire::Micros;

/// Everything is judged up to so long after the judging went on, before it is looked, microseconds: by then what agents kept is in.
const SETTLES_US: i64 = 5_000_000;
/// Bins of power, microseconds.
const BIN_US: i64 = crate::align::BIN_US;
/// A bin is seen that rests on so much of the fleet.
const SEEN: f64 = 0.5;

/// Of one restart.
#[derive(Debug)]
pub(super) struct GapWatch {
    pub(super) gap: Gap,
    resumes_at: Micros,
}

impl GapWatch {
    /// None: nothing had been judged before.
    pub(super) fn new(judged_until: Micros, started_at: Micros, resumes_at: Micros) -> Option<Self> {
        let gap = Gap {
            judged_until,
            started_at,
            unseen_from: None,
            unseen_to: None,
            unseen_seconds: None,
            completeness: None,
            settled_at: None,
        };
        (judged_until.0 > 0).then_some(Self { gap, resumes_at })
    }

    /// Gives the gap once it is known.
    pub(super) fn look(&self, judge: &Judge) -> Option<Gap> {
        let until = judge.judged_until();
        if until < self.resumes_at + SETTLES_US {
            return None;
        }
        Some(measure(&self.gap, until, judge.power_history()))
    }
}

/// Of bins that there are not, nothing was seen.
fn measure(gap: &Gap, until: Micros, bins: impl Iterator<Item = PowerPoint>) -> Gap {
    let from = gap.judged_until;
    let of_it = bins.filter(|bin| bin.at > from && bin.at < until);
    let (mut complete, mut unseen, mut stretch): (f64, i64, Option<(Micros, Micros)>) = (0.0, 0, None);
    let mut miss = |begin: Micros, end: Micros| {
        unseen += end.0 - begin.0;
        stretch = Some((stretch.map_or(begin, |(begin, _)| begin), end));
    };
    let mut seen_until = from;
    for bin in of_it {
        let (begin, end) = (bin.at - BIN_US / 2, bin.at + BIN_US / 2);
        if begin > seen_until {
            miss(seen_until, begin);
        }
        if bin.completeness < SEEN {
            miss(begin.max(seen_until), end);
        }
        complete += bin.completeness;
        seen_until = end;
    }
    if seen_until < until - BIN_US {
        miss(seen_until, until);
    }
    let bins = (until.0 - from.0) as f64 / BIN_US as f64;
    Gap {
        unseen_from: stretch.map(|(begin, _)| begin),
        unseen_to: stretch.map(|(_, end)| end),
        unseen_seconds: Some(unseen as f64 / 1e6),
        completeness: Some((complete / bins.max(1.0)).min(1.0)),
        settled_at: Some(until),
        ..gap.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Micros {
        Micros::from_seconds(1_760_000_000.0 + seconds)
    }

    /// Bins of these stretches of seconds, so complete.
    fn bins(stretches: &[(std::ops::Range<i64>, f64)]) -> Vec<PowerPoint> {
        let of = |(seconds, completeness): &(std::ops::Range<i64>, f64)| {
            let completeness = *completeness;
            let bins = seconds.start * 10..seconds.end * 10;
            bins.map(move |bin| PowerPoint { at: at(bin as f64 / 10.0 + 0.05), watts: 1.0, completeness }).collect::<Vec<_>>()
        };
        stretches.iter().flat_map(of).collect()
    }

    fn measured(stretches: &[(std::ops::Range<i64>, f64)]) -> Gap {
        let watch = GapWatch::new(at(100.0), at(130.0), at(140.0)).unwrap();
        measure(&watch.gap, at(150.0), bins(stretches).into_iter())
    }

    #[test]
    fn what_agents_brought_is_no_gap() {
        let gap = measured(&[(0..150, 1.0)]);
        assert_eq!((gap.unseen_from, gap.unseen_seconds, gap.completeness), (None, Some(0.0), Some(1.0)));
    }

    #[test]
    fn what_is_missing_is_told_from_when_to_when() {
        let gap = measured(&[(90..105, 1.0), (105..131, 0.2), (131..150, 1.0)]);
        assert_eq!((gap.unseen_from, gap.unseen_to, gap.unseen_seconds), (Some(at(105.0)), Some(at(131.0)), Some(26.0)));
        assert!((gap.completeness.unwrap() - (5.0 + 5.2 + 19.0) / 50.0).abs() < 1e-9, "{gap:?}");
    }

    #[test]
    fn bins_that_are_not_there_are_missing() {
        let gap = measured(&[(90..100, 1.0), (141..150, 1.0)]);
        assert_eq!((gap.unseen_from, gap.unseen_to, gap.unseen_seconds), (Some(at(100.0)), Some(at(141.0)), Some(41.0)));
        let gap = measured(&[]);
        assert_eq!((gap.unseen_seconds, gap.completeness), (Some(50.0), Some(0.0)));
    }

    #[test]
    fn who_had_judged_nothing_has_no_gap() {
        assert!(GapWatch::new(Micros::MIN, at(0.0), at(10.0)).is_none());
    }
}
