//! recorder ─▶ **upload** ─▶ an object store
//!
//! Closed files are copied to an S3-compatible store under the names that they have, the oldest first, one at a time, large ones in
//! parts. The folder is the spool: what cannot be copied is tried again for as long as it is there, and [`Pending`] keeps the
//! recorder's retention from removing it before. What is there already is known from a list beside the files ([`ledger`]), so a
//! restart copies nothing twice, and needs to ask nobody.
//!
//! Nobody waits for it: the recorder adds names to a set, and this task takes from it. What is durable is durable without it.

mod client;
mod config;
mod credentials;
mod fault;
mod ledger;
mod pending;

pub use config::UploadConfig;
pub(super) use fault::UploadError;
pub(super) use pending::Pending;

use super::chain;
use super::shelf::{Shelf, Shelved};
use crate::metrics::UploadMetrics;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use fault::Refusal;
use gridstep_wire::Micros;
use ledger::Ledger;
use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::time::sleep;
use tracing::{debug, info, warn};

/// As much of a file is in memory. S3 wants at least 5 MiB, some of its kind all of the same size, and none more than 10,000 of them: a
/// file of 80 GiB.
const PART_BYTES: usize = 8 << 20;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often is told what waits.
const TELL: Duration = Duration::from_secs(1);
/// It lies beside the rows, and is there anew at each start.
const TOPOLOGY: &str = "topology.csv";

/// Copies what is closed.
#[derive(Debug)]
pub(crate) struct Upload {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    folder: PathBuf,
    pending: Arc<Pending>,
    ledger: Ledger,
    metrics: UploadMetrics,
    /// While it fails.
    pauses: Option<ExponentialBackoff>,
}

impl Upload {
    /// None: there is nowhere to copy to. From here on the shelf keeps what is not copied.
    pub(super) fn prepare(
        config: &UploadConfig,
        folder: &Path,
        shelf: &mut Shelf,
        metrics: UploadMetrics,
    ) -> Result<Option<Self>, UploadError> {
        let Some((bucket, prefix)) = config.place() else { return Ok(None) };
        let store = client::open(config, bucket)?;
        let prefix = Key::parse(prefix).unwrap_or_default();
        let destination = config.destination();
        Self::with(store, prefix, &destination, folder, shelf, metrics).map(Some)
    }

    fn with(
        store: Arc<dyn ObjectStore>,
        prefix: Key,
        destination: &str,
        folder: &Path,
        shelf: &mut Shelf,
        metrics: UploadMetrics,
    ) -> Result<Self, UploadError> {
        let (ledger, copied) = Ledger::open(folder, destination)?;
        let pending = shelf.hold(|name| copied.contains(name));
        Ok(Self { store, prefix, folder: folder.into(), pending, ledger, metrics, pauses: None })
    }

    /// For as long as the collector runs.
    pub(crate) async fn run(self) {
        let (pending, metrics) = (self.pending.clone(), self.metrics.clone());
        tokio::join!(self.copy(), tell(&pending, &metrics));
    }

    async fn copy(mut self) {
        let mut is_topology_due = self.folder.join(TOPOLOGY).exists();
        loop {
            if is_topology_due {
                let copied = self.put(TOPOLOGY).await;
                is_topology_due = copied.is_err();
                self.pause(copied.err()).await;
            }
            let file = self.pending.next().await;
            let fault = self.step(file).await.err();
            self.pause(fault).await;
        }
    }

    async fn step(&mut self, file: Shelved) -> Result<(), UploadError> {
        let bytes = match self.put(&file.name).await {
            Ok(bytes) => bytes,
            Err(UploadError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
                // Somebody else has moved it elsewhere.
                debug!(file = file.name, "a recorded file is gone before it was copied");
                self.metrics.lost_files.inc_by(1);
                self.pending.release(file);
                return Ok(());
            }
            Err(fault) => {
                self.pending.failed(&file);
                return Err(fault);
            }
        };
        self.metrics.files.inc_by(1);
        self.metrics.bytes.inc_by(bytes);
        self.ledger.note(&file.name).await;
        self.pending.release(file);
        Ok(())
    }

    /// After a fault, longer each time. Says when it begins to fail, and when it goes again.
    async fn pause(&mut self, fault: Option<UploadError>) {
        let Some(fault) = fault else {
            if self.pauses.take().is_some() {
                info!("recorded files are copied to the object store again");
                self.metrics.failing.set(0);
            }
            return;
        };
        self.metrics.failures.inc();
        self.metrics.failing.set(1);
        if self.pauses.is_none() {
            warn!(fault = %chain(&fault), "recorded files cannot be copied to the object store, trying on");
        }
        debug!(fault = %chain(&fault), "a recorded file is not copied");
        sleep(self.pauses.get_or_insert_with(backoff).next().unwrap_or(LONGEST_PAUSE)).await;
    }

    /// Gives its size. In the store it is whole or not at all.
    async fn put(&self, name: &str) -> Result<u64, UploadError> {
        let read = |source| UploadError::Read { file: name.into(), source };
        let put = |error| UploadError::Put { file: name.into(), source: Refusal::new(&error) };
        let mut file = File::open(self.folder.join(name)).await.map_err(read)?;
        let first = part(&mut file).await.map_err(read)?;
        let key = self.prefix.clone().join(name);
        if first.len() < PART_BYTES {
            let bytes = first.len() as u64;
            self.store.put(&key, PutPayload::from(first)).await.map_err(put)?;
            return Ok(bytes);
        }
        let mut upload = self.store.put_multipart(&key).await.map_err(put)?;
        let sent = send(upload.as_mut(), first, &mut file, name).await;
        if sent.is_err() {
            // What stays is in no object, and goes by a rule of the bucket's.
            let _ = upload.abort().await;
        }
        sent
    }
}

/// All parts, and the end.
async fn send(upload: &mut dyn MultipartUpload, first: Vec<u8>, file: &mut File, name: &str) -> Result<u64, UploadError> {
    let put = |error| UploadError::Put { file: name.into(), source: Refusal::new(&error) };
    let (mut bytes, mut next) = (0, first);
    while !next.is_empty() {
        bytes += next.len() as u64;
        upload.put_part(PutPayload::from(next)).await.map_err(put)?;
        next = part(file).await.map_err(|source| UploadError::Read { file: name.into(), source })?;
    }
    upload.complete().await.map_err(put)?;
    Ok(bytes)
}

/// Empty at the end.
async fn part(file: &mut File) -> std::io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata().await?.len()).unwrap_or(PART_BYTES);
    let mut bytes = Vec::with_capacity(PART_BYTES.min(length + 1));
    let mut file = file.take(PART_BYTES as u64);
    // Where there is no room any more for finding that nothing follows it would take twice as much.
    while bytes.len() < PART_BYTES && file.read_buf(&mut bytes).await? > 0 {}
    Ok(bytes)
}

/// What waits, and since when.
async fn tell(pending: &Pending, metrics: &UploadMetrics) {
    let mut ticks = tokio::time::interval(TELL);
    loop {
        ticks.tick().await;
        let standing = pending.standing();
        metrics.pending_files.set(standing.files as i64);
        metrics.pending_bytes.set(standing.bytes as i64);
        metrics.oldest_pending_seconds.set(standing.oldest.map_or(0.0, |stamp| Micros::now().since(Micros(stamp)).max(0.0)));
    }
}

fn backoff() -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE);
    builder.with_jitter().without_max_times().build()
}

#[cfg(test)]
mod tests;
