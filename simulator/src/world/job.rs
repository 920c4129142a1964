//! Lockstep: how a job's steps lie in time when faults slow or end some of its GPUs.

use crate::scenario::{Fault, FaultKind, Hindrance, How, Job, OnLostGpu, Phase, PhaseKind};

/// A stretch of time in which a job does one thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    /// Seconds of scenario time, before the nodes' jitter.
    pub from: f64,
    /// Seconds; infinite if nothing ends it.
    pub to: f64,
    pub activity: Activity,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activity {
    /// The processes are there, and no kernel runs: loading, saving, starting again.
    Loaded,
    /// Steps, all at one speed.
    Training(Pace),
    /// Every GPU waits busily for one that is lost.
    Stalled,
}

/// Where a job is in its steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Factor by which the job's compute takes longer: that of its slowest GPU.
    pub stretch: f64,
    /// Seconds of a step without the rare phases.
    pub step: f64,
    /// Seconds after which everything repeats, rare phases too.
    pub cycle: f64,
    /// Seconds by which the first cycle had already advanced at the segment's begin, at this speed.
    pub offset: f64,
    /// Number of the cycle under way at the segment's begin, from 0.
    pub first_cycle: u64,
}

impl Segment {
    pub fn pace(&self) -> Option<Pace> {
        if let Activity::Training(pace) = self.activity { Some(pace) } else { None }
    }
}

/// What slows one GPU most at time `t` (s).
pub(super) fn hindrance(faults: &[Fault], node: u32, gpu: u32, t: f64) -> Hindrance {
    let active = faults.iter().filter(|f| f.hits(node, gpu) && f.active(t));
    let none = Hindrance { how: How::Clock, stretch: 1.0 };
    active.filter_map(Fault::hindrance).fold(none, |most, next| if next.stretch > most.stretch { next } else { most })
}

/// Computes a job's segments, in order and without gaps; the last one's end is the job's.
pub fn timeline(job: &Job, faults: &[Fault]) -> Vec<Segment> {
    let faults = faults.iter().filter(|f| job.holds(f.node)).collect();
    let mut course = Course { job, faults, segments: Vec::new(), work: 0.0, cycles: 0 };
    let end = job.end_or_forever();
    let last_step = end - job.idle_after;
    let mut begin = job.start + job.idle_before;
    course.push(job.start, begin, Activity::Loaded);
    while begin < last_step {
        course.start_over();
        let Some(loss) = course.loss(begin).filter(|loss| *loss < last_step) else {
            course.train(begin, last_step);
            begin = last_step;
            break;
        };
        let missed = course.train_until_missed(begin, loss, last_step);
        let over = (missed + job.stall_seconds).min(end);
        course.push(missed, over, Activity::Stalled);
        if job.on_lost_gpu == OnLostGpu::End {
            return course.segments;
        }
        begin = (over + job.restart_seconds).min(end);
        course.push(over, begin, Activity::Loaded);
    }
    course.push(begin, end, Activity::Loaded);
    course.segments
}

/// A timeline that grows.
struct Course<'a> {
    job: &'a Job,
    /// Those on the job's nodes.
    faults: Vec<&'a Fault>,
    segments: Vec<Segment>,
    /// Progress in the cycle, in seconds at full speed.
    work: f64,
    /// Whole cycles done.
    cycles: u64,
}

