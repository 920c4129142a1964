//! `gridstep-agent probe` over the simulated driver.

use crate::node::{library, scenario};
use serde_json::Value;
use std::process::{Command, Output};

fn probe(faults: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gridstep-agent"));
    command.arg("probe").args(arguments).envs(scenario(folder.path(), faults));
    command.output().unwrap()
}

fn json(faults: &str) -> Value {
    let output = probe(faults, &["--json", "--nvml-library", library().to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn everything_is_shown_with_what_it_costs() {
    let report = json("");
    let gpus = report["gpus"].as_array().unwrap();
    assert_eq!(gpus.len(), 8);
    for gpu in gpus {
        // An H100 has no power smoothing.
        let missing: Vec<&String> = gpu["missing"].as_object().unwrap().keys().collect();
        assert!(missing.iter().all(|name| name.starts_with("power_smoothing_")) && missing.len() == 7, "{missing:?}");
        assert!((20.0..800.0).contains(&gpu["metrics"]["power_watts"].as_f64().unwrap()), "{gpu}");
        assert!(gpu["metrics"]["sm_active_ratio"].as_f64().unwrap() > 0.0, "{gpu}");
    }
    assert!(report["node"]["memory_used_bytes"].as_f64().unwrap() > 0.0);
    let calls = report["calls"].as_array().unwrap();
    let temperature = calls.iter().find(|call| call["call"] == "nvmlDeviceGetTemperatureV").unwrap();
    assert_eq!(temperature["count"], 80);
    let [min, median, max] = ["min_us", "median_us", "max_us"].map(|key| temperature[key].as_f64().unwrap());
    assert!(0.0 < min && min <= median && median <= max);
}

#[test]
fn what_is_missing_has_a_reason() {
    let report = json("driver_version = \"550.163.01\"");
    let gpu = &report["gpus"][0];
    assert!(gpu["metrics"].get("limited_thermal_seconds_total").is_none());
    assert!(gpu["missing"]["limited_thermal_seconds_total"].as_str().unwrap().contains("575"), "{gpu}");
}

#[test]
fn a_call_that_hangs_is_named_and_its_gpu_left_alone() {
    let fault = "[[fault]]\nkind = \"hung_call\"\nnode = 0\ngpu = 3\nstart = 0.0\n\
        [[fault]]\nkind = \"lost_gpu\"\nnode = 0\ngpu = 5\nstart = 0.0";
    let report = json(fault);
    let gpus = report["gpus"].as_array().unwrap();
    assert_eq!(gpus.len(), 8);
    for gpu in gpus {
        let fault = gpu["fault"].as_str().unwrap_or_default();
        match gpu["index"].as_u64() {
            Some(3) => assert!(fault.starts_with("nvmlDevice") && fault.contains("has not returned"), "{gpu}"),
            Some(5) => assert!(fault.contains("lost"), "{gpu}"),
            _ => assert!(gpu["metrics"]["power_watts"].as_f64().unwrap() > 0.0, "{gpu}"),
        }
    }
}

#[test]
fn without_a_driver_it_says_what_to_do() {
    let output = probe("", &["--nvml-library", "/nowhere/libnvidia-ml.so.1"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69));
    assert!(said.contains("/nowhere/libnvidia-ml.so.1") && said.contains("--nvml-library"), "{said}");
}

#[test]
fn what_is_not_well_stands_first() {
    let faults = "[[fault]]\nkind = \"thermal\"\nnode = 0\ngpu = 3\ndepth = 0.2\nstart = 0.0\n\
        [[fault]]\nkind = \"pcie_width\"\nnode = 0\ngpu = 6\nvalue = 8\nstart = 0.0";
    let report = json(faults);
    let check = |name| report["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap().clone();
    assert!(check("GPUs")["ok"] == true && check("cost")["ok"] == true, "{report}");
    assert!(check("clocks")["ok"] == false && check("clocks")["text"].as_str().unwrap().contains("GPU 3: "), "{report}");
    assert!(check("alike")["text"].as_str().unwrap().contains("GPU 6 has pcie_link_width 8, others 16"), "{report}");
    let printed = probe(faults, &["--nvml-library", library().to_str().unwrap()]);
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(text.contains("look clocks") && text.contains("ok   health") && !text.contains('\x1b'), "{text}");
}
