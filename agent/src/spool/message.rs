//! Messages of a stream, on their way to a collector or a file.

use gridstep_wire::pb;
use prost::Message as _;
use prost::bytes::Bytes;

/// [`pb::AgentMessage`], but that a batch stays encoded; on the wire they are the same.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(message, optional, tag = "1")]
    pub(crate) hello: Option<pb::Hello>,
    #[prost(message, optional, tag = "2")]
    pub(crate) declare: Option<pb::Declare>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) batch: Option<Bytes>,
}

/// The part of a [`pb::Batch`] that says which it is.
#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(sfixed64, tag = "2")]
    base_us: i64,
}

impl From<pb::Hello> for Message {
    fn from(hello: pb::Hello) -> Self {
        Self { hello: Some(hello), ..Self::default() }
    }
}

impl From<pb::Declare> for Message {
    fn from(declare: pb::Declare) -> Self {
        Self { declare: Some(declare), ..Self::default() }
    }
}

/// Of an encoded [`pb::Batch`].
impl From<Bytes> for Message {
    fn from(batch: Bytes) -> Self {
        Self { batch: Some(batch), ..Self::default() }
    }
}

impl Message {
    /// The sequence of the batch in it.
    pub(crate) fn sequence(&self) -> Option<u64> {
        self.head().map(|head| head.sequence)
    }

    /// Sequence of the batch in it, and when it was made, microseconds since the epoch.
    pub(super) fn name(&self) -> Option<(u64, i64)> {
        self.head().map(|head| (head.sequence, head.base_us))
    }

    fn head(&self) -> Option<Head> {
        Head::decode(self.batch.clone()?).ok().filter(|head| head.sequence > 0)
    }

    /// Values in its batch.
    pub(crate) fn samples(&self) -> u64 {
        let batch = self.batch.clone().and_then(|batch| pb::Batch::decode(batch).ok());
        batch.map_or(0, |batch| super::samples(&batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_batch_is_the_same_on_the_wire() {
        let event = pb::Event { kind: "xid".into(), code: 79, ..Default::default() };
        let batch = pb::Batch { sequence: 7, base_us: 1, events: vec![event], ..Default::default() };
        let encoded = Message::from(Bytes::from(batch.encode_to_vec()));
        assert_eq!(encoded.name(), Some((7, 1)));
        let message = pb::AgentMessage { kind: Some(pb::agent_message::Kind::Batch(batch)) };
        assert_eq!(encoded.encode_to_vec(), message.encode_to_vec());
    }
}
