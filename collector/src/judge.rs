//! The whole judging in one pure value: samples and the times of their arrival in, incidents out. Live and replay run this.
//!
//! It can be kept and taken up again: serialise it with a self-describing format that knows NaN (CBOR, not JSON).

mod clocks;
mod drifting;
mod faults;
mod hold;
mod kept;
mod learned;
mod past;
mod straggling;
mod swings;
mod watch;
mod xid;

pub use learned::Lesson;
pub use swings::{FeederPower, Figure, LevelPower, Levels};

use crate::align::power::PowerGrid;
use crate::align::seconds::{Merge, SecondGrid, Values};
use crate::align::{AlignConfig, TICK_US};
use crate::fleet::{Fleet, GpuMetric, GpuSlot, JobSlot, MeterSlot, NodeMetric, NodeSlot, Place};
use crate::incidents::{Book, Incident, Lemon, Lemons};
use crate::past::Past;
use crate::power::{Basis, Limits, Resolved};
use crate::stragglers::draw::Draws;
use crate::stragglers::occupancy::Dwell;
use crate::stragglers::unnamed::Unnamed;
use crate::stragglers::{Cause, StragglerJudge, Without};
use gridstep_wire::Micros;
use hold::Hold;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use straggling::Lasted;

/// Nameplate of an H100 SXM, where its limit is not known; watts.
const NAMEPLATE_WATTS: f64 = 700.0;
/// The H100's power sensor publishes this often, seconds (facts/power-swings.md §1.2). Its readings are stamped when they are read.
const SENSOR_PERIOD: f64 = 0.1;

/// `[align]`, `[power]`, `[stragglers]` of the collector's configuration: all that bears on a judgement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeConfig {
    pub align: AlignConfig,
    pub power: PowerConfig,
    pub stragglers: StragglersConfig,
}

/// What a straggler costs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StragglersConfig {
    /// Of one GPU for one hour, in whatever currency. None: no money is told.
    pub gpu_hour_price: Option<f64>,
    /// For evaluation alone; no key of the file.
    #[serde(skip)]
    pub without: Without,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PowerConfig {
    pub limits: Limits,
}

/// One 100-ms bin of the fleet's power, for pages and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PowerPoint {
    /// Centre of the bin.
    pub at: Micros,
    /// Sum of the fleet on the configured basis, missing sources imputed.
    pub watts: f64,
    /// Share of the expected sources that the sum rests on, 0 to 1.
    pub completeness: f64,
}

/// The latest final second of one GPU, for pages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GpuView {
    pub power_watts: Option<f64>,
    pub temperature_celsius: Option<f64>,
    pub sm_clock_mhz: Option<f64>,
    pub sm_active_ratio: Option<f64>,
    pub utilization_ratio: Option<f64>,
    pub job: Option<JobSlot>,
    /// Some(false): lost, or its driver hangs.
    pub up: Option<bool>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Judge {
    config: JudgeConfig,
    fleet: Fleet,
    // What an older version has written of power is not understood: that is learned anew, incidents and all else stay.
    #[serde(rename = "board_grid", default = "gpu_grid", deserialize_with = "kept::gpu_grid_or_anew")]
    gpu_power: PowerGrid,
    #[serde(rename = "node_grid", default, deserialize_with = "kept::or_anew")]
    node_power: PowerGrid,
    #[serde(rename = "meter_grid", default, deserialize_with = "kept::or_anew")]
    meter_power: PowerGrid,
    gpu_seconds: SecondGrid,
    node_seconds: SecondGrid,
    /// Latest finished second of each; power and figures of the pages come from here.
    latest: Option<crate::align::seconds::Second>,
    latest_node: Option<crate::align::seconds::Second>,
    gpu_job: Vec<Option<u32>>,
    node_job: Vec<Option<u32>>,
    /// Somebody has told a job once: who has none idles. Until then jobs are guessed.
    #[serde(default)]
    jobs_are_named: bool,
    #[serde(default, deserialize_with = "kept::or_anew")]
    unnamed: Unnamed,
    /// Arrival time of the next tick.
    tick: Option<i64>,
    /// After a restart.
    #[serde(default)]
    hold: Option<Hold>,
    /// Which sum is judged; settled with the first bin.
    basis: Option<Basis>,
    limits: Resolved,
    /// Sources that they were resolved for.
    #[serde(default)]
    limits_for: usize,
    #[serde(default, deserialize_with = "kept::or_anew")]
    swings: swings::Swings,
    /// Arrival time of what is put now.
    #[serde(default = "never")]
    now: Micros,
    #[serde(default, deserialize_with = "kept::or_anew")]
    stragglers: StragglerJudge,
    /// What nodes draw of which nothing else is known.
    #[serde(default, deserialize_with = "kept::or_anew")]
    draws: Draws,
    /// Between which levels each GPU's power goes up and down.
    dwells: Vec<Dwell>,
    /// What each GPU's own figures said so far.
    watches: Vec<watch::Watch>,
    /// By node: the last second that said anything.
    #[serde(rename = "heard_at", default)]
    heard: Vec<i64>,
    /// Strongest score so far of each open straggler, by incident.
    strongest: BTreeMap<String, f64>,
    /// For how long each has stood out.
    #[serde(default)]
    lasted: BTreeMap<String, Lasted>,
    /// By open straggler: another cause than the one told, and since when it shows.
    turning: BTreeMap<String, (Cause, Micros)>,
    book: Book,
    /// What the last weeks held.
    #[serde(default)]
    lemons: Lemons,
    /// For whoever looks: no verdict rests on it.
    #[serde(skip)]
    past: Past,
}

