//! Batches as they come, and as the judging takes them.

use super::Malformed;
use super::declared::{About, Declared, Metric};
use crate::fleet::{GpuMetric, NodeMetric};
use gridstep_wire::packed::{self, Irregular};
use gridstep_wire::{Micros, pb};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// A batch of more rows is refused.
const MAX_ROWS: usize = 65_536;
/// How far a stamp may lie after the arrival, microseconds. Rows beyond are dropped and counted, as are those that are too old: a
/// node with a wrong clock would otherwise never get past them.
const NEWEST_US: i64 = 60 * 1_000_000;
const MAX_KIND_BYTES: usize = 64;
/// Of an event's detail more is not kept.
const MAX_DETAIL_CHARS: usize = 256;

/// What a column means for rows of GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GpuTarget {
    Power,
    Job,
    Metric(GpuMetric),
}

/// What a column means for rows of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeTarget {
    Power,
    Job,
    Metric(NodeMetric),
}

/// A batch, checked, in base units.
#[derive(Debug, Default)]
pub struct Decoded {
    pub(crate) sequence: u64,
    pub(crate) tables: Vec<Table>,
    pub(crate) events: Vec<Event>,
    /// Values in it, those of metrics that the judging does not know included.
    pub(crate) samples: u64,
    /// Values of metrics that the judging does not know.
    pub(crate) unknown: u64,
    /// Rows and events whose stamps are too far from their arrival.
    pub(crate) misdated: u64,
}

/// Rows of a block, by column.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// GPU (None: the node) and stamp of each row; None: the row is misdated, or about something that the judging does not know.
    pub(crate) rows: Vec<Option<(Option<u8>, Micros)>>,
    /// Rows one after the other that are about the same: where each such run ends.
    pub(crate) runs: Vec<u32>,
    pub(crate) columns: Vec<Column>,
    /// Of all columns, one after the other; in base units, NaN where there is none.
    values: Vec<f64>,
    /// Bound on the error of the stamps; 0: not known.
    pub(crate) stamp_error_us: u32,
    /// The job of each row that says one, Some(None) for idle.
    pub(crate) jobs: Option<Vec<Option<Option<Arc<str>>>>>,
}

/// What a column is of; its values are [`Table::values`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) gpu: Option<GpuTarget>,
    pub(crate) node: Option<NodeTarget>,
    /// Its place among those of the table.
    nth: usize,
}

impl Table {
    /// By row, in base units; NaN where there is none.
    pub(crate) fn values(&self, column: &Column) -> &[f64] {
        &self.values[column.nth * self.rows.len()..][..self.rows.len()]
    }

    /// A table of rows that are runs of one.
    #[cfg(test)]
    pub(crate) fn new(rows: Vec<(Option<u8>, Micros)>) -> Self {
        let runs = (1..=rows.len() as u32).collect();
        Self { rows: rows.into_iter().map(Some).collect(), runs, ..Self::default() }
    }

    /// A column of as many values as there are rows.
    #[cfg(test)]
    pub(crate) fn push(&mut self, gpu: Option<GpuTarget>, node: Option<NodeTarget>, values: impl Iterator<Item = f64>) {
        self.columns.push(Column { gpu, node, nth: self.columns.len() });
        self.values.extend(values);
        assert_eq!(self.values.len(), self.columns.len() * self.rows.len());
    }
}

#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) gpu: Option<u8>,
    pub(crate) at: Micros,
    pub(crate) kind: String,
    pub(crate) code: i64,
    pub(crate) detail: String,
}

/// When stamps are credible.
type Span = RangeInclusive<i64>;

/// Why a batch is not taken.
enum Fault {
    /// It cannot be read where it lies.
    Irregular,
    /// What is wrong with it.
    Refused(String),
}

impl From<Irregular> for Fault {
    fn from(_: Irregular) -> Self {
        Self::Irregular
    }
}

impl From<String> for Fault {
    fn from(fault: String) -> Self {
        Self::Refused(fault)
    }
}

