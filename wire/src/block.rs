//! Samples packed into columns, and back.
//!
//! A [`pb::Block`] is a table: a row is one entity at one instant, a column one metric. Stamps and values travel as
//! differences between neighbouring rows, so that what hardly changes costs a byte. A block stands alone: nothing in it
//! refers to another block.

use crate::pb;

/// Builds a block row by row. Rows of one entity should follow each other: a run of them names its entity once.
#[derive(Debug)]
pub struct BlockBuilder {
    block: pb::Block,
    /// By column: the value before and the rows without one.
    state: Vec<ColumnState>,
    rows: usize,
    stamp_us: i64,
}

#[derive(Debug, Default)]
struct ColumnState {
    last: i64,
    absent: Vec<usize>,
}

impl BlockBuilder {
    /// A block of the given metrics (ids as declared); `base_us` is that of the batch.
    pub fn new(base_us: i64, metrics: &[u32], stamp_error_us: u32) -> Self {
        let columns = metrics.iter().map(|&metric| pb::Column { metric, ..Default::default() }).collect();
        let state = metrics.iter().map(|_| ColumnState::default()).collect();
        let block = pb::Block { stamp_error_us, columns, ..Default::default() };
        Self { block, state, rows: 0, stamp_us: base_us }
    }

    /// Adds one row; `values` in the order of the metrics.
    pub fn push(&mut self, entity: u32, stamp_us: i64, values: impl IntoIterator<Item = Option<i64>>) {
        match self.block.entity.last() {
            Some(&last) if last == entity => *self.block.run.last_mut().expect("a run for each entity") += 1,
            _ => {
                self.block.entity.push(entity);
                self.block.run.push(1);
            }
        }
        self.block.dt_us.push(stamp_us.wrapping_sub(self.stamp_us));
        self.stamp_us = stamp_us;
        let columns = self.block.columns.iter_mut().zip(&mut self.state);
        for ((column, state), value) in columns.zip(values) {
            match value {
                Some(value) => {
                    column.delta.push(value.wrapping_sub(state.last));
                    state.last = value;
                }
                None => state.absent.push(self.rows),
            }
        }
        self.rows += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The block; columns that never had a value are left out.
    pub fn finish(mut self) -> pb::Block {
        if self.block.run.iter().all(|&run| run == 1) {
            self.block.run.clear();
        }
        for (column, state) in self.block.columns.iter_mut().zip(&self.state) {
            if !state.absent.is_empty() {
                column.absent = bitmap(&state.absent, self.rows);
            }
        }
        self.block.columns.retain(|column| !column.delta.is_empty());
        self.block
    }
}

fn bitmap(set: &[usize], bits: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; bits.div_ceil(8)];
    for &bit in set {
        bytes[bit / 8] |= 1 << (bit % 8);
    }
    bytes
}

/// Why a block cannot be taken. It comes from outside: nothing in it is trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("{entities} entities have {runs} runs")]
    Runs { entities: usize, runs: usize },
    #[error("runs add up to {runs} rows, but there are {rows} stamps")]
    Rows { runs: u64, rows: usize },
    #[error("column of metric {metric} has {values} values for {present} rows")]
    Values { metric: u32, values: usize, present: usize },
    #[error("column of metric {metric} has a bitmap of {bytes} bytes for {rows} rows")]
    Bitmap { metric: u32, bytes: usize, rows: usize },
}

/// Checks the shape of a block: afterwards [`rows`] and [`values`] agree in length.
pub fn validate(block: &pb::Block) -> Result<(), BlockError> {
    let rows = block.dt_us.len();
    let sum = block.run.iter().map(|&run| u64::from(run)).sum();
    check_runs(block.entity.len(), block.run.len(), sum, rows)?;
    block.columns.iter().try_for_each(|column| check_column(column.metric, &column.absent, column.delta.len(), rows))
}