impl Judge {
    pub fn new(config: JudgeConfig, topology: &[Place]) -> Self {
        let watermark = config.align.watermark_us();
        let merge = |metric: &GpuMetric| match metric {
            GpuMetric::EventReasons => Merge::Any,
            GpuMetric::Temperature | GpuMetric::MemoryTemperature | GpuMetric::SmClock | GpuMetric::MemoryClock => Merge::Mean,
            GpuMetric::Utilization | GpuMetric::SmActive | GpuMetric::TensorActive | GpuMetric::DramActive => Merge::Mean,
            GpuMetric::PowerAverage | GpuMetric::PcieBytes | GpuMetric::NvlinkBytes => Merge::Mean,
            _ => Merge::Last,
        };
        let node_merge = |metric: &NodeMetric| match metric {
            NodeMetric::NetworkErrors | NodeMetric::NetworkLink => Merge::Last,
            _ => Merge::Mean,
        };
        let mut swings = swings::Swings::default();
        swings.set_feeders(&config.power.limits);
        let without = config.stragglers.without;
        Self {
            fleet: Fleet::new(topology),
            gpu_power: PowerGrid::new(&config.align, SENSOR_PERIOD),
            node_power: PowerGrid::new(&config.align, 0.0),
            meter_power: PowerGrid::new(&config.align, 0.0),
            // The last column: how long power dwelt above its middle.
            gpu_seconds: SecondGrid::new(GpuMetric::ALL.iter().map(merge).chain([Merge::Mean]).collect(), watermark),
            node_seconds: SecondGrid::new(NodeMetric::ALL.iter().map(node_merge).collect(), watermark),
            limits: config.power.limits.resolve(0.0),
            config,
            latest: None,
            latest_node: None,
            gpu_job: Vec::new(),
            node_job: Vec::new(),
            jobs_are_named: false,
            unnamed: Unnamed::default(),
            tick: None,
            hold: None,
            basis: None,
            limits_for: 0,
            swings,
            now: Micros::MIN,
            stragglers: StragglerJudge::new(without),
            draws: Draws::default(),
            dwells: Vec::new(),
            watches: Vec::new(),
            heard: Vec::new(),
            strongest: BTreeMap::new(),
            lasted: BTreeMap::new(),
            turning: BTreeMap::new(),
            book: Book::default(),
            lemons: Lemons::default(),
            past: Past::default(),
        }
    }

    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    pub fn fleet_mut(&mut self) -> &mut Fleet {
        &mut self.fleet
    }

    /// Lets time pass up to `now`, the time of arrival of what comes next (live: the collector's clock). Call it before
    /// each put; bins whose deadline has passed become final and are judged. Never goes back.
    pub fn advance(&mut self, now: Micros) {
        self.now = self.now.max(now);
        let due = now.0.div_euclid(TICK_US);
        let Some(next) = self.tick else {
            self.tick = Some(due + 1);
            return;
        };
        // After a long silence one look does: bins are judged in order anyway.
        for tick in next.max(due - 600)..=due {
            let at = Micros(tick * TICK_US);
            if !self.holds(at) {
                self.finish_bins(at);
            }
        }
        self.tick = Some(next.max(due + 1));
    }

    /// Whether [`Self::advance`] would look at what has come.
    pub fn is_due(&self, now: Micros) -> bool {
        self.tick.is_none_or(|next| now.0.div_euclid(TICK_US) >= next)
    }

