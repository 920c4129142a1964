//! live ─▶ **state** (a file)
//!
//! The checkpoint: the judging as it stands, and up to where each agent's batches are in it. What an agent hears to be
//! durable is in the file; what is not in it comes again after a restart. So nothing is lost and nothing counted twice.

use crate::alerts::Announced;
use crate::fleet::Place;
use crate::judge::{Judge, JudgeConfig};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FILE: &str = "collector.state";
/// Where a file goes that cannot be read.
const ASIDE: &str = "collector.state.unreadable";
/// The last letter is the version of the envelope.
const MAGIC: &[u8; 8] = b"GRIDSTP1";
const HEADER_BYTES: usize = 8 + 4;
/// A predecessor that is dying holds the lock for a moment yet.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// A numbering of an agent's batches, and how far it has been taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbering {
    /// Its name.
    pub(crate) spool: u64,
    /// Every batch up to here has been taken (or is lost).
    pub(crate) received: u64,
    /// Every batch up to here is in a checkpoint on disk. What is loaded from one, is.
    #[serde(skip)]
    pub(crate) durable: u64,
    /// Every batch up to here is in the recording. None: there is no recorder, or no stream since the start.
    #[serde(skip)]
    pub(crate) kept: Option<u64>,
}

/// What one agent has sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    /// Of the last live stream.
    #[serde(flatten)]
    pub(crate) live: Numbering,
    /// Others that may yet come again, the one that was joined last at the end. Absent in a file of an older version.
    #[serde(default)]
    pub(crate) earlier: Vec<Numbering>,
    /// Values taken.
    pub(crate) samples: u64,
    /// Batches that the agent let go of before they were taken.
    pub(crate) lost_batches: u64,
}

/// What the judging was set up with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Basis {
    pub(crate) config: JudgeConfig,
    pub(crate) places: Vec<Place>,
}

/// What a checkpoint holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved<B, N, J, A> {
    pub(crate) basis: B,
    pub(crate) nodes: N,
    pub(crate) judge: J,
    /// Absent in a file of an older version.
    #[serde(default)]
    pub(crate) announced: A,
}

pub(crate) type Loaded = Saved<Basis, Vec<(String, NodeRecord)>, Judge, Announced>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("make state directory {path}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("lock state directory {0}: another collector holds it")]
    Locked(PathBuf),
    #[error("read checkpoint {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("set aside the unreadable checkpoint {path}")]
    SetAside { path: PathBuf, source: io::Error },
    #[error("write checkpoint {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("encode checkpoint: {0}")]
    Encode(String),
}

/// The directory of the checkpoint; one collector at a time.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::Directory { path: path.into(), source };
        fs::create_dir_all(path).map_err(failed)?;
        let lock = File::create(path.join("collector.lock")).map_err(failed)?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { path: path.into(), _lock: lock }),
                Err(fs::TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_RETRY),
                Err(fs::TryLockError::WouldBlock) => return Err(StateError::Locked(path.into())),
                Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }

    /// The last checkpoint, if there is one. One that cannot be understood is set aside, for a person to look at.
    pub(crate) fn load(&self) -> Result<Option<Loaded>, StateError> {
        let path = self.path.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Read { path, source }),
        };
        match decode(&bytes) {
            Ok(loaded) => Ok(Some(loaded)),
            Err(fault) => {
                let aside = self.path.join(ASIDE);
                fs::rename(&path, &aside).map_err(|source| StateError::SetAside { path, source })?;
                tracing::warn!(%fault, moved_to = %aside.display(), "checkpoint is unreadable: judging begins anew");
                Ok(None)
            }
        }
    }

    /// Replaces the checkpoint. After a crash there is the old one or the new one.
    pub(crate) fn store(&self, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.path.join(FILE);
        let aside = self.path.join("collector.state.tmp");
        let write = || {
            let mut file = File::create(&aside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&aside, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| StateError::Write { path: path.clone(), source })
    }
}

