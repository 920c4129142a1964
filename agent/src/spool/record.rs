//! A file of the spool: what a stream would have carried, one record a message.
//!
//! A record is its length and its CRC-32 (four bytes each, little endian), and a [`pb::AgentMessage`](gridstep_wire::pb). A file
//! begins with [`MAGIC`]. Where a record is not whole, the file ends: a write was torn there, or bytes went bad.

use super::message::Message;
use prost::Message as _;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// The last letter is the version.
pub(super) const MAGIC: &[u8; 8] = b"GRIDSPL1";
const HEAD_BYTES: usize = 8;
/// Of a file that is read, in memory.
const BUFFER_BYTES: usize = 16 << 10;

/// Why a file ends before its end.
#[derive(Debug, thiserror::Error)]
#[error("byte {offset}: {why}")]
pub(super) struct Damage {
    pub(super) offset: u64,
    why: String,
}

/// Adds a message to what is to be written.
pub(super) fn put(out: &mut Vec<u8>, message: &Message) {
    let body = message.encode_to_vec();
    out.extend((body.len() as u32).to_le_bytes());
    out.extend(crc32fast::hash(&body).to_le_bytes());
    out.extend(body);
}

/// Reads a file from its begin.
#[derive(Debug)]
pub(super) struct Reader {
    file: BufReader<File>,
    /// Of the next record.
    offset: u64,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, Damage> {
        let damage = |why: String| Damage { offset: 0, why };
        let file = File::open(path).map_err(|error| damage(error.to_string()))?;
        let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic).map_err(|error| damage(error.to_string()))?;
        if &magic != MAGIC {
            return Err(damage("it is no file of a spool, or of another version".into()));
        }
        Ok(Self { file, offset: MAGIC.len() as u64 })
    }

    /// The next message of a file that has `end` bytes; None after the last.
    pub(super) fn next(&mut self, end: u64) -> Result<Option<Message>, Damage> {
        if self.offset >= end {
            return Ok(None);
        }
        let left = end - self.offset;
        let (message, bytes) = self.record(left).map_err(|why| Damage { offset: self.offset, why })?;
        self.offset += bytes;
        Ok(Some(message))
    }

    /// A record of at most `left` bytes, and how many it has.
    fn record(&mut self, left: u64) -> Result<(Message, u64), String> {
        let failed = |error: io::Error| error.to_string();
        let mut head = [0; HEAD_BYTES];
        self.file.read_exact(&mut head).map_err(failed)?;
        let [a, b, c, d, sum @ ..] = head;
        let length = u32::from_le_bytes([a, b, c, d]);
        let bytes = HEAD_BYTES as u64 + u64::from(length);
        // A file that lost its power may end in zeros: no record is empty.
        if length == 0 || bytes > left {
            return Err(format!("a record of {length} bytes, where {left} are left"));
        }
        let mut body = vec![0; length as usize];
        self.file.read_exact(&mut body).map_err(failed)?;
        if crc32fast::hash(&body) != u32::from_le_bytes(sum) {
            return Err("a wrong checksum".into());
        }
        let message = Message::decode(prost::bytes::Bytes::from(body)).map_err(|error| error.to_string())?;
        Ok((message, bytes))
    }
}
