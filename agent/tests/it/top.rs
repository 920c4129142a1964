//! `gridstep-agent top` over a running agent.

use crate::collector::{Collector, Seen};
use crate::node::Node;
use crate::{PATIENCE, power_rows};
use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const AGENT: &str = env!("CARGO_BIN_EXE_gridstep-agent");

fn once(node: &Node, columns: usize) -> String {
    let mut command = Command::new(AGENT);
    command.args(["top", "--once", "--address", &node.address().expect("an address")]).env("COLUMNS", columns.to_string());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The row of a GPU, in words.
fn row(text: &str, gpu: u32) -> Vec<&str> {
    let number = gpu.to_string();
    let words = |line: &'_ str| line.split_whitespace().next() == Some(&number);
    text.lines().find(|line| words(line)).unwrap_or_else(|| panic!("no GPU {gpu}: {text}")).split_whitespace().collect()
}

#[tokio::test]
async fn one_frame_shows_what_the_agent_tells() {
    let collector = Collector::start().await;
    let faults = "[[fault]]\nkind = \"lost_gpu\"\nnode = 0\ngpu = 5\nstart = 2.0\n\
        [[fault]]\nkind = \"xid\"\nnode = 0\ngpu = 2\nvalue = 94\nstart = 1.0\n\
        [[fault]]\nkind = \"thermal\"\nnode = 0\ngpu = 3\ndepth = 0.2\nstart = 0.0\n";
    let node = Node::start(faults, &collector.address);
    let said = |seen: &Seen| seen.event("gpu_lost", 6).is_some() && seen.event("xid", 3).is_some();
    collector.wait(PATIENCE, |seen| said(seen) && power_rows(seen) > 8 * 20 && seen.values("sm_active_ratio").count() > 16).await;
    for columns in [80, 160] {
        let text = once(&node, columns);
        assert!(text.lines().all(|line| line.chars().count() <= columns), "{text}");
        for part in ["testnode", "driver 580.95.05", "8 GPUs, 1 down", " kW", "streaming to the collector", "% CPU", "resident"] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        let watts: f64 = row(&text, 0)[1].trim_end_matches('W').parse().unwrap();
        assert!((100.0..800.0).contains(&watts), "{text}");
        assert!(row(&text, 5).join(" ").contains("the driver has lost it"), "{text}");
        assert!(row(&text, 2).join(" ").contains("XID 94"), "{text}");
        assert!(row(&text, 3).join(" ").contains("thermal"), "{text}");
    }
}

#[test]
fn without_an_agent_it_says_what_to_do() {
    let top = |arguments: &[&str]| -> Output { Command::new(AGENT).arg("top").args(arguments).output().unwrap() };
    let output = top(&["--once", "--address", "127.0.0.1:9"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("127.0.0.1:9") && said.contains("systemctl start gridstep-agent") && said.contains("--address"),
        "{said}"
    );
    let output = top(&["--address", "127.0.0.1:9"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(64) && said.contains("--once"), "{said}");
}

#[tokio::test]
async fn keys_work_in_a_terminal() {
    let collector = Collector::start().await;
    let node = Node::start("", &collector.address);
    collector.wait(PATIENCE, |seen| power_rows(seen) > 50 && seen.values("sm_active_ratio").count() > 8).await;
    let mut terminal = Terminal::start(&format!("{AGENT} top --address {}", node.address().unwrap()));
    terminal.shows("testnode").await;
    terminal.shows("held by").await;
    // Only what changes is drawn: a word that is new where it stands.
    terminal.press("ss");
    terminal.shows("temperature").await;
    terminal.press("?");
    terminal.shows("Ctrl-C").await;
    terminal.press("q");
    assert_eq!(terminal.ended().await, Some(0));
}

/// A program in a terminal of 80 columns and 24 lines.
struct Terminal {
    child: Child,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Terminal {
    fn start(command: &str) -> Self {
        let mut script = Command::new("script");
        script
            .args(["-q", "-e", "-c", &format!("stty cols 80 rows 24; exec {command}"), "/dev/null"])
            .env("TERM", "xterm-256color");
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script of util-linux");
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut out, to) = (child.stdout.take().unwrap(), written.clone());
        std::thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut some) {
                to.lock().unwrap().extend_from_slice(&some[..count]);
            }
        });
        Self { child, written }
    }

    fn press(&mut self, keys: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).and_then(|()| stdin.flush()).unwrap();
    }

    async fn shows(&self, text: &str) {
        let begun = Instant::now();
        loop {
            let written = String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned();
            if written.contains(text) {
                return;
            }
            assert!(begun.elapsed().as_secs_f64() < PATIENCE, "{text} is not in: {written:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ended(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed().as_secs_f64() < PATIENCE, "it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
