//! One process of a job on a GPU, from all that is known of it.

use super::environment::Environment;
use super::pods;
use super::process::Process;
use gridstep_wire::pb;

/// Digits of a container's id that stand for its name where that is not known.
const SHORT_ID: usize = 12;

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// As the collector knows it; "": none.
    pub job: String,
    pub(super) scheduler: &'static str,
    pub(super) title: String,
    pub(super) world_size: u32,
    pub rank: Option<u32>,
    pub step: String,
    pub task: String,
    pub namespace: String,
    pub pod: String,
    pub container: String,
}

impl Member {
    /// None: nobody's. What the cgroup says is the system's word; the environment is the user's, and fills in what is not known.
    pub(super) fn of(process: &Process, environment: Option<&Environment>) -> Option<Self> {
        let nothing = Environment::default();
        let environment = environment.unwrap_or(&nothing);
        let mut member = Self { rank: environment.rank, world_size: environment.world_size.unwrap_or(0), ..Self::default() };
        member.take_pod(process, environment);
        member.take_slurm(process, environment);
        (!member.job.is_empty() || !member.container.is_empty()).then_some(member)
    }

    /// The command of the site says which job it is.
    pub(super) fn by_command(job: String) -> Self {
        Self { job, scheduler: "command", ..Self::default() }
    }

    /// Slurm may run inside a pod: then the job is Slurm's.
    fn take_slurm(&mut self, process: &Process, environment: &Environment) {
        let of_cgroup = process.place.slurm.as_ref();
        let by_environment = process.place.pod.is_none() && !environment.slurm_job.is_empty();
        if of_cgroup.is_none() && !by_environment {
            return;
        }
        let job = of_cgroup.map_or(&environment.slurm_job, |slurm| &slurm.job);
        let step = of_cgroup.map(|slurm| &slurm.step).filter(|step| !step.is_empty());
        (self.job, self.scheduler) = (format!("slurm-{job}"), "slurm");
        self.step.clone_from(step.unwrap_or(&environment.slurm_step));
        self.task = of_cgroup.map(|slurm| slurm.task.clone()).unwrap_or_default();
        self.title.clone_from(&environment.title);
    }

    fn take_pod(&mut self, process: &Process, environment: &Environment) {
        let id = process.place.container.as_deref().unwrap_or_default();
        self.container = id.chars().take(SHORT_ID).collect();
        let Some(uid) = &process.place.pod else { return };
        self.scheduler = "kubernetes";
        match &process.names {
            Some(names) => {
                self.job = format!("{}/{}", names.namespace, pods::job_of(&names.pod));
                (self.namespace, self.pod) = (names.namespace.clone(), names.pod.clone());
                if !names.container.is_empty() {
                    self.container.clone_from(&names.container);
                }
            }
            None => {
                self.job = format!("pod-{uid}");
                self.namespace.clone_from(&environment.namespace);
                self.pod.clone_from(if environment.pod.is_empty() { uid } else { &environment.pod });
            }
        }
    }

    pub(super) fn declare(&self, gpu: u32) -> pb::job::Member {
        pb::job::Member {
            entity: gpu + 1,
            rank: self.rank,
            step: self.step.clone(),
            task: self.task.clone(),
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            container: self.container.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cgroup::Place;
    use super::super::pods::Names;
    use super::*;

    fn process(cgroup: &str, names: Option<Names>) -> Process {
        Process { pid: 1, started: 1, place: Place::of(cgroup), names }
    }

    fn job(cgroup: &str) -> Option<String> {
        Member::of(&process(cgroup, None), None).map(|member| member.job)
    }

    #[test]
    fn cgroups_of_slurm_and_kubernetes() {
        let slurm = "0::/system.slice/slurmstepd.scope/job_1234/step_0/user/task_0\n";
        assert_eq!(job(slurm).as_deref(), Some("slurm-1234"));
        let pod = "0::/kubepods.slice/kubepods-pod0b5e1c2a_1111_2222_3333_444455556666.slice/cri-abc.scope\n";
        assert_eq!(job(pod).as_deref(), Some("pod-0b5e1c2a-1111-2222-3333-444455556666"));
        assert_eq!(job("0::/user.slice/session-1.scope\n"), None);
    }

    #[test]
    fn the_environment_fills_in_and_does_not_override() {
        let environment = Environment {
            rank: Some(27),
            world_size: Some(32),
            slurm_job: "99".into(),
            slurm_step: "4".into(),
            title: "llama".into(),
            ..Environment::default()
        };
        let by_cgroup =
            Member::of(&process("0::/slurmstepd.scope/job_7/step_0/user/task_3\n", None), Some(&environment)).unwrap();
        assert_eq!((by_cgroup.job.as_str(), by_cgroup.step.as_str(), by_cgroup.task.as_str()), ("slurm-7", "0", "3"));
        assert_eq!((by_cgroup.rank, by_cgroup.title.as_str()), (Some(27), "llama"));
        let by_environment = Member::of(&process("0::/user.slice/x\n", None), Some(&environment)).unwrap();
        assert_eq!((by_environment.job.as_str(), by_environment.step.as_str()), ("slurm-99", "4"));
        let pod = "0::/kubepods/pod0b5e1c2a-1111-2222-3333-444455556666/x\n";
        assert_eq!(Member::of(&process(pod, None), Some(&environment)).unwrap().scheduler, "kubernetes");
    }

    #[test]
    fn pods_with_names_are_one_job_over_nodes() {
        let names = |pod: &str| Names { namespace: "ml".into(), pod: pod.into(), container: "pytorch".into() };
        let pod = "0::/kubepods/pod0b5e1c2a-1111-2222-3333-444455556666/x\n";
        let [one, other] =
            ["llama-worker-0", "llama-worker-1"].map(|pod_name| Member::of(&process(pod, Some(names(pod_name))), None));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!((one.job.as_str(), other.job.as_str()), ("ml/llama", "ml/llama"));
        assert_eq!((other.namespace.as_str(), other.pod.as_str(), other.container.as_str()), ("ml", "llama-worker-1", "pytorch"));
    }
}
