//! What is kept while there is no collector: it arrives once and in order, and what is new does not wait for it.

use crate::PATIENCE;
use crate::collector::{Arrival, Collector, Seen};
use crate::node::Node;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const ON_DISK: &str = "gridstep_agent_spool_batches{collector=\"first\",place=\"disk\"}";
const IN_MEMORY: &str = "gridstep_agent_spool_batches{collector=\"first\",place=\"memory\"}";
const FAILURES: &str = "gridstep_agent_spool_disk_failures_total{collector=\"first\"}";
/// Reconnecting, with its back-off, and what has to arrive then.
const RETURN: f64 = 3.0 * PATIENCE;

/// Batches go to disk after a second without a collector, for good, and from there to the collector as slowly as may be.
fn spooling(directory: &Path) -> String {
    let directory = directory.display();
    format!("[spool]\ndirectory = \"{directory}\"\ndisk_after = \"1s\"\nbacklog_after = \"1s\"\nreplay_bytes_per_second = 4096\n")
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join("first")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "segment")).collect();
    segments.sort_unstable();
    segments
}

/// Sequences by numbering, in the order in which they came first: a collector knows a batch that comes again.
fn taken(arrivals: &[Arrival]) -> BTreeMap<u64, Vec<u64>> {
    let mut known = BTreeSet::new();
    let mut taken: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for Arrival { spool, batch, .. } in arrivals {
        if known.insert((*spool, batch.sequence)) {
            taken.entry(*spool).or_default().push(batch.sequence);
        }
    }
    taken
}

/// The batches of one run of the agent from the first on: all came, each under one numbering, in order.
fn assert_whole(arrivals: &[Arrival]) {
    let taken = taken(arrivals);
    assert!(taken.values().all(|sequences| sequences.is_sorted()), "{taken:?}");
    assert!(is_gapless(arrivals), "{taken:?}");
}

fn is_gapless(arrivals: &[Arrival]) -> bool {
    let mut all: Vec<u64> = taken(arrivals).into_values().flatten().collect();
    all.sort_unstable();
    all == (1..=all.len() as u64).collect::<Vec<_>>()
}

fn sequence_of_last(seen: &Seen) -> u64 {
    seen.arrivals.iter().map(|arrival| arrival.batch.sequence).max().unwrap_or(0)
}

fn backlog(seen: &Seen) -> usize {
    seen.arrivals.iter().filter(|arrival| arrival.backlog).count()
}

#[tokio::test]
async fn what_is_new_does_not_wait_for_what_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start().await;
    let node = Node::start_with("", &collector.address, &spooling(folder.path()));
    collector.wait(PATIENCE, |seen| seen.sequences.len() >= 8).await;
    collector.go_away();
    node.shows(ON_DISK, |batches| batches >= 30.0).await;
    node.shows("gridstep_agent_spool_oldest_seconds{collector=\"first\"}", |age| age > 5.0).await;
    let before = collector.seen().arrivals.len();
    collector.come_back();
    collector.wait(RETURN, |seen| backlog(seen) >= 30).await;
    node.shows(ON_DISK, |batches| batches == 0.0).await;
    let seen = collector.wait(RETURN, |seen| is_gapless(&seen.arrivals)).await;
    assert_whole(&seen.arrivals);
    let after = &seen.arrivals[before..];
    let last_of_backlog = after.iter().rposition(|arrival| arrival.backlog).unwrap();
    let live_meanwhile = after[..last_of_backlog].iter().filter(|arrival| !arrival.backlog).count();
    assert!(live_meanwhile >= 4, "{live_meanwhile} live batches before the last of {last_of_backlog}");
    assert!(segments(folder.path()).is_empty());
    assert_eq!(
        node.shows("gridstep_agent_spool_replayed_batches_total{collector=\"first\"}", |_| true).await as usize,
        backlog(&seen)
    );
}

