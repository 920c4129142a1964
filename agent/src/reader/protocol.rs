//! Frames from reader to supervisor: length-delimited protobuf on a pipe.

use gridstep_wire::catalog::Subject;
use prost::Message;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

/// Everything of one tick. A frame is also a sign of life.
#[derive(Clone, PartialEq, Message)]
pub struct Frame {
    /// With the first frame after the driver answered.
    #[prost(message, optional, tag = "1")]
    pub inventory: Option<Inventory>,
    #[prost(message, repeated, tag = "2")]
    pub power: Vec<Power>,
    #[prost(message, repeated, tag = "3")]
    pub sweeps: Vec<Sweep>,
    /// GPUs that the driver has lost, by index.
    #[prost(uint32, repeated, tag = "4")]
    pub lost: Vec<u32>,
    /// A call has outlasted its deadline. The reader ends.
    #[prost(message, optional, tag = "5")]
    pub hung: Option<Hung>,
    /// No driver answers, and why.
    #[prost(string, tag = "6")]
    pub waiting: String,
    /// Wall time inside the driver since the frame before, microseconds.
    #[prost(uint64, tag = "7")]
    pub driver_us: u64,
    #[prost(message, repeated, tag = "8")]
    pub xids: Vec<Xid>,
    /// What calls cost, where that is measured.
    #[prost(message, repeated, tag = "9")]
    pub costs: Vec<Cost>,
    /// How often GPUs are read, where that has changed.
    #[prost(message, repeated, tag = "10")]
    pub paces: Vec<Pace>,
    /// The driver that was open has gone. The reader ends.
    #[prost(string, tag = "11")]
    pub gone: String,
}

/// How often a GPU is read.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Pace {
    #[prost(uint32, tag = "1")]
    pub gpu: u32,
    /// "field" or "samples".
    #[prost(string, tag = "2")]
    pub source: String,
    /// Between two values of power, between two calls for them, between two sweeps.
    #[prost(uint64, tag = "3")]
    pub power_period_us: u64,
    #[prost(uint64, tag = "4")]
    pub call_period_us: u64,
    #[prost(uint64, tag = "5")]
    pub sweep_period_us: u64,
    /// What one of those calls costs; 0: not known yet.
    #[prost(uint64, tag = "6")]
    pub call_us: u64,
    /// Why power comes from there.
    #[prost(string, tag = "7")]
    pub why: String,
}

