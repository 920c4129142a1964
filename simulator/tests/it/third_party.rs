//! Tools that others wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

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

fn clients() -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients.py").display().to_string()
}

#[test]
fn nvidias_python_binding_reads_everything() {
    let found: serde_json::Value = serde_json::from_str(&run("python", &[&clients()])).unwrap();
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
        assert_eq!(gpu["processes"], serde_json::json!([4242]));
        assert_eq!(gpu["memory"].as_u64().unwrap(), 81_559 << 20);
    }
}

#[test]
fn gpustat_shows_all_gpus() {
    let found: serde_json::Value = serde_json::from_str(&run("gpustat", &["--json"])).unwrap();
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
