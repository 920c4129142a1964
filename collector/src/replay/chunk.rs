//! Some rows of a file, its columns converted to what the judging takes.

use super::ReplayError;
use super::files::Kind;
use super::page::{IDLE, NOT_SAID};
use crate::fleet::{GpuMetric, NodeMetric};
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, BooleanArray, DictionaryArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_schema::DataType;
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

pub(super) type Numbers = PrimitiveArray<Float64Type>;
type Stamps = PrimitiveArray<TimestampMicrosecondType>;

/// No index of a GPU.
const NO_GPU: u8 = u8::MAX;

/// A column of names: few different ones, many rows.
pub(super) struct Names {
    keys: PrimitiveArray<Int32Type>,
    values: StringArray,
}

impl Names {
    /// Which of the different names the row has.
    fn key(&self, row: usize) -> Option<usize> {
        // A key may also point to a null.
        let key = self.keys.is_valid(row).then(|| self.keys.value(row) as usize)?;
        self.values.is_valid(key).then_some(key)
    }

    fn of(&self, row: usize) -> Option<&str> {
        self.key(row).map(|key| self.values.value(key))
    }

    /// The different ones.
    pub(super) fn values(&self) -> &StringArray {
        &self.values
    }
}

/// Rows of one file. Columns that the file has not are None or not listed.
pub(super) struct Chunk {
    of: Kind,
    /// Place of the first row in the file.
    first_row: u64,
    pub(super) rows: usize,
    pub(super) ts: Stamps,
    pub(super) arrived_at: Option<Stamps>,
    /// Of a meter's row: the meter.
    pub(super) node: Names,
    feeder: Option<Names>,
    gpu: Option<PrimitiveArray<Int64Type>>,
    pub(super) power: Option<Numbers>,
    pub(super) gpu_metrics: Vec<(GpuMetric, Numbers)>,
    pub(super) node_metrics: Vec<(NodeMetric, Numbers)>,
    pub(super) job: Option<Names>,
    uuid: Option<Names>,
    model: Option<Names>,
    event: Option<Names>,
    pub(super) code: Option<PrimitiveArray<Int64Type>>,
    backlog: Option<BooleanArray>,
    /// By row, the number of its node over all files × 256 + the index of its GPU.
    numbers: Vec<u32>,
    /// By name of a job, its number over all files.
    job_numbers: Arc<[u32]>,
}

/// Whether the column is read from files of the kind.
pub(super) fn wanted(kind: Kind, column: &str) -> bool {
    let gpu = matches!(kind, Kind::Gpu | Kind::Late);
    let node = matches!(kind, Kind::Node | Kind::Late);
    match column {
        "ts" | "arrived_at" => true,
        "node" => kind != Kind::Meter,
        "meter" | "feeder" => kind == Kind::Meter,
        "gpu" => !matches!(kind, Kind::Node | Kind::Meter),
        "power_watts" => kind != Kind::Event,
        "job" => gpu || node,
        "uuid" | "model" => gpu,
        "kind" | "code" => matches!(kind, Kind::Event | Kind::Late),
        "backlog" => kind == Kind::Late,
        _ => gpu && GpuMetric::from_name(column).is_some() || node && NodeMetric::from_name(column).is_some(),
    }
}

impl Chunk {
    pub(super) fn new(batch: &RecordBatch, kind: Kind, path: &Path, first_row: u64) -> Result<Self, ReplayError> {
        let columns = Columns { batch, path };
        let who = if kind == Kind::Meter { "meter" } else { "node" };
        let chunk = Self {
            of: kind,
            first_row,
            rows: batch.num_rows(),
            ts: columns.stamps("ts")?.ok_or_else(|| columns.missing("ts"))?,
            arrived_at: columns.stamps("arrived_at")?,
            node: columns.names(who)?.ok_or_else(|| columns.missing(who))?,
            feeder: columns.names("feeder")?,
            gpu: columns.integers("gpu")?,
            power: columns.numbers("power_watts")?,
            gpu_metrics: columns.metrics(GpuMetric::ALL, GpuMetric::name)?,
            node_metrics: columns.metrics(NodeMetric::ALL, NodeMetric::name)?,
            job: columns.names("job")?,
            uuid: columns.names("uuid")?,
            model: columns.names("model")?,
            event: columns.names("kind")?,
            code: columns.integers("code")?,
            backlog: columns.flags("backlog")?,
            numbers: Vec::new(),
            job_numbers: Arc::default(),
        };
        chunk.check_keys(who, path)?;
        Ok(chunk)
    }

