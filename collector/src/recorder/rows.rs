//! Rows that wait to be written, by column.

use super::names::NONE;
use super::schema::{Kind, Type};
use arrow_array::builder::{BooleanBuilder, PrimitiveBuilder};
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{ArrayRef, BooleanArray, DictionaryArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_schema::{ArrowError, Schema};
use std::sync::Arc;

/// The index of what is about the node itself.
pub(super) const NO_GPU: u8 = u8::MAX;

/// What a row is beside what it says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    /// Microseconds since the epoch.
    pub(super) ts: i64,
    pub(super) arrived_at: i64,
    /// NaN: not known.
    pub(super) error_seconds: f32,
    pub(super) node: i32,
    pub(super) gpu: u8,
    pub(super) backlog: bool,
}

#[derive(Debug)]
pub(super) struct Rows {
    types: Vec<Type>,
    schema: Arc<Schema>,
    ts: Vec<i64>,
    arrived_at: Vec<i64>,
    error_seconds: Vec<f32>,
    node: Vec<i32>,
    gpu: Vec<u8>,
    /// Of what is late alone.
    backlog: Option<Vec<bool>>,
    /// By column of names, [`NONE`] where there is none.
    pub(super) texts: Vec<Vec<i32>>,
    /// By column of figures, NaN where there is none.
    pub(super) figures: Vec<Vec<f64>>,
}

impl Rows {
    pub(super) fn new(kind: Kind, late: bool) -> Self {
        let types: Vec<Type> = kind.figures().into_iter().map(|(_, of)| of).collect();
        Self {
            schema: kind.schema(late),
            ts: Vec::new(),
            arrived_at: Vec::new(),
            error_seconds: Vec::new(),
            node: Vec::new(),
            gpu: Vec::new(),
            backlog: late.then(Vec::new),
            texts: kind.texts().iter().map(|_| Vec::new()).collect(),
            figures: types.iter().map(|_| Vec::new()).collect(),
            types,
        }
    }

    pub(super) fn schema(&self) -> Arc<Schema> {
        self.schema.clone()
    }

    pub(super) fn len(&self) -> usize {
        self.ts.len()
    }

    #[inline]
    pub(super) fn push(&mut self, keys: Keys) {
        self.ts.push(keys.ts);
        self.arrived_at.push(keys.arrived_at);
        self.error_seconds.push(keys.error_seconds);
        self.node.push(keys.node);
        self.gpu.push(keys.gpu);
        self.backlog.iter_mut().for_each(|column| column.push(keys.backlog));
    }

    /// Rows that differ in what GPU they are about and when, in that order.
    pub(super) fn push_all(&mut self, keys: Keys, places: impl Iterator<Item = (u8, i64)>) {
        for (gpu, ts) in places {
            self.ts.push(ts);
            self.gpu.push(gpu);
        }
        let rows = self.len();
        self.arrived_at.resize(rows, keys.arrived_at);
        self.error_seconds.resize(rows, keys.error_seconds);
        self.node.resize(rows, keys.node);
        self.backlog.iter_mut().for_each(|column| column.resize(rows, keys.backlog));
    }

    /// Ends the columns that say nothing of the last rows.
    pub(super) fn fill(&mut self) {
        let rows = self.len();
        self.texts.iter_mut().for_each(|column| column.resize(rows, NONE));
        self.figures.iter_mut().for_each(|column| column.resize(rows, f64::NAN));
    }

    pub(super) fn clear(&mut self) {
        self.keep(&[]);
    }

    /// The rows in the order of their stamps; those of the same stamp in the order they came.
    pub(super) fn order(&self) -> Vec<u32> {
        let (first, last) = self.ts.iter().fold((i64::MAX, i64::MIN), |(low, high), &ts| (low.min(ts), high.max(ts)));
        if last.saturating_sub(first) > i64::from(u32::MAX) {
            let mut order: Vec<(i64, u32)> = self.ts.iter().copied().zip(0..).collect();
            order.sort_unstable();
            return order.into_iter().map(|(_, row)| row).collect();
        }
        // Both in one number: that is sorted twice as fast.
        let both = self.ts.iter().zip(0u64..).map(|(&ts, row)| ((ts - first) as u64) << 32 | row);
        let mut order: Vec<u64> = both.collect();
        order.sort_unstable();
        order.into_iter().map(|both| both as u32).collect()
    }

