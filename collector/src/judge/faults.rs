//! Hard facts that need no peers: a GPU that its driver has lost, a driver that hangs.

use super::Judge;
use crate::align::seconds::Second;
use crate::fleet::{GpuMetric, GpuSlot, NodeSlot};
use crate::incidents::{Incident, Kind, Report, Severity, Subject};
use gridstep_wire::Micros;

impl Judge {
    /// Something that an agent says has happened ("gpu_lost", "driver_hung", "driver_back", "gpu_back", "xid", …).
    pub fn put_event(&mut self, node: NodeSlot, gpu: Option<GpuSlot>, ts: Micros, kind: &str, _code: i64) {
        match kind {
            "gpu_lost" => self.open_fault(node, gpu, ts, Kind::GpuFault, "gpu_lost", "its driver has lost it"),
            "driver_hung" => {
                self.open_fault(node, gpu, ts, Kind::Telemetry, "driver_hung", "a call to the driver does not return")
            }
            "gpu_back" => self.close_faults(node, gpu, ts, "gpu_lost"),
            "driver_back" => self.close_faults(node, gpu, ts, "driver_hung"),
            _ => {}
        }
    }

    /// A GPU that reports itself up is not lost, and its driver answers: an agent that was started anew does not know what
    /// it would have to take back.
    pub(super) fn judge_faults(&mut self, at: Micros, columns: &Second) {
        if self.book.open_places(Kind::GpuFault).is_empty() && self.book.open_places(Kind::Telemetry).is_empty() {
            return;
        }
        for (gpu, _) in (0..).map(GpuSlot).zip(columns.column(GpuMetric::Up as usize)).filter(|(_, up)| **up == 1.0) {
            let node = self.fleet.node_of(gpu);
            self.close_faults(node, Some(gpu), at, "gpu_lost");
            self.close_faults(node, Some(gpu), at, "driver_hung");
            self.close_faults(node, None, at, "driver_hung");
        }
    }

    fn open_fault(&mut self, node: NodeSlot, gpu: Option<GpuSlot>, ts: Micros, kind: Kind, cause: &'static str, what: &str) {
        let subject = self.fault_subject(node, gpu);
        if self.book.find_open(|open| open.cause == cause && open.subject == subject).is_some() {
            return;
        }
        let name = self.fleet.node_name(node);
        let who = subject.gpu.map_or_else(|| name.to_owned(), |gpu| format!("{name} GPU {gpu}"));
        let report = Report {
            at: ts,
            started_at: ts,
            cause,
            severity: Severity::Warning,
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

    fn close_faults(&mut self, node: NodeSlot, gpu: Option<GpuSlot>, at: Micros, cause: &str) {
        let subject = self.fault_subject(node, gpu);
        // What was measured before the loss does not undo it.
        let same = |open: &Incident| open.cause == cause && open.started_at < at - 1_000_000 && open.subject == subject;
        while let Some(place) = self.book.find_open(same) {
            self.book.close(place, at, at);
        }
    }

    fn fault_subject(&self, node: NodeSlot, gpu: Option<GpuSlot>) -> Subject {
        let index = gpu.map(|gpu| self.fleet.gpus()[gpu.0 as usize].index);
        Subject { node: Some(self.fleet.node_name(node).into()), gpu: index, ..Subject::default() }
    }
}