    /// Goes on under another configuration or topology. Incidents, the fleet and what was learned of it stay; what was
    /// measured on another basis does not.
    pub fn reconfigure(&mut self, config: JudgeConfig, topology: &[Place]) {
        self.fleet.place(topology);
        let watermark = config.align.watermark_us();
        for grid in [&mut self.gpu_power, &mut self.node_power, &mut self.meter_power] {
            grid.set_watermarks(&config.align);
        }
        self.gpu_seconds.set_watermark(watermark);
        self.node_seconds.set_watermark(watermark);
        if config.power.limits.basis != self.config.power.limits.basis {
            self.basis = None;
            self.swings = swings::Swings::default();
        }
        self.swings.set_feeders(&config.power.limits);
        self.config = config;
        self.limits = self.resolve_limits();
    }

    fn finish_bins(&mut self, now: Micros) {
        self.refresh_limits(now);
        self.judge_power(now);
        self.judge_seconds(now);
    }

    /// Board power of one GPU, watts. Samples of one GPU come in the order of their stamps; older ones are counted as late.
    pub fn put_gpu_power(&mut self, gpu: GpuSlot, ts: Micros, watts: f64) {
        self.put_gpu_powers(gpu, std::iter::once((ts, watts)));
    }

    /// What has come at once of one GPU's board power, watts: quicker than one by one.
    #[inline]
    pub fn put_gpu_powers(&mut self, gpu: GpuSlot, samples: impl Iterator<Item = (Micros, f64)> + Clone) {
        let slot = gpu.0 as usize;
        if let Some(newest) = samples.clone().map(|sample| sample.0).max() {
            self.swings.arrivals.put(slot, newest, self.now);
        }
        self.gpu_power.put_run(slot, samples.clone().map(|(ts, watts)| (ts, watts as f32)));
        // Of one without a job nobody asks what it does, where jobs have names.
        if !self.jobs_are_named || self.gpu_job.get(slot).is_some_and(Option::is_some) {
            samples.for_each(|(ts, watts)| self.dwell(gpu, ts, watts as f32));
        }
    }

    /// Whole-node power, measured at the BMC, PDU or PSU.
    pub fn put_node_power(&mut self, node: NodeSlot, ts: Micros, watts: f64) {
        self.node_power.put(node.0 as usize, ts, watts as f32);
        self.draws.put(node.0 as usize, ts, watts);
    }

    /// What a meter of the site reads.
    pub fn put_meter(&mut self, meter: MeterSlot, ts: Micros, watts: f64) {
        self.meter_power.put(meter.0 as usize, ts, watts as f32);
    }

    pub fn put_gpu(&mut self, gpu: GpuSlot, metric: GpuMetric, ts: Micros, value: f64) {
        self.gpu_seconds.put(gpu.0 as usize, metric as usize, ts, metric.as_recorded(value));
    }

