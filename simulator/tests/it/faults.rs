//! Faults, through nvml-wrapper.

use nvml_wrapper::Device;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;

use crate::world::{COMPUTING, PATIENCE, nvml, of_file, run, until};

/// A node that computes, with one fault.
fn with(fault: &str) -> String {
    format!("{COMPUTING}[[fault]]\nnode = 0\n{fault}\n")
}

/// Faults of one kind that come again and again, so that it does not matter when somebody begins to listen.
fn again(kind: &str, gpu: u32, length: f64) -> String {
    let fault =
        |start: f64| format!("[[fault]]\nnode = 0\nkind = \"{kind}\"\ngpu = {gpu}\nstart = {start}\nend = {}\n", start + length);
    let faults: Vec<String> = (0..30).map(|i| fault(2.0 * length * f64::from(i))).collect();
    format!("{COMPUTING}{}", faults.join(""))
}

fn field(gpu: &Device<'_>, id: u32) -> i64 {
    let values = gpu.field_values_for(&[FieldId(id)]).unwrap();
    match values.into_iter().next().unwrap().unwrap().value.unwrap() {
        SampleValue::U32(n) => i64::from(n),
        SampleValue::U64(n) => n as i64,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_gpu_that_is_lost_gives_no_handle_and_the_others_do() {
    run(&of_file("lost.toml"), 100.0, "faults::lost");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn lost() {
    let nvml = nvml();
    assert_eq!(nvml.device_count().unwrap(), 8);
    for index in 0..8 {
        let power = nvml.device_by_index(index).and_then(|gpu| gpu.power_usage());
        assert_eq!(matches!(power, Err(NvmlError::GpuLost)), index == 3, "{index}: {power:?}");
    }
}

#[test]
fn losing_a_gpu_is_an_xid_and_then_every_call_says_so() {
    run(&again("lost_gpu", 6, 4.0), 3.0, "faults::losing");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn losing() {
    let nvml = nvml();
    let gpu = until(|| nvml.device_by_index(6).ok());
    let listen = || gpu.register_events(EventTypes::CRITICAL_XID_ERROR, nvml.create_event_set().ok()?).ok();
    let set = until(listen);
    let event = set.wait(PATIENCE.as_millis() as u32).unwrap();
    assert!(format!("{:?}", event.event_data).contains("79"), "{event:?}");
    assert!(matches!(gpu.power_usage(), Err(NvmlError::GpuLost)));
    assert!(matches!(gpu.fan_speed(0), Err(NvmlError::GpuLost)));
    assert!(matches!(nvml.device_by_index(6), Err(NvmlError::GpuLost)));
    assert!(nvml.device_by_index(5).unwrap().power_usage().is_ok());
}

#[test]
fn an_xid_arrives_once_as_an_event() {
    run(&again("xid", 4, 2.0).replace("kind = \"xid\"", "kind = \"xid\"\nvalue = 63"), 1.0, "faults::xid");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn xid() {
    let nvml = nvml();
    let listen = |gpu: u32| {
        let set = nvml.create_event_set().unwrap();
        nvml.device_by_index(gpu).unwrap().register_events(EventTypes::CRITICAL_XID_ERROR, set).unwrap()
    };
    let set = listen(4);
    let wait = || set.wait(PATIENCE.as_millis() as u32).unwrap();
    let event = wait();
    assert_eq!(event.device.index().unwrap(), 4);
    assert!(format!("{:?}", event.event_data).contains("63"), "{event:?}");
    let first = std::time::Instant::now();
    wait();
    // The next comes 4 s after this one happened; the same again would be told at once.
    assert!(first.elapsed().as_secs_f64() > 0.2, "an event was told twice");
    assert!(matches!(listen(3).wait(50), Err(NvmlError::Timeout)));
}

#[test]
fn ecc_errors_are_counted_and_told() {
    run(&with("kind = \"ecc\"\ngpu = 2\nstart = 0.0\nvalue = 50.0"), 10.0, "faults::ecc");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn ecc() {
    let nvml = nvml();
    let gpu = nvml.device_by_index(2).unwrap();
    let set = gpu.register_events(EventTypes::SINGLE_BIT_ECC_ERROR, nvml.create_event_set().unwrap()).unwrap();
    let counted = |error, counter| gpu.total_ecc_errors(error, counter).unwrap();
    let before = counted(MemoryError::Corrected, EccCounter::Volatile);
    assert!(before >= 500, "{before}");
    let event = set.wait(PATIENCE.as_millis() as u32).unwrap();
    assert_eq!(event.event_type, EventTypes::SINGLE_BIT_ECC_ERROR);
    until(|| (counted(MemoryError::Corrected, EccCounter::Volatile) > before).then_some(()));
    assert!(counted(MemoryError::Corrected, EccCounter::Aggregate) >= before);
    assert_eq!(counted(MemoryError::Uncorrected, EccCounter::Volatile), 0);
    assert!(field(&gpu, 3) as u64 >= before);
    let other = nvml.device_by_index(1).unwrap();
    assert_eq!(other.total_ecc_errors(MemoryError::Corrected, EccCounter::Volatile).unwrap(), 0);
}

#[test]
fn a_narrow_link_shows() {
    run(&with("kind = \"pcie_width\"\ngpu = 7\nstart = 0.0\nvalue = 4.0\ndepth = 0.3"), 100.0, "faults::narrow");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn narrow() {
    let nvml = nvml();
    for index in 0..8 {
        let gpu = nvml.device_by_index(index).unwrap();
        assert_eq!(gpu.current_pcie_link_width().unwrap(), if index == 7 { 4 } else { 16 });
        assert_eq!(gpu.max_pcie_link_width().unwrap(), 16);
        assert!(gpu.clock_info(Clock::SM).unwrap() >= 1965);
    }
}

#[test]
fn degraded_memory_shows() {
    run(&with("kind = \"hbm\"\ngpu = 2\nstart = 0.0\nvalue = 5.0\ndepth = 0.2"), 100.0, "faults::hbm");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn hbm() {
    let nvml = nvml();
    for index in 0..8 {
        let gpu = nvml.device_by_index(index).unwrap();
        let bad = index == 2;
        assert_eq!(gpu.clock_info(Clock::Memory).unwrap(), if bad { 2095 } else { 2619 });
        assert!(gpu.clock_info(Clock::SM).unwrap() >= 1965);
        // A row waits to be remapped, and the driver wants the GPU to be reset.
        assert_eq!([144, 230].map(|id| field(&gpu, id)), [i64::from(bad); 2]);
        assert_eq!(gpu.total_ecc_errors(MemoryError::Corrected, EccCounter::Volatile).unwrap() >= 500, bad);
    }
}

#[test]
fn a_starving_gpu_says_nothing_of_why() {
    run(&with("kind = \"cpu\"\ngpu = 1\nstart = 0.0\ndepth = 0.5"), 100.0, "faults::starving");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn starving() {
    let nvml = nvml();
    let (starved, peer) = (nvml.device_by_index(1).unwrap(), nvml.device_by_index(2).unwrap());
    assert!((45..55).contains(&starved.utilization_rates().unwrap().gpu));
    assert!(peer.utilization_rates().unwrap().gpu >= 95);
    assert!(starved.clock_info(Clock::SM).unwrap() >= 1965);
    assert_eq!(starved.clock_info(Clock::Memory).unwrap(), 2619);
    let unusual = nvml_wrapper::bitmasks::device::ThrottleReasons::SW_POWER_CAP.complement();
    assert!(!starved.current_throttle_reasons().unwrap().intersects(unusual));
    assert_eq!(field(&starved, 144), 0);
}
