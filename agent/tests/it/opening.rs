//! Drivers that do not open: one line says why and what to do, `probe` ends with 69, and `run` waits.

use crate::PATIENCE;
use crate::collector::Collector;
use crate::node::{Node, Start};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn probe(library: &Path, program: &[&str]) -> Output {
    let mut words = program.iter().copied().chain([env!("CARGO_BIN_EXE_gridstep-agent"), "probe", "--nvml-library"]);
    Command::new(words.next().unwrap()).args(words).arg(library).output().unwrap()
}

/// The one line that it says.
fn line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    said
}

/// The head of a library of another machine.
fn foreign_library(folder: &Path) -> PathBuf {
    let mut head = b"\x7fELF\x01\x01\x01".to_vec();
    head.resize(64, 0);
    // A shared object for x86.
    (head[16], head[18]) = (3, 3);
    let path = folder.join("libnvidia-ml.so.1");
    std::fs::write(&path, head).unwrap();
    path
}

#[test]
fn the_probe_says_why_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = line(&probe(&foreign_library(folder.path()), &[]));
    assert!(foreign.contains("32-bit library (x86)") && foreign.contains("install"), "{foreign}");
    let missing = line(&probe(Path::new("/nowhere/libnvidia-ml.so.1"), &[]));
    assert!(missing.contains("is not there: is the NVIDIA driver installed?"), "{missing}");
    let other = Command::new("sh").args(["-c", "ldd /bin/sh | grep -o '/[^ ]*libc.so[^ ]*'"]).output().unwrap();
    let other = line(&probe(Path::new(String::from_utf8_lossy(&other.stdout).trim()), &[]));
    assert!(other.contains("too old or no NVML") && other.contains("535 or later"), "{other}");
}

/// What an operator sees while the agent waits.
#[tokio::test]
async fn a_running_agent_says_it_once_and_waits() {
    let folder = tempfile::tempdir().unwrap();
    let library = foreign_library(folder.path());
    let collector = Collector::start().await;
    let node = Node::start_of(&Start { library: &library, ..Start::new("", &collector.address) });
    node.says("32-bit library (x86)", 1).await;
    let seen = collector.wait(PATIENCE, |seen| seen.values("memory_used_bytes").count() >= 3).await;
    assert_eq!(seen.event("driver_hung", 0), None);
    assert_eq!(node.log().matches("32-bit library").count(), 1, "{}", node.log());
    // The driver is installed.
    std::fs::remove_file(&library).unwrap();
    std::fs::copy(crate::node::library(), &library).unwrap();
    collector.wait(PATIENCE, |seen| crate::power_rows(seen) > 8 * 10).await;
}

/// NVIDIA's own libraries where no driver is. As root they would make device files: they are run by nobody.
#[tokio::test]
async fn nvidias_own_library_says_that_no_driver_is_loaded() {
    if Path::new("/dev/nvidiactl").exists() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let nobody: &[&str] = match Command::new("id").arg("-u").output().unwrap().stdout.as_slice() {
        b"0\n" => &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
        _ => &[],
    };
    for suite in ["bookworm", "trixie"] {
        let there = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/nonfree")).join(suite);
        let library = there.join("root/usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.1");
        assert!(library.exists(), "{} is missing: run `make deps`", library.display());
        // Nobody may not go where the developer's files are.
        let copy = folder.path().join(format!("{suite}.so"));
        std::fs::copy(&library, &copy).unwrap();
        let agent = folder.path().join("agent");
        std::fs::copy(env!("CARGO_BIN_EXE_gridstep-agent"), &agent).unwrap();
        let mut words =
            nobody.iter().copied().map(Into::into).chain([agent.into_os_string(), "probe".into(), "--nvml-library".into()]);
        let output = Command::new(words.next().unwrap()).args(words).arg(&copy).output().unwrap();
        let said = line(&output);
        assert!(said.contains("the NVIDIA driver is not loaded: load it (modprobe nvidia)"), "{suite}: {said}");
        assert!(!Path::new("/dev/nvidiactl").exists());
    }
}