impl Pace {
    /// Whether the other one is the same but for what calls cost.
    pub(super) fn same(&self, other: &Self) -> bool {
        let read = |pace: &Self| (pace.power_period_us, pace.call_period_us, pace.sweep_period_us);
        self.source == other.source && self.why == other.why && read(self) == read(other)
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Hung {
    /// None: the call is for no GPU in particular.
    #[prost(uint32, optional, tag = "1")]
    pub gpu: Option<u32>,
    /// As nvml.h names it.
    #[prost(string, tag = "2")]
    pub call: String,
}

/// An XID that the driver reported, or another event.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Xid {
    #[prost(uint32, tag = "1")]
    pub gpu: u32,
    /// When the reader heard of it, microseconds since the epoch.
    #[prost(sfixed64, tag = "2")]
    pub ts_us: i64,
    #[prost(uint64, tag = "3")]
    pub code: u64,
    /// Empty: an XID. Else another event that the driver told, of this kind.
    #[prost(string, tag = "4")]
    pub kind: String,
    /// How often, up to then, since the frame before.
    #[prost(uint64, tag = "5")]
    pub count: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Cost {
    /// As nvml.h names it.
    #[prost(string, tag = "1")]
    pub call: String,
    /// Of each time that it was made.
    #[prost(double, repeated, tag = "2")]
    pub microseconds: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Inventory {
    #[prost(string, tag = "1")]
    pub driver_version: String,
    #[prost(string, tag = "2")]
    pub nvml_version: String,
    #[prost(message, repeated, tag = "3")]
    pub gpus: Vec<Gpu>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Gpu {
    #[prost(uint32, tag = "1")]
    pub index: u32,
    #[prost(string, tag = "2")]
    pub uuid: String,
    #[prost(string, tag = "3")]
    pub model: String,
    #[prost(string, tag = "4")]
    pub pci_bus_id: String,
    #[prost(string, tag = "5")]
    pub serial: String,
}

/// Instantaneous power of one board.
#[derive(Clone, PartialEq, Message)]
pub struct Power {
    #[prost(uint32, tag = "1")]
    pub gpu: u32,
    /// Estimated centre of the sensor's window, microseconds since the epoch.
    #[prost(sfixed64, tag = "2")]
    pub ts_us: i64,
    #[prost(uint32, tag = "3")]
    pub milliwatts: u32,
    /// Bound on the error of the stamp, microseconds.
    #[prost(uint32, tag = "4")]
    pub error_us: u32,
}

/// Everything else of one GPU, integers in the units of `gridstep_wire::catalog::GPU`.
#[derive(Clone, PartialEq, Message)]
pub struct Sweep {
    #[prost(uint32, tag = "1")]
    pub gpu: u32,
    #[prost(sfixed64, tag = "2")]
    pub ts_us: i64,
    /// Indices into the catalog, and their values.
    #[prost(uint32, repeated, tag = "3")]
    pub metrics: Vec<u32>,
    #[prost(sint64, repeated, tag = "4")]
    pub values: Vec<i64>,
    /// Compute processes.
    #[prost(uint32, repeated, tag = "5")]
    pub pids: Vec<u32>,
    /// Metrics without a value, where that is measured; and why `gpm_state` is that performance monitoring is refused.
    #[prost(message, repeated, tag = "6")]
    pub missing: Vec<Missing>,
    /// With what is read only every so often (`Rate::Slow`) too.
    #[prost(bool, tag = "7")]
    pub slow: bool,
    /// Parts that were read, each kind of them whole.
    #[prost(message, repeated, tag = "8")]
    pub parts: Vec<Part>,
    /// Metrics of readings that were dropped since the sweep before: no board can show such a value.
    #[prost(uint32, repeated, tag = "20")]
    pub implausible: Vec<u32>,
}

/// A part of a GPU or of the node, with the values that it has itself.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Part {
    /// Place in `Subject::ALL`.
    #[prost(uint32, tag = "1")]
    pub subject: u32,
    #[prost(string, tag = "2")]
    pub name: String,
    /// Places in the list of the subject's metrics, and their values.
    #[prost(uint32, repeated, tag = "3")]
    pub metrics: Vec<u32>,
    #[prost(sint64, repeated, tag = "4")]
    pub values: Vec<i64>,
}

impl Part {
    pub(crate) fn new(subject: Subject, name: String) -> Self {
        Self { subject: subject as u32, name, ..Self::default() }
    }

    pub(crate) fn put(&mut self, metric: u32, value: i64) {
        self.metrics.push(metric);
        self.values.push(value);
    }

    /// None: of no kind that is known.
    pub(crate) fn subject(&self) -> Option<Subject> {
        Subject::ALL.get(self.subject as usize).copied()
    }
}

impl Sweep {
    pub(crate) fn put(&mut self, metric: u32, value: i64) {
        self.metrics.push(metric);
        self.values.push(value);
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Missing {
    /// Index into the catalog.
    #[prost(uint32, tag = "1")]
    pub metric: u32,
    /// What NVML said.
    #[prost(string, tag = "2")]
    pub why: String,
}

/// Writes one frame to standard output, at once: `Stdout` itself would cut it wherever a byte looks like the end of a line, and
/// each piece wakes the agent.
pub fn write(frame: &Frame) -> io::Result<()> {
    static OUT: Mutex<Option<File>> = Mutex::new(None);
    let mut out = OUT.lock().unwrap_or_else(PoisonError::into_inner);
    let out = match &mut *out {
        Some(out) => out,
        none => none.insert(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
    };
    out.write_all(&frame.encode_length_delimited_to_vec())
}