/// Checks and decodes a batch that arrives now, from its bytes in the message; `oldest` is how long ago its rows may have been stamped.
pub fn decode(bytes: &[u8], declared: &Declared, now: Micros, oldest: Duration) -> Result<Decoded, Malformed> {
    let dated = now.0.saturating_sub(i64::try_from(oldest.as_micros()).unwrap_or(i64::MAX))..=now.0.saturating_add(NEWEST_US);
    let mut decoded = Decoded::default();
    let mut done = decoded.batch(bytes, declared, &dated);
    if let Err(Fault::Irregular) = done {
        // Or of an encoder that is not ours.
        let regular = packed::regular(bytes).map_err(|fault| Malformed::Batch { sequence: 0, fault: fault.to_string() })?;
        decoded = Decoded::default();
        done = decoded.batch(&regular, declared, &dated);
    }
    let sequence = decoded.sequence;
    let refused = |fault| match fault {
        Fault::Irregular => Irregular.to_string(),
        Fault::Refused(fault) => fault,
    };
    done.map_err(|fault| Malformed::Batch { sequence, fault: refused(fault) })?;
    Ok(decoded)
}

/// What of a block's values counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    Known,
    /// Of something that the judging does not know.
    Unknown,
    Misdated,
}

impl Decoded {
    fn batch(&mut self, bytes: &[u8], declared: &Declared, span: &Span) -> Result<(), Fault> {
        let batch = packed::Batch::read(bytes)?;
        self.sequence = batch.sequence;
        if batch.sequence == 0 {
            return Err(Fault::Refused("its sequence is 0".into()));
        }
        let mut rows = 0;
        for (index, block) in batch.blocks().enumerate() {
            let block = block?;
            rows += block.rows();
            if rows > MAX_ROWS {
                return Err(Fault::Refused(format!("{rows} rows are more than {MAX_ROWS}")));
            }
            let table = self.table(&block, batch.base_us, declared, span).map_err(|fault| match fault {
                Fault::Refused(fault) => Fault::Refused(format!("block {index}: {fault}")),
                irregular => irregular,
            })?;
            self.tables.push(table);
        }
        for event in batch.events() {
            self.event(event?, batch.base_us, declared, span)?;
        }
        Ok(())
    }

    fn table(&mut self, block: &packed::Block<'_>, base_us: i64, declared: &Declared, span: &Span) -> Result<Table, Fault> {
        block.validate().map_err(|fault| fault.to_string())?;
        let mut table = Table {
            rows: Vec::with_capacity(block.rows()),
            runs: Vec::with_capacity(block.entity.len()),
            columns: Vec::with_capacity(block.column_count()),
            values: Vec::with_capacity(block.cells()),
            stamp_error_us: block.stamp_error_us,
            jobs: None,
        };
        let worths = self.rows(block, base_us, declared, span, &mut table)?;
        let mut last = None;
        for (nth, column) in block.columns().enumerate() {
            let column = column?;
            let id = column.metric;
            let metric = declared.metric_of(id).ok_or_else(|| format!("metric {id} is not declared"))?;
            // They mostly come in order.
            if last.replace(id).is_some_and(|last| last >= id) && is_among(block, nth, id)? {
                return Err(Fault::Refused(format!("metric {id} has two columns")));
            }
            self.column(&column, metric, declared, &worths, &mut table)?;
        }
        Ok(table)
    }

    /// Rows and runs. Gives what each row's values are worth; empty: all of them are known.
    fn rows(
        &mut self,
        block: &packed::Block<'_>,
        base_us: i64,
        declared: &Declared,
        span: &Span,
        table: &mut Table,
    ) -> Result<Vec<Worth>, String> {
        let mut worths = Vec::new();
        let mut stamps = block.stamps(base_us);
        let mut runs = block.run.unsigned();
        for entity in block.entity.unsigned() {
            let entity = entity as u32;
            let about = declared.about(entity).ok_or_else(|| format!("entity {entity} is not declared"))?;
            let run = runs.next().map_or(1, |run| run as u32 as usize);
            for stamp in stamps.by_ref().take(run) {
                let worth = match (about, span.contains(&stamp)) {
                    (_, false) => Worth::Misdated,
                    (About::Other, true) => Worth::Unknown,
                    (_, true) => Worth::Known,
                };
                self.misdated += u64::from(worth == Worth::Misdated);
                if worth != Worth::Known && worths.is_empty() {
                    worths.resize(table.rows.len(), Worth::Known);
                }
                if worth != Worth::Known || !worths.is_empty() {
                    worths.push(worth);
                }
                table.rows.push(about.gpu().filter(|_| worth == Worth::Known).map(|gpu| (gpu, Micros(stamp))));
            }
            table.runs.push(table.rows.len() as u32);
        }
        Ok(worths)
    }