/// The bytes of a checkpoint file.
pub(crate) fn encode(
    basis: &Basis,
    nodes: &[(&str, &NodeRecord)],
    judge: &Judge,
    announced: &Announced,
) -> Result<Vec<u8>, StateError> {
    let mut bytes = vec![0; HEADER_BYTES];
    ciborium::into_writer(&Saved { basis, nodes, judge, announced }, &mut bytes)
        .map_err(|error| StateError::Encode(error.to_string()))?;
    let sum = crc32fast::hash(&bytes[HEADER_BYTES..]);
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Loaded, String> {
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else { return Err("it is too short".into()) };
    if &header[..8] != MAGIC {
        return Err("it is of another version".into());
    }
    if header[8..] != crc32fast::hash(body).to_le_bytes() {
        return Err("its checksum is wrong".into());
    }
    ciborium::from_reader(body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{GpuMetric, GpuSlot};
    use gridstep_wire::Micros;

    fn basis() -> Basis {
        Basis { config: JudgeConfig::default(), places: Vec::new() }
    }

    #[test]
    fn what_is_stored_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        assert!(state.load().unwrap().is_none());
        let numbering = |spool, received| Numbering { spool, received, ..Numbering::default() };
        let (live, earlier) = (numbering(u64::MAX, 7), vec![numbering(3, 5)]);
        let record = NodeRecord { live, earlier, samples: 9, lost_batches: 1 };
        state
            .store(
                &encode(&basis(), &[("n1", &record)], &Judge::new(JudgeConfig::default(), &[]), &Announced::default()).unwrap(),
            )
            .unwrap();
        let loaded = state.load().unwrap().unwrap();
        assert_eq!((loaded.basis, loaded.nodes), (basis(), vec![("n1".into(), record)]));
    }

    fn checkpoint() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoint-of-november.state")
    }

    fn at(seconds: f64) -> Micros {
        Micros::from_seconds(1_760_000_000.0 + seconds)
    }

    /// Two GPUs on each of two nodes that draw 300 W, and 400 W after 25 s; a GPU is lost at 20 s.
    fn feed(judge: &mut Judge, seconds: std::ops::Range<u32>) {
        for tick in seconds.start * 10..seconds.end * 10 {
            let second = f64::from(tick) / 10.0;
            judge.advance(at(second));
            for node in ["n1", "n2"] {
                let node = judge.fleet_mut().node(node);
                for index in 0..2 {
                    let gpu = judge.fleet_mut().gpu(node, index);
                    let noise = f64::from((tick * 7 + gpu.0 * 13) % 11);
                    let (ts, watts) = (at(second - 0.3), if second < 25.3 { 300.0 } else { 400.0 });
                    judge.put_gpu_power(gpu, ts, watts + noise);
                    if tick % 10 == 0 && (node.0, index) != (0, 1) {
                        judge.put_gpu(gpu, GpuMetric::Up, ts, 1.0);
                    }
                    if tick == 200 && (node.0, index) == (0, 1) {
                        judge.put_event(node, Some(gpu), ts, "gpu_lost", 0);
                    }
                }
            }
        }
    }

    /// Writes the fixture: `cargo test -- --ignored write_the_fixture`, with the version that it is to be of.
    #[test]
    #[ignore = "writes a file that is checked in"]
    fn write_the_fixture() {
        let mut config = JudgeConfig::default();
        config.power.limits.contracted_watts = Some(2800.0);
        let mut judge = Judge::new(config.clone(), &[]);
        feed(&mut judge, 0..30);
        assert_eq!(judge.incidents().count(), 2);
        let bytes = encode(&Basis { config, places: Vec::new() }, &[], &judge, &Announced::default()).unwrap();
        fs::write(checkpoint(), bytes).unwrap();
    }

    /// What a checkpoint holds, as it stands in the file.
    fn value() -> ciborium::Value {
        ciborium::from_reader(&fs::read(checkpoint()).unwrap()[HEADER_BYTES..]).unwrap()
    }

    fn field<'a>(value: &'a mut ciborium::Value, name: &str) -> &'a mut ciborium::Value {
        let map = value.as_map_mut().unwrap();
        &mut map.iter_mut().find(|(key, _)| key.as_text() == Some(name)).unwrap_or_else(|| panic!("no {name}")).1
    }

    fn loaded(value: &ciborium::Value) -> Judge {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap();
        let loaded: Loaded = ciborium::from_reader(bytes.as_slice()).unwrap();
        let mut judge = loaded.judge;
        judge.reconfigure(loaded.basis.config, &loaded.basis.places);
        judge
    }

    /// Incidents and fleet are there, and the judging goes on: the power is known again, and falls.
    fn goes_on(mut judge: Judge) {
        let causes = |judge: &Judge| judge.incidents().map(|incident| incident.cause.clone()).collect::<Vec<_>>();
        assert_eq!((causes(&judge), judge.fleet().gpus().len()), (vec!["gpu_lost".into(), "step_up".into()], 4));
        feed(&mut judge, 30..90);
        let last = judge.power_history().next_back().unwrap();
        assert!((last.watts / 1620.0 - 1.0).abs() < 0.02 && last.completeness == 1.0, "{last:?}");
        for tick in 900..1000 {
            judge.advance(at(f64::from(tick) / 10.0));
            (0..4).for_each(|gpu| judge.put_gpu_power(GpuSlot(gpu), at(f64::from(tick) / 10.0 - 0.3), 200.0));
        }
        assert_eq!(causes(&judge), ["gpu_lost", "step_up", "step_down"]);
    }

    #[test]
    fn a_checkpoint_of_an_older_version_is_taken_up() {
        assert!(decode(&fs::read(checkpoint()).unwrap()).is_ok());
        goes_on(loaded(&value()));
    }

    /// Before whole nodes and meters were summed, and before swings were what they are.
    #[test]
    fn what_a_checkpoint_does_not_have_is_learned_anew() {
        let mut value = value();
        let judge = field(&mut value, "judge").as_map_mut().unwrap();
        let before = judge.len();
        judge.retain(|(key, _)| !["meter_grid", "node_grid", "limits_for", "swings", "now"].contains(&key.as_text().unwrap()));
        assert_eq!(judge.len(), before - 5);
        goes_on(loaded(&value));
    }

    /// Of another version in its inner parts: that begins anew, and the rest stays.
    #[test]
    fn what_is_not_understood_of_a_checkpoint_begins_anew() {
        let mut value = value();
        let judge = field(&mut value, "judge");
        field(judge, "board_grid").as_map_mut().unwrap().retain(|(key, _)| key.as_text() != Some("ring"));
        let swings = field(judge, "swings");
        field(swings, "fleet").as_map_mut().unwrap().clear();
        goes_on(loaded(&value));
    }

    /// As it was before an agent could have several numberings.
    #[test]
    fn a_record_of_an_older_version_is_understood() {
        #[derive(Serialize)]
        struct Older {
            spool: u64,
            received: u64,
            samples: u64,
            lost_batches: u64,
        }
        let mut bytes = Vec::new();
        ciborium::into_writer(&Older { spool: u64::MAX, received: 7, samples: 9, lost_batches: 1 }, &mut bytes).unwrap();
        let record: NodeRecord = ciborium::from_reader(bytes.as_slice()).unwrap();
        let live = Numbering { spool: u64::MAX, received: 7, ..Numbering::default() };
        assert_eq!(record, NodeRecord { live, earlier: Vec::new(), samples: 9, lost_batches: 1 });
    }

    #[test]
    fn a_corrupt_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let mut bytes = encode(&basis(), &[], &Judge::new(JudgeConfig::default(), &[]), &Announced::default()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        state.store(&bytes).unwrap();
        assert!(state.load().unwrap().is_none());
        assert!(folder.path().join(ASIDE).exists() && !folder.path().join(FILE).exists());
    }

    #[test]
    fn a_directory_has_one_collector() {
        let folder = tempfile::tempdir().unwrap();
        let _first = StateDir::open(folder.path()).unwrap();
        assert!(matches!(StateDir::open(folder.path()), Err(StateError::Locked(_))));
    }
}
