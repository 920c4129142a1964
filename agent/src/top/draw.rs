//! The view as lines of text: a head, a row for each GPU, one GPU closer, and the keys. Colour is for what asks for attention.

mod figures;
mod table;

use super::screen::Screen;
use super::view::{Agent, Gpu, View};
use figures::{bytes, percent, spark};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// Lines above the table, its own head and an empty one included; behind it an empty one and the keys.
const HEAD: usize = 5;
const FOOT: usize = 2;

const HELP: [&str; 8] = [
    "power     watts now; the bar goes up to the limit; the line is of the past",
    "°C HBM    temperatures of core and memory      GiB  memory used, and all",
    "MHz       clock of the SMs      SM TC  share of their, of tensor cores' cycles",
    "NVL PCIe  bytes a second, both directions",
    "held by   what limits the clocks now, or why the GPU does not answer",
    "up, down or k, j  choose a GPU    s  sort by GPU, power, temperature, SM",
    "space             pause           ?  this help, or back",
    "q, Esc, Ctrl-C    end",
];

pub(super) fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

pub(super) fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

pub(super) fn alarm() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}

/// As many lines as the screen is high, or fewer.
pub(super) fn lines(view: &View, screen: &Screen, width: usize, height: usize) -> Vec<Line<'static>> {
    let mut lines = head(view, screen, width);
    lines.push(Line::default());
    lines.extend(rows(view, screen, width, height.saturating_sub(HEAD + FOOT)));
    let room = height.saturating_sub(lines.len() + FOOT);
    let below = if screen.help { HELP.map(|line| Line::raw(format!(" {line}"))).to_vec() } else { closer(view, screen, width) };
    if room > 1 {
        lines.push(Line::default());
        lines.extend(below.into_iter().take(room - 1));
    }
    if !screen.once {
        let keys = height.saturating_sub(1);
        lines.truncate(keys);
        lines.resize(keys, Line::default());
        lines.push(foot(screen));
    }
    lines
}

/// The table's head, and as many rows as there is room for around the chosen GPU.
fn rows(view: &View, screen: &Screen, width: usize, room: usize) -> Vec<Line<'static>> {
    if view.gpus.is_empty() {
        let why = if view.agent.reader_up { "no GPU" } else { "the agent reaches no driver; its log says why" };
        return vec![Line::styled(format!(" {why}"), alarm())];
    }
    let order = screen.order(view);
    let room = room.clamp(1, order.len());
    let at = order.iter().position(|gpu| gpu.index == screen.chosen(view)).unwrap_or(0);
    let first = (at + 1).saturating_sub(room).min(order.len() - room);
    let columns = table::columns(view, width);
    let rows = order[first..first + room].iter().map(|gpu| {
        let row = table::row(&columns, view, gpu);
        let chosen = !screen.once && gpu.index == screen.chosen(view);
        if chosen { row.patch_style(Style::new().add_modifier(Modifier::REVERSED)) } else { row }
    });
    [table::head(&columns)].into_iter().chain(rows).collect()
}

fn head(view: &View, screen: &Screen, width: usize) -> Vec<Line<'static>> {
    let agent = &view.agent;
    let watts = view.gpus.iter().filter_map(|gpu| gpu.watts).sum::<f64>();
    let limit = view.gpus.iter().filter_map(|gpu| gpu.limit_watts).sum::<f64>();
    let silent = view.gpus.iter().filter(|gpu| gpu.down.is_some()).count();
    let mut first = vec![Span::styled(format!(" {}", agent.node), bold())];
    if !agent.driver.is_empty() {
        first.push(Span::raw(format!("  driver {}", agent.driver)));
    }
    first.push(Span::raw(format!("  {} GPUs", view.gpus.len())));
    if silent > 0 {
        first.push(Span::styled(format!(", {silent} down"), alarm()));
    }
    first.push(Span::raw(format!("  {:.2} of {:.2} kW", watts / 1e3, limit / 1e3)));
    let mut first = Line::from(first);
    // What does not fit is left out: first the line of power, then the time of day.
    let clock = &screen.clock;
    let room = width.saturating_sub(first.width() + clock.len() + 4).min(60);
    first.push_span(Span::raw(format!("  {}", spark(&view.total, limit, room))));
    if let Some(gap) = width.checked_sub(first.width() + clock.len() + 1) {
        first.push_span(Span::styled(format!("{}{clock}", " ".repeat(gap)), dim()));
    }
    let second = Line::from(format!(" {}", cost(agent, width.saturating_sub(1))));
    vec![first, second, uplink(agent, screen)]
}

