//! What goes wrong with a driver and a clock, and that the agent lives through it.

use crate::collector::{Collector, Seen};
use crate::node::{Node, Start, library};
use crate::{PATIENCE, SAID, metrics, power_rows};
use std::path::{Path, PathBuf};
use std::process::Command;

fn up(seen: &Seen, entity: u32) -> Option<i64> {
    seen.values("up").filter(|row| row.0 == entity).last().map(|row| row.2)
}

/// Its energy counter begins at 0 again, and the number of a field has moved.
#[tokio::test]
async fn a_driver_that_is_replaced_is_opened_anew() {
    let collector = Collector::start().await;
    let fault = "[[fault]]\nkind = \"unloaded\"\nnode = 0\nstart = 4.0\nend = 7.0\ndriver_version = \"590.10.01\"\n";
    let node = Node::start(&format!("driver_version = \"575.57.08\"\n{fault}"), &collector.address);
    let seen = collector.wait(PATIENCE, |seen| seen.event("driver_hung", 0).is_some()).await;
    assert!(seen.event("driver_hung", 0).unwrap() < 4.0 + SAID);
    let gone = |line: &str| line.starts_with("gridstep_gpu_up{gpu=\"3\"") && line.ends_with("reason=\"driver_gone\"} 0");
    collector.wait(PATIENCE, |_| node.metrics().lines().any(gone)).await;
    node.says("the NVIDIA driver is not loaded", 1).await;
    let before = seen.values("energy_joules_total").filter(|row| row.0 == 1).last().unwrap().2;
    node.says("driver=\"590.10.01\"", 1).await;
    let since = power_rows(&collector.seen());
    let back = |seen: &Seen| seen.event("driver_back", 0).is_some() && (1..=8).all(|entity| up(seen, entity) == Some(1));
    let seen = collector.wait(PATIENCE, |seen| back(seen) && power_rows(seen) > since + 8 * 10).await;
    let energy: Vec<i64> = seen.values("energy_joules_total").filter(|row| row.0 == 1).map(|row| row.2).collect();
    assert!(*energy.last().unwrap() < before, "the counter was not reset: {energy:?}");
    assert!(energy.iter().all(|joules| *joules >= 0), "{energy:?}");
    assert!(seen.values("limited_thermal_seconds_total").last().is_some());
}

#[tokio::test]
async fn an_agent_that_is_there_before_the_driver_waits_for_it() {
    let collector = Collector::start().await;
    let node = Node::start("[[fault]]\nkind = \"unloaded\"\nnode = 0\nstart = 0.0\nend = 4.0\n", &collector.address);
    let seen = collector.wait(PATIENCE, |seen| power_rows(seen) > 8 * 10 && up(seen, 8) == Some(1)).await;
    assert_eq!(seen.event("driver_hung", 0), None);
    assert_eq!(node.log().matches("modprobe nvidia").count(), 1, "once, not once a second: {}", node.log());
}

/// Each call for the GPU takes 30 ms, so that it is all but always in the middle of a sweep.
#[tokio::test]
async fn a_gpu_that_is_lost_in_a_sweep_is_said() {
    let collector = Collector::start().await;
    let faults = "[[fault]]\nkind = \"slow_call\"\nvalue = 30\nnode = 0\ngpu = 2\nstart = 0.0\n\
        [[fault]]\nkind = \"lost_gpu\"\nnode = 0\ngpu = 2\nstart = 6.0\nend = 12.0\n";
    let _node = Node::start_reading(faults, &collector.address, "budget = \"1s\"");
    let seen = collector.wait(PATIENCE, |seen| seen.event("gpu_lost", 3).is_some()).await;
    assert!(seen.event("gpu_lost", 3).unwrap() < 6.0 + SAID);
    let before = power_rows(&seen);
    let seen = collector.wait(PATIENCE, |seen| power_rows(seen) > before + 7 * 10 && up(seen, 3) == Some(0)).await;
    assert!([1, 2, 4, 5, 6, 7, 8].iter().all(|entity| up(&seen, *entity) == Some(1)));
    collector.wait(PATIENCE, |seen| seen.event("gpu_back", 3).is_some() && up(seen, 3) == Some(1)).await;
}

/// All of them are counted, as few events, and power goes on.
#[tokio::test]
async fn a_storm_of_xids_is_counted_and_starves_nothing() {
    const STORM: f64 = 100_000.0;
    let collector = Collector::start().await;
    let fault = format!("[[fault]]\nkind = \"xid_storm\"\nnode = 0\ngpu = 2\nvalue = {STORM}\nstart = 3.0\nend = 4.0\n");
    let _node = Node::start(&fault, &collector.address);
    let seen =
        collector.wait(2.0 * PATIENCE, |seen| seen.values("xids_total").any(|row| row.0 == 3 && row.2 == STORM as i64)).await;
    let events: Vec<&str> = seen
        .batches()
        .iter()
        .flat_map(|batch| &batch.events)
        .filter(|event| event.kind == "xid" && event.code == 13)
        .map(|event| event.detail.as_str())
        .collect();
    let told: u64 =
        events.iter().map(|detail| detail.strip_suffix(" times").map_or(1, |times| times.parse::<u64>().unwrap())).sum();
    assert_eq!(told, STORM as u64);
    assert!(events.len() < 500, "{} events", events.len());
    let storm = ((seen.start() + 3.0) * 1e6) as i64..((seen.start() + 5.0) * 1e6) as i64;
    let over = |seen: &Seen| seen.values("power_watts").any(|row| row.0 == 1 && row.1 >= storm.end);
    let seen = collector.wait(PATIENCE, over).await;
    let meanwhile = seen.values("power_watts").filter(|row| row.0 == 1 && storm.contains(&row.1)).count();
    assert!(meanwhile >= 10, "{meanwhile} values of power in two seconds");
    assert_eq!(seen.event("driver_hung", 0), None);
}

