use super::super::queue::{Kept, Meaning};
use super::*;
use proptest::prelude::*;
use prost::Message as _;
use std::collections::BTreeSet;
use std::sync::LazyLock;

const HOUR: Duration = Duration::from_secs(3600);

fn open(directory: &Path, max_bytes: u64) -> Store {
    Store::open(directory, Limits { max_bytes, max_age: HOUR }, QueueMetrics::unregistered()).unwrap()
}

fn batch(sequence: u64, size: usize) -> Kept {
    let event = pb::Event { detail: "x".repeat(size), ..Default::default() };
    let column = pb::Column { metric: 1, delta: vec![1, 2, 3], ..Default::default() };
    let block = pb::Block { columns: vec![column], ..Default::default() };
    let batch =
        pb::Batch { sequence, base_us: 1000 + sequence as i64, events: vec![event], blocks: vec![block], ..Default::default() };
    Kept { sequence, samples: 3, bytes: batch.encode_to_vec().into(), at: tokio::time::Instant::now() }
}

fn load(spool: u64, sequences: impl IntoIterator<Item = u64>, size: usize) -> Load {
    let hello = pb::Hello { node: "n".into(), spool, ..Default::default() };
    static DECLARED: LazyLock<Arc<pb::Declare>> = LazyLock::new(|| {
        let jobs = vec![pb::Job { id: 1, name: "job".into(), ..Default::default() }];
        Arc::new(pb::Declare { jobs, ..Default::default() })
    });
    let declared = DECLARED.clone();
    let batches = sequences.into_iter().map(|sequence| batch(sequence, size)).collect();
    Load { meaning: Meaning { hello, declared }, batches }
}

/// Everything of a numbering after `sequence`, as a stream that begins would send it.
fn read_all(store: &mut Store, spool: u64, mut sequence: u64) -> Vec<u64> {
    let mut sequences = Vec::new();
    let mut rewind = true;
    let mut declared = false;
    loop {
        let messages = store.read(spool, sequence, rewind);
        if messages.is_empty() {
            return sequences;
        }
        rewind = false;
        for message in messages {
            declared |= message.declare.is_some();
            if let Some(next) = message.sequence() {
                assert!(declared, "a batch before anything is declared");
                sequences.push(next);
                sequence = next;
            }
        }
    }
}

fn segments(directory: &Path) -> usize {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".segment")).count()
}

#[test]
fn what_is_appended_is_read_in_order_by_the_next_run_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), 1 << 30);
    let now = SystemTime::now();
    for sequence in (1..200).step_by(10) {
        store.append(&load(7, sequence..sequence + 10, 10_000), now).unwrap();
    }
    store.append(&load(8, 201..205, 10), now).unwrap();
    assert!(segments(folder.path()) >= 3, "two for the first numbering, as one is full");
    assert_eq!(store.oldest(0).unwrap().spool, 7);
    assert_eq!(store.oldest(7).unwrap(), pb::Hello { node: "n".into(), spool: 8, oldest_sequence: 201, ..Default::default() });
    let whole: Vec<u64> = (1..=200).collect();
    assert_eq!(read_all(&mut store, 7, 0), whole);
    // A stream that broke and begins again.
    assert_eq!(read_all(&mut store, 7, 77), whole[77..]);
    assert_eq!(store.oldest_us(), Some(1001));
    let level = |store: &Store| (store.metrics.disk_batches.get(), store.metrics.disk_bytes.get(), store.oldest_us());
    let before = level(&store);
    drop(store);
    let mut store = open(folder.path(), 1 << 30);
    assert_eq!(level(&store), before);
    assert_eq!((read_all(&mut store, 7, 0), read_all(&mut store, 8, 0)), (whole, (201..205).collect()));
    store.append(&load(9, [1], 10), now).unwrap();
    assert_eq!(read_all(&mut store, 9, 0), [1]);
}

/// One load may come twice: the answer to the first was not heard.
#[test]
fn what_is_there_is_not_kept_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), 1 << 30);
    store.append(&load(7, 1..5, 10), SystemTime::now()).unwrap();
    store.append(&load(7, 3..8, 10), SystemTime::now()).unwrap();
    assert_eq!(read_all(&mut store, 7, 0), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(store.metrics.disk_batches.get(), 7);
}

