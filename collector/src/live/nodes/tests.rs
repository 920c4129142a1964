use super::*;

const SLOT: NodeSlot = NodeSlot(0);
const NEW: Accepted = Accepted::New { slot: Some(SLOT), lost: 0 };
const NEW_OF_BACKLOG: Accepted = Accepted::New { slot: None, lost: 0 };

fn joining(spool: u64, oldest: u64) -> Joining {
    Joining { node: "n".into(), spool, oldest, backlog: false, shared: false, boot: String::new() }
}

fn join(nodes: &mut Nodes, spool: u64, oldest: u64) -> Joined {
    nodes.join(&joining(spool, oldest), Some(SLOT), None).0.unwrap()
}

fn join_backlog(nodes: &mut Nodes, spool: u64, oldest: u64) -> Joined {
    nodes.join(&Joining { backlog: true, ..joining(spool, oldest) }, None, None).0.unwrap()
}

fn accept(nodes: &mut Nodes, joined: &Joined, sequence: u64) -> Accepted {
    nodes.accept(joined.stream, sequence, 10, Micros(i64::try_from(sequence).unwrap()))
}

/// As after a restart with this checkpoint.
fn restarted(nodes: &Nodes) -> Nodes {
    Nodes::new(nodes.records().into_iter().map(|(name, record)| (name.to_owned(), record.clone())).collect())
}

#[test]
fn a_batch_counts_once_and_gaps_are_losses() {
    let mut nodes = Nodes::default();
    let joined = join(&mut nodes, 5, 1);
    assert_eq!(accept(&mut nodes, &joined, 1), NEW);
    assert_eq!(accept(&mut nodes, &joined, 1), Accepted::Again);
    assert_eq!(accept(&mut nodes, &joined, 4), Accepted::New { slot: Some(SLOT), lost: 2 });
    let record = &nodes.get("n").unwrap().record;
    assert_eq!((record.live.received, record.samples, record.lost_batches), (4, 20, 2));
}

/// Else what an agent sends again would fill its window for ever.
#[test]
fn what_comes_again_is_acknowledged() {
    let mut nodes = Nodes::default();
    let before = join(&mut nodes, 5, 1);
    accept(&mut nodes, &before, 1);
    let mut live = join(&mut nodes, 5, 1);
    live.acks.mark_unchanged();
    assert_eq!(accept(&mut nodes, &live, 1), Accepted::Again);
    nodes.acknowledge(live.stream, 10, Micros(1));
    assert!(live.acks.has_changed().unwrap());
    assert_eq!(*live.acks.borrow(), Acked { received: 1, durable: 0 });
}

/// One answer for many batches; none is owed for longer than [`TELL_EVERY_US`], or for more than fills a window.
#[test]
fn answers_are_few_and_none_is_forgotten() {
    let mut nodes = Nodes::default();
    let mut live = join(&mut nodes, 5, 1);
    let mut bring = |nodes: &mut Nodes, sequence, samples, now| {
        accept(nodes, &live, sequence);
        nodes.acknowledge(live.stream, samples, Micros(now));
        let told = live.acks.has_changed().unwrap();
        (told, live.acks.borrow_and_update().received)
    };
    assert_eq!(bring(&mut nodes, 1, 10, 1_000_000), (true, 1));
    assert_eq!(bring(&mut nodes, 2, 10, 1_250_000), (false, 1));
    assert_eq!(bring(&mut nodes, 3, TELL_SAMPLES - 10, 1_250_001), (true, 3));
    assert_eq!(bring(&mut nodes, 4, 10, 1_500_000), (false, 3));
    nodes.acknowledge_rest(Micros(2_200_000));
    assert!(!live.acks.has_changed().unwrap());
    nodes.acknowledge_rest(Micros(2_250_001));
    assert_eq!((live.acks.has_changed().unwrap(), live.acks.borrow_and_update().received), (true, 4));
    nodes.acknowledge_rest(Micros(9_000_000));
    assert!(!live.acks.has_changed().unwrap());
    // Who asks is answered at once, if there is anything to tell.
    nodes.answer(live.stream, Micros(9_000_001));
    assert!(!live.acks.has_changed().unwrap());
    nodes.acknowledge(live.stream, 10, Micros(2_250_002));
    nodes.answer(live.stream, Micros(2_250_003));
    assert!(live.acks.has_changed().unwrap());
}

