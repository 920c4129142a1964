//! Repeating sequences of constant pieces, with exact integrals.

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
pub(super) const CHANNELS: usize = 9;

/// One value for each [`Channel`].
pub type Levels = [f64; CHANNELS];

/// A repeating sequence of constant pieces.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Profile {
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
    pub(super) fn new(parts: impl IntoIterator<Item = (f64, Levels)>) -> Self {
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
    pub(super) fn integral(&self, tau: f64) -> Levels {
        let whole = (tau / self.length).floor();
        let within = tau - whole * self.length;
        let piece = self.piece(within);
        add_scaled(add_scaled(piece.before, piece.levels, within - piece.from), self.total, whole)
    }

    pub(super) fn at(&self, tau: f64) -> Levels {
        self.piece(tau.rem_euclid(self.length)).levels
    }

    /// Mean over a repetition.
    pub(super) fn mean(&self) -> Levels {
        self.total.map(|sum| sum / self.length)
    }

    /// Complex amplitude of the power's fundamental (W) if the first `step` seconds of the profile repeat, the profile having
    /// begun at time `zero` (s): cosine and sine part of `p(t) ~ a cos wt + b sin wt`, with `w` one turn per step.
    pub(super) fn fundamental(&self, step: f64, zero: f64) -> (f64, f64) {
        let omega = std::f64::consts::TAU / step;
        let (mut cosine, mut sine) = (0.0, 0.0);
        for (i, piece) in self.pieces.iter().enumerate().take_while(|(_, piece)| piece.from < step) {
            let end = self.pieces.get(i + 1).map_or(self.length, |next| next.from).min(step);
            let watts = piece.levels[Channel::Watts as usize];
            let (a, b) = (omega * (zero + piece.from), omega * (zero + end));
            cosine += watts * (b.sin() - a.sin());
            sine += watts * (a.cos() - b.cos());
        }
        (cosine / std::f64::consts::PI, sine / std::f64::consts::PI)
    }
}

pub(super) fn add_scaled(a: Levels, b: Levels, factor: f64) -> Levels {
    std::array::from_fn(|i| a[i] + b[i] * factor)
}
