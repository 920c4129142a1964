//! The instantaneous power of a board, from the field or from the driver's buffer of samples.
//!
//! **The field** (NVML_FI_DEV_POWER_INSTANT) is polled: each call gives what the sensor published last, 0 to 100 ms ago. **The
//! samples** (nvmlDeviceGetSamples) have all publications since the call before, with their stamps; they are drained five times a
//! second, which costs half the calls of polling ten times and delays a sample by 200 ms at most, a seventh of the 1.5 s in which a
//! step has to be seen. When the budget is short, drains get rarer, and samples do not.
//!
//! What the buffer holds differs between drivers, so with `auto` it is only taken up after it was looked at ([`ring`]): its stamps
//! are those of a clock that is known; its values are those that the field had while the load moved; and it is finer, cheaper or
//! better stamped than polling. It is left again when it stops, jumps or disagrees, or when the clock is stepped, and looked at again
//! later.

mod look;

use super::pace::{Finest, Pace};
use super::protocol::{self, Power};
use super::raw::{Field, Fields, PowerSamples, boot_us};
use super::ring::{self, Clock, Now, Point};
use super::version::DriverVersion;
use super::watch::Watch;
use gridstep_wire::Micros;
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// NVML_FI_DEV_POWER_INSTANT: mW over the sensor's last window (25 ms on H100).
const POWER_INSTANT: Field = Field::of_board(186);
/// Half of the sensor's window, microseconds.
const HALF_WINDOW_US: i64 = 12_500;
/// The value is from 0 to 100 ms old when it is read: on average half of that, with as much for a bound.
const HALF_PERIOD_US: i64 = 50_000;

/// Readings of the field that are kept to judge the samples by.
const READINGS: usize = 60;
/// From the first reading to the first look at the samples, and between two looks while nothing can be said.
const LOOK: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(5));
/// From a look that turned the samples down, or from leaving them, to the next look: at first and at last.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));
/// A look makes some twenty calls, which must not be taken for one that hangs: none where a call takes longer than this, seconds.
const DEAREST: f64 = 0.01;
/// Between two drains at most.
const DRAIN: Duration = Duration::from_millis(200);
/// Between two readings of the field that the samples are compared with, and how many of them may disagree in a row.
const CHECK: Duration = Duration::from_secs(10);
const MISSES: u32 = 3;
/// The newest sample may be so old: this, or so many spacings. Microseconds.
const STOPPED: (i64, i64) = (1_000_000, 5);
/// Step of the clock, or drift against the time since boot between two drains, microseconds.
const STEPPED: i64 = 20_000;
/// `reader.power_source`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PowerSource {
    /// The buffer of samples where it is worth it, else the field.
    #[default]
    Auto,
    Field,
    /// The buffer of samples wherever its stamps can be told, not compared with the field.
    Samples,
}

impl PowerSource {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Field => "field",
            Self::Samples => "samples",
        }
    }
}

/// How power is read of all boards.
pub(super) struct PowerReader {
    field: Fields,
    samples: PowerSamples,
    wanted: PowerSource,
    /// Bound on the error of the samples' stamps, as one GPU has shown it: it is the driver's, and holds for the others too.
    stamped_within: Option<u32>,
}

/// What is remembered of one board.
pub(super) struct Board {
    pub(super) pace: Pace,
    /// Between two polls, and between two sweeps, at their finest.
    finest: Finest,
    source: Source,
    /// Why the source is the one that it is.
    pub(super) why: String,
    readings: VecDeque<Point>,
    /// Stamp of the newest value that was given.
    last_us: i64,
    look_at: Instant,
    again: Duration,
}

enum Source {
    Field,
    Samples(Drain),
}

/// Draining a buffer that was found good.
struct Drain {
    clock: Clock,
    spacing_us: i64,
    error_us: u32,
    /// Its newest stamp, by its clock.
    newest: i64,
    offset: i64,
    /// The last samples.
    recent: VecDeque<Point>,
    /// A reading of the field that the samples have not caught up with.
    reading: Option<Point>,
    misses: u32,
    checked: Instant,
}

impl Board {
    pub(super) fn new(budget: Duration, finest: Finest) -> Self {
        Self {
            pace: Pace::new(budget, finest),
            finest,
            source: Source::Field,
            why: String::new(),
            readings: VecDeque::new(),
            last_us: 0,
            look_at: Instant::now() + LOOK.0,
            again: LOOK_AGAIN.0,
        }
    }

