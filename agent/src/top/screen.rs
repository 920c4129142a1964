//! What the person before the screen has chosen.

use super::view::{Gpu, View};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Gpu,
    Power,
    Temperature,
    Sm,
}

impl Sort {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gpu => "GPU",
            Self::Power => "power",
            Self::Temperature => "temperature",
            Self::Sm => "SM",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Gpu => Self::Power,
            Self::Power => Self::Temperature,
            Self::Temperature => Self::Sm,
            Self::Sm => Self::Gpu,
        }
    }

    /// None: GPUs stand by their number.
    fn of(self, gpu: &Gpu) -> Option<f64> {
        match self {
            Self::Gpu => None,
            Self::Power => gpu.watts,
            Self::Temperature => gpu.celsius,
            Self::Sm => gpu.sm_active,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Screen {
    pub(super) sort: Sort,
    pub(super) paused: bool,
    pub(super) help: bool,
    /// One frame as plain text: no keys, no GPU is chosen.
    pub(super) once: bool,
    /// What to say when the agent has ceased to answer.
    pub(super) silent: Option<String>,
    /// Time of day, UTC.
    pub(super) clock: String,
    /// Index of a GPU; None: the first of the table.
    pub(super) choice: Option<u32>,
}

impl Screen {
    /// GPUs in the order in which they are shown: the largest first.
    pub(super) fn order<'a>(&self, view: &'a View) -> Vec<&'a Gpu> {
        let mut gpus: Vec<&Gpu> = view.gpus.iter().collect();
        let key = |gpu: &Gpu| self.sort.of(gpu).unwrap_or(f64::NEG_INFINITY);
        gpus.sort_by(|a, b| key(b).total_cmp(&key(a)));
        gpus
    }

    pub(super) fn chosen(&self, view: &View) -> u32 {
        let first = || self.order(view).first().map_or(0, |gpu| gpu.index);
        self.choice.unwrap_or_else(first)
    }

    fn choose(&mut self, view: &View, step: isize) {
        let order = self.order(view);
        let at = order.iter().position(|gpu| gpu.index == self.chosen(view)).unwrap_or(0);
        self.choice = order.get(at.saturating_add_signed(step).min(order.len().saturating_sub(1))).map(|gpu| gpu.index);
    }

    /// True: the end.
    pub(super) fn press(&mut self, key: KeyEvent, view: &View) -> bool {
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char(' ' | 'p') => self.paused = !self.paused,
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Up | KeyCode::Char('k') => self.choose(view, -1),
            KeyCode::Down | KeyCode::Char('j') => self.choose(view, 1),
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(screen: &mut Screen, view: &View, key: char) -> bool {
        screen.press(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE), view)
    }

    #[test]
    fn keys_sort_choose_and_end() {
        let gpu = |index, watts| Gpu { index, watts: Some(watts), ..Gpu::default() };
        let view = View { gpus: vec![gpu(0, 300.0), gpu(1, 500.0), gpu(2, 400.0)], ..View::default() };
        let mut screen = Screen::default();
        assert_eq!(screen.order(&view).iter().map(|gpu| gpu.index).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(!press(&mut screen, &view, 's'));
        assert_eq!(screen.order(&view).iter().map(|gpu| gpu.index).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(screen.chosen(&view), 1);
        "jjjj".chars().for_each(|key| assert!(!press(&mut screen, &view, key)));
        assert_eq!(screen.chosen(&view), 0);
        press(&mut screen, &view, 'k');
        assert_eq!(screen.chosen(&view), 2);
        assert!(press(&mut screen, &view, 'q'));
    }
}
