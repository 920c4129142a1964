//! What an XID says, by NVIDIA's catalogue (docs.nvidia.com/deploy/xid-errors, "Common XID errors" and "Analyzing XIDs").

use crate::incidents::Severity;

/// What to call it, how bad it is and what it means; None: what the application did, or a message for the record. A crashing job sets
/// off dozens of those on healthy boards.
pub(super) fn meaning(xid: i64) -> Option<(&'static str, Severity, &'static str)> {
    use Severity::{Critical, Info, Warning};
    Some(match xid {
        46 => ("xid", Critical, "the GPU stopped processing"),
        48 => ("ecc_uncorrected", Critical, "double bit memory error"),
        61 | 62 => ("xid", Critical, "internal micro-controller halted"),
        63 => ("row_remapped", Info, "a row of memory was remapped"),
        64 => ("remap_failed", Critical, "a row of memory could not be remapped"),
        74 => ("nvlink_errors", Warning, "NVLink error"),
        79 => ("gpu_lost", Critical, "fallen off the bus"),
        92 => ("xid", Warning, "high rate of corrected memory errors"),
        94 => ("ecc_uncorrected", Warning, "contained memory error"),
        95 => ("ecc_uncorrected", Critical, "uncontained memory error"),
        119 | 120 => ("xid", Critical, "the GPU's system processor does not answer"),
        140 => ("ecc_uncorrected", Critical, "unrecovered memory error"),
        143 => ("xid", Critical, "the GPU could not be initialised"),
        _ => return None,
    })
}
