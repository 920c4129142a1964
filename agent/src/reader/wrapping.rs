//! A counter of 32 bits that the driver lets begin anew, as one that only grows.

/// Where the driver's counter begins anew.
const WRAP: i64 = 1 << 32;

/// Counts on from 0, whatever the driver's counter shows first: a reader that takes another's place is a reset like any.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wrapping {
    before: Option<i64>,
    total: i64,
}

impl Wrapping {
    /// The total after a reading. PCIe 5 fills 4 GiB in 70 ms, so that between two sweeps the driver's counter may have begun anew several
    /// times: as often as brings the growth nearest to what is `expected` of other sources. None: not more often than shows.
    pub(super) fn count(&mut self, now: i64, expected: Option<i64>) -> i64 {
        if let Some(before) = self.before {
            self.total = self.total.saturating_add(growth(before, now, expected));
        }
        self.before = Some(now);
        self.total
    }
}

fn growth(before: i64, now: i64, expected: Option<i64>) -> i64 {
    if before >= WRAP || now >= WRAP {
        // A driver with a wider counter; one that falls was reset.
        return (now - before).max(0);
    }
    let least = (now - before).rem_euclid(WRAP);
    let missing = expected.map_or(0, |expected| (expected - least).max(0));
    least + (missing + WRAP / 2) / WRAP * WRAP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_only_grows() {
        let mut counter = Wrapping::default();
        let count = |counter: &mut Wrapping, now, expected| counter.count(now, expected);
        assert_eq!(count(&mut counter, 4_000_000_000, None), 0);
        assert_eq!(count(&mut counter, 4_100_000_000, None), 100_000_000);
        // Once around.
        assert_eq!(count(&mut counter, 100_000_000, None), 100_000_000 + WRAP - 4_000_000_000);
        let total = counter.total;
        // Ten times around, as another source roughly says.
        assert_eq!(count(&mut counter, 200_000_000, Some(10 * WRAP - 900_000_000)), total + 10 * WRAP + 100_000_000);
        // A source that says less than shows.
        assert_eq!(count(&mut counter, 300_000_000, Some(0)), total + 10 * WRAP + 200_000_000);
    }

    #[test]
    fn wider_counters_are_as_they_are() {
        let mut counter = Wrapping::default();
        counter.count(WRAP - 10, None);
        assert_eq!(counter.count(3 * WRAP, Some(0)), 2 * WRAP + 10);
        assert_eq!(counter.count(5, None), 2 * WRAP + 10);
    }
}
