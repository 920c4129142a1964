//! What `/metrics` shows, read back.

use std::collections::HashMap;

/// Series by the name of their metric.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    series: HashMap<String, Vec<Series>>,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Series {
    labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Exposition {
    /// Prometheus' text format; lines that are no series are passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut series: HashMap<String, Vec<Series>> = HashMap::new();
        for (name, of) in text.lines().filter_map(series_of) {
            series.entry(name).or_default().push(of);
        }
        Self { series }
    }

    pub(super) fn of(&self, name: &str) -> &[Series] {
        self.series.get(name).map_or(&[], Vec::as_slice)
    }

    /// Of a metric with one series.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.of(name).first().map(|series| series.value)
    }

    pub(super) fn gpu(&self, gpu: &str, name: &str) -> Option<f64> {
        let name = format!("gridstep_gpu_{name}");
        self.of(&name).iter().find(|series| series.label("gpu") == Some(gpu)).map(|series| series.value)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.series.keys().map(String::as_str)
    }
}

impl Series {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|label| label.0 == name).map(|label| label.1.as_str())
    }
}

fn series_of(line: &str) -> Option<(String, Series)> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (labels, rest) = match line[end..].strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), &line[end..]),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((line[..end].to_owned(), Series { labels, value }))
}

/// Labels up to the closing brace, and what is behind it.
fn labels(mut text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let (value, rest) = quoted(rest)?;
        labels.push((name.to_owned(), value));
        text = rest;
    }
}

/// Text up to the closing quotation mark, and what is behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            letter => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_may_have_anything_in_them() {
        let text = "# HELP a {b\na{gpu=\"1\",why=\"x \\\"}\\\\\\n\"} -2.5e3\ngridstep_gpu_up{gpu=\"1\"} 1\nb 7\nnot a series {\n";
        let found = Exposition::parse(text);
        let series = &found.of("a")[0];
        assert_eq!((series.label("gpu"), series.label("why"), series.value), (Some("1"), Some("x \"}\\\n"), -2500.0));
        assert_eq!((found.value("b"), found.gpu("1", "up")), (Some(7.0), Some(1.0)));
        assert_eq!(found.names().count(), 3);
    }
}
