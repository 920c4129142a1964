//! The buffer of power samples, in either clock.

use std::time::Duration;

use nvml_wrapper::enum_wrappers::device::Sampling;
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::Sample;
use rustix::time::{ClockId, clock_gettime};

use crate::world::{COMPUTING, nvml, run, until};

#[test]
fn power_samples_are_stamped_in_real_time() {
    run(COMPUTING, 100.0, "rings::realtime");
}

#[test]
fn power_samples_are_stamped_in_boot_time_where_the_scenario_says_so() {
    run(&format!("sample_clock = \"boottime\"\n{COMPUTING}"), 100.0, "rings::boottime");
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn realtime() {
    stamped_by(ClockId::Realtime);
}

#[test]
#[ignore = "runs in the world that another test makes"]
fn boottime() {
    stamped_by(ClockId::Boottime);
}

fn now(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn stamp(sample: &Sample) -> Duration {
    Duration::from_micros(sample.timestamp)
}

fn stamped_by(clock: ClockId) {
    let nvml = nvml();
    let gpu = nvml.device_by_index(3).unwrap();
    let before = now(clock);
    let samples = gpu.samples(Sampling::Power, None).unwrap();
    let after = now(clock);
    assert_eq!(samples.len(), 120);
    for pair in samples.windows(2) {
        let gap = stamp(&pair[1]) - stamp(&pair[0]);
        assert!((99_900..=100_100).contains(&gap.as_micros()), "{gap:?}");
    }
    for sample in &samples {
        assert!(matches!(sample.value, SampleValue::U32(milliwatts) if (500_000..660_000).contains(&milliwatts)), "{sample:?}");
    }
    // Stamped when published, at most a period ago. A step of the real-time clock since the start moves one of the clocks.
    let newest = stamp(&samples[119]);
    let slack = Duration::from_millis(20);
    assert!(newest + Duration::from_millis(100) + slack > before && newest < after + slack, "{before:?} {newest:?} {after:?}");

    // Only what is newer comes next, and nothing where there is nothing.
    let last = samples[119].timestamp;
    let next = until(|| match gpu.samples(Sampling::Power, last) {
        Ok(samples) => Some(samples),
        Err(error) => {
            assert!(matches!(error, NvmlError::NotFound), "{error}");
            None
        }
    });
    assert!(next[0].timestamp > last && next.len() < 120, "{} after {last}", next[0].timestamp);
}