#[test]
fn a_segment_goes_when_all_of_it_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), 1 << 30);
    for sequence in 1..=4 {
        store.append(&load(7, [sequence], 600_000), SystemTime::now()).unwrap();
    }
    store.append(&load(8, 5..7, 10), SystemTime::now()).unwrap();
    assert_eq!(segments(folder.path()), 3);
    store.durable(7, 1);
    assert_eq!(segments(folder.path()), 3);
    store.durable(7, 3);
    assert_eq!((segments(folder.path()), store.oldest(0).unwrap().oldest_sequence), (2, 3));
    store.durable(8, 100);
    store.append(&load(8, 9..11, 10), SystemTime::now()).unwrap();
    assert_eq!(read_all(&mut store, 8, 0), [9, 10]);
    store.durable(7, 4);
    store.durable(8, 10);
    assert_eq!((segments(folder.path()), store.oldest(0), store.oldest_us()), (0, None, None));
}

#[test]
fn the_oldest_make_room_and_are_counted() {
    const MOST: u64 = 64 << 10;
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), MOST);
    for sequence in 1..=100 {
        store.append(&load(7, [sequence], 2000), SystemTime::now()).unwrap();
        let bytes = store.metrics.disk_bytes.get() as u64;
        // The head of a segment is written on top.
        assert!(bytes <= MOST + 200, "{bytes}");
    }
    let kept = read_all(&mut store, 7, 0);
    assert!(kept.len() > 20);
    assert_eq!(kept, (101 - kept.len() as u64..=100).collect::<Vec<_>>());
    assert_eq!(store.metrics.dropped(Reason::DiskFull), 100 - kept.len() as u64);
}

#[test]
fn what_is_too_old_goes_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), 1 << 30);
    let now = SystemTime::now();
    store.append(&load(7, 1..4, 10), now - 2 * HOUR).unwrap();
    store.append(&load(8, 4..6, 10), now).unwrap();
    store.expire(now);
    assert_eq!(store.metrics.dropped(Reason::TooOld), 3);
    assert_eq!(store.oldest(0).unwrap().spool, 8);
}

/// Simulated time: the collector is away for an hour, in which eight GPUs make four batches a second.
#[test]
fn an_hour_without_a_collector_is_kept_on_disk() {
    const SECONDS: u64 = 3600;
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), 1 << 30);
    let start = SystemTime::now();
    for second in 0..SECONDS {
        let now = start + Duration::from_secs(second);
        store.append(&load(7, 4 * second + 1..4 * second + 5, 550), now).unwrap();
        store.expire(now);
    }
    assert_eq!(read_all(&mut store, 7, 0), (1..=4 * SECONDS).collect::<Vec<_>>());
    assert_eq!(store.metrics.dropped(Reason::TooOld) + store.metrics.dropped(Reason::DiskFull), 0);
    // A quarter of an hour later the oldest quarter is older than an hour, give or take a segment.
    store.expire(start + Duration::from_secs(SECONDS + SECONDS / 4));
    let kept = read_all(&mut store, 7, 0).len() as u64;
    assert_eq!(kept + store.metrics.dropped(Reason::TooOld), 4 * SECONDS);
    assert!(kept >= 3 * SECONDS, "{kept} are left");
}

#[test]
fn a_directory_has_one_agent() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path(), 1 << 30);
    let limits = Limits { max_bytes: 1 << 30, max_age: HOUR };
    let error = Store::open(folder.path(), limits, QueueMetrics::unregistered()).unwrap_err();
    assert_eq!(error.to_string(), "another agent uses it");
}

