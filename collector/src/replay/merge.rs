//! All rows of a recording into the judging, in the order of their arrival.

use super::chunk::{Chunk, Names};
use super::files::{Kind, Recording};
use super::source::Source;
use super::{LastRevisions, Progress, ReplayError};
use crate::fleet::{GpuSlot, JobSlot, NodeSlot};
use crate::judge::Judge;
use crate::report::Recorder;
use arrow_array::Array;
use gridstep_wire::Micros;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Rows between two calls of `progress`, and between two collections of revisions.
const STRIDE_ROWS: u64 = 8192;
const SECOND_US: i64 = 1_000_000;

#[derive(Debug, Default)]
pub(super) struct Fed {
    pub(super) rows: u64,
    pub(super) span: Option<(Micros, Micros)>,
}

pub(super) fn feed(
    recording: Recording,
    judge: &mut Judge,
    last: &mut LastRevisions,
    until: Option<Micros>,
    recorder: &mut Option<Recorder>,
    mut progress: impl FnMut(Progress),
) -> Result<Fed, ReplayError> {
    let files = recording.files.into_iter();
    let mut sources = files.map(|(kind, path)| Source::new(kind, path)).collect::<Result<Vec<_>, _>>()?;
    let mut feeds: Vec<Feed> = sources.iter().map(|_| Feed::default()).collect();
    let mut identified = Identified::new();
    let rows_total = sources.iter().map(|source| source.rows_total).sum();
    let mut heads: BinaryHeap<_> = sources.iter().enumerate().map(|(index, source)| Reverse((source.bound(), index))).collect();
    let mut fed = Fed::default();
    while let Some(Reverse((bound, index))) = heads.pop() {
        let source = &mut sources[index];
        source.prepare()?;
        // The row at hand may come later than the bound that let it come forward.
        let Some(arrival) = source.bound() else { continue };
        if bound != Some(arrival) {
            heads.push(Reverse((Some(arrival), index)));
            continue;
        }
        let kind = source.kind;
        let Some((number, chunk, row)) = source.next() else { continue };
        let at = Micros(arrival);
        if until.is_some_and(|until| at > until) {
            break;
        }
        judge.advance(at);
        if let Some(recorder) =
            recorder.as_mut().filter(|_| fed.span.is_none_or(|(_, last)| at.0 / SECOND_US != last.0 / SECOND_US))
        {
            recorder.look(judge);
        }
        feeds[index].select(number, chunk);
        if !feeds[index].put(chunk, row, kind, judge, &mut identified) {
            let row = chunk.first_row + row as u64;
            return Err(ReplayError::Null { path: sources[index].path.clone(), column: "gpu", row });
        }
        fed.rows += 1;
        fed.span = Some((fed.span.map_or(at, |(first, _)| first), at));
        if fed.rows.is_multiple_of(STRIDE_ROWS) {
            last.take(judge);
            progress(Progress { rows: fed.rows, rows_total, at });
        }
        heads.push(Reverse((source.bound(), index)));
    }
    Ok(fed)
}

/// By GPU slot: whether its UUID and model are known.
type Identified = Vec<bool>;

/// The names of one file's current chunk as slots, looked up when a row first has them.
#[derive(Debug, Default)]
struct Feed {
    chunk: Option<u64>,
    nodes: Vec<Option<NodeSlot>>,
    jobs: Vec<Option<JobSlot>>,
}

impl Feed {
    fn select(&mut self, number: u64, chunk: &Chunk) {
        if self.chunk == Some(number) {
            return;
        }
        self.chunk = Some(number);
        self.nodes.clear();
        self.nodes.resize(chunk.node.distinct(), None);
        self.jobs.clear();
        self.jobs.resize(chunk.job.as_ref().map_or(0, Names::distinct), None);
    }

