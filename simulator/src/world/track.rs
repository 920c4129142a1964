//! What one GPU does over all time: periodic profiles one after the other, with exact means over any interval.

use super::{IDLE_WATTS, SPIN_WATTS, Segment, World, job};
use crate::scenario::{Job, PhaseKind};

/// A quantity that a GPU has at every moment; index into [`Levels`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// True board power, W.
    Watts,
    /// Share of streaming-multiprocessor cycles, 0 to 1; likewise tensor cores and memory.
    Sm,
    Tensor,
    Dram,
    /// GiB/s in each direction.
    Nvlink,
    /// GiB/s in each direction.
    Pcie,
    /// 1 while a kernel runs, else 0.
    Busy,
    /// MHz of the streaming multiprocessors.
    Clock,
    /// 1 while computing, else 0.
    Full,
}

/// Number of channels.
const CHANNELS: usize = 9;

/// One value for each [`Channel`].
pub type Levels = [f64; CHANNELS];

/// Seconds of scenario time from which integrals count: a day before the start, when the driver was loaded.
pub(super) const ORIGIN: f64 = -86_400.0;

/// MHz of the streaming multiprocessors at full clock.
pub(super) const MAX_CLOCK: f64 = 1980.0;

/// A repeating sequence of constant pieces.
#[derive(Debug, Clone, PartialEq)]
struct Profile {
    pieces: Vec<Piece>,
    /// Seconds after which it repeats.
    length: f64,
    /// Integral over one repetition.
    total: Levels,
}

#[derive(Debug, Clone, PartialEq)]
struct Piece {
    /// Seconds since the repetition began.
    from: f64,
    levels: Levels,
    /// Integral from the repetition's begin to `from`.
    before: Levels,
}

impl Profile {
    fn new(parts: impl IntoIterator<Item = (f64, Levels)>) -> Self {
        let mut profile = Self { pieces: Vec::new(), length: 0.0, total: [0.0; CHANNELS] };
        for (seconds, levels) in parts.into_iter().filter(|(seconds, _)| *seconds > 0.0) {
            profile.pieces.push(Piece { from: profile.length, levels, before: profile.total });
            profile.length += seconds;
            profile.total = add_scaled(profile.total, levels, seconds);
        }
        profile
    }

    fn piece(&self, within: f64) -> &Piece {
        let after = self.pieces.partition_point(|p| p.from <= within);
        &self.pieces[after.saturating_sub(1)]
    }

    /// Integral over `tau` seconds from the begin of a repetition.
    fn integral(&self, tau: f64) -> Levels {
        let whole = (tau / self.length).floor();
        let within = tau - whole * self.length;
        let piece = self.piece(within);
        add_scaled(add_scaled(piece.before, piece.levels, within - piece.from), self.total, whole)
    }

    fn at(&self, tau: f64) -> Levels {
        self.piece(tau.rem_euclid(self.length)).levels
    }
}

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
        let gain = world.gain(node, gpu);
        let jitter = world.jitter(node);
        let mut track = Self { epochs: Vec::new() };
        track.push(ORIGIN, 0.0, idle(gain));
        let mut jobs: Vec<(&Job, &[Segment])> =
            world.scenario.jobs.iter().enumerate().filter(|(_, j)| j.holds(node)).map(|(i, j)| (j, world.segments(i))).collect();
        jobs.sort_by(|a, b| a.0.start.total_cmp(&b.0.start));
        for (job, segments) in jobs {
            for segment in segments {
                let own = job::gpu_stretch(&world.scenario.faults, node, gpu, segment.from);
                track.push(segment.from + jitter, segment.offset, training(job, own, segment.stretch, gain));
            }
            if let Some(end) = job.end {
                track.push(end + jitter, 0.0, idle(gain));
            }
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
        self.epochs.iter().map(|e| (e.from, e.profile.total.map(|sum| sum / e.profile.length)))
    }

    /// Complex amplitude of the power's fundamental (W) at time `t` (s): cosine and sine part of `p(t) ~ a cos wt + b sin wt`,
    /// with `w` one turn per repetition and time counted from scenario time 0.
    pub fn fundamental(&self, t: f64) -> (f64, f64) {
        let epoch = self.epoch(t);
        let profile = &epoch.profile;
        let omega = std::f64::consts::TAU / profile.length;
        let zero = epoch.from - epoch.offset;
        let (mut cosine, mut sine) = (0.0, 0.0);
        for (i, piece) in profile.pieces.iter().enumerate() {
            let end = profile.pieces.get(i + 1).map_or(profile.length, |next| next.from);
            let watts = piece.levels[Channel::Watts as usize];
            let (a, b) = (omega * (zero + piece.from), omega * (zero + end));
            cosine += watts * (b.sin() - a.sin());
            sine += watts * (a.cos() - b.cos());
        }
        (cosine / std::f64::consts::PI, sine / std::f64::consts::PI)
    }
}

fn idle(gain: f64) -> Profile {
    let mut levels = [0.0; CHANNELS];
    levels[Channel::Watts as usize] = IDLE_WATTS * gain;
    levels[Channel::Clock as usize] = 345.0;
    Profile::new([(1.0, levels)])
}

/// One iteration on a GPU whose compute is stretched by `own`, in a job whose compute is stretched by `all`.
fn training(job: &Job, own: f64, all: f64, gain: f64) -> Profile {
    // Indexed by channel.
    let spin = [SPIN_WATTS * gain, 0.18, 0.0, 0.01, 0.0, 0.0, 0.99, MAX_CLOCK, 0.0];
    let speed = 1.0 / own;
    Profile::new(job.phases.iter().flat_map(|phase| {
        let compute = phase.kind == PhaseKind::Compute;
        // A slow GPU does the same work in more time.
        let rate = if compute { speed } else { 1.0 };
        let busy = if phase.kind == PhaseKind::Idle { 0.0 } else { 1.0 };
        // A lower clock comes with a lower voltage: the dynamic share falls faster than the speed.
        let watts =
            if compute && own > 1.0 { IDLE_WATTS + (phase.watts - IDLE_WATTS).max(0.0) * speed.powf(1.5) } else { phase.watts };
        let levels = [
            watts * gain,
            phase.sm_active,
            phase.tensor_active * rate,
            phase.dram_active * rate,
            phase.nvlink_gib_s * rate,
            phase.pcie_gib_s * rate,
            busy,
            MAX_CLOCK * speed,
            if compute { 1.0 } else { 0.0 },
        ];
        let (length, wait) = if compute { (phase.seconds * own, phase.seconds * (all - own)) } else { (phase.seconds, 0.0) };
        [(length, levels), (wait, spin)]
    }))
}

fn add_scaled(a: Levels, b: Levels, factor: f64) -> Levels {
    std::array::from_fn(|i| a[i] + b[i] * factor)
}
