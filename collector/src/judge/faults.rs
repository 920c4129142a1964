//! Faults that need no peers to be seen: of GPUs, and of what is known of them.

use super::watch::Watch;
use super::{Judge, xid};
use crate::align::seconds::Second;
use crate::fleet::{GpuMetric, GpuSlot, NodeSlot};
use crate::incidents::{Incident, Kind, Report, Severity, Subject};
use gridstep_wire::Micros;
use std::collections::BTreeMap;

/// What is watched for closes after so many seconds without it.
const QUIET_SECONDS: f64 = 600.0;
/// A node that is not heard of for so many seconds is silent, while most others speak.
const SILENT_SECONDS: i64 = 90;
/// So many GPUs of a node that have the same are one incident of the node.
const TOGETHER: usize = 3;
/// Who has a symptom, how bad it is, what to say.
type Holder = (GpuSlot, Severity, String);

impl Judge {
    /// Something that an agent says has happened ("gpu_lost", "driver_hung", "driver_back", "gpu_back", "xid", …).
    pub fn put_event(&mut self, node: NodeSlot, gpu: Option<GpuSlot>, ts: Micros, kind: &str, code: i64) {
        use Severity::Warning;
        match kind {
            "gpu_lost" => self.open_fault(node, gpu, ts, Kind::GpuFault, "gpu_lost", Warning, "its driver has lost it"),
            "driver_hung" => {
                let what = "a call to the driver does not return";
                self.open_fault(node, gpu, ts, Kind::Telemetry, "driver_hung", Warning, what);
            }
            "gpu_back" => self.close_faults(node, gpu, ts, "gpu_lost"),
            "driver_back" => self.close_faults(node, gpu, ts, "driver_hung"),
            "xid" => self.xid(node, gpu, ts, code),
            _ => {}
        }
    }

    fn xid(&mut self, node: NodeSlot, gpu: Option<GpuSlot>, ts: Micros, code: i64) {
        if let Some((cause, severity, what)) = xid::meaning(code) {
            self.open_fault(node, gpu, ts, Kind::GpuFault, cause, severity, &format!("XID {code}, {what}"));
        }
    }

    /// A GPU that reports itself up is not lost, and its driver answers: an agent that was started anew does not know what
    /// it would have to take back.
    pub(super) fn judge_faults(&mut self, at: Micros, columns: &Second) {
        self.watch_gpus(at, columns);
        self.watch_nodes(at, columns);
        if self.book.open_places(Kind::GpuFault).is_empty() && self.book.open_places(Kind::Telemetry).is_empty() {
            return;
        }
        for (gpu, _) in (0..).map(GpuSlot).zip(columns.column(GpuMetric::Up as usize)).filter(|(_, up)| **up == 1.0) {
            let node = self.fleet.node_of(gpu);
            self.close_faults(node, Some(gpu), at, "gpu_lost");
            self.close_faults(node, Some(gpu), at, "driver_hung");
            self.close_faults(node, None, at, "driver_hung");
        }
        let over = |incident: &&Incident| at.since(incident.updated_at) >= QUIET_SECONDS && incident.cause != "gpu_lost";
        let mut places = self.book.open_places(Kind::GpuFault);
        places.extend(
            self.book.open_places(Kind::Telemetry).into_iter().filter(|&place| self.book.get(place).cause == "sensor_stuck"),
        );
        for place in places {
            let last = self.book.get(place).updated_at;
            if over(&self.book.get(place)) {
                self.book.close(place, last, at);
            }
        }
    }