    /// Several metrics of several GPUs, each read at an instant, as [`Self::put_gpu`] takes them one by one. By column: metric, and the value of each row;
    /// NaN: it says nothing of that.
    pub fn put_gpu_rows<'a>(&mut self, rows: &[(usize, Micros)], columns: impl Iterator<Item = (GpuMetric, &'a [f64])> + Clone) {
        self.gpu_seconds.put_rows(rows, columns.map(|(metric, values)| (metric as usize, AsRecorded(metric, values))));
    }

    pub fn put_node(&mut self, node: NodeSlot, metric: NodeMetric, ts: Micros, value: f64) {
        self.node_seconds.put(node.0 as usize, metric as usize, ts, metric.as_recorded(value));
    }

    /// Which job the GPU works for from now on. None: idle.
    pub fn put_gpu_job(&mut self, gpu: GpuSlot, job: Option<JobSlot>) {
        self.jobs_are_named |= job.is_some();
        if put(&mut self.gpu_job, gpu.0, job) {
            self.swings.places.outdate();
        }
    }

    /// Which job the node works for, where only nodes are known.
    pub fn put_node_job(&mut self, node: NodeSlot, job: Option<JobSlot>) {
        self.jobs_are_named |= job.is_some();
        if put(&mut self.node_job, node.0, job) {
            self.swings.places.outdate();
        }
    }

    /// Revisions since the last call, in order; the last of an id is its state.
    pub fn take_revisions(&mut self) -> Vec<Incident> {
        let revisions = self.book.take_revisions();
        revisions.iter().for_each(|incident| self.lemons.take(incident));
        revisions
    }

    /// After a restart: incidents as they were told last, the oldest first. What is told from now on goes on from there.
    pub fn adopt(&mut self, told: Vec<Incident>) {
        told.iter().for_each(|incident| self.lemons.take(incident));
        self.book.adopt(told);
    }

    /// Nodes that had incidents of their own within the last four weeks, as of the revisions that were taken; the worst first.
    pub fn lemons(&self) -> Vec<Lemon> {
        self.lemons.list(self.config.stragglers.gpu_hour_price.is_some())
    }

    /// Revisions that wait to be taken are of an incident that has just been opened.
    pub fn has_opened(&self) -> bool {
        self.book.has_opened()
    }

    /// Every incident, newest last: all open ones, and the closed ones of the last 24 hours.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.book.incidents().iter()
    }

    /// Everything up to here has been judged: samples before it are no longer needed.
    pub fn judged_until(&self) -> Micros {
        let grids = [self.gpu_power.finished_until(), self.node_power.finished_until(), self.gpu_seconds.finished_until()];
        grids.into_iter().flatten().min().unwrap_or(Micros::MIN)
    }

    /// The fleet's power, the last 15 minutes of bins, oldest first. Those after [`Self::power_final_until`] may yet change.
    pub fn power_history(&self) -> impl DoubleEndedIterator<Item = PowerPoint> + '_ {
        self.swings.history().points().map(|(at, watts, completeness)| PowerPoint { at, watts, completeness })
    }

    pub fn gpu_view(&self, gpu: GpuSlot) -> GpuView {
        let slot = gpu.0 as usize;
        let value = |metric: GpuMetric| {
            let column = self.latest.as_ref()?.column(metric as usize);
            column.get(slot).copied().filter(|value| !value.is_nan())
        };
        GpuView {
            power_watts: self.gpu_power.latest(slot).map(f64::from),
            temperature_celsius: value(GpuMetric::Temperature),
            sm_clock_mhz: value(GpuMetric::SmClock),
            sm_active_ratio: value(GpuMetric::SmActive),
            utilization_ratio: value(GpuMetric::Utilization),
            job: self.gpu_job.get(slot).copied().flatten().map(JobSlot),
            up: value(GpuMetric::Up).map(|up| up != 0.0),
        }
    }

    /// Samples that came after their bin was final, and were not used.
    pub fn late_samples(&self) -> u64 {
        self.gpu_power.late()
            + self.node_power.late()
            + self.meter_power.late()
            + self.gpu_seconds.late()
            + self.node_seconds.late()
    }

    /// Samples stamped so far ahead of the others that they were not used.
    pub fn ahead_samples(&self) -> u64 {
        self.gpu_power.ahead()
            + self.node_power.ahead()
            + self.meter_power.ahead()
            + self.gpu_seconds.ahead()
            + self.node_seconds.ahead()
    }

    /// The limits in force (defaults filled in from the contract or the fleet's nameplate).
    pub fn limits(&self) -> Resolved {
        self.limits
    }

    /// The limits as they are configured, with their bands and feeders.
    pub fn given_limits(&self) -> &Limits {
        &self.config.power.limits
    }

    /// Once a second, and when somebody joins.
    fn refresh_limits(&mut self, now: Micros) {
        let sources = self.fleet.gpus().len() + self.fleet.nodes().len();
        if self.limits_for != sources || now.0.rem_euclid(1_000_000) == 0 {
            self.limits_for = sources;
            self.limits = self.resolve_limits();
        }
    }

    fn resolve_limits(&self) -> Resolved {
        if self.config.power.limits.contracted_watts.is_some() {
            return self.config.power.limits.resolve(0.0);
        }
        self.config.power.limits.resolve(self.nameplate_watts())
    }

    /// What the fleet may draw by its boards' limits.
    fn nameplate_watts(&self) -> f64 {
        let known = self.latest.as_ref().map(|second| second.column(GpuMetric::PowerLimit as usize));
        let limit = |gpu: usize| {
            known.and_then(|limits| limits.get(gpu).copied()).filter(|watts| *watts > 0.0).unwrap_or(NAMEPLATE_WATTS)
        };
        let boards: f64 = (0..self.fleet.gpus().len()).map(limit).sum();
        // A fleet known by its nodes alone: 10.2 kW is the rating of a node of eight (facts/power-swings.md §4).
        if boards > 0.0 { boards } else { 10_200.0 * self.fleet.nodes().len() as f64 }
    }
}

/// Values of a metric, see [`GpuMetric::as_recorded`].
struct AsRecorded<'a>(GpuMetric, &'a [f64]);

impl Values for AsRecorded<'_> {
    #[inline]
    fn value(&self, row: usize) -> f64 {
        self.0.as_recorded(self.1[row])
    }
}

fn gpu_grid() -> PowerGrid {
    PowerGrid::new(&AlignConfig::default(), SENSOR_PERIOD)
}

fn never() -> Micros {
    Micros::MIN
}

/// True: this is news.
fn put(jobs: &mut Vec<Option<u32>>, slot: u32, job: Option<JobSlot>) -> bool {
    if jobs.len() <= slot as usize {
        jobs.resize(slot as usize + 1, None);
    }
    let job = job.map(|job| job.0);
    std::mem::replace(&mut jobs[slot as usize], job) != job
}
