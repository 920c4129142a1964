//! What the GPUs and their driver are like, whatever runs on them.

use serde::Deserialize;

/// What each library call costs its caller, in microseconds.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cost {
    /// Spent computing, of the calling thread's CPU time.
    pub cpu_us: u64,
    /// Spent asleep.
    pub wall_us: u64,
}

/// How the power sensor turns true watts into readings.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sensor {
    /// Length of the window, in milliseconds, that an instantaneous reading averages.
    pub window_ms: f64,
    /// Time between two publications, in milliseconds.
    pub period_ms: f64,
    /// Largest relative error of a GPU's sensor; each GPU has its own constant one.
    pub gain: f64,
    /// What the buffer of power samples holds.
    pub samples: Samples,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Samples {
    /// Each publication.
    Instant,
    /// The averages over the second before.
    Average,
}

impl Default for Sensor {
    fn default() -> Self {
        Self { window_ms: 25.0, period_ms: 100.0, gain: 0.05, samples: Samples::Instant }
    }
}

/// By how much healthy GPUs differ from each other, for good. Shares are the largest relative deviation; 0 makes all alike.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Variety {
    /// Watts for the same work.
    pub watts: f64,
    /// Watts of a GPU without a process.
    pub idle_watts: f64,
    /// Clock under load, below the full one. The step's length leaves it out: its phases are as long as the job measures them.
    pub clock: f64,
    /// °C per watt.
    pub thermal_resistance: f64,
    /// °C by which the inlet air of the last GPU of a node is warmer than that of the first.
    pub inlet_celsius: f64,
    /// °C, largest deviation of a node's inlet air.
    pub node_inlet_celsius: f64,
}

impl Default for Variety {
    fn default() -> Self {
        Self {
            watts: 0.025,
            idle_watts: 0.04,
            clock: 0.006,
            thermal_resistance: 0.08,
            inlet_celsius: 5.0,
            node_inlet_celsius: 1.5,
        }
    }
}

/// A GPU that busily waits for others in a collective.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Waiting {
    /// Board power.
    pub watts: f64,
    /// Share of streaming-multiprocessor cycles, 0 to 1.
    pub sm_active: f64,
}

impl Default for Waiting {
    /// H100s that wait in NCCL drew 150 to 157 W (grantwilkins/training_profile); 24 of their 132 multiprocessors run its
    /// kernel (NVIDIA's forum, 337991).
    fn default() -> Self {
        Self { watts: 150.0, sm_active: 0.18 }
    }
}

/// What one GPU has of its own.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuSpec {
    pub node: u32,
    pub gpu: u32,
    /// Power limit as set by its operator.
    pub power_limit_watts: u32,
}
