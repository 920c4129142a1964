//! After a restart the judging waits for the agents: they bring what they kept meanwhile, one sooner than the other.

use super::Judge;
use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};

/// Not for longer, microseconds: an agent tries again every five seconds at the latest, and a large fleet needs as long again to bring what it kept.
const LONGEST_US: i64 = 20_000_000;
/// Not for less where the grids have room for no more, microseconds.
const SHORTEST_US: i64 = 10_000_000;
/// The grids hold a little more, microseconds.
const HELD_US: i64 = 50_000_000;
/// Those who spoke within so long before what was judged last are expected back, microseconds.
const SPOKE_US: i64 = 10_000_000;
/// Who is no further behind than this has brought what was kept: it comes in order. Microseconds.
const BEHIND_US: i64 = 3_000_000;
/// It is enough that so many are back,
const BACK: f64 = 0.99;
/// and have been for so long, microseconds: where nothing was kept it takes a second sample until bins are open that go on from those before.
const SETTLES_US: i64 = 2_000_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Hold {
    /// Whoever is back by then.
    until: Micros,
    /// GPUs and nodes that are expected.
    expected: usize,
    /// Since when so many are back.
    back_since: Option<Micros>,
}

impl Judge {
    /// After a restart: nothing is judged before the agents are back and have brought what they kept, or until a time that is given, 20 s at
    /// most. What is open from so long ago that the grids have no room beside it is judged at once: agents bring what they kept for so long as
    /// backlog.
    pub fn hold(&mut self, now: Micros) -> Micros {
        let (mut until, mut expected) = (now + LONGEST_US, 0);
        let judged = self.judged_until();
        if judged > Micros::MIN {
            expected = self.speaking(judged - SPOKE_US);
            let room_until = judged + HELD_US;
            if room_until < now + SHORTEST_US {
                self.finish_bins(room_until);
            } else {
                until = until.min(room_until);
            }
        }
        self.hold = Some(Hold { until, expected, back_since: None });
        self.tick = None;
        self.advance(now);
        until
    }

    /// Whether time does not pass yet for the judging.
    pub(super) fn holds(&mut self, now: Micros) -> bool {
        let Some(hold) = &self.hold else { return false };
        let are_back = hold.expected > 0 && self.speaking(now - BEHIND_US) as f64 >= BACK * hold.expected as f64;
        let back_since = hold.back_since.or(Some(now)).filter(|_| are_back);
        let is_over = now >= hold.until || back_since.is_some_and(|since| now >= since + SETTLES_US);
        self.hold = self.hold.take().filter(|_| !is_over).map(|hold| Hold { back_since, ..hold });
        self.hold.is_some()
    }

    /// Of how many GPUs and nodes something is known of a time after `since`.
    fn speaking(&self, since: Micros) -> usize {
        let power = self.gpu_power.speaking(since) + self.node_power.speaking(since);
        power + self.gpu_seconds.speaking(since) + self.node_seconds.speaking(since)
    }
}
