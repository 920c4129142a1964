//! The job's speed, without a hook in it: who waits for a longer step is occupied for a smaller share of it, and half of the members
//! always wait. So the median occupied share, against what it was while nobody was slow, is the speed.

use super::noise::{self, CARRIED};
use super::trace::{Lane, Traces};
use serde::{Deserialize, Serialize};

/// Time constant of what is remembered, seconds.
const FOLLOW: f64 = 900.0;
/// A fall by this much that lasts this long and is nobody's is the job's own.
const LEAST_EVERYWHERE: f64 = 0.05;
const EVERYWHERE_SECONDS: f64 = 160.0;
/// Seconds that the remembered speed rests on before that is said.
const LESSONS: f64 = 240.0;
/// Deviations that are a fall, where a fact of one node came up with it.
const FALLEN: f64 = 3.0;
/// Parts of a window that are looked at by themselves, at most.
const PARTS: usize = 6;
/// Least deviation of a window's speed, of one second and of any.
const DEVIATION: (f64, f64) = (0.02, 0.002);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Speed {
    /// Of one lane.
    trace: Traces,
    healthy: Option<f64>,
    /// By scale: mean distance of a window's speed to the remembered one.
    noise: Vec<(f64, f64)>,
    lessons: f64,
}

impl Default for Speed {
    fn default() -> Self {
        Self { trace: Traces::new(1), healthy: None, noise: Vec::new(), lessons: 0.0 }
    }
}

impl Speed {
    pub fn push(&mut self, middle: f64) {
        self.trace.hold();
        self.trace.put(0, middle as f32);
    }

