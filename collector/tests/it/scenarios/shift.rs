//! A recording of nodes, each distinct meter shifted in time by an offset of its own.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

/// What is looked at of the recording, seconds from its beginning: the steady part. It is turned round by the offset.
const FROM_US: i64 = 400_000_000;
const TO_US: i64 = 3_200_000_000;

/// The meters are read every two seconds.
const GRID_US: i64 = 2_000_000;

pub(super) type Series = Vec<(i64, f64)>;

pub(super) fn meters(nodes: &BTreeMap<String, Series>, to: &Path, seed: u64) {
    let begin = nodes.values().flatten().map(|(ts, _)| *ts).min().unwrap() + FROM_US;
    let end = begin + TO_US - FROM_US;
    let mut offsets: HashMap<Vec<u64>, i64> = HashMap::new();
    let mut rows: Vec<(i64, String, f64)> = Vec::new();
    for (node, series) in nodes {
        // Nodes that share a meter have the same series: they stay together.
        let key = series.iter().map(|(_, watts)| watts.to_bits()).collect();
        let next = offsets.len() as u64 + 1000 * seed;
        let offset = *offsets.entry(key).or_insert_with(|| (mix(next) % (TO_US - FROM_US) as u64) as i64);
        for (ts, watts) in series.iter().copied().filter(|(ts, _)| (begin..end).contains(ts)) {
            rows.push((begin + (ts - begin + offset) % (end - begin), node.clone(), watts));
        }
    }
    assert_eq!(offsets.len(), 34, "distinct meters");
    rows.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    write(to, &rows);
}

/// Begin of the first minute in which the sum stays within 15 % of its level (its median over the whole recording), seconds.
pub(super) fn steady_from(nodes: &BTreeMap<String, Series>) -> f64 {
    let mut sums: BTreeMap<i64, f64> = BTreeMap::new();
    for (ts, watts) in nodes.values().flatten() {
        *sums.entry(ts / GRID_US).or_default() += watts;
    }
    let sums: Vec<(i64, f64)> = sums.into_iter().collect();
    let mut sorted: Vec<f64> = sums.iter().map(|(_, watts)| *watts).collect();
    sorted.sort_by(f64::total_cmp);
    let level = sorted[sorted.len() / 2];
    let steady = |minute: &&[(i64, f64)]| minute.iter().all(|(_, watts)| (watts / level - 1.0).abs() < 0.15);
    let first = sums.windows(30).find(steady).unwrap()[0].0;
    (first * GRID_US) as f64 / 1e6
}

pub(super) fn read(folder: &Path) -> BTreeMap<String, Series> {
    let mut nodes: BTreeMap<String, Series> = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with("node-") {
            continue;
        }
        for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let column = |name: &str| batch.column_by_name(name).unwrap().clone();
            let cast = |column: ArrayRef, to| arrow_cast::cast(&column, &to).unwrap();
            let ts = column("ts").as_primitive::<TimestampMicrosecondType>().clone();
            let node = cast(column("node"), arrow_schema::DataType::Utf8);
            let watts = cast(column("power_watts"), arrow_schema::DataType::Float64);
            let (node, watts) = (node.as_string::<i32>(), watts.as_primitive::<Float64Type>());
            for row in (0..batch.num_rows()).filter(|&row| watts.is_valid(row)) {
                nodes.entry(node.value(row).into()).or_default().push((ts.value(row), watts.value(row)));
            }
        }
    }
    nodes
}

fn write(folder: &Path, rows: &[(i64, String, f64)]) {
    let ts: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.0)).with_timezone("UTC"));
    let node: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1)));
    let watts: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.2)));
    let batch = RecordBatch::try_from_iter([("ts", ts), ("node", node), ("power_watts", watts)]).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(folder.join("node-000.parquet")).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// SplitMix64's finaliser.
fn mix(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
