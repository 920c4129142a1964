//! Letting go of the driver for a while, so that it can be unloaded or upgraded beneath a running agent. Whoever asks says for how
//! long; the supervisor does it. It outlives a reload.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How firmly the agent holds the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grip {
    Held,
    /// No process of the agent has it open.
    Free,
    /// So many readers are stuck in a call and do not die.
    Stuck(usize),
}

#[derive(Debug, Clone)]
pub struct Release {
    until: Arc<watch::Sender<Option<Instant>>>,
    grip: Arc<watch::Sender<Grip>>,
}

impl Default for Release {
    fn default() -> Self {
        Self { until: Arc::new(watch::Sender::new(None)), grip: Arc::new(watch::Sender::new(Grip::Held)) }
    }
}

impl Release {
    /// Asks that the driver be let go of; a time that was asked for before is replaced.
    pub fn begin(&self, duration: Duration) {
        self.until.send_replace(Some(Instant::now() + duration));
    }

    /// Asks that the driver be taken again. False: it was not let go of.
    pub fn end(&self) -> bool {
        self.until.send_replace(None).is_some_and(|until| until > Instant::now())
    }

    /// For how long yet the driver is to be left alone; None: it is not.
    pub fn left(&self) -> Option<Duration> {
        let left = (*self.until.borrow())?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Until what is asked for changes.
    pub async fn changed(&self) {
        let mut until = self.until.subscribe();
        // The sender is held here.
        let _ = until.changed().await;
    }

    pub fn set_grip(&self, grip: Grip) {
        self.grip.send_if_modified(|known| std::mem::replace(known, grip) != grip);
    }

    /// Waits so long at most until the grip is such.
    pub async fn wait_for(&self, wanted: Grip, patience: Duration) -> Grip {
        let mut grip = self.grip.subscribe();
        let _ = tokio::time::timeout(patience, grip.wait_for(|grip| *grip == wanted)).await;
        *self.grip.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_release_ends_by_time_or_by_word() {
        let release = Release::default();
        assert!(!release.end());
        release.begin(Duration::ZERO);
        assert_eq!(release.left(), None);
        assert!(!release.end());
        release.begin(Duration::from_secs(60));
        assert!(release.left().is_some());
        assert!(release.end());
        assert_eq!(release.left(), None);
    }

    #[tokio::test]
    async fn who_asks_hears_when_the_driver_is_free() {
        let release = Release::default();
        assert_eq!(release.wait_for(Grip::Free, Duration::ZERO).await, Grip::Held);
        let other = release.clone();
        let heard = tokio::spawn(async move { other.wait_for(Grip::Free, Duration::from_secs(9)).await });
        release.set_grip(Grip::Stuck(1));
        release.set_grip(Grip::Free);
        assert_eq!(heard.await.unwrap(), Grip::Free);
    }
}
