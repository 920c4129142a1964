//! Bits of NVML's clocks-event reasons (nvml.h, `nvmlClocksEventReason*`), as the metric `clocks_event_reasons` carries them.

/// Nothing runs, the clocks idle.
pub const GPU_IDLE: u64 = 0x1;
/// Application clocks or a clock lock set by an administrator.
pub const APPLICATIONS_CLOCKS: u64 = 0x2;
/// Software power cap: the board is at its power limit. Normal at full load.
pub const SW_POWER_CAP: u64 = 0x4;
/// Hardware slowdown: temperature or power brake, clocks halved or worse.
pub const HW_SLOWDOWN: u64 = 0x8;
/// Held to the clocks of its sync-boost group.
pub const SYNC_BOOST: u64 = 0x10;
/// Software thermal slowdown: GPU or memory above its maximum operating temperature.
pub const SW_THERMAL: u64 = 0x20;
/// Hardware thermal slowdown.
pub const HW_THERMAL: u64 = 0x40;
/// Hardware power brake, asserted from outside the board.
pub const HW_POWER_BRAKE: u64 = 0x80;
/// Clocks set for the display.
pub const DISPLAY_CLOCKS: u64 = 0x100;
/// Held by the limit of the board's power supply.
pub const BOARD_LIMIT: u64 = 0x200;
/// Held by the limit of reliable voltage.
pub const RELIABILITY: u64 = 0x400;

/// What each bit means to a person, the gravest first.
const WORDS: [(u64, &str); 11] = [
    (HW_POWER_BRAKE, "power brake"),
    (HW_THERMAL, "hw thermal"),
    (SW_THERMAL, "sw thermal"),
    (HW_SLOWDOWN, "hw slowdown"),
    (SW_POWER_CAP, "power cap"),
    (BOARD_LIMIT, "board limit"),
    (RELIABILITY, "reliability"),
    (SYNC_BOOST, "sync boost"),
    (APPLICATIONS_CLOCKS, "app clocks"),
    (DISPLAY_CLOCKS, "display"),
    (GPU_IDLE, "idle"),
];

/// The reasons in words, the gravest first. The hardware slowdown is left out where its cause is among them.
pub fn words(reasons: u64) -> Vec<&'static str> {
    let causes = HW_POWER_BRAKE | HW_THERMAL;
    let shown = if reasons & causes != 0 { reasons & !HW_SLOWDOWN } else { reasons };
    let mut words: Vec<_> = WORDS.iter().filter(|(bit, _)| shown & bit != 0).map(|(_, word)| *word).collect();
    if shown & !WORDS.iter().fold(0, |all, (bit, _)| all | bit) != 0 {
        words.push("other");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_stands_for_its_effect() {
        assert_eq!(words(HW_SLOWDOWN | HW_THERMAL | SW_POWER_CAP), ["hw thermal", "power cap"]);
        assert_eq!(words(HW_SLOWDOWN | 1 << 40), ["hw slowdown", "other"]);
        assert!(words(0).is_empty());
    }
}
