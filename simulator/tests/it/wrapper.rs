//! A healthy node and slow calls, through nvml-wrapper.

use std::time::{Duration, Instant};

use nvml_wrapper::enum_wrappers::device::{Clock, Sampling, TemperatureSensor};
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::gpm::gpm_metrics_get;
use nvml_wrapper::structs::device::FieldId;
use rustix::time::{ClockId, clock_gettime};

use crate::world::{COMPUTING, nvml, of_file, run, until};

#[test]
fn a_healthy_node_reads_well() {
    run(&of_file("single.toml"), 100.0, "wrapper::healthy");
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
    }
    assert_eq!(uuids.len(), 8);

    let gpus: Vec<_> = (0..8).map(|index| nvml.device_by_index(index).unwrap()).collect();
    let before: Vec<_> = gpus.iter().map(|gpu| (gpu.total_energy_consumption().unwrap(), gpu.gpm_sample().unwrap())).collect();
    for (gpu, (energy, first)) in gpus.iter().zip(before) {
        until(|| (gpu.total_energy_consumption().unwrap() > energy).then_some(()));
        let second = gpu.gpm_sample().unwrap();
        let metrics = gpm_metrics_get(&nvml, &first, &second, &[GpmMetricId::SmUtil, GpmMetricId::DramBwUtil]).unwrap();
        assert!((15.0..95.0).contains(&metrics[0].as_ref().unwrap().value));
        assert!((15.0..45.0).contains(&metrics[1].as_ref().unwrap().value));
    }
}

#[test]
fn event_reason_fields_follow_the_driver() {
    run(&of_file("single.toml"), 100.0, "wrapper::renumbered");
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
fn a_hung_gpu_holds_its_caller_and_no_other() {
    run(&of_file("hung.toml"), 100.0, "wrapper::hung");
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
    run(&of_file("slow.toml"), 20.0, "wrapper::slow");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn slow() {
    let nvml = nvml();
    let gpu = nvml.device_by_index(1).unwrap();
    let begin = Instant::now();
    gpu.power_usage().unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(200));
}

#[test]
fn every_call_costs_what_the_scenario_says() {
    run(&format!("{COMPUTING}[cost]\ncpu_us = 1000\nwall_us = 2000\n"), 100.0, "wrapper::costly");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn costly() {
    const CALLS: u32 = 40;
    let nvml = nvml();
    let gpu = nvml.device_by_index(1).unwrap();
    let spent = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let (begin, cpu) = (Instant::now(), spent());
    for _ in 0..CALLS {
        gpu.power_usage().unwrap();
    }
    let (wall, cpu) = (begin.elapsed(), spent() - cpu);
    assert!(cpu >= CALLS * Duration::from_millis(1), "{cpu:?}");
    assert!(wall >= CALLS * Duration::from_millis(3), "{wall:?}");
    // Sleeping is no work.
    assert!(cpu < CALLS * Duration::from_millis(3), "{cpu:?}");
}