    fn watch_gpus(&mut self, at: Micros, columns: &Second) {
        let count = self.fleet.gpus().len();
        self.watches.resize_with(count, Watch::default);
        let mut symptoms = Vec::new();
        let mut seen: BTreeMap<(u32, &'static str), Vec<Holder>> = BTreeMap::new();
        let xids = columns.column(GpuMetric::Xid as usize);
        let mut codes = Vec::new();
        for slot in 0..count {
            let gpu = GpuSlot(slot as u32);
            let watts = self.gpu_power.latest(slot).unwrap_or(0.0);
            self.watches[slot].take(columns, slot, watts, &mut symptoms);
            for (cause, severity, text) in symptoms.drain(..) {
                seen.entry((self.fleet.node_of(gpu).0, cause)).or_default().push((gpu, severity, text));
            }
            if let Some(&code) = xids.get(slot).filter(|code| **code > 0.0) {
                codes.push((gpu, code as i64));
            }
        }
        for (gpu, code) in codes {
            self.xid(self.fleet.node_of(gpu), Some(gpu), at, code);
        }
        for ((node, cause), gpus) in seen {
            let kind = if cause == "sensor_stuck" { Kind::Telemetry } else { Kind::GpuFault };
            let node = NodeSlot(node);
            let whole = self.fault_subject(node, None);
            let of_node =
                gpus.len() >= TOGETHER || self.book.find_open(|open| open.cause == cause && open.subject == whole).is_some();
            if of_node {
                let (_, severity, text) = &gpus[0];
                self.open_fault(node, None, at, kind, cause, *severity, &format!("{} of its GPUs: {text}", gpus.len()));
            } else {
                gpus.iter().for_each(|(gpu, severity, text)| self.open_fault(node, Some(*gpu), at, kind, cause, *severity, text));
            }
        }
    }

    /// Silence.
    fn watch_nodes(&mut self, at: Micros, columns: &Second) {
        let second = at.0.div_euclid(1_000_000);
        let nodes = self.fleet.nodes().len();
        self.heard.resize(nodes, i64::MIN);
        let clocks = columns.column(GpuMetric::SmClock as usize);
        let up = columns.column(GpuMetric::Up as usize);
        for (gpu, value) in (0..).map(GpuSlot).zip(clocks.iter().zip(up)) {
            if !value.0.is_nan() || !value.1.is_nan() {
                self.heard[self.fleet.node_of(gpu).0 as usize] = second;
            }
        }
        let known = |heard: &&i64| **heard > i64::MIN;
        let silent = |heard: &i64| *heard > i64::MIN && second - heard >= SILENT_SECONDS;
        // Many at once are not the nodes' fault.
        let many = 2 * self.heard.iter().filter(|heard| silent(heard)).count() > self.heard.iter().filter(known).count();
        for node in (0..nodes).map(|node| NodeSlot(node as u32)) {
            let heard = self.heard[node.0 as usize];
            let in_service = self.fleet.nodes()[node.0 as usize].place.as_ref().is_none_or(|place| place.in_service);
            if silent(&heard) && !many && in_service {
                self.open_fault(
                    node,
                    None,
                    Micros(heard * 1_000_000),
                    Kind::Telemetry,
                    "node_silent",
                    Severity::Warning,
                    "nothing is heard of it",
                );
            } else if heard == second {
                self.close_faults(node, None, at, "node_silent");
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn open_fault(
        &mut self,
        node: NodeSlot,
        gpu: Option<GpuSlot>,
        ts: Micros,
        kind: Kind,
        cause: &'static str,
        severity: Severity,
        what: &str,
    ) {
        let subject = self.fault_subject(node, gpu);
        if let Some(place) = self.book.find_open(|open| open.cause == cause && open.subject == subject) {
            self.book.touch(place, ts);
            return;
        }
        let name = self.fleet.node_name(node);
        let who = subject.gpu.map_or_else(|| name.to_owned(), |gpu| format!("{name} GPU {gpu}"));
        let report = Report {
            at: ts,
            started_at: ts,
            cause,
            severity,
            subject,
            completeness: 1.0,
            confirmed: true,
            summary: format!("{who}: {what}"),
            magnitude: Default::default(),
            evidence: Vec::new(),
            ruled_out: Vec::new(),
            contributors: Vec::new(),
        };
        self.book.open(kind, report);
    }

    pub(super) fn close_faults(&mut self, node: NodeSlot, gpu: Option<GpuSlot>, at: Micros, cause: &str) {
        if self.book.find_open(|open| open.cause == cause).is_none() {
            return;
        }
        let subject = self.fault_subject(node, gpu);
        // What was measured before the loss does not undo it.
        let same = |open: &Incident| open.cause == cause && open.started_at < at - 1_000_000 && open.subject == subject;
        while let Some(place) = self.book.find_open(same) {
            self.book.close(place, at, at);
        }
    }

    pub(super) fn fault_subject(&self, node: NodeSlot, gpu: Option<GpuSlot>) -> Subject {
        let index = gpu.map(|gpu| self.fleet.gpus()[gpu.0 as usize].index);
        Subject { node: Some(self.fleet.node_name(node).into()), gpu: index, ..Subject::default() }
    }
}
