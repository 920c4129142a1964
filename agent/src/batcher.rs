//! reader, host, jobs ─▶ **batcher** ─▶ spool
//!
//! Puts what comes within a period into one batch of packed columns, and what it shows into the exporter.

mod parts;

use crate::clock::Clock;
use crate::exporter::Metrics;
use crate::host::Host;
use crate::jobs::Jobs;
use crate::reader::protocol::{Inventory, Missing, Power, Sweep, Xid};
use crate::spool::{self, Spool};
use crate::supervisor::Note;
use gridstep_wire::block::BlockBuilder;
use gridstep_wire::catalog::{Rate, Subject};
use gridstep_wire::{Micros, catalog, pb};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use parts::Parts;

const NODE_IDS: u32 = Subject::Node.first_id();
/// How far a stamp that is taken beside its reading may be from it, microseconds.
const BESIDE_US: u32 = 1000;

const fn gpu_metric(name: &str) -> u32 {
    catalog::index(catalog::GPU, name)
}

const POWER: u32 = gpu_metric("power_watts");
const UP: u32 = gpu_metric("up");
const JOB: u32 = gpu_metric("job");
const GPM_STATE: u32 = gpu_metric("gpm_state");
const XIDS: u32 = gpu_metric("xids_total");
const XID_LAST: u32 = gpu_metric("xid_last");
const XID_LAST_AT: u32 = gpu_metric("xid_last_timestamp_seconds");

/// Stamps of power that are better than this are the driver's; those of polled values never are. Microseconds.
const STAMPED_US: u32 = 45_000;
/// The clock was set, not steered, if it differs by so much from the time that has passed, microseconds.
const STEP_US: i64 = 100_000;

/// The clock at a moment.
#[derive(Debug, Clone, Copy)]
struct ClockMark {
    at: Instant,
    us: i64,
}

/// XIDs of one GPU.
#[derive(Debug, Clone, Copy, Default)]
struct Xids {
    count: i64,
    last: i64,
    /// Microseconds since the epoch.
    last_us: i64,
}

pub struct Batcher {
    period: Duration,
    spool: Arc<Spool>,
    metrics: Arc<Metrics>,
    jobs: Jobs,
    host: Host,
    power: Vec<Power>,
    sweeps: Vec<Sweep>,
    parts: Parts,
    events: Vec<(i64, pb::Event)>,
    /// XIDs by GPU since the agent started.
    xids: BTreeMap<u32, Xids>,
    /// GPUs that are declared.
    known: BTreeSet<u32>,
    /// Nothing is read, and the reason that is shown with each GPU.
    gone: Option<&'static str>,
    clock: Option<ClockMark>,
    /// The last push had to make room.
    dropping: bool,
    /// GPUs that do not answer.
    down: BTreeMap<u32, &'static str>,
    /// GPUs whose driver refuses performance monitoring.
    refused: BTreeSet<u32>,
    /// Something fell silent since the last flush: said at once, as it may be over before the second is.
    fell_silent: bool,
}

impl Batcher {
    pub fn new(period: Duration, spool: Arc<Spool>, metrics: Arc<Metrics>, host: Host, jobs: Jobs) -> Self {
        let all = Subject::ALL.into_iter().flat_map(Subject::metrics);
        let declared = (0..).zip(all).map(|(id, metric)| metric.declare(id)).collect();
        spool.declare(pb::Declare { metrics: declared, ..Default::default() });
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        spool.identify(boot, String::new(), String::new());
        Self {
            period,
            spool,
            metrics,
            jobs,
            host,
            power: Vec::new(),
            sweeps: Vec::new(),
            parts: Parts::default(),
            events: Vec::new(),
            xids: BTreeMap::new(),
            known: BTreeSet::new(),
            gone: None,
            clock: None,
            dropping: false,
            down: BTreeMap::new(),
            refused: BTreeSet::new(),
            fell_silent: false,
        }
    }

    /// Until no more notes come; then the rest leaves as a last batch.
    pub async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        let mut tick = tokio::time::interval(self.period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        self.event("agent_start", 0, 0, env!("CARGO_PKG_VERSION"));
        loop {
            tokio::select! {
                note = notes.recv() => match note {
                    Some(note) => self.take(note),
                    None => break,
                },
                _ = second.tick() => {
                    self.jobs.refresh().await;
                    self.flush(true);
                }
                _ = tick.tick() => self.flush(false),
            }
        }
        self.event("agent_stop", 0, 0, "");
        self.flush(true);
    }

