//! Who is there: nodes, GPUs and jobs as small integers, where nodes stand, and which metrics the judging knows.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Index of a node in all columns of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeSlot(pub u32);

/// Index of a GPU in all columns of GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GpuSlot(pub u32);

/// Index of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobSlot(pub u32);

/// Index of a site meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MeterSlot(pub u32);

macro_rules! metrics {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($variant,)* }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            pub const COUNT: usize = Self::ALL.len();

            /// As on the wire and in recordings.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

metrics! {
    /// What is judged of a GPU at 1 Hz, besides its power. Units are in the names; ratios are 0 to 1.
    GpuMetric {
        PowerAverage = "power_average_watts",
        Energy = "energy_joules_total",
        Temperature = "temperature_celsius",
        MemoryTemperature = "memory_temperature_celsius",
        HbmUsed = "hbm_used_bytes",
        SmClock = "sm_clock_mhz",
        MemoryClock = "memory_clock_mhz",
        Utilization = "gpu_utilization_ratio",
        SmActive = "sm_active_ratio",
        TensorActive = "tensor_active_ratio",
        DramActive = "dram_active_ratio",
        EventReasons = "clocks_event_reasons",
        LimitedPower = "limited_power_seconds_total",
        LimitedThermal = "limited_thermal_seconds_total",
        LimitedBrake = "limited_brake_seconds_total",
        PowerLimit = "power_limit_watts",
        PcieGeneration = "pcie_link_generation",
        PcieWidth = "pcie_link_width",
        PcieBytes = "pcie_bytes_per_second",
        NvlinkBytes = "nvlink_bytes_per_second",
        PcieReplays = "pcie_replays_total",
        NvlinkErrors = "nvlink_errors_total",
        EccCorrected = "ecc_corrected_total",
        EccUncorrected = "ecc_uncorrected_total",
        RemappedRows = "remapped_rows_total",
        RemapPending = "remap_pending",
        NvlinkLinksUp = "nvlink_links_up",
        Up = "up",
        Xid = "xid",
    }
}

metrics! {
    /// What is judged of a node at 1 Hz, besides its power.
    NodeMetric {
        CpuPower = "cpu_power_watts",
        CpuUtilization = "cpu_utilization_ratio",
        CpuPressure = "cpu_pressure_ratio",
        MemoryUsed = "memory_used_bytes",
        NetworkBytes = "network_bytes_per_second",
        NetworkLink = "network_link_bits_per_second",
        NetworkErrors = "network_errors_total",
        ClockError = "clock_error_seconds",
    }
}

impl GpuMetric {
    /// Of the precision that recordings have: it is judged so, live and in a replay.
    pub fn as_recorded(self, value: f64) -> f64 {
        use GpuMetric::*;
        match self {
            Energy | HbmUsed | EventReasons | LimitedPower | LimitedThermal | LimitedBrake => value,
            PcieReplays | NvlinkErrors | EccCorrected | EccUncorrected | RemappedRows | Xid => value,
            _ => f64::from(value as f32),
        }
    }
}

impl NodeMetric {
    /// As [`GpuMetric::as_recorded`].
    pub fn as_recorded(self, value: f64) -> f64 {
        use NodeMetric::*;
        match self {
            MemoryUsed | NetworkBytes | NetworkLink | NetworkErrors => value,
            _ => f64::from(value as f32),
        }
    }
}

/// One line of the topology file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub node: String,
    pub rack: String,
    pub feeder: String,
    /// Counted in the inventory: silence and completeness are judged against nodes in service.
    pub in_service: bool,
}

/// Names and places of everything that has a slot. Slots are given once and never taken back.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Fleet {
    nodes: Vec<Node>,
    gpus: Vec<Gpu>,
    jobs: Vec<String>,
    #[serde(default)]
    meters: Vec<Meter>,
    #[serde(skip)]
    node_by_name: HashMap<String, NodeSlot>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Node {
    pub name: String,
    /// None: the topology file does not know the node.
    pub place: Option<Place>,
    /// By NVML index.
    gpus: Vec<Option<GpuSlot>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Gpu {
    pub node: NodeSlot,
    /// NVML index on its node.
    pub index: u8,
    pub uuid: String,
    pub model: String,
}

/// A meter of the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    pub name: String,
    pub feeder: Option<String>,
}

