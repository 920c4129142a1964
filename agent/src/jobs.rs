//! **jobs** ─▶ batcher: whose GPU it is.
//!
//! By the cgroup of a GPU's compute processes (a Slurm job, a Kubernetes pod) and, where it may be read, their environment (ranks); or by a
//! command that the site configures. docs/jobs.md says what takes which permission.
//!
//! /proc is read aside ([`crate::aside`]): a look at the environment waits for the process's memory, which a process that hangs in the
//! driver may hold for ever.

mod cgroup;
mod environment;
mod member;
mod pods;
mod process;

pub use member::Member;

use crate::aside::Aside;
use environment::Environment;
use gridstep_wire::pb;
use process::{Process, Processes};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
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
/// Processes of a GPU beyond this are not looked at.
const MOST_PROCESSES: usize = 64;
/// Processes that stay are looked at again after this: a pid may be used again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

type Pids = Vec<(u32, Vec<u32>)>;
type Found = Vec<(u32, Vec<Arc<Process>>)>;
/// A process by pid and start time.
type Key = (u32, u64);

pub struct Jobs {
    config: Config,
    /// Ids by name, from 1.
    ids: BTreeMap<String, u32>,
    /// Jobs as they were declared last, by id.
    declared: BTreeMap<u32, pb::Job>,
    new: Vec<pb::Job>,
    gpus: BTreeMap<u32, Gpu>,
    /// GPUs whose processes are to be looked at.
    pending: BTreeSet<u32>,
    /// None: no thread could be started.
    processes: Option<Aside<Pids, Found>>,
    environments: Option<Aside<Key, (Key, io::Result<Environment>)>>,
    /// None: it may not be read.
    known: BTreeMap<Key, Option<Environment>>,
    /// That environments may not be read has been said.
    said: bool,
    changed: bool,
    by_command: Option<String>,
    asked: Option<Instant>,
    running: Option<tokio::task::JoinHandle<Option<String>>>,
}

/// What a GPU computes for.
#[derive(Default)]
struct Gpu {
    pids: Vec<u32>,
    looked: Option<Instant>,
    processes: Vec<Arc<Process>>,
    members: BTreeSet<Member>,
    /// The job's name; "": idle.
    job: String,
}

impl Jobs {
    pub fn new(config: Config) -> Self {
        Self::reading(config, PathBuf::from("/proc"), PathBuf::from("/var/log"))
    }

    fn reading(config: Config, proc: PathBuf, logs: PathBuf) -> Self {
        let mut looked = Processes::new(proc.clone(), logs);
        let look = move |pids: Pids| pids.into_iter().map(|(gpu, pids)| (gpu, looked.look(&pids))).collect();
        let environment = move |key| (key, environment_of(&proc, key));
        let by_command = !config.command.is_empty();
        Self {
            config,
            ids: BTreeMap::new(),
            declared: BTreeMap::new(),
            new: Vec::new(),
            gpus: BTreeMap::new(),
            pending: BTreeSet::new(),
            processes: (!by_command).then(|| start("processes of jobs", look)).flatten(),
            environments: (!by_command).then(|| start("environments of jobs", environment)).flatten(),
            known: BTreeMap::new(),
            said: false,
            changed: false,
            by_command: None,
            asked: None,
            running: None,
        }
    }

