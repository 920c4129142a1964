//! Which repetition a stretch of power holds: candidates from a spectrum, figures from least squares.

use super::history::BIN;
use realfft::{RealFftPlanner, RealToComplex, num_complex::Complex};
use std::cell::RefCell;
use std::f64::consts::TAU;
use std::sync::Arc;

/// Harmonics that a repetition is fitted with, its fundamental included.
pub const HARMONICS: usize = 4;
/// A level, a slope, and two for each harmonic.
const UNKNOWNS: usize = 2 + 2 * HARMONICS;

/// A fundamental has at least this share of the power of its strongest harmonic.
const LEAST_FUNDAMENTAL: f64 = 0.015;

/// A repetition fitted to a stretch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    pub frequency_hz: f64,
    /// The fundamental's phasor at the stretch's centre, watts: what is in the data is its real part, turning.
    pub phasor: Complex<f64>,
    /// Amplitudes of the second and third harmonic ÷ the fundamental's; 0 where they are not looked at.
    pub harmonics: [f64; 2],
    /// Share of the stretch's variance (its linear trend taken off) that fundamental and harmonics explain.
    pub explained: f64,
}

impl Line {
    /// Peak to peak of the fundamental, watts, as it stands in the data.
    pub fn amplitude_watts(&self) -> f64 {
        2.0 * self.phasor.norm()
    }
}

/// The repetition rate whose harmonics hold most of the (Hann-windowed) spectrum, between `lowest` and `highest` hertz. A
/// rate is never mistaken for its half or third: those add no power. None: the stretch is flat or too short.
pub fn strongest_rate(stretch: &[f64], lowest: f64, highest: f64) -> Option<f64> {
    let flat = without_trend(stretch);
    let count = flat.len();
    let size = (4 * count).next_power_of_two();
    let mut padded = vec![0.0; size];
    for (index, value) in flat.iter().enumerate() {
        padded[index] = value * (0.5 - 0.5 * (TAU * (index as f64 + 0.5) / count as f64).cos());
    }
    let transform = plan(size);
    let mut spectrum = transform.make_output_vec();
    transform.process(&mut padded, &mut spectrum).ok()?;
    let power: Vec<f64> = spectrum.iter().map(Complex::norm_sqr).collect();
    let resolution = 1.0 / (size as f64 * BIN);
    let near = |bin: usize, reach: usize| {
        let high = (bin + reach).min(power.len().saturating_sub(1));
        power.get(bin.saturating_sub(reach)..=high).map_or(0.0, |part| part.iter().copied().fold(0.0, f64::max))
    };
    let first = ((lowest / resolution).ceil() as usize).max(1);
    let last = ((highest / resolution) as usize).min(power.len().saturating_sub(2));
    let score = |bin: usize| -> f64 {
        let harmonics = (2..).take_while(|harmonic| harmonic * bin <= last);
        power[bin] + harmonics.map(|harmonic| near(harmonic * bin, harmonic / 2)).sum::<f64>()
    };
    let band = power.get(first..=last)?;
    let least = LEAST_FUNDAMENTAL * band.iter().copied().fold(0.0, f64::max);
    let peak = (first..=last).filter(|&bin| power[bin] >= least && power[bin] >= power[bin - 1] && power[bin] >= power[bin + 1]);
    let (best, _) = peak.map(|bin| (bin, score(bin))).max_by(|a, b| a.1.total_cmp(&b.1))?;
    // What is slower than the stretch can resolve must not be mistaken for its own harmonics.
    let slower = power.get((1.0 / (count as f64 * BIN) / resolution) as usize..first).unwrap_or_default();
    let dominated = slower.iter().any(|&slower| slower > power[best]);
    (power[best] > 0.0 && !dominated).then_some(best as f64 * resolution)
}

/// A transform of this length. Making one costs more than using it.
fn plan(size: usize) -> Arc<dyn RealToComplex<f64>> {
    thread_local! {
        static PLANS: RefCell<RealFftPlanner<f64>> = RefCell::new(RealFftPlanner::new());
    }
    PLANS.with_borrow_mut(|plans| plans.plan_fft_forward(size))
}

/// A spectrum and what there would be if the sources had nothing to do with each other.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Floor {
    /// The frequency of value n is n times this.
    pub step_hz: f64,
    /// Peak to peak that a line would have, watts.
    pub watts: Vec<f64>,
    /// The same of independent sources (root mean square of sign-randomised sums).
    pub floor_watts: Vec<f64>,
}

