//! Pseudo-random numbers as pure functions of a seed and a key.

/// A well-mixed number for the key.
pub(super) fn hash(seed: u64, key: &[u64]) -> u64 {
    key.iter().fold(mix(seed), |state, word| mix(state ^ mix(word.wrapping_add(0x9e37_79b9_7f4a_7c15))))
}

/// Uniform in 0 to 1.
pub(super) fn unit(seed: u64, key: &[u64]) -> f64 {
    (hash(seed, key) >> 11) as f64 / (1u64 << 53) as f64
}

/// Uniform in -1 to 1.
pub(super) fn signed(seed: u64, key: &[u64]) -> f64 {
    2.0 * unit(seed, key) - 1.0
}

/// The finaliser of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
