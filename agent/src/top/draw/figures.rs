//! Numbers in few letters.

use std::collections::VecDeque;

const EIGHTHS: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// `width` cells, filled as far as `share` (0 to 1) goes.
pub(super) fn bar(share: f64, width: usize) -> String {
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    (0..width).map(|cell| EIGHTHS[eighths.saturating_sub(cell * 8).min(8)]).collect()
}

/// The last values, from 0 to `most`, the latest at the right; a gap is empty.
pub(super) fn spark(values: &VecDeque<f64>, most: f64, width: usize) -> String {
    let level = |value: &f64| match value / most {
        share if share.is_finite() => LEVELS[((share * 8.0) as usize).min(7)],
        _ => ' ',
    };
    let shown: Vec<char> = values.iter().rev().take(width).map(level).collect();
    [vec![' '; width - shown.len()], shown.into_iter().rev().collect()].concat().into_iter().collect()
}

/// Three digits, or fewer.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 || v.fract() == 0.0 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A rate in decimal units: at most five letters.
pub(super) fn rate(bytes: f64) -> String {
    let (value, unit) = match bytes {
        b if b >= 1e9 => (b / 1e9, "G"),
        b if b >= 1e6 => (b / 1e6, "M"),
        b if b >= 1e3 => (b / 1e3, "k"),
        b => (b, ""),
    };
    let digits = usize::from(value < 100.0 && !unit.is_empty());
    format!("{value:.digits$}{unit}")
}

pub(super) fn bytes(bytes: f64) -> String {
    match bytes {
        b if b >= 1_073_741_824.0 => format!("{:.1} GiB", b / 1_073_741_824.0),
        b if b >= 1_048_576.0 => format!("{:.1} MiB", b / 1_048_576.0),
        b => format!("{:.1} KiB", b / 1024.0),
    }
}

pub(super) fn percent(share: f64, digits: usize) -> String {
    format!("{:.digits$} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_wide_as_they_are_told_to_be() {
        assert_eq!(bar(0.5, 3), "█▌ ");
        assert_eq!(bar(7.0, 2), "██");
        assert_eq!(bar(f64::NAN, 2), "  ");
    }

    #[test]
    fn the_latest_reading_is_at_the_right() {
        let values = VecDeque::from([0.0, f64::NAN, 50.0, 100.0]);
        assert_eq!(spark(&values, 100.0, 6), "  ▁ ▅█");
        assert_eq!(spark(&values, 100.0, 2), "▅█");
        assert_eq!(spark(&values, 0.0, 1), " ");
    }

    #[test]
    fn rates_are_short() {
        assert_eq!([310.44e9, 9.96e9, 35e6, 999.0].map(rate), ["310G", "10.0G", "35.0M", "999"]);
        assert_eq!([10.0, 2.5, 12.34].map(short), ["10", "2.50", "12.3"]);
    }
}
