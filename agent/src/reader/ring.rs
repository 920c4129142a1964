//! What the driver's buffer of power samples is worth, judged by numbers alone: whose clock stamps it, how far apart its samples
//! are, and whether they are what the field of the instantaneous power says.

/// A sample or a reading: microseconds since the epoch, and milliwatts.
pub(super) type Point = (i64, u32);

/// A newest sample that is older is of no use, and none of the clocks that are known stamped it. Microseconds.
const OLDEST: i64 = 5_000_000;
/// How far ahead of its clock a stamp may be.
const AHEAD: i64 = 50_000;
/// Samples that show how far apart they are.
const LEAST_SAMPLES: usize = 8;
/// Readings of the field that a judgement needs, and how much they must differ: of a load that does not move, the average over a
/// second is no different from the instantaneous power.
const LEAST_READINGS: usize = 20;
const LEAST_SPREAD: (u32, f64) = (20_000, 0.05);
/// A reading is that of a sample if they differ by no more than this, milliwatts or share.
const SAME: (u32, f64) = (2_000, 0.01);
/// The sample that a reading shows was taken at most so long before or after it, and at least a spacing.
const NEAR: i64 = 120_000;
/// Shares of readings that show a sample at which the buffer agrees, or does not.
const AGREES: f64 = 0.9;
const DISAGREES: f64 = 0.6;

/// Which clock stamps the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    Real,
    Boot,
}

/// Now, by both clocks, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Now {
    pub(super) real: i64,
    pub(super) boot: i64,
}

impl Now {
    /// How much more the one clock shows than the other: it changes where the clock is stepped.
    pub(super) fn offset(&self) -> i64 {
        self.real - self.boot
    }

    pub(super) fn by(&self, clock: Clock) -> i64 {
        match clock {
            Clock::Real => self.real,
            Clock::Boot => self.boot,
        }
    }

    /// A stamp as microseconds since the epoch.
    pub(super) fn since_epoch(&self, clock: Clock, stamp: i64) -> i64 {
        stamp + self.real - self.by(clock)
    }
}

/// The clock of a buffer whose newest sample has this stamp.
pub(super) fn clock(newest: i64, now: Now) -> Option<Clock> {
    [Clock::Real, Clock::Boot].into_iter().find(|clock| (-AHEAD..=OLDEST).contains(&(now.by(*clock) - newest)))
}

/// Microseconds between two samples, half of the time; None: too few, or out of order.
pub(super) fn spacing(stamps: impl Iterator<Item = i64>) -> Option<i64> {
    let stamps: Vec<i64> = stamps.collect();
    let mut gaps: Vec<i64> = stamps.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    let spacing = *gaps.get(gaps.len() / 2)?;
    (stamps.len() >= LEAST_SAMPLES && gaps[0] > 0).then_some(spacing)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The load does not move enough, or neither is clear.
    Undecided,
    Agrees,
    /// The samples are something else, such as an average.
    Disagrees,
}

fn same(one: u32, other: u32) -> bool {
    one.abs_diff(other) <= SAME.0.max((f64::from(one) * SAME.1) as u32)
}

/// Whether the samples have what a reading of the field showed.
pub(super) fn holds(samples: &[Point], (at, milliwatts): Point, spacing: i64) -> bool {
    let near = NEAR.max(spacing);
    samples.iter().any(|(stamp, sampled)| (at - stamp).abs() <= near && same(milliwatts, *sampled))
}

/// Whether the samples (in order) hold what the field showed at those times.
pub(super) fn judge(readings: &[Point], samples: &[Point], spacing: i64) -> Verdict {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Verdict::Undecided };
    let near = NEAR.max(spacing);
    let covered: Vec<Point> = readings.iter().filter(|(at, _)| (first.0 + near..=last.0).contains(at)).copied().collect();
    let watts = || covered.iter().map(|(_, milliwatts)| *milliwatts);
    let (Some(least), Some(most)) = (watts().min(), watts().max()) else { return Verdict::Undecided };
    let moves = most - least >= LEAST_SPREAD.0.max((f64::from(most) * LEAST_SPREAD.1) as u32);
    if covered.len() < LEAST_READINGS || !moves {
        return Verdict::Undecided;
    }
    let shown = covered.iter().filter(|reading| holds(samples, **reading, spacing));
    match shown.count() as f64 / covered.len() as f64 {
        share if share >= AGREES => Verdict::Agrees,
        share if share < DISAGREES => Verdict::Disagrees,
        _ => Verdict::Undecided,
    }
}

