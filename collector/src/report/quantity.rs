//! Figures with their units, as people write them; and text that is safe in a page.

/// The unit that suits figures of this size, and how many watts it is.
pub(super) fn unit(size: f64) -> (&'static str, f64) {
    match size.abs() {
        size if size >= 1e6 => ("MW", 1e6),
        size if size >= 1e3 => ("kW", 1e3),
        _ => ("W", 1.0),
    }
}

/// To three or four significant digits: "38.2", "447.1", "1432".
pub(super) fn digits(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        0.0 => "0".into(),
        _ => format!("{value:.3}"),
    };
    text.replace('-', "\u{2212}")
}

/// "38.2 kW"
pub(super) fn watts(value: f64) -> String {
    let (name, scale) = unit(value);
    format!("{}\u{a0}{name}", digits(value / scale))
}

/// "+38.2 kW"
pub(super) fn change(value: f64) -> String {
    format!("{}{}", if value > 0.0 { "+" } else { "" }, watts(value))
}

/// "99.95 %"; what is not whole is never rounded to it.
pub(super) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    let below = if percent < 100.0 { percent.min(99.99) } else { percent };
    let text = if (99.0..100.0).contains(&below) { format!("{below:.2}") } else { format!("{below:.0}") };
    format!("{text}\u{a0}%")
}

/// "0.0915 Hz"
pub(super) fn hertz(value: f64) -> String {
    let places = if value < 0.1 { 4 } else { 3 };
    format!("{value:.places$}\u{a0}Hz")
}

/// Names come from outside.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_unit_that_suits_them() {
        assert_eq!(watts(447_123.0), "447.1\u{a0}kW");
        assert_eq!(watts(14.2e6), "14.2\u{a0}MW");
        assert_eq!(change(-38_240.0), "\u{2212}38.2\u{a0}kW");
        assert_eq!(change(1_432.0), "+1.43\u{a0}kW");
        assert_eq!(percent(0.99999), "99.99\u{a0}%");
        assert_eq!(percent(1.0), "100\u{a0}%");
        assert_eq!(hertz(0.09148), "0.0915\u{a0}Hz");
    }

    #[test]
    fn a_name_is_no_markup() {
        assert_eq!(escape("<img src=x onerror='a&b'>"), "&lt;img src=x onerror=&#39;a&amp;b&#39;&gt;");
    }
}
