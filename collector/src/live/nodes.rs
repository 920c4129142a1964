//! What each node has sent, and who of them is connected.

use crate::fleet::NodeSlot;
use crate::state::NodeRecord;
use gridstep_wire::Micros;
use std::collections::BTreeMap;
use tokio::sync::watch;

/// More nodes than this are refused: a stream names its node as it likes.
const MAX_NODES: usize = 16_384;

#[derive(Debug, thiserror::Error)]
#[error("there are {MAX_NODES} nodes already")]
pub(crate) struct Full;

/// Both cumulative, as on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Acked {
    pub(crate) received: u64,
    pub(crate) durable: u64,
}

/// What a stream gets that joins.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) stream: u64,
    pub(crate) durable: u64,
    /// Ends when another stream of the node takes over.
    pub(crate) acks: watch::Receiver<Acked>,
}

#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) record: NodeRecord,
    /// Every batch up to here is in a checkpoint on disk.
    pub(crate) durable: u64,
    pub(crate) last_batch: Option<Micros>,
    slot: Option<NodeSlot>,
    stream: Option<(u64, watch::Sender<Acked>)>,
}

impl Node {
    pub(crate) fn is_connected(&self) -> bool {
        self.stream.is_some()
    }
}

/// What a batch turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// `lost` batches before it are not coming.
    New { slot: NodeSlot, lost: u64 },
    /// It has been taken before.
    Again,
    /// Its stream has been replaced: the new one will bring it.
    Replaced,
}

/// (node, spool, received) at the instant of a checkpoint.
#[derive(Debug)]
pub(super) struct Covered(Vec<(String, u64, u64)>);

#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: BTreeMap<String, Node>,
    last_stream: u64,
}

impl Nodes {
    /// From a checkpoint: all of it is durable.
    pub(super) fn new(records: Vec<(String, NodeRecord)>) -> Self {
        let node = |record: NodeRecord| Node { durable: record.received, record, ..Node::default() };
        Self { nodes: records.into_iter().map(|(name, record)| (name, node(record))).collect(), last_stream: 0 }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    pub(super) fn records(&self) -> Vec<(&str, &NodeRecord)> {
        self.nodes.iter().map(|(name, node)| (name.as_str(), &node.record)).collect()
    }

    /// A stream takes over the node. Gives also how many batches turn out to be lost.
    pub(super) fn join(&mut self, name: &str, slot: NodeSlot, spool: u64, oldest: u64) -> (Result<Joined, Full>, u64) {
        if self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(name) {
            return (Err(Full), 0);
        }
        self.last_stream += 1;
        let stream = self.last_stream;
        let node = self.nodes.entry(name.to_owned()).or_default();
        let before = oldest.saturating_sub(1);
        let mut lost = 0;
        if node.record.spool != spool {
            // A numbering that is not known here: what lies before it is not ours to miss.
            node.record.spool = spool;
            node.record.received = before;
            node.durable = before;
        } else if before > node.record.received {
            lost = before - node.record.received;
            node.record.received = before;
        }
        node.record.lost_batches += lost;
        node.slot = Some(slot);
        let acked = Acked { received: node.record.received, durable: node.durable };
        let (sender, acks) = watch::channel(acked);
        node.stream = Some((stream, sender));
        (Ok(Joined { stream, durable: node.durable, acks }), lost)
    }

    pub(super) fn leave(&mut self, name: &str, stream: u64) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.stream.take_if(|(current, _)| *current == stream);
        }
    }

    pub(super) fn accept(&mut self, name: &str, stream: u64, sequence: u64, samples: u64, now: Micros) -> Accepted {
        let Some(node) = self.nodes.get_mut(name) else { return Accepted::Replaced };
        let (Some((current, _)), Some(slot)) = (&node.stream, node.slot) else { return Accepted::Replaced };
        if *current != stream {
            return Accepted::Replaced;
        }
        node.last_batch = Some(now);
        let record = &mut node.record;
        if sequence <= record.received {
            return Accepted::Again;
        }
        let lost = sequence - record.received - 1;
        record.received = sequence;
        record.samples += samples;
        record.lost_batches += lost;
        Accepted::New { slot, lost }
    }

    /// Tells the node's stream how far it is.
    pub(super) fn acknowledge(&self, name: &str) {
        if let Some(node) = self.nodes.get(name) {
            node.tell();
        }
    }

    pub(super) fn covered(&self) -> Covered {
        let one = |(name, node): (&String, &Node)| (name.clone(), node.record.spool, node.record.received);
        Covered(self.nodes.iter().map(one).collect())
    }

    /// The checkpoint is on disk: tells the streams.
    pub(super) fn make_durable(&mut self, covered: &Covered) {
        for (name, spool, received) in &covered.0 {
            if let Some(node) = self.nodes.get_mut(name)
                && node.record.spool == *spool
                && node.durable < *received
            {
                node.durable = *received;
                node.tell();
            }
        }
    }
}

