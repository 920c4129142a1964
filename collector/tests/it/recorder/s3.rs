//! An S3-compatible server that looks at signatures and rights, and can be away.

use crate::tls::Authority;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/recorder/s3.py");
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv/bin/python");
pub(crate) const KEY_ID: &str = "AKIAGRIDSTEPTEST0000";
pub(crate) const SECRET: &str = "of+the/tests+of/gridstep+nothing+is+hidden";

/// Its bucket is `gridstep`.
pub(crate) struct S3 {
    port: u16,
    /// Certificate and key.
    tls: Option<[PathBuf; 2]>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What is in the bucket: by name, how often it was put, and its content's CRC-32. Uploads in parts that have no end.
#[derive(serde::Deserialize)]
pub(crate) struct Bucket {
    pub(crate) objects: BTreeMap<String, (usize, u32)>,
    pub(crate) open: usize,
}

impl S3 {
    pub(crate) fn start() -> Self {
        Self::with(None)
    }

    /// It speaks TLS, and `ca.pem` is in the folder.
    pub(crate) fn secure(folder: &Path) -> Self {
        let authority = Authority::new();
        let (certificate, key) = authority.issue("127.0.0.1");
        for (name, text) in [("ca.pem", authority.0.pem()), ("cert.pem", certificate), ("key.pem", key)] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        Self::with(Some(["cert.pem", "key.pem"].map(|name| folder.join(name))))
    }

    fn with(tls: Option<[PathBuf; 2]>) -> Self {
        let mut new = Self { port: 0, tls, running: None };
        new.run();
        new
    }

    /// With an empty bucket; a second time where it was before.
    pub(crate) fn run(&mut self) {
        let mut command = Command::new(PYTHON);
        command.args([SCRIPT, &self.port.to_string(), KEY_ID, SECRET]).args(self.tls.iter().flatten());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("python: run `make deps`");
        let (ask, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut running = Running { child, ask, answers };
        self.port = running.answer().trim().parse().expect("moto: run `make deps`");
        self.running = Some(running);
    }

    /// Its port refuses from here on.
    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    pub(crate) fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    pub(crate) fn bucket(&mut self) -> Bucket {
        let running = self.running.as_mut().expect("it runs");
        running.ask.write_all(b"\n").unwrap();
        serde_json::from_str::<Value>(&running.answer()).and_then(serde_json::from_value).unwrap()
    }
}

impl Running {
    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
