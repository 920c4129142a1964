//! How often GPUs are read, and where their power comes from: shown, and logged where it is not what it was.

use crate::exporter::Metrics;
use crate::reader::protocol::Pace;
use std::collections::BTreeMap;

/// Of the reader that is, by GPU.
#[derive(Debug, Default)]
pub(super) struct Paces(BTreeMap<u32, Pace>);

impl Paces {
    /// What many GPUs have in common is one line.
    pub(super) fn take(&mut self, paces: Vec<Pace>, metrics: &Metrics) {
        let mut lines: BTreeMap<String, Vec<Pace>> = BTreeMap::new();
        for pace in paces {
            metrics.pace(&pace);
            if self.0.insert(pace.gpu, pace.clone()).is_some() {
                lines.entry(line(&pace)).or_default().push(pace);
            }
        }
        for (line, paces) in lines {
            let gpus: Vec<u32> = paces.iter().map(|pace| pace.gpu).collect();
            let Some(Pace { why, call_us, .. }) = paces.first() else { continue };
            tracing::info!(?gpus, call_us, why, "{line}");
        }
    }

    /// Another reader reads.
    pub(super) fn forget(&mut self, metrics: &Metrics) {
        self.0.clear();
        metrics.forget_paces();
    }
}

fn line(pace: &Pace) -> String {
    let milliseconds = |micros: u64| format!("{} ms", micros as f64 / 1e3);
    format!(
        "power every {} from the {}, asked every {}; everything else every {}",
        milliseconds(pace.power_period_us),
        pace.source,
        milliseconds(pace.call_period_us),
        milliseconds(pace.sweep_period_us),
    )
}
