//! Processes on GPUs: where they belong, remembered by pid and start time, so that a pid that is used again is another process.

use super::cgroup::Place;
use super::pods::{self, Names};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// What watches GPUs and is nobody's work, wherever it runs; as the kernel cuts names off.
const WATCHERS: [&str; 6] = ["nv-hostengine", "dcgm-exporter", "dcgmi", "dcgmproftester", "nvidia-persiste", "nvidia-smi"];
/// Looks without that a process is forgotten after.
const FORGET_AFTER: u64 = 600;
/// Looks for the names of a pod that are not there yet.
const MOST_TRIES: u32 = 6;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Clock ticks since the boot.
    pub(super) started: u64,
    pub(super) place: Place,
    pub(super) names: Option<Names>,
}

#[derive(Debug)]
pub(super) struct Processes {
    proc: PathBuf,
    logs: PathBuf,
    looks: u64,
    known: BTreeMap<u32, Known>,
}

#[derive(Debug)]
struct Known {
    process: Arc<Process>,
    tries: u32,
    seen: u64,
}

impl Processes {
    pub(super) fn new(proc: PathBuf, logs: PathBuf) -> Self {
        Self { proc, logs, looks: 0, known: BTreeMap::new() }
    }

    /// Those that run and are somebody's.
    pub(super) fn look(&mut self, pids: &[u32]) -> Vec<Arc<Process>> {
        self.looks += 1;
        let found = pids.iter().filter_map(|pid| self.process(*pid)).collect();
        let looks = self.looks;
        self.known.retain(|_, known| known.seen + FORGET_AFTER > looks);
        found
    }

    fn process(&mut self, pid: u32) -> Option<Arc<Process>> {
        let stat = fs::read_to_string(self.proc.join(pid.to_string()).join("stat")).ok()?;
        let (command, started) = status(&stat)?;
        if WATCHERS.iter().any(|watcher| command.starts_with(watcher)) {
            return None;
        }
        if let Some(known) = self.known.get_mut(&pid).filter(|known| known.process.started == started) {
            known.seen = self.looks;
            let nameless = known.process.place.pod.is_some() && known.process.names.is_none();
            if nameless && known.tries < MOST_TRIES {
                known.tries += 1;
                let names = names(&self.logs, &known.process.place);
                known.process = Arc::new(Process { names, ..Process::clone(&known.process) });
            }
            return Some(known.process.clone());
        }
        let place = Place::of(&fs::read_to_string(self.proc.join(pid.to_string()).join("cgroup")).ok()?);
        let names = names(&self.logs, &place);
        let process = Arc::new(Process { pid, started, place, names });
        self.known.insert(pid, Known { process: process.clone(), tries: 1, seen: self.looks });
        Some(process)
    }
}

fn names(logs: &std::path::Path, place: &Place) -> Option<Names> {
    pods::names(logs, place.pod.as_deref()?, place.container.as_deref())
}

/// Name and start time of /proc/PID/stat. The name may hold anything, so what follows is counted from its last parenthesis.
pub(super) fn status(text: &str) -> Option<(&str, u64)> {
    let (head, rest) = text.rsplit_once(')')?;
    let command = head.split_once('(')?.1;
    // Field 22 of the file; the first after the name is field 3.
    Some((command, rest.split_ascii_whitespace().nth(19)?.parse().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::path::Path;

    /// Makes up /proc/PID.
    pub(in super::super) fn make(proc: &Path, pid: u32, command: &str, started: u64, cgroup: &str) {
        let folder = proc.join(pid.to_string());
        fs::create_dir_all(&folder).unwrap();
        let stat = format!("{pid} ({command}) S 1 1 1 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 1 0 {started} 1 1\n");
        fs::write(folder.join("stat"), stat).unwrap();
        fs::write(folder.join("cgroup"), cgroup).unwrap();
    }

    fn slurm_jobs(processes: &mut Processes, pids: &[u32]) -> Vec<String> {
        processes.look(pids).iter().map(|process| process.place.slurm.clone().unwrap_or_default().job).collect()
    }

    #[test]
    fn a_pid_that_is_used_again_is_another_process() {
        let root = tempfile::tempdir().unwrap();
        let mut processes = Processes::new(root.path().into(), root.path().into());
        make(root.path(), 7, "python3", 100, "0::/slurmstepd.scope/job_1/step_0/task_0\n");
        assert_eq!(slurm_jobs(&mut processes, &[7, 8]), ["1"]);
        // Remembered, so its cgroup is not read again.
        make(root.path(), 7, "python3", 100, "");
        assert_eq!(slurm_jobs(&mut processes, &[7]), ["1"]);
        make(root.path(), 7, "python3", 200, "0::/slurmstepd.scope/job_2/step_0/task_0\n");
        assert_eq!(slurm_jobs(&mut processes, &[7]), ["2"]);
        fs::remove_dir_all(root.path().join("7")).unwrap();
        assert!(processes.look(&[7]).is_empty());
        (0..FORGET_AFTER).for_each(|_| drop(processes.look(&[])));
        assert!(processes.known.is_empty());
    }

    #[test]
    fn who_watches_gpus_has_no_job() {
        let root = tempfile::tempdir().unwrap();
        let mut processes = Processes::new(root.path().into(), root.path().into());
        let cgroup = "0::/kubepods/pod0b5e1c2a-1111-2222-3333-444455556666/x\n";
        for (pid, command) in [(1, "nv-hostengine"), (2, "nvidia-persiste"), (3, "dcgm-exporter")] {
            make(root.path(), pid, command, 1, cgroup);
        }
        assert!(processes.look(&[1, 2, 3]).is_empty());
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b (c) S 1 1 1 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 1 0 12345 1 1\n";
        assert_eq!(status(stat), Some(("a) b (c", 12345)));
        assert_eq!(status("7 (x"), None);
    }
}
