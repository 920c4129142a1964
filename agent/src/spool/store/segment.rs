//! One file of the directory.

use super::super::message::Message;
use super::super::record::{Damage, Reader};
use gridstep_wire::pb;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Batches that are read at a time, encoded.
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) hello: Arc<pb::Hello>,
    /// Sequences of the batches.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) batches: u64,
    pub(super) bytes: u64,
    /// What lies behind is not readable.
    pub(super) end: u64,
    /// When its first batch was made, microseconds since the epoch.
    pub(super) begun_us: i64,
    /// When it was last written.
    pub(super) newest: SystemTime,
}

/// Where reading goes on.
#[derive(Debug)]
pub(super) struct Cursor {
    number: u64,
    /// The last batch that was read.
    last: u64,
    reader: Reader,
}

impl Segment {
    /// Finds what a file of an earlier run holds, up to where it can be read.
    pub(super) fn look_through(&mut self) -> Result<(), Damage> {
        let mut reader = Reader::open(&self.path)?;
        while let Some(message) = reader.next(self.end)? {
            if let Some((sequence, made_us)) = message.name() {
                if self.batches == 0 {
                    (self.first, self.begun_us) = (sequence, made_us);
                }
                self.last = sequence;
                self.batches += 1;
            }
            if let Some(hello) = message.hello {
                self.hello = Arc::new(hello);
            }
        }
        Ok(())
    }

    /// Values in it, as far as it can be read.
    pub(super) fn samples(&self) -> u64 {
        let Ok(mut reader) = Reader::open(&self.path) else { return 0 };
        std::iter::from_fn(|| reader.next(self.end).ok().flatten()).map(|message| message.samples()).sum()
    }

    /// Ends where it turns out to be damaged; gives how many bytes are lost.
    pub(super) fn cut(&mut self, damage: &Damage) -> u64 {
        let lost = self.end - damage.offset;
        self.end = damage.offset;
        tracing::warn!(file = %self.path.display(), %damage, lost_bytes = lost, "a segment of the spool ends before its end");
        lost
    }

    /// Adds some batches after `last`, which becomes that of the last of them, and what is declared before.
    pub(super) fn read(&self, cursor: &mut Option<Cursor>, last: &mut u64, messages: &mut Vec<Message>) -> Result<(), Damage> {
        let goes_on = |cursor: &Cursor| cursor.number == self.number && cursor.last <= *last;
        let mut reading = match cursor.take().filter(goes_on) {
            Some(cursor) => cursor,
            None => Cursor { number: self.number, last: 0, reader: Reader::open(&self.path)? },
        };
        let mut bytes = 0;
        while bytes < CHUNK_BYTES {
            let Some(message) = reading.reader.next(self.end)? else { break };
            match message.sequence() {
                Some(sequence) if sequence > *last => *last = sequence,
                None if message.declare.is_some() => {}
                _ => continue,
            }
            bytes += message.batch.as_ref().map_or(0, |batch| batch.len());
            messages.push(message);
        }
        reading.last = *last;
        *cursor = Some(reading);
        Ok(())
    }

    /// What cannot be removed is forgotten all the same: the next run finds it again, and the collector knows it.
    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "a segment of the spool cannot be removed");
        }
    }
}
