//! What is to be shown, made of what the agent told now and before.

use super::exposition::{Exposition, Series};
use gridstep_wire::reasons;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// Readings of power that are kept for a GPU.
const HISTORY: usize = 240;
/// Cost is told over the last so many seconds, once there are the fewest; before, over the agent's life.
const COST_SECONDS: (f64, f64) = (10.0, 60.0);

/// One GPU, as far as the agent tells.
#[derive(Debug, Default, Clone)]
pub(super) struct Gpu {
    pub(super) index: u32,
    pub(super) uuid: String,
    /// Why it does not answer.
    pub(super) down: Option<String>,
    pub(super) watts: Option<f64>,
    pub(super) mean_watts: Option<f64>,
    pub(super) limit_watts: Option<f64>,
    pub(super) celsius: Option<f64>,
    pub(super) memory_celsius: Option<f64>,
    pub(super) mhz: Option<f64>,
    pub(super) sm_active: Option<f64>,
    pub(super) tensor_active: Option<f64>,
    pub(super) hbm_used: Option<f64>,
    pub(super) hbm_total: Option<f64>,
    pub(super) nvlink_rate: Option<f64>,
    pub(super) pcie_rate: Option<f64>,
    pub(super) reasons: Vec<&'static str>,
    pub(super) xids: u64,
    pub(super) xid_last: Option<u64>,
    pub(super) job: String,
    /// In words, for who looks at this GPU alone.
    pub(super) more: Vec<String>,
}

/// The agent itself.
#[derive(Debug, Default)]
pub(super) struct Agent {
    pub(super) node: String,
    pub(super) version: String,
    pub(super) driver: String,
    pub(super) reader_up: bool,
    /// The agent has let go of the driver, as it was asked to.
    pub(super) released: bool,
    pub(super) connected: bool,
    pub(super) spool_batches: f64,
    pub(super) spool_bytes: f64,
    pub(super) dropped: f64,
    /// Readings of power a second, of the GPU that is read least often.
    pub(super) power_hertz: Option<f64>,
    pub(super) resident_bytes: Option<f64>,
    /// Share of one CPU.
    pub(super) cpu: Option<f64>,
    /// Seconds inside the driver, for each second and GPU.
    pub(super) driver_share: Option<f64>,
    pub(super) sent_rate: Option<f64>,
}

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) agent: Agent,
    pub(super) gpus: Vec<Gpu>,
    /// Watts by GPU, the latest last.
    pub(super) history: BTreeMap<u32, VecDeque<f64>>,
    /// Of all GPUs together.
    pub(super) total: VecDeque<f64>,
    pub(super) costs: VecDeque<(Instant, Counters)>,
}

/// Counters of which rates are told.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counters {
    cpu: Option<f64>,
    driver: Option<f64>,
    sent: Option<f64>,
}

impl View {
    pub(super) fn take(&mut self, told: &Exposition, at: Instant, unix_seconds: f64) {
        let mut gpus: Vec<Gpu> = told.of("gridstep_gpu_up").iter().filter_map(|series| gpu(told, series)).collect();
        gpus.sort_by_key(|gpu| gpu.index);
        for gpu in &gpus {
            remember(self.history.entry(gpu.index).or_default(), gpu.watts.unwrap_or(f64::NAN));
        }
        remember(&mut self.total, gpus.iter().filter_map(|gpu| gpu.watts).sum());
        self.gpus = gpus;
        self.agent = agent(told);
        self.costs(told, at, unix_seconds);
    }

    fn costs(&mut self, told: &Exposition, at: Instant, unix_seconds: f64) {
        let of = |name: &str| told.value(&format!("gridstep_agent_{name}"));
        let now = Counters { cpu: of("cpu_seconds_total"), driver: of("driver_seconds_total"), sent: of("sent_bytes_total") };
        self.costs.push_back((at, now));
        while self.costs.front().is_some_and(|(then, _)| (at - *then).as_secs_f64() > COST_SECONDS.1) {
            self.costs.pop_front();
        }
        let life = of("start_timestamp_seconds").map_or(f64::NAN, |started| unix_seconds - started);
        let (then, before) = self.costs[0];
        let seconds = (at - then).as_secs_f64();
        let (seconds, before) = if seconds < COST_SECONDS.0 { (life, Counters::default()) } else { (seconds, before) };
        let rate = |now: Option<f64>, before: Option<f64>| {
            let rate = (now? - before.unwrap_or(0.0)) / seconds;
            (rate.is_finite() && rate >= 0.0).then_some(rate)
        };
        let answering = self.gpus.iter().filter(|gpu| gpu.down.is_none()).count().max(1) as f64;
        self.agent.cpu = rate(now.cpu, before.cpu);
        self.agent.driver_share = rate(now.driver, before.driver).map(|share| share / answering);
        self.agent.sent_rate = rate(now.sent, before.sent);
    }
}

fn remember(history: &mut VecDeque<f64>, watts: f64) {
    if history.len() == HISTORY {
        history.pop_front();
    }
    history.push_back(watts);
}

fn agent(told: &Exposition) -> Agent {
    let of = |name: &str| told.value(&format!("gridstep_agent_{name}"));
    let sum = |name: &str| told.of(&format!("gridstep_agent_{name}")).iter().map(|series| series.value).sum();
    let slowest = told.of("gridstep_agent_power_period_seconds").iter().map(|series| series.value).reduce(f64::max);
    let info = told.of("gridstep_agent_info").first();
    let label = |name| info.and_then(|series| series.label(name)).unwrap_or_default().to_owned();
    Agent {
        node: label("node"),
        version: label("version"),
        driver: label("driver_version"),
        reader_up: of("reader_up") == Some(1.0),
        connected: of("uplink_connected") == Some(1.0),
        spool_batches: sum("spool_batches"),
        spool_bytes: sum("spool_bytes"),
        dropped: sum("batches_dropped_total"),
        released: of("driver_released") == Some(1.0),
        power_hertz: slowest.map(|period| 1.0 / period),
        resident_bytes: of("resident_bytes"),
        ..Agent::default()
    }
}

