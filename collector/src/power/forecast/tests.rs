use super::*;
use crate::align::BIN_US;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, TimestampMicrosecondType};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;

fn history(seconds: usize, watts: impl Fn(f64) -> f64) -> History {
    let mut history = History::default();
    for bin in 0..seconds * 10 {
        history.push(Micros(bin as i64 * BIN_US), watts(bin as f64 * BIN), 0.0, 1.0);
    }
    history
}

#[test]
fn the_next_turns_of_a_sawtooth_like_wave() {
    let wave = |t: f64| 500e3 + 20e3 * (TAU * 0.1 * t).cos() + 5e3 * (TAU * 0.2 * t).sin();
    let next = forecast(&history(200, wave), 0.1).unwrap();
    let ahead = |turn: Turn| turn.at.seconds() - 199.9;
    assert!((0.0..=10.0).contains(&ahead(next.trough)) && (0.0..=10.0).contains(&ahead(next.crest)), "{next:?}");
    for turn in [next.trough, next.crest] {
        assert!((wave(turn.at.seconds()) - turn.watts).abs() < 100.0, "{next:?}");
    }
    let all = (0..100).map(|step| wave(200.0 + f64::from(step) * 0.1));
    assert!((next.trough.watts - all.clone().fold(f64::INFINITY, f64::min)).abs() < 100.0);
    assert!((next.crest.watts - all.fold(0.0, f64::max)).abs() < 100.0);
    assert_eq!(forecast(&history(15, wave), 0.1), None);
}

#[test]
fn dips_that_recur_are_told_and_others_are_not() {
    // Every 120 s, 10 s long, one left out; a wave of 8 s beside them.
    let dip = |t: f64| if t.rem_euclid(120.0) < 10.0 && !(480.0..500.0).contains(&t) { -100e3 } else { 0.0 };
    let wave = |t: f64| 500e3 + 20e3 * (TAU * t / 8.0).sin();
    let next = dips(&history(800, |t| wave(t) + dip(t)), Some(8.0)).unwrap();
    assert!((next.period_seconds - 120.0).abs() < 1.0, "{next:?}");
    assert!((next.next_at.seconds() - 845.0).abs() < 3.0, "{next:?}");
    assert!((next.depth_watts / 100e3 - 1.0).abs() < 0.1, "{next:?}");
    let anyhow = |t: f64| if [100.0, 150.0, 390.0, 700.0].iter().any(|at| (t - at).abs() < 5.0) { -100e3 } else { 0.0 };
    assert_eq!(dips(&history(800, |t| wave(t) + anyhow(t)), Some(8.0)), None);
    assert_eq!(dips(&history(800, wave), Some(8.0)), None);
}

/// The sum of 64 nodes of H100s every 2 s, each node's value the last that it had then.
fn gpt3() -> Vec<f64> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/mlperf-smc-gpt3-64x8-h100-ac/node-000.parquet");
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap().build().unwrap();
    let mut nodes: BTreeMap<String, Vec<(i64, f64)>> = BTreeMap::new();
    for batch in reader {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let names = arrow_cast::cast(column("node"), &DataType::Utf8).unwrap();
        let watts = arrow_cast::cast(column("power_watts"), &DataType::Float64).unwrap();
        let stamps = column("ts").as_primitive::<TimestampMicrosecondType>();
        for row in 0..batch.num_rows() {
            let point = (stamps.value(row), watts.as_primitive::<Float64Type>().value(row));
            nodes.entry(names.as_string::<i32>().value(row).to_owned()).or_default().push(point);
        }
    }
    nodes.values_mut().for_each(|points| points.sort_by_key(|point| point.0));
    let start = nodes.values().map(|points| points[0].0).max().unwrap();
    let end = nodes.values().map(|points| points[points.len() - 1].0).min().unwrap();
    let at = |time: i64| {
        let last = |points: &Vec<(i64, f64)>| points[points.partition_point(|point| point.0 <= time) - 1].1;
        nodes.values().map(last).sum::<f64>()
    };
    (start..end).step_by(2_000_000).map(at).collect()
}

/// Bins of 100 ms between values 2 s apart; the last bin is that of the last value.
fn bins(values: &[f64]) -> Vec<f64> {
    let between = |pair: &[f64]| (0..20).map(|bin| pair[0] + (pair[1] - pair[0]) * f64::from(bin) / 20.0).collect::<Vec<_>>();
    values.windows(2).flat_map(between).chain(values.last().copied()).collect()
}

fn rms(errors: &[f64]) -> f64 {
    (errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64).sqrt()
}

#[test]
fn four_seconds_ahead_on_512_real_gpus() {
    let sum = gpt3();
    let (mut own, mut persistence) = (Vec::new(), Vec::new());
    let mut hertz = 0.0;
    // The steady part, 400 to 3200 s; at each time only what is known by then.
    for now in 200..1600 {
        if now % 50 == 0 {
            let known = bins(&sum[now - 200..=now]);
            hertz = spectrum::fit(&known, 0.0915, 0.2).unwrap().frequency_hz;
        }
        let model = fit(&bins(&sum[now - 50..=now]), hertz).unwrap();
        own.push(model.watts(4.0) - sum[now + 2]);
        persistence.push(sum[now] - sum[now + 2]);
    }
    let (own, persistence) = (rms(&own), rms(&persistence));
    println!("4 s ahead: {:.1} kW rms, persistence {:.1} kW", own / 1e3, persistence / 1e3);
    assert!(own <= 0.6 * persistence, "{own} W, persistence {persistence} W");
}

#[test]
fn evaluations_of_512_real_gpus_recur() {
    let sum = bins(&gpt3()[200..650]);
    let mut history = History::default();
    sum.iter().enumerate().for_each(|(bin, &watts)| history.push(Micros(bin as i64 * BIN_US), watts, 0.0, 1.0));
    let next = dips(&history, Some(10.9)).unwrap();
    println!("{next:?}");
    assert!((next.period_seconds / 142.0 - 1.0).abs() < 0.03, "{next:?}");
    assert!((20e3..60e3).contains(&next.depth_watts), "{next:?}");
}
