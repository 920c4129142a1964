//! What pages, API and metrics see: a copy of the judging's results, made once a second.

use super::nodes::{Node, Nodes};
use super::swings::SwingsView;
use crate::alerts::Alert;
use crate::fleet::GpuSlot;
use crate::incidents::{Incident, Lemon, rfc3339};
use crate::judge::{Judge, PowerPoint};
use crate::past::Past;
use crate::power::Resolved;
use crate::report::{Facts, Log};
use gridstep_wire::Micros;
use serde::Serialize;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(crate) struct View {
    /// When it was made, by the collector's clock.
    pub(crate) at: Micros,
    pub(crate) judged_until: Micros,
    /// The last 15 minutes, oldest first.
    pub(crate) power: Vec<PowerPoint>,
    pub(crate) limits: Option<Resolved>,
    pub(crate) swings: SwingsView,
    pub(crate) facts: Facts,
    /// Goes on growing after the view was made.
    pub(crate) log: Arc<Log>,
    pub(crate) late_samples: u64,
    /// Newest last.
    pub(crate) incidents: Arc<Vec<Incident>>,
    /// Nodes with incidents of their own in the last weeks, the worst first.
    pub(crate) lemons: Arc<Vec<Lemon>>,
    /// What somebody is to be told.
    pub(crate) alerts: Arc<Vec<Alert>>,
    pub(crate) nodes: Vec<NodeView>,
    pub(crate) past: Past,
    /// The last checkpoint could not be written.
    pub(crate) checkpoint_failed: bool,
    /// Nothing can be recorded.
    pub(crate) recording_failed: bool,
}

/// One node, with its GPUs in the order of their index.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NodeView {
    pub(crate) node: String,
    pub(crate) rack: Option<String>,
    pub(crate) feeder: Option<String>,
    /// None: the topology file does not know the node.
    pub(crate) in_service: Option<bool>,
    pub(crate) connected: bool,
    /// When its last batch came; likewise as RFC 3339.
    #[serde(skip)]
    pub(crate) last_batch: Option<Micros>,
    pub(crate) last_batch_at: Option<String>,
    pub(crate) received: u64,
    pub(crate) durable: u64,
    pub(crate) samples: u64,
    pub(crate) lost_batches: u64,
    #[serde(skip)]
    pub(crate) gpus: Vec<GpuCell>,
}

/// The latest final second of a GPU; null is not known.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct GpuCell {
    /// Its place in columns of all GPUs.
    #[serde(skip)]
    pub(crate) slot: usize,
    pub(crate) gpu: u8,
    pub(crate) uuid: String,
    pub(crate) model: String,
    pub(crate) power_watts: Option<f64>,
    pub(crate) temperature_celsius: Option<f64>,
    pub(crate) sm_clock_mhz: Option<f64>,
    pub(crate) sm_active_ratio: Option<f64>,
    pub(crate) gpu_utilization_ratio: Option<f64>,
    pub(crate) job: Option<String>,
    pub(crate) up: Option<bool>,
}

/// What changes with an incident's revision alone.
pub(super) struct Told {
    pub(super) incidents: Arc<Vec<Incident>>,
    pub(super) lemons: Arc<Vec<Lemon>>,
    pub(super) alerts: Arc<Vec<Alert>>,
}

pub(super) fn build(judge: &Judge, nodes: &Nodes, told: Told, log: Arc<Log>, checkpoint_failed: bool) -> View {
    let Told { incidents, lemons, alerts } = told;
    View {
        at: Micros::now(),
        judged_until: judge.judged_until(),
        power: judge.power_history().collect(),
        limits: Some(judge.limits()),
        swings: SwingsView::of(judge),
        facts: Facts::of(judge),
        log,
        late_samples: judge.late_samples(),
        incidents,
        lemons,
        alerts,
        nodes: node_views(judge, nodes),
        past: judge.past().clone(),
        checkpoint_failed,
        recording_failed: false,
    }
}

fn node_views(judge: &Judge, nodes: &Nodes) -> Vec<NodeView> {
    let fleet = judge.fleet();
    let slots = (0..).map(crate::fleet::NodeSlot);
    let unknown = Node::default();
    let mut views: Vec<NodeView> = slots
        .zip(fleet.nodes())
        .map(|(slot, node)| {
            let sent = nodes.get(&node.name).unwrap_or(&unknown);
            NodeView {
                node: node.name.clone(),
                rack: node.place.as_ref().map(|place| place.rack.clone()),
                feeder: node.place.as_ref().map(|place| place.feeder.clone()),
                in_service: node.place.as_ref().map(|place| place.in_service),
                connected: sent.is_connected(),
                last_batch: sent.last_batch,
                last_batch_at: sent.last_batch.map(rfc3339),
                received: sent.record.live.received,
                durable: sent.record.acked(sent.record.live.spool).durable,
                samples: sent.record.samples,
                lost_batches: sent.record.lost_batches,
                gpus: fleet.gpus_of(slot).map(|gpu| cell(judge, gpu)).collect(),
            }
        })
        .collect();
    views.sort_by(|a, b| (&a.rack, &a.node).cmp(&(&b.rack, &b.node)));
    views
}

fn cell(judge: &Judge, slot: GpuSlot) -> GpuCell {
    let fleet = judge.fleet();
    let gpu = &fleet.gpus()[slot.0 as usize];
    let view = judge.gpu_view(slot);
    GpuCell {
        slot: slot.0 as usize,
        gpu: gpu.index,
        uuid: gpu.uuid.clone(),
        model: gpu.model.clone(),
        power_watts: view.power_watts,
        temperature_celsius: view.temperature_celsius,
        sm_clock_mhz: view.sm_clock_mhz,
        sm_active_ratio: view.sm_active_ratio,
        gpu_utilization_ratio: view.utilization_ratio,
        job: view.job.map(|job| fleet.job_name(job).to_owned()),
        up: view.up,
    }
}