impl Node {
    pub fn has_gpus(&self) -> bool {
        self.gpus.iter().any(Option::is_some)
    }
}

impl Fleet {
    pub fn new(topology: &[Place]) -> Self {
        let mut fleet = Self::default();
        fleet.place(topology);
        fleet
    }

    /// Places the nodes as the topology has it; what it does not name has no place.
    pub fn place(&mut self, topology: &[Place]) {
        self.nodes.iter_mut().for_each(|node| node.place = None);
        for place in topology {
            let slot = self.node(&place.node);
            self.nodes[slot.0 as usize].place = Some(place.clone());
        }
    }

    /// The node's slot, a new one if it has none.
    pub fn node(&mut self, name: &str) -> NodeSlot {
        if self.node_by_name.len() != self.nodes.len() {
            // After deserialising.
            self.node_by_name = (0..).map(NodeSlot).zip(&self.nodes).map(|(slot, node)| (node.name.clone(), slot)).collect();
        }
        if let Some(&slot) = self.node_by_name.get(name) {
            return slot;
        }
        let slot = NodeSlot(self.nodes.len() as u32);
        self.nodes.push(Node { name: name.into(), place: None, gpus: Vec::new() });
        self.node_by_name.insert(name.into(), slot);
        slot
    }

    /// The GPU's slot, a new one if it has none.
    pub fn gpu(&mut self, node: NodeSlot, index: u8) -> GpuSlot {
        let known = &mut self.nodes[node.0 as usize].gpus;
        if known.len() <= usize::from(index) {
            known.resize(usize::from(index) + 1, None);
        }
        let next = GpuSlot(self.gpus.len() as u32);
        let slot = *known[usize::from(index)].get_or_insert(next);
        if slot == next {
            self.gpus.push(Gpu { node, index, uuid: String::new(), model: String::new() });
        }
        slot
    }

    /// What the driver says the GPU is.
    pub fn identify(&mut self, gpu: GpuSlot, uuid: &str, model: &str) {
        let gpu = &mut self.gpus[gpu.0 as usize];
        gpu.uuid = uuid.into();
        gpu.model = model.into();
    }

    /// The job's slot, a new one if it has none.
    pub fn job(&mut self, name: &str) -> JobSlot {
        let found = self.jobs.iter().position(|job| job == name);
        JobSlot(found.unwrap_or_else(|| {
            self.jobs.push(name.into());
            self.jobs.len() - 1
        }) as u32)
    }

    /// The meter's slot, a new one if it has none.
    pub fn meter(&mut self, name: &str, feeder: Option<&str>) -> MeterSlot {
        let found = self.meters.iter().position(|meter| meter.name == name);
        let slot = found.unwrap_or_else(|| {
            self.meters.push(Meter { name: name.into(), feeder: None });
            self.meters.len() - 1
        });
        if let Some(feeder) = feeder {
            self.meters[slot].feeder = Some(feeder.into());
        }
        MeterSlot(slot as u32)
    }

    pub fn meters(&self) -> &[Meter] {
        &self.meters
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn gpus(&self) -> &[Gpu] {
        &self.gpus
    }

    pub fn jobs(&self) -> &[String] {
        &self.jobs
    }

    pub fn node_of(&self, gpu: GpuSlot) -> NodeSlot {
        self.gpus[gpu.0 as usize].node
    }

    pub fn node_name(&self, node: NodeSlot) -> &str {
        &self.nodes[node.0 as usize].name
    }

    pub fn job_name(&self, job: JobSlot) -> &str {
        &self.jobs[job.0 as usize]
    }

    /// GPUs of a node, in the order of their index.
    pub fn gpus_of(&self, node: NodeSlot) -> impl Iterator<Item = GpuSlot> + '_ {
        self.nodes[node.0 as usize].gpus.iter().flatten().copied()
    }
}