/// `sum`: rows of all `runs`.
pub(crate) fn check_runs(entities: usize, runs: usize, sum: u64, rows: usize) -> Result<(), BlockError> {
    if runs != 0 && runs != entities {
        return Err(BlockError::Runs { entities, runs });
    }
    let runs = if runs == 0 { entities as u64 } else { sum };
    if runs != rows as u64 {
        return Err(BlockError::Rows { runs, rows });
    }
    Ok(())
}

pub(crate) fn check_column(metric: u32, absent: &[u8], values: usize, rows: usize) -> Result<(), BlockError> {
    let bytes = absent.len();
    if bytes != 0 && bytes != rows.div_ceil(8) {
        return Err(BlockError::Bitmap { metric, bytes, rows });
    }
    let count: usize = absent.iter().map(|byte| byte.count_ones() as usize).sum();
    let tail_clear = rows.is_multiple_of(8) || absent.last().is_none_or(|&last| last >> (rows % 8) == 0);
    let present = rows.saturating_sub(count);
    if !tail_clear || values != present {
        return Err(BlockError::Values { metric, values, present });
    }
    Ok(())
}

/// Whether a bitmap has the row's bit.
#[inline]
pub(crate) fn is_set(bitmap: &[u8], row: usize) -> bool {
    bitmap.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1)
}

/// Entity and stamp (microseconds since the epoch) of each row of a valid block.
pub fn rows(block: &pb::Block, base_us: i64) -> impl Iterator<Item = (u32, i64)> + '_ {
    let run = |index: usize| block.run.get(index).copied().unwrap_or(1);
    let entities = block.entity.iter().enumerate().flat_map(move |(index, &entity)| (0..run(index)).map(move |_| entity));
    let stamps = block.dt_us.iter().scan(base_us, |stamp, &dt| {
        *stamp = stamp.wrapping_add(dt);
        Some(*stamp)
    });
    entities.zip(stamps)
}

/// The values of one column of a valid block, row by row.
pub fn values(column: &pb::Column, rows: usize) -> impl Iterator<Item = Option<i64>> + '_ {
    let mut deltas = column.delta.iter();
    let mut last = 0i64;
    (0..rows).map(move |row| {
        if is_set(&column.absent, row) {
            return None;
        }
        last = last.wrapping_add(*deltas.next()?);
        Some(last)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    type Row = (u32, i64, Vec<Option<i64>>);

    fn table() -> impl Strategy<Value = Vec<Row>> {
        let row = (0..4u32, any::<i64>(), proptest::collection::vec(proptest::option::of(any::<i64>()), 3));
        proptest::collection::vec(row, 0..40)
    }

    fn read(block: &pb::Block, base: i64) -> Vec<Row> {
        let count = block.dt_us.len();
        let column = |metric: u32| match block.columns.iter().find(|column| column.metric == metric) {
            Some(column) => values(column, count).collect(),
            None => vec![None; count],
        };
        let columns: Vec<Vec<Option<i64>>> = [7, 8, 9].map(column).into();
        let row = |(index, (entity, stamp))| (entity, stamp, columns.iter().map(|column| column[index]).collect());
        rows(block, base).enumerate().map(row).collect()
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(table in table(), base in any::<i64>()) {
            let mut builder = BlockBuilder::new(base, &[7, 8, 9], 500);
            for (entity, stamp, values) in &table {
                builder.push(*entity, *stamp, values.iter().copied());
            }
            let bytes = builder.finish().encode_to_vec();
            let block = pb::Block::decode(bytes.as_slice()).unwrap();
            validate(&block).unwrap();
            prop_assert_eq!(read(&block, base), table);
        }

        #[test]
        fn bytes_from_anywhere_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(block) = pb::Block::decode(bytes.as_slice()) && validate(&block).is_ok() {
                read(&block, 0);
            }
        }
    }

    #[test]
    fn a_column_with_too_few_values_is_refused() {
        let column = pb::Column { metric: 3, delta: vec![1], absent: vec![] };
        let block = pb::Block { entity: vec![1, 2], dt_us: vec![0, 0], columns: vec![column], ..Default::default() };
        assert_eq!(validate(&block), Err(BlockError::Values { metric: 3, values: 1, present: 2 }));
    }
}