impl Node {
    fn tell(&self) {
        if let Some((_, sender)) = &self.stream {
            sender.send_replace(Acked { received: self.record.received, durable: self.durable });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: NodeSlot = NodeSlot(0);

    fn join(nodes: &mut Nodes, spool: u64, oldest: u64) -> Joined {
        nodes.join("n", SLOT, spool, oldest).0.unwrap()
    }

    fn accept(nodes: &mut Nodes, joined: &Joined, sequence: u64) -> Accepted {
        nodes.accept("n", joined.stream, sequence, 10, Micros(0))
    }

    #[test]
    fn a_batch_counts_once_and_gaps_are_losses() {
        let mut nodes = Nodes::default();
        let joined = join(&mut nodes, 5, 1);
        assert_eq!(accept(&mut nodes, &joined, 1), Accepted::New { slot: SLOT, lost: 0 });
        assert_eq!(accept(&mut nodes, &joined, 1), Accepted::Again);
        assert_eq!(accept(&mut nodes, &joined, 4), Accepted::New { slot: SLOT, lost: 2 });
        assert_eq!(nodes.get("n").unwrap().record, NodeRecord { spool: 5, received: 4, samples: 20, lost_batches: 2 });
    }

    #[test]
    fn the_newest_stream_of_a_node_has_it() {
        let mut nodes = Nodes::default();
        let old = join(&mut nodes, 5, 1);
        let new = join(&mut nodes, 5, 1);
        assert!(old.acks.has_changed().is_err());
        assert_eq!(accept(&mut nodes, &old, 1), Accepted::Replaced);
        nodes.leave("n", old.stream);
        assert_eq!(accept(&mut nodes, &new, 1), Accepted::New { slot: SLOT, lost: 0 });
    }

    #[test]
    fn durable_is_what_the_checkpoint_covered() {
        let mut nodes = Nodes::default();
        let joined = join(&mut nodes, 5, 1);
        accept(&mut nodes, &joined, 1);
        let covered = nodes.covered();
        accept(&mut nodes, &joined, 2);
        nodes.make_durable(&covered);
        assert_eq!(*joined.acks.borrow(), Acked { received: 2, durable: 1 });
        let records = nodes.records().into_iter().map(|(name, record)| (name.to_owned(), record.clone())).collect();
        assert_eq!(join(&mut Nodes::new(records), 5, 1).durable, 2);
    }

    #[test]
    fn a_new_numbering_begins_where_it_says() {
        let mut nodes = Nodes::default();
        let joined = join(&mut nodes, 5, 1);
        accept(&mut nodes, &joined, 9);
        let joined = join(&mut nodes, 6, 100);
        assert_eq!(joined.durable, 99);
        assert_eq!(accept(&mut nodes, &joined, 100), Accepted::New { slot: SLOT, lost: 0 });
    }
}