/// A copy of the simulated driver that lacks these functions.
fn library_without(folder: &Path, functions: &[&str]) -> PathBuf {
    let mut bytes = std::fs::read(library()).unwrap();
    for function in functions {
        let name = format!("\0{function}\0");
        let places: Vec<usize> =
            bytes.windows(name.len()).enumerate().filter(|(_, window)| *window == name.as_bytes()).map(|(at, _)| at).collect();
        assert!(!places.is_empty(), "there is no {function}");
        // Found by its hash, it has another name.
        places.into_iter().for_each(|at| bytes[at + 1] = b'x');
    }
    let path = folder.join("libnvidia-ml.so.1");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[tokio::test]
async fn an_old_driver_is_read_for_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let functions = [
        "nvmlDeviceGetSamples",
        "nvmlEventSetCreate",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetMarginTemperature",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetGpuFabricInfoV",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
        "nvmlGpmSampleAlloc",
        "nvmlDeviceGetComputeRunningProcesses_v3",
    ];
    let old = library_without(folder.path(), &functions);
    let collector = Collector::start().await;
    let start = Start { library: &old, ..Start::new("driver_version = \"535.261.03\"", &collector.address) };
    let node = Node::start_of(&start);
    let swept = |seen: &Seen| seen.values("temperature_celsius").count() >= 24;
    let seen = collector.wait(PATIENCE, |seen| power_rows(seen) > 8 * 50 && swept(seen)).await;
    assert!((1..=8).all(|entity| up(&seen, entity) == Some(1)));
    assert_eq!(seen.values("hbm_used_bytes").count() + seen.values("sm_active_ratio").count(), 0);
    assert_eq!(metrics::value(&node.metrics(), "gridstep_agent_reader_restarts_total"), Some(0.0));
}

/// A library that sets the clock of its process by as many seconds as a file says.
fn clock_setter(folder: &Path) -> PathBuf {
    const CODE: &str = r#"
        #define _GNU_SOURCE
        #include <fcntl.h>
        #include <stdlib.h>
        #include <sys/syscall.h>
        #include <time.h>
        #include <unistd.h>
        int clock_gettime(clockid_t id, struct timespec *time) {
            int result = syscall(SYS_clock_gettime, id, time);
            char text[32] = {0};
            int file = id == CLOCK_REALTIME ? open(getenv("CLOCK_SET_BY"), O_RDONLY) : -1;
            if (file >= 0) {
                if (read(file, text, sizeof text - 1) > 0) time->tv_sec += atol(text);
                close(file);
            }
            return result;
        }"#;
    let (code, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&code, CODE).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&code).status().unwrap();
    assert!(compiled.success());
    library
}

/// By an hour, there and back: what is read goes on at once, stamped by the clock as it is, and the step is said.
#[tokio::test]
async fn a_clock_that_is_set_stops_nothing() {
    const HOUR: i64 = 3_600_000_000;
    let folder = tempfile::tempdir().unwrap();
    let by = folder.path().join("by");
    let set = |seconds: &str| {
        std::fs::write(folder.path().join("next"), seconds).unwrap();
        std::fs::rename(folder.path().join("next"), &by).unwrap();
    };
    set("0");
    let environment =
        [("LD_PRELOAD", clock_setter(folder.path()).display().to_string()), ("CLOCK_SET_BY", by.display().to_string())];
    let collector = Collector::start().await;
    let node = Node::start_of(&Start { environment: &environment, ..Start::new("", &collector.address) });
    // By then the driver's samples are in use.
    node.shows("gridstep_agent_power_period_seconds{gpu=\"0\",source=\"samples\"}", |period| period > 0.0).await;
    for (steps, (seconds, ahead)) in [("3600", HOUR), ("0", 0)].into_iter().enumerate() {
        let before = power_rows(&collector.seen());
        set(seconds);
        let now = (crate::node::scenario_start() * 1e6) as i64 + ahead;
        let of_now = |seen: &Seen, entity| {
            let rows = seen.values("power_watts").skip(before);
            rows.filter(|row| row.0 == entity && (now - 500_000..now + 60_000_000).contains(&row.1)).count()
        };
        let seen = collector.wait(PATIENCE, |seen| (1..=8).all(|entity| of_now(seen, entity) >= 10)).await;
        let told = seen.batches().iter().flat_map(|batch| &batch.events).filter(|event| event.kind == "clock_stepped");
        let step = told.map(|event| event.code).nth(steps).expect("the step is said");
        let wanted = if ahead > 0 { HOUR } else { -HOUR };
        assert!((step - wanted).abs() < 5_000_000, "{step} µs");
        assert_eq!(seen.event("driver_hung", 0), None);
    }
    let shown = node.metrics();
    assert_eq!(metrics::value(&shown, "gridstep_agent_clock_steps_total"), Some(2.0));
    assert_eq!(metrics::value(&shown, "gridstep_agent_reader_restarts_total"), Some(0.0));
}
