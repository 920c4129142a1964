//! Replays of small recordings.

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt8Array,
};
use gridstep_collector::judge::JudgeConfig;
use gridstep_collector::replay::{ReplayError, Replayed, replay};
use parquet::arrow::ArrowWriter;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

const T0: i64 = 1_760_000_000_000_000;
const ROWS: i64 = 600;

fn stamps(period_us: i64, delay_us: i64) -> ArrayRef {
    let stamps = (0..ROWS).map(|row| T0 + delay_us + row * period_us);
    Arc::new(TimestampMicrosecondArray::from_iter_values(stamps).with_timezone("UTC"))
}

fn coded(name: &str) -> ArrayRef {
    Arc::new((0..ROWS).map(|_| Some(name)).collect::<DictionaryArray<Int32Type>>())
}

fn plain(name: &str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values((0..ROWS).map(|_| name)))
}

fn write(folder: &Path, file: &str, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(folder.join(file)).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// One GPU at 600 W.
pub(crate) fn write_power(folder: &Path, file: &str, node: &str) {
    let gpu: ArrayRef = Arc::new(UInt8Array::from_iter_values((0..ROWS).map(|_| 0)));
    let power: ArrayRef = Arc::new(Float64Array::from_iter_values((0..ROWS).map(|_| 600.0)));
    write(folder, file, vec![("ts", stamps(50_000, 0)), ("node", plain(node)), ("gpu", gpu), ("power_watts", power)]);
}

fn judged(folder: &Path) -> Result<Replayed, ReplayError> {
    replay(folder, JudgeConfig::default(), None, |_| ())
}

#[test]
fn columns_of_any_width_and_both_kinds_of_strings_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let gpus: ArrayRef = Arc::new(Int64Array::from_iter_values((0..ROWS).map(|_| 3)));
    let power: ArrayRef = Arc::new(Float32Array::from_iter_values((0..ROWS).map(|_| 600.0)));
    let up: ArrayRef = Arc::new(BooleanArray::from_iter((0..ROWS).map(|row| (row % 2 == 0).then_some(true))));
    let gpu = vec![("ts", stamps(1_000_000, 0)), ("node", coded("n1")), ("gpu", gpus), ("power_watts", power), ("up", up)];
    write(folder.path(), "gpu-000.parquet", gpu);
    let small: ArrayRef = Arc::new(UInt8Array::from_iter_values((0..ROWS).map(|_| 4)));
    let power: ArrayRef = Arc::new(Float64Array::from_iter_values((0..ROWS).map(|_| 600.0)));
    write(
        folder.path(),
        "power-000.parquet",
        vec![("ts", stamps(50_000, 0)), ("node", plain("n1")), ("gpu", small), ("power_watts", power)],
    );
    write(folder.path(), "node-000.parquet", vec![("ts", stamps(1_000_000, 0)), ("node", plain("n1")), ("job", plain("j"))]);
    std::fs::write(folder.path().join("topology.csv"), "node,rack,feeder\nn1,r1,f1\n").unwrap();
    let replayed = judged(folder.path()).unwrap();
    assert_eq!(replayed.rows, 3 * ROWS as u64);
    assert_eq!(replayed.span.0.0, T0);
    assert_eq!(replayed.late_samples, 0);
}

#[test]
fn rows_go_in_by_arrival() {
    let folder = tempfile::tempdir().unwrap();
    let gpu: ArrayRef = Arc::new(UInt8Array::from_iter_values((0..ROWS).map(|_| 0)));
    let power: ArrayRef = Arc::new(Float64Array::from_iter_values((0..ROWS).map(|_| 600.0)));
    let row = |node, delay| {
        vec![
            ("ts", stamps(50_000, 0)),
            ("arrived_at", stamps(50_000, delay)),
            ("node", plain(node)),
            ("gpu", gpu.clone()),
            ("power_watts", power.clone()),
        ]
    };
    write(folder.path(), "power-000.parquet", row("n1", 300_000));
    write(folder.path(), "late-000.parquet", row("n2", 3_600_000_000));
    let replayed = judged(folder.path()).unwrap();
    assert_eq!(replayed.span.1.0 - replayed.span.0.0, 3_600_000_000 - 300_000 + (ROWS - 1) * 50_000);
}

/// A site known by its meters alone.
#[test]
fn meters_are_judged_where_the_limits_are_about_them() {
    let folder = tempfile::tempdir().unwrap();
    let power = |watts: f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| if row < ROWS / 2 { watts } else { 1.2 * watts })))
    };
    for (meter, feeder, watts) in [("m1", "a", 60e3), ("m2", "b", 40e3)] {
        let columns =
            vec![("ts", stamps(200_000, 0)), ("meter", plain(meter)), ("feeder", coded(feeder)), ("power_watts", power(watts))];
        write(folder.path(), &format!("meter-{meter}.parquet"), columns);
    }
    let mut config = JudgeConfig::default();
    config.power.limits.basis = gridstep_collector::power::Basis::Meter;
    config.power.limits.contracted_watts = Some(150e3);
    let incidents = replay(folder.path(), config, None, |_| ()).unwrap().incidents;
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert!((incidents[0].magnitude["delta_watts"].as_f64().unwrap() / 20e3 - 1.0).abs() < 0.01, "{incidents:#?}");
    let feeder = incidents[0].contributors.iter().find(|who| who.who.get("feeder").is_some_and(|name| name == "a"));
    assert!((feeder.unwrap().share - 0.6).abs() < 0.01, "{incidents:#?}");
}

#[test]
fn faults_name_file_column_and_type() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "gpu-000.parquet", vec![("ts", stamps(1, 0)), ("node", plain("n1")), ("gpu", plain("three"))]);
    let error = judged(folder.path()).unwrap_err().to_string();
    assert!(error.contains("gpu-000.parquet: column gpu is of type Utf8, not an integer"), "{error}");
    write(folder.path(), "gpu-000.parquet", vec![("ts", stamps(1, 0))]);
    let error = judged(folder.path()).unwrap_err().to_string();
    assert!(error.contains("gpu-000.parquet: column node is missing"), "{error}");
}

#[test]
fn what_is_no_recording_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(judged(&folder.path().join("none")), Err(ReplayError::Folder { .. })));
    assert!(matches!(judged(folder.path()), Err(ReplayError::NoFiles(_))));
    std::fs::write(folder.path().join("gpu-000.parquet"), "PAR1 and no more").unwrap();
    assert!(matches!(judged(folder.path()), Err(ReplayError::Parquet { .. })));
}
