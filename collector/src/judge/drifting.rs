//! Nodes that draw otherwise than they used to, where nothing but power is known → incidents for the record.

use super::Judge;
use super::straggling::tidy;
use crate::fleet::NodeSlot;
use crate::incidents::{Evidence, Kind, Report, Severity, Subject};
use crate::stragglers::draw::Drift;
use gridstep_wire::Micros;
use serde_json::json;

/// After the watermark: a node's meter is read every few seconds, and its reading is on its way for as long.
const LATE_SECONDS: f64 = 3.0;

impl Judge {
    pub(super) fn judge_draws(&mut self, now: Micros) {
        let until = now - self.config.align.watermark_us() - (LATE_SECONDS * 1e6) as i64;
        let (fleet, jobs) = (&self.fleet, &self.node_job);
        let job = |node: usize| {
            let known = fleet.nodes().get(node)?;
            let in_service = known.place.as_ref().is_none_or(|place| place.in_service);
            (in_service && !known.has_gpus()).then(|| jobs.get(node).copied().flatten())
        };
        let Some(drifts) = self.draws.finish(until, job) else { return };
        drifts.iter().for_each(|drift| self.report_drift(drift));
        if self.latest.is_none() {
            self.close_quiet(until);
        }
    }

    fn report_drift(&mut self, drift: &Drift) {
        let node = self.fleet.node_name(NodeSlot(drift.node as u32)).to_owned();
        let at = Micros(drift.at * 1_000_000);
        let job = self.node_job.get(drift.node).copied().flatten().map(|job| self.fleet.jobs()[job as usize].clone());
        let (percent, peers) = (100.0 * drift.by.abs(), drift.peers);
        let way = if drift.by < 0.0 { "less" } else { "more" };
        let mut report = Report {
            at,
            started_at: Micros(drift.since * 1_000_000),
            cause: "unknown",
            severity: Severity::Info,
            subject: Subject { job, node: Some(node.clone()), ..Subject::default() },
            completeness: 1.0,
            confirmed: true,
            summary: format!(
                "{node} draws {percent:.0} % {way} than it used to beside {peers} peers: it may be slow; nothing but its power is known"
            ),
            magnitude: Default::default(),
            evidence: vec![Evidence {
                signal: "node_power_watts".into(),
                value: drift.watts.round(),
                peers: Some(drift.peer_watts.round()),
                score: Some(tidy(drift.score)),
            }],
            ruled_out: Vec::new(),
            contributors: Vec::new(),
        };
        report.magnitude.insert("power_change_ratio".into(), json!(tidy(drift.by)));
        let same = |open: &crate::incidents::Incident| {
            open.kind == Kind::Straggler && open.subject.node.as_deref() == Some(node.as_str())
        };
        match self.book.find_open(same) {
            Some(place) => self.book.refine(place, report),
            None => drop(self.book.open(Kind::Straggler, report)),
        }
    }
}
