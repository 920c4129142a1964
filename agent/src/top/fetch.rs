//! Asks the running agent. HTTP/1.0: the answer ends with the connection.

use super::exposition::Exposition;
use anyhow::{Context, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// It answers from memory.
const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn fetch(address: SocketAddr) -> anyhow::Result<Exposition> {
    let text = get(address).with_context(|| format!("no agent answers at {address}"))?;
    if !text.contains("gridstep_agent_") {
        bail!("what answers at {address} is no gridstep-agent");
    }
    Ok(Exposition::parse(&text))
}

fn get(address: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("it does not speak HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("it answers {status}");
    }
    Ok(body.to_owned())
}