/// Where a sample lies against the moment of its publication, which a burst of readings of the field caught between two of them:
/// bound on the distance, microseconds. None: the burst saw no change, or the samples have none that is like it.
pub(super) fn stamp_error(burst: &[Point], samples: &[Point]) -> Option<u32> {
    let change = burst.windows(2).find(|pair| pair[0].1 != pair[1].1)?;
    let (before, after) = (change[0].0, change[1].0);
    let of = |sample: &&Point| sample.1 == change[1].1;
    let sample = samples.iter().filter(of).min_by_key(|sample| (sample.0 - before).abs())?;
    let error = (before - sample.0).abs().max((after - sample.0).abs());
    u32::try_from(error).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliwatts at a time: a step each second.
    fn instant(at: i64) -> u32 {
        let publication = at / 100_000;
        (if publication.rem_euclid(20) < 14 { 580_000 } else { 240_000 }) + publication.rem_euclid(7) as u32 * 300
    }

    fn averaged(at: i64) -> u32 {
        (0..10).map(|back| instant(at - back * 100_000)).sum::<u32>() / 10
    }

    fn samples(of: impl Fn(i64) -> u32, spacing: i64) -> Vec<Point> {
        (0..6_000_000 / spacing).map(|place| (place * spacing, of(place * spacing))).collect()
    }

    fn readings() -> Vec<Point> {
        (10..50).map(|tick| tick * 100_000 + 37_000).map(|at| (at, instant(at))).collect()
    }

    #[test]
    fn instantaneous_samples_agree_and_averages_do_not() {
        assert_eq!(judge(&readings(), &samples(instant, 100_000), 100_000), Verdict::Agrees);
        assert_eq!(judge(&readings(), &samples(instant, 20_000), 20_000), Verdict::Agrees);
        assert_eq!(judge(&readings(), &samples(averaged, 100_000), 100_000), Verdict::Disagrees);
    }

    #[test]
    fn a_load_that_does_not_move_proves_nothing() {
        let flat: Vec<Point> = readings().iter().map(|point| (point.0, 500_000)).collect();
        assert_eq!(judge(&flat, &samples(|_| 500_000, 100_000), 100_000), Verdict::Undecided);
        assert_eq!(judge(&readings()[..10], &samples(instant, 100_000), 100_000), Verdict::Undecided);
        assert_eq!(judge(&readings(), &[], 100_000), Verdict::Undecided);
    }

    #[test]
    fn the_clock_is_the_one_that_shows_the_newest_stamp() {
        let now = Now { real: 1_700_000_000_000_000, boot: 5_000_000_000 };
        assert_eq!(clock(now.real - 80_000, now), Some(Clock::Real));
        assert_eq!(clock(now.boot - 80_000, now), Some(Clock::Boot));
        assert_eq!(clock(now.real + 3_600_000_000, now), None);
        assert_eq!(now.since_epoch(Clock::Boot, now.boot - 5), now.real - 5);
    }

    #[test]
    fn spacing_is_told_by_samples_in_order() {
        let stamps = |gap: i64, count: i64| (0..count).map(move |place| place * gap);
        assert_eq!(spacing(stamps(20_000, 120)), Some(20_000));
        assert_eq!(spacing(stamps(20_000, 5)), None);
        assert_eq!(spacing(stamps(20_000, 20).chain([7])), None);
    }

    #[test]
    fn a_burst_bounds_the_stamp() {
        let burst: Vec<Point> = (0..12).map(|step| 3_950_000 + step * 12_500).map(|at| (at, instant(at))).collect();
        assert_eq!(stamp_error(&burst, &samples(instant, 100_000)), Some(12_500));
        assert_eq!(stamp_error(&burst[..3], &samples(instant, 100_000)), None);
    }
}
