//! Hard facts that need no peers: a GPU that its driver has lost, a driver that hangs.

use super::Judge;
use crate::align::seconds::Second;
use crate::fleet::{GpuMetric, GpuSlot, NodeSlot};
use crate::incidents::{Kind, Report, Severity, Subject};
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
            "driver_back" => self.close_faults(node, None, ts, "driver_hung"),
            _ => {}
        }
    }

    /// A GPU that reports itself up again is no longer lost.
    pub(super) fn judge_faults(&mut self, at: Micros, columns: &Second) {
        let up = columns.column(GpuMetric::Up as usize);
        let back: Vec<usize> = (0..up.len()).filter(|&gpu| up[gpu] == 1.0).collect();
        if self.book.open_places(Kind::GpuFault).is_empty() {
            return;
        }
        for gpu in back {
            let gpu = GpuSlot(gpu as u32);
            self.close_faults(self.fleet.node_of(gpu), Some(gpu), at, "gpu_lost");
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
        let same = |open: &crate::incidents::Incident| {
            // What was measured before the loss does not undo it.
            open.cause == cause
                && open.started_at < at - 1_000_000
                && open.subject.node == subject.node
                && (subject.gpu.is_none() || open.subject.gpu == subject.gpu)
        };
        while let Some(place) = self.book.find_open(same) {
            self.book.close(place, at, at);
        }
    }

    fn fault_subject(&self, node: NodeSlot, gpu: Option<GpuSlot>) -> Subject {
        let index = gpu.map(|gpu| self.fleet.gpus()[gpu.0 as usize].index);
        Subject { node: Some(self.fleet.node_name(node).into()), gpu: index, ..Subject::default() }
    }
}
