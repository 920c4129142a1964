//! Which call is being made, for how long, and what calls cost.

use super::protocol::{self, Cost, Frame};
use nvml_wrapper::error::NvmlError;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Without persistence mode the call for its handle initialises a GPU, which takes seconds: opening has so many deadlines.
const OPENING: u32 = 10;

/// Shared between the thread that calls the driver and the one that watches it.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    state: Mutex<State>,
    /// Notes what each call costs. Then every call has the deadline for itself, not a GPU's reading as a whole.
    measures: bool,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    /// Spent inside the driver, and what of that has been told.
    driver: Duration,
    told: Duration,
    /// Microseconds of each call, by its name.
    costs: BTreeMap<&'static str, Vec<f64>>,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    /// None: a call for no GPU in particular.
    gpu: Option<u32>,
    call: &'static str,
    since: Instant,
    /// Deadlines that it has.
    deadlines: u32,
}

impl Watch {
    pub(super) fn measuring() -> Self {
        Self { measures: true, ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What follows, until [`Self::leave`], is for this GPU.
    pub(super) fn enter(&self, gpu: Option<u32>) {
        self.lock().current = Some(Current { gpu, call: "", since: Instant::now(), deadlines: 1 });
    }

    /// The same while the GPU is opened for the first time.
    pub(super) fn enter_opening(&self, gpu: u32) {
        self.lock().current = Some(Current { gpu: Some(gpu), call: "", since: Instant::now(), deadlines: OPENING });
    }

    pub(super) fn leave(&self) {
        self.lock().current = None;
    }

    /// Makes a call, by the name it has in nvml.h.
    pub(super) fn call<T>(&self, name: &'static str, call: impl FnOnce() -> Result<T, NvmlError>) -> Result<T, NvmlError> {
        let begun = Instant::now();
        if let Some(current) = &mut self.lock().current {
            current.call = name;
            if self.measures {
                current.since = begun;
            }
        }
        let result = call();
        let took = begun.elapsed();
        let mut state = self.lock();
        state.driver += took;
        if self.measures {
            state.costs.entry(name).or_default().push(took.as_secs_f64() * 1e6);
        }
        result
    }

    /// Wall time inside the driver so far.
    pub(super) fn spent(&self) -> Duration {
        self.lock().driver
    }

    /// Wall time inside the driver since this was last asked, microseconds.
    pub(super) fn take_driver_us(&self) -> u64 {
        let mut state = self.lock();
        let fresh = state.driver - state.told;
        state.told = state.driver;
        u64::try_from(fresh.as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn take_costs(&self) -> Vec<Cost> {
        let costs = std::mem::take(&mut self.lock().costs);
        costs.into_iter().map(|(call, microseconds)| Cost { call: call.into(), microseconds }).collect()
    }

    /// Ends the process when a call hangs, after it was said which.
    pub(super) fn spawn(self: Arc<Self>, deadline: Duration) -> std::io::Result<()> {
        let body = move || {
            loop {
                let current = self.lock().current;
                let left =
                    current.map_or(deadline, |current| (current.deadlines * deadline).saturating_sub(current.since.elapsed()));
                if let (Duration::ZERO, Some(Current { gpu, call, .. })) = (left, current) {
                    let hung = protocol::Hung { gpu, call: call.into() };
                    let _ = protocol::write(&Frame { hung: Some(hung), ..Frame::default() });
                    std::process::exit(1);
                }
                // A call that begins meanwhile cannot outlast its deadline before the next look.
                std::thread::sleep(left.min(deadline));
            }
        };
        std::thread::Builder::new().name("watch".into()).spawn(body).map(drop)
    }
}
