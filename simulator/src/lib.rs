//! A simulated `libnvidia-ml.so.1`: H100s in lockstep training, with faults.
//!
//! Every process that loads the library computes the same world from the scenario, its seed and the wall clock alone, so an
//! agent, `nvidia-smi`-like tools and the ground truth agree without talking to each other.

pub mod nvml;
pub mod scenario;
pub mod truth;
pub mod world;
