//! What one batched call of `nvmlDeviceGetFieldValues` gives: which field is which metric.

use super::links::{self, Links};
use super::raw::{Field, Fields};
use super::values::{Absent, Values};
use super::version::DriverVersion;
use super::watch::Watch;
use gridstep_wire::catalog::{self, Rate};
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;

const fn id(name: &str) -> u32 {
    catalog::index(catalog::GPU, name)
}

/// A field of the board: its id in the numbering of CUDA 12.9, the metric that it adds to, the driver's branch that has it first (0: all that
/// are supported).
struct Source(u32, u32, u32);

const SOURCES: &[Source] = &[
    Source(185, id("power_average_watts"), 0),
    Source(190, id("power_limit_watts"), 0),
    Source(83, id("energy_joules_total"), 0),
    Source(82, id("memory_temperature_celsius"), 0),
    Source(74, id("limited_power_seconds_total"), 0),
    Source(251, id("limited_thermal_seconds_total"), 575),
    Source(252, id("limited_thermal_seconds_total"), 575),
    Source(253, id("limited_brake_seconds_total"), 575),
    Source(5, id("ecc_corrected_total"), 0),
    Source(6, id("ecc_uncorrected_total"), 0),
    // After corrected and after uncorrected errors.
    Source(142, id("remapped_rows_total"), 0),
    Source(143, id("remapped_rows_total"), 0),
    Source(144, id("remap_pending"), 0),
    Source(94, id("pcie_replays_total"), 0),
    // What hardly ever changes.
    Source(142, id("remapped_rows_corrected_total"), 0),
    Source(143, id("remapped_rows_uncorrected_total"), 0),
    Source(145, id("remap_failed"), 0),
    // CUDA 12.8.
    Source(230, id("recovery_action"), 570),
    Source(187, id("power_limit_min_watts"), 0),
    Source(188, id("power_limit_max_watts"), 0),
    Source(189, id("power_limit_default_watts"), 0),
    Source(192, id("power_limit_requested_watts"), 0),
    Source(193, id("temperature_shutdown_margin_celsius"), 0),
    Source(194, id("temperature_slowdown_margin_celsius"), 0),
    Source(195, id("memory_temperature_max_margin_celsius"), 0),
    Source(196, id("temperature_max_margin_celsius"), 0),
    Source(76, id("limited_sync_boost_seconds_total"), 0),
    Source(1, id("ecc_enabled"), 0),
    Source(95, id("pcie_replay_rollovers_total"), 0),
    Source(169, id("pcie_recoveries_total"), 0),
    Source(173, id("pcie_correctable_errors_total"), 0),
    Source(174, id("pcie_naks_received_total"), 0),
    Source(177, id("pcie_naks_sent_total"), 0),
    Source(179, id("pcie_non_fatal_errors_total"), 0),
    Source(180, id("pcie_fatal_errors_total"), 0),
    Source(256, id("power_smoothing_enabled"), 570),
    Source(257, id("power_smoothing_privilege_level"), 570),
    Source(258, id("power_smoothing_immediate_ramp_down"), 570),
    Source(259, id("power_smoothing_ceiling_watts"), 570),
    Source(260, id("power_smoothing_floor_watts"), 570),
    Source(263, id("power_smoothing_lifetime_ratio"), 570),
    Source(269, id("power_smoothing_profile"), 570),
];

/// NVML_FI_DEV_PCIE_COUNT_TX_BYTES and …_RX_BYTES, in the order of [`PCIE_BYTES`].
const PCIE_COUNTERS: [u32; 2] = [197, 198];
pub(super) const PCIE_BYTES: [u32; 2] = [id("pcie_sent_bytes_total"), id("pcie_received_bytes_total")];

impl Source {
    fn is_slow(&self) -> bool {
        catalog::GPU[self.1 as usize].rate == Rate::Slow
    }

    fn has(&self, driver: DriverVersion) -> bool {
        self.2 <= driver.major() && Field::of_board(self.0).known_to(driver)
    }
}

/// The fields of a sweep, with or without what hardly ever changes.
pub(super) struct Batch {
    fields: Fields,
    slow: bool,
    driver: DriverVersion,
}

/// What is not put into the values at once.
pub(super) struct Rest {
    /// As the driver counts it, to 4 GiB: sent, received.
    pub(super) pcie_bytes: [Result<i64, NvmlError>; 2],
    pub(super) links: Links,
}

impl Batch {
    pub(super) fn new(driver: DriverVersion, slow: bool) -> Self {
        let board = SOURCES.iter().filter(|source| (slow || !source.is_slow()) && source.has(driver));
        let board = board.map(|source| source.0).chain(PCIE_COUNTERS).map(Field::of_board);
        Self { fields: Fields::new(driver, board.chain(links::fields(slow))), slow, driver }
    }

    /// Reads all of them; None: the call failed as a whole.
    pub(super) fn read(&mut self, device: &Device<'_>, out: &mut Values, watch: &Watch) -> Option<Rest> {
        let name = if self.slow { "nvmlDeviceGetFieldValues (slow sweep)" } else { "nvmlDeviceGetFieldValues (sweep)" };
        let mut values = match watch.call(name, || self.fields.read(device)) {
            Ok(values) => values,
            Err(why) => {
                out.refuse(SOURCES.iter().map(|source| source.1).chain(PCIE_BYTES).chain(links::SUMS), why);
                return None;
            }
        };
        let mut next = || values.next().unwrap_or(Err(NvmlError::NotSupported));
        for source in SOURCES.iter().filter(|source| self.slow || !source.is_slow()) {
            let value = if source.has(self.driver) { next().map_err(Absent::from) } else { Err(Absent::OldDriver(source.2)) };
            out.add(source.1, value);
        }
        let pcie_bytes = [next(), next()];
        Some(Rest { pcie_bytes, links: Links::new(values, self.slow) })
    }
}
