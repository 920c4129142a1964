//! Names of the pods and containers on this node, from the names of their logs: they are there without the cluster's API, and everyone
//! may list them.

use std::fs;
use std::path::Path;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) namespace: String,
    pub(super) pod: String,
    /// "": not known.
    pub(super) container: String,
}

/// Names of a pod by its UID and its container's id, from the folder of logs (`/var/log`).
pub(super) fn names(logs: &Path, uid: &str, container: Option<&str>) -> Option<Names> {
    container.and_then(|id| by_container(logs, id)).or_else(|| by_pod(logs, uid))
}

/// `containers/<pod>_<namespace>_<container>-<id>.log`
fn by_container(logs: &Path, id: &str) -> Option<Names> {
    find(&logs.join("containers"), |file| {
        let mut words = file.strip_suffix(".log")?.strip_suffix(id)?.strip_suffix('-')?.splitn(3, '_');
        let (pod, namespace, container) = (words.next()?.into(), words.next()?.into(), words.next()?.into());
        Some(Names { namespace, pod, container })
    })
}

/// `pods/<namespace>_<pod>_<uid>`
fn by_pod(logs: &Path, uid: &str) -> Option<Names> {
    find(&logs.join("pods"), |folder| {
        let (namespace, pod) = folder.strip_suffix(uid)?.strip_suffix('_')?.split_once('_')?;
        Some(Names { namespace: namespace.into(), pod: pod.into(), container: String::new() })
    })
}

fn find(folder: &Path, names: impl Fn(&str) -> Option<Names>) -> Option<Names> {
    fs::read_dir(folder).ok()?.flatten().find_map(|entry| names(entry.file_name().to_str()?))
}

/// The name of the job that a pod is one of, as its controller made the pod's: `llama-worker-3` (Kubeflow's operators) and
/// `llama-3-x7k2p` (an indexed Job) are of `llama`. Other pods are jobs of their own.
pub(super) fn job_of(pod: &str) -> &str {
    indexed(pod).or_else(|| role(pod)).filter(|job| !job.is_empty()).unwrap_or(pod)
}

/// `-<index>-<five letters>`, of the letters and digits that Kubernetes makes random names of.
fn indexed(pod: &str) -> Option<&str> {
    let (rest, random) = pod.rsplit_once('-')?;
    let is_random = random.len() == 5 && random.bytes().all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte));
    let (job, index) = rest.rsplit_once('-')?;
    (is_random && is_index(index)).then_some(job)
}

/// `-<role>-<index>`
fn role(pod: &str) -> Option<&str> {
    let (rest, index) = pod.rsplit_once('-')?;
    let (job, role) = rest.rsplit_once('-')?;
    (is_index(index) && ["master", "worker", "chief", "launcher"].contains(&role)).then_some(job)
}

fn is_index(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_name_pods_and_containers() {
        let (uid, id) = ("0b5e1c2a-1111-2222-3333-444455556666", "ab".repeat(32));
        let logs = tempfile::tempdir().unwrap();
        fs::create_dir_all(logs.path().join(format!("pods/ml_llama-worker-3_{uid}"))).unwrap();
        let expected = Names { namespace: "ml".into(), pod: "llama-worker-3".into(), container: String::new() };
        assert_eq!(names(logs.path(), uid, Some(&id)), Some(expected.clone()));
        fs::create_dir_all(logs.path().join("containers")).unwrap();
        fs::write(logs.path().join(format!("containers/llama-worker-3_ml_pytorch-{id}.log")), "").unwrap();
        assert_eq!(names(logs.path(), uid, Some(&id)), Some(Names { container: "pytorch".into(), ..expected }));
        assert_eq!(names(logs.path(), "other", Some(&"cd".repeat(32))), None);
    }

    #[test]
    fn pods_of_one_job_have_its_name() {
        for (pod, job) in [
            ("llama-worker-3", "llama"),
            ("llama-master-0", "llama"),
            ("llama-3-x7k2p", "llama"),
            ("llama-7b-sft-workers-0-15-zx8w4", "llama-7b-sft-workers-0"),
            ("notebook", "notebook"),
            ("train-1", "train-1"),
            ("web-5d9c7b6f4-x7k2p", "web-5d9c7b6f4-x7k2p"),
            ("-worker-3", "-worker-3"),
        ] {
            assert_eq!(job_of(pod), job);
        }
    }
}