    /// The processes that compute on a GPU now.
    pub fn seen(&mut self, gpu: u32, pids: &[u32]) {
        let now = Instant::now();
        let known = self.gpus.entry(gpu).or_insert_with(|| {
            self.changed = true;
            Gpu::default()
        });
        if !self.config.command.is_empty() {
            return;
        }
        let mut pids: Vec<u32> = pids.iter().copied().take(MOST_PROCESSES).collect();
        pids.sort_unstable();
        let stale = known.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK_AGAIN);
        if pids.is_empty() {
            self.changed |= !known.processes.is_empty();
            (known.pids, known.processes) = (pids, Vec::new());
        } else if known.pids != pids || stale {
            (known.pids, known.looked) = (pids, Some(now));
            self.pending.insert(gpu);
        }
        self.poll(now);
    }

    /// Takes what has been found out, and has the next looked at; never waits.
    fn poll(&mut self, now: Instant) {
        if let Some(processes) = &mut self.processes {
            for (gpu, found) in processes.answer().into_iter().flatten() {
                // Its processes may have ended in the meantime.
                if let Some(gpu) = self.gpus.get_mut(&gpu).filter(|gpu| !gpu.pids.is_empty()) {
                    self.changed |= gpu.processes != found;
                    gpu.processes = found;
                }
            }
            if !processes.hangs(now) && processes.is_free() && !self.pending.is_empty() {
                let pending = std::mem::take(&mut self.pending).into_iter();
                let pids = pending.filter_map(|gpu| Some((gpu, self.gpus.get(&gpu)?.pids.clone())));
                processes.ask(pids.collect(), now);
            }
        }
        self.poll_environments(now);
        if std::mem::take(&mut self.changed) {
            self.settle();
        }
    }

    fn poll_environments(&mut self, now: Instant) {
        let Some(environments) = &mut self.environments else { return };
        if let Some((key, environment)) = environments.answer() {
            if environment.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
                && !std::mem::replace(&mut self.said, true)
            {
                tracing::info!("environments of other users' processes may not be read: ranks are not known (docs/jobs.md)");
            }
            self.known.insert(key, environment.ok());
            self.changed = true;
        }
        if environments.hangs(now) || !environments.is_free() {
            return;
        }
        let mut running = self.gpus.values().flat_map(|gpu| &gpu.processes).map(|process| (process.pid, process.started));
        if let Some(key) = running.find(|key| !self.known.contains_key(key)) {
            environments.ask(key, now);
        }
    }

    /// From the processes to who has the GPUs, and what is new of the jobs.
    fn settle(&mut self) {
        let running: BTreeSet<Key> =
            self.gpus.values().flat_map(|gpu| &gpu.processes).map(|process| (process.pid, process.started)).collect();
        self.known.retain(|key, _| running.contains(key));
        for gpu in self.gpus.values_mut() {
            match &self.by_command {
                Some(job) => {
                    gpu.members = [job].into_iter().filter(|job| !job.is_empty()).cloned().map(Member::by_command).collect()
                }
                None => gpu.take_members(&self.known),
            }
            gpu.job = gpu.main_job();
        }
        let mut jobs: BTreeMap<&str, pb::Job> = BTreeMap::new();
        for (&index, member) in self.gpus.iter().flat_map(|(index, gpu)| gpu.members.iter().map(move |member| (index, member))) {
            let job = jobs.entry(&member.job).or_default();
            job.name.clone_from(&member.job);
            member.scheduler.clone_into(&mut job.scheduler);
            if job.title.is_empty() {
                job.title.clone_from(&member.title);
            }
            job.world_size = job.world_size.max(member.world_size);
            job.members.push(member.declare(index));
        }
        for mut job in jobs.into_values().filter(|job| !job.name.is_empty()) {
            let next = self.ids.len() as u32 + 1;
            job.id = *self.ids.entry(job.name.clone()).or_insert(next);
            if self.declared.get(&job.id) != Some(&job) {
                self.declared.insert(job.id, job.clone());
                self.new.push(job);
            }
        }
    }

    /// Asks the command where it is time; never waits for it.
    pub async fn refresh(&mut self) {
        if self.config.command.is_empty() {
            return self.poll(Instant::now());
        }
        if self.running.as_ref().is_some_and(|running| running.is_finished())
            && let Some(running) = self.running.take()
            && let Ok(Some(name)) = running.await
        {
            self.by_command = Some(name);
            self.changed = true;
        }
        if self.running.is_none() && self.asked.is_none_or(|asked| asked.elapsed() >= self.config.period) {
            self.asked = Some(Instant::now());
            self.running = Some(tokio::spawn(ask(self.config.command.clone())));
        }
        if std::mem::take(&mut self.changed) {
            self.settle();
        }
    }

    /// The job's id, 0 for idle.
    pub fn of(&self, gpu: u32) -> u32 {
        self.gpus.get(&gpu).and_then(|gpu| self.ids.get(&gpu.job)).copied().unwrap_or(0)
    }

    /// Whose the GPUs are, one by one.
    pub fn members(&self) -> impl Iterator<Item = (u32, &Member)> {
        self.gpus.iter().flat_map(|(index, gpu)| gpu.members.iter().map(|member| (*index, member)))
    }

    /// Jobs not declared yet, or of which more is known.
    pub fn take_new(&mut self) -> Vec<pb::Job> {
        std::mem::take(&mut self.new)
    }
}

impl Gpu {
    fn take_members(&mut self, environments: &BTreeMap<Key, Option<Environment>>) {
        let environment = |process: &Process| environments.get(&(process.pid, process.started)).and_then(Option::as_ref);
        self.members = self.processes.iter().filter_map(|process| Member::of(process, environment(process))).collect();
    }

    /// The job that most of its processes are of. With as many of another, the one that has it stays; else the first by name.
    fn main_job(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.iter().filter(|member| !member.job.is_empty()) {
            *counts.entry(&member.job).or_default() += 1;
        }
        let most = counts.values().copied().max();
        let mut candidates = counts.iter().filter(|count| Some(*count.1) == most).map(|count| *count.0);
        let stays = candidates.clone().any(|job| job == self.job);
        if stays { self.job.clone() } else { candidates.next().unwrap_or_default().to_owned() }
    }
}