/// What does not fit is left out, the least telling first.
fn cost(agent: &Agent, width: usize) -> String {
    let parts = [
        agent.power_hertz.map(|hertz| format!("power {} a second", figures::short(hertz))),
        agent.driver_share.map(|share| format!("driver {:.2} ms/s a GPU", share * 1e3)),
        agent.cpu.map(|cpu| format!("agent {} CPU", percent(cpu, 2))),
        agent.resident_bytes.map(|resident| format!("{} resident", bytes(resident))),
        Some(format!("version {}", agent.version)).filter(|_| !agent.version.is_empty()),
    ];
    let mut parts: Vec<String> = parts.into_iter().flatten().collect();
    while parts.join(", ").chars().count() > width && parts.pop().is_some() {}
    parts.join(", ")
}

fn uplink(agent: &Agent, screen: &Screen) -> Line<'static> {
    if let Some(silent) = &screen.silent {
        return Line::styled(format!(" {silent}"), alarm());
    }
    let mut spans = vec![match agent.connected {
        true => Span::raw(" streaming to the collector"),
        false => Span::styled(" no stream to the collector", alarm()),
    }];
    if let Some(rate) = agent.sent_rate.filter(|_| agent.connected) {
        spans.push(Span::raw(format!(", {}/s", bytes(rate))));
    }
    spans.push(Span::raw(format!(", {:.0} batches wait ({})", agent.spool_batches, bytes(agent.spool_bytes))));
    if agent.dropped > 0.0 {
        spans.push(Span::styled(format!(", {:.0} dropped", agent.dropped), alarm()));
    }
    if agent.released {
        spans.push(Span::raw(", the driver is released"));
    } else if !agent.reader_up {
        spans.push(Span::styled(", no driver answers", alarm()));
    }
    Line::from(spans)
}

/// All that is told of the chosen GPU.
fn closer(view: &View, screen: &Screen, width: usize) -> Vec<Line<'static>> {
    let Some(gpu) = view.gpus.iter().find(|gpu| gpu.index == screen.chosen(view)).filter(|_| !screen.once) else {
        return Vec::new();
    };
    let mut lines =
        vec![Line::from(vec![Span::styled(format!(" GPU {}", gpu.index), bold()), Span::raw(format!("  {}", gpu.uuid))])];
    let said = |head: &str, text: String| Line::raw(format!(" {head:<10}{text}"));
    if let Some(why) = &gpu.down {
        lines.push(Line::styled(format!(" {:<10}{why}", "silent"), alarm()));
        return lines;
    }
    lines.push(said("power", power(gpu)));
    if let (Some(history), Some(limit)) = (view.history.get(&gpu.index), gpu.limit_watts) {
        lines.push(said("", spark(history, limit, width.saturating_sub(12))));
    }
    lines.extend(gpu.more.iter().map(|line| Line::raw(format!(" {line}"))));
    lines.push(said("XIDs", gpu.xid_last.map_or_else(|| "none".into(), |last| format!("{}, the last was {last}", gpu.xids))));
    if !gpu.job.is_empty() {
        lines.push(said("job", gpu.job.clone()));
    }
    lines
}

fn power(gpu: &Gpu) -> String {
    let of = |value: Option<f64>, what: &str| value.map(|watts| format!("{watts:.0} W {what}"));
    let parts = [of(gpu.watts, "now"), of(gpu.mean_watts, "mean of a second"), of(gpu.limit_watts, "limit")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn foot(screen: &Screen) -> Line<'static> {
    let mut spans = Vec::new();
    for (key, text) in [("q", "end"), ("s", screen.sort.name()), ("↑↓", "choose"), ("space", "pause"), ("?", "help")] {
        let text = if key == "s" { format!(" sorted by {text}   ") } else { format!(" {text}   ") };
        spans.extend([Span::styled(format!(" {key}"), bold()), Span::styled(text, dim())]);
    }
    if screen.paused {
        spans.push(Span::styled("paused", alarm()));
    }
    Line::from(spans)
}
