//! `report`: asks a running collector for what a report rests on, and writes the page.

use super::incidents::{authority, get};
use super::{Failure, write_whole};
use crate::config::Config;
use crate::report::{Report, page};
use anyhow::Context;
use jiff::Timestamp;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Writes a report of the power for the utility, one HTML page, by what a running collector knows: the last day at most.
///
/// Exits with 69 where no collector answers. Of a recording: replay --report.
#[derive(Debug, clap::Args)]
pub(super) struct ReportOf {
    /// Beginning, as 2025-10-09T08:00:00Z; a day before the end if not given.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// End; now if not given.
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// The collector's configuration: says where it listens for HTTP.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the collector listens for HTTP, in place of a configuration.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<String>,
    /// The page to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl ReportOf {
    pub(super) fn run(self) -> Result<(), Failure> {
        let url = match (&self.url, &self.config) {
            (Some(url), _) => url.clone(),
            (None, Some(path)) => configured(path)?,
            (None, None) => "http://127.0.0.1:19811".into(),
        };
        let authority = authority(&url).map_err(Failure::Usage)?;
        let stamp = |name: &str, stamp: Option<Timestamp>| stamp.map(|stamp| format!("{name}={stamp}"));
        let query: Vec<String> = [stamp("from", self.from), stamp("to", self.to)].into_iter().flatten().collect();
        let body = get(&authority, &format!("/api/v1/report?{}", query.join("&")))
            .with_context(|| format!("ask the collector at {url}"))
            .map_err(Failure::Unavailable)?;
        let mut report: Report = serde_json::from_slice(&body)
            .with_context(|| format!("understand the answer of {url}"))
            .map_err(Failure::Unavailable)?;
        report.source = format!("the collector at {url}");
        write_whole(&self.out, page(&report).as_bytes()).with_context(|| format!("write report to {}", self.out.display()))?;
        Ok(())
    }
}

fn configured(path: &Path) -> Result<String, Failure> {
    let listen = Config::read(path)?.edge.http.listen;
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(format!("http://{}", SocketAddr::new(ip, listen.port())))
}
