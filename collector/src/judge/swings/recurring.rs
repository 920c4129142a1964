//! Changes of level that return and come again (an evaluation, a checkpoint every few minutes): one incident that counts them.
//!
//! A change has *returned* when the opposite one follows within [`RETURNS`]. Its incident is then held open; the same change again (same
//! direction, a size within [`ALIKE`]) is a recurrence of it, until there has been none for [`HOLDS`].

use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};

/// Seconds.
const RETURNS: f64 = 60.0;
/// Seconds; three times as long as it took to come again, if that is longer.
const HOLDS: f64 = 300.0;
/// Sizes that differ by less than this share are alike.
const ALIKE: f64 = 0.3;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Change {
    id: String,
    cause: String,
    delta: f64,
    last_at: Micros,
    /// Longest time between two of them, seconds.
    apart: f64,
    returned: bool,
    /// It took another back.
    is_return: bool,
    count: u32,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Recurring {
    changes: Vec<Change>,
}

fn alike(a: f64, b: f64) -> bool {
    (a - b).abs() <= ALIKE * a.abs().max(b.abs())
}

impl Change {
    fn may_recur(&self) -> bool {
        self.returned || self.is_return || self.count > 0
    }
}

impl Recurring {
    /// A step that is news; what it takes back has returned.
    pub(super) fn returns(&mut self, delta: f64, at: Micros) {
        for change in self.changes.iter_mut().filter(|change| alike(-delta, change.delta)) {
            change.returned |= at.since(change.last_at) <= RETURNS;
        }
    }

    /// The incident that this is a recurrence of.
    pub(super) fn recurs(&mut self, cause: &str, delta: f64, at: Micros) -> Option<String> {
        let takes_back = self.takes_back(delta, at, 1);
        let again = |change: &&mut Change| change.cause == cause && alike(delta, change.delta);
        let comes = |change: &&mut Change| change.returned || change.is_return && takes_back;
        let change = self.changes.iter_mut().filter(again).find(comes)?;
        change.apart = change.apart.max(at.since(change.last_at));
        (change.last_at, change.returned) = (at, false);
        change.count += 1;
        Some(change.id.clone())
    }

    /// The opposite change, which has come again at least so often, was just before.
    fn takes_back(&self, delta: f64, at: Micros, count: u32) -> bool {
        let opposite = |change: &Change| alike(-delta, change.delta) && at.since(change.last_at) <= RETURNS;
        self.changes.iter().any(|change| opposite(change) && change.count >= count)
    }

    /// The incident of a step that is news.
    pub(super) fn began(&mut self, id: &str, cause: &str, delta: f64, at: Micros) {
        if self.changes.iter().any(|change| change.id == id) {
            return;
        }
        let is_return = self.takes_back(delta, at, 0);
        let (id, cause) = (id.into(), cause.into());
        let change = Change { id, cause, delta, last_at: at, apart: 0.0, returned: false, is_return, count: 0 };
        self.changes.push(change);
    }

    /// How often it has come again.
    pub(super) fn count(&self, id: Option<&str>) -> u32 {
        id.and_then(|id| self.changes.iter().find(|change| change.id == id)).map_or(0, |change| change.count)
    }

    /// It has returned and may come again, or has done so: its incident stays open.
    pub(super) fn holds(&self, id: &str) -> bool {
        self.changes.iter().any(|change| change.id == id && change.may_recur())
    }

    /// Lets go of what has not come again for long; gives the incidents that are over thereby, and since when.
    pub(super) fn over(&mut self, at: Micros) -> Vec<(String, Micros)> {
        let is_over = |change: &Change| at.since(change.last_at) > HOLDS.max(3.0 * change.apart);
        let over = self.changes.iter().filter(|change| is_over(change) && change.may_recur());
        let over = over.map(|change| (change.id.clone(), change.last_at)).collect();
        self.changes.retain(|change| !is_over(change));
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Micros {
        Micros(seconds * 1_000_000)
    }

    #[test]
    fn a_dip_that_comes_again_is_counted() {
        let mut recurring = Recurring::default();
        recurring.began("down", "step_down", -100.0, at(0));
        recurring.returns(95.0, at(14));
        recurring.began("up", "step_up", 95.0, at(14));
        assert!(recurring.holds("down") && recurring.holds("up"));
        recurring.returns(-105.0, at(142));
        assert_eq!(recurring.recurs("step_down", -105.0, at(142)), Some("down".into()));
        assert_eq!(recurring.recurs("step_down", -300.0, at(150)), None);
        assert_eq!(recurring.count(Some("down")), 1);
        recurring.returns(100.0, at(156));
        assert_eq!(recurring.recurs("step_up", 100.0, at(156)), Some("up".into()));
        // The same without the dip before it is another.
        assert_eq!(recurring.recurs("step_up", 100.0, at(230)), None);
        assert_eq!(recurring.over(at(400)), []);
        assert_eq!(recurring.over(at(600)), [("down".into(), at(142)), ("up".into(), at(156))]);
    }
}
