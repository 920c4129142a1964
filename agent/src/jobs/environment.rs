//! What a process was started with: /proc/PID/environ. Only the process's own user and root may read it, and it is what the process
//! was executed with: what it set for itself later is not in it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Of a longer environment the begin is read.
const MOST_BYTES: u64 = 256 << 10;
/// Values are cut here.
const MOST_VALUE_BYTES: usize = 128;

/// Names that tell a process's place among all of its job, the more particular first: a launcher inside a Slurm task starts a process a GPU.
const RANKS: [&str; 4] = ["RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"];
const WORLD_SIZES: [&str; 4] = ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE", "SLURM_NTASKS"];

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) rank: Option<u32>,
    pub(super) world_size: Option<u32>,
    pub(super) slurm_job: String,
    pub(super) slurm_step: String,
    /// SLURM_JOB_NAME
    pub(super) title: String,
    pub(super) namespace: String,
    pub(super) pod: String,
}

impl Environment {
    pub(super) fn read(proc: &Path, pid: u32) -> io::Result<Self> {
        let mut bytes = Vec::new();
        File::open(proc.join(pid.to_string()).join("environ"))?.take(MOST_BYTES).read_to_end(&mut bytes)?;
        Ok(Self::of(&bytes))
    }

    fn of(bytes: &[u8]) -> Self {
        let text = |name: &str| {
            let value = bytes.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
            let value = String::from_utf8_lossy(value.unwrap_or_default());
            value.chars().filter(|letter| !letter.is_control()).take(MOST_VALUE_BYTES).collect::<String>()
        };
        let number = |names: &[&str]| names.iter().find_map(|name| text(name).parse().ok());
        let digits = |name: &str| Some(text(name)).filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())).unwrap_or_default();
        let in_cluster = !text("KUBERNETES_SERVICE_HOST").is_empty();
        // A pod's host name is its own, unless it has the node's network.
        let pod = Some(text("POD_NAME")).filter(|name| !name.is_empty() || !in_cluster).unwrap_or_else(|| text("HOSTNAME"));
        Self {
            rank: number(&RANKS),
            world_size: number(&WORLD_SIZES),
            slurm_job: digits("SLURM_JOB_ID"),
            slurm_step: digits("SLURM_STEP_ID"),
            title: text("SLURM_JOB_NAME"),
            namespace: text("POD_NAMESPACE"),
            pod,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_s_rank_is_nearer_than_slurms() {
        let slurm = b"PATH=/bin\0SLURM_JOB_ID=1234\0SLURM_STEP_ID=0\0SLURM_PROCID=3\0SLURM_NTASKS=4\0SLURM_JOB_NAME=llama\0";
        let environment = Environment::of(slurm);
        assert_eq!((environment.rank, environment.world_size), (Some(3), Some(4)));
        assert_eq!((environment.slurm_job.as_str(), environment.slurm_step.as_str()), ("1234", "0"));
        assert_eq!(environment.title, "llama");
        let torchrun = [&slurm[..], b"RANK=27\0LOCAL_RANK=3\0WORLD_SIZE=32\0"].concat();
        let environment = Environment::of(&torchrun);
        assert_eq!((environment.rank, environment.world_size), (Some(27), Some(32)));
    }

    #[test]
    fn what_a_user_wrote_is_taken_with_care() {
        let environment = Environment::of(b"RANK=many\0SLURM_JOB_ID=12;rm\0SLURM_JOB_NAME=a\nb\"c\0NRANK=5\0HOSTNAME=node7");
        assert_eq!(environment, Environment { title: "ab\"c".into(), ..Environment::default() });
        let long = format!("SLURM_JOB_NAME={}", "x".repeat(9999));
        assert_eq!(Environment::of(long.as_bytes()).title.len(), 128);
    }

    #[test]
    fn a_pod_is_named_by_its_host_name_in_a_cluster_only() {
        let environment = Environment::of(b"KUBERNETES_SERVICE_HOST=10.0.0.1\0HOSTNAME=llama-worker-3\0");
        assert_eq!(environment.pod, "llama-worker-3");
        let environment = Environment::of(b"POD_NAME=a\0POD_NAMESPACE=b\0HOSTNAME=c\0");
        assert_eq!((environment.pod.as_str(), environment.namespace.as_str()), ("a", "b"));
    }
}