/// Of a stretch and of the `others` of the same length, Hann-windowed, their trends taken off.
pub fn beside(stretch: &[f64], others: impl Iterator<Item = Vec<f64>>) -> Option<Floor> {
    let count = stretch.len();
    let transform = plan(count);
    let mut output = transform.make_output_vec();
    let mut powers = |stretch: &[f64]| {
        let mut flat = without_trend(stretch);
        let window = |index: usize| 0.5 - 0.5 * (TAU * (index as f64 + 0.5) / count as f64).cos();
        flat.iter_mut().enumerate().for_each(|(index, value)| *value *= window(index));
        transform.process(&mut flat, &mut output).ok()?;
        Some(output.iter().map(Complex::norm_sqr).collect::<Vec<f64>>())
    };
    // A line of amplitude a has |X| = a/2 · Σw, Σw = count ÷ 2; peak to peak is 2a.
    let scale = 8.0 / count as f64;
    let watts = powers(stretch)?.iter().map(|power| scale * power.sqrt()).collect::<Vec<f64>>();
    let mut floor = vec![0.0; watts.len()];
    let mut sums = 0.0;
    for other in others {
        floor.iter_mut().zip(powers(&other)?).for_each(|(floor, power)| *floor += power);
        sums += 1.0;
    }
    let floor_watts = floor.iter().map(|power| scale * (power / f64::max(sums, 1.0)).sqrt()).collect();
    Some(Floor { step_hz: 1.0 / (count as f64 * BIN), watts, floor_watts })
}

/// Least squares of fundamental, harmonics and a linear trend at just this frequency.
pub fn at(stretch: &[f64], hertz: f64, highest: f64) -> Option<Line> {
    explained(stretch, hertz, highest)
}

/// The same, the frequency moved to where they explain most.
pub fn fit(stretch: &[f64], near_hz: f64, highest: f64) -> Option<Line> {
    let length = stretch.len() as f64 * BIN;
    let mut step = 0.25 / length;
    let mut best = (near_hz, explained(stretch, near_hz, highest)?);
    while step > 0.002 / length {
        let sides = [best.0 - step, best.0 + step];
        let better =
            sides.into_iter().filter(|&hz| hz > 0.5 / length).filter_map(|hz| Some((hz, explained(stretch, hz, highest)?)));
        match better.max_by(|a, b| a.1.explained.total_cmp(&b.1.explained)) {
            Some(side) if side.1.explained > best.1.explained => best = side,
            _ => step /= 2.0,
        }
    }
    Some(best.1)
}

fn explained(stretch: &[f64], hertz: f64, highest: f64) -> Option<Line> {
    let harmonics = (1..=HARMONICS).take_while(|&harmonic| harmonic == 1 || harmonic as f64 * hertz <= highest).count();
    let unknowns = 2 + 2 * harmonics;
    let count = stretch.len();
    if count < 2 * unknowns {
        return None;
    }
    // Of all unknowns, whether they are asked for or not, and the value: loops of a fixed length are several times quicker.
    let mut normal = [[0.0; UNKNOWNS + 1]; UNKNOWNS];
    let turn = Complex::from_polar(1.0, TAU * hertz * BIN);
    let mut phase = Complex::new(1.0, 0.0);
    let mut row = [0.0; UNKNOWNS + 1];
    row[0] = 1.0;
    for (index, &value) in stretch.iter().enumerate() {
        row[1] = index as f64 / count as f64 - 0.5;
        row[UNKNOWNS] = value;
        let mut harmonic = phase;
        for pair in row[2..UNKNOWNS].chunks_exact_mut(2).take(harmonics) {
            (pair[0], pair[1]) = (harmonic.re, harmonic.im);
            harmonic *= phase;
        }
        phase *= turn;
        for (line, own) in normal.iter_mut().zip(row) {
            line.iter_mut().zip(row).for_each(|(sum, other)| *sum += own * other);
        }
    }
    let right: Vec<f64> = normal[..unknowns].iter().map(|line| line[UNKNOWNS]).collect();
    let asked = normal[..unknowns].iter().zip(&right).map(|(line, &right)| [&line[..unknowns], &[right]].concat());
    let normal: Vec<Vec<f64>> = asked.collect();
    let solution = solve(normal)?;
    let flat = without_trend(stretch);
    let variance: f64 = flat.iter().map(|value| value * value).sum();
    let total: f64 = stretch.iter().map(|value| value * value).sum();
    let fitted: f64 = solution.iter().zip(&right).map(|(a, b)| a * b).sum();
    let explained = if variance > 0.0 { 1.0 - (total - fitted).max(0.0) / variance } else { 0.0 };
    // a cos + b sin is the real part of (a − ib) e^(iωt).
    let centre = Complex::from_polar(1.0, TAU * hertz * BIN * (count as f64 - 1.0) / 2.0);
    let phasor = Complex::new(solution[2], -solution[3]) * centre;
    let own = phasor.norm().max(1e-12);
    let ratio = |harmonic: usize| solution.get(2 * harmonic..2 * harmonic + 2).map_or(0.0, |part| part[0].hypot(part[1]) / own);
    Some(Line { frequency_hz: hertz, phasor, harmonics: [ratio(2), ratio(3)], explained })
}