#[test]
fn the_newest_stream_of_a_node_has_it() {
    let mut nodes = Nodes::default();
    let old = join(&mut nodes, 5, 1);
    let new = join(&mut nodes, 5, 1);
    assert!(old.acks.has_changed().is_err());
    assert_eq!(accept(&mut nodes, &old, 1), Accepted::Replaced);
    nodes.leave(old.stream);
    assert_eq!(accept(&mut nodes, &new, 1), NEW);
}

#[test]
fn durable_is_what_the_checkpoint_covered() {
    let mut nodes = Nodes::default();
    let joined = join(&mut nodes, 5, 1);
    accept(&mut nodes, &joined, 1);
    let covered = nodes.covered();
    accept(&mut nodes, &joined, 2);
    nodes.make_durable(&covered);
    assert_eq!(*joined.acks.borrow(), Acked { received: 2, durable: 1 });
    assert_eq!(join(&mut restarted(&nodes), 5, 1).durable, 2);
}

#[test]
fn a_new_numbering_begins_where_it_says() {
    let mut nodes = Nodes::default();
    let joined = join(&mut nodes, 5, 1);
    accept(&mut nodes, &joined, 9);
    let joined = join(&mut nodes, 6, 100);
    assert_eq!(joined.durable, 99);
    assert_eq!(accept(&mut nodes, &joined, 100), NEW);
}

#[test]
fn a_backlog_goes_beside_the_live_stream_and_says_nothing_of_now() {
    let mut nodes = Nodes::default();
    let before = join(&mut nodes, 5, 1);
    accept(&mut nodes, &before, 3);
    let live = join(&mut nodes, 6, 100);
    accept(&mut nodes, &live, 100);
    let backlog = join_backlog(&mut nodes, 5, 4);
    assert!(live.acks.has_changed().is_ok(), "the live stream goes on");
    assert_eq!(accept(&mut nodes, &backlog, 3), Accepted::Again, "what was taken live is not taken once more");
    assert_eq!(accept(&mut nodes, &backlog, 4), NEW_OF_BACKLOG);
    assert_eq!(accept(&mut nodes, &live, 101), NEW);
    let node = nodes.get("n").unwrap();
    assert_eq!((node.last_batch, node.record.live.received), (Some(Micros(101)), 101));
    let covered = nodes.covered();
    nodes.make_durable(&covered);
    assert_eq!(*backlog.acks.borrow(), Acked { received: 4, durable: 4 });
    assert_eq!(*live.acks.borrow(), Acked { received: 101, durable: 101 });
    nodes.leave(live.stream);
    assert!(!nodes.get("n").unwrap().is_connected(), "a backlog alone is no presence");
}

#[test]
fn a_backlog_counts_once_over_a_restart() {
    let mut nodes = Nodes::default();
    join(&mut nodes, 6, 1);
    let backlog = join_backlog(&mut nodes, 5, 1);
    accept(&mut nodes, &backlog, 1);
    let mut nodes = restarted(&nodes);
    join(&mut nodes, 7, 1);
    let backlog = join_backlog(&mut nodes, 5, 1);
    assert_eq!(backlog.durable, 1);
    assert_eq!(accept(&mut nodes, &backlog, 1), Accepted::Again);
    assert_eq!(accept(&mut nodes, &backlog, 2), NEW_OF_BACKLOG);
}

#[test]
fn numberings_are_remembered_for_a_while() {
    let mut nodes = Nodes::default();
    for spool in 1..=EARLIER as u64 + 1 {
        let joined = join(&mut nodes, spool, 1);
        accept(&mut nodes, &joined, 7);
    }
    let backlog = join_backlog(&mut nodes, 1, 1);
    assert_eq!(accept(&mut nodes, &backlog, 7), Accepted::Again);
    assert_eq!(nodes.get("n").unwrap().record.earlier.len(), EARLIER);
    join(&mut nodes, 100, 1);
    let backlog = join_backlog(&mut nodes, 2, 1);
    assert_eq!(accept(&mut nodes, &backlog, 7), Accepted::New { slot: None, lost: 6 }, "the oldest is forgotten");
}

#[test]
fn what_went_to_another_collector_is_not_lost() {
    let mut nodes = Nodes::default();
    join(&mut nodes, 5, 1);
    let (joined, lost) = nodes.join(&Joining { shared: true, ..joining(5, 50) }, Some(SLOT), None);
    assert_eq!(lost, 0);
    assert_eq!(accept(&mut nodes, &joined.unwrap(), 50), NEW);
    assert_eq!(nodes.join(&joining(5, 60), Some(SLOT), None).1, 9);
}
