//! What each node has sent, and who of them is connected.

use crate::fleet::NodeSlot;
use crate::recorder::MarkMap;
use crate::state::{NodeRecord, Numbering};
use gridstep_wire::Micros;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// More nodes than this are refused: a stream names its node as it likes.
const MAX_NODES: usize = 16_384;

/// A stream is told how far it is this long after it was told last, and not with each batch: an answer costs as much as a batch does …
const TELL_EVERY_US: i64 = 1_000_000;
/// … or after so many values, what a backlog brings at once; or when it asks, as an agent does that stops ([`Nodes::answer`]).
const TELL_SAMPLES: u64 = 4096;

/// Numberings remembered of a node beside the live one: those that its backlog comes under, one after the other.
const EARLIER: usize = 8;

#[derive(Debug, thiserror::Error)]
#[error("there are {MAX_NODES} nodes already")]
pub(crate) struct Full;

/// Both cumulative, as on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Acked {
    pub(crate) received: u64,
    pub(crate) durable: u64,
}

/// What a stream says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Joining {
    pub(crate) node: String,
    /// Names the numbering of its batches.
    pub(crate) spool: u64,
    /// The lowest sequence that the agent still has.
    pub(crate) oldest: u64,
    /// It brings what earlier streams could not: nothing of how the node is now.
    pub(crate) backlog: bool,
    /// What is missing may have gone to another collector.
    pub(crate) shared: bool,
    /// The kernel's boot.
    pub(crate) boot: String,
}

/// Names a stream among all. What it brings is found by that: a batch costs less than looking for its node's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamId {
    /// Place of its node.
    node: u32,
    nth: u64,
}

/// What a stream gets that joins.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) stream: StreamId,
    pub(crate) durable: u64,
    /// Ends when another stream of the node takes over.
    pub(crate) acks: watch::Receiver<Acked>,
}

#[derive(Debug, Default)]
pub(crate) struct Node {
    name: Arc<str>,
    pub(crate) record: NodeRecord,
    pub(crate) last_batch: Option<Micros>,
    slot: Option<NodeSlot>,
    live: Option<Stream>,
    backlog: Option<Stream>,
}

#[derive(Debug)]
struct Stream {
    nth: u64,
    spool: u64,
    acks: watch::Sender<Acked>,
    told_at: Micros,
    /// Batches and values that it has brought since.
    untold: (u64, u64),
}

impl Stream {
    fn tell(&mut self, acked: Acked, now: Micros) {
        (self.told_at, self.untold) = (now, (0, 0));
        self.acks.send_replace(acked);
    }
}

/// What a batch turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// `lost` batches before it are not coming. Without a slot it is of a backlog.
    New { slot: Option<NodeSlot>, lost: u64 },
    /// It has been taken before.
    Again,
    /// Its stream has been replaced: the new one will bring it.
    Replaced,
}

/// (place of the node, spool, received) at the instant of a checkpoint.
#[derive(Debug)]
pub(super) struct Covered(Vec<(u32, u64, u64)>);

#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// In the order in which they came; none goes.
    nodes: Vec<Node>,
    places: BTreeMap<Arc<str>, u32>,
    last_stream: u64,
}

/// What a stream brings batches of.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) node: Arc<str>,
    pub(super) spool: u64,
    pub(super) backlog: bool,
}

