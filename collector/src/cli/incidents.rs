//! `incidents`: asks a running collector.

use super::{Failure, table};
use crate::incidents::{Incident, Kind};
use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Prints the incidents of a running collector: all open ones, and those that were closed within 24 hours; with --from or --to
/// those of any time that its store goes back to.
///
/// Exits with 69 where no collector answers.
#[derive(Debug, clap::Args)]
pub(super) struct Incidents {
    /// Prints JSON, one object a line, instead of a table.
    #[arg(long)]
    json: bool,
    /// Only those that are open.
    #[arg(long)]
    open: bool,
    /// Those that went on at this time or later, as 2025-10-09T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Those that began at this time or earlier.
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// Only of this kind: straggler, power_swing, job, gpu_fault or telemetry.
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Option<String>,
    /// Only of this node.
    #[arg(long, value_name = "NODE", value_parser = node)]
    node: Option<String>,
    /// At most so many, the newest; up to 10000.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u32>,
    /// Where the collector listens for HTTP.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:19811")]
    url: String,
}

const TIMEOUT: Duration = Duration::from_secs(5);

impl Incidents {
    pub(super) fn run(self) -> Result<(), Failure> {
        let authority = authority(&self.url).map_err(Failure::Usage)?;
        let body = get(&authority, &format!("/api/v1/incidents?{}", self.query()))
            .with_context(|| format!("ask the collector at {}", self.url))
            .map_err(Failure::Unavailable)?;
        let incidents: Vec<Incident> = serde_json::from_slice(&body)
            .with_context(|| format!("understand the answer of {}", self.url))
            .map_err(Failure::Unavailable)?;
        match self.print(&incidents) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Failed(error.into())),
            _ => Ok(()),
        }
    }

    fn query(&self) -> String {
        let stamp = |name: &str, stamp: Option<Timestamp>| stamp.map(|stamp| format!("{name}={stamp}"));
        let text = |name: &str, text: &Option<String>| text.as_ref().map(|text| format!("{name}={text}"));
        let parts = [
            self.open.then(|| "state=open".to_owned()),
            stamp("from", self.from),
            stamp("to", self.to),
            text("kind", &self.kind),
            text("node", &self.node),
            self.limit.map(|limit| format!("limit={limit}")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("&")
    }

    fn print(&self, incidents: &[Incident]) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            for incident in incidents {
                serde_json::to_writer(&mut out, incident)?;
                out.write_all(b"\n")?;
            }
            return Ok(());
        }
        if incidents.is_empty() {
            return writeln!(out, "no incidents");
        }
        table(&mut out, incidents)
    }
}

fn kind(text: &str) -> Result<String> {
    let known: Result<Kind, _> = serde_json::from_value(text.into());
    known.map(|_| text.to_owned()).map_err(|_| anyhow!("it is none of straggler, power_swing, job, gpu_fault and telemetry"))
}

/// It goes into an address as it is.
fn node(text: &str) -> Result<String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-._~:@".contains(letter);
    if text.chars().all(is_plain) { Ok(text.into()) } else { Err(anyhow!("it is no name of a node")) }
}

/// host:port of a plain http:// URL.
pub(super) fn authority(url: &str) -> Result<String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| anyhow!("--url {url}: is no http:// address"))?;
    let authority = rest.trim_end_matches('/');
    if authority.is_empty() || !authority.chars().all(|letter| letter.is_ascii_alphanumeric() || ".-_:[]".contains(letter)) {
        return Err(anyhow!("--url {url}: is no http://host:port"));
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { authority.into() } else { format!("{authority}:80") })
}

/// HTTP/1.0: the answer ends with the connection and is not chunked.
pub(super) fn get(authority: &str, path: &str) -> Result<Vec<u8>> {
    let address = authority.to_socket_addrs()?.next().ok_or_else(|| anyhow!("it has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {authority}\r\nAccept: application/json\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or_else(|| anyhow!("it does not speak HTTP"))?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(anyhow!("it answers {status}"));
    }
    Ok(answer.split_off(end + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_collectors() {
        assert_eq!(authority("http://127.0.0.1:19811/").unwrap(), "127.0.0.1:19811");
        assert_eq!(authority("http://[::1]:19811").unwrap(), "[::1]:19811");
        assert_eq!(authority("http://collector").unwrap(), "collector:80");
        assert!(authority("https://collector").is_err());
        assert!(authority("http://a b").is_err());
    }
}
