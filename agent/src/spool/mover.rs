//! Moves batches from memory to disk, one load at a time. A disk that hangs holds up nothing but this.

use super::queue::{Load, Queue};
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// How often is looked whether something is due.
const LOOK: Duration = Duration::from_millis(250);
/// How often the figures are made anew.
const FIGURES: Duration = Duration::from_secs(1);
/// A disk that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

impl Queue {
    /// Keeps figures and disk up to date.
    pub(super) async fn tend(&self) -> Infallible {
        let figures = async {
            let mut look = interval(FIGURES);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                look.tick().await;
                self.report();
            }
        };
        tokio::select! {
            never = figures => never,
            never = self.move_on() => never,
        }
    }

    async fn move_on(&self) -> Infallible {
        let Some(disk) = &self.disk else { return std::future::pending().await };
        let mut failing = false;
        loop {
            self.release(Instant::now());
            let Some(load) = self.due(Instant::now()) else {
                // In a moment, or at once where memory gets short.
                let _ = timeout(LOOK, self.pressed.notified()).await;
                continue;
            };
            match said_to_hang(disk.append(load)).await {
                Ok(load) => {
                    self.stored(&load);
                    if std::mem::take(&mut failing) {
                        tracing::info!("batches go to disk again");
                    }
                }
                Err(error) => {
                    self.metrics.failures.inc();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "batches cannot be written to disk and stay in memory; it is tried again");
                    }
                    sleep(RETRY).await;
                }
            }
        }
    }

    fn report(&self) {
        let (batches, bytes, oldest) = self.memory();
        self.metrics.memory_batches.set(batches as i64);
        self.metrics.memory_bytes.set(bytes as i64);
        let on_disk = self.disk.as_ref().and_then(|disk| disk.age());
        let oldest = oldest.map(|at| at.elapsed()).max(on_disk).unwrap_or_default();
        self.metrics.oldest.set(oldest.as_secs_f64());
    }
}

/// Says it once where the disk does not answer.
async fn said_to_hang(append: impl Future<Output = std::io::Result<Load>>) -> std::io::Result<Load> {
    let mut append = std::pin::pin!(append);
    match timeout(PATIENCE, &mut append).await {
        Ok(written) => written,
        Err(_) => {
            tracing::warn!("the spool's disk does not answer: batches stay in memory");
            append.await
        }
    }
}
