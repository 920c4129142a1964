//! The exported C functions.
#![allow(unsafe_code, reason = "the functions are called from C and write through the caller's pointers")]
#![allow(non_snake_case, reason = "NVIDIA's names")]
#![allow(unreachable_pub, reason = "the functions are exported by name")]
#![allow(clippy::missing_safety_doc, clippy::not_unsafe_ptr_arg_deref, reason = "NVIDIA's header is their contract")]

mod events;
mod features;
mod fields;
mod gpm;
mod health;
mod identity;
mod link;
mod meter;
mod power;
mod processes;
mod samples;
mod state;
mod stubs;
mod system;
mod table;

/// `nvmlReturn_t`.
pub(crate) type Code = u32;
/// `nvmlDevice_t`.
pub(crate) type Handle = *mut nvml_wrapper_sys::bindings::nvmlDevice_st;

pub(crate) const SUCCESS: Code = 0;
pub(crate) const UNINITIALIZED: Code = 1;
pub(crate) const INVALID_ARGUMENT: Code = 2;
pub(crate) const NOT_SUPPORTED: Code = 3;
pub(crate) const NOT_FOUND: Code = 6;
pub(crate) const INSUFFICIENT_SIZE: Code = 7;
pub(crate) const DRIVER_NOT_LOADED: Code = 9;
pub(crate) const TIMEOUT: Code = 10;
pub(crate) const GPU_IS_LOST: Code = 15;
pub(crate) const IN_USE: Code = 19;
pub(crate) const VERSION_MISMATCH: Code = 25;
pub(crate) const UNKNOWN: Code = 999;