impl Nodes {
    /// From a checkpoint: all of it is durable.
    pub(super) fn new(records: Vec<(String, NodeRecord)>) -> Self {
        let mut nodes = Self::default();
        for (name, mut record) in records {
            record.numberings().for_each(|numbering| numbering.durable = numbering.received);
            let place = nodes.place(&name);
            nodes.nodes[place as usize].record = record;
        }
        nodes
    }

    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.places.get(name).map(|&place| &self.nodes[place as usize])
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        self.places.get(name).map(|&place| &mut self.nodes[place as usize])
    }

    /// A new one, if the node has none.
    fn place(&mut self, name: &str) -> u32 {
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        let (name, place): (Arc<str>, u32) = (name.into(), self.nodes.len() as u32);
        self.nodes.push(Node { name: name.clone(), ..Node::default() });
        self.places.insert(name, place);
        place
    }

    /// By name.
    pub(super) fn records(&self) -> Vec<(&str, &NodeRecord)> {
        self.places.iter().map(|(name, &place)| (&**name, &self.nodes[place as usize].record)).collect()
    }

    pub(super) fn has_room(&self, name: &str) -> bool {
        self.nodes.len() < MAX_NODES || self.places.contains_key(name)
    }

    /// A stream takes over the node, or its backlog. Gives also how many batches turn out to be lost.
    /// `kept`: up to where the recording has its numbering, if there is one.
    pub(super) fn join(&mut self, joining: &Joining, slot: Option<NodeSlot>, kept: Option<u64>) -> (Result<Joined, Full>, u64) {
        if !self.has_room(&joining.node) {
            return (Err(Full), 0);
        }
        self.last_stream += 1;
        let id = StreamId { node: self.place(&joining.node), nth: self.last_stream };
        let node = &mut self.nodes[id.node as usize];
        let spool = joining.spool;
        let lost = node.record.begin(joining);
        node.record.of(spool).into_iter().for_each(|numbering| numbering.kept = kept);
        let acked = node.record.acked(spool);
        let (acks, receiver) = watch::channel(acked);
        let stream = Some(Stream { nth: id.nth, spool, acks, told_at: Micros::MIN, untold: (0, 0) });
        if joining.backlog {
            node.backlog = stream;
        } else {
            (node.slot, node.live) = (slot, stream);
        }
        (Ok(Joined { stream: id, durable: acked.durable, acks: receiver }), lost)
    }

    pub(super) fn leave(&mut self, stream: StreamId) {
        let Some(node) = self.nodes.get_mut(stream.node as usize) else { return };
        node.live.take_if(|current| current.nth == stream.nth);
        node.backlog.take_if(|current| current.nth == stream.nth);
    }

    pub(super) fn accept(&mut self, stream: StreamId, sequence: u64, samples: u64, now: Micros) -> Accepted {
        let Some(node) = self.nodes.get_mut(stream.node as usize) else { return Accepted::Replaced };
        let is_it = |other: &&Stream| other.nth == stream.nth;
        let (spool, slot) = match (node.live.as_ref().filter(is_it), node.backlog.as_ref().filter(is_it)) {
            (Some(live), _) => {
                node.last_batch = Some(now);
                (live.spool, node.slot)
            }
            (None, Some(backlog)) => (backlog.spool, None),
            (None, None) => return Accepted::Replaced,
        };
        let record = &mut node.record;
        let Some(numbering) = record.of(spool) else { return Accepted::Replaced };
        if sequence <= numbering.received {
            return Accepted::Again;
        }
        let lost = sequence - numbering.received - 1;
        numbering.received = sequence;
        record.samples += samples;
        record.lost_batches += lost;
        Accepted::New { slot, lost }
    }

    /// The stream has brought a batch of so many values: tells it how far it is, now or soon, also where it is no further: what comes again waits
    /// for an answer too.
    pub(super) fn acknowledge(&mut self, stream: StreamId, samples: u64, now: Micros) {
        let Some(Node { record, live, backlog, .. }) = self.nodes.get_mut(stream.node as usize) else { return };
        let Some(stream) = live.iter_mut().chain(backlog).find(|other| other.nth == stream.nth) else { return };
        stream.untold = (stream.untold.0 + 1, stream.untold.1 + samples);
        if now.0.saturating_sub(stream.told_at.0) >= TELL_EVERY_US || stream.untold.1 >= TELL_SAMPLES {
            stream.tell(record.acked(stream.spool), now);
        }
    }

    /// The stream asks how far it is.
    pub(super) fn answer(&mut self, stream: StreamId, now: Micros) {
        let Some(Node { record, live, backlog, .. }) = self.nodes.get_mut(stream.node as usize) else { return };
        let asks = live.iter_mut().chain(backlog).find(|other| other.nth == stream.nth && other.untold.0 > 0);
        asks.into_iter().for_each(|stream| stream.tell(record.acked(stream.spool), now));
    }

    /// Tells the streams that were told nothing of their last batches.
    pub(super) fn acknowledge_rest(&mut self, now: Micros) {
        for Node { record, live, backlog, .. } in &mut self.nodes {
            let owed = live.iter_mut().chain(backlog).filter(|stream| stream.untold.0 > 0);
            let owed = owed.filter(|stream| now.0.saturating_sub(stream.told_at.0) >= TELL_EVERY_US);
            owed.for_each(|stream| stream.tell(record.acked(stream.spool), now));
        }
    }

    pub(super) fn covered(&mut self) -> Covered {
        let pending = self.nodes.iter_mut().zip(0..).flat_map(|(node, place)| {
            let pending = node.record.numberings().filter(|numbering| numbering.durable < numbering.received);
            pending.map(move |numbering| (place, numbering.spool, numbering.received))
        });
        Covered(pending.collect())
    }

    pub(super) fn source(&self, stream: StreamId) -> Option<Source> {
        let Node { name, live, backlog, .. } = self.nodes.get(stream.node as usize)?;
        let spool = |of: &Option<Stream>| of.as_ref().filter(|other| other.nth == stream.nth).map(|other| other.spool);
        let (spool, backlog) = spool(live).map(|spool| (spool, false)).or_else(|| spool(backlog).map(|spool| (spool, true)))?;
        Some(Source { node: name.clone(), spool, backlog })
    }

    /// The recording holds more: tells the streams.
    pub(super) fn set_kept(&mut self, marks: &MarkMap) {
        for (name, kept) in marks {
            let Some(node) = self.get_mut(name) else { continue };
            for &(spool, sequence) in kept {
                if let Some(kept) = node.record.of(spool).and_then(|numbering| numbering.kept.as_mut()) {
                    *kept = sequence.max(*kept);
                }
            }
            node.tell();
        }
    }

    /// Ends some of the streams whose numbering is as wanted: their agents come again.
    pub(super) fn end_streams(&mut self, most: usize, wanted: impl Fn(&str, u64) -> bool) {
        let mut left = most;
        for Node { name, live, backlog, .. } in &mut self.nodes {
            for stream in [live, backlog] {
                if left > 0 && stream.take_if(|stream| wanted(name, stream.spool)).is_some() {
                    left -= 1;
                }
            }
        }
    }

    /// The checkpoint is on disk: tells the streams.
    pub(super) fn make_durable(&mut self, covered: &Covered) {
        for (place, spool, received) in &covered.0 {
            let Some(node) = self.nodes.get_mut(*place as usize) else { continue };
            for numbering in node.record.numberings().filter(|numbering| numbering.spool == *spool) {
                numbering.durable = numbering.durable.max(*received);
            }
            node.tell();
        }
    }
}

