//! live ─▶ **state** ─▶ store
//!
//! What a checkpoint holds: the judging as it stands, and up to where each agent's batches are in it. What an agent hears to be
//! durable is in one; what is not comes again after a restart. So nothing is lost and nothing counted twice. Where it is kept:
//! [`crate::store`].

use crate::alerts::Announced;
use crate::fleet::Place;
use crate::judge::{Judge, JudgeConfig};
use serde::{Deserialize, Serialize};
use std::io::{self, Seek, Write};
use std::sync::Arc;

/// The last letter is the version of the envelope.
const MAGIC: &[u8; 8] = b"GRIDSTP1";
const HEADER_BYTES: usize = 8 + 4;
/// So much is written at once.
const BUFFER_BYTES: usize = 1 << 16;

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

/// All of a checkpoint at one instant. It is encoded where nobody waits for it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) basis: Arc<Basis>,
    pub(crate) nodes: Vec<(String, NodeRecord)>,
    pub(crate) judge: Judge,
    pub(crate) announced: Announced,
}

/// Writes the bytes of a checkpoint; gives how many.
pub(crate) fn encode(snapshot: &Snapshot, out: &mut (impl Write + Seek)) -> io::Result<u64> {
    let Snapshot { basis, nodes, judge, announced } = snapshot;
    out.write_all(&[0; HEADER_BYTES])?;
    let mut body = Summed { out, buffer: Vec::with_capacity(BUFFER_BYTES), sum: crc32fast::Hasher::new(), bytes: 0 };
    let saved = Saved { basis: basis.as_ref(), nodes, judge, announced };
    ciborium::into_writer(&saved, &mut body).map_err(|error| match error {
        ciborium::ser::Error::Io(error) => error,
        ciborium::ser::Error::Value(fault) => io::Error::other(format!("encode checkpoint: {fault}")),
    })?;
    body.pass()?;
    let Summed { sum, bytes, .. } = body;
    out.rewind()?;
    out.write_all(MAGIC)?;
    out.write_all(&sum.finalize().to_le_bytes())?;
    out.flush()?;
    Ok(HEADER_BYTES as u64 + bytes)
}

/// Sums up what goes through it, much at once: it comes number by number.
struct Summed<'a, W> {
    out: &'a mut W,
    buffer: Vec<u8>,
    sum: crc32fast::Hasher,
    bytes: u64,
}

impl<W: Write> Summed<'_, W> {
    #[cold]
    fn pass(&mut self) -> io::Result<()> {
        self.sum.update(&self.buffer);
        self.bytes += self.buffer.len() as u64;
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl<W: Write> Write for Summed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES { self.pass() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the bytes hold, or why that cannot be told.
pub(crate) fn decode(bytes: &[u8]) -> Result<Loaded, String> {
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
pub(crate) mod tests {
    use super::*;
    use crate::fleet::{GpuMetric, GpuSlot};
    use gridstep_wire::Micros;
    use std::fs;
    use std::path::{Path, PathBuf};

    fn encoded(snapshot: &Snapshot) -> Vec<u8> {
        let mut bytes = io::Cursor::new(Vec::new());
        let count = encode(snapshot, &mut bytes).unwrap();
        assert_eq!(count, bytes.get_ref().len() as u64);
        bytes.into_inner()
    }

    pub(crate) fn snapshot(nodes: Vec<(String, NodeRecord)>) -> Snapshot {
        let basis = Arc::new(Basis { config: JudgeConfig::default(), places: Vec::new() });
        let judge = Judge::new(basis.config.clone(), &[]);
        Snapshot { basis, nodes, judge, announced: Announced::default() }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let numbering = |spool, received| Numbering { spool, received, ..Numbering::default() };
        let (live, earlier) = (numbering(u64::MAX, 7), vec![numbering(3, 5)]);
        let nodes = vec![("n1".to_owned(), NodeRecord { live, earlier, samples: 9, lost_batches: 1 })];
        let snapshot = snapshot(nodes.clone());
        let mut bytes = encoded(&snapshot);
        let loaded = decode(&bytes).unwrap();
        assert_eq!((&loaded.basis, loaded.nodes), (&*snapshot.basis, nodes));
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(decode(&bytes).unwrap_err(), "its checksum is wrong");
        assert_eq!(decode(&bytes[..7]).unwrap_err(), "it is too short");
    }

    pub(crate) fn checkpoint() -> PathBuf {
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
        let basis = Arc::new(Basis { config, places: Vec::new() });
        let snapshot = Snapshot { basis, nodes: Vec::new(), judge, announced: Announced::default() };
        fs::write(checkpoint(), encoded(&snapshot)).unwrap();
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
}
