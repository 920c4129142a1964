//! The audit of clocks: is a node's time what it says?
//!
//! Three witnesses, by node: what the agent says of its clock's error; how long its samples take to arrive, less what those of the fleet's
//! median take (a clock that is ahead shortens it); and by how much its power must be shifted to fit that of its job best. The second also
//! shows a slow network, the third needs a job that moves and may be a later part of its step: so it takes two of them, or one that cannot be
//! mistaken ([`ClockView::off`]).

use gridstep_wire::Micros;
use serde::{Deserialize, Serialize};

/// The shortest way within so long counts, microseconds; two such spans are looked at.
const SPAN_US: i64 = 30_000_000;
/// Shifts looked at, bins.
const REACH: usize = 10;
/// Correlation of a node's movements with those of its job that lets a shift be told.
const CORRELATED: f64 = 0.6;
/// A lag is told where it is known to within so many bins.
const KNOWN: f64 = 0.1;
/// Shifts whose correlation is at least this share of the best fit alike.
const ALIKE: f64 = 0.9;
const UNKNOWN: i32 = i32::MAX;
/// A clock that its own agent bounds by more is off, seconds. Where a site keeps no clock at all, every node says so: there it takes twice as
/// much as most.
const STATED: f64 = 0.1;
/// A clock that two witnesses say is off by more, seconds (facts/power-swings.md §2) …
const WITNESSED: f64 = 0.05;
/// … and by so many standard deviations of the fleet's ways.
const WITNESSED_DEVIATIONS: f64 = 2.5;
/// Two witnesses agree that differ by less than this share.
const AGREE: f64 = 0.5;
/// Samples that arrive sooner than any others by so much, seconds, need no second witness, if ways are as they are: no network is too quick …
const AHEAD: f64 = 0.1;
/// … and if a gap as wide, below all other ways, comes by chance in so few fleets.
const CHANCE: f64 = 1e-4;
/// What is off stays so down to this share of the thresholds.
const STAYS: f64 = 0.5;
/// Seconds that it must be off, or right, before that is said.
pub const LASTS: u32 = 30;
/// Nodes that are a fleet to compare with.
const FLEET: usize = 3;

/// What is known of one node's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ClockView {
    /// Bound that the agent gives, seconds.
    pub stated_error_seconds: Option<f64>,
    /// Shortest way of its samples − that of the fleet's median, seconds. Negative: ahead.
    pub arrival_offset_seconds: Option<f64>,
    /// How much later it moves than its job, seconds.
    pub lag_seconds: Option<f64>,
}

/// What is usual in the fleet.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usual {
    /// Median of what agents state, seconds.
    stated: f64,
    /// Standard deviation of the ways, by their median, seconds.
    deviation: f64,
    /// Offsets below this lie apart from all others', seconds: by the whole threshold, and by what suffices to stay so.
    apart: [f64; 2],
}

impl Usual {
    pub fn of(clocks: &[ClockView]) -> Self {
        let nth = |mut values: Vec<f64>, place: usize| *values.select_nth_unstable_by(place, f64::total_cmp).1;
        let stated: Vec<f64> = clocks.iter().filter_map(|clock| clock.stated_error_seconds).map(f64::abs).collect();
        // The lower one of two in the middle: of two nodes one may be off.
        let lower = stated.len().saturating_sub(1) / 2;
        let stated = if stated.is_empty() { 0.0 } else { nth(stated, lower) };
        let mut ways: Vec<f64> = clocks.iter().filter_map(|clock| clock.arrival_offset_seconds).collect();
        let (sizes, middle) = (ways.iter().copied().map(f64::abs).collect(), ways.len() / 2);
        let deviation = if ways.len() < FLEET { 0.0 } else { 1.48 * nth(sizes, middle) };
        ways.sort_unstable_by(f64::total_cmp);
        Self { stated, deviation, apart: [1.0, STAYS].map(|scale| apart(&ways, scale)) }
    }
}

/// Below which offset some of these (in order) lie apart from all others; −∞: none do.
///
/// Where ways are scattered by the network alone, a gap below n others is k times as wide as the m spacings from there to their middle with
/// probability (1 + k)⁻ᵐ (spacings of what lies evenly are as independent exponential ones). So few nodes whose ways differ much tell nothing by
/// their ways alone, many or alike ones do.
fn apart(ways: &[f64], scale: f64) -> f64 {
    let middle = ways.len() / 2;
    if ways.len() < FLEET {
        return f64::NEG_INFINITY;
    }
    let is_apart = |&first: &usize| {
        let times = CHANCE.powf(-1.0 / (middle - first) as f64) - 1.0;
        ways[first] - ways[first - 1] > scale * AHEAD.max(times * (ways[middle] - ways[first]))
    };
    (1..middle).rev().find(is_apart).map_or(f64::NEG_INFINITY, |first| 0.5 * (ways[first] + ways[first - 1]))
}