impl Node {
    pub(crate) fn is_connected(&self) -> bool {
        self.live.is_some()
    }

    fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.live.iter().chain(&self.backlog)
    }

    /// Tells the streams that are further now.
    fn tell(&self) {
        for stream in self.streams() {
            let acked = self.record.acked(stream.spool);
            stream.acks.send_if_modified(|before| std::mem::replace(before, acked) != acked);
        }
    }
}

impl NodeRecord {
    fn numberings(&mut self) -> impl Iterator<Item = &mut Numbering> {
        self.earlier.iter_mut().chain(std::iter::once(&mut self.live))
    }

    fn of(&mut self, spool: u64) -> Option<&mut Numbering> {
        self.numberings().find(|numbering| numbering.spool == spool)
    }

    /// Nothing, where the numbering is forgotten. Durable is what both the checkpoint and the recording hold.
    pub(crate) fn acked(&self, spool: u64) -> Acked {
        let numbering = self.earlier.iter().chain([&self.live]).find(|numbering| numbering.spool == spool);
        numbering.map_or_else(Acked::default, |numbering| Acked {
            received: numbering.received,
            durable: numbering.durable.min(numbering.kept.unwrap_or(u64::MAX)),
        })
    }

    /// A stream goes on with a numbering, or begins it; gives how many of its batches are lost.
    fn begin(&mut self, joining: &Joining) -> u64 {
        let &Joining { spool, oldest, backlog, shared, .. } = joining;
        let before = oldest.saturating_sub(1);
        if self.live.spool != spool {
            let known = self.earlier.iter().position(|numbering| numbering.spool == spool);
            // What lies before a numbering that is not known here is not ours to miss.
            let unknown = || Numbering { spool, received: before, durable: before, kept: None };
            let numbering = known.map_or_else(unknown, |index| self.earlier.remove(index));
            let earlier = if backlog { numbering } else { std::mem::replace(&mut self.live, numbering) };
            // But for the live one of a node that has had none.
            self.earlier.extend(Some(earlier).filter(|earlier| *earlier != Numbering::default()));
            let surplus = self.earlier.len().saturating_sub(EARLIER);
            self.earlier.drain(..surplus);
        }
        let Some(numbering) = self.of(spool) else { return 0 };
        let missing = before.saturating_sub(numbering.received);
        numbering.received += missing;
        let lost = if shared { 0 } else { missing };
        self.lost_batches += lost;
        lost
    }
}

#[cfg(test)]
mod tests;