/// As a write that a kill or a loss of power has torn, wherever.
#[test]
fn a_segment_cut_anywhere_gives_what_is_whole_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0000000000.segment");
    let mut store = open(folder.path(), 1 << 30);
    let mut ends = vec![0];
    for sequence in 1..=6 {
        store.append(&load(7, [sequence], 20), SystemTime::now()).unwrap();
        ends.push(fs::metadata(&path).unwrap().len());
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() as u64 {
        for filled in [0, 40] {
            // A file system may have made the file longer than what it had written.
            let mut torn = whole[..cut as usize].to_vec();
            torn.resize(torn.len() + filled, 0);
            fs::write(&path, &torn).unwrap();
            let mut store = open(folder.path(), 1 << 30);
            let good = ends.iter().rposition(|&end| end <= cut).unwrap() as u64;
            assert_eq!(read_all(&mut store, 7, 0), (1..=good).collect::<Vec<_>>(), "cut at {cut}");
            if good > 0 {
                assert_eq!(store.metrics.lost_bytes.get(), torn.len() as u64 - ends[good as usize], "cut at {cut}");
            }
            // And goes on.
            store.append(&load(8, [1], 20), SystemTime::now()).unwrap();
            assert_eq!(read_all(&mut store, 8, 0), [1]);
            drop(store);
            fs::read_dir(folder.path()).unwrap().for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
        }
    }
}

/// Bytes go bad under a run that has looked through the file already.
#[test]
fn damage_that_shows_late_ends_the_segment_and_not_the_spool() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), 1 << 30);
    let path = folder.path().join("0000000000.segment");
    store.append(&load(7, 1..4, 10), SystemTime::now()).unwrap();
    let good = fs::metadata(&path).unwrap().len() as usize;
    store.append(&load(7, 4..9, 10), SystemTime::now()).unwrap();
    store.append(&load(8, 9..11, 10), SystemTime::now()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[good + 10] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(read_all(&mut store, 7, 0), [1, 2, 3]);
    assert_eq!(store.metrics.lost_bytes.get() as usize, bytes.len() - good);
    store.durable(7, 3);
    assert_eq!(read_all(&mut store, 8, 0), [9, 10]);
    assert_eq!(segments(folder.path()), 1);
    // A file that is gone altogether.
    fs::remove_file(folder.path().join("0000000001.segment")).unwrap();
    assert!(read_all(&mut store, 8, 0).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever bytes go bad: nothing panics, and what is read was written, in its order.
    #[test]
    fn bytes_that_went_bad_never_panic(flips in proptest::collection::vec((0usize..4000, 1u8..), 1..6), cut in 0usize..4000) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path(), 1 << 30);
        (1..=20).for_each(|sequence| store.append(&load(7, [sequence], 40), SystemTime::now()).unwrap());
        drop(store);
        let path = folder.path().join("0000000000.segment");
        let mut bytes = fs::read(&path).unwrap();
        let length = bytes.len();
        flips.iter().for_each(|(at, mask)| bytes[at % length] ^= mask);
        bytes.truncate(length - cut % length);
        fs::write(&path, &bytes).unwrap();
        let mut store = open(folder.path(), 1 << 30);
        let read = read_all(&mut store, 7, 0);
        prop_assert!(read.is_sorted() && read.iter().all(|sequence| (1..=20).contains(sequence)));
        prop_assert_eq!(read.len(), read.iter().collect::<BTreeSet<_>>().len());
    }

    /// Whatever is appended, called durable and read, over restarts: nothing is lost, nothing comes twice, order holds.
    #[test]
    fn nothing_is_lost_over_restarts(steps in proptest::collection::vec((0u8..4, 1u64..40), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path(), 1 << 30);
        let (mut last, mut spool, mut durable) = (0, 1, 0);
        let mut kept: Vec<(u64, u64)> = Vec::new();
        for (step, count) in steps {
            match step {
                0 => {
                    drop(store);
                    store = open(folder.path(), 1 << 30);
                    spool += 1;
                }
                1 => {
                    durable = durable.max(last - last.min(count));
                    (1..=spool).for_each(|spool| store.durable(spool, durable));
                }
                _ => {
                    store.append(&load(spool, last + 1..=last + count, 5000), SystemTime::now()).unwrap();
                    kept.extend((last + 1..=last + count).map(|sequence| (spool, sequence)));
                    last += count;
                }
            }
            for spool in 1..=spool {
                let expected: Vec<u64> = kept.iter().filter(|batch| batch.0 == spool && batch.1 > durable).map(|batch| batch.1).collect();
                prop_assert_eq!(read_all(&mut store, spool, durable), expected);
            }
        }
    }
}
