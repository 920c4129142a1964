//! The metrics that agent and collector know by name.
//!
//! Names are those of the recording format. The agent declares its metrics on every stream (name, unit, kind, exponent), so
//! this list is no part of the protocol: an agent may send more, a collector takes what it knows.

mod gpu;
mod node;
mod part;

pub use gpu::GPU;
pub use node::NODE;
pub use part::{DISK, INTERFACE, NVLINK, PORT};

use crate::pb::{self, metric::Kind};

/// One metric as it is declared on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// As in recordings.
    pub name: &'static str,
    /// UCUM-like base unit.
    pub unit: &'static str,
    pub kind: Kind,
    /// value in `unit` = integer on the wire × 10^exponent.
    pub exponent: i32,
    pub rate: Rate,
    /// What it is, in one line.
    pub help: &'static str,
    /// Where the agent has it from: a call or field as nvml.h names it, a file.
    pub source: &'static str,
}

/// How often a metric is read and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// 10 times a second, or as the driver's budget allows.
    Power,
    /// Once a sweep: each second.
    Sweep,
    /// Every tenth sweep: what hardly ever changes.
    Slow,
}

/// What a metric is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Gpu,
    Node,
    /// A link of a GPU, by its number.
    Nvlink,
    /// A port of an InfiniBand or RoCE adapter: `mlx5_0/1`.
    Port,
    /// A network interface, by name.
    Interface,
    /// A disk, by the kernel's name.
    Disk,
}

impl Subject {
    pub const ALL: [Self; 6] = [Self::Gpu, Self::Node, Self::Nvlink, Self::Port, Self::Interface, Self::Disk];

    /// As in the names of series and, for parts, on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Node => "node",
            Self::Nvlink => "nvlink",
            Self::Port => "port",
            Self::Interface => "interface",
            Self::Disk => "disk",
        }
    }

    pub const fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Gpu => GPU,
            Self::Node => NODE,
            Self::Nvlink => NVLINK,
            Self::Port => PORT,
            Self::Interface => INTERFACE,
            Self::Disk => DISK,
        }
    }

    /// The agent's id of the subject's first metric; the others follow in the order of the list.
    pub const fn first_id(self) -> u32 {
        let mut id = 0;
        let mut before = 0;
        while Self::ALL[before] as u32 != self as u32 {
            id += Self::ALL[before].metrics().len() as u32;
            before += 1;
        }
        id
    }
}

/// A list, a metric in two lines: name, unit, kind, exponent and rate; then help and source.
macro_rules! catalog {
    ($(#[$doc:meta])* $list:ident; $($name:ident $unit:literal $kind:ident $exponent:literal $rate:ident: $help:literal, from $source:literal;)*) => {
        $(#[$doc])*
        pub const $list: &[$crate::catalog::Metric] = &[$($crate::catalog::Metric {
            name: stringify!($name),
            unit: $unit,
            kind: $crate::pb::metric::Kind::$kind,
            exponent: $exponent,
            rate: $crate::catalog::Rate::$rate,
            help: $help,
            source: $source,
        }),*];
    };
}
use catalog;

/// Where a metric stands in its list. In a constant an unknown name does not compile.
pub const fn index(list: &[Metric], name: &str) -> u32 {
    let mut index = 0;
    while index < list.len() {
        if same(list[index].name.as_bytes(), name.as_bytes()) {
            return index as u32;
        }
        index += 1;
    }
    panic!("no such metric in the catalog")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

impl Metric {
    /// What an integer on the wire is in `unit`. Divides where that is exact and a product is not.
    pub fn value(&self, integer: i64) -> f64 {
        match self.exponent {
            exponent if exponent < 0 => integer as f64 / 10f64.powi(-exponent),
            exponent => integer as f64 * 10f64.powi(exponent),
        }
    }

    /// The declaration under the given id.
    pub fn declare(&self, id: u32) -> pb::Metric {
        pb::Metric { id, name: self.name.into(), unit: self.unit.into(), kind: self.kind.into(), exponent: self.exponent }
    }
}