/// Short enough, and nothing is on disk alone: the numbering goes on.
#[tokio::test]
async fn a_moment_without_a_collector_is_bridged_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start().await;
    let slow = spooling(folder.path()).replace("backlog_after = \"1s\"", "backlog_after = \"60s\"");
    let node = Node::start_with("", &collector.address, &slow);
    collector.wait(PATIENCE, |seen| seen.sequences.len() >= 8).await;
    collector.go_away();
    node.shows(IN_MEMORY, |batches| batches >= 12.0).await;
    node.shows(ON_DISK, |batches| batches >= 8.0).await;
    collector.come_back();
    let last = sequence_of_last(&collector.seen());
    let seen = collector.wait(RETURN, |seen| sequence_of_last(seen) >= last + 12).await;
    assert_whole(&seen.arrivals);
    assert_eq!((taken(&seen.arrivals).len(), backlog(&seen)), (1, 0));
    node.shows(ON_DISK, |batches| batches == 0.0).await;
}

/// `mend` is done to the directory between the kill and the next run. Gives how many batches were on disk, and what arrived of them.
async fn killed(mend: impl Fn(&Path)) -> (u64, Vec<u64>, String) {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start().await;
    collector.go_away();
    let node = Node::start_with("", &collector.address, &spooling(folder.path()));
    let kept = node.shows(ON_DISK, |batches| batches >= 15.0).await as u64;
    drop(node);
    mend(folder.path());
    collector.come_back();
    let node = Node::start_with("", &collector.address, &spooling(folder.path()));
    collector.wait(RETURN, |seen| backlog(seen) > 0).await;
    node.shows(ON_DISK, |batches| batches == 0.0).await;
    let seen = collector.seen();
    let old: BTreeSet<u64> = seen.arrivals.iter().filter(|arrival| arrival.backlog).map(|arrival| arrival.spool).collect();
    assert_eq!(old.len(), 1, "one numbering until the kill");
    let taken = taken(&seen.arrivals);
    assert!(taken.len() == 2 && segments(folder.path()).is_empty());
    (kept, taken[old.first().unwrap()].clone(), node.log())
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_on_disk() {
    let (kept, arrived, _) = killed(|_| {}).await;
    assert!(arrived.len() as u64 >= kept);
    assert_eq!(arrived, (1..=arrived.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_torn_write_costs_what_was_torn() {
    let (kept, arrived, log) = killed(|directory| {
        let last = segments(directory).pop().unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&last).unwrap();
        file.set_len(file.metadata().unwrap().len() - 3).unwrap();
    })
    .await;
    assert!(arrived.len() as u64 >= kept - 1);
    assert_eq!(arrived, (1..=arrived.len() as u64).collect::<Vec<_>>());
    let said = log.lines().find(|line| line.contains("ends before its end")).unwrap();
    assert!(said.contains("0000000000.segment") && said.contains("byte "), "{said}");
}

#[tokio::test]
async fn a_stop_keeps_what_no_collector_has() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start().await;
    // Nothing goes to disk but at the end.
    let at_the_end = spooling(folder.path()).replace("1s", "60s");
    let mut node = Node::start_with("", &collector.address, &at_the_end);
    collector.wait(PATIENCE, |seen| seen.sequences.len() >= 8).await;
    collector.go_away();
    node.shows(IN_MEMORY, |batches| batches >= 12.0).await;
    node.signal("-TERM");
    node.ended().await;
    let first_run = collector.seen().hello.unwrap().spool;
    collector.come_back();
    let _node = Node::start_with("", &collector.address, &at_the_end);
    let stop = |arrival: &Arrival| arrival.backlog && arrival.batch.events.iter().any(|event| event.kind == "agent_stop");
    let seen = collector.wait(RETURN, |seen| seen.arrivals.iter().any(stop)).await;
    let arrivals: Vec<Arrival> = seen.arrivals.into_iter().filter(|arrival| arrival.spool == first_run).collect();
    assert_whole(&arrivals);
}

/// Be it the last of all.
#[tokio::test]
async fn a_backlog_that_is_too_large_for_the_collector_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start_narrow(10).await;
    collector.go_away();
    let node = Node::start_with("", &collector.address, &spooling(folder.path()));
    let kept = node.shows(ON_DISK, |batches| batches >= 8.0).await;
    collector.come_back();
    node.shows(ON_DISK, |batches| batches == 0.0).await;
    let dropped = "gridstep_agent_batches_dropped_total{collector=\"first\",reason=\"too_large\"}";
    node.shows(dropped, |dropped| dropped >= kept).await;
}

/// With a disk or without: what the collector has not acknowledged goes over into the next configuration.
#[tokio::test]
async fn a_reload_keeps_what_no_collector_has() {
    let folder = tempfile::tempdir().unwrap();
    for spool in [String::new(), spooling(folder.path()).replace("1s", "60s")] {
        let collector = Collector::start().await;
        let node = Node::start_with("", &collector.address, &spool);
        collector.wait(PATIENCE, |seen| seen.sequences.len() >= 8).await;
        collector.go_away();
        node.shows(IN_MEMORY, |batches| batches >= 12.0).await;
        let first = collector.seen().hello.unwrap().spool;
        node.signal("-HUP");
        node.says("agent starts", 2).await;
        assert_eq!(node.log().contains("batches are left in memory"), spool.is_empty());
        collector.come_back();
        let stop = |arrival: &Arrival| arrival.backlog && arrival.batch.events.iter().any(|event| event.kind == "agent_stop");
        let seen = collector.wait(RETURN, |seen| seen.arrivals.iter().any(stop)).await;
        let arrivals: Vec<Arrival> = seen.arrivals.iter().filter(|arrival| arrival.spool == first).cloned().collect();
        assert_whole(&arrivals);
        assert_eq!(seen.refusals, 0, "ids have the meaning that they had");
        assert!(!node.log().contains("cannot be used"), "the directory is free again");
    }
}

/// Opening a pipe that nobody reads takes for ever, as anything does on a disk that is gone.
#[tokio::test]
async fn a_disk_that_hangs_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("first")).unwrap();
    let lock = folder.path().join("first/lock");
    assert!(std::process::Command::new("mkfifo").arg(&lock).status().unwrap().success());
    let collector = Collector::start().await;
    let mut node = Node::start_with("", &collector.address, &spooling(folder.path()));
    collector.wait(PATIENCE, |seen| seen.sequences.len() >= 8).await;
    collector.go_away();
    node.says("the spool's disk does not answer", 1).await;
    collector.come_back();
    let last = sequence_of_last(&collector.seen());
    let seen = collector.wait(RETURN, |seen| sequence_of_last(seen) >= last + 40).await;
    assert_whole(&seen.arrivals);
    assert_eq!((taken(&seen.arrivals).len(), backlog(&seen)), (1, 0));
    node.signal("-TERM");
    assert!(node.ended().await.1 < crate::stopping::GONE);
}