    fn trace(&self) -> Lane<'_> {
        self.trace.lane(0)
    }

    pub fn is_known(&self) -> bool {
        self.healthy.is_some()
    }

    /// Offsets are known: so is the speed, if nobody was slow meanwhile.
    pub fn begin(&mut self, healthy: bool, seconds: usize) {
        if healthy && self.trace().len() >= seconds {
            self.healthy = Some(self.trace().mean(seconds));
            self.lessons = seconds as f64;
        }
    }

    /// Follows what was `lag` seconds ago, over whole steps.
    pub fn learn(&mut self, healthy: bool, lag: usize, lesson: usize, step: f64) {
        let span = ((60.0 / step).ceil() * step).round().max(60.0) as usize;
        if !healthy || self.trace().len() <= lag + span {
            return;
        }
        let was = self.trace().sum(lag + span, lag) / span as f64;
        self.lessons = (self.lessons + lesson as f64).min(FOLLOW);
        let known = self.healthy.get_or_insert(was);
        *known += lesson as f64 / self.lessons.max(lesson as f64) * (was - *known);
    }

    /// The occupied share over the last `seconds`, if there are so many, or what is remembered of it if that is more.
    pub fn usual(&self, seconds: usize) -> Option<f64> {
        let mean = (self.trace().len() >= seconds).then(|| self.trace().mean(seconds))?;
        Some(self.healthy.map_or(mean, |healthy| healthy.max(mean)))
    }

    /// The occupied share over the seconds `to..from` before now.
    pub fn mean_between(&self, from: usize, to: usize) -> f64 {
        self.trace().sum(from, to) / (from - to) as f64
    }

    /// 1 − speed over the last `window` seconds / remembered; NaN: nothing to compare with.
    pub fn fall(&self, window: f64) -> f64 {
        self.healthy.map_or(f64::NAN, |healthy| 1.0 - self.trace().mean_of(window) / healthy.max(0.02))
    }

    /// The shortest window in which speed has fallen for sure, in all its parts (a pause is one of them): its seconds (at least `least`), the fall, and
    /// that in deviations.
    pub fn fallen(&self, step: f64, scales: &[usize], length: usize, least: usize) -> Option<(usize, f64, f64)> {
        scales.iter().enumerate().map(|(scale, &multiple)| (scale, multiple as f64 * step)).find_map(|(scale, window)| {
            let fall = self.fall(window);
            let recent = self.fall(scales[scale].div_ceil(2) as f64 * step);
            let score = fall / self.deviation(scale, window);
            let parts = scales[scale].clamp(2, PARTS);
            let sure = window <= length as f64
                && window >= (least as f64).max(6.0)
                && fall >= 0.01
                && recent >= 0.6 * fall
                && score >= FALLEN
                && 4 * self.parts_fallen(window, parts, 0.5 * fall) >= 3 * parts;
            sure.then_some((window as usize, fall, score))
        })
    }

    /// Counted seconds since the speed fell to what it has been over the last `window`.
    pub fn onset(&self, window: usize) -> usize {
        let (trace, healthy) = (self.trace(), self.healthy.unwrap_or(0.0));
        let half = 0.5 * (healthy - trace.mean(window));
        let lost = |&back: &usize| (healthy - half) * back as f64 - trace.sum(back, 0);
        (1..=trace.len()).max_by(|a, b| lost(a).total_cmp(&lost(b))).unwrap_or(window)
    }

    /// In how many of so many equal parts of the last `window` seconds the speed has fallen by so much.
    fn parts_fallen(&self, window: f64, parts: usize, fall: f64) -> usize {
        let bound = |part: usize| (window * part as f64 / parts as f64).round() as usize;
        let fallen = |part: usize| {
            let (to, from) = (bound(part), bound(part + 1));
            let mean = self.trace().sum(from, to) / (from - to).max(1) as f64;
            self.healthy.is_some_and(|healthy| 1.0 - mean / healthy.max(0.02) >= fall)
        };
        (0..parts).filter(|&part| fallen(part)).count()
    }

    /// Whether the job was as fast as ever in as long a time before the last `window` seconds: by less than half of `fall` slower.
    pub fn was_healthy_before(&self, window: usize, fall: f64) -> bool {
        let before = self.trace().sum(2 * window, window) / window.max(1) as f64;
        self.healthy.is_some_and(|healthy| 1.0 - before / healthy.max(0.02) < 0.5 * fall)
    }

    /// By how much a window's speed differs from the remembered one while nobody is slow.
    pub fn deviation(&self, scale: usize, window: f64) -> f64 {
        let floor = (DEVIATION.0 / window.sqrt()).max(DEVIATION.1);
        self.noise
            .get(scale)
            .map_or(3.0 * floor, |noise| if noise.1 < 10.0 { (3.0 * floor).max(noise.0) } else { noise.0.max(floor) })
    }

    /// Learns how much windows differ while nobody is slow.
    pub fn watch(&mut self, step: f64, scales: &[usize], length: usize) {
        self.noise.resize(scales.len(), (0.0, 0.0));
        for (scale, multiple) in scales.iter().enumerate() {
            let window = *multiple as f64 * step;
            let distance = self.distance(self.trace().mean_of(window));
            if window > length as f64 || distance.is_nan() {
                break;
            }
            let noise = &mut self.noise[scale];
            noise.1 = (noise.1 + 1.0).min(150.0);
            noise.0 += (distance - noise.0) / noise.1;
        }
    }

    /// Windows are as long as these now: what shorter ones showed, or what they would have shown up to `lag` seconds ago, whichever is less.
    pub fn carry_noise(&mut self, from: &[f64], to: &[f64], lag: usize) {
        let carried = noise::carried(&self.noise, |noise| noise.1 > 0.0, from, to);
        let past: Vec<f64> = to.iter().map(|&window| self.past_noise(window as usize, lag)).collect();
        let less = |(carried, past): (Option<(f64, f64)>, f64)| match carried {
            _ if past.is_nan() => carried.unwrap_or_default(),
            Some((noise, _)) => (noise.min(past), CARRIED),
            None => (past, CARRIED),
        };
        self.noise = carried.into_iter().zip(past).map(less).collect();
    }

    /// Mean distance to the remembered speed of windows of so many seconds that ended `lag` seconds ago and before; NaN: none is known.
    fn past_noise(&self, window: usize, lag: usize) -> f64 {
        let ends = (lag..).step_by((window / 2).max(1)).take_while(|end| end + window <= self.trace().len());
        let distances: Vec<f64> = ends.map(|end| self.distance(self.mean_between(end + window, end))).collect();
        distances.iter().sum::<f64>() / distances.len() as f64
    }

    /// Of a window's mean to what is remembered, as noise: a large fall is a change of what the job does.
    fn distance(&self, mean: f64) -> f64 {
        self.healthy.map_or(f64::NAN, |healthy| (1.25 * (1.0 - mean / healthy.max(0.02)).abs()).min(0.05))
    }

    /// The fall, and since how many seconds it has been there, where it is large and steady.
    pub fn slow_for_long(&self, step: f64) -> Option<(f64, usize)> {
        let half = (EVERYWHERE_SECONDS / 2.0 / step).ceil().max(3.0) * step;
        let whole = 2.0 * half;
        if self.lessons < LESSONS || self.trace().len() as f64 <= whole {
            return None;
        }
        let (recent, all) = (self.fall(half), self.fall(whole));
        let noise = self.noise.iter().filter(|noise| noise.1 > 20.0).map(|noise| noise.0).fold(f64::INFINITY, f64::min);
        let steady = recent.min(2.0 * all - recent) > LEAST_EVERYWHERE.max(4.0 * noise);
        steady.then_some((all, whole as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALES: [usize; 6] = [1, 2, 3, 6, 10, 16];

    fn windows(step: f64) -> [f64; 6] {
        SCALES.map(|scale| scale as f64 * step)
    }

    #[test]
    fn a_fall_is_no_noise_when_the_step_changes_with_it() {
        let mut speed = Speed::default();
        let push = |speed: &mut Speed, seconds: std::ops::Range<u32>, level: f64| {
            for second in seconds {
                speed.push(level * (1.0 + 0.004 * f64::from(second % 5) - 0.008));
                speed.watch(2.0, &SCALES, 200);
            }
        };
        push(&mut speed, 0..60, 0.6);
        speed.begin(true, 60);
        push(&mut speed, 60..220, 0.6);
        let mut fallen = speed.clone();
        (0..40).for_each(|_| fallen.push(0.54));
        fallen.carry_noise(&windows(2.0), &windows(3.0), 40);
        let deviations = |speed: &Speed| {
            windows(3.0).iter().zip(0..).map(|(window, scale)| speed.deviation(scale, *window)).collect::<Vec<_>>()
        };
        assert!(deviations(&fallen)[..5].iter().all(|deviation| *deviation < 0.02), "{:?}", deviations(&fallen));
        assert!(fallen.fallen(3.0, &SCALES, 200, 0).is_some());
        // Nor is what a wrong step showed: windows that hold no whole steps differ more than the past does in these.
        speed.noise.iter_mut().for_each(|noise| noise.0 = 0.05);
        speed.carry_noise(&windows(2.0), &windows(3.0), 40);
        assert!(deviations(&speed)[..5].iter().all(|deviation| *deviation < 0.02), "{:?}", deviations(&speed));
    }

    #[test]
    fn a_window_of_the_past_is_its_mean() {
        let mut speed = Speed::default();
        (0..100).for_each(|second| speed.push(if second < 60 { 0.5 } else { 0.25 }));
        assert!((speed.mean_between(100, 40) - 0.5).abs() < 1e-6 && (speed.mean_between(60, 20) - 0.375).abs() < 1e-6);
    }
}
