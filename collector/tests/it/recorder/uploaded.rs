//! Closed files are in an object store, once, whatever happens; and whatever happens there, nobody waits for it.

use super::full_disk::until;
use super::process::{Process, batch, configure};
use super::s3::{KEY_ID, S3, SECRET};
use super::{everything, samples};
use crate::agent::Agent;
use crate::collector::DEADLINE;
use gridstep_wire::Micros;
use gridstep_wire::pb::agent_message::Kind;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

struct Site {
    folder: tempfile::TempDir,
    recording: PathBuf,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recording = folder.path().join("recording");
        fs::create_dir(&recording).unwrap();
        Self { folder, recording }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `recorder`: further keys of that section.
    fn configure(&self, endpoint: &str, recorder: &str, upload: &str) -> PathBuf {
        let file = self.path("c.toml");
        configure(&file, &self.path("state"), &self.recording);
        let mut text = fs::OpenOptions::new().append(true).open(&file).unwrap();
        write!(text, "{recorder}\n[recorder.upload]\nurl = 's3://gridstep/fra1/a'\nendpoint = '{endpoint}'\n{upload}\n").unwrap();
        file
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.recording.join(name), content).unwrap();
    }

    /// By the names that they ought to have there, the content's CRC-32.
    fn closed(&self) -> BTreeMap<String, u32> {
        let entries = fs::read_dir(&self.recording).unwrap().map(|entry| entry.unwrap().path());
        let is_closed = |path: &PathBuf| path.extension().is_some_and(|of| of == "parquet" || of == "json" || of == "csv");
        let name = |path: &Path| format!("fra1/a/{}", path.file_name().unwrap().to_str().unwrap());
        entries.filter(is_closed).map(|path| (name(&path), crc32fast::hash(&fs::read(&path).unwrap()))).collect()
    }

    /// What is closed is there, and is what it is here.
    async fn until_copied(&self, s3: &mut S3) {
        let is_copied = |s3: &mut S3| {
            let objects = s3.bucket().objects;
            self.closed().iter().all(|(name, sum)| objects.get(name).is_some_and(|(_, there)| there == sum))
        };
        let copied = async {
            while !is_copied(s3) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, copied).await.is_err() {
            panic!("{:#?} are not all among {:#?}", self.closed(), s3.bucket().objects);
        }
    }
}

/// The value of a metric without labels.
async fn metric(process: &Process, name: &str) -> f64 {
    let metrics = process.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or_else(|| panic!("{name}"));
    line.parse().unwrap()
}

async fn until_so(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let seen = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, seen).await.is_ok(), "{what}");
}

fn keys(secret: &str) -> String {
    format!("[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {secret}\n")
}

