//! A driver that lacks what newer ones have: fields, and functions of its library.

use crate::node::library;
use crate::signals::{measured, missing, read};
use std::path::Path;

/// Functions that the libraries of 535 and 550 lack, those that only 535 lacks, and some that no driver lacks but whose lack must cost no
/// more: the wrapper panics where it cannot free.
const LACKING: [&str; 6] = [
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetMarginTemperature",
    "nvmlDeviceGetGpuFabricInfoV",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlEventSetFree",
    "nvmlGpmSampleFree",
];

/// Writes the simulated library without these functions: under names that nobody looks up, they are not found.
fn write_without(names: &[&str], to: &Path) {
    let mut bytes = std::fs::read(library()).unwrap();
    for name in names {
        let whole: Vec<u8> = [b"\0", name.as_bytes(), b"\0"].concat();
        let places: Vec<usize> =
            (0..bytes.len() - whole.len()).filter(|&at| bytes[at..].starts_with(&whole)).map(|at| at + 1).collect();
        assert!(!places.is_empty(), "{name} is no function of the library");
        places.into_iter().for_each(|at| bytes[at] = b'X');
    }
    std::fs::write(to, bytes).unwrap();
}

#[test]
fn what_an_old_driver_lacks_costs_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libnvidia-ml.so.1");
    write_without(&LACKING, &library);
    let frame = measured(&library, "driver_version = \"535.261.03\"\n", &[]);
    assert_eq!(frame.sweeps.len(), 8);
    for sweep in &frame.sweeps {
        let lacking: Vec<&str> = [
            "temperature_margin_celsius",
            "limited_thermal_seconds_total",
            "limited_brake_seconds_total",
            "recovery_action",
            "fabric_health_mask",
            "fabric_health",
            "power_smoothing_enabled",
            "power_smoothing_privilege_level",
            "power_smoothing_immediate_ramp_down",
            "power_smoothing_ceiling_watts",
            "power_smoothing_floor_watts",
            "power_smoothing_lifetime_ratio",
            "power_smoothing_profile",
        ]
        .into();
        for name in &lacking {
            assert!(missing(sweep, name).is_some(), "{name} of a driver that has none");
        }
        assert_eq!(sweep.missing.len(), lacking.len(), "{:?}", sweep.missing);
        assert!((30.0..90.0).contains(&read(sweep, "temperature_celsius").unwrap()));
        assert_eq!(read(sweep, "fabric_state"), Some(3.0));
        assert_eq!(read(sweep, "gpm_state"), Some(1.0));
        assert!(read(sweep, "sm_active_ratio").is_some() && read(sweep, "clocks_event_reasons").is_some());
    }
    assert!(frame.costs.iter().any(|cost| cost.call == "nvmlEventSetWait_v2"));
}
