use super::*;
use crate::spool::{Config, Level, Rest, Spool, SpoolMetrics};
use prometheus::Registry;
use proptest::prelude::*;

fn spool(config: &Config, rest: Rest) -> Spool {
    Spool::new(config, "n", 1, rest, &SpoolMetrics::new(&Registry::new()).unwrap()).unwrap()
}

fn memory(max_bytes: usize) -> Config {
    Config { max_bytes, directory: None, ..Config::default() }
}

fn batch(detail: &str) -> pb::Batch {
    pb::Batch { events: vec![pb::Event { detail: detail.into(), ..Default::default() }], ..Default::default() }
}

fn sequences(messages: &[Message]) -> Vec<u64> {
    messages.iter().filter_map(Message::sequence).collect()
}

proptest! {
    /// Whatever is pushed and acknowledged: nothing is lost that fits, order holds, the bound holds.
    #[test]
    fn keeps_the_newest_in_order(steps in proptest::collection::vec((1usize..400, 0u64..60), 1..120)) {
        let spool = spool(&memory(4000), Rest::default());
        let queue = &spool.queues()[0];
        let id = queue.begin().spool;
        let mut durable = 0;
        for (size, acknowledge) in steps {
            spool.push(batch(&"x".repeat(size)));
            durable = durable.max(acknowledge);
            queue.acknowledge(id, durable, durable);
            let level = spool.in_memory();
            prop_assert!(level.bytes <= 4000);
            let mut at = durable;
            let mut count = 0;
            while let Some(batch) = queue.after(id, at).unwrap() {
                prop_assert!(batch.sequence > at);
                prop_assert!(count == 0 || batch.sequence == at + 1);
                at = batch.sequence;
                count += 1;
            }
            prop_assert_eq!(count, level.batches);
        }
    }
}

/// The collector is away for as long as it takes eight GPUs to make an hour's batches, four a second: what does not fit is counted.
#[test]
fn an_hour_without_a_collector_and_a_disk_is_kept_or_counted() {
    const BATCHES: u64 = 4 * 3600;
    let config = Config { directory: None, ..Config::default() };
    let spool = spool(&config, Rest::default());
    let dropped: u64 = (0..BATCHES).map(|_| spool.push(batch(&"x".repeat(620))).dropped_batches).sum();
    let level = spool.in_memory();
    assert_eq!(level.batches as u64 + dropped, BATCHES);
    assert!(level.bytes <= config.max_bytes && level.batches as u64 > BATCHES / 2, "{level:?}");
    assert!(dropped > 0, "nothing had to go: nothing was tested");
    // What is left is the newest, in order.
    let queue = &spool.queues()[0];
    let first = queue.after(queue.begin().spool, 0).unwrap().unwrap().sequence;
    assert_eq!(first, dropped + 1);
}

#[tokio::test]
async fn delivered_is_what_was_received_or_discarded() {
    let spool = spool(&memory(4000), Rest::default());
    let queue = &spool.queues()[0];
    let id = queue.begin().spool;
    spool.push(batch("a"));
    assert!(!queue.asks_after(1), "more may come");
    queue.acknowledge(id, 1, 0);
    spool.delivered().await;
    spool.push(batch("b"));
    assert!(tokio::time::timeout(Duration::ZERO, spool.delivered()).await.is_err());
    assert_eq!([0, 1, 2].map(|sent| queue.asks_after(sent)), [false, false, true]);
    queue.discard(id, 2, Reason::TooLarge);
    spool.delivered().await;
    // A collector that starts anew may have lost what it did not make durable.
    queue.acknowledge(id, 0, 0);
    let acknowledged = async { queue.acknowledge(id, 2, 1) };
    tokio::join!(spool.delivered(), acknowledged);
    assert_eq!(spool.in_memory(), Level { batches: 0, bytes: 0 });
}

/// Writes what is due as the mover does.
async fn store(queue: &Queue) {
    queue.release(Instant::now());
    while let Some(load) = queue.due(Instant::now()) {
        let load = queue.disk.as_ref().unwrap().append(load).await.unwrap();
        queue.stored(&load);
    }
}

fn on_disk_at_once(directory: &std::path::Path) -> Config {
    Config { directory: Some(directory.into()), disk_after: Duration::ZERO, ..memory(1 << 20) }
}

/// A restart of the collector: a kill of the agent would cost nothing, and the numbering goes on.
#[tokio::test]
async fn a_collector_that_is_back_soon_gets_everything_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let spool = spool(&on_disk_at_once(folder.path()), Rest::default());
    let queue = &spool.queues()[0];
    let first = queue.begin();
    queue.set_connected(true);
    for detail in ["1", "2", "3"] {
        spool.push(batch(detail));
    }
    queue.acknowledge(first.spool, 2, 1);
    queue.set_connected(false);
    store(queue).await;
    spool.push(batch("x"));
    assert_eq!((spool.in_memory().batches, spool.level().batches), (3, 3), "two of them on disk too");
    let again = queue.begin();
    assert_eq!((again.spool, again.oldest_sequence), (first.spool, 2));
    queue.set_connected(true);
    assert_eq!(queue.oldest_backlog().await, None);
    for sequence in 2..=4 {
        assert_eq!(queue.after(first.spool, sequence - 1).unwrap().unwrap().sequence, sequence);
    }
    queue.acknowledge(first.spool, 4, 4);
    assert_eq!(spool.in_memory().batches, 0);
    // What was on disk is not brought again by a later stream, nor by a later agent.
    queue.set_connected(false);
    assert_eq!(queue.begin().spool, first.spool);
    assert_eq!((queue.disk.as_ref().unwrap().oldest(0).await, spool.level().batches), (None, 0));
    // But one that stays away does not let what is new wait.
    spool.push(batch("x"));
    store(queue).await;
    queue.release(Instant::now() + Config::default().backlog_after);
    assert_eq!(spool.in_memory().batches, 0);
    assert_ne!(queue.begin().spool, first.spool);
    assert_eq!(queue.oldest_backlog().await.unwrap().spool, first.spool);
}

