//! Batches into rows: which file each row goes to, and what is known beside what it says.

use super::lane::Lane;
use super::names::{NONE, Names};
use super::rows::{Keys, NO_GPU, Rows};
use super::schema::Kind;
use super::{Given, MarkMap, RecorderError};
use crate::fleet::GpuMetric;
use crate::ingest::{Decoded, GpuTarget, Identity, NodeTarget, Table};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Numberings remembered of a node: as the judging does, the live one and eight others.
pub(super) const NUMBERINGS: usize = 9;

/// Lanes: those of what comes in time, and then those of what does not.
const LANES: usize = 2 * Kind::ALL.len();

#[derive(Debug)]
pub(super) struct Desk {
    names: Names,
    nodes: Nodes,
    lanes: [Lane; LANES],
    /// By lane, the rows of a table that go there.
    picked: [Vec<u32>; LANES],
    /// The latest arrival.
    arrived_at: i64,
}

#[derive(Debug, Default)]
struct Nodes {
    list: Vec<Node>,
    places: HashMap<String, usize>,
}

#[derive(Debug)]
struct Node {
    number: i32,
    /// As its live stream says, and as its backlog says.
    sides: [Side; 2],
    /// (spool, sequence): up to where it has been put.
    marks: Vec<(u64, u64)>,
}

/// What does not come with each row.
#[derive(Debug, Clone)]
struct Side {
    boot: i32,
    /// Of the node.
    job: i32,
    gpus: Vec<Gpu>,
}

#[derive(Debug, Clone, Copy)]
struct Gpu {
    uuid: i32,
    model: i32,
    job: i32,
    /// An XID that no row has yet, and when that was.
    xid: Option<(u32, i64)>,
}

const UNKNOWN: Gpu = Gpu { uuid: NONE, model: NONE, job: NONE, xid: None };

impl Desk {
    pub(super) fn new(folder: &Path, marks: &MarkMap) -> Self {
        let lanes = std::array::from_fn(|index| Lane::new(Kind::ALL[index % Kind::ALL.len()], index >= Kind::ALL.len(), folder));
        let picked = Default::default();
        let mut desk = Self { names: Names::default(), nodes: Nodes::default(), lanes, picked, arrived_at: i64::MIN };
        desk.set_marks(marks);
        desk
    }

    pub(super) fn lanes(&mut self) -> (impl Iterator<Item = &mut Lane>, &mut Names) {
        (self.lanes.iter_mut(), &mut self.names)
    }

    /// What it was before the rows that were given up.
    pub(super) fn set_marks(&mut self, marks: &MarkMap) {
        self.nodes.list.iter_mut().for_each(|node| node.marks.clear());
        for (name, marks) in marks {
            self.node(name).marks.clone_from(marks);
        }
    }

    pub(super) fn marks(&self) -> MarkMap {
        let nodes = self.nodes.places.iter().map(|(name, &place)| (name, &self.nodes.list[place].marks));
        nodes.filter(|(_, marks)| !marks.is_empty()).map(|(name, marks)| (name.clone(), marks.clone())).collect()
    }

    /// Between two sets of files, when no row has a number.
    pub(super) fn tidy(&mut self) {
        if !self.names.are_many() {
            return;
        }
        let numbers = self.nodes.list.iter_mut().flat_map(|node| {
            let sides = node.sides.iter_mut().flat_map(|side| {
                let gpus = side.gpus.iter_mut().flat_map(|gpu| [&mut gpu.uuid, &mut gpu.model, &mut gpu.job]);
                gpus.chain([&mut side.boot, &mut side.job])
            });
            sides.chain([&mut node.number])
        });
        self.names.renumber(numbers);
    }

    /// There is no room for more before a drain.
    pub(super) fn is_full(&self) -> bool {
        self.lanes.iter().any(Lane::is_full)
    }

    pub(super) fn drain(&mut self, stamp: i64) -> Result<(), RecorderError> {
        let Self { lanes, names, arrived_at, .. } = self;
        lanes.iter_mut().try_for_each(|lane| lane.drain(*arrived_at, stamp, names))
    }

    fn node(&mut self, name: &str) -> &mut Node {
        node_of(&mut self.nodes, name, &mut self.names)
    }

    pub(super) fn boot(&mut self, node: &str, backlog: bool, boot: &str) {
        let boot = self.names.number(boot);
        self.node(node).sides[usize::from(backlog)].boot = boot;
    }

    pub(super) fn identify(&mut self, node: &str, backlog: bool, gpus: &[Identity]) {
        for gpu in gpus {
            let (uuid, model) = (self.names.number(&gpu.uuid), self.names.number(&gpu.model));
            let known = self.node(node).sides[usize::from(backlog)].gpu(gpu.index);
            (known.uuid, known.model) = (uuid, model);
        }
    }

