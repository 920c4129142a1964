//! Every name that is not modelled: "not supported", once the library is initialised, the handle is good and the GPU is there.
//!
//! Of what third-party clients call, a real H100 SXM5 under Linux refuses these too: `nvidia-smi -q` printed "N/A" for the first
//! five rows and the last on such a board with driver 560.35.03, as somebody published it; the others are by the header's notes.
//!
//! | function | why |
//! |---|---|
//! | `DeviceGetFanSpeed`, `_v2` | air and liquid are the chassis' business: the module has no fan |
//! | `DeviceGetRetiredPages`, `_v2`, `…PendingStatus` | rows are remapped instead since Ampere |
//! | `DeviceGetAutoBoostedClocksEnabled` | Kepler's and Maxwell's |
//! | `DeviceGetDriverModel`, `_v2`; `DeviceGetGpuOperationMode` | Windows; Kepler's GK110 |
//! | `DeviceGetBridgeChipInfo` | boards with two GPUs |
//! | `DeviceGetAccountingPids` | accounting is off |
//! | `DeviceGetAttributes_v2` | only for MIG devices |
//! | `DeviceGetGridLicensableFeatures_v4` | no vGPU guest |
//! | `DeviceGetHostVgpuMode`, `DeviceGetVgpuHeterogeneousMode` | no vGPU host |

use super::state::{with_gpu, with_simulation};
use super::{Code, Handle, NOT_SUPPORTED};

include!(concat!(env!("OUT_DIR"), "/stubs.rs"));