    fn column(
        &mut self,
        column: &packed::Column<'_>,
        metric: &Metric,
        declared: &Declared,
        worths: &[Worth],
        table: &mut Table,
    ) -> Result<(), String> {
        let rows = table.rows.len();
        let present = column.validate(rows).map_err(|fault| fault.to_string())? as u64;
        let is_judged = metric.gpu.is_some() || metric.node.is_some();
        let lost = |worth: Worth| {
            let values = column.values(rows).zip(worths);
            values.filter(|(value, own)| value.is_some() && **own == worth).count() as u64
        };
        let (unknown, misdated) = if worths.is_empty() { (0, 0) } else { (lost(Worth::Unknown), lost(Worth::Misdated)) };
        self.samples += present - misdated;
        self.unknown += if is_judged { unknown } else { present - misdated };
        if !is_judged {
            return Ok(());
        }
        if metric.gpu == Some(GpuTarget::Job) {
            let job = |id: i64| declared.job_of(id).ok_or_else(|| format!("job {id} is not declared"));
            let kept = column.values(rows).zip(&table.rows).map(|(value, row)| value.filter(|_| row.is_some()));
            table.jobs = Some(kept.map(|id| id.map(job).transpose()).collect::<Result<_, _>>()?);
            return Ok(());
        }
        let first = table.values.len();
        if column.is_full() {
            table.values.extend(column.present().map(|value| metric.scale(value)));
        } else {
            table.values.extend(column.values(rows).map(|value| value.map_or(f64::NAN, |value| metric.scale(value))));
        }
        let unfit = worths.iter().enumerate().filter(|(_, worth)| **worth != Worth::Known);
        unfit.for_each(|(row, _)| table.values[first + row] = f64::NAN);
        table.columns.push(Column { gpu: metric.gpu, node: metric.node, nth: table.columns.len() });
        Ok(())
    }

    fn event(&mut self, event: pb::Event, base_us: i64, declared: &Declared, span: &Span) -> Result<(), String> {
        let entity = event.entity;
        let about = declared.about(entity).ok_or_else(|| format!("entity {entity} of an event is not declared"))?;
        let Some(gpu) = about.gpu() else { return Ok(()) };
        if event.kind.is_empty() || event.kind.len() > MAX_KIND_BYTES {
            return Err(format!("an event's kind has {} bytes", event.kind.len()));
        }
        let at = base_us.wrapping_add(event.dt_us);
        if !span.contains(&at) {
            self.misdated += 1;
            return Ok(());
        }
        let detail = event.detail.chars().take(MAX_DETAIL_CHARS).collect();
        self.events.push(Event { gpu, at: Micros(at), kind: event.kind, code: event.code, detail });
        Ok(())
    }
}