impl Course<'_> {
    fn push(&mut self, from: f64, to: f64, activity: Activity) {
        if from < to {
            self.segments.push(Segment { from, to, activity });
        }
    }

    /// When a run that begins at `begin` loses a GPU. The first run needs all of them; a restart goes without what is lost.
    fn loss(&self, begin: f64) -> Option<f64> {
        let first = !self.segments.iter().any(|s| s.activity == Activity::Stalled);
        let of = |fault: &&Fault| {
            if fault.start > begin { Some(fault.start) } else { (first && fault.active(begin)).then_some(begin) }
        };
        let lost = self.faults.iter().filter(|f| f.kind == FaultKind::LostGpu && self.job.on_lost_gpu != OnLostGpu::Continue);
        lost.filter_map(of).min_by(f64::total_cmp)
    }

    /// A run begins with a fresh step.
    fn start_over(&mut self) {
        (self.work, self.cycles) = (0.0, 0);
    }

    /// Runs steps; a segment for each speed.
    fn train(&mut self, from: f64, to: f64) {
        let matters = |f: &&&Fault| f.kind == FaultKind::LostGpu || f.hindrance().is_some();
        let mut edges: Vec<f64> = self.faults.iter().filter(matters).flat_map(|f| [f.start, f.end_or_forever()]).collect();
        edges.retain(|edge| *edge > from && *edge < to);
        edges.push(from);
        edges.sort_by(f64::total_cmp);
        let mut speeds: Vec<(f64, f64)> = edges.into_iter().map(|edge| (edge, self.stretch(edge))).collect();
        speeds.dedup_by_key(|(_, stretch)| *stretch);
        for (i, (begin, stretch)) in speeds.iter().enumerate() {
            let end = speeds.get(i + 1).map_or(to, |next| next.0);
            self.train_steadily(*begin, end, *stretch);
        }
    }

    /// Factor by which compute takes longer at time `t` (s): that of the slowest GPU that is there.
    fn stretch(&self, t: f64) -> f64 {
        let lost = |slow: &Fault| {
            let same = |f: &Fault| f.node == slow.node && (f.gpu.is_none() || f.gpu == slow.gpu);
            self.faults.iter().any(|f| f.kind == FaultKind::LostGpu && f.active(t) && same(f))
        };
        let slowing = self.faults.iter().filter(|f| f.active(t) && !lost(f));
        slowing.filter_map(|f| f.hindrance()).map(|h| h.stretch).fold(1.0, f64::max)
    }

    fn train_steadily(&mut self, from: f64, to: f64, stretch: f64) {
        let job = self.job;
        let seconds = |phase: &Phase| phase.seconds * factor(phase.kind, stretch);
        let cycle: f64 = job.phases_of_cycle().map(seconds).sum();
        let step = job.phases.iter().filter(|p| !p.rare()).map(seconds).sum();
        let offset = to_time(job, stretch, self.work);
        self.push(from, to, Activity::Training(Pace { stretch, step, cycle, offset, first_cycle: self.cycles }));
        if to.is_finite() {
            let done = to - from + offset;
            let whole = (done / cycle).floor();
            self.cycles += whole as u64;
            self.work = to_work(job, stretch, done - whole * cycle);
        }
    }

    /// Runs steps until a GPU that is lost at `loss` (s) is waited for: the others finish what they compute. Gives that time,
    /// at most `limit` (s).
    fn train_until_missed(&mut self, begin: f64, loss: f64, limit: f64) -> f64 {
        self.train(begin, loss);
        let Some(last) = self.segments.last_mut().filter(|_| begin < loss) else { return begin };
        let Activity::Training(pace) = last.activity else { return begin };
        last.to = (last.to + rest_of_compute(self.job, self.work) * pace.stretch).min(limit);
        last.to
    }
}

fn factor(kind: PhaseKind, stretch: f64) -> f64 {
    if kind == PhaseKind::Compute { stretch } else { 1.0 }
}

/// Seconds at full speed that are left of the compute phase under way; 0 in another phase.
fn rest_of_compute(job: &Job, work: f64) -> f64 {
    let mut left = work;
    for phase in job.phases_of_cycle() {
        if left < phase.seconds {
            return if phase.kind == PhaseKind::Compute { phase.seconds - left } else { 0.0 };
        }
        left -= phase.seconds;
    }
    0.0
}

/// From progress in a cycle, in seconds at full speed, to seconds at the stretched one.
fn to_time(job: &Job, stretch: f64, work: f64) -> f64 {
    let mut left = work;
    let mut time = 0.0;
    for phase in job.phases_of_cycle() {
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
    for phase in job.phases_of_cycle() {
        let factor = factor(phase.kind, stretch);
        let part = left.min(phase.seconds * factor);
        work += part / factor;
        left -= part;
    }
    work
}
