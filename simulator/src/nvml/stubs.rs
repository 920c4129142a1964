//! Every name that is not modelled.

use super::NOT_SUPPORTED;

include!(concat!(env!("OUT_DIR"), "/stubs.rs"));
