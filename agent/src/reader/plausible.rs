//! What a board can show, and what it cannot: readings are looked at where they come from, before anything is made of them.
//!
//! Drivers tell nonsense where a sensor or a GPU fails: blanks such as DCGM's, 4294967295, hundreds of degrees, counters that jump. A value
//! beyond its bound is dropped. A counter that falls was reset, which is believed; one that grows faster than its bound is believed where the
//! next reading agrees with it, as then it is the older value that was wrong.
//!
//! | readings | bound |
//! |---|---|
//! | power | 3 × the highest limit that the board takes; 10 kW while that is not known |
//! | power limits | 10 kW |
//! | temperatures, thresholds, margins | -50 to 150 °C |
//! | clocks | 10 GHz |
//! | ratios | 101 % |
//! | memory | what the board has; 1 PiB while that is not known |
//! | rates | 20 TB/s |
//! | energy | grows by power's bound × time |
//! | times under a limiter | grow by 2.5 s a second: heat has two reasons |
//! | byte counters | grow by 20 TB/s |
//! | other counters | grow by 10⁹ a second |
//! | all | not negative, but for temperatures; none of DCGM's blanks, not 2³²-1, not 2⁶³-1 or more |

use super::values::Values;
use gridstep_wire::catalog::{self, Metric};
use gridstep_wire::pb::metric::Kind;
use std::collections::BTreeMap;
use std::time::Instant;

const POWER: u32 = catalog::index(catalog::GPU, "power_watts");
const POWER_LIMIT_MAX: u32 = catalog::index(catalog::GPU, "power_limit_max_watts");
const HBM_TOTAL: u32 = catalog::index(catalog::GPU, "hbm_total_bytes");

/// No board takes more.
const MOST_WATTS: f64 = 10_000.0;
/// Power may exceed its limit for moments, and by the sensor's error.
const TIMES_LIMIT: f64 = 3.0;
const CELSIUS: (f64, f64) = (-50.0, 150.0);
const MOST_MHZ: f64 = 10_000.0;
/// Shares of counted cycles come out a little above 1 at times.
const MOST_RATIO: f64 = 1.01;
const MOST_BYTES: f64 = (1u64 << 50) as f64;
const MOST_BYTES_PER_SECOND: f64 = 20e12;
const MOST_SECONDS_PER_SECOND: f64 = 2.5;
const MOST_PER_SECOND: f64 = 1e9;
/// How much older or newer a counter may be than the time at which it was read, s.
const SLACK: f64 = 1.0;

/// DCGM's blanks of 32 bits (`DCGM_INT32_BLANK` and those that follow); those of 64 bits are beyond `BLANK_64`.
const BLANKS_32: std::ops::RangeInclusive<i64> = 0x7fff_fff0..=0x7fff_ffff;
const BLANK_64: i64 = 0x7fff_ffff_ffff_fff0;

/// What is known of one GPU, and what its counters were.
#[derive(Debug, Default)]
pub(super) struct Plausible {
    limit_watts: Option<f64>,
    hbm_bytes: Option<f64>,
    counters: BTreeMap<u32, Counter>,
    /// Metrics of readings that were dropped and not told yet.
    dropped: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    value: f64,
    at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Counter {
    believed: Reading,
    /// The one after it, where that was not believed.
    doubted: Option<Reading>,
}

impl Plausible {
    /// Whether it may be true that the board draws this.
    pub(super) fn believes_power(&mut self, milliwatts: u32) -> bool {
        let believed = self.believes(POWER, i64::from(milliwatts), Instant::now());
        if !believed {
            self.dropped.push(POWER);
        }
        believed
    }

    /// Drops what cannot be from the values of a sweep.
    pub(super) fn check(&mut self, values: &mut Values, now: Instant) {
        for (metric, known) in [(POWER_LIMIT_MAX, &mut self.limit_watts), (HBM_TOTAL, &mut self.hbm_bytes)] {
            if let Some(value) = values.get(metric).filter(|value| !is_blank(*value)) {
                let value = catalog::GPU[metric as usize].value(value);
                let bound = if metric == POWER_LIMIT_MAX { MOST_WATTS } else { MOST_BYTES };
                *known = (0.0 < value && value <= bound).then_some(value).or(*known);
            }
        }
        let dropped = values.drop_unless(|metric, value| self.believes(metric, value, now));
        self.dropped.extend(dropped);
    }

    /// Metrics of the readings that were dropped since this was last asked.
    pub(super) fn take_dropped(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.dropped)
    }

    fn believes(&mut self, id: u32, integer: i64, at: Instant) -> bool {
        let metric = &catalog::GPU[id as usize];
        let value = metric.value(integer);
        let (least, most) = self.bounds(metric);
        if is_blank(integer) || value < least || value > most {
            return false;
        }
        metric.kind != Kind::Counter || self.grows(id, self.fastest(metric), Reading { value, at })
    }

