use super::*;

fn at(seconds: f64) -> Micros {
    Micros::from_seconds(seconds)
}

fn report(cause: &'static str, onset: f64, now: f64) -> Report {
    Report {
        at: at(now),
        started_at: at(onset),
        cause,
        severity: Severity::Warning,
        subject: Subject { cluster: Some("all".into()), ..Subject::default() },
        completeness: 1.0,
        confirmed: true,
        summary: String::new(),
        magnitude: Default::default(),
        evidence: Vec::new(),
        ruled_out: Vec::new(),
        contributors: Vec::new(),
    }
}

fn ids(book: &Book) -> Vec<&str> {
    book.incidents().iter().map(|incident| incident.id.as_str()).collect()
}

/// What was told after the checkpoint, and a book of the checkpoint that has it back.
fn restarted(told: impl Fn(&mut Book)) -> (Book, Vec<Incident>) {
    let mut before = Book::default();
    told(&mut before);
    let told: Vec<Incident> = before.incidents().to_vec();
    let mut book = Book::default();
    book.adopt(told.clone());
    (book, told)
}

#[test]
fn what_is_seen_again_is_the_same_incident() {
    let (mut book, told) = restarted(|book| _ = book.open(Kind::PowerSwing, report("step_up", 99.95, 101.0)));
    // Of final bins this time: its onset is in the next second.
    let place = book.open(Kind::PowerSwing, report("step_up", 100.05, 103.0));
    assert_eq!(ids(&book), [told[0].id.as_str()]);
    assert_eq!((book.get(place).revision, book.get(place).started_at), (2, told[0].started_at));
    // Another one a while later, and another way.
    book.open(Kind::PowerSwing, report("step_up", 120.0, 121.0));
    book.open(Kind::PowerSwing, report("step_down", 100.0, 122.0));
    assert_eq!(book.incidents().len(), 3);
}

#[test]
fn what_closed_before_stays_closed() {
    let (mut book, _) = restarted(|book| {
        let place = book.open(Kind::GpuFault, report("gpu_lost", 100.0, 100.0));
        book.close(place, at(110.0), at(110.0));
    });
    for _ in 0..2 {
        let place = book.open(Kind::GpuFault, report("gpu_lost", 100.0, 100.0));
        book.close(place, at(110.0), at(110.0));
    }
    assert_eq!((book.incidents().len(), book.get(0).state, book.get(0).revision), (1, State::Closed, 2));
    assert!(book.take_revisions().is_empty());
}

#[test]
fn revisions_go_on_upwards() {
    let mut checkpoint = Book::default();
    let place = checkpoint.open(Kind::PowerSwing, report("oscillation", 100.0, 101.0));
    let mut before = checkpoint.clone();
    before.refine(place, report("oscillation", 100.0, 102.0));
    before.refine(place, report("oscillation", 100.0, 103.0));
    checkpoint.adopt(before.incidents().to_vec());
    checkpoint.refine(place, report("oscillation", 100.0, 102.0));
    assert_eq!((checkpoint.incidents().len(), checkpoint.get(place).revision), (1, 4));
}

#[test]
fn a_swing_that_is_not_seen_again_is_over_at_last() {
    let (mut book, told) = restarted(|book| _ = book.open(Kind::PowerSwing, report("step_up", 100.0, 101.0)));
    book.forget(at(600.0));
    assert_eq!(book.get(0).state, State::Open);
    // It is remembered over another restart.
    let bytes = serde_json::to_vec(&book).unwrap();
    let mut book: Book = serde_json::from_slice(&bytes).unwrap();
    book.forget(at(702.0));
    assert_eq!((book.get(0).state, book.get(0).closed_at), (State::Closed, Some(told[0].updated_at)));
}
