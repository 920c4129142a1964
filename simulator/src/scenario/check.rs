//! What cannot be simulated, said in the file's own words.

use anyhow::bail;

use super::{Fault, FaultKind, Job, MAX_GPUS, Phase, PhaseKind, Scenario, Writers};

/// Most steps after which a job's rare phases must repeat together.
const MAX_CYCLE: u64 = 2000;

/// Gathers faults of the file.
#[derive(Default)]
struct Complaints(Vec<String>);

impl Complaints {
    fn need(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.0.push(otherwise());
        }
    }
}

pub(super) fn check(scenario: &Scenario) -> anyhow::Result<()> {
    let mut complaints = Complaints::default();
    fleet(scenario, &mut complaints);
    for (i, job) in scenario.jobs.iter().enumerate() {
        of_job(scenario, job, &mut complaints);
        for other in &scenario.jobs[..i] {
            let apart_in_time = job.start >= other.end_or_forever() || other.start >= job.end_or_forever();
            let apart_in_space = job.first_node >= other.first_node.saturating_add(other.node_count)
                || other.first_node >= job.first_node.saturating_add(job.node_count);
            complaints
                .need(apart_in_time || apart_in_space, || format!("jobs {} and {} hold the same node", other.name, job.name));
        }
    }
    for (i, fault) in scenario.faults.iter().enumerate() {
        of_fault(scenario, i, fault, &mut complaints);
    }
    if complaints.0.is_empty() {
        return Ok(());
    }
    bail!(complaints.0.join("; "))
}

fn fleet(scenario: &Scenario, complaints: &mut Complaints) {
    let (count, sensor, variety) = (scenario.gpus_per_node, scenario.sensor, scenario.variety);
    complaints.need((1..=MAX_GPUS).contains(&count), || format!("gpus_per_node = {count}: must be from 1 to {MAX_GPUS}"));
    complaints
        .need(sensor.period_ms > 0.0 && sensor.window_ms > 0.0, || "sensor: window_ms and period_ms must be above 0".to_owned());
    let shares = [
        ("sensor.gain", sensor.gain),
        ("variety.watts", variety.watts),
        ("variety.idle_watts", variety.idle_watts),
        ("variety.clock", variety.clock),
        ("variety.thermal_resistance", variety.thermal_resistance),
    ];
    for (key, share) in shares {
        complaints.need((0.0..1.0).contains(&share), || format!("{key} = {share}: must be from 0 to below 1"));
    }
    for spec in &scenario.gpus {
        let (node, gpu, limit) = (spec.node, spec.gpu, spec.power_limit_watts);
        complaints.need(node < scenario.nodes && gpu < count, || format!("gpu: there is no GPU {gpu} of node {node}"));
        complaints.need((200..=700).contains(&limit), || {
            format!("gpu {gpu} of node {node}: power_limit_watts = {limit}: an H100 takes 200 to 700")
        });
    }
}

fn of_job(scenario: &Scenario, job: &Job, complaints: &mut Complaints) {
    let name = &job.name;
    let last = job.first_node.saturating_add(job.node_count);
    complaints.need(last <= scenario.nodes && job.node_count > 0, || {
        format!("job {name}: holds nodes {} to below {last}, but there are {}", job.first_node, scenario.nodes)
    });
    complaints.need(job.start < job.end_or_forever(), || format!("job {name}: ends before it starts"));
    let negative =
        [job.idle_before, job.idle_after, job.stall_seconds, job.restart_seconds].iter().any(|s| s.is_nan() || *s < 0.0);
    complaints.need(!negative, || {
        format!("job {name}: idle_before, idle_after, stall_seconds and restart_seconds must not be negative")
    });
    complaints.need(job.start + job.idle_before + job.idle_after < job.end_or_forever(), || {
        format!("job {name}: idle_before and idle_after leave no time for steps")
    });
    let lengths = job.phases.iter().all(|p| p.seconds >= 0.0) && job.step_seconds() > 0.0;
    complaints.need(lengths, || format!("job {name}: a phase of negative length, or a step that takes no time"));
    if lengths {
        let steps = job.cycle_steps();
        complaints.need(steps <= MAX_CYCLE, || {
            format!("job {name}: its rare phases repeat together after {steps} steps only: must be at most {MAX_CYCLE}")
        });
    }
    for (i, phase) in job.phases.iter().enumerate() {
        of_phase(job, i, phase, complaints);
    }
}

fn of_phase(job: &Job, index: usize, phase: &Phase, complaints: &mut Complaints) {
    let name = &job.name;
    let works = matches!(phase.kind, PhaseKind::Compute | PhaseKind::Communicate);
    complaints.need(phase.watts.is_some() || !works, || format!("job {name}, phase {index}: watts is missing"));
    complaints.need(phase.every_steps.is_none() || phase.every_seconds.is_none(), || {
        format!("job {name}, phase {index}: every_steps or every_seconds, not both")
    });
    let often = phase.every_steps != Some(0) && phase.every_seconds.is_none_or(|seconds| seconds > 0.0);
    complaints.need(often, || format!("job {name}, phase {index}: every_steps and every_seconds must be above 0"));
    complaints.need(phase.kind == PhaseKind::Checkpoint || phase.writers == Writers::All, || {
        format!("job {name}, phase {index}: only a checkpoint has writers")
    });
}

fn of_fault(scenario: &Scenario, index: usize, fault: &Fault, complaints: &mut Complaints) {
    let (kind, depth) = (fault.kind, fault.depth);
    let there = fault.node < scenario.nodes && fault.gpu.is_none_or(|gpu| gpu < scenario.gpus_per_node);
    complaints.need(there, || format!("fault {index} ({kind:?}): on a GPU that does not exist"));
    complaints
        .need((0.0..1.0).contains(&depth), || format!("fault {index} ({kind:?}): depth = {depth}: must be from 0 to below 1"));
    complaints.need(depth == 0.0 || kind.how().is_some(), || {
        format!("fault {index}: depth has no meaning, {kind:?} does not slow compute")
    });
    complaints.need(fault.value >= 0.0 && (fault.value == 0.0 || kind.has_value()), || {
        format!("fault {index} ({kind:?}): value = {}: negative, or without meaning for this kind", fault.value)
    });
    complaints.need(fault.memory_mhz.is_none() || kind == FaultKind::Hbm, || {
        format!("fault {index} ({kind:?}): memory_mhz belongs to hbm")
    });
    complaints.need(fault.driver_version.is_none() || kind == FaultKind::Unloaded, || {
        format!("fault {index} ({kind:?}): driver_version belongs to unloaded")
    });
    complaints.need(fault.gpu.is_none() || kind != FaultKind::Unloaded, || {
        format!("fault {index} ({kind:?}): a driver is unloaded for all GPUs of the node")
    });
    complaints.need(fault.start < fault.end_or_forever(), || format!("fault {index} ({kind:?}): ends before it starts"));
}