#[tokio::test]
async fn a_generation_that_went_to_disk_is_followed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { backlog_after: Duration::ZERO, ..on_disk_at_once(folder.path()) };
    let spool = spool(&config, Rest::default());
    let queue = &spool.queues()[0];
    let first = queue.begin();
    assert_eq!(first.oldest_sequence, 1);
    queue.set_connected(true);
    for detail in ["1", "2", "3"] {
        spool.push(batch(detail));
    }
    store(queue).await;
    assert_eq!(spool.in_memory().batches, 3, "with a collector nothing goes to disk");
    queue.acknowledge(first.spool, 1, 1);
    queue.set_connected(false);
    store(queue).await;
    assert_eq!(spool.in_memory().batches, 0);
    assert!(queue.after(first.spool, 1).is_err(), "the stream would miss what is on disk");
    assert!(queue.after(first.spool, 3).unwrap().is_none(), "it would miss nothing");
    spool.push(batch("4"));
    let second = queue.begin();
    assert_ne!(second.spool, first.spool);
    queue.set_connected(true);
    assert_eq!(second.oldest_sequence, 5, "what was kept before is backlog, in memory too");
    assert!(queue.after(first.spool, 3).is_err());
    spool.push(batch("5"));
    let backlog = queue.oldest_backlog().await.unwrap();
    assert_eq!((backlog.spool, backlog.oldest_sequence), (first.spool, 2));
    let on_disk = queue.backlog(first.spool, 1, true).await;
    assert_eq!(sequences(&on_disk), [2, 3]);
    let in_memory = queue.backlog(first.spool, 3, false).await;
    assert_eq!(sequences(&in_memory), [4]);
    assert!(on_disk[0].declare.is_some() && in_memory[0].declare.is_some());
    store(queue).await;
    assert_eq!(sequences(&queue.backlog(first.spool, 3, false).await), [4], "what is backlog goes to disk at once");
    assert_eq!(spool.in_memory().batches, 1);
    queue.acknowledge(first.spool, 4, 4);
    assert_eq!(queue.oldest_backlog().await, None);
    assert_eq!(queue.after(second.spool, 4).unwrap().unwrap().sequence, 5);
}

/// A collector that takes everything and makes nothing durable: its disk is full, say.
#[tokio::test]
async fn what_was_received_goes_to_disk_when_memory_gets_short() {
    const MOST: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let config = Config { directory: Some(folder.path().into()), ..memory(MOST) };
    let spool = spool(&config, Rest::default());
    let queue = &spool.queues()[0];
    let id = queue.begin().spool;
    queue.set_connected(true);
    for sent in 1..=100 {
        assert_eq!(spool.push(batch(&"x".repeat(MOST / 20))).dropped_batches, 0);
        store(queue).await;
        assert_eq!(queue.after(id, sent - 1).unwrap().unwrap().sequence, sent, "the stream goes on");
        queue.acknowledge(id, sent, 0);
    }
    assert!(spool.in_memory().bytes <= MOST / 4 * 3 && spool.level().batches == 100);
    assert_eq!(queue.oldest_backlog().await, None, "it was sent");
    queue.acknowledge(id, 100, 100);
    assert!(queue.oldest_backlog().await.is_none() && spool.level().batches == 0);
    // What was not sent has a hole then, and goes over another stream.
    for _ in 0..18 {
        assert_eq!(spool.push(batch(&"x".repeat(MOST / 20))).dropped_batches, 0);
    }
    assert!(queue.after(id, 100).is_ok());
    store(queue).await;
    assert!(queue.after(id, 100).is_err());
    let backlog = queue.begin().spool;
    assert_ne!(backlog, id);
    assert_eq!(queue.oldest_backlog().await.unwrap().spool, id);
}

/// A reload, without a disk: ids begin anew, and what is kept has its own meaning.
#[tokio::test]
async fn another_spool_takes_over_what_is_in_memory() {
    let before = spool(&memory(1 << 20), Rest::default());
    let id = before.queues()[0].begin().spool;
    before.declare(pb::Declare { jobs: vec![pb::Job { id: 1, name: "old".into(), ..Default::default() }], ..Default::default() });
    before.push(batch("1"));
    before.push(batch("2"));
    before.queues()[0].acknowledge(id, 1, 1);
    let after = spool(&memory(1 << 20), before.take_rest());
    after.declare(pb::Declare { jobs: vec![pb::Job { id: 1, name: "new".into(), ..Default::default() }], ..Default::default() });
    after.push(batch("1"));
    let queue = &after.queues()[0];
    let backlog = queue.oldest_backlog().await.unwrap();
    assert_eq!((backlog.spool, backlog.oldest_sequence, backlog.node.as_str()), (id, 2, "n"));
    let messages = queue.backlog(id, 1, true).await;
    assert_eq!(messages[0].declare.as_ref().unwrap().jobs[0].name, "old");
    assert_eq!(sequences(&messages), [2]);
    assert_eq!(queue.begin().oldest_sequence, 1);
    queue.acknowledge(id, 2, 2);
    assert_eq!((queue.oldest_backlog().await, after.in_memory().batches), (None, 1));
}