    fn check_keys(&self, who: &'static str, path: &Path) -> Result<(), ReplayError> {
        let null = |column, row: usize| ReplayError::Null { path: path.into(), column, row: self.first_row + row as u64 };
        if self.ts.null_count() + self.node.keys.null_count() + self.node.values.null_count() == 0 {
            return Ok(());
        }
        for row in 0..self.rows {
            if self.ts.is_null(row) {
                return Err(null("ts", row));
            }
            if self.node.key(row).is_none() {
                return Err(null(who, row));
            }
        }
        Ok(())
    }

    /// Gives each row its numbers. Where a row says which GPU it is about, that is an index; rows that are about GPUs alone do say it.
    pub(super) fn number(&mut self, nodes: &[u32], jobs: Arc<[u32]>, path: &Path) -> Result<(), ReplayError> {
        self.job_numbers = jobs;
        let must = matches!(self.of, Kind::Gpu | Kind::Power);
        let mut numbers = Vec::with_capacity(self.rows);
        let gpus = self.gpu.as_ref().filter(|gpus| gpus.null_count() < self.rows);
        for row in 0..self.rows {
            let key = self.node.key(row);
            let gpu = match gpus.filter(|gpus| gpus.is_valid(row)) {
                Some(gpus) => u8::try_from(gpus.value(row)).unwrap_or(NO_GPU),
                None if must => NO_GPU,
                None => 0,
            };
            if gpu == NO_GPU {
                return Err(ReplayError::Null { path: path.into(), column: "gpu", row: self.first_row + row as u64 });
            }
            numbers.push(key.map_or(0, |key| nodes[key]) << 8 | u32::from(gpu));
        }
        self.numbers = numbers;
        Ok(())
    }

    /// The rows that are judged, in the order of their arrival, those of the same instant in that of the file: arrival and row.
    pub(super) fn by_arrival(&self, since: i64) -> Vec<(i64, u32)> {
        let stamps = self.ts.values();
        let arrivals: Cow<'_, [i64]> = match &self.arrived_at {
            None => Cow::Borrowed(stamps),
            Some(arrivals) if arrivals.null_count() == 0 => Cow::Borrowed(arrivals.values()),
            Some(arrivals) => arrivals.iter().zip(stamps).map(|(arrival, ts)| arrival.unwrap_or(*ts)).collect(),
        };
        let (first, last) = arrivals.iter().fold((i64::MAX, i64::MIN), |(low, high), &at| (low.min(at), high.max(at)));
        let is_judged = |row: usize| arrivals[row] > since && !self.is_backlog(row);
        let rows = (0..self.rows).filter(|&row| is_judged(row));
        if last.saturating_sub(first) > i64::from(u32::MAX) {
            let mut rows: Vec<(i64, u32)> = rows.map(|row| (arrivals[row], row as u32)).collect();
            rows.sort_unstable();
            return rows;
        }
        // Both in one number: that is sorted twice as fast.
        let mut rows: Vec<u64> = rows.map(|row| ((arrivals[row] - first) as u64) << 32 | row as u64).collect();
        rows.sort_unstable();
        rows.into_iter().map(|row| (first + (row >> 32) as i64, row as u32)).collect()
    }

    /// The GPU that the row is about, if it is about one.
    pub(super) fn gpu_index(&self, row: usize) -> Option<u8> {
        self.gpu.as_ref().filter(|gpus| gpus.is_valid(row)).map(|_| self.numbers[row] as u8)
    }

    /// Number of the row's node.
    pub(super) fn node_number(&self, row: usize) -> u32 {
        self.numbers[row] >> 8
    }

    /// By row, the number of its node × 256 + the index of its GPU.
    pub(super) fn gpu_numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// Number of the row's job, or what else it says of it.
    pub(super) fn job_number(&self, row: usize) -> u32 {
        let Some(jobs) = &self.job else { return NOT_SAID };
        match jobs.key(row) {
            Some(key) => self.job_numbers[key],
            None if self.says_more_than_power(row) => IDLE,
            None => NOT_SAID,
        }
    }

    pub(super) fn gpu_metric(&self, metric: GpuMetric) -> Option<&Numbers> {
        self.gpu_metrics.iter().find(|(of, _)| *of == metric).map(|(_, column)| column)
    }

    /// Of what an agent had kept on its disk: the judging has never had it.
    fn is_backlog(&self, row: usize) -> bool {
        self.backlog.as_ref().is_some_and(|backlog| backlog.is_valid(row) && backlog.value(row))
    }

    pub(super) fn is_of_meters(&self) -> bool {
        self.of == Kind::Meter
    }

    pub(super) fn is_of_events(&self) -> bool {
        self.of == Kind::Event
    }

    /// Node, or meter.
    pub(super) fn who(&self, row: usize) -> &str {
        self.node.of(row).unwrap_or_default()
    }

    pub(super) fn feeder(&self, row: usize) -> Option<&str> {
        self.feeder.as_ref()?.of(row)
    }

    /// Says what GPUs are.
    pub(super) fn has_identity(&self) -> bool {
        self.uuid.is_some() || self.model.is_some()
    }

    pub(super) fn uuid(&self, row: usize) -> Option<&str> {
        self.uuid.as_ref()?.of(row)
    }

    pub(super) fn model(&self, row: usize) -> Option<&str> {
        self.model.as_ref()?.of(row)
    }

    /// The kind of the event that the row tells of.
    pub(super) fn event(&self, row: usize) -> Option<&str> {
        self.event.as_ref()?.of(row)
    }

    /// Whether the row holds more than its keys and its power. One that does not says nothing about the job either.
    fn says_more_than_power(&self, row: usize) -> bool {
        self.power.is_none() || self.gpu_metrics.is_empty() || self.gpu_metrics.iter().any(|(_, column)| column.is_valid(row))
    }
}