/// Whether one of the block's first columns is of the metric.
fn is_among(block: &packed::Block<'_>, first: usize, metric: u32) -> Result<bool, Irregular> {
    block.columns().take(first).try_fold(false, |found, column| Ok(found || column?.metric == metric))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridstep_wire::block::BlockBuilder;
    use proptest::prelude::*;
    use prost::Message;

    const NOW: Micros = Micros(1_760_000_000_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn declared() -> Declared {
        let metric = |id, name: &str, exponent| pb::Metric { id, name: name.into(), exponent, ..Default::default() };
        let gpu = pb::Gpu { index: 3, ..Default::default() };
        let mut declared = Declared::default();
        let declare = pb::Declare {
            metrics: vec![metric(1, "power_watts", -3), metric(2, "fan", 0), metric(3, "job", 0)],
            entities: vec![pb::Entity { id: 4, what: Some(pb::entity::What::Gpu(gpu)) }],
            jobs: vec![pb::Job { id: 7, name: "llama".into(), ..Default::default() }],
        };
        declared.declare(declare).unwrap();
        declared
    }

    fn batch(rows: &[(u32, i64, [Option<i64>; 3])]) -> Vec<u8> {
        let mut builder = BlockBuilder::new(NOW.0, &[1, 2, 3], 0);
        for (entity, stamp, values) in rows {
            builder.push(*entity, *stamp, *values);
        }
        let batch = pb::Batch { sequence: 1, base_us: NOW.0, blocks: vec![builder.finish()], ..Default::default() };
        batch.encode_to_vec()
    }

    #[test]
    fn values_come_in_base_units_and_unknown_metrics_are_counted() {
        let batch = batch(&[(4, NOW.0, [Some(650_500), Some(3), Some(7)]), (0, NOW.0, [None, None, Some(0)])]);
        let decoded = decode(&batch, &declared(), NOW, DAY).unwrap();
        let table = &decoded.tables[0];
        assert_eq!(table.rows, [Some((Some(3), NOW)), Some((None, NOW))]);
        assert_eq!((table.values[0], table.values[1].is_nan(), &table.runs), (650.5, true, &vec![1, 2]));
        assert_eq!(table.jobs.as_ref().unwrap(), &[Some(Some("llama".into())), Some(None)]);
        assert_eq!((decoded.samples, decoded.unknown), (4, 1));
    }

    /// An agent that is newer than this collector may speak of parts that did not exist yet.
    #[test]
    fn rows_about_what_is_not_known_are_counted_and_skipped() {
        let mut declared = declared();
        let entity = pb::Entity { id: 300, what: None };
        declared.declare(pb::Declare { entities: vec![entity], ..Default::default() }).unwrap();
        let batch = batch(&[(300, NOW.0, [Some(5), Some(1), None]), (4, NOW.0, [Some(650_500), None, None])]);
        let decoded = decode(&batch, &declared, NOW, DAY).unwrap();
        assert_eq!(decoded.tables[0].rows, [None, Some((Some(3), NOW))]);
        let table = &decoded.tables[0];
        assert!(matches!(table.values(&table.columns[0]), [none, 650.5] if none.is_nan()));
        assert_eq!((decoded.samples, decoded.unknown, decoded.misdated), (3, 2, 0));
    }

    #[test]
    fn rows_far_from_their_arrival_are_dropped_and_counted() {
        let batch = batch(&[(4, NOW.0 + 61_000_000, [Some(1), None, None]), (4, NOW.0, [Some(1), None, None])]);
        let decoded = decode(&batch, &declared(), NOW, DAY).unwrap();
        assert_eq!((decoded.samples, decoded.misdated), (1, 1));
    }

    #[test]
    fn what_is_not_declared_is_refused() {
        let error = decode(&batch(&[(9, NOW.0, [Some(1), None, None])]), &declared(), NOW, DAY).unwrap_err();
        assert_eq!(error.to_string(), "batch 1: block 0: entity 9 is not declared");
        let error = decode(&batch(&[(4, NOW.0, [None, None, Some(8)])]), &declared(), NOW, DAY).unwrap_err();
        assert_eq!(error.to_string(), "batch 1: block 0: job 8 is not declared");
    }

    #[test]
    fn a_batch_of_too_many_rows_is_refused() {
        let rows = vec![(4, NOW.0, [Some(1), None, None]); MAX_ROWS + 1];
        assert!(decode(&batch(&rows), &declared(), NOW, DAY).unwrap_err().to_string().contains("65537 rows"));
    }

    /// Protocol buffers allow numbers that are not packed.
    #[test]
    fn a_batch_of_another_encoder_is_taken() {
        let block = [8, 4, 24, 0, 42, 7, 8, 1, 18, 3, 136, 180, 79];
        let bytes = [&[8, 1, 17], &NOW.0.to_le_bytes()[..], &[26, block.len() as u8], &block].concat();
        let decoded = decode(&bytes, &declared(), NOW, DAY).unwrap();
        assert_eq!((decoded.tables[0].values.as_slice(), decoded.samples), ([650.5].as_slice(), 1));
        let error = decode(&bytes[..bytes.len() - 1], &declared(), NOW, DAY).unwrap_err();
        assert!(error.to_string().starts_with("batch 0: failed to decode"), "{error}");
    }

    proptest! {
        #[test]
        fn bytes_that_were_tampered_with_never_panic(at in 0..200usize, byte: u8, cut in 0..200usize) {
            let mut bytes = batch(&[(4, NOW.0, [Some(650_500), Some(3), Some(7)]); 9]);
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length - cut % length);
            let _ = decode(&bytes, &declared(), NOW, DAY);
        }
    }
}
