//! The end of the agent: what was gathered gets to the collector, and nothing holds the agent up.

use crate::collector::Collector;
use crate::node::Node;
use crate::{PATIENCE, power_rows};

/// The agent gives itself 1.5 s, and is to be gone after 2. Twice that, lest a busy machine fail the test.
pub(crate) const GONE: f64 = 4.0;

#[tokio::test]
async fn what_was_gathered_is_sent_before_the_end() {
    for signal in ["-TERM", "-INT"] {
        let collector = Collector::start().await;
        let mut node = Node::start("", &collector.address);
        collector.wait(PATIENCE, |seen| power_rows(seen) >= 8 * 10).await;
        node.signal(signal);
        let (status, took) = node.ended().await;
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(took < GONE, "{signal}: {took} s");
        // The collector had acknowledged it before the agent ended: there is nothing to wait for.
        let seen = collector.seen();
        let whole: Vec<u64> = (1..=seen.sequences.len() as u64).collect();
        assert_eq!(seen.sequences, whole);
        let last = seen.batches().last().unwrap();
        assert!(last.events.iter().any(|event| event.kind == "agent_stop"), "{signal}: {last:?}");
        assert_eq!(seen.event("driver_hung", 0), None, "{signal}: the end of the reader is no fault");
    }
}

/// A collector says how far it is once a second; one that stops has no time for that.
#[tokio::test]
async fn an_agent_that_stops_asks_how_far_the_collector_is() {
    let collector = Collector::start().await;
    let mut node = Node::start("", &collector.address);
    collector.wait(PATIENCE, |seen| power_rows(seen) >= 8 * 10).await;
    collector.be_terse();
    node.signal("-TERM");
    assert_eq!(node.ended().await.0.code(), Some(0));
    let seen = collector.seen();
    assert!(seen.asked > 0 && seen.batches().last().unwrap().events.iter().any(|event| event.kind == "agent_stop"));
}

/// A collector that says nothing any more, and a reader that hangs in the driver.
#[tokio::test]
async fn neither_a_hanging_driver_nor_a_mute_collector_holds_the_agent_up() {
    let collector = Collector::start().await;
    let fault = |gpu| format!("[[fault]]\nkind = \"hung_call\"\nnode = 0\ngpu = {gpu}\nstart = 2.0\n");
    let mut node = Node::start(&(0..8).map(fault).collect::<String>(), &collector.address);
    // From here on there is always a reader in a call that does not return, but for the moment of its replacement.
    collector.wait(PATIENCE, |seen| seen.event("driver_hung", 0).is_some()).await;
    collector.mute();
    node.signal("-TERM");
    let (status, took) = node.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(took < GONE, "{took} s");
}

#[tokio::test]
async fn nor_does_a_collector_that_is_not_there() {
    let mut node = Node::start("", "http://127.0.0.1:9");
    let answers = async {
        while !node.serves() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs_f64(PATIENCE), answers).await.unwrap();
    node.signal("-TERM");
    let (status, took) = node.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(took < GONE, "{took} s");
}