/// A collector that was away returns; everything was kept, in memory as far as the disk did not take it.
async fn bridged_with(program: &[&str], directory: &Path) -> (Seen, String) {
    let collector = Collector::start().await;
    let node = Node::start_under(program, "", &collector.address, &spooling(directory));
    collector.wait(PATIENCE, |seen| seen.sequences.len() >= 8).await;
    collector.go_away();
    node.shows(FAILURES, |failures| failures >= 1.0).await;
    node.shows(IN_MEMORY, |batches| batches >= 20.0).await;
    let last = sequence_of_last(&collector.seen());
    collector.come_back();
    collector.wait(RETURN, |seen| seen.sequences.iter().any(|sequence| *sequence > last + 20)).await;
    node.shows(ON_DISK, |batches| batches == 0.0).await;
    // What of the backlog was in memory comes last.
    let seen = collector.wait(RETURN, |seen| is_gapless(&seen.arrivals)).await;
    assert_whole(&seen.arrivals);
    (seen, node.log())
}

#[tokio::test]
async fn a_directory_that_cannot_be_is_said_and_memory_does() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let (seen, log) = bridged_with(&[], &folder.path().join("file")).await;
    assert_eq!((taken(&seen.arrivals).len(), backlog(&seen)), (1, 0));
    assert_eq!(log.matches("cannot be used").count(), 1, "{log}");
    assert_eq!(log.matches("cannot be written to disk").count(), 1, "{log}");
}

