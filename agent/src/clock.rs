//! The node's clock: how far from UTC it may be, as whatever keeps it (chrony, ntpd, timesyncd, PTP) told the kernel.

use crate::reader::raw;
use gridstep_wire::catalog;

/// Bound on the error of a clock that nothing keeps: there is none, and the kernel's own ends here (NTP_PHASE_LIMIT).
const UNSYNCHRONISED_US: u32 = 16_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    pub synchronised: bool,
    /// Bound on the error, microseconds. It grows by 500 a second until the clock is compared with its source again.
    pub error_us: u32,
    /// Its likely error, microseconds.
    pub estimated_error_us: u32,
    /// What is still to be corrected, nanoseconds.
    pub offset_ns: i64,
}

impl Clock {
    /// Now. A clock of which the kernel says nothing counts as one that nothing keeps.
    pub fn read() -> Self {
        raw::adjtimex().map_or(
            Self { synchronised: false, error_us: UNSYNCHRONISED_US, estimated_error_us: UNSYNCHRONISED_US, offset_ns: 0 },
            |timex| Self::of(&timex),
        )
    }

    fn of(timex: &libc::timex) -> Self {
        let synchronised = timex.status & libc::STA_UNSYNC == 0;
        let bound = |error: libc::c_long| u32::try_from(error).unwrap_or(UNSYNCHRONISED_US);
        let unit: i64 = if timex.status & libc::STA_NANO == 0 { 1000 } else { 1 };
        Self {
            synchronised,
            error_us: if synchronised { bound(timex.maxerror) } else { UNSYNCHRONISED_US },
            estimated_error_us: bound(timex.esterror),
            offset_ns: timex.offset.saturating_mul(unit),
        }
    }

    /// For [`catalog::NODE`]: places and integers.
    pub fn values(&self) -> [(u32, i64); 4] {
        const fn id(name: &str) -> u32 {
            catalog::index(catalog::NODE, name)
        }
        [
            (const { id("clock_synchronised") }, i64::from(self.synchronised)),
            (const { id("clock_error_seconds") }, i64::from(self.error_us)),
            (const { id("clock_estimated_error_seconds") }, i64::from(self.estimated_error_us)),
            (const { id("clock_offset_seconds") }, self.offset_ns),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timex(status: i32) -> libc::timex {
        let mut timex = raw::adjtimex().unwrap();
        (timex.status, timex.maxerror, timex.esterror, timex.offset) = (status, 1200, 40, -7);
        timex
    }

    #[test]
    fn a_kept_clock_has_the_bound_that_its_daemon_gave() {
        let clock = Clock::of(&timex(libc::STA_PLL));
        assert_eq!(clock, Clock { synchronised: true, error_us: 1200, estimated_error_us: 40, offset_ns: -7000 });
        assert_eq!(Clock::of(&timex(libc::STA_NANO)).offset_ns, -7);
    }

    #[test]
    fn a_clock_that_nothing_keeps_is_not_believed() {
        let clock = Clock::of(&timex(libc::STA_UNSYNC));
        assert!(!clock.synchronised);
        assert_eq!(clock.error_us, 16_000_000);
    }
}