fn start<Q: Send + 'static, A: Send + 'static>(
    subject: &'static str,
    answer: impl FnMut(Q) -> A + Send + 'static,
) -> Option<Aside<Q, A>> {
    let failed = |error: &io::Error| tracing::warn!(subject, %error, "not read: a thread for it cannot be started");
    Aside::new(subject, answer).inspect_err(failed).ok()
}

/// What that very process was started with.
fn environment_of(proc: &Path, (pid, started): Key) -> io::Result<Environment> {
    let environment = Environment::read(proc, pid)?;
    let stat = std::fs::read_to_string(proc.join(pid.to_string()).join("stat"))?;
    match process::status(&stat) {
        Some((_, now)) if now == started => Ok(environment),
        _ => Err(io::ErrorKind::NotFound.into()),
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

#[cfg(test)]
mod tests {
    use super::process::tests::make;
    use super::*;

    fn jobs(root: &Path) -> Jobs {
        Jobs::reading(Config::default(), root.join("proc"), root.join("log"))
    }

    /// Sweeps until it holds.
    fn until(jobs: &mut Jobs, gpu: u32, pids: &[u32], holds: impl Fn(&Jobs) -> bool) {
        let begun = Instant::now();
        while !holds(jobs) {
            jobs.seen(gpu, pids);
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not come to hold");
            std::thread::yield_now();
        }
    }

    fn slurm(root: &Path, pid: u32, job: u32, rank: u32) {
        let cgroup = format!("0::/slurmstepd.scope/job_{job}/step_0/user/task_{rank}\n");
        make(&root.join("proc"), pid, "python3", 1, &cgroup);
        let environment = format!("SLURM_PROCID={rank}\0SLURM_NTASKS=16\0SLURM_JOB_NAME=llama\0");
        std::fs::write(root.join(format!("proc/{pid}/environ")), environment).unwrap();
    }

    #[test]
    fn a_job_is_declared_with_its_ranks_and_again_only_when_more_is_known() {
        let root = tempfile::tempdir().unwrap();
        slurm(root.path(), 10, 7, 8);
        slurm(root.path(), 11, 7, 9);
        let mut jobs = jobs(root.path());
        let ranks = |jobs: &Jobs| jobs.members().filter_map(|(_, member)| member.rank).collect::<Vec<_>>();
        until(&mut jobs, 0, &[10], |jobs| ranks(jobs) == [8]);
        until(&mut jobs, 1, &[11], |jobs| ranks(jobs) == [8, 9]);
        assert_eq!((jobs.of(0), jobs.of(1), jobs.of(2)), (1, 1, 0));
        let last = jobs.take_new().pop().unwrap();
        assert_eq!((last.id, last.name.as_str(), last.scheduler.as_str()), (1, "slurm-7", "slurm"));
        assert_eq!((last.title.as_str(), last.world_size), ("llama", 16));
        let members: Vec<_> = last.members.iter().map(|member| (member.entity, member.rank, member.task.as_str())).collect();
        assert_eq!(members, [(1, Some(8), "8"), (2, Some(9), "9")]);
        jobs.seen(0, &[10]);
        assert!(jobs.take_new().is_empty());
        // It ends: the GPU is idle at once.
        jobs.seen(0, &[]);
        assert_eq!((jobs.of(0), jobs.of(1)), (0, 1));
        assert_eq!(ranks(&jobs), [9]);
    }

    #[test]
    fn a_gpu_that_jobs_share_is_of_the_one_with_most_processes_and_shows_all() {
        let root = tempfile::tempdir().unwrap();
        for (pid, job) in [(10, 7), (11, 8), (12, 8)] {
            slurm(root.path(), pid, job, pid);
        }
        make(&root.path().join("proc"), 13, "nv-hostengine", 1, "0::/system.slice/nvidia-dcgm.service\n");
        let mut jobs = jobs(root.path());
        until(&mut jobs, 0, &[10, 13], |jobs| jobs.of(0) == 1);
        // As many of each: it stays.
        until(&mut jobs, 0, &[10, 11], |jobs| jobs.members().count() == 2);
        assert_eq!(jobs.gpus[&0].job, "slurm-7");
        until(&mut jobs, 0, &[10, 11, 12], |jobs| jobs.members().count() == 3);
        assert_eq!(jobs.gpus[&0].job, "slurm-8");
    }

    #[test]
    fn an_environment_of_another_process_is_not_taken() {
        let root = tempfile::tempdir().unwrap();
        slurm(root.path(), 10, 7, 8);
        let proc = root.path().join("proc");
        assert_eq!(environment_of(&proc, (10, 1)).unwrap().rank, Some(8));
        assert!(environment_of(&proc, (10, 2)).is_err());
    }
}
