//! How much of its time a GPU is occupied with its own work, from SM activity and utilisation.

/// SM activity of a GPU that spins in a collective: 24 of 132 SMs (facts/stragglers.md §2).
pub const SPINNING: f64 = 0.18;
/// SM activity of a GPU that computes.
pub const COMPUTING: f64 = 0.92;

/// Share of the second spent computing, 0 to 1: SM activity between spinning and computing.
pub fn busy(sm_active: f64) -> f64 {
    ((sm_active - SPINNING) / (COMPUTING - SPINNING)).clamp(0.0, 1.0)
}

/// Share of the second in which the GPU made others wait, or would have: computing, or no kernel at all (its host is late).
/// 1 − occupied is communication and waiting.
pub fn occupied(sm_active: f64, utilization: f64) -> f64 {
    let host_gap = if utilization.is_nan() { 0.0 } else { (1.0 - utilization).clamp(0.0, 1.0) };
    (busy(sm_active) + host_gap).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_what_is_neither_computing_nor_a_late_host() {
        assert_eq!(occupied(SPINNING, 1.0), 0.0);
        assert_eq!(occupied(COMPUTING, 1.0), 1.0);
        assert_eq!(occupied(0.0, 0.0), 1.0);
        assert!((occupied(0.55, 0.95) - 0.55).abs() < 1e-9);
    }
}