    pub(super) fn put(&mut self, given: &Given) {
        self.arrived_at = self.arrived_at.max(given.arrived_at.0);
        let Self { names, nodes, lanes, picked, .. } = self;
        let node = node_of(nodes, &given.node, names);
        node.mark(given.spool, given.batch.sequence);
        let side = &mut node.sides[usize::from(given.backlog)];
        let mut put =
            Put { number: node.number, arrived_at: given.arrived_at.0, backlog: given.backlog, names, side, lanes, picked };
        put.xids(&given.batch);
        given.batch.tables.iter().for_each(|table| put.table(table));
        put.events(&given.batch);
    }
}

/// A new one, if it is not known.
fn node_of<'a>(nodes: &'a mut Nodes, name: &str, names: &mut Names) -> &'a mut Node {
    let place = match nodes.places.get(name) {
        Some(&place) => place,
        None => {
            let side = Side { boot: NONE, job: NONE, gpus: Vec::new() };
            nodes.list.push(Node { number: names.number(name), sides: [side.clone(), side], marks: Vec::new() });
            nodes.places.insert(name.into(), nodes.list.len() - 1);
            nodes.list.len() - 1
        }
    };
    &mut nodes.list[place]
}

impl Node {
    fn mark(&mut self, spool: u64, sequence: u64) {
        let known = self.marks.iter().position(|(known, _)| *known == spool);
        known.map(|index| self.marks.remove(index));
        self.marks.push((spool, sequence));
        let surplus = self.marks.len().saturating_sub(NUMBERINGS);
        self.marks.drain(..surplus);
    }
}

impl Side {
    fn gpu(&mut self, index: u8) -> &mut Gpu {
        let index = usize::from(index);
        if self.gpus.len() <= index {
            self.gpus.resize(index + 1, UNKNOWN);
        }
        &mut self.gpus[index]
    }
}

/// One batch on its way into the lanes.
struct Put<'a> {
    number: i32,
    arrived_at: i64,
    backlog: bool,
    names: &'a mut Names,
    side: &'a mut Side,
    lanes: &'a mut [Lane; LANES],
    picked: &'a mut [Vec<u32>; LANES],
}

impl Put<'_> {
    fn table(&mut self, table: &Table) {
        self.pick(table);
        let error_seconds = if table.stamp_error_us == 0 { f32::NAN } else { (f64::from(table.stamp_error_us) / 1e6) as f32 };
        for index in 0..LANES {
            let picked = std::mem::take(&mut self.picked[index]);
            if !picked.is_empty() {
                self.append(index, table, &picked, error_seconds);
            }
            self.picked[index] = picked;
            self.picked[index].clear();
        }
    }

    /// Which rows say what.
    fn pick(&mut self, table: &Table) {
        let mut said = vec![0; table.rows.len()];
        for column in &table.columns {
            let gpu = match column.gpu {
                Some(GpuTarget::Power) => POWER,
                Some(GpuTarget::Metric(_)) => MORE,
                _ => 0,
            };
            let this = gpu | if column.node.is_some() { NODE } else { 0 };
            for (said, value) in said.iter_mut().zip(table.values(column)) {
                *said |= if value.is_nan() { 0 } else { this };
            }
        }
        for (said, job) in said.iter_mut().zip(table.jobs.iter().flatten()) {
            *said |= if job.is_some() { MORE | NODE } else { 0 };
        }
        for (row, (place, said)) in table.rows.iter().zip(&said).enumerate() {
            let Some((gpu, ts)) = *place else { continue };
            let kind = match gpu {
                Some(_) if said & MORE != 0 => Kind::Gpu,
                Some(_) if said & POWER != 0 => Kind::Power,
                None if said & NODE != 0 => Kind::Node,
                _ => continue,
            };
            let index = self.lane(kind, ts.0);
            self.picked[index].push(row as u32);
        }
    }

    fn lane(&self, kind: Kind, ts: i64) -> usize {
        let late = self.backlog || ts < self.lanes[kind as usize].frontier;
        kind as usize + if late { Kind::ALL.len() } else { 0 }
    }

    fn append(&mut self, index: usize, table: &Table, picked: &[u32], error_seconds: f32) {
        let keys = self.keys();
        let rows = &mut self.lanes[index].rows;
        let before = rows.len();
        let places = picked.iter().filter_map(|&row| table.rows[row as usize]);
        rows.push_all(Keys { error_seconds, ..keys }, places.map(|(gpu, ts)| (gpu.unwrap_or(NO_GPU), ts.0)));
        let kind = Kind::ALL[index % Kind::ALL.len()];
        for column in &table.columns {
            let place = match kind {
                Kind::Node => column.node.and_then(of_node),
                _ => column.gpu.and_then(of_gpu),
            };
            // Two metrics of the same name: the first one holds.
            let free = |place: &usize| rows.figures.get(*place).is_some_and(|column| column.len() == before);
            if let Some(place) = place.filter(free) {
                let values = table.values(column);
                match picked.len() == values.len() {
                    true => rows.figures[place].extend_from_slice(values),
                    false => rows.figures[place].extend(picked.iter().map(|&row| values[row as usize])),
                }
            }
        }
        match kind {
            Kind::Gpu => gpu_texts(rows, table, picked, self.side, self.names),
            Kind::Node => node_texts(rows, table, picked, self.side, self.names),
            Kind::Power | Kind::Event => {}
        }
        rows.fill();
    }

    /// Of a row that says nothing.
    fn keys(&self) -> Keys {
        let (error_seconds, gpu) = (f32::NAN, NO_GPU);
        Keys { ts: 0, arrived_at: self.arrived_at, error_seconds, node: self.number, gpu, backlog: self.backlog }
    }

    /// They go to the next row of their GPU, beside being events.
    fn xids(&mut self, batch: &Decoded) {
        for event in batch.events.iter().filter(|event| event.kind == "xid") {
            if let Some((gpu, code)) = event.gpu.zip(u32::try_from(event.code).ok()) {
                self.side.gpu(gpu).xid = Some((code, event.at.0));
            }
        }
    }

    fn events(&mut self, batch: &Decoded) {
        for event in &batch.events {
            let index = self.lane(Kind::Event, event.at.0);
            let (kind, detail) = (self.names.number(&event.kind), self.names.number(&event.detail));
            let keys = Keys { ts: event.at.0, gpu: event.gpu.unwrap_or(NO_GPU), ..self.keys() };
            let rows = &mut self.lanes[index].rows;
            rows.push(keys);
            rows.texts[0].push(kind);
            rows.texts[1].push(detail);
            rows.figures[0].push(event.code as f64);
        }
    }
}

