//! How much a figure differs among healthy members, for each length of window: learned, not assumed.

use super::median;
use serde::{Deserialize, Serialize};

/// Looks until the memory is as long as it becomes.
const MEMORY: f64 = 150.0;
/// From this many members on, their spread of this very moment counts as well.
const MANY: usize = 12;

/// Seconds in which it is forgotten, down to a third, that somebody stood out.
const FORGET: f64 = 3600.0;

/// What other windows have shown counts as so many looks.
pub const CARRIED: f64 = 20.0;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Noise {
    spread: f64,
    looks: f64,
    /// Who stood out most and next to most of late without being found slow, and by how many deviations. Tails are heavy, and each job has
    /// its own: what one has shown, any other may.
    peaks: [(u32, f64); 2],
}

impl Default for Noise {
    fn default() -> Self {
        Self { spread: 0.0, looks: 0.0, peaks: [(u32::MAX, 0.0); 2] }
    }
}

/// The middle of the values, and their robust deviation from it.
pub fn spread(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    let middle = median(&mut sorted);
    sorted.iter_mut().for_each(|value| *value = (*value - middle).abs());
    (middle, 1.4826 * median(&mut sorted))
}

/// What windows of `from` seconds showed, for windows of `to` seconds: of each the longest known one that is no longer. It holds steps no better, so
/// what it shows is no less. None: none is known.
pub fn carried<T: Clone>(known: &[T], is_known: impl Fn(&T) -> bool, from: &[f64], to: &[f64]) -> Vec<Option<T>> {
    let fits = |window: f64| known.iter().zip(from).rev().find(|(noise, was)| **was <= window && is_known(noise));
    to.iter().map(|&window| fits(window).map(|(noise, _)| noise.clone())).collect()
}

impl Noise {
    /// Of another window: what shorter ones showed, and what it would have shown in the past. Either is too much where something was wrong or steps were
    /// not whole, and neither is too little.
    pub fn of_another_window(shorter: Option<Self>, past: f64) -> Self {
        let known = shorter.unwrap_or(Self { looks: 0.0, ..Self::default() });
        let spread = if known.is_known() { past.min(known.spread) } else { past };
        if spread.is_nan() { known } else { Self { spread, looks: CARRIED, ..known } }
    }

    pub fn is_known(&self) -> bool {
        self.looks > 0.0
    }

    /// Learns from what healthy members show.
    pub fn learn(&mut self, spread: f64) {
        if spread.is_nan() {
            return;
        }
        self.looks = (self.looks + 1.0).min(MEMORY);
        // What is large counts at once, what is small slowly.
        let weight = if spread > self.spread { 2.0 / (self.looks + 1.0) } else { 1.0 / self.looks };
        self.spread += weight.min(1.0) * (spread - self.spread);
    }

    /// `slot` stands out by `score` deviations.
    pub fn stands_out(&mut self, slot: u32, score: f64) {
        let [first, second] = &mut self.peaks;
        if first.0 == slot {
            first.1 = first.1.max(score);
        } else if score > first.1 {
            (*second, *first) = (*first, (slot, score));
        } else if second.0 == slot || score > second.1 {
            *second = (slot, score.max(if second.0 == slot { second.1 } else { 0.0 }));
        }
    }

    /// By how many deviations others than `slot` stood out of late.
    pub fn of_others(&self, slot: u32) -> f64 {
        let [first, second] = self.peaks;
        if first.0 == slot { second.1 } else { first.1 }
    }

    /// So many seconds have passed.
    pub fn fade(&mut self, seconds: f64) {
        self.peaks.iter_mut().for_each(|peak| peak.1 *= (-seconds / FORGET).exp());
    }

    /// Who stood out has been found slow: it is no noise.
    pub fn pardon(&mut self, slow: impl Fn(u32) -> bool) {
        self.peaks.iter_mut().filter(|peak| slow(peak.0)).for_each(|peak| *peak = (u32::MAX, 0.0));
        self.peaks.sort_by(|a, b| b.1.total_cmp(&a.1));
    }

    pub fn deviation(&self, now: f64, members: usize, floor: f64) -> f64 {
        let now = if members >= MANY || self.looks < 5.0 { now } else { 0.0 };
        self.spread.max(now).max(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_step_s_windows_begin_with_what_shorter_ones_showed_or_the_past_has_less() {
        let of = |looks: f64, spread: f64| Noise { looks, spread, ..Noise::default() };
        // The shortest are not looked at.
        let known = [of(0.0, 0.0), of(90.0, 0.04), of(90.0, 0.03)];
        let shorter = carried(&known, Noise::is_known, &[2.0, 4.0, 6.0], &[3.0, 6.0, 9.0, 12.0]);
        assert_eq!(
            shorter.iter().map(|noise| noise.as_ref().map(|noise| noise.spread)).collect::<Vec<_>>(),
            [None, Some(0.03), Some(0.03), Some(0.03)]
        );
        let seen = |shorter: Option<Noise>, past: f64| {
            let noise = Noise::of_another_window(shorter, past);
            (noise.is_known(), noise.spread)
        };
        let known = || Some(of(90.0, 0.03));
        assert_eq!(
            (seen(known(), 0.02), seen(known(), 0.2), seen(known(), f64::NAN)),
            ((true, 0.02), (true, 0.03), (true, 0.03))
        );
        assert_eq!((seen(None, 0.02), seen(None, f64::NAN)), ((true, 0.02), (false, 0.0)));
    }

    #[test]
    fn who_stood_out_counts_against_others_and_not_against_itself() {
        let mut noise = Noise::default();
        [(3, 5.0), (4, 6.0), (3, 5.5), (9, 2.0)].into_iter().for_each(|(slot, score)| noise.stands_out(slot, score));
        assert_eq!((noise.of_others(4), noise.of_others(3), noise.of_others(7)), (5.5, 6.0, 6.0));
        noise.fade(FORGET);
        assert!((noise.of_others(7) - 6.0 / std::f64::consts::E).abs() < 1e-9);
        noise.pardon(|slot| slot == 4);
        assert!((noise.of_others(7) - 5.5 / std::f64::consts::E).abs() < 1e-9);
    }
}
