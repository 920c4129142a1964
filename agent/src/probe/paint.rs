//! Text with a tone, in columns, as wide as the terminal.

use std::io::IsTerminal;

/// What a piece of text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Head,
    /// Not there.
    Dim,
    Good,
    /// Asks for attention.
    Alarm,
}

#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Where a report is printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paper {
    /// Cells of a line; None: as many as it takes.
    pub(super) width: Option<usize>,
    pub(super) colours: bool,
}

impl Paper {
    /// Standard output: colours where it is a terminal that nobody wants plain (NO_COLOR).
    pub(super) fn stdout() -> Self {
        if !std::io::stdout().is_terminal() {
            return Self { width: None, colours: false };
        }
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let width = ratatui::crossterm::terminal::size().ok().map(|(columns, _)| usize::from(columns));
        Self { width, colours: !plain }
    }

    pub(super) fn paint(&self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Head => "1",
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Alarm => "1;31",
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Columns as wide as they have to be: the first to the left, numbers to the right.
    pub(super) fn grid(&self, rows: &[Vec<Cell>]) -> String {
        let widths = widths(rows);
        let mut out = String::new();
        for row in rows {
            let mut line = String::from(" ");
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = " ".repeat(width - cell.width());
                let text = self.paint(&cell.text, cell.tone);
                line += &if column == 0 { format!(" {text}{gap}") } else { format!(" {gap}{text}") };
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }

    pub(super) fn fits(&self, rows: &[Vec<Cell>]) -> bool {
        let taken = widths(rows).iter().map(|width| width + 1).sum::<usize>() + 1;
        self.width.is_none_or(|width| taken <= width)
    }

    /// Words in lines that fit; further lines are indented by `indent`.
    pub(super) fn wrapped(&self, text: &str, indent: usize) -> String {
        let Some(width) = self.width else { return text.to_owned() };
        let mut lines = vec![String::new()];
        for word in text.split(' ') {
            let last = lines.last_mut().expect("there is a line");
            if last.chars().count() + word.chars().count() + 1 > width && !last.trim().is_empty() {
                lines.push(format!("{}{word}", " ".repeat(indent)));
            } else {
                if !last.is_empty() {
                    last.push(' ');
                }
                last.push_str(word);
            }
        }
        lines.join("\n")
    }
}

fn widths(rows: &[Vec<Cell>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0);
    (0..columns).map(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_wrapped_and_indented() {
        let paper = Paper { width: Some(12), colours: false };
        assert_eq!(paper.wrapped("one two three four", 2), "one two\n  three four");
    }

    #[test]
    fn colours_do_not_move_columns() {
        let rows = vec![
            vec![Cell::new("a", Tone::Head), Cell::new("1", Tone::Alarm)],
            vec![Cell::new("bb", Tone::Plain), Cell::new("22", Tone::Dim)],
        ];
        let plain = Paper { width: None, colours: false }.grid(&rows);
        assert_eq!(plain, "  a   1\n  bb 22\n");
        let coloured = Paper { width: None, colours: true }.grid(&rows);
        assert_eq!(coloured.lines().next(), Some("  \x1b[1ma\x1b[0m   \x1b[1;31m1\x1b[0m"));
    }
}
