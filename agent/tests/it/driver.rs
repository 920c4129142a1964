//! What the driver and the node tell beside power: XIDs, links, the clock.

use crate::PATIENCE;
use crate::collector::{Collector, Seen};
use crate::node::Node;

#[tokio::test]
async fn xids_are_events_and_are_counted() {
    let collector = Collector::start().await;
    let fault = |gpu, code, start| format!("[[fault]]\nkind = \"xid\"\nnode = 0\ngpu = {gpu}\nvalue = {code}\nstart = {start}\n");
    // A reader that is killed hears nothing twice, and what it heard stays counted.
    let node = Node::start(&[fault(1, 63, 2.0), fault(1, 94, 2.5), fault(4, 79, 3.0)].concat(), &collector.address);
    let count = |seen: &Seen, entity| seen.values("xids_total").filter(|row| row.0 == entity).last().map(|row| row.2);
    collector.wait(PATIENCE, |seen| seen.event("xid", 5).is_some() && count(seen, 2) == Some(2)).await;
    node.signal_reader("-KILL");
    let seen = collector.wait(PATIENCE, |seen| seen.event("driver_back", 0).is_some()).await;
    let rows = seen.values("xids_total").count();
    let seen = collector.wait(PATIENCE, |seen| seen.values("xids_total").count() >= rows + 16).await;
    let events = seen.batches().iter().flat_map(|batch| &batch.events).filter(|event| event.kind == "xid");
    let mut told: Vec<(u32, i64)> = events.map(|event| (event.entity, event.code)).collect();
    told.sort_unstable();
    assert_eq!(told, [(2, 63), (2, 94), (5, 79)]);
    assert_eq!((1..=8).map(|entity| count(&seen, entity)).collect::<Option<Vec<_>>>().unwrap(), [0, 2, 0, 0, 1, 0, 0, 0]);
}

/// The errors of the simulation are on one link that is not the first.
#[tokio::test]
async fn errors_of_all_links_are_summed() {
    let collector = Collector::start().await;
    let fault = "[[fault]]\nkind = \"nvlink_errors\"\nnode = 0\ngpu = 1\nvalue = 500\nstart = 2.0\n";
    let _node = Node::start(fault, &collector.address);
    let after = |seen: &Seen| {
        let start = ((seen.start() + 2.0) * 1e6) as i64;
        seen.values("nvlink_errors_total").filter(|row| row.0 == 2 && row.1 > start).collect::<Vec<_>>()
    };
    let seen = collector.wait(PATIENCE, |seen| after(seen).len() >= 3).await;
    let rows = after(&seen);
    let (first, last) = (rows.first().unwrap(), rows.last().unwrap());
    let rate = (last.2 - first.2) as f64 / ((last.1 - first.1) as f64 / 1e6);
    // Stamps are taken after the call: a busy machine moves them.
    assert!((250.0..1000.0).contains(&rate), "{rate} a second: {rows:?}");
    assert!(seen.values("nvlink_links_up").all(|row| row.2 == 18));
    let others = seen.values("nvlink_errors_total").filter(|row| row.0 == 3).map(|row| row.2).collect::<Vec<_>>();
    assert!(others.windows(2).all(|pair| pair[0] == pair[1]), "{others:?}");
}

#[tokio::test]
async fn stamps_are_no_better_than_the_clock() {
    let collector = Collector::start().await;
    let _node = Node::start("", &collector.address);
    let seen = collector.wait(PATIENCE, |seen| seen.values("clock_error_seconds").count() >= 2).await;
    let synchronised: Vec<i64> = seen.values("clock_synchronised").map(|row| row.2).collect();
    assert!(synchronised.iter().all(|state| [0, 1].contains(state)), "{synchronised:?}");
    for batch in seen.batches() {
        // The clock is read once for each batch, and told once a second.
        if let Some(&(_, _, error_us)) = seen.values_of(batch, "clock_error_seconds").first() {
            for block in &batch.blocks {
                assert!(i64::from(block.stamp_error_us) > error_us, "{} of {error_us}", block.stamp_error_us);
            }
        }
    }
}