/// Gauss elimination with pivots; the last column is the right side.
pub(super) fn solve(mut matrix: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let size = matrix.len();
    for column in 0..size {
        let pivot = (column..size).max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs()))?;
        matrix.swap(column, pivot);
        if matrix[column][column].abs() < 1e-12 {
            return None;
        }
        let pivot = matrix[column].clone();
        for (_, line) in matrix.iter_mut().enumerate().filter(|(line, _)| *line != column) {
            let factor = line[column] / pivot[column];
            line.iter_mut().zip(&pivot).skip(column).for_each(|(value, pivot)| *value -= factor * pivot);
        }
    }
    Some((0..size).map(|line| matrix[line][size] / matrix[line][line]).collect())
}

/// The stretch without its straight line of least squares.
pub fn without_trend(stretch: &[f64]) -> Vec<f64> {
    let count = stretch.len() as f64;
    let mean = stretch.iter().sum::<f64>() / count;
    let centre = (count - 1.0) / 2.0;
    let spread = count * (count * count - 1.0) / 12.0;
    let slope = stretch.iter().enumerate().map(|(i, value)| (i as f64 - centre) * (value - mean)).sum::<f64>() / spread.max(1.0);
    stretch.iter().enumerate().map(|(i, value)| value - mean - slope * (i as f64 - centre)).collect()
}

/// Σ x(t) e^(−2πift), with t from the stretch's start.
pub fn demodulate(stretch: &[f64], hertz: f64) -> Complex<f64> {
    let turn = Complex::from_polar(1.0, -TAU * hertz * BIN);
    let mut phase = Complex::new(1.0, 0.0);
    let mut sum = Complex::new(0.0, 0.0);
    for &value in stretch {
        sum += phase * value;
        phase *= turn;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(seconds: f64, hertz: f64, duty: f64) -> Vec<f64> {
        let high = |index: usize| (index as f64 * BIN * hertz).fract() < duty;
        (0..(seconds / BIN) as usize).map(|index| 40e3 + if high(index) { 30e3 } else { 0.0 }).collect()
    }

    #[test]
    fn the_repetition_rate_is_found_also_where_a_harmonic_is_larger() {
        // Two pulses a cycle, not quite alike: the second harmonic is the largest line.
        let pulse = |t: f64| {
            if t < 0.25 {
                30.0
            } else if (0.5..0.75).contains(&t) {
                22.0
            } else {
                0.0
            }
        };
        let stretch: Vec<f64> = (0..400).map(|index| pulse((index as f64 * BIN * 0.2).fract())).collect();
        let rate = strongest_rate(&stretch, 3.0 / 40.0, 2.0).unwrap();
        assert!((rate - 0.2).abs() < 0.01, "{rate}");
    }

    #[test]
    fn frequency_and_amplitude_of_a_square_wave() {
        let stretch = square(30.0, 0.244, 0.7);
        let rate = strongest_rate(&stretch, 0.1, 4.0).unwrap();
        let line = fit(&stretch, rate, 4.0).unwrap();
        let truth = 2.0 * 30e3 * 2.0 / std::f64::consts::PI * (std::f64::consts::PI * 0.7).sin();
        assert!((line.frequency_hz / 0.244 - 1.0).abs() < 0.003, "{line:?}");
        assert!((line.amplitude_watts() / truth - 1.0).abs() < 0.02, "{line:?} {truth}");
        // Four harmonics of this wave hold 88 % of its variance.
        assert!((line.explained - 0.88).abs() < 0.02, "{line:?}");
    }
}