    fn power_bound(&self) -> f64 {
        self.limit_watts.map_or(MOST_WATTS, |limit| limit * TIMES_LIMIT)
    }

    fn bounds(&self, metric: &Metric) -> (f64, f64) {
        match (metric.unit, metric.kind) {
            ("Cel", _) => CELSIUS,
            ("W", Kind::Gauge) => (0.0, self.power_bound()),
            ("W", _) => (0.0, MOST_WATTS),
            ("MHz", _) => (0.0, MOST_MHZ),
            ("1", Kind::Gauge) => (0.0, MOST_RATIO),
            ("By", Kind::Gauge) => (0.0, self.hbm_bytes.unwrap_or(MOST_BYTES)),
            ("By/s", _) => (0.0, MOST_BYTES_PER_SECOND),
            _ => (0.0, f64::INFINITY),
        }
    }

    /// How much a counter grows in a second at most.
    fn fastest(&self, metric: &Metric) -> f64 {
        match metric.unit {
            "J" => self.power_bound(),
            "s" => MOST_SECONDS_PER_SECOND,
            "By" => MOST_BYTES_PER_SECOND,
            _ => MOST_PER_SECOND,
        }
    }

    fn grows(&mut self, id: u32, fastest: f64, now: Reading) -> bool {
        let within = |from: Reading| now.value <= from.value + fastest * ((now.at - from.at).as_secs_f64() + SLACK);
        let counter = self.counters.entry(id).or_insert(Counter { believed: now, doubted: None });
        let agrees = |doubted: Reading| doubted.value <= now.value && within(doubted);
        if within(counter.believed) || counter.doubted.is_some_and(agrees) {
            *counter = Counter { believed: now, doubted: None };
            return true;
        }
        counter.doubted = Some(now);
        false
    }
}

fn is_blank(integer: i64) -> bool {
    BLANKS_32.contains(&integer) || integer == i64::from(u32::MAX) || integer >= BLANK_64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::values::Absent;
    use std::time::Duration;

    fn id(name: &str) -> u32 {
        catalog::index(catalog::GPU, name)
    }

    fn check(plausible: &mut Plausible, at: Instant, values: &[(&str, i64)]) -> Vec<u32> {
        let mut sweep = Values::new(true);
        for &(name, value) in values {
            sweep.put(id(name), Ok::<_, Absent>(value));
        }
        plausible.check(&mut sweep, at);
        let dropped = plausible.take_dropped();
        assert_eq!(sweep.split(false).0.len() + dropped.len(), values.len());
        dropped
    }

    #[test]
    fn what_no_board_shows_is_dropped() {
        let mut plausible = Plausible::default();
        let now = Instant::now();
        let good = [
            ("power_limit_max_watts", 700_000),
            ("power_average_watts", 2_000_000),
            ("temperature_celsius", 150),
            ("temperature_shutdown_margin_celsius", -8),
            ("sm_clock_mhz", 1980),
            ("sm_active_ratio", 10_050),
            ("hbm_total_bytes", 80 << 30),
            ("hbm_used_bytes", 80 << 30),
            ("clocks_event_reasons", 0x600),
        ];
        assert!(check(&mut plausible, now, &good).is_empty());
        for (name, value) in [
            ("power_average_watts", 2_100_001),
            ("power_limit_watts", i64::from(u32::MAX)),
            ("temperature_celsius", 151),
            ("memory_temperature_celsius", 0x7fff_fff2),
            ("temperature_margin_celsius", -51),
            ("sm_clock_mhz", 20_000),
            ("gpu_utilization_ratio", 150),
            ("hbm_used_bytes", 81 << 30),
            ("nvlink_bytes_per_second", i64::MAX),
            ("pcie_replays_total", 0x7fff_fff0),
            ("processes", -1),
        ] {
            assert_eq!(check(&mut plausible, now, &[(name, value)]), [id(name)], "{name} {value}");
        }
        assert!(!plausible.believes_power(2_100_001) && plausible.believes_power(900_000));
        assert_eq!(plausible.take_dropped(), [POWER]);
    }

    #[test]
    fn counters_grow_as_fast_as_they_can_or_begin_anew() {
        let mut plausible = Plausible::default();
        let begin = Instant::now();
        let mut read = |second: u64, joules: i64| {
            let at = begin + Duration::from_secs(second);
            check(&mut plausible, at, &[("power_limit_max_watts", 700_000), ("energy_joules_total", joules * 1000)]).is_empty()
        };
        assert!(read(0, 5_000_000));
        assert!(read(1, 5_000_700));
        // A jump, and then as before.
        assert!(!read(2, 900_000_000));
        assert!(read(3, 5_002_100));
        // The driver was loaded anew.
        assert!(read(4, 12));
        // A jump that the next reading confirms: what was before was wrong.
        assert!(!read(5, 5_003_500));
        assert!(read(6, 5_004_200));
        // A long silence.
        assert!(read(10_006, 11_004_200));
    }
}
