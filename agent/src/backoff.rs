//! How long to wait before the next attempt.

use std::time::Duration;

/// Doubles from first to last; each pause is drawn from its upper half, so that agents which lost their collector together do
/// not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, next: first }
    }

    /// The next pause; `random` is uniform in 0 to 1.
    pub fn next(&mut self, random: f64) -> Duration {
        let pause = self.next.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0));
        self.next = (2 * self.next).min(self.last);
        pause
    }

    /// It worked: begin anew.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_stay_within_bounds(randoms in proptest::collection::vec(0.0f64..1.0, 1..50)) {
            let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
            for random in randoms {
                let pause = backoff.next(random);
                prop_assert!(pause >= Duration::from_millis(100) && pause <= Duration::from_secs(30));
            }
            backoff.reset();
            prop_assert!(backoff.next(1.0) == Duration::from_millis(200));
        }
    }
}