    pub(super) fn ts(&self, row: u32) -> i64 {
        self.ts[row as usize]
    }

    /// Lets go of all others.
    pub(super) fn keep(&mut self, order: &[u32]) {
        gather(&mut self.ts, order);
        gather(&mut self.arrived_at, order);
        gather(&mut self.error_seconds, order);
        gather(&mut self.node, order);
        gather(&mut self.gpu, order);
        self.backlog.iter_mut().for_each(|column| gather(column, order));
        self.texts.iter_mut().for_each(|column| gather(column, order));
        self.figures.iter_mut().for_each(|column| gather(column, order));
    }

    /// These rows, in this order, as they are written.
    pub(super) fn batch(&self, order: &[u32], names: &Arc<StringArray>) -> Result<RecordBatch, ArrowError> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(stamps(&self.ts, order)),
            Arc::new(PrimitiveArray::<Float32Type>::from_iter(
                picked(&self.error_seconds, order).map(|error| known(error.into())),
            )),
            Arc::new(stamps(&self.arrived_at, order)),
            coded(&self.node, order, names)?,
        ];
        if self.schema.field_with_name("gpu").is_ok() {
            let gpus = picked(&self.gpu, order).map(|gpu| (gpu != NO_GPU).then_some(gpu));
            columns.push(Arc::new(PrimitiveArray::<UInt8Type>::from_iter(gpus)));
        }
        for column in &self.texts {
            columns.push(coded(column, order, names)?);
        }
        for (column, of) in self.figures.iter().zip(&self.types) {
            columns.push(of.array(column, order));
        }
        if let Some(column) = &self.backlog {
            columns.push(Arc::new(BooleanArray::from(picked(column, order).collect::<Vec<_>>())));
        }
        RecordBatch::try_new(self.schema.clone(), columns)
    }
}

impl Type {
    /// What the type cannot hold is not known.
    fn array(self, column: &[f64], order: &[u32]) -> ArrayRef {
        match self {
            Self::F32 => numbers::<Float32Type>(column, order, |value| Some(value as f32)),
            Self::F64 => numbers::<Float64Type>(column, order, Some),
            Self::U64 => numbers::<UInt64Type>(column, order, |value| (value >= 0.0).then_some(value as u64)),
            Self::U32 => {
                numbers::<UInt32Type>(column, order, |value| (0.0..=u32::MAX.into()).contains(&value).then_some(value as u32))
            }
            Self::U8 => {
                numbers::<UInt8Type>(column, order, |value| (0.0..=u8::MAX.into()).contains(&value).then_some(value as u8))
            }
            Self::I64 => numbers::<Int64Type>(column, order, |value| Some(value as i64)),
            Self::Bool => {
                let mut builder = BooleanBuilder::with_capacity(order.len());
                picked(column, order).for_each(|value| builder.append_option((!value.is_nan()).then_some(value != 0.0)));
                Arc::new(builder.finish())
            }
        }
    }
}

fn known(error: f64) -> Option<f32> {
    (!error.is_nan()).then_some(error as f32)
}

fn picked<'a, T: Copy>(column: &'a [T], order: &'a [u32]) -> impl Iterator<Item = T> + 'a {
    order.iter().map(|&row| column[row as usize])
}

fn gather<T: Copy>(column: &mut Vec<T>, order: &[u32]) {
    *column = picked(column, order).collect();
}

fn numbers<P: ArrowPrimitiveType>(column: &[f64], order: &[u32], cast: impl Fn(f64) -> Option<P::Native>) -> ArrayRef {
    let mut builder = PrimitiveBuilder::<P>::with_capacity(order.len());
    for value in picked(column, order) {
        builder.append_option(if value.is_nan() { None } else { cast(value) });
    }
    Arc::new(builder.finish())
}

fn stamps(column: &[i64], order: &[u32]) -> PrimitiveArray<TimestampMicrosecondType> {
    PrimitiveArray::from_iter_values(picked(column, order)).with_timezone("UTC")
}

fn coded(column: &[i32], order: &[u32], names: &Arc<StringArray>) -> Result<ArrayRef, ArrowError> {
    let keys = PrimitiveArray::<Int32Type>::from_iter(picked(column, order).map(|key| (key != NONE).then_some(key)));
    Ok(Arc::new(DictionaryArray::try_new(keys, names.clone())?))
}
