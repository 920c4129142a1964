//! agent ═══ **wire** ═══ collector: what both ends say to each other.
//!
//! The protocol itself is `proto/telemetry.proto`; [`pb`] is generated from it (`tests/generated.rs` keeps the two alike).
//! Beside it stand what both ends must agree on: the [`catalog`] of metrics, the packing of samples into columns
//! ([`block`]), which a collector reads where they lie ([`packed`]), bits of NVML's event reasons ([`reasons`]), and stamps ([`Micros`]).

pub mod block;
pub mod catalog;
pub mod packed;
pub mod reasons;
mod time;

pub use time::Micros;

/// Generated from `proto/telemetry.proto`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
pub mod pb {
    include!("generated/gridstep.telemetry.v1.rs");
}
