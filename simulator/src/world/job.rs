//! Lockstep: how a job's iterations lie in time when faults slow some of its GPUs.

use crate::scenario::{Fault, Job, PhaseKind};

/// A stretch of time in which all iterations of a job take equally long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    /// Seconds of scenario time, before the nodes' jitter.
    pub from: f64,
    /// Seconds; infinite if nothing ends it.
    pub to: f64,
    /// Factor by which the job's compute takes longer: that of its slowest GPU.
    pub stretch: f64,
    /// Seconds of one iteration.
    pub iteration: f64,
    /// Seconds by which the first iteration had already advanced at `from`, at this segment's speed.
    pub offset: f64,
    /// Number of the iteration under way at `from`, from 0.
    pub first_iteration: u64,
}

impl Segment {
    /// Iteration under way at time `t` (s), and seconds since it began.
    pub fn position(&self, t: f64) -> (u64, f64) {
        let tau = t - self.from + self.offset;
        let whole = (tau / self.iteration).floor();
        (self.first_iteration + whole as u64, tau - whole * self.iteration)
    }
}

/// Factor by which one GPU's compute takes longer at time `t` (s).
pub(super) fn gpu_stretch(faults: &[Fault], node: u32, gpu: u32, t: f64) -> f64 {
    faults.iter().filter(|f| f.node == node && f.gpu == gpu && f.active(t)).map(Fault::stretch).fold(1.0, f64::max)
}

/// Computes a job's segments, in order and without gaps.
pub fn timeline(job: &Job, faults: &[Fault]) -> Vec<Segment> {
    let slowing: Vec<&Fault> = faults.iter().filter(|f| job.holds(f.node) && f.stretch() > 1.0).collect();
    let end = job.end_or_forever();
    let mut edges: Vec<f64> = slowing.iter().flat_map(|f| [f.start, f.end_or_forever()]).collect();
    edges.retain(|edge| *edge > job.start && *edge < end);
    edges.extend([job.start, end]);
    edges.sort_by(f64::total_cmp);
    edges.dedup();

    let mut segments = Vec::with_capacity(edges.len());
    let (mut work, mut iteration_index) = (0.0, 0);
    for pair in edges.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let stretch = slowing.iter().filter(|f| f.active(from)).map(|f| f.stretch()).fold(1.0, f64::max);
        let segment = Segment {
            from,
            to,
            stretch,
            iteration: duration(job, stretch),
            offset: to_time(job, stretch, work),
            first_iteration: iteration_index,
        };
        if to.is_finite() {
            let (index, tau) = segment.position(to);
            iteration_index = index;
            work = to_work(job, stretch, tau);
        }
        segments.push(segment);
    }
    segments
}

/// Seconds of one iteration.
fn duration(job: &Job, stretch: f64) -> f64 {
    job.phases.iter().map(|p| p.seconds * factor(p.kind, stretch)).sum()
}

fn factor(kind: PhaseKind, stretch: f64) -> f64 {
    if kind == PhaseKind::Compute { stretch } else { 1.0 }
}

/// From progress in an iteration, in seconds at full speed, to seconds at the stretched one.
fn to_time(job: &Job, stretch: f64, work: f64) -> f64 {
    let mut left = work;
    let mut time = 0.0;
    for phase in &job.phases {
        let part = left.min(phase.seconds);
        time += part * factor(phase.kind, stretch);
        left -= part;
    }
    time
}

/// The inverse of [`to_time`].
fn to_work(job: &Job, stretch: f64, time: f64) -> f64 {
    let mut left = time;
    let mut work = 0.0;
    for phase in &job.phases {
        let factor = factor(phase.kind, stretch);
        let part = left.min(phase.seconds * factor);
        work += part / factor;
        left -= part;
    }
    work
}