    fn take(&mut self, note: Note) {
        match note {
            Note::Inventory(inventory) => self.identify(&inventory),
            Note::Values { power, sweeps } => {
                for sweep in &sweeps {
                    match self.down.remove(&sweep.gpu) {
                        Some("driver_hung") => self.event("driver_back", sweep.gpu + 1, 0, ""),
                        Some(_) => self.event("gpu_back", sweep.gpu + 1, 0, ""),
                        None => {}
                    }
                    self.jobs.seen(sweep.gpu, &sweep.pids);
                    self.look_at(sweep);
                }
                self.power.extend(power);
                self.sweeps.extend(sweeps);
            }
            Note::Xids(xids) => xids.iter().for_each(|xid| self.take_xid(xid)),
            Note::Lost(gpu) => self.mark_down(gpu, "gpu_lost", ""),
            Note::Hung(gpu, call) => self.mark_down(gpu, "driver_hung", &call),
            Note::ReaderGone(gone, why) => {
                self.event("driver_hung", 0, 0, &why);
                self.nothing_read(gone.name());
            }
            Note::ReaderBack => self.reader_back(),
            Note::Released(duration) => {
                self.event("driver_released", 0, i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), "");
                // Announced, it is nobody's fault, and whatever was wrong is over.
                self.down.clear();
                self.nothing_read("driver_released");
            }
            Note::Retaken => {
                self.event("driver_retaken", 0, 0, "");
                // Until it answers.
                self.nothing_read("driver_gone");
            }
        }
    }

    /// Counts what the reader dropped, and says once that the driver refuses something.
    fn look_at(&mut self, sweep: &Sweep) {
        for &metric in &sweep.implausible {
            self.metrics.implausible(metric);
        }
        let gpu = sweep.gpu;
        let Some(Missing { why: reason, .. }) = sweep.missing.iter().find(|missing| missing.metric == GPM_STATE) else {
            if self.refused.remove(&gpu) {
                tracing::info!(gpu, "performance monitoring is back");
            }
            return;
        };
        if self.refused.insert(gpu) {
            tracing::warn!(
                gpu,
                reason,
                "the driver refuses performance monitoring, does another profiler hold it? trying again every ten sweeps"
            );
        }
    }

    fn take_xid(&mut self, xid: &Xid) {
        if !xid.kind.is_empty() {
            let event = pb::Event { entity: xid.gpu + 1, kind: xid.kind.clone(), ..Default::default() };
            return self.events.push((xid.ts_us, event));
        }
        let times = xid.count.max(1);
        self.metrics.readings.xid(xid.gpu, xid.code, times);
        let code = i64::try_from(xid.code).unwrap_or(i64::MAX);
        let xids = self.xids.entry(xid.gpu).or_default();
        (xids.count, xids.last, xids.last_us) = (xids.count.saturating_add_unsigned(times), code, xid.ts_us);
        // A storm is one event of each frame, not a thousand.
        let detail = if times > 1 { format!("{times} times") } else { String::new() };
        let event = pb::Event { entity: xid.gpu + 1, kind: "xid".into(), code, detail, ..Default::default() };
        self.events.push((xid.ts_us, event));
    }

    /// Of no GPU anything is known until a reader delivers.
    fn nothing_read(&mut self, reason: &'static str) {
        self.gone = Some(reason);
        self.fell_silent = true;
        for gpu in self.known.iter().filter(|&gpu| !self.down.contains_key(gpu)) {
            self.metrics.readings.down(*gpu, reason);
        }
        // At once: the next reader may deliver before the next batch would leave.
        self.flush(false);
    }

    /// The node's event ends what its GPUs have: those that still hang say so again.
    fn reader_back(&mut self) {
        self.gone = None;
        self.event("driver_back", 0, 0, "");
        let hung: Vec<u32> = self.down.iter().filter(|entry| *entry.1 == "driver_hung").map(|entry| *entry.0).collect();
        for gpu in hung {
            self.event("driver_hung", gpu + 1, 0, "");
        }
    }

    fn identify(&mut self, inventory: &Inventory) {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        self.spool.identify(boot, inventory.driver_version.clone(), inventory.nvml_version.clone());
        let entity = |gpu: &crate::reader::protocol::Gpu| {
            let what = pb::Gpu {
                index: gpu.index,
                uuid: gpu.uuid.clone(),
                model: gpu.model.clone(),
                pci_bus_id: gpu.pci_bus_id.clone(),
                serial: gpu.serial.clone(),
            };
            pb::Entity { id: gpu.index + 1, what: Some(pb::entity::What::Gpu(what)) }
        };
        self.spool.declare(pb::Declare { entities: inventory.gpus.iter().map(entity).collect(), ..Default::default() });
        self.known.extend(inventory.gpus.iter().map(|gpu| gpu.index));
        self.metrics.readings.identify(inventory);
    }

    fn mark_down(&mut self, gpu: u32, why: &'static str, detail: &str) {
        self.metrics.readings.down(gpu, why);
        if self.known.insert(gpu) {
            // It never answered: its place is all that there is to say.
            let what = pb::entity::What::Gpu(pb::Gpu { index: gpu, ..Default::default() });
            let entity = pb::Entity { id: gpu + 1, what: Some(what) };
            self.spool.declare(pb::Declare { entities: vec![entity], ..Default::default() });
        }
        if self.down.insert(gpu, why) != Some(why) {
            tracing::warn!(gpu, why, "a gpu does not answer");
            self.fell_silent = true;
            self.event(why, gpu + 1, 0, detail);
        }
    }

    fn event(&mut self, kind: &str, entity: u32, code: i64, detail: &str) {
        let event = pb::Event { dt_us: 0, entity, kind: kind.into(), code, detail: detail.into() };
        self.events.push((Micros::now().0, event));
    }

    /// GPUs of which nothing is known: those that do not answer, and all of them where no reader delivers.
    fn silent(&self) -> BTreeSet<u32> {
        if self.gone.is_some() { self.known.clone() } else { self.down.keys().copied().collect() }
    }

    /// That they are not up, for GPUs of which nothing is known.
    fn silent_rows(&self, now: i64, error_us: u32) -> Option<pb::Block> {
        let silent = self.silent();
        let mut block = BlockBuilder::new(now, &[UP], error_us);
        for gpu in &silent {
            block.push(gpu + 1, now, [Some(0)]);
        }
        (!silent.is_empty()).then(|| block.finish())
    }

    /// What has one row a second: sweeps, jobs.
    fn slow_rows(&mut self, now: i64, error_us: u32) -> Vec<pb::Block> {
        let mut blocks = Vec::new();
        let sweeps = std::mem::take(&mut self.sweeps);
        if !sweeps.is_empty() {
            let silent = self.silent();
            let is_slow = |id: &u32| catalog::GPU[*id as usize].rate == Rate::Slow;
            let (slow, often): (Vec<u32>, Vec<u32>) = (0..NODE_IDS).partition(is_slow);
            let mut block = BlockBuilder::new(now, &often, error_us);
            // By itself: few GPUs have their turn in a second, and the others' lack of values would cost more than the values.
            let mut slow_block = BlockBuilder::new(now, &slow, error_us);
            for mut sweep in sweeps {
                sweep.put(JOB, i64::from(self.jobs.of(sweep.gpu)));
                let xids = self.xids.get(&sweep.gpu);
                sweep.put(XIDS, xids.map_or(0, |xids| xids.count));
                if let Some(xids) = xids {
                    sweep.put(XID_LAST, xids.last);
                    sweep.put(XID_LAST_AT, xids.last_us);
                }
                let mut row = [None; NODE_IDS as usize];
                for (&metric, &value) in sweep.metrics.iter().zip(&sweep.values) {
                    row[metric as usize] = Some(value);
                }
                block.push(sweep.gpu + 1, sweep.ts_us, often.iter().map(|id| row[*id as usize]));
                if sweep.slow {
                    slow_block.push(sweep.gpu + 1, sweep.ts_us, slow.iter().map(|id| row[*id as usize]));
                }
                if !silent.contains(&sweep.gpu) {
                    self.metrics.readings.sweep(&sweep);
                }
                self.parts.extend(sweep.gpu + 1, sweep.ts_us, sweep.parts);
            }
            blocks.push(block.finish());
            if !slow_block.is_empty() {
                blocks.push(slow_block.finish());
            }
        }
        blocks
    }

    /// What the node tells: what is read in place where a second is over, and what has been read aside.
    fn host_rows(&mut self, now: i64, clock: &Clock, second: bool) -> Vec<pb::Block> {
        let mut readings = if second { self.host.read(clock) } else { Vec::new() };
        readings.extend(self.host.finished());
        let (mut blocks, mut error_us) = (Vec::new(), BESIDE_US.saturating_add(clock.error_us));
        for reading in readings {
            let error = reading.error_us.saturating_add(clock.error_us);
            if !reading.values.is_empty() {
                let ids: Vec<u32> = reading.values.iter().map(|(metric, _)| NODE_IDS + metric).collect();
                let mut block = BlockBuilder::new(now, &ids, error);
                block.push(0, reading.ts_us, reading.values.iter().map(|(_, value)| Some(*value)));
                blocks.push(block.finish());
            }
            error_us = error_us.max(error);
            self.parts.extend(0, reading.ts_us, reading.parts);
        }
        if second {
            self.metrics.jobs.show(self.jobs.members());
            self.metrics.readings.node(self.host.latest());
        }
        blocks.extend(self.parts.blocks(now, error_us));
        self.spool.declare(pb::Declare { jobs: self.jobs.take_new(), entities: self.parts.take_new(), ..Default::default() });
        blocks
    }

    /// Polled values, and those that the driver stamped, each with the largest bound among them.
    fn power_rows(&mut self, now: i64, clock: &Clock) -> Vec<pb::Block> {
        let mut rows = std::mem::take(&mut self.power);
        rows.sort_by_key(|power| (power.error_us > STAMPED_US, power.gpu, power.ts_us));
        let mut blocks = Vec::new();
        for rows in rows.chunk_by(|one, other| (one.error_us > STAMPED_US) == (other.error_us > STAMPED_US)) {
            let error_us = rows.iter().map(|power| power.error_us).max().unwrap_or_default();
            let mut block = BlockBuilder::new(now, &[POWER], error_us.saturating_add(clock.error_us));
            for power in rows {
                block.push(power.gpu + 1, power.ts_us, [Some(i64::from(power.milliwatts))]);
                if self.gone.is_none() && !self.down.contains_key(&power.gpu) {
                    self.metrics.readings.power(power.gpu, power.milliwatts);
                }
            }
            blocks.push(block.finish());
        }
        blocks
    }

    /// Looks whether the clock was set since the last time: stamps before and after do not go together.
    fn watch_clock(&mut self, now: i64) {
        let mark = ClockMark { at: Instant::now(), us: now };
        let Some(before) = self.clock.replace(mark) else { return };
        let passed = i64::try_from(mark.at.duration_since(before.at).as_micros()).unwrap_or(i64::MAX);
        let step_us = mark.us - before.us - passed;
        if step_us.abs() >= STEP_US {
            let step_seconds = step_us as f64 / 1e6;
            tracing::warn!(step_seconds, "the clock was set");
            self.metrics.clock_steps.inc();
            self.event("clock_stepped", 0, step_us, "microseconds");
        }
    }

    /// Everything gathered leaves as one batch, with what has one row a second where a second is over.
    fn flush(&mut self, second: bool) {
        if self.power.is_empty() && !second && self.events.is_empty() {
            return;
        }
        let now = Micros::now().0;
        self.watch_clock(now);
        let clock = Clock::read();
        let error_us = BESIDE_US.saturating_add(clock.error_us);
        let mut blocks = if second { self.slow_rows(now, error_us) } else { Vec::new() };
        blocks.extend(self.host_rows(now, &clock, second));
        if std::mem::take(&mut self.fell_silent) || second {
            blocks.extend(self.silent_rows(now, error_us));
        }
        blocks.extend(self.power_rows(now, &clock));
        let event = |(at, event): (i64, pb::Event)| pb::Event { dt_us: at - now, ..event };
        let events = self.events.drain(..).map(event).collect();
        let batch = pb::Batch { sequence: 0, base_us: now, blocks, events, built_us: 0 };
        let samples = spool::samples(&batch);
        let pushed = self.spool.push(batch);
        self.metrics.batch(samples, pushed.bytes);
        if pushed.dropped_batches > 0 && !std::mem::replace(&mut self.dropping, true) {
            tracing::warn!("spool is full, dropping the oldest batches; gridstep_agent_batches_dropped_total counts them");
            self.event("spool_dropped", 0, i64::try_from(pushed.dropped_batches).unwrap_or(i64::MAX), "");
        } else if pushed.dropped_batches == 0 {
            self.dropping = false;
        }
    }
}