    pub(super) fn source(&self) -> PowerSource {
        match self.source {
            Source::Field => PowerSource::Field,
            Source::Samples(_) => PowerSource::Samples,
        }
    }

    /// Between two readings.
    pub(super) fn period(&self) -> Duration {
        self.reading_period() * self.pace.power_factor()
    }

    /// Between two values.
    pub(super) fn spacing(&self) -> Duration {
        match &self.source {
            Source::Field => self.period(),
            Source::Samples(drain) => Duration::from_micros(drain.spacing_us.unsigned_abs()),
        }
    }

    /// What is told of it.
    pub(super) fn told_as(&self, gpu: u32) -> protocol::Pace {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        protocol::Pace {
            gpu,
            source: self.source().name().into(),
            power_period_us: micros(self.spacing()),
            call_period_us: micros(self.period()),
            sweep_period_us: micros(self.finest.sweep * self.pace.sweep_factor()),
            call_us: (self.pace.power_cost().unwrap_or_default() * 1e6) as u64,
            why: self.why.clone(),
        }
    }

    fn reading_period(&self) -> Duration {
        match self.source {
            Source::Field => self.finest.power,
            Source::Samples(_) => drain_period(self.finest.power),
        }
    }

    fn change(&mut self, source: Source, why: String) {
        self.source = source;
        self.why = why;
        self.readings.clear();
        self.pace.change_source(Finest { power: self.reading_period(), ..self.finest });
    }

    /// The samples are not to be had, or not any more: the field, and another look some time later.
    fn turn_down(&mut self, why: String) {
        self.look_at = Instant::now() + self.again;
        self.again = (2 * self.again).min(LOOK_AGAIN.1);
        self.change(Source::Field, why);
    }
}

/// A whole number of ticks that is no shorter than a drain's period.
fn drain_period(tick: Duration) -> Duration {
    tick * u32::try_from(DRAIN.as_micros().div_ceil(tick.as_micros().max(1))).unwrap_or(1)
}

fn now() -> Now {
    Now { real: Micros::now().0, boot: boot_us() }
}

/// Why the samples are turned down.
enum Unfit {
    /// Look again soon.
    Undecided,
    No(String),
}

impl From<NvmlError> for Unfit {
    fn from(error: NvmlError) -> Self {
        Self::No(format!("the driver does not give its samples: {error}"))
    }
}

impl PowerReader {
    pub(super) fn new(driver_version: &str, wanted: PowerSource) -> Self {
        Self {
            field: Fields::new(DriverVersion::parse(driver_version), [POWER_INSTANT]),
            samples: PowerSamples::default(),
            wanted,
            stamped_within: None,
        }
    }

    /// The values since the last time. `may_look`: there is time for a look at the samples. True: it took place.
    pub(super) fn read(
        &mut self,
        device: &Device<'_>,
        gpu: u32,
        board: &mut Board,
        may_look: bool,
        watch: &Watch,
        out: &mut Vec<Power>,
    ) -> Result<bool, NvmlError> {
        let before = watch.spent();
        let drained = match &mut board.source {
            Source::Samples(drain) => Some(self.drain(device, drain, watch)),
            Source::Field => None,
        };
        match drained {
            Some(Ok(points)) => {
                board.pace.power_took(watch.spent() - before);
                self.give(gpu, board, &points, out);
                return self.check(device, board, watch).map(|()| false);
            }
            Some(Err(Unfit::No(why))) => board.turn_down(why),
            Some(Err(Unfit::Undecided)) | None => {}
        }
        let begun = watch.spent();
        let (at, half_call, milliwatts) = self.poll(device, watch)?;
        board.pace.power_took(watch.spent() - begun);
        let ts_us = at - HALF_WINDOW_US - HALF_PERIOD_US;
        let error_us = u32::try_from(HALF_PERIOD_US + half_call).unwrap_or(u32::MAX);
        out.push(Power { gpu, ts_us, milliwatts, error_us });
        board.last_us = ts_us;
        board.readings.truncate(READINGS - 1);
        board.readings.push_front((at, milliwatts));
        let cheap = board.pace.power_cost().is_some_and(|seconds| seconds <= DEAREST);
        let looks = may_look && cheap && self.wanted != PowerSource::Field && Instant::now() >= board.look_at;
        if looks {
            self.look(device, board, watch);
        }
        Ok(looks)
    }

