//! Tools that others wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{library, scenario, start};

/// Runs a program of the virtual environment with the simulated library, and gives what it prints.
fn run(program: &str, arguments: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin").join(program);
    assert!(path.exists(), "{} is missing: run `make deps`", path.display());
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(library(), dir.path().join("libnvidia-ml.so.1")).unwrap();
    let output = Command::new(path)
        .args(arguments)
        .env("LD_LIBRARY_PATH", dir.path())
        .env("GRIDSTEP_SIM_SCENARIO", scenario("single.toml"))
        .env("GRIDSTEP_SIM_START", start(100.0))
        .env("TERM", "xterm-256color")
        .env("COLUMNS", "160")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {printed}\n{}", String::from_utf8_lossy(&output.stderr));
    printed
}

fn file(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name).display().to_string()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn nvidias_python_binding_reads_everything() {
    let found = json(&run("python", &[&file("tests/clients.py")]));
    let gpus = found["gpus"].as_array().unwrap();
    assert_eq!(gpus.len(), 8);
    for gpu in gpus {
        assert_eq!(gpu["name"], "NVIDIA H100 80GB HBM3");
        assert!((200.0..660.0).contains(&gpu["watts"].as_f64().unwrap()));
        assert!((200.0..660.0).contains(&gpu["instant_watts"].as_f64().unwrap()));
        assert_eq!(gpu["unknown_field"], 3);
        assert_eq!(gpu["samples"], 120);
        assert!((15.0..95.0).contains(&gpu["sm"].as_f64().unwrap()));
        assert!((45..70).contains(&gpu["temperature"].as_i64().unwrap()));
        // Margins count to 87 °C; the degree may change between two calls.
        let limit = gpu["temperature"].as_i64().unwrap() + gpu["margin"].as_i64().unwrap();
        assert!((86..=88).contains(&limit), "{gpu}");
        assert_eq!(gpu["slowdown"].as_i64().unwrap() + gpu["slowdown_margin"].as_i64().unwrap(), 87);
        assert!((1530..=1545).contains(&gpu["video"].as_i64().unwrap()), "{gpu}");
        assert_eq!(gpu["processes"], serde_json::json!([4242]));
        assert_eq!(gpu["memory"].as_u64().unwrap(), 81_559 << 20);
    }
}

#[test]
fn gpustat_shows_all_gpus() {
    let found = json(&run("gpustat", &["--json"]));
    let gpus = found["gpus"].as_array().unwrap();
    assert_eq!(gpus.len(), 8);
    for gpu in gpus {
        assert_eq!(gpu["name"], "NVIDIA H100 80GB HBM3");
        assert!((200..660).contains(&gpu["power.draw"].as_i64().unwrap()), "{gpu}");
    }
}

#[test]
fn nvitop_shows_all_gpus() {
    let printed = run("nvitop", &["-1"]);
    assert!(printed.contains("580.95.05"), "{printed}");
    assert_eq!(printed.matches("H100 80GB HBM3").count(), 8, "{printed}");
}

/// Codes of the header.
const SUCCESS: u64 = 0;
const UNINITIALIZED: u64 = 1;
const INVALID_ARGUMENT: u64 = 2;
const NOT_SUPPORTED: u64 = 3;
const NOT_FOUND: u64 = 6;
const INSUFFICIENT_SIZE: u64 = 7;
const VERSION_MISMATCH: u64 = 25;

#[test]
fn c_callers_get_nvmls_own_codes() {
    let found = json(&run("python", &[&file("tests/abi.py"), &file("src/nvml/exports.txt")]));
    assert_eq!(found["missing"], serde_json::json!([]));
    let uninitialised = found["uninitialised"].as_object().unwrap();
    assert_eq!(uninitialised.keys().collect::<Vec<_>>(), [&UNINITIALIZED.to_string()]);
    assert_eq!(found["version"], SUCCESS);
    // Whatever takes a handle refuses a bad one.
    for kind in ["null", "forged"] {
        let refused = found[kind].as_object().unwrap();
        assert!(refused.len() > 200, "{}", refused.len());
        for (name, code) in refused {
            assert_eq!(code.as_u64(), Some(INVALID_ARGUMENT), "{name} of a {kind} handle");
        }
    }
    assert_eq!(found["handle"], SUCCESS);
    assert_eq!(found["beyond"], INVALID_ARGUMENT);
    assert_eq!(found["unknown_uuid"], NOT_FOUND);
    assert_eq!(found["name"], serde_json::json!([INSUFFICIENT_SIZE, INSUFFICIENT_SIZE, SUCCESS]));
    assert_eq!(found["after_shutdown"], UNINITIALIZED);
}

#[test]
fn c_callers_list_processes_by_every_layout() {
    let found = json(&run("python", &[&file("tests/abi.py"), &file("src/nvml/exports.txt")]));
    let (used, none) = (71_200_u64 << 20, u32::MAX);
    for (suffix, layout) in [("", 2), ("_v2", 4), ("_v3", 4)] {
        let list = &found["processes"][suffix];
        assert_eq!(list["codes"], serde_json::json!([INSUFFICIENT_SIZE, SUCCESS, SUCCESS]), "{suffix}");
        assert_eq!(list["counts"], serde_json::json!([1, 1]));
        let whole = serde_json::json!([4242, used, none, none]);
        assert_eq!(list["rows"][0].as_array().unwrap(), &whole.as_array().unwrap()[..layout]);
    }
    assert_eq!(found["details"]["code"], SUCCESS);
    assert_eq!(found["details"]["rows"], serde_json::json!([[4242, used, none, none, 0]]));
    assert_eq!(found["details"]["version"], VERSION_MISMATCH);
}

#[test]
fn c_callers_learn_what_the_board_has_and_lacks() {
    let found = json(&run("python", &[&file("tests/abi.py"), &file("src/nvml/exports.txt")]));
    let features = &found["features"];
    assert_eq!(features["mig"], serde_json::json!([NOT_FOUND, INVALID_ARGUMENT]));
    assert_eq!(features["inforom"], SUCCESS);
    assert_eq!(features["flush"][0], SUCCESS);
    assert!(features["flush"][1].as_u64() > Some(1_600_000_000_000_000));
    assert_eq!(features["affinity"], serde_json::json!([SUCCESS, [1, 0]]));
    assert_eq!(features["protected"], serde_json::json!([SUCCESS, [0, 0, 0]]));
    assert_eq!(features["sizes"], serde_json::json!([SUCCESS, [0, 81_559 << 10]]));
    assert_eq!(features["c2c"], serde_json::json!([SUCCESS, 0]));
    for absent in ["FanSpeed", "FanSpeed_v2", "RetiredPages_v2", "AutoBoostedClocksEnabled", "DriverModel", "Attributes_v2"] {
        let name = format!("nvmlDeviceGet{absent}");
        assert_eq!(found["first_argument_only"][&name], NOT_SUPPORTED, "{name}");
    }
}