/// A wrong key is refused and changes nothing for the agents; with the right one all of it goes, large files in parts; after a kill
/// nothing goes again. The key may do no more than that.
#[tokio::test]
async fn what_is_closed_is_copied_once() {
    let site = Site::new();
    let mut s3 = S3::secure(site.folder.path());
    let (ca, credentials) = (site.path("ca.pem"), site.path("credentials"));
    fs::write(&credentials, keys("a-wrong-secret")).unwrap();
    let file = site.configure(
        &s3.endpoint(),
        "",
        &format!("region = 'eu-central-1'\nca_file = {ca:?}\ncredentials_file = {credentials:?}"),
    );
    let large: Vec<u8> = (0..20 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    site.write(&format!("power-{}-0.parquet", Micros::now().0), &large);
    site.write("topology.csv", b"node,rack,feeder\nnode1,r1,f1\n");
    let process = Process::start(&file, &[]);
    let (mut agent, _) = Agent::join(process.grpc, "node1", 1).await;
    agent.send(Kind::Batch(everything(1, Micros::now().0))).await;
    agent.ack_until(|ack| ack.durable == 1).await;
    until(&process, "gridstep_upload_failing 1\n").await;
    assert!(s3.bucket().objects.is_empty());
    until_so("the refusal is told", async || process.log().contains("SignatureDoesNotMatch")).await;

    fs::write(&credentials, keys(SECRET)).unwrap();
    site.until_copied(&mut s3).await;
    until(&process, "gridstep_upload_pending_files 0\n").await;
    until(&process, "gridstep_upload_failing 0\n").await;
    until(&process, "gridstep_upload_oldest_pending_seconds 0\n").await;
    assert!(metric(&process, "gridstep_upload_files_total").await >= 5.0);
    assert!(metric(&process, "gridstep_upload_bytes_total").await > large.len() as f64);
    let told = process.log();
    assert!(
        told.contains("cannot be copied to the object store") && told.contains("are copied to the object store again"),
        "{told}"
    );
    for secret in [SECRET, "a-wrong-secret", KEY_ID] {
        assert!(!told.contains(secret), "{told}");
    }
    assert_eq!(s3.bucket().open, 0);
    process.kill();

    let process = Process::start(&file, &[]);
    let (mut agent, _) = Agent::join(process.grpc, "node1", 2).await;
    agent.send(Kind::Batch(everything(2, Micros::now().0))).await;
    agent.ack_until(|ack| ack.durable == 2).await;
    site.until_copied(&mut s3).await;
    until(&process, "gridstep_upload_pending_files 0\n").await;
    let mut objects = s3.bucket().objects;
    // It may be another one after each start.
    assert_eq!(objects.remove("fra1/a/topology.csv").map(|(times, _)| times), Some(2));
    // What was just there when the kill came and was not noted.
    let again: Vec<_> = objects.iter().filter(|(_, (times, _))| *times > 1).collect();
    assert!(again.len() <= 1, "{again:?}");
    process.terminate();
}

/// A store that is away: agents hear durable, retention keeps what waits whatever its age, but for want of room. When the store is
/// back all of it goes, and then what is too old.
#[tokio::test]
async fn a_store_that_is_away_stops_nothing() {
    let (site, mut s3) = (Site::new(), S3::start());
    s3.stop();
    let file = site.configure(&s3.endpoint(), "max_bytes = 1048576", "");
    for stamp in [1000, 2000] {
        site.write(&format!("power-{stamp}-0.parquet"), &[7; 600 << 10]);
    }
    let environment = format!("env AWS_ACCESS_KEY_ID={KEY_ID} AWS_SECRET_ACCESS_KEY={SECRET} AWS_REGION=eu-central-1");
    let wrapper: Vec<String> = environment.split(' ').map(str::to_owned).collect();
    let process = Process::start(&file, &wrapper);
    until(&process, "gridstep_upload_failing 1\n").await;
    let (mut agent, _) = Agent::join(process.grpc, "node1", 1).await;
    for sequence in 1..=3 {
        agent.send(Kind::Batch(batch(sequence))).await;
        agent.ack_until(|ack| ack.durable == sequence).await;
    }
    until(&process, "gridstep_upload_lost_files_total 1\n").await;
    let there = |stamp: u32| site.recording.join(format!("power-{stamp}-0.parquet")).exists();
    // The oldest one, unless it was just tried.
    assert!(there(1000) != there(2000));
    let kept = if there(1000) { 1000 } else { 2000 };
    for once in ["cannot be copied", "removed that are not", "Connection refused"] {
        assert_eq!(process.log().matches(once).count(), 1, "{once}: {}", process.log());
    }
    assert!(metric(&process, "gridstep_upload_pending_files").await >= 4.0);
    assert!(metric(&process, "gridstep_upload_pending_bytes").await > 600e3);
    assert!(metric(&process, "gridstep_upload_oldest_pending_seconds").await > 1e9);

    s3.run();
    site.until_copied(&mut s3).await;
    until(&process, "gridstep_upload_pending_files 0\n").await;
    assert!(s3.bucket().objects.contains_key(&format!("fra1/a/power-{kept}-0.parquet")));
    agent.send(Kind::Batch(batch(4))).await;
    agent.ack_until(|ack| ack.durable == 4).await;
    until_so("what is too old goes", async || !there(kept)).await;
    assert_eq!(samples(&site.recording, "power-").len(), 4 * 8);
    assert_eq!(metric(&process, "gridstep_upload_lost_files_total").await, 1.0);
    process.terminate();
}

/// A store that takes connections and never answers.
#[tokio::test]
async fn a_store_that_hangs_stops_nothing() {
    let (site, silent) = (Site::new(), TcpListener::bind("127.0.0.1:0").unwrap());
    let credentials = site.path("credentials");
    fs::write(&credentials, keys(SECRET)).unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let file = site.configure(&endpoint, "", &format!("credentials_file = {credentials:?}"));
    site.write("topology.csv", b"node,rack,feeder\n");
    let process = Process::start(&file, &[]);
    let asked = tokio::task::spawn_blocking(move || silent.accept().unwrap());
    let _asked = tokio::time::timeout(DEADLINE, asked).await.expect("it is asked").unwrap();
    let (mut agent, _) = Agent::join(process.grpc, "node1", 1).await;
    for sequence in 1..=3 {
        agent.send(Kind::Batch(batch(sequence))).await;
        agent.ack_until(|ack| ack.durable == sequence).await;
    }
    until_so("files wait", async || metric(&process, "gridstep_upload_pending_files").await >= 3.0).await;
    // It does not wait for what is on its way.
    process.terminate();
}