    /// False: a row that is about a GPU does not say which.
    fn put(&mut self, chunk: &Chunk, row: usize, kind: Kind, judge: &mut Judge, identified: &mut Identified) -> bool {
        let Some(key) = chunk.node.key(row) else { return true };
        if kind == Kind::Meter {
            put_meter(chunk, row, key, judge);
            return true;
        }
        let node = *self.nodes[key].get_or_insert_with(|| judge.fleet_mut().node(chunk.node.name(key)));
        let ts = Micros(chunk.ts.value(row));
        let index = chunk.gpu.as_ref().filter(|gpus| gpus.is_valid(row)).map(|gpus| gpus.value(row));
        let gpu = match index.map(u8::try_from) {
            Some(Ok(index)) if index < u8::MAX => Some(judge.fleet_mut().gpu(node, index)),
            Some(_) => return false,
            None => None,
        };
        if let Some(key) = chunk.kind.as_ref().and_then(|kinds| kinds.key(row)) {
            let code = chunk.code.as_ref().filter(|codes| codes.is_valid(row)).map_or(0, |codes| codes.value(row));
            judge.put_event(node, gpu, ts, chunk.kind.as_ref().map_or("", |kinds| kinds.name(key)), code);
        } else if let Some(gpu) = gpu {
            self.put_gpu(chunk, row, gpu, ts, judge, identified);
        } else if matches!(kind, Kind::Node | Kind::Late) {
            self.put_node(chunk, row, node, ts, judge);
        } else if matches!(kind, Kind::Gpu | Kind::Power) {
            return false;
        }
        true
    }

    fn put_gpu(&mut self, chunk: &Chunk, row: usize, gpu: GpuSlot, ts: Micros, judge: &mut Judge, identified: &mut Identified) {
        identify(chunk, row, gpu, judge, identified);
        if let Some(jobs) = &chunk.job
            && let Some(job) = self.job(jobs, row, chunk, judge)
        {
            judge.put_gpu_job(gpu, job);
        }
        if let Some(power) = &chunk.power
            && power.is_valid(row)
        {
            judge.put_gpu_power(gpu, ts, power.value(row));
        }
        for (metric, column) in &chunk.gpu_metrics {
            if column.is_valid(row) {
                judge.put_gpu(gpu, *metric, ts, column.value(row));
            }
        }
    }

    fn put_node(&mut self, chunk: &Chunk, row: usize, node: NodeSlot, ts: Micros, judge: &mut Judge) {
        if let Some(jobs) = &chunk.job
            && let Some(job) = self.job(jobs, row, chunk, judge)
        {
            judge.put_node_job(node, job);
        }
        if let Some(power) = &chunk.power
            && power.is_valid(row)
        {
            judge.put_node_power(node, ts, power.value(row));
        }
        for (metric, column) in &chunk.node_metrics {
            if column.is_valid(row) {
                judge.put_node(node, *metric, ts, column.value(row));
            }
        }
    }

    /// The row's job, Some(None) for idle; None where the row does not say.
    fn job(&mut self, jobs: &Names, row: usize, chunk: &Chunk, judge: &mut Judge) -> Option<Option<JobSlot>> {
        match jobs.key(row) {
            Some(key) => Some(Some(*self.jobs[key].get_or_insert_with(|| judge.fleet_mut().job(jobs.name(key))))),
            None => chunk.says_more_than_power(row).then_some(None),
        }
    }
}

fn put_meter(chunk: &Chunk, row: usize, key: usize, judge: &mut Judge) {
    let Some(power) = chunk.power.as_ref().filter(|power| power.is_valid(row)) else { return };
    let feeder = chunk.feeder.as_ref().and_then(|feeders| feeders.key(row).map(|key| feeders.name(key)));
    let meter = judge.fleet_mut().meter(chunk.node.name(key), feeder);
    judge.put_meter(meter, Micros(chunk.ts.value(row)), power.value(row));
}

fn identify(chunk: &Chunk, row: usize, gpu: GpuSlot, judge: &mut Judge, identified: &mut Identified) {
    let index = gpu.0 as usize;
    if identified.get(index) == Some(&true) {
        return;
    }
    let text = |names: &Option<Names>| names.as_ref().and_then(|names| names.key(row).map(|key| names.name(key).to_owned()));
    let (uuid, model) = (text(&chunk.uuid), text(&chunk.model));
    if uuid.is_none() && model.is_none() {
        return;
    }
    judge.fleet_mut().identify(gpu, &uuid.unwrap_or_default(), &model.unwrap_or_default());
    identified.resize(identified.len().max(index + 1), false);
    identified[index] = true;
}
