//! Batches as they lie in a message, read without a copy.
//!
//! A collector gets hardly anything else. Made into a [`pb::Batch`] first, each number of a batch would go into a vector that grows, to be read again
//! from there: that takes longer than all else that is done with it. What is borrowed here is read in one pass.
//!
//! Only what our encoders write is read: numbers packed, each field once. Protocol buffers allow more; who gets an [`Irregular`] takes
//! [`regular`] first. Bytes come from outside, and nothing in them is trusted.

mod fields;

use crate::block::{self, BlockError};
use crate::pb;
use fields::{Fields, Value};
pub use fields::{Irregular, Numbers};
use prost::Message;

/// A [`pb::Batch`].
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    pub sequence: u64,
    pub base_us: i64,
    bytes: &'a [u8],
}

/// A [`pb::Block`].
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// The entity of each run of rows.
    pub entity: Numbers<'a>,
    /// How many rows each run has. Empty: one each.
    pub run: Numbers<'a>,
    dt_us: Numbers<'a>,
    pub stamp_error_us: u32,
    columns: usize,
    bytes: &'a [u8],
}

/// A [`pb::Column`].
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    pub metric: u32,
    delta: Numbers<'a>,
    absent: &'a [u8],
}

/// The same batch as our encoders write it. Fails where the bytes are none.
pub fn regular(bytes: &[u8]) -> Result<Vec<u8>, prost::DecodeError> {
    Ok(pb::Batch::decode(bytes)?.encode_to_vec())
}

impl<'a> Batch<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Self, Irregular> {
        let mut batch = Self { sequence: 0, base_us: 0, bytes };
        for field in Fields::new(bytes) {
            match field? {
                (1, Value::Varint(sequence)) => batch.sequence = sequence,
                (2, Value::Fixed64(base_us)) => batch.base_us = base_us as i64,
                (1 | 2, _) => return Err(Irregular),
                _ => {}
            }
        }
        Ok(batch)
    }

    pub fn blocks(&self) -> impl Iterator<Item = Result<Block<'a>, Irregular>> + use<'a> {
        messages(self.bytes, 3).map(|block| Block::read(block?))
    }

    /// Rare, and with names of their own: they are copied.
    pub fn events(&self) -> impl Iterator<Item = Result<pb::Event, Irregular>> + use<'a> {
        messages(self.bytes, 4).map(|event| pb::Event::decode(event?).map_err(|_| Irregular))
    }
}

impl<'a> Block<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Irregular> {
        let none = Numbers::default();
        let mut block = Self { entity: none, run: none, dt_us: none, stamp_error_us: 0, columns: 0, bytes };
        for field in Fields::new(bytes) {
            match field? {
                (1, Value::Bytes(bytes)) => block.entity.set(bytes)?,
                (2, Value::Bytes(bytes)) => block.run.set(bytes)?,
                (3, Value::Bytes(bytes)) => block.dt_us.set(bytes)?,
                (4, Value::Varint(error)) => block.stamp_error_us = error as u32,
                (5, Value::Bytes(_)) => block.columns += 1,
                (1..=5, _) => return Err(Irregular),
                _ => {}
            }
        }
        Ok(block)
    }

    pub fn rows(&self) -> usize {
        self.dt_us.len()
    }

    /// How many values there are at most, those of rows without one included: a column says of each row at least by a bit whether it has one.
    pub fn cells(&self) -> usize {
        self.rows().saturating_mul(self.columns).min(self.bytes.len().saturating_mul(8))
    }

    pub fn column_count(&self) -> usize {
        self.columns
    }

    pub fn columns(&self) -> impl Iterator<Item = Result<Column<'a>, Irregular>> + use<'a> {
        messages(self.bytes, 5).map(|column| Column::read(column?))
    }

    /// Checks that the runs are those of the rows: as [`block::validate`], which asks of the columns too.
    pub fn validate(&self) -> Result<(), BlockError> {
        let sum = self.run.unsigned().map(|run| u64::from(run as u32)).sum();
        block::check_runs(self.entity.len(), self.run.len(), sum, self.rows())
    }

    /// The stamp of each row, microseconds since the epoch.
    pub fn stamps(&self, base_us: i64) -> impl Iterator<Item = i64> + use<'a> {
        sums(self.dt_us, base_us)
    }
}

impl<'a> Column<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Irregular> {
        let mut column = Self { metric: 0, delta: Numbers::default(), absent: &[] };
        for field in Fields::new(bytes) {
            match field? {
                (1, Value::Varint(metric)) => column.metric = metric as u32,
                (2, Value::Bytes(bytes)) => column.delta.set(bytes)?,
                (3, Value::Bytes(bytes)) => column.absent = bytes,
                (1..=3, _) => return Err(Irregular),
                _ => {}
            }
        }
        Ok(column)
    }

    /// Checks that it is of so many rows; gives how many of them have a value.
    pub fn validate(&self, rows: usize) -> Result<usize, BlockError> {
        let values = self.delta.len();
        block::check_column(self.metric, self.absent, values, rows)?;
        Ok(values)
    }

    /// Every row has a value.
    pub fn is_full(&self) -> bool {
        self.absent.is_empty()
    }

    /// Those that there are, one after the other: of each row, where that [`Self::is_full`].
    pub fn present(&self) -> impl Iterator<Item = i64> + use<'a> {
        sums(self.delta, 0)
    }

    /// Row by row.
    pub fn values(&self, rows: usize) -> impl Iterator<Item = Option<i64>> + use<'a> {
        let (absent, mut present) = (self.absent, self.present());
        (0..rows).map(move |row| if block::is_set(absent, row) { None } else { present.next() })
    }
}

/// Fields of this number, which are messages.
fn messages(bytes: &[u8], number: u64) -> impl Iterator<Item = Result<&[u8], Irregular>> {
    Fields::new(bytes).filter_map(move |field| match field {
        Ok((of, Value::Bytes(message))) if of == number => Some(Ok(message)),
        Ok((of, _)) if of == number => Some(Err(Irregular)),
        Ok(_) => None,
        Err(irregular) => Some(Err(irregular)),
    })
}

/// From differences to what they are differences of.
fn sums(numbers: Numbers<'_>, from: i64) -> impl Iterator<Item = i64> {
    numbers.signed().scan(from, |sum, difference| {
        *sum = sum.wrapping_add(difference);
        Some(*sum)
    })
}

#[cfg(test)]
mod tests;