/// The columns of a batch, by name.
struct Columns<'a> {
    batch: &'a RecordBatch,
    path: &'a Path,
}

impl Columns<'_> {
    fn missing(&self, column: &'static str) -> ReplayError {
        ReplayError::Missing { path: self.path.into(), column }
    }

    fn mistyped(&self, column: &str, found: &DataType, expected: &'static str) -> ReplayError {
        ReplayError::Type { path: self.path.into(), column: column.into(), found: found.to_string(), expected }
    }

    fn cast(&self, column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ReplayError> {
        arrow_cast::cast(column, to).map_err(|source| ReplayError::Rows { path: self.path.into(), source })
    }

    fn stamps(&self, name: &str) -> Result<Option<Stamps>, ReplayError> {
        let Some(column) = self.batch.column_by_name(name) else { return Ok(None) };
        let DataType::Timestamp(_, zone) = column.data_type() else {
            return Err(self.mistyped(name, column.data_type(), "a timestamp"));
        };
        let micros = DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, zone.clone());
        let cast = self.cast(column, &micros)?;
        Ok(cast.as_any().downcast_ref::<Stamps>().cloned())
    }

    fn numbers(&self, name: &str) -> Result<Option<Numbers>, ReplayError> {
        let Some(column) = self.batch.column_by_name(name) else { return Ok(None) };
        let found = column.data_type();
        if !found.is_numeric() && !matches!(found, DataType::Boolean | DataType::Null) {
            return Err(self.mistyped(name, found, "a number"));
        }
        let cast = self.cast(column, &DataType::Float64)?;
        Ok(cast.as_any().downcast_ref::<Numbers>().cloned())
    }

    fn integers(&self, name: &str) -> Result<Option<PrimitiveArray<Int64Type>>, ReplayError> {
        let Some(column) = self.batch.column_by_name(name) else { return Ok(None) };
        if !column.data_type().is_integer() && *column.data_type() != DataType::Null {
            return Err(self.mistyped(name, column.data_type(), "an integer"));
        }
        let cast = self.cast(column, &DataType::Int64)?;
        Ok(cast.as_any().downcast_ref::<PrimitiveArray<Int64Type>>().cloned())
    }

    fn flags(&self, name: &str) -> Result<Option<BooleanArray>, ReplayError> {
        let Some(column) = self.batch.column_by_name(name) else { return Ok(None) };
        let flags = column.as_any().downcast_ref::<BooleanArray>().cloned();
        flags.map(Some).ok_or_else(|| self.mistyped(name, column.data_type(), "a bool"))
    }

    fn names(&self, name: &str) -> Result<Option<Names>, ReplayError> {
        let Some(column) = self.batch.column_by_name(name) else { return Ok(None) };
        let plain = match column.data_type() {
            DataType::Dictionary(_, values) => values,
            other => other,
        };
        if !matches!(plain, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null) {
            return Err(self.mistyped(name, column.data_type(), "a string"));
        }
        let coded = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let column = match column.data_type() == &coded {
            true => column.clone(),
            false => self.cast(&self.cast(column, &DataType::Utf8)?, &coded)?,
        };
        let Some(coded) = column.as_any().downcast_ref::<DictionaryArray<Int32Type>>() else { return Ok(None) };
        let values = coded.values().as_any().downcast_ref::<StringArray>().cloned();
        Ok(values.map(|values| Names { keys: coded.keys().clone(), values }))
    }

    fn metrics<M: Copy>(&self, all: &[M], name: fn(M) -> &'static str) -> Result<Vec<(M, Numbers)>, ReplayError> {
        let mut found = Vec::new();
        for &metric in all {
            if let Some(column) = self.numbers(name(metric))?
                && column.null_count() < column.len()
            {
                found.push((metric, column));
            }
        }
        Ok(found)
    }
}