impl ClockView {
    /// By how much the clock is off. `scale`: of the thresholds.
    ///
    /// A way that is longer may be a slow network's, and one who moves later may have a later part in the job's step: neither alone says that
    /// a clock is off. Both together do; so does its own agent, and a way that is too short.
    fn off(&self, usual: &Usual, scale: f64) -> Option<Off> {
        let witnessed = |seconds: f64| Some(Off { seconds, is_stated: false });
        let ahead = self.arrival_offset_seconds.map(|offset| -offset);
        if let (Some(ahead), Some(lag)) = (ahead, self.lag_seconds) {
            let least = scale * WITNESSED.max(WITNESSED_DEVIATIONS * usual.deviation);
            let agree = (ahead - lag).abs() <= AGREE / scale * ahead.abs().max(lag.abs());
            if ahead.abs() > least && lag.abs() > scale * WITNESSED && agree && ahead * lag > 0.0 {
                return witnessed(lag);
            }
        }
        let apart = usual.apart[usize::from(scale < 1.0)];
        if let Some(ahead) = ahead.filter(|&ahead| -ahead < apart) {
            return witnessed(ahead);
        }
        let stated = self.stated_error_seconds.map(f64::abs).filter(|&stated| stated > scale * STATED.max(2.0 * usual.stated));
        stated.map(|seconds| Off { seconds, is_stated: true })
    }
}

/// By how much a clock is off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Off {
    /// Positive: ahead. Of what its agent says by itself only the size is known.
    pub seconds: f64,
    pub is_stated: bool,
}

/// Whether a node's clock is off, with hysteresis: what comes and goes is no condition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ClockWatch {
    /// By how much, as long as it is said to be off.
    off: Option<Off>,
    /// For so many seconds the witnesses have said otherwise.
    otherwise: u32,
}

impl ClockWatch {
    /// Takes a second's view. Gives by how much the clock is off, while it is.
    pub fn look(&mut self, clock: &ClockView, usual: &Usual) -> Option<Off> {
        let scale = if self.off.is_some() { STAYS } else { 1.0 };
        let off = clock.off(usual, scale);
        self.otherwise = if off.is_some() == self.off.is_some() { 0 } else { self.otherwise + 1 };
        if self.otherwise >= LASTS {
            (self.off, self.otherwise) = (off, 0);
        } else if self.off.is_some() {
            self.off = off.or(self.off);
        }
        self.off
    }
}

/// The shortest way of each source's samples.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Arrivals {
    /// By source, of this span and of the one before; microseconds.
    now: Vec<i32>,
    before: Vec<i32>,
    begun: Option<Micros>,
}

impl Arrivals {
    #[inline]
    pub fn put(&mut self, source: usize, ts: Micros, arrival: Micros) {
        if self.now.len() <= source {
            self.now.resize(source + 1, UNKNOWN);
        }
        // A clock may be off by more than can be told.
        let micros = arrival.0.saturating_sub(ts.0).min(i64::from(UNKNOWN) - 1);
        let least = &mut self.now[source];
        if micros < i64::from(*least) {
            *least = micros.max(i64::from(i32::MIN) + 1) as i32;
        }
    }

    /// Something of the source has arrived in this span or the one before.
    pub fn has_any_of(&self, source: usize) -> bool {
        [&self.now, &self.before].iter().any(|span| span.get(source).is_some_and(|&micros| micros != UNKNOWN))
    }

    pub fn advance(&mut self, now: Micros) {
        let begun = *self.begun.get_or_insert(now);
        if now.0 - begun.0 >= SPAN_US {
            self.begun = Some(now);
            std::mem::swap(&mut self.now, &mut self.before);
            self.now.clear();
            self.now.resize(self.before.len(), UNKNOWN);
        }
    }

    /// By node, seconds off the fleet's median; `node_of` gives each source's node.
    pub fn offsets(&self, nodes: usize, node_of: impl Fn(usize) -> usize) -> Vec<Option<f64>> {
        let mut least = vec![UNKNOWN; nodes];
        for (source, now) in self.now.iter().enumerate() {
            let node = node_of(source);
            let both = self.before.get(source).copied().unwrap_or(UNKNOWN).min(*now);
            if node < nodes {
                least[node] = least[node].min(both);
            }
        }
        let mut sorted: Vec<i32> = least.iter().copied().filter(|&micros| micros != UNKNOWN).collect();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
        let offset = |micros: i32| (micros != UNKNOWN).then(|| (f64::from(micros) - f64::from(median)) / 1e6);
        least.into_iter().map(offset).collect()
    }
}