    /// When the field was read, half of what that took, and milliwatts.
    fn poll(&mut self, device: &Device<'_>, watch: &Watch) -> Result<(i64, i64, u32), NvmlError> {
        let before = Micros::now().0;
        let value = watch.call("nvmlDeviceGetFieldValues (power)", || {
            self.field.read(device)?.next().unwrap_or(Err(NvmlError::NotSupported))
        })?;
        // The clock may have been stepped meanwhile.
        let half_call = ((Micros::now().0 - before) / 2).max(0);
        Ok((before + half_call, half_call, u32::try_from(value).map_err(|_| NvmlError::Unknown)?))
    }

    fn sampled(&mut self, device: &Device<'_>, since: i64, watch: &Watch) -> Result<Vec<Point>, NvmlError> {
        watch.call("nvmlDeviceGetSamples", || {
            let samples = self.samples.read(device, u64::try_from(since).unwrap_or(0))?;
            Ok(samples.filter_map(|(stamp, milliwatts)| Some((i64::try_from(stamp).ok()?, milliwatts))).collect())
        })
    }

    /// What has been sampled since, in microseconds since the epoch.
    fn drain(&mut self, device: &Device<'_>, drain: &mut Drain, watch: &Watch) -> Result<Vec<Point>, Unfit> {
        let fresh = self.sampled(device, drain.newest, watch)?;
        let seen = now();
        if (seen.offset() - drain.offset).abs() > STEPPED {
            return Err(Unfit::No("the clock was stepped".into()));
        }
        drain.offset = seen.offset();
        let in_order =
            fresh.windows(2).all(|pair| pair[0].0 < pair[1].0) && fresh.first().is_none_or(|first| first.0 > drain.newest);
        drain.newest = fresh.last().map_or(drain.newest, |last| last.0);
        let age = seen.by(drain.clock) - drain.newest;
        if !in_order || age < -STOPPED.0 {
            return Err(Unfit::No("the stamps of the driver's samples jump".into()));
        }
        if age > STOPPED.0.max(STOPPED.1 * drain.spacing_us) {
            return Err(Unfit::No("the driver's samples have stopped".into()));
        }
        Ok(since_epoch(&fresh, drain.clock, seen))
    }

    fn give(&self, gpu: u32, board: &mut Board, points: &[Point], out: &mut Vec<Power>) {
        let Source::Samples(drain) = &mut board.source else { return };
        for &(at, milliwatts) in points {
            let ts_us = at - HALF_WINDOW_US;
            if ts_us > board.last_us {
                board.last_us = ts_us;
                out.push(Power { gpu, ts_us, milliwatts, error_us: drain.error_us });
            }
        }
        drain.recent.extend(points);
        let kept = usize::try_from(1_000_000 / drain.spacing_us.max(1)).unwrap_or(0).max(2 * READINGS);
        drain.recent.drain(..drain.recent.len().saturating_sub(kept));
    }

    /// Compares the samples with a reading of the field every now and then.
    fn check(&mut self, device: &Device<'_>, board: &mut Board, watch: &Watch) -> Result<(), NvmlError> {
        let Source::Samples(drain) = &mut board.source else { return Ok(()) };
        if self.wanted == PowerSource::Samples {
            return Ok(());
        }
        if let Some(reading) = drain.reading.take() {
            drain.misses =
                if ring::holds(drain.recent.make_contiguous(), reading, drain.spacing_us) { 0 } else { drain.misses + 1 };
            if drain.misses >= MISSES {
                board.turn_down("the driver's samples are not the instantaneous power any more".into());
            }
        } else if drain.checked.elapsed() >= CHECK {
            drain.checked = Instant::now();
            let (at, _, milliwatts) = self.poll(device, watch)?;
            drain.reading = Some((at, milliwatts));
        }
        Ok(())
    }
}

fn since_epoch(points: &[Point], clock: Clock, now: Now) -> Vec<Point> {
    points.iter().map(|(stamp, milliwatts)| (now.since_epoch(clock, *stamp), *milliwatts)).collect()
}
