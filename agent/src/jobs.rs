//! **jobs** ─▶ batcher: whose GPU it is.
//!
//! By the cgroup of a GPU's compute processes (a Slurm job, a Kubernetes pod), or by a command that the site configures.

use gridstep_wire::pb;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// `[jobs]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Program and arguments that print the name of the job which this node works for; nothing: idle. Empty: by cgroup.
    pub command: Vec<String>,
    /// Between two runs of the command.
    #[serde(with = "humantime_serde")]
    pub period: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { command: Vec::new(), period: Duration::from_secs(5) }
    }
}

impl Config {
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.period) {
            faults.push(format!("jobs.period = \"{:?}\": must be between 1s and 1h", self.period));
        }
        if self.command.first().is_some_and(String::is_empty) {
            faults.push("jobs.command: its first word, the program, is empty".into());
        }
        faults
    }
}

/// The command gets this long.
const PATIENCE: Duration = Duration::from_secs(2);

pub struct Jobs {
    config: Config,
    /// Ids by name, from 1.
    ids: BTreeMap<String, u32>,
    new: Vec<pb::Job>,
    by_gpu: BTreeMap<u32, u32>,
    by_command: Option<u32>,
    asked: Option<Instant>,
    running: Option<tokio::task::JoinHandle<Option<String>>>,
}

impl Jobs {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            ids: BTreeMap::new(),
            new: Vec::new(),
            by_gpu: BTreeMap::new(),
            by_command: None,
            asked: None,
            running: None,
        }
    }

    /// The processes that compute on a GPU now.
    pub fn seen(&mut self, gpu: u32, pids: &[u32]) {
        if !self.config.command.is_empty() {
            return;
        }
        let name = pids.iter().find_map(|pid| job_of_cgroup(&std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?));
        let id = name.map_or(0, |name| self.id(name));
        self.by_gpu.insert(gpu, id);
    }

    /// Asks the command where it is time; never waits for it.
    pub async fn refresh(&mut self) {
        if self.config.command.is_empty() {
            return;
        }
        if self.running.as_ref().is_some_and(|running| running.is_finished())
            && let Some(running) = self.running.take()
            && let Ok(Some(name)) = running.await
        {
            self.by_command = Some(if name.is_empty() { 0 } else { self.id(name) });
        }
        if self.running.is_none() && self.asked.is_none_or(|asked| asked.elapsed() >= self.config.period) {
            self.asked = Some(Instant::now());
            self.running = Some(tokio::spawn(ask(self.config.command.clone())));
        }
    }

    /// The job's id, 0 for idle.
    pub fn of(&self, gpu: u32) -> u32 {
        self.by_command.or_else(|| self.by_gpu.get(&gpu).copied()).unwrap_or(0)
    }

    /// Jobs not declared yet.
    pub fn take_new(&mut self) -> Vec<pb::Job> {
        std::mem::take(&mut self.new)
    }

    fn id(&mut self, name: String) -> u32 {
        let next = self.ids.len() as u32 + 1;
        let new = &mut self.new;
        *self.ids.entry(name.clone()).or_insert_with(|| {
            new.push(pb::Job { id: next, name });
            next
        })
    }
}

async fn ask(command: Vec<String>) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let run = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(PATIENCE, run).await {
        Ok(Ok(output)) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            Some(text.lines().next().unwrap_or("").trim().chars().take(253).collect())
        }
        _ => {
            tracing::warn!(program, "the job command failed or took too long");
            None
        }
    }
}

/// `…/job_1234/step_0/…` (Slurm) or `…/kubepods…pod<uid>…` (Kubernetes) of a /proc/PID/cgroup file.
fn job_of_cgroup(text: &str) -> Option<String> {
    let parts = || text.lines().flat_map(|line| line.split('/'));
    let slurm =
        parts().find_map(|part| part.strip_prefix("job_").filter(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())));
    if let Some(id) = slurm {
        return Some(format!("slurm-{id}"));
    }
    let pod = parts().filter(|part| part.contains("pod")).find_map(|part| {
        let uid = &part[part.rfind("pod")? + 3..];
        let uid = uid.strip_suffix(".slice").unwrap_or(uid);
        (uid.len() >= 32).then(|| uid.replace('_', "-"))
    });
    pod.map(|uid| format!("pod-{uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_of_slurm_and_kubernetes() {
        let slurm = "0::/system.slice/slurmstepd.scope/job_1234/step_0/user/task_0\n";
        assert_eq!(job_of_cgroup(slurm).as_deref(), Some("slurm-1234"));
        let pod = "0::/kubepods.slice/kubepods-pod0b5e1c2a_1111_2222_3333_444455556666.slice/cri-abc.scope\n";
        assert_eq!(job_of_cgroup(pod).as_deref(), Some("pod-0b5e1c2a-1111-2222-3333-444455556666"));
        assert_eq!(job_of_cgroup("0::/user.slice/session-1.scope\n"), None);
    }
}
