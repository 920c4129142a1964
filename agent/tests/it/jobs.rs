//! Whose GPU it is: a real process, which the simulated driver lists, in a real control group where the machine lets us make one.

use crate::PATIENCE;
use crate::collector::{Collector, Seen};
use crate::node::Node;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A process of a Slurm task, as far as one can tell from outside.
struct Task {
    process: Child,
    /// Of the control group, the innermost first.
    folders: Vec<PathBuf>,
}

impl Drop for Task {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // A group can be removed as soon as its last process is gone, which may be a moment later.
        for folder in &self.folders {
            for _ in 0..100 {
                if fs::remove_dir(folder).is_ok() {
                    break;
                }
                std::thread::yield_now();
            }
        }
    }
}

impl Task {
    /// Of job 1234 by its control group, or, where there can be none, of the job that its environment names.
    fn start(environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sleep");
        command.arg("600").env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
        let mut task = Self { process: command.spawn().expect("sleep starts"), folders: Vec::new() };
        let top = hierarchy().map(|mount| mount.join(format!("gridstep-test-{}-slurmstepd.scope", std::process::id())));
        if let Some(top) = top {
            let inner = top.join("job_1234/step_0/task_3");
            task.folders = inner.ancestors().take(4).map(Path::to_owned).collect();
            let joined =
                fs::create_dir_all(&inner).and_then(|()| fs::write(inner.join("cgroup.procs"), task.process.id().to_string()));
            if let Err(error) = joined {
                println!("no control group for the test: {error}");
            }
        }
        task
    }

    fn has_control_group(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/cgroup", self.process.id())).is_ok_and(|text| text.contains("/job_1234/"))
    }
}

/// Where a control group can be made without further ado.
fn hierarchy() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    mount.split(' ').nth(1).map(PathBuf::from)
}

#[tokio::test]
async fn a_process_on_a_gpu_is_followed_to_its_job_step_and_rank() {
    let environment =
        [("SLURM_JOB_ID", "4321"), ("SLURM_STEP_ID", "7"), ("SLURM_JOB_NAME", "llama"), ("RANK", "27"), ("WORLD_SIZE", "64")];
    let task = Task::start(&environment);
    let (job, step, number) = if task.has_control_group() { ("slurm-1234", "0", "3") } else { ("slurm-4321", "7", "") };
    let collector = Collector::start().await;
    let node = Node::start(&format!("process_pids = [{}]\n", task.process.id()), &collector.address);

    let ranked = |seen: &Seen| {
        let known = seen.jobs().iter().find(|known| known.name == job && known.members.len() == 8)?;
        known.members.iter().all(|member| member.rank == Some(27)).then(|| known.clone())
    };
    let working = |seen: &Seen, id: u32| (1..=8).all(|gpu| seen.values("job").any(|row| row.0 == gpu && row.2 == i64::from(id)));
    // Declarations come with the next stream too: the collector here keeps only the last one whole.
    let seen = collector.wait(PATIENCE, |seen| ranked(seen).is_some_and(|known| working(seen, known.id))).await;
    let known = ranked(&seen).expect("it is known");
    assert_eq!((known.scheduler.as_str(), known.title.as_str(), known.world_size), ("slurm", "llama", 64));
    assert!(known.members.iter().all(|member| member.step == step && member.task == number), "{known:?}");

    let info = format!(",job=\"{job}\",step=\"{step}\",task=\"{number}\",rank=\"27\",namespace=\"\",pod=\"\",container=\"\"}} 1");
    let shown = |metrics: &str| {
        metrics.lines().filter(|line| line.starts_with("gridstep_gpu_job_info{") && line.ends_with(&info)).count()
    };
    assert_eq!(shown(&node.metrics()), 8, "{}", node.metrics());

    // The process ends; that the driver still lists its pid makes nobody's job of it.
    drop(task);
    collector.wait(3.0 * PATIENCE, |seen| seen.values("job").last().is_some_and(|row| row.2 == 0)).await;
    let begun = std::time::Instant::now();
    while shown(&node.metrics()) > 0 {
        assert!(begun.elapsed().as_secs_f64() < PATIENCE, "series of a job that ended stay");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
