//! Against a store in memory: what is copied, and how often.

use super::*;
use crate::metrics::Metrics;
use object_store::memory::InMemory;
use std::fs;
use tokio::task::AbortHandle;
use tokio_stream::StreamExt;

const DEADLINE: Duration = Duration::from_secs(20);

struct Place {
    folder: tempfile::TempDir,
    store: Arc<InMemory>,
    metrics: UploadMetrics,
}

/// Ends with the value.
struct Running(Shelf, AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.1.abort();
    }
}

impl Place {
    fn new() -> Self {
        let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(InMemory::new()));
        Self { folder, store, metrics: Metrics::new().unwrap().recorder.upload }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    fn run(&self) -> Running {
        let mut shelf = Shelf::open(self.folder.path()).unwrap();
        let (store, metrics) = (self.store.clone(), self.metrics.clone());
        let upload = Upload::with(store, "site/a".into(), "s3://here/", self.folder.path(), &mut shelf, metrics).unwrap();
        Running(shelf, tokio::spawn(upload.run()).abort_handle())
    }

    async fn until(&self, what: &str, is_so: impl Fn(&UploadMetrics) -> bool) {
        let seen = async {
            while !is_so(&self.metrics) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(DEADLINE, seen).await.is_ok(), "{what}: {:?}", self.metrics);
    }

    async fn stored(&self) -> Vec<String> {
        let objects: Vec<_> = self.store.list(None).collect().await;
        let mut names: Vec<String> = objects.into_iter().map(|object| object.unwrap().location.to_string()).collect();
        names.sort();
        names
    }

    async fn content(&self, name: &str) -> Vec<u8> {
        let key = Key::from(format!("site/a/{name}"));
        self.store.get(&key).await.unwrap().bytes().await.unwrap().to_vec()
    }
}

#[tokio::test]
async fn closed_files_are_copied_once() {
    let place = Place::new();
    for name in
        ["power-5-0.parquet", "state-5-0.json", "late-gpu-5-0.parquet", "power-7-0.parquet.aside", "recorder.journal", TOPOLOGY]
    {
        place.write(name, name);
    }
    let mut running = place.run();
    place.until("all is copied", |metrics| metrics.files.get() == 3).await;
    let first = ["late-gpu-5-0.parquet", "power-5-0.parquet", "state-5-0.json", TOPOLOGY].map(|name| format!("site/a/{name}"));
    assert_eq!(place.stored().await, first);
    assert_eq!(place.content("state-5-0.json").await, b"state-5-0.json");
    place.write("power-8-0.parquet", "new");
    running.0.add("power-8-0.parquet", 3);
    place.until("what is new is copied", |metrics| metrics.files.get() == 4 && metrics.pending_files.get() == 0).await;
    assert_eq!(place.metrics.bytes.get(), 20 + 17 + 14 + 3);
    drop(running);

    // Another one begins with what is there.
    place.write("power-9-0.parquet", "later");
    let _running = place.run();
    place.until("what is new is copied", |metrics| metrics.files.get() == 5).await;
    place.until("nothing waits", |metrics| metrics.pending_files.get() == 0).await;
    assert_eq!((place.metrics.files.get(), place.metrics.failures.get(), place.metrics.lost_files.get()), (5, 0, 0));
}

#[tokio::test]
async fn large_files_go_in_parts() {
    let place = Place::new();
    let content = |bytes: usize| -> Vec<u8> { (0..bytes).map(|at| (at / 1000) as u8).collect() };
    let sizes = [PART_BYTES - 1, PART_BYTES, 2 * PART_BYTES + 3];
    for (stamp, bytes) in sizes.into_iter().enumerate() {
        place.write(&format!("gpu-{stamp}-0.parquet"), content(bytes));
    }
    let _running = place.run();
    place.until("all is copied", |metrics| metrics.files.get() == 3).await;
    for (stamp, bytes) in sizes.into_iter().enumerate() {
        assert!(place.content(&format!("gpu-{stamp}-0.parquet")).await == content(bytes), "{bytes} bytes");
    }
    assert_eq!(place.metrics.bytes.get(), sizes.iter().sum::<usize>() as u64);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_holds_up_no_other() {
    let place = Place::new();
    let unreadable = place.folder.path().join("power-1-0.parquet");
    fs::create_dir(&unreadable).unwrap();
    place.write("power-2-0.parquet", "2");
    place.write("power-3-0.parquet", "3");
    let _running = place.run();
    place.until("the others are copied", |metrics| metrics.files.get() == 2).await;
    place.until("it is tried on", |metrics| metrics.failures.get() >= 2 && metrics.pending_files.get() == 1).await;
    assert_eq!((place.metrics.failing.get(), place.metrics.lost_files.get()), (1, 0));
    assert!(place.metrics.oldest_pending_seconds.get() > 1e9, "it is of 1970");
    // Somebody takes it away.
    fs::remove_dir(&unreadable).unwrap();
    place.until("it is lost", |metrics| metrics.lost_files.get() == 1 && metrics.pending_files.get() == 0).await;
    assert_eq!(place.metrics.failing.get(), 0);
}
