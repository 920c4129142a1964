//! What a GPU's levels are in each phase of a job, healthy or hindered.

use super::profile::{CHANNELS, Levels, Profile};
use super::{HOST_WATTS, IDLE_CLOCK, IDLE_WATTS, MAX_CLOCK};
use crate::scenario::{Hindrance, How, Job, Phase, PhaseKind, Waiting, Writers};

/// What a GPU has of its own, for good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nature {
    /// Factor, near 1, by which it draws more than the scenario says.
    pub(super) gain: f64,
    /// Watts without a process.
    pub(super) idle_watts: f64,
    /// MHz of the streaming multiprocessors under load.
    pub(super) clock: f64,
    pub(super) waiting: Waiting,
    /// Whether it is the first GPU of its job.
    pub(super) first: bool,
}

impl Nature {
    /// No process.
    pub(super) fn idle(&self) -> Profile {
        Profile::new([(1.0, levels(self.idle_watts, [0.0; 6], IDLE_CLOCK, 0.0))])
    }

    /// Processes, but no kernel.
    pub(super) fn loaded(&self) -> Profile {
        Profile::new([(1.0, self.hosted(HOST_WATTS))])
    }

    /// Waits for a GPU that is lost.
    pub(super) fn stalled(&self) -> Profile {
        Profile::new([(1.0, self.spinning(self.waiting.watts))])
    }

    /// Steps of a job whose compute is stretched by `all`, on a GPU whose own is hindered.
    pub(super) fn training(&self, job: &Job, own: Hindrance, all: f64) -> Profile {
        let spin = self.spinning(self.waiting.watts);
        Profile::new(job.phases_of_cycle().flat_map(|phase| {
            let levels = self.in_phase(phase, own);
            match phase.kind {
                PhaseKind::Compute => [(phase.seconds * own.stretch, levels), (phase.seconds * (all - own.stretch), spin)],
                _ => [(phase.seconds, levels), (0.0, spin)],
            }
        }))
    }

    fn hosted(&self, watts: f64) -> Levels {
        levels(watts * self.gain, [0.0; 6], MAX_CLOCK, 0.0)
    }

    /// Nothing hinders a clock that has little to do.
    fn spinning(&self, watts: f64) -> Levels {
        levels(watts * self.gain, [self.waiting.sm_active, 0.0, 0.01, 0.0, 0.0, 0.99], MAX_CLOCK, 0.0)
    }

    fn in_phase(&self, phase: &Phase, own: Hindrance) -> Levels {
        let clock = if own.how == How::Clock { self.clock / own.stretch } else { self.clock };
        let (sm, tensor, dram) = (phase.sm_active, phase.tensor_active, phase.dram_active);
        let (nvlink, pcie) = (phase.nvlink_gib_s, phase.pcie_gib_s);
        match phase.kind {
            PhaseKind::Compute => self.computing(phase, own, clock),
            PhaseKind::Communicate => {
                let watts = phase.watts.unwrap_or(self.waiting.watts);
                levels(watts * self.gain, [sm, tensor, dram, nvlink, pcie, 1.0], clock, 0.0)
            }
            PhaseKind::Spin => self.spinning(phase.watts.unwrap_or(self.waiting.watts)),
            PhaseKind::Checkpoint if phase.writers == Writers::First && !self.first => self.spinning(self.waiting.watts),
            PhaseKind::Checkpoint | PhaseKind::Idle => {
                let watts = phase.watts.unwrap_or(HOST_WATTS);
                levels(watts * self.gain, [sm, tensor, dram, nvlink, pcie, 0.0], clock, 0.0)
            }
        }
    }

    /// A slow GPU does the same work in more time; where its levels fall depends on what it waits for.
    fn computing(&self, phase: &Phase, own: Hindrance, clock: f64) -> Levels {
        let speed = 1.0 / own.stretch;
        let full = phase.watts.unwrap_or(IDLE_WATTS);
        let dynamic = (full - IDLE_WATTS).max(0.0);
        // Shares are of the unit's own cycles: as many of them do the same work at a lower clock.
        let (watts, sm, tensor, dram, busy) = match own.how {
            _ if own.stretch <= 1.0 => (full, 1.0, 1.0, 1.0, 1.0),
            // A lower clock comes with a lower voltage: the dynamic share falls faster than the speed.
            How::Clock => (IDLE_WATTS + dynamic * speed.powf(1.5), 1.0, 1.0, speed, 1.0),
            // Multiprocessors that wait for memory count as active; the energy of a step stays.
            How::Memory => (IDLE_WATTS + dynamic * speed, 1.0, speed, 1.0, 1.0),
            // Between kernels it stands still, at full clock.
            How::Starved => (full * speed + HOST_WATTS * (1.0 - speed), speed, speed, speed, speed),
        };
        let shares = [
            phase.sm_active * sm,
            phase.tensor_active * tensor,
            phase.dram_active * dram,
            phase.nvlink_gib_s * speed,
            phase.pcie_gib_s * speed,
            busy,
        ];
        levels(watts * self.gain, shares, clock, 1.0)
    }
}

/// In the order of [`super::Channel`].
fn levels(watts: f64, [sm, tensor, dram, nvlink, pcie, busy]: [f64; 6], clock: f64, full: f64) -> Levels {
    let levels: [f64; CHANNELS] = [watts, sm, tensor, dram, nvlink, pcie, busy, clock, full];
    levels
}
