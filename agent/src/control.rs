//! **control**: a socket on this node by which its operator tells the running agent to let go of the driver.
//!
//! A line comes in (`release SECONDS` or `end`), a line goes out (`ok TEXT` or `no TEXT`). The socket is for root and the agent's own
//! user: its folder and mode say so, and whoever connects is asked who he is once more.

use crate::release::{Grip, Release};
use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as Client;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Where the unit's agent listens.
pub const DEFAULT_SOCKET: &str = "/run/gridstep-agent/control";
const NAME: &str = "control";
/// Longest line.
const MOST: u64 = 64;
/// Who connects says what he wants within this time.
const PATIENCE: Duration = Duration::from_secs(1);
/// Killed readers have so long to die before they are called stuck.
const LETTING_GO: Duration = Duration::from_secs(5);
/// Longest release; a forgotten one ends by itself.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// `[control]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// None: `control` in what the unit has as RuntimeDirectory=, without systemd nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

impl Config {
    pub(crate) fn faults(&self) -> Vec<String> {
        let relative = self.socket.as_ref().filter(|path| !path.is_absolute());
        relative.map(|path| format!("control.socket = \"{}\": must be an absolute path", path.display())).into_iter().collect()
    }

    fn path(&self) -> Option<PathBuf> {
        let folder = || std::env::var_os("RUNTIME_DIRECTORY").map(|folder| Path::new(&folder).join(NAME));
        self.socket.clone().or_else(folder)
    }
}

/// The socket, which goes with it.
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// The agent's own user.
    owner: u32,
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Control {
    /// None: there is to be none.
    pub fn bind(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(path) = config.path() else { return Ok(None) };
        let subject = || format!("listening on {}", path.display());
        if Client::connect(&path).is_ok() {
            bail!("{}: another agent does", subject());
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(subject),
            _ => {}
        }
        let listener = UnixListener::bind(&path).with_context(subject)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).with_context(subject)?;
        let owner = std::fs::metadata(&path).with_context(subject)?.uid();
        Ok(Some(Self { listener, path, owner }))
    }

    /// Does what is asked for, one after the other.
    pub async fn serve(&self, release: &Release) -> Infallible {
        loop {
            let answered = match self.listener.accept().await {
                Ok((stream, _)) => self.answer(stream, release).await,
                Err(error) => {
                    tokio::time::sleep(PATIENCE).await;
                    Err(error)
                }
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "a request on the control socket failed");
            }
        }
    }

    async fn answer(&self, mut stream: UnixStream, release: &Release) -> io::Result<()> {
        let user = stream.peer_cred()?.uid();
        let answer = if user == 0 || user == self.owner {
            let mut line = String::new();
            let read = (&mut stream).take(MOST);
            tokio::time::timeout(PATIENCE, read_line(read, &mut line)).await??;
            obey(line.trim(), user, release).await
        } else {
            tracing::warn!(user, "a user who may not control the agent tried to");
            "no permission: only root and the agent's own user may control it".into()
        };
        stream.write_all(format!("{answer}\n").as_bytes()).await
    }
}

async fn read_line(mut from: impl AsyncReadExt + Unpin, line: &mut String) -> io::Result<()> {
    while !line.ends_with('\n') {
        match from.read_u8().await {
            Ok(byte) => line.push(char::from(byte)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn obey(line: &str, user: u32, release: &Release) -> String {
    let mut words = line.split(' ');
    match (words.next(), words.next().map(str::parse::<u64>), words.next()) {
        (Some("release"), Some(Ok(seconds)), None) if (1..=LONGEST.as_secs()).contains(&seconds) => {
            tracing::info!(seconds, user, "asked to let go of the driver");
            release.begin(Duration::from_secs(seconds));
            match release.wait_for(Grip::Free, LETTING_GO).await {
                Grip::Free => format!("ok the driver is free for {}", span(Duration::from_secs(seconds))),
                Grip::Stuck(readers) => {
                    format!("no {readers} readers are stuck in a call into the driver and do not die: it stays open")
                }
                Grip::Held => "no the agent has not let go of the driver yet".into(),
            }
        }
        (Some("end"), None, None) => {
            let was = release.end();
            tracing::info!(user, was, "asked to take the driver again");
            (if was { "ok the agent takes the driver again" } else { "ok the agent had not let go of the driver" }).into()
        }
        _ => "no such request".into(),
    }
}

/// A time in a person's words.
pub(crate) fn span(duration: Duration) -> String {
    humantime_serde::re::humantime::format_duration(Duration::from_secs(duration.as_secs_f64().round() as u64)).to_string()
}

/// Why a running agent was not told.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("no agent runs here: nothing listens on {0} (--socket names another one)")]
    NoAgent(String),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Tells the running agent: let go of the driver for so long; None: take it again. What it says to that.
pub fn tell(socket: &Path, release: Option<Duration>) -> Result<String, Failure> {
    let mut stream = match Client::connect(socket) {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                return Err(Failure::NoAgent(socket.display().to_string()));
            }
            io::ErrorKind::PermissionDenied => {
                let text = format!("no permission to control the agent at {}: run this as root", socket.display());
                return Err(anyhow::anyhow!(text).into());
            }
            _ => return Err(anyhow::Error::new(error).context(format!("connecting to {}", socket.display())).into()),
        },
    };
    Ok(ask(&mut stream, release).with_context(|| format!("asking the agent at {}", socket.display()))?)
}

fn ask(stream: &mut Client, release: Option<Duration>) -> anyhow::Result<String> {
    stream.set_read_timeout(Some(2 * LETTING_GO))?;
    match release {
        Some(duration) => writeln!(stream, "release {}", duration.as_secs())?,
        None => writeln!(stream, "end")?,
    }
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    let (word, text) = answer.trim().split_once(' ').unwrap_or_default();
    ensure!(word == "ok", "{}", if text.is_empty() { "it has not answered" } else { text });
    Ok(text.to_owned())
}

/// `--for`: a time such as 10m, in whole seconds.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let duration = humantime_serde::re::humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_secs(1) || duration > LONGEST {
        return Err(format!("must be between 1s and {}", span(LONGEST)));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_that_are_none_are_refused() {
        for line in ["", "release", "release 0", "release -5", "release 999999999", "release 60 60", "end now", "stop"] {
            let release = Release::default();
            assert!(obey(line, 0, &release).await.starts_with("no "), "{line}");
            assert_eq!(release.left(), None, "{line}");
        }
    }

    #[tokio::test]
    async fn a_socket_is_the_owners_alone_and_one_agents() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { socket: Some(folder.path().join("control")) };
        let control = Control::bind(&config).unwrap().unwrap();
        let mode = std::fs::metadata(&control.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(Control::bind(&config).is_err());
        drop(control);
        // What a killed agent leaves behind is in nobody's way.
        drop(std::os::unix::net::UnixListener::bind(folder.path().join("control")).unwrap());
        assert!(Control::bind(&config).is_ok());
    }

    #[test]
    fn without_an_agent_that_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let told = tell(&folder.path().join("control"), None);
        assert!(matches!(told, Err(Failure::NoAgent(_))), "{told:?}");
    }

    #[test]
    fn spans_are_bounded() {
        assert_eq!(parse_span("10m"), Ok(Duration::from_secs(600)));
        for wrong in ["", "10", "0s", "2days", "soon"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
    }
}