/// Whether a row has any of these: power; of a GPU, something beside its power; something of the node.
const POWER: u8 = 1;
const MORE: u8 = 2;
const NODE: u8 = 4;

fn of_gpu(target: GpuTarget) -> Option<usize> {
    match target {
        GpuTarget::Power => Some(0),
        GpuTarget::Metric(metric) => Some(1 + metric as usize),
        GpuTarget::Job => None,
    }
}

fn of_node(target: NodeTarget) -> Option<usize> {
    match target {
        NodeTarget::Power => Some(0),
        NodeTarget::Metric(metric) => Some(1 + metric as usize),
        NodeTarget::Job => None,
    }
}

/// A row that does not say the job has the one that was said last.
fn gpu_texts(rows: &mut Rows, table: &Table, picked: &[u32], side: &mut Side, names: &mut Names) {
    let (mut xids, mut last) = (Vec::with_capacity(picked.len()), None);
    for &row in picked {
        let Some((Some(index), ts)) = table.rows[row as usize] else { continue };
        let gpu = side.gpu(index);
        if let Some(job) = said_job(table, row, names, &mut last) {
            gpu.job = job;
        }
        for (column, number) in rows.texts.iter_mut().zip([gpu.job, gpu.uuid, gpu.model]) {
            column.push(number);
        }
        let xid = gpu.xid.take_if(|(_, at)| *at <= ts.0);
        xids.push(xid.map_or(f64::NAN, |(code, _)| code.into()));
    }
    let all = rows.len();
    let column = &mut rows.figures[1 + GpuMetric::Xid as usize];
    // An agent may say it by itself.
    if column.len() + xids.len() == all {
        column.extend(xids);
    }
}

fn node_texts(rows: &mut Rows, table: &Table, picked: &[u32], side: &mut Side, names: &mut Names) {
    let mut last = None;
    for &row in picked {
        side.job = said_job(table, row, names, &mut last).unwrap_or(side.job);
        rows.texts[0].push(side.job);
        rows.texts[1].push(side.boot);
    }
}

/// `last`: the job that was said last, and its number.
fn said_job<'a>(table: &'a Table, row: u32, names: &mut Names, last: &mut Option<(&'a Arc<str>, i32)>) -> Option<i32> {
    let Some(job) = table.jobs.as_ref()?[row as usize].as_ref()? else { return Some(NONE) };
    if let Some((_, number)) = last.filter(|(last, _)| Arc::ptr_eq(last, job)) {
        return Some(number);
    }
    let number = names.number(job);
    *last = Some((job, number));
    Some(number)
}
