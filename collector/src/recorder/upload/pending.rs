//! Files that are closed and not in the object store. The recorder adds them, the upload takes them, and retention leaves them alone
//! as long as it can.

use crate::recorder::shelf::Shelved;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A file that failed lets others go before for so long: it may be the only one that does.
const HOLD: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(in crate::recorder) struct Pending {
    state: Mutex<State>,
    more: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// And when it failed last.
    waiting: BTreeMap<Shelved, Option<Instant>>,
    bytes: u64,
    /// One of them.
    on_its_way: Option<Shelved>,
    /// What was one of them, until the shelf asks.
    released: Vec<Shelved>,
}

/// What waits.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) files: usize,
    pub(super) bytes: u64,
    /// When the oldest one's set began, microseconds since the epoch.
    pub(super) oldest: Option<i64>,
}

impl Pending {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::recorder) fn add(&self, file: Shelved) {
        let mut state = self.state();
        state.bytes += file.bytes;
        state.waiting.insert(file, None);
        drop(state);
        self.more.notify_one();
    }

    /// The next one to copy, as soon as there is one. It is on its way until its [`Self::release`], or
    /// it has [`Self::failed`].
    pub(in crate::recorder) async fn next(&self) -> Shelved {
        loop {
            if let Some(file) = self.state().take(Instant::now()) {
                return file;
            }
            self.more.notified().await;
        }
    }

    /// It is in the store, or not here any more.
    pub(in crate::recorder) fn release(&self, file: Shelved) {
        let mut state = self.state();
        state.remove(&file);
        state.released.push(file);
    }

    pub(super) fn failed(&self, file: &Shelved) {
        let mut state = self.state();
        state.on_its_way = None;
        if let Some(failed_at) = state.waiting.get_mut(file) {
            *failed_at = Some(Instant::now());
        }
    }

    pub(super) fn standing(&self) -> Standing {
        let state = self.state();
        let oldest = state.waiting.first_key_value().map(|(file, _)| file.stamp);
        Standing { files: state.waiting.len(), bytes: state.bytes, oldest }
    }

    /// What may be removed since the last call.
    pub(in crate::recorder) fn take_released(&self) -> Vec<Shelved> {
        std::mem::take(&mut self.state().released)
    }

    /// The disk needs its room: the oldest one that is not just being copied is not to be copied any more.
    pub(in crate::recorder) fn give_up(&self) -> Option<Shelved> {
        let mut state = self.state();
        let oldest = state.waiting.keys().find(|file| state.on_its_way.as_ref() != Some(file)).cloned()?;
        state.remove(&oldest);
        Some(oldest)
    }
}

impl State {
    /// The oldest one. Those that failed lately come when there is nothing else, the longest ago first.
    fn take(&mut self, now: Instant) -> Option<Shelved> {
        let is_free = |failed_at: &Option<Instant>| failed_at.is_none_or(|at| now.saturating_duration_since(at) >= HOLD);
        let free = self.waiting.iter().find(|(_, failed_at)| is_free(failed_at));
        let next = free.or_else(|| self.waiting.iter().min_by_key(|(_, failed_at)| **failed_at));
        self.on_its_way = next.map(|(file, _)| file.clone());
        self.on_its_way.clone()
    }

    fn remove(&mut self, file: &Shelved) {
        if self.waiting.remove(file).is_some() {
            self.bytes -= file.bytes;
        }
        self.on_its_way.take_if(|on_its_way| on_its_way == file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(stamp: i64) -> Shelved {
        Shelved::new(stamp, format!("power-{stamp}-0.parquet"), 10)
    }

    fn pending(stamps: impl IntoIterator<Item = i64>) -> Pending {
        let pending = Pending::default();
        stamps.into_iter().for_each(|stamp| pending.add(file(stamp)));
        pending
    }

    #[tokio::test]
    async fn the_oldest_goes_first_and_what_fails_lets_others_go_before() {
        let pending = pending([3, 1, 2]);
        assert_eq!(pending.next().await, file(1));
        pending.failed(&file(1));
        assert_eq!(pending.next().await, file(2));
        pending.release(file(2));
        assert_eq!(pending.next().await, file(3));
        pending.failed(&file(3));
        assert_eq!(pending.next().await, file(1), "it failed before the other one");
        pending.failed(&file(1));
        let later = Instant::now() + HOLD;
        assert_eq!(pending.state().take(later), Some(file(1)), "it is the oldest again");
        assert_eq!(pending.standing(), Standing { files: 2, bytes: 20, oldest: Some(1) });
        assert_eq!(pending.take_released(), [file(2)]);
        assert!(pending.take_released().is_empty());
    }

    #[tokio::test]
    async fn what_is_on_its_way_is_not_given_up() {
        let pending = pending([1, 2]);
        let on_its_way = pending.next().await;
        assert_eq!(pending.give_up(), Some(file(2)));
        assert_eq!(pending.give_up(), None);
        pending.failed(&on_its_way);
        assert_eq!(pending.give_up(), Some(file(1)));
        assert_eq!(pending.standing(), Standing::default());
    }

    #[tokio::test]
    async fn who_waits_hears_of_what_is_new() {
        let pending = std::sync::Arc::new(pending([]));
        let waiter = tokio::spawn({
            let pending = pending.clone();
            async move { pending.next().await }
        });
        tokio::task::yield_now().await;
        pending.add(file(7));
        assert_eq!(waiter.await.unwrap(), file(7));
    }
}
