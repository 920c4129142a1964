//! What the path of a process's control group tells: /proc/PID/cgroup, which everyone may read.
//!
//! Slurm: `…/job_1234/step_0/…/task_3`, below `slurmstepd.scope` (v2) or `slurm/uid_1000` (v1). Kubernetes:
//! `…pod<uid>[.slice]/<container>`, by systemd or cgroupfs, by containerd, CRI-O or Docker.

/// Hexadecimal digits of a container's id.
const CONTAINER_DIGITS: usize = 64;
/// A pod's UID, with or without its dashes (static pods have none).
const UID_LENGTHS: [usize; 2] = [36, 32];

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) slurm: Option<Slurm>,
    /// UID of a Kubernetes pod.
    pub(super) pod: Option<String>,
    /// Id of a container, 64 hexadecimal digits.
    pub(super) container: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Slurm {
    pub(super) job: String,
    /// "0", "batch", "extern", "interactive"; "": it has none yet.
    pub(super) step: String,
    /// Slurm's number of the task; "": none.
    pub(super) task: String,
}

impl Place {
    /// Of the text of a /proc/PID/cgroup file; the hierarchies of v1 add to each other.
    pub(super) fn of(text: &str) -> Self {
        let mut place = Self::default();
        // hierarchy:controllers:path
        for path in text.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
            // Containerd below a cgroupfs driver joins slice, runtime and container with colons.
            let names: Vec<&str> = path.split(['/', ':']).filter(|name| !name.is_empty()).collect();
            let slurm = slurm(&names);
            if place.slurm.as_ref().is_none_or(|known| known.task.is_empty()) && slurm.is_some() {
                place.slurm = slurm;
            }
            place.pod = place.pod.or_else(|| names.iter().find_map(|name| pod(name)));
            place.container = place.container.or_else(|| names.iter().rev().find_map(|name| container(name)));
        }
        place
    }
}

/// A `job_N` that Slurm made: other systems may have such names too.
fn slurm(names: &[&str]) -> Option<Slurm> {
    let numbered = |name: &str, prefix: &str| name.strip_prefix(prefix).filter(|rest| is_number(rest)).map(str::to_owned);
    let at = names.iter().position(|name| numbered(name, "job_").is_some())?;
    let (above, below) = (&names[..at], &names[at + 1..]);
    let step = below.iter().find_map(|name| name.strip_prefix("step_"));
    if step.is_none() && !above.iter().any(|name| name.contains("slurm") || numbered(name, "uid_").is_some()) {
        return None;
    }
    Some(Slurm {
        job: numbered(names[at], "job_")?,
        step: step.unwrap_or_default().to_owned(),
        task: below.iter().find_map(|name| numbered(name, "task_")).unwrap_or_default(),
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `pod<uid>`, `kubepods-burstable-pod<uid_with_underscores>.slice`
fn pod(name: &str) -> Option<String> {
    let uid = &name[name.rfind("pod")? + 3..];
    let uid = uid.strip_suffix(".slice").unwrap_or(uid).replace('_', "-");
    let is_uid = UID_LENGTHS.contains(&uid.len()) && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

/// `<id>`, `cri-containerd-<id>.scope`, `crio-<id>.scope`, `docker-<id>.scope`
fn container(name: &str) -> Option<String> {
    let id = name.strip_suffix(".scope").unwrap_or(name);
    let id = id.rsplit_once('-').map_or(id, |(_, id)| id);
    (id.len() == CONTAINER_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0b5e1c2a-1111-2222-3333-444455556666";
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn slurm(job: &str, step: &str, task: &str) -> Option<Slurm> {
        Some(Slurm { job: job.into(), step: step.into(), task: task.into() })
    }

    #[test]
    fn jobs_steps_and_tasks_of_slurm() {
        for (text, expected) in [
            ("0::/system.slice/slurmstepd.scope/job_1234/step_0/user/task_3\n", slurm("1234", "0", "3")),
            ("0::/system.slice/node7_slurmstepd.scope/job_1234/step_batch/user/task_0\n", slurm("1234", "batch", "0")),
            (
                "4:memory:/slurm/uid_1000/job_77/step_extern\n1:name=systemd:/system.slice/slurmd.service\n",
                slurm("77", "extern", ""),
            ),
            ("7:cpuset:/slurm/uid_0/job_77/step_2\n4:memory:/slurm/uid_0/job_77/step_2/task_5\n", slurm("77", "2", "5")),
            ("4:memory:/slurm_node7/uid_1000/job_77\n", slurm("77", "", "")),
            ("0::/../../system.slice/slurmstepd.scope/job_9/step_0/user/task_0\n", slurm("9", "0", "0")),
            ("0::/condor/job_5\n", None),
            ("0::/system.slice/slurmd.service\n", None),
            ("0::/system.slice/slurmstepd.scope/job_x/step_0\n", None),
            ("nonsense\n", None),
        ] {
            assert_eq!(Place::of(text).slurm, expected, "{text}");
        }
    }

    #[test]
    fn pods_and_containers_of_kubernetes() {
        let flat = UID.replace('-', "");
        let under = UID.replace('-', "_");
        for (text, pod) in [
            (format!("0::/kubepods.slice/kubepods-pod{under}.slice/cri-containerd-{ID}.scope"), UID),
            (format!("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/crio-{ID}.scope/x"), UID),
            (format!("11:memory:/kubepods/besteffort/pod{UID}/{ID}\n1:name=systemd:/kubepods/besteffort/pod{UID}/{ID}"), UID),
            (format!("5:cpu:/system.slice/containerd.service/kubepods-pod{under}.slice:cri-containerd:{ID}"), UID),
            (format!("0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{under}.slice/docker-{ID}.scope"), UID),
            (format!("0::/kubepods/pod{flat}/{ID}"), flat.as_str()),
        ] {
            let place = Place::of(&text);
            assert_eq!((place.pod.as_deref(), place.container.as_deref()), (Some(pod), Some(ID)), "{text}");
            assert_eq!(place.slurm, None);
        }
    }

    #[test]
    fn a_service_of_the_host_is_nobodys() {
        for text in ["0::/system.slice/nvidia-dcgm.service\n", "0::/user.slice/session-1.scope\n", "0::/podcast/tripod\n", ""] {
            assert_eq!(Place::of(text), Place::default(), "{text}");
        }
        let docker = Place::of(&format!("0::/system.slice/docker-{ID}.scope\n"));
        assert_eq!((docker.pod, docker.container.as_deref()), (None, Some(ID)));
    }
}
