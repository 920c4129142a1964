//! What the collector tells its service manager (sd_notify(3)): that it is ready, how it is, and that it lives. Where nobody
//! asks for that, nothing is said.

use crate::live::View;
pub(crate) use sd_notify::NotifyState;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Signs of life while the manager has patience for one.
const PULSES: u32 = 3;

pub(crate) fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "telling the service manager failed");
    }
}

/// Says how the collector is, for as long as the judging publishes views. When it is stuck there is no sign of life.
pub(crate) async fn tend(mut view: watch::Receiver<Arc<View>>) -> Infallible {
    let period = sd_notify::watchdog_enabled().map_or(Duration::MAX, |patience| patience / PULSES);
    let mut last: Option<Instant> = None;
    let mut said = String::new();
    while view.changed().await.is_ok() {
        let status = status(&view.borrow_and_update());
        if status != said {
            tell(&[NotifyState::Status(&status)]);
            said = status;
        }
        if last.is_none_or(|last| last.elapsed() >= period) {
            tell(&[NotifyState::Watchdog]);
            last = Some(Instant::now());
        }
    }
    // The judging has ended, which whoever runs the collector sees.
    std::future::pending().await
}

/// One line for who asks how the unit is.
fn status(view: &View) -> String {
    let connected = view.nodes.iter().filter(|node| node.connected).count();
    let open = view.incidents.iter().filter(|incident| incident.closed_at.is_none()).count();
    let checkpoint = if view.checkpoint_failed { "; checkpoints fail" } else { "" };
    let recording = if view.recording_failed { "; recording fails" } else { "" };
    format!("{connected} of {} nodes connected, {open} incidents open{checkpoint}{recording}", view.nodes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_what_is_wrong() {
        assert_eq!(status(&View::default()), "0 of 0 nodes connected, 0 incidents open");
        let failing = View { checkpoint_failed: true, ..View::default() };
        assert_eq!(status(&failing), "0 of 0 nodes connected, 0 incidents open; checkpoints fail");
        let failing = View { recording_failed: true, ..View::default() };
        assert_eq!(status(&failing), "0 of 0 nodes connected, 0 incidents open; recording fails");
    }
}
