//! nvml-wrapper. The library takes its scenario from the environment, so each world lives in a process of its own: the
//! tests start this executable again for the one hidden test that the world needs.

use std::process::Command;
use std::time::Duration;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{Clock, Sampling, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;

use crate::{library, scenario, start};

fn nvml() -> Nvml {
    Nvml::builder().lib_path(library().as_os_str()).init().expect("the library initialises")
}

/// Runs a hidden test in a world.
fn in_world(file: &str, elapsed: f64, test: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("wrapper::{test}"), "--ignored", "--nocapture"])
        .env("GRIDSTEP_SIM_SCENARIO", scenario(file))
        .env("GRIDSTEP_SIM_START", start(elapsed))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("1 passed"), "{printed}");
}

#[test]
fn a_healthy_node_reads_well() {
    in_world("single.toml", 100.0, "healthy");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn healthy() {
    let nvml = nvml();
    assert_eq!(nvml.device_count().unwrap(), 8);
    assert_eq!(nvml.sys_driver_version().unwrap(), "580.95.05");
    let mut uuids = std::collections::BTreeSet::new();
    for index in 0..8 {
        let gpu = nvml.device_by_index(index).unwrap();
        assert_eq!(gpu.name().unwrap(), "NVIDIA H100 80GB HBM3");
        uuids.insert(gpu.uuid().unwrap());
        assert!((200_000..660_000).contains(&gpu.power_usage().unwrap()));
        assert!((40..75).contains(&gpu.temperature(TemperatureSensor::Gpu).unwrap()));
        assert!([1965, 1980].contains(&gpu.clock_info(Clock::SM).unwrap()));
        assert!(gpu.utilization_rates().unwrap().gpu > 90);
        assert_eq!(gpu.running_compute_processes().unwrap()[0].pid, 4242);
        assert_eq!(gpu.samples(Sampling::Power, None).unwrap().len(), 120);
        assert_eq!(gpu.memory_info().unwrap().total, 81_559 << 20);
        assert!(gpu.link_wrapper_for(17).is_active().unwrap());
        let before = gpu.total_energy_consumption().unwrap();
        std::thread::sleep(Duration::from_millis(30));
        assert!(gpu.total_energy_consumption().unwrap() > before);

        let first = gpu.gpm_sample().unwrap();
        std::thread::sleep(Duration::from_millis(110));
        let second = gpu.gpm_sample().unwrap();
        let ids = [nvml_wrapper::enums::gpm::GpmMetricId::SmUtil, nvml_wrapper::enums::gpm::GpmMetricId::DramBwUtil];
        let metrics = nvml_wrapper::gpm::gpm_metrics_get(&nvml, &first, &second, &ids).unwrap();
        assert!((15.0..95.0).contains(&metrics[0].as_ref().unwrap().value));
    }
    assert_eq!(uuids.len(), 8);
}

#[test]
fn event_reason_fields_follow_the_driver() {
    in_world("single.toml", 100.0, "renumbered");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn renumbered() {
    let nvml = nvml();
    let gpu = nvml.device_by_index(0).unwrap();
    // The wrapper asks a driver of 580.82 or later for 269 when told 251.
    let values = gpu.field_values_for(&[FieldId(251), FieldId(252), FieldId(186), FieldId(9999)]).unwrap();
    assert!(values[0].as_ref().unwrap().value.is_ok());
    assert!(values[1].as_ref().unwrap().value.is_ok());
    assert!(values[2].as_ref().unwrap().value.is_ok());
    let unknown = match &values[3] {
        Ok(sample) => sample.value.is_err(),
        Err(_) => true,
    };
    assert!(unknown);
}

#[test]
fn a_lost_gpu_is_lost_and_the_others_are_not() {
    in_world("lost.toml", 100.0, "lost");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn lost() {
    let nvml = nvml();
    assert_eq!(nvml.device_count().unwrap(), 8);
    for index in 0..8 {
        let power = nvml.device_by_index(index).unwrap().power_usage();
        assert_eq!(matches!(power, Err(NvmlError::GpuLost)), index == 3, "{index}: {power:?}");
    }
}

#[test]
fn an_xid_arrives_as_an_event() {
    in_world("xid.toml", 8.0, "xid");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn xid() {
    let nvml = nvml();
    let set = nvml.create_event_set().unwrap();
    let set = nvml.device_by_index(4).unwrap().register_events(EventTypes::CRITICAL_XID_ERROR, set).unwrap();
    assert!(matches!(set.wait(50), Err(NvmlError::Timeout)));
    let event = set.wait(5000).unwrap();
    assert_eq!(event.device.index().unwrap(), 4);
    assert!(format!("{event:?}").contains("79"), "{event:?}");
    assert!(matches!(set.wait(50), Err(NvmlError::Timeout)));
}

#[test]
fn a_hung_gpu_holds_its_caller_and_no_other() {
    in_world("hung.toml", 100.0, "hung");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn hung() {
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let nvml = nvml();
        told.send(nvml.device_by_index(1).unwrap().power_usage().is_ok()).unwrap();
        let _ = nvml.device_by_index(2).unwrap().power_usage();
        told.send(false).unwrap();
    });
    assert!(heard.recv_timeout(Duration::from_secs(20)).unwrap());
    // The silence is the result: nothing else tells a call that hangs from one that is under way.
    assert!(heard.recv_timeout(Duration::from_millis(500)).is_err());
}

#[test]
fn a_slow_gpu_makes_its_caller_wait() {
    in_world("slow.toml", 20.0, "slow");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn slow() {
    let nvml = nvml();
    let gpu = nvml.device_by_index(1).unwrap();
    let begin = std::time::Instant::now();
    gpu.power_usage().unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(200));
}
