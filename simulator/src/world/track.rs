//! What one GPU does over all time: periodic profiles one after the other, with exact means over any interval.

use super::profile::{CHANNELS, Levels, Profile, add_scaled};
use super::{Activity, Segment, World, job};
use crate::scenario::{FaultKind, Job};

/// Seconds of scenario time from which integrals count: a day before the start, when the driver was loaded.
pub(super) const ORIGIN: f64 = -86_400.0;

/// A profile running from one moment to another.
#[derive(Debug, Clone)]
struct Epoch {
    from: f64,
    /// Seconds by which the profile had advanced at `from`.
    offset: f64,
    profile: Profile,
    /// Integral from [`ORIGIN`] to `from`.
    before: Levels,
}

impl Epoch {
    /// Integral from [`ORIGIN`] to `t`, which must not be before `from`.
    fn integral(&self, t: f64) -> Levels {
        let end = self.profile.integral(t - self.from + self.offset);
        let start = self.profile.integral(self.offset);
        add_scaled(add_scaled(self.before, end, 1.0), start, -1.0)
    }
}

/// The course of one GPU. All times are seconds of scenario time.
#[derive(Debug, Clone)]
pub struct Track {
    epochs: Vec<Epoch>,
}

impl Track {
    pub(super) fn new(world: &World, node: u32, gpu: u32) -> Self {
        let mut track = Self { epochs: Vec::new() };
        for (from, offset, profile) in course(world, node, gpu) {
            track.push(from, offset, profile);
        }
        track
    }

    fn push(&mut self, from: f64, offset: f64, profile: Profile) {
        let before = self.epochs.last().map_or([0.0; CHANNELS], |last| last.integral(from));
        if self.epochs.last().is_some_and(|last| last.from >= from) {
            self.epochs.pop();
        }
        self.epochs.push(Epoch { from, offset, profile, before });
    }

    fn epoch(&self, t: f64) -> &Epoch {
        let after = self.epochs.partition_point(|e| e.from <= t);
        &self.epochs[after.saturating_sub(1)]
    }

    /// Levels at time `t` (s).
    pub fn at(&self, t: f64) -> Levels {
        let epoch = self.epoch(t);
        epoch.profile.at(t - epoch.from + epoch.offset)
    }

    /// Integral of each channel, in its unit times seconds, from a day before scenario time 0 to `t` (s).
    pub fn integral(&self, t: f64) -> Levels {
        let t = t.max(ORIGIN);
        self.epoch(t).integral(t)
    }

    /// Mean of each channel from `from` to `to` (s).
    pub fn mean(&self, from: f64, to: f64) -> Levels {
        if to - from < 1e-9 {
            return self.at(to);
        }
        // Integrals since the common epoch, where there is one: differences of large sums would lose digits.
        let epoch = self.epoch(from);
        let difference = if std::ptr::eq(epoch, self.epoch(to)) {
            let of = |t: f64| epoch.profile.integral(t - epoch.from + epoch.offset);
            add_scaled(of(to), of(from), -1.0)
        } else {
            add_scaled(self.integral(to), self.integral(from), -1.0)
        };
        difference.map(|sum| sum / (to - from))
    }

    /// Begin (s) of each stretch with one repeating pattern, and the mean levels of that pattern.
    pub(super) fn epochs(&self) -> impl Iterator<Item = (f64, Levels)> {
        self.epochs.iter().map(|e| (e.from, e.profile.mean()))
    }

    /// Complex amplitude (W) of the power's fundamental at time `t` (s), for steps of `step` seconds without rare phases: cosine
    /// and sine part of `p(t) ~ a cos wt + b sin wt`, time counted from scenario time 0.
    pub fn fundamental(&self, t: f64, step: f64) -> (f64, f64) {
        let epoch = self.epoch(t);
        epoch.profile.fundamental(step, epoch.from - epoch.offset)
    }
}

/// From when (s), advanced by how much (s), which profile.
type Stretch = (f64, f64, Profile);

fn course(world: &World, node: u32, gpu: u32) -> Vec<Stretch> {
    let jitter = world.jitter(node);
    let nature = world.nature(node, gpu);
    let mut course = vec![(ORIGIN, 0.0, nature.idle())];
    let mut jobs: Vec<(&Job, &[Segment])> =
        world.scenario.jobs.iter().enumerate().filter(|(_, j)| j.holds(node)).map(|(i, j)| (j, world.segments(i))).collect();
    jobs.sort_by(|a, b| a.0.start.total_cmp(&b.0.start));
    for (job, segments) in jobs {
        let nature = super::work::Nature { first: node == job.first_node && gpu == 0, ..nature };
        for segment in segments {
            let (offset, profile) = match segment.activity {
                Activity::Loaded => (0.0, nature.loaded()),
                Activity::Stalled => (0.0, nature.stalled()),
                Activity::Training(pace) => {
                    let own = job::hindrance(&world.scenario.faults, node, gpu, segment.from);
                    (pace.offset, nature.training(job, own, pace.stretch))
                }
            };
            course.push((segment.from + jitter, offset, profile));
        }
        course.extend(segments.last().filter(|last| last.to.is_finite()).map(|last| (last.to + jitter, 0.0, nature.idle())));
    }
    let lost = world.scenario.faults.iter().filter(|f| f.kind == FaultKind::LostGpu && f.hits(node, gpu));
    lost.fold(course, |course, fault| without(course, fault.start, fault.end_or_forever(), nature.idle()))
}

/// The course with another profile between two times.
fn without(course: Vec<Stretch>, from: f64, to: f64, instead: Profile) -> Vec<Stretch> {
    let mut after: Option<Stretch> = None;
    let (mut kept, mut rest) = (Vec::new(), Vec::new());
    for stretch in course {
        if stretch.0 > to {
            rest.push(stretch);
            continue;
        }
        after = Some((to, stretch.1 + (to - stretch.0), stretch.2.clone()));
        if stretch.0 < from {
            kept.push(stretch);
        }
    }
    kept.push((from, 0.0, instead));
    kept.extend(after.filter(|_| to.is_finite()));
    kept.extend(rest);
    kept
}
