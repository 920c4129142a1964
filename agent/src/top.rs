//! `top`: a live view of this node in the terminal. It shows what the running agent tells at `/metrics`, and never touches the driver.

mod draw;
mod exposition;
mod fetch;
mod screen;
mod view;

use crate::config;
use anyhow::{Context, anyhow};
use gridstep_wire::Micros;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::widgets::Paragraph;
use screen::Screen;
use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use view::View;

/// One frame is made of so many looks, so far apart: rates and a line of power need more than one.
const LOOKS: u32 = 5;
const APART: Duration = Duration::from_millis(250);
/// How wide one frame is where nobody says, cells.
const WIDTH: usize = 120;

#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Where the agent serves HTTP; default: as in the configuration, without one 127.0.0.1:19810.
    #[arg(long)]
    address: Option<SocketAddr>,
    /// The agent's configuration file.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Between two looks.
    #[arg(long, default_value = "1s", value_parser = humantime_serde::re::humantime::parse_duration)]
    period: Duration,
    /// Print one frame as plain text, as wide as COLUMNS says or 120 cells, and end.
    #[arg(long)]
    once: bool,
}

/// Why nothing is shown.
pub enum Failure {
    Usage(anyhow::Error),
    /// No agent answers.
    Unavailable(anyhow::Error),
    Failed(anyhow::Error),
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let address = address(arguments).map_err(Failure::Usage)?;
    if !arguments.once && !std::io::stdout().is_terminal() {
        return Err(Failure::Usage(anyhow!("standard output is no terminal: --once prints one frame")));
    }
    let hint = "start it (systemctl start gridstep-agent), or name where it serves with --address or --config";
    let mut shown = Shown { address, view: View::default(), screen: Screen { once: arguments.once, ..Screen::default() } };
    shown.look().map_err(|error| Failure::Unavailable(anyhow!("{error:#}: {hint}")))?;
    if arguments.once {
        return shown.once().map_err(Failure::Unavailable);
    }
    let mut terminal = ratatui::try_init().context("setting up the terminal").map_err(Failure::Failed)?;
    let ended = shown.run(&mut terminal, arguments.period.max(Duration::from_millis(100)));
    ratatui::restore();
    ended.context("drawing").map_err(Failure::Failed)
}

/// One that listens everywhere is here too.
fn address(arguments: &Arguments) -> anyhow::Result<SocketAddr> {
    let address = match arguments.address {
        Some(address) => address,
        None => config::load(arguments.config.as_deref())?.http.listen,
    };
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, address.port()))
}

struct Shown {
    address: SocketAddr,
    view: View,
    screen: Screen,
}

impl Shown {
    fn look(&mut self) -> anyhow::Result<()> {
        let told = fetch::fetch(self.address)?;
        let now = Micros::now().0;
        self.view.take(&told, Instant::now(), now as f64 / 1e6);
        let second = now.div_euclid(1_000_000).rem_euclid(86_400);
        self.screen.clock = format!("{:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60);
        Ok(())
    }

    fn once(&mut self) -> anyhow::Result<()> {
        for _ in 1..LOOKS {
            std::thread::sleep(APART);
            self.look()?;
        }
        let width = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(WIDTH);
        for line in draw::lines(&self.view, &self.screen, width, usize::MAX) {
            println!("{}", line.to_string().trim_end());
        }
        Ok(())
    }

    fn run(&mut self, terminal: &mut DefaultTerminal, period: Duration) -> std::io::Result<()> {
        let mut next = Instant::now() + period;
        loop {
            terminal.draw(|frame| {
                let (width, height) = (frame.area().width.into(), frame.area().height.into());
                let lines = draw::lines(&self.view, &self.screen, width, height);
                frame.render_widget(Paragraph::new(lines), frame.area());
            })?;
            // A key and a new size are drawn at once.
            if event::poll(next.saturating_duration_since(Instant::now()))? {
                match event::read()? {
                    Event::Key(key) if key.kind == KeyEventKind::Press && self.screen.press(key, &self.view) => return Ok(()),
                    _ => continue,
                }
            }
            next = Instant::now() + period;
            if !self.screen.paused {
                // What was told last stays, and it is said that it is old.
                self.screen.silent =
                    self.look().err().map(|error| format!("{error:#}; what you see is of {}", self.screen.clock));
            }
        }
    }
}
