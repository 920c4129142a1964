//! The table of GPUs: which columns there is room for, and what stands in them.

use super::super::view::{Gpu, View};
use super::figures::{bar, rate, spark};
use super::{alarm, bold, dim};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};

/// From this many cells on bars and lines are long, and a job and counts have columns of their own.
const WIDE: usize = 110;
const GIB: f64 = 1_073_741_824.0;
/// Memory and core run at most this warm without being slowed down, °C.
const WARM: f64 = 83.0;
const WARM_MEMORY: f64 = 93.0;

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Gpu,
    Watts,
    Bar,
    Spark,
    Core,
    Memory,
    Clock,
    Sm,
    Tensor,
    Hbm,
    Nvlink,
    Pcie,
    Xids,
    State,
    Job,
}

use What::*;

#[derive(Debug)]
pub(super) struct Column {
    what: What,
    title: &'static str,
    width: usize,
    left: bool,
}

pub(super) fn columns(view: &View, width: usize) -> Vec<Column> {
    let wide = width >= WIDE;
    let column = |(what, title, width): (What, &'static str, usize)| {
        let left = matches!(what, Bar | Spark | State | Job);
        Column { what, title, width, left }
    };
    let (bar, spark) = if wide { (12, 16) } else { (6, 6) };
    let fixed = [
        (Gpu, "GPU", 3),
        (Watts, "power", 5),
        (Bar, "", bar),
        (Spark, "", spark),
        (Core, "°C", 3),
        (Memory, "HBM", 3),
        (Clock, "MHz", 4),
        (Sm, "SM", 4),
        (Tensor, "TC", 4),
        (Hbm, "GiB", 5),
        (Nvlink, "NVL", 5),
        (Pcie, "PCIe", 5),
    ];
    let mut columns: Vec<Column> = fixed.map(column).into();
    if wide {
        columns.push(column((Xids, "XIDs", 4)));
    }
    let taken = columns.iter().map(|column| column.width + 1).sum::<usize>() + 1;
    let rest = width.saturating_sub(taken).max(4);
    let has_jobs = wide && view.gpus.iter().any(|gpu| !gpu.job.is_empty());
    let state = if has_jobs { (rest / 2).min(24) } else { rest };
    columns.push(column((State, "held by", state)));
    if has_jobs {
        columns.push(column((Job, "job", rest.saturating_sub(state + 1))));
    }
    columns
}

pub(super) fn head(columns: &[Column]) -> Line<'static> {
    let cells = columns.iter().flat_map(|column| [Span::raw(" "), Span::styled(fitted(column, column.title), bold())]);
    Line::from(cells.collect::<Vec<_>>())
}

pub(super) fn row(columns: &[Column], view: &View, gpu: &Gpu) -> Line<'static> {
    if let Some(why) = &gpu.down {
        return Line::from(vec![Span::raw(format!(" {:>3} ", gpu.index)), Span::styled(why.clone(), alarm())]);
    }
    let cells = columns.iter().flat_map(|column| {
        let (text, style) = cell(column, view, gpu);
        [Span::raw(" "), Span::styled(fitted(column, &text), style)]
    });
    Line::from(cells.collect::<Vec<_>>())
}

fn cell(column: &Column, view: &View, gpu: &Gpu) -> (String, Style) {
    let plain = Style::new();
    let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.0}"));
    let share = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{:.0}%", value * 100.0));
    let traffic = |value: Option<f64>| value.map_or_else(|| "-".into(), rate);
    let warm = |value: Option<f64>, most: f64| if value > Some(most) { Style::new().fg(Color::Yellow) } else { plain };
    match column.what {
        Gpu => (gpu.index.to_string(), plain),
        Watts => (gpu.watts.map_or_else(|| "-".into(), |watts| format!("{watts:.0}W")), plain),
        Bar => (bar(gpu.watts.zip(gpu.limit_watts).map_or(0.0, |(watts, limit)| watts / limit), column.width), plain),
        Spark => {
            let line =
                view.history.get(&gpu.index).map(|history| spark(history, gpu.limit_watts.unwrap_or(f64::NAN), column.width));
            (line.unwrap_or_default(), dim())
        }
        Core => (number(gpu.celsius), warm(gpu.celsius, WARM)),
        Memory => (number(gpu.memory_celsius), warm(gpu.memory_celsius, WARM_MEMORY)),
        Clock => (number(gpu.mhz), plain),
        Sm => (share(gpu.sm_active), plain),
        Tensor => (share(gpu.tensor_active), plain),
        Hbm => match gpu.hbm_used.zip(gpu.hbm_total) {
            Some((used, total)) => (format!("{:.0}/{:.0}", used / GIB, total / GIB), plain),
            None => ("-".into(), plain),
        },
        Nvlink => (traffic(gpu.nvlink_rate), plain),
        Pcie => (traffic(gpu.pcie_rate), plain),
        Xids => (gpu.xids.to_string(), if gpu.xids > 0 { alarm() } else { plain }),
        State => state(gpu),
        Job => (gpu.job.clone(), plain),
    }
}

/// What asks for attention, the gravest first. An idle GPU and one at its power cap are as they should be.
fn state(gpu: &Gpu) -> (String, Style) {
    let xid = gpu.xid_last.map(|code| format!("XID {code}"));
    let grave = xid.is_some() || gpu.reasons.iter().any(|reason| !["idle", "power cap", "app clocks"].contains(reason));
    let words: Vec<String> = xid.into_iter().chain(gpu.reasons.iter().map(|&reason| reason.to_owned())).collect();
    let text = if words.is_empty() { "-".into() } else { words.join(", ") };
    (text, if grave { alarm() } else { Style::new() })
}

/// As wide as its column: what is longer ends in an ellipsis.
fn fitted(column: &Column, text: &str) -> String {
    let width = column.width;
    let text = match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    };
    if column.left { format!("{text:<width$}") } else { format!("{text:>width$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_as_wide_as_the_screen_at_most() {
        let gpu = Gpu { watts: Some(700.0), reasons: vec!["hw thermal", "power cap"], job: "a".repeat(99), ..Gpu::default() };
        let view = View { gpus: vec![gpu.clone()], ..View::default() };
        for width in [80, 100, 120, 200] {
            let columns = columns(&view, width);
            assert!(head(&columns).width() <= width && row(&columns, &view, &gpu).width() <= width, "{width}");
        }
        let shown = row(&columns(&view, 80), &view, &gpu).to_string();
        assert!(shown.contains("700W") && shown.contains("hw therm"), "{shown}");
    }
}
