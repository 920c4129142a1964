//! The binary: exit codes, files, signals.

use crate::collector::DEADLINE;
use crate::recording;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

fn collector() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gridstep-collector"));
    command.env_remove("RUST_LOG");
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = collector().args(arguments).output().unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

#[test]
fn wrong_usage_and_configuration_are_64() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, "a = 1\n[grpc]\nlisten = '0.0.0.0:1'\n").unwrap();
    let (code, said) = run(&["check-config", "--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("a: ") && said.contains("grpc.listen: "), "{said}");
    assert_eq!(run(&["run", "--config", file.to_str().unwrap()]).0, Some(64));
    assert_eq!(run(&["replay"]).0, Some(64));
    assert_eq!(run(&["incidents", "--url", "ftp://x"]).0, Some(64));
    assert_eq!(run(&["--help"]).0, Some(0));
}

#[test]
fn a_collector_that_is_not_there_is_69() {
    let (code, said) = run(&["incidents", "--url", "http://127.0.0.1:1"]);
    assert_eq!(code, Some(69), "{said}");
}

#[test]
fn a_replay_writes_its_incidents() {
    let folder = tempfile::tempdir().unwrap();
    recording::write_power(folder.path(), "power-000.parquet", "n1");
    let out = folder.path().join("out.jsonl");
    let arguments = ["replay", "--incidents", out.to_str().unwrap(), folder.path().to_str().unwrap()];
    let (code, said) = run(&arguments);
    assert_eq!(code, Some(0), "{said}");
    let lines = std::fs::read_to_string(&out).unwrap();
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["schema"] == 1));
    let (code, said) = run(&["replay", "/nowhere/at/all"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("/nowhere/at/all"), "{said}");
}

#[test]
fn sigterm_ends_it_with_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    let state = folder.path().join("state");
    let text = format!("state_dir = {state:?}\n[grpc]\nlisten = '127.0.0.1:0'\n[http]\nlisten = '127.0.0.1:0'\n");
    std::fs::write(&file, text).unwrap();
    let mut child = collector().args(["run", "--config"]).arg(&file).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let listens = log.by_ref().map_while(Result::ok).find(|line| line.contains("collector listens")).unwrap();
    let http = listens.split("http=").nth(1).unwrap().trim().to_owned();
    assert_eq!(run(&["incidents", "--url", &format!("http://{http}")]), (Some(0), "no incidents\n".into()));
    let checkpoints = || {
        let names = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.extension().is_some_and(|extension| extension == "state")).collect::<Vec<_>>()
    };
    // One at the start, and one a moment later; the next is five seconds away.
    let begun = Instant::now();
    while checkpoints() != [state.join("collector-2.state")] {
        assert!(begun.elapsed() < DEADLINE, "{:?}", checkpoints());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::fs::remove_file(state.join("collector-2.state")).unwrap();
    let asked = Instant::now();
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert!(log.map_while(Result::ok).any(|line| line.contains("last checkpoint written")));
    assert!(child.wait().unwrap().success());
    assert!(asked.elapsed() < DEADLINE / 4);
    assert_eq!(checkpoints(), [state.join("collector-3.state")]);
}
