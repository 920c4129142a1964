//! Noise that is drawn once for a job and read from anywhere: a step of sixteen thousand GPUs costs as many look-ups, and no draw.

use super::super::job::heavy;
use crate::random::Random;

/// Entries of a table; a power of two.
const ENTRIES: usize = 1 << 16;

/// One autocorrelated series that closes upon itself. Everybody reads it from a place of their own.
pub(super) struct Table(Vec<f32>);

impl Table {
    /// Heavy-tailed (Student's t of four degrees of freedom), of standard deviation `deviation`, of which the share `stays` remains from one
    /// entry to the next.
    pub(super) fn heavy(random: &mut Random, deviation: f64, stays: f64) -> Self {
        Self::of(deviation, stays, || heavy(random))
    }

    pub(super) fn normal(random: &mut Random, deviation: f64, stays: f64) -> Self {
        Self::of(deviation, stays, || random.normal())
    }

    fn of(deviation: f64, stays: f64, mut fresh: impl FnMut() -> f64) -> Self {
        let mut value = 0.0;
        let mut next = || {
            value = stays * value + deviation * (1.0 - stays * stays).sqrt() * fresh();
            value as f32
        };
        Self((0..ENTRIES).map(|_| next()).collect())
    }

    /// Nothing, but `share` of the entries, which are between half of `size` and one and a half.
    pub(super) fn rare(random: &mut Random, share: f64, size: f64) -> Self {
        let entry = |_| if random.chance(share) { (size * random.within(0.5, 1.5)) as f32 } else { 0.0 };
        Self((0..ENTRIES).map(entry).collect())
    }

    pub(super) fn at(&self, place: u32, step: u32) -> f32 {
        self.0[(place.wrapping_add(step)) as usize % ENTRIES]
    }
}

/// Where someone begins to read: scattered, the same each time it is asked.
pub(super) fn place(who: usize, salt: u32) -> u32 {
    let mixed = (who as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(salt).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed.wrapping_mul(0x94d0_49bb_1331_11eb) >> 40) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_the_deviation_and_the_memory_that_are_asked_for() {
        let table = Table::heavy(&mut Random::new(3), 0.01, 0.4);
        let values: Vec<f64> = (0..ENTRIES as u32).map(|step| f64::from(table.at(7, step))).collect();
        let square = values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64;
        let next = values.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / values.len() as f64;
        assert!((square.sqrt() - 0.01).abs() < 0.001, "{square}");
        assert!((next / square - 0.4).abs() < 0.05, "{}", next / square);
    }
}