/// The GPU of a series of `gridstep_gpu_up`.
fn gpu(told: &Exposition, up: &Series) -> Option<Gpu> {
    let index = up.label("gpu")?;
    let of = |name: &str| told.gpu(index, name);
    let why = up.label("reason").unwrap_or_default();
    Some(Gpu {
        index: index.parse().ok()?,
        uuid: up.label("uuid").unwrap_or_default().to_owned(),
        down: (up.value != 1.0).then(|| reason(why).to_owned()),
        watts: of("power_watts"),
        mean_watts: of("power_average_watts"),
        limit_watts: of("power_limit_watts"),
        celsius: of("temperature_celsius"),
        memory_celsius: of("memory_temperature_celsius"),
        mhz: of("sm_clock_mhz"),
        sm_active: of("sm_active_ratio"),
        tensor_active: of("tensor_active_ratio"),
        hbm_used: of("hbm_used_bytes"),
        hbm_total: of("hbm_total_bytes"),
        nvlink_rate: of("nvlink_bytes_per_second"),
        pcie_rate: of("pcie_bytes_per_second"),
        reasons: of("clocks_event_reasons").map(|bits| reasons::words(bits as u64)).unwrap_or_default(),
        xids: of("xids_total").unwrap_or(0.0) as u64,
        xid_last: of("xid_last").map(|code| code as u64),
        job: job(told, index),
        more: more(&of),
    })
}

fn reason(why: &str) -> &str {
    match why {
        "gpu_lost" => "the driver has lost it",
        "driver_hung" => "a call into the driver does not return",
        "" => "does not answer",
        why => why,
    }
}

/// The job that has the GPU, from any info series that names one.
fn job(told: &Exposition, gpu: &str) -> String {
    let mut infos: Vec<&str> = told.names().filter(|name| name.starts_with("gridstep_gpu_") && name.ends_with("_info")).collect();
    infos.sort_unstable();
    let of_gpu = |series: &&Series| series.label("gpu") == Some(gpu);
    for series in infos.iter().filter_map(|name| told.of(name).iter().find(of_gpu)) {
        let label = |name| series.label(name).filter(|value| !value.is_empty());
        let Some(name) = label("job").or(label("pod")) else { continue };
        let parts = ["step", "rank"].into_iter().filter_map(|part| Some(format!(" {part} {}", label(part)?)));
        return [name.to_owned()].into_iter().chain(parts).collect();
    }
    String::new()
}

fn more(of: &dyn Fn(&str) -> Option<f64>) -> Vec<String> {
    let count = |name: &str, text: &str| of(name).map(|value| format!("{value:.0} {text}"));
    let link = of("pcie_link_generation")
        .zip(of("pcie_link_width"))
        .map(|(generation, width)| format!("PCIe {generation:.0} x{width:.0}"));
    let limited = |name: &str, text: &str| of(name).map(|seconds| format!("{} by {text}", duration(seconds)));
    let lines = [
        (
            "links",
            vec![
                link,
                count("nvlink_links_up", "NVLinks up"),
                count("nvlink_errors_total", "NVLink errors"),
                count("pcie_replays_total", "replays"),
            ],
        ),
        (
            "memory",
            vec![
                count("ecc_corrected_total", "corrected errors"),
                count("ecc_uncorrected_total", "uncorrected"),
                count("remapped_rows_total", "rows remapped"),
            ],
        ),
        (
            "held down",
            vec![
                limited("limited_power_seconds_total", "power cap"),
                limited("limited_thermal_seconds_total", "heat"),
                limited("limited_brake_seconds_total", "brake"),
            ],
        ),
    ];
    let line = |(head, parts): (&str, Vec<Option<String>>)| {
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("{head:<10}{}", parts.join(", ")))
    };
    lines.into_iter().filter_map(line).collect()
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 6_000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn told(cpu: f64) -> Exposition {
        Exposition::parse(&format!(
            "gridstep_agent_start_timestamp_seconds 1000\ngridstep_agent_cpu_seconds_total {cpu}\n\
            gridstep_gpu_up{{gpu=\"1\",uuid=\"b\",reason=\"gpu_lost\"}} 0\ngridstep_gpu_up{{gpu=\"0\",uuid=\"a\",reason=\"\"}} 1\n\
            gridstep_gpu_power_watts{{gpu=\"0\",uuid=\"a\"}} 345.5\ngridstep_gpu_job_info{{gpu=\"0\",job=\"llama\",rank=\"3\",step=\"\"}} 1\n"
        ))
    }

    #[test]
    fn gpus_are_told_with_their_job_or_why_they_are_silent() {
        let mut view = View::default();
        view.take(&told(1.0), Instant::now(), 1010.0);
        assert_eq!((view.gpus[0].watts, view.gpus[0].job.as_str()), (Some(345.5), "llama rank 3"));
        assert_eq!(view.gpus[1].down.as_deref(), Some("the driver has lost it"));
        assert_eq!(view.total, [345.5]);
    }

    #[test]
    fn cost_is_over_the_agents_life_until_there_is_enough_to_tell() {
        let (mut view, start) = (View::default(), Instant::now());
        view.take(&told(1.0), start, 1100.0);
        assert_eq!(view.agent.cpu, Some(0.01));
        view.take(&told(3.0), start + Duration::from_secs(20), 1120.0);
        assert_eq!(view.agent.cpu, Some(0.1));
    }
}
