//! Looks whether the driver's samples are worth to be taken up. One look makes some twenty calls, and takes a tenth of a second of the
//! first GPU.

use super::{
    Board, DRAIN, Drain, HALF_PERIOD_US, LOOK, LOOK_AGAIN, PowerReader, PowerSource, Source, Unfit, drain_period, now,
    since_epoch,
};
use crate::reader::pace::Costs;
use crate::reader::ring::{self, Clock, Point, Verdict};
use crate::reader::watch::Watch;
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Readings of a burst that looks for the moment of a publication, and the time between two of them.
const BURST: (usize, Duration) = (12, Duration::from_micros(12_500));
/// Calls that show what draining costs.
const TRIES: usize = 3;
/// Bound on a stamp's error is at least this, microseconds.
const LEAST_ERROR: u32 = 1_000;
/// Samples are finer if their spacing is at most this share of the polling period, and better stamped if the bound is at most half.
const FINER: f64 = 0.75;
/// Samples are cheaper if draining costs at most this share of polling.
const CHEAPER: f64 = 0.9;

impl PowerReader {
    /// Looks whether the samples are worth to be taken up, and takes them up.
    pub(super) fn look(&mut self, device: &Device<'_>, board: &mut Board, watch: &Watch) {
        match self.examine(device, board, watch) {
            Ok((drain, why)) => {
                board.again = LOOK_AGAIN.0;
                board.change(Source::Samples(drain), why);
            }
            Err(Unfit::Undecided) => board.look_at = Instant::now() + LOOK.1,
            Err(Unfit::No(why)) => board.turn_down(why),
        }
    }

    fn examine(&mut self, device: &Device<'_>, board: &mut Board, watch: &Watch) -> Result<(Drain, String), Unfit> {
        watch.call("nvmlDeviceGetSamples (depth)", || self.samples.depth(device))?;
        let all = self.sampled(device, 0, watch)?;
        let seen = now();
        let Some(&(newest, _)) = all.last() else { return Err(Unfit::No("the driver has no samples".into())) };
        let Some(clock) = ring::clock(newest, seen) else {
            return Err(Unfit::No("no known clock stamps the driver's samples, or they have stopped".into()));
        };
        let Some(spacing_us) = ring::spacing(all.iter().map(|point| point.0)) else { return Err(Unfit::Undecided) };
        let depth = all.len();
        if self.wanted == PowerSource::Auto {
            match ring::judge(board.readings.make_contiguous(), &since_epoch(&all, clock, seen), spacing_us) {
                Verdict::Undecided => return Err(Unfit::Undecided),
                Verdict::Disagrees => {
                    return Err(Unfit::No("the driver's samples are not the instantaneous power".into()));
                }
                Verdict::Agrees => {}
            }
        }
        if self.stamped_within.is_none() {
            self.stamped_within = self.stamp_error(device, newest, clock, watch)?;
        }
        let error_us = self.stamped_within.unwrap_or(u32::try_from(spacing_us).unwrap_or(u32::MAX)).max(LEAST_ERROR);
        let (newest, cost) = self.cost(device, newest, spacing_us, watch)?;
        let why = format!(
            "{depth} samples every {spacing_us} µs by its {clock:?} clock, stamps within {error_us} µs, {cost:.0} µs a call"
        );
        if self.wanted == PowerSource::Auto && !worth(board, spacing_us, error_us, cost) {
            return Err(Unfit::No(format!("the driver's samples are no better: {why}")));
        }
        let drain = Drain {
            clock,
            spacing_us,
            error_us,
            newest,
            offset: now().offset(),
            recent: VecDeque::new(),
            reading: None,
            misses: 0,
            checked: Instant::now(),
        };
        Ok((drain, why))
    }

    /// Catches a publication in a burst of readings of the field, and compares its sample's stamp.
    fn stamp_error(&mut self, device: &Device<'_>, newest: i64, clock: Clock, watch: &Watch) -> Result<Option<u32>, NvmlError> {
        let mut burst: Vec<Point> = Vec::new();
        while burst.len() < BURST.0 && burst.windows(2).all(|pair| pair[0].1 == pair[1].1) {
            if !burst.is_empty() {
                std::thread::sleep(BURST.1);
            }
            let (at, _, milliwatts) = self.poll(device, watch)?;
            burst.push((at, milliwatts));
        }
        let fresh = self.sampled(device, newest, watch)?;
        Ok(ring::stamp_error(&burst, &since_epoch(&fresh, clock, now())))
    }

    /// The newest stamp, and what it costs to drain as many samples as there will be, microseconds.
    fn cost(&mut self, device: &Device<'_>, newest: i64, spacing_us: i64, watch: &Watch) -> Result<(i64, f64), NvmlError> {
        let mut costs = Costs::default();
        let mut last = newest;
        for _ in 0..TRIES {
            let before = watch.spent();
            let fresh = self.sampled(device, last - DRAIN.as_micros() as i64 - spacing_us, watch)?;
            costs.put(watch.spent() - before, TRIES);
            last = fresh.last().map_or(last, |point| point.0);
        }
        Ok((newest, costs.median(1).unwrap_or_default() * 1e6))
    }
}

/// Whether samples are finer, better stamped or cheaper than polls.
fn worth(board: &Board, spacing_us: i64, error_us: u32, cost_us: f64) -> bool {
    let poll = board.finest.power;
    let finer = spacing_us as f64 <= FINER * poll.as_secs_f64() * 1e6;
    let better_stamped = i64::from(error_us) <= HALF_PERIOD_US / 2;
    let share = |cost_us: f64, period: Duration| cost_us / 1e6 / period.as_secs_f64();
    let polling = board.pace.power_cost().unwrap_or(0.0) * 1e6;
    let cheaper = share(cost_us, drain_period(poll)) <= CHEAPER * share(polling, poll);
    // Coarser than what is polled it must not be, whatever it costs.
    finer || (better_stamped || cheaper) && spacing_us as f64 <= 1.1 * poll.as_secs_f64() * 1e6
}