/// By how many bins `own` lags behind `whole` (of which it may be a part), by the correlation of their changes from bin to bin, between the bins by
/// a parabola. None: they have too little in common.
pub fn lag(own: &[f64], whole: &[f64]) -> Option<f64> {
    let changes = |levels: &[f64]| levels.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<f64>>();
    let (own, whole) = (changes(own), changes(whole));
    let count = own.len().min(whole.len());
    if count < 8 * REACH {
        return None;
    }
    let inner = REACH..count - REACH;
    let power = |part: &[f64]| part.iter().map(|x| x * x).sum::<f64>();
    let own_power = power(&own[inner.clone()]);
    let correlation = |shift: usize| {
        // Shift REACH: none.
        let whole = &whole[shift..shift + inner.len()];
        let product: f64 = own[inner.clone()].iter().zip(whole).map(|(a, b)| a * b).sum();
        product / (own_power * power(whole)).sqrt().max(1e-9)
    };
    let all: Vec<f64> = (0..=2 * REACH).map(correlation).collect();
    // What repeats within the reach fits at several shifts: the least of them.
    let most = all.iter().copied().fold(0.0, f64::max);
    let peaks = (1..2 * REACH).filter(|&shift| all[shift] >= all[shift - 1] && all[shift] >= all[shift + 1]);
    let best = peaks.filter(|&shift| all[shift] >= ALIKE * most).min_by_key(|shift| shift.abs_diff(REACH))?;
    let (left, most, right) = (all[best - 1], all[best], all[best + 1]);
    let bend = 2.0 * most - left - right;
    // The least error that a delay can have which is read off such a correlation (Cramér and Rao), squared.
    let error = (1.0 - most * most) / (most * inner.len() as f64 * bend);
    if most < CORRELATED || bend <= 0.0 || error > KNOWN * KNOWN {
        return None;
    }
    let between = 0.5 * (right - left) / bend;
    Some(REACH as f64 - (best as f64 + between))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    #[test]
    fn a_node_that_lags_is_told_by_how_much() {
        // A job that moves unevenly.
        let job = |t: f64| 300.0 * ((0.9 * t).sin() + (2.3 * t + 1.0).sin() + (0.37 * t * t).sin());
        let series = |lag: f64| (0..250).map(|bin| job(f64::from(bin) * 0.1 - lag)).collect::<Vec<f64>>();
        let whole = series(0.0);
        for truth in [-0.3, -0.05, 0.0, 0.12, 0.4] {
            let found = 0.1 * lag(&series(truth), &whole).unwrap();
            assert!((found - truth).abs() < 0.02, "{truth} s, found {found} s");
        }
        let fast = |lag: f64| (0..250).map(|bin| (TAU * 2.3 * (f64::from(bin) * 0.1 - lag)).sin()).collect::<Vec<f64>>();
        assert!((0.1 * lag(&fast(0.03), &fast(0.0)).unwrap() - 0.03).abs() < 0.02);
        let noise: Vec<f64> = (0..250u64).map(|bin| ((bin * 7919) % 101) as f64).collect();
        assert_eq!(lag(&noise, &whole), None);
    }

    /// A fleet whose ways are alike but for `node`.
    fn fleet(node: ClockView) -> Usual {
        let other = |index: i32| ClockView {
            stated_error_seconds: Some(0.002),
            arrival_offset_seconds: Some(0.01 * f64::from(index % 3 - 1)),
            lag_seconds: None,
        };
        Usual::of(&(0..15).map(other).chain([node]).collect::<Vec<_>>())
    }

    fn is_off(stated: f64, arrival: f64, lag: Option<f64>) -> Option<f64> {
        let clock = ClockView { stated_error_seconds: Some(stated), arrival_offset_seconds: Some(arrival), lag_seconds: lag };
        clock.off(&fleet(clock), 1.0).map(|off| off.seconds)
    }

    #[test]
    fn two_witnesses_or_one_that_cannot_be_mistaken() {
        assert_eq!(is_off(0.002, -0.12, Some(0.13)), Some(0.13));
        assert_eq!(is_off(0.002, 0.12, Some(-0.1)), Some(-0.1));
        assert_eq!(is_off(0.5, 0.0, None), Some(0.5));
        assert_eq!(is_off(0.002, -0.3, None), Some(0.3));
        // A slow network; a late part of the job's step; both of a node whose clock is right.
        assert_eq!(is_off(0.002, 2.0, None), None);
        assert_eq!(is_off(0.002, 2.0, Some(0.0)), None);
        assert_eq!(is_off(0.002, 0.0, Some(0.2)), None);
        assert_eq!(is_off(0.002, 0.2, Some(0.2)), None);
    }

    #[test]
    fn where_no_clock_is_kept_none_stands_out() {
        let clock = |stated: f64| ClockView { stated_error_seconds: Some(stated), ..ClockView::default() };
        let mut clocks = vec![clock(16.0); 8];
        assert_eq!(clocks[0].off(&Usual::of(&clocks), 1.0), None);
        assert_eq!(clocks[0].off(&Usual::of(&clocks[..2]), 1.0), None);
        let two = [clock(0.002), clock(16.0)];
        assert_eq!([0, 1].map(|node| two[node].off(&Usual::of(&two), 1.0).is_some()), [false, true]);
        clocks[7] = clock(40.0);
        assert_eq!(clocks[7].off(&Usual::of(&clocks), 1.0), Some(Off { seconds: 40.0, is_stated: true }));
        // What scatters by itself says little.
        let way = |index: i32| ClockView { arrival_offset_seconds: Some(0.08 * f64::from(index - 4)), ..ClockView::default() };
        let ways: Vec<ClockView> = (0..9).map(way).collect();
        assert_eq!(ways[0].off(&Usual::of(&ways), 1.0), None);
    }

    #[test]
    fn few_ways_that_differ_much_tell_nothing_and_those_that_are_alike_do() {
        let scattered = [-0.25, -0.07, -0.04, -0.02, 0.0, 0.02, 0.05, 0.1];
        assert_eq!(apart(&scattered, 1.0), f64::NEG_INFINITY);
        let alike = scattered.map(|way| if way < -0.2 { way } else { 0.1 * way });
        assert!((apart(&alike, 1.0) + 0.1285).abs() < 1e-9, "{}", apart(&alike, 1.0));
        // Two of them are ahead, by as much or not.
        let mut two: Vec<f64> = (0..30).map(|node| 0.002 * f64::from(node - 15)).collect();
        two.splice(0..2, [-0.5, -0.3]);
        assert!((-0.3..-0.03).contains(&apart(&two, 1.0)), "{}", apart(&two, 1.0));
        assert_eq!(apart(&[-0.4, 0.0], 1.0), f64::NEG_INFINITY);
    }

    #[test]
    fn a_clock_that_wavers_is_told_once() {
        let mut watch = ClockWatch::default();
        let usual = fleet(ClockView::default());
        let mut look = |arrival: f64, seconds: u32| {
            let clock = ClockView { arrival_offset_seconds: Some(arrival), lag_seconds: Some(-arrival), ..ClockView::default() };
            (0..seconds).map(|_| watch.look(&clock, &usual).map(|off| off.seconds)).last().unwrap()
        };
        assert_eq!(look(-0.2, LASTS - 1), None);
        assert_eq!(look(0.0, 1), None);
        assert_eq!(look(-0.2, LASTS), Some(0.2));
        // Below the threshold, and above what it takes to be right again.
        assert_eq!(look(-0.04, 300), Some(0.04));
        assert!(look(0.0, LASTS - 1).is_some());
        assert!(look(-0.2, 1).is_some());
        assert!(look(0.0, LASTS - 1).is_some());
        assert_eq!(look(0.0, 1), None);
    }

    #[test]
    fn a_clock_that_is_ahead_shortens_the_way() {
        let mut arrivals = Arrivals::default();
        for tick in 0..900 {
            let now = Micros(tick * 100_000);
            arrivals.advance(now);
            for source in 0..16 {
                let ahead = if source / 4 == 2 { 200_000 } else { 0 };
                arrivals.put(source, now - 300_000 + ahead, now + tick % 7 * 10_000);
            }
        }
        let offsets = arrivals.offsets(4, |source| source / 4);
        assert_eq!(offsets, [Some(0.0), Some(0.0), Some(-0.2), Some(0.0)]);
        // One that is an hour behind speaks; one of which nothing came does not.
        let now = Micros(90_000_000);
        arrivals.put(16, now - 3_600_000_000, now);
        arrivals.put(18, now, now);
        assert!(arrivals.has_any_of(16) && !arrivals.has_any_of(17) && arrivals.has_any_of(0));
    }
}