/// The agent with a file system of its own at the directory, mounted with these options. None: this user may not mount.
fn mounting(directory: &Path, options: &str) -> Option<Vec<String>> {
    let mount = format!("mount -t tmpfs -o {options} spool {} && exec \"$@\"", directory.display());
    let words = ["unshare", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"].map(str::to_owned);
    let status = std::process::Command::new(&words[0]).args(&words[1..]).arg("true").status();
    let can = status.is_ok_and(|status| status.success());
    if !can {
        println!("not checked: this user may not mount");
    }
    can.then(|| words.into())
}

#[tokio::test]
async fn a_full_disk_takes_what_it_can_and_memory_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = mounting(folder.path(), "size=32k") else { return };
    let program: Vec<&str> = program.iter().map(String::as_str).collect();
    let (seen, log) = bridged_with(&program, folder.path()).await;
    assert!(backlog(&seen) >= 20, "what was on disk, and what came behind it");
    assert_eq!(log.matches("cannot be written to disk").count(), 1, "{log}");
}

#[tokio::test]
async fn a_read_only_disk_is_said_and_memory_does() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = mounting(folder.path(), "ro") else { return };
    let program: Vec<&str> = program.iter().map(String::as_str).collect();
    let (seen, log) = bridged_with(&program, folder.path()).await;
    assert_eq!(backlog(&seen), 0);
    assert!(log.contains("Read-only file system"), "{log}");
}

#[tokio::test]
async fn both_collectors_get_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Collector::start().await, Collector::start().await);
    let both = format!("mode = \"both\"\n[uplink.second]\nendpoint = \"{}\"\n", second.address);
    let node = Node::start_with("", &first.address, &format!("{both}{}", spooling(folder.path())));
    for collector in [&first, &second] {
        collector.wait(PATIENCE, |seen| seen.sequences.len() >= 8).await;
    }
    // One without the other.
    second.go_away();
    let second_on_disk = ON_DISK.replace("first", "second");
    node.shows(&second_on_disk, |batches| batches >= 10.0).await;
    assert_eq!(node.shows("gridstep_agent_uplink_connected", |_| true).await, 0.0);
    assert_eq!(node.shows(ON_DISK, |_| true).await, 0.0);
    second.come_back();
    let last = sequence_of_last(&first.seen());
    for collector in [&first, &second] {
        collector.wait(RETURN, |seen| sequence_of_last(seen) > last + 8).await;
    }
    node.shows(&second_on_disk, |batches| batches == 0.0).await;
    let (first, second) = (first.seen(), second.seen());
    assert_whole(&first.arrivals);
    assert_whole(&second.arrivals);
    assert!(backlog(&first) == 0 && backlog(&second) >= 10 && first.streams == 1);
    assert!(!first.hello.unwrap().shared);
}

#[tokio::test]
async fn the_second_stands_in_while_the_first_is_away() {
    let (first, second) = (Collector::start().await, Collector::start().await);
    let standby = format!("mode = \"standby\"\n[uplink.second]\nendpoint = \"{}\"\n", second.address);
    let node = Node::start_with("", &first.address, &standby);
    first.wait(PATIENCE, |seen| seen.sequences.len() >= 8).await;
    assert_eq!(second.seen().streams, 0);
    first.go_away();
    let seen = second.wait(RETURN, |seen| seen.sequences.len() >= 12).await;
    assert!(seen.hello.unwrap().shared);
    let before = first.seen().streams;
    first.come_back();
    let last = sequence_of_last(&second.seen());
    first.wait(RETURN, |seen| seen.streams > before && sequence_of_last(seen) > last + 8).await;
    let arrivals = [first.seen().arrivals, second.seen().arrivals].concat();
    let mut all: Vec<u64> = arrivals.iter().map(|arrival| arrival.batch.sequence).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>(), "what one does not have, the other has");
    assert!(node.log().contains("the first collector answers again"));
}
