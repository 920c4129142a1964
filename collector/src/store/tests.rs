use super::*;
use crate::incidents::{Incident, Kind, State};
use crate::state::tests::{checkpoint as fixture, snapshot};
use crate::state::{NodeRecord, Numbering};
use serde_json::json;

fn incident(id: &str, started_at: &str, closed_at: Option<&str>) -> Incident {
    let state = if closed_at.is_some() { "closed" } else { "open" };
    let object = json!({
        "schema": 1, "id": id, "revision": 3, "kind": "gpu_fault", "cause": "gpu_lost", "severity": "warning", "state": state,
        "started_at": started_at, "opened_at": started_at, "updated_at": closed_at.unwrap_or(started_at), "closed_at": closed_at,
        "confirmed": true, "completeness": 1.0, "subject": {"node": id, "gpu": 3}, "summary": "", "magnitude": {}, "evidence": [],
        "ruled_out": [], "contributors": [],
    });
    serde_json::from_value(object).unwrap()
}

fn told(incident: Incident) -> Told {
    Told { incident, announcement: None }
}

fn stamp(text: &str) -> Micros {
    Micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

fn received(sequence: u64) -> Vec<(String, NodeRecord)> {
    let live = Numbering { spool: 5, received: sequence, ..Numbering::default() };
    vec![("n1".into(), NodeRecord { live, ..NodeRecord::default() })]
}

fn sequence(kept: &Kept) -> Option<u64> {
    kept.checkpoint.as_ref().map(|loaded| loaded.nodes[0].1.live.received)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name.ends_with(".state") || name.contains("unreadable")).collect();
    names.sort();
    names
}

#[test]
fn a_checkpoint_replaces_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert!(store.load().unwrap().checkpoint.is_none());
    for count in 1..=3 {
        store.checkpoint(&snapshot(received(count)), &[], true).unwrap();
        assert_eq!(names(folder.path()).len(), 1);
    }
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(sequence(&store.load().unwrap()), Some(3));
    store.checkpoint(&snapshot(received(4)), &[], true).unwrap();
    assert_eq!(names(folder.path()), ["collector-4.state"]);
}

/// Killed after the file was written, and before it was named.
#[test]
fn a_file_that_nobody_names_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.checkpoint(&snapshot(received(1)), &[], false).unwrap();
    files::write(folder.path(), 2, &snapshot(received(9))).unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(sequence(&store.load().unwrap()), Some(1));
    store.checkpoint(&snapshot(received(2)), &[], false).unwrap();
    assert_eq!(names(folder.path()), ["collector-3.state"]);
}

#[test]
fn the_file_of_before_the_database_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture(), folder.path().join(files::BEFORE)).unwrap();
    let store = Store::open(folder.path()).unwrap();
    let loaded = store.load().unwrap().checkpoint.unwrap();
    assert_eq!(loaded.judge.incidents().count(), 2);
    store.checkpoint(&snapshot(received(1)), &[], false).unwrap();
    assert_eq!(names(folder.path()), ["collector-1.state"]);
}

#[test]
fn a_checkpoint_that_is_not_whole_is_set_aside_and_incidents_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let open = incident("n1", "2026-01-01T00:00:00Z", None);
    store.checkpoint(&snapshot(received(1)), &[told(open.clone())], false).unwrap();
    drop(store);
    let path = folder.path().join("collector-1.state");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let store = Store::open(folder.path()).unwrap();
    let kept = store.load().unwrap();
    assert!(kept.checkpoint.is_none());
    assert_eq!(kept.told, [told(open)]);
    assert_eq!(names(folder.path()), [files::ASIDE]);
}

/// The newest file that is whole counts; what of incidents is in it is there.
#[test]
fn an_unreadable_database_loses_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.checkpoint(&snapshot(received(7)), &[], false).unwrap();
    drop(store);
    fs::write(folder.path().join(database::FILE), [0xA5; 4096]).unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(sequence(&store.load().unwrap()), Some(7));
    assert_eq!(names(folder.path()), ["collector-1.state", database::ASIDE]);
}

#[test]
fn incidents_are_found_by_time_kind_node_and_state() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let all = [
        incident("a", "2026-01-01T00:00:00Z", Some("2026-01-02T00:00:00Z")),
        incident("b", "2026-02-01T00:00:00Z", Some("2026-02-01T00:00:01Z")),
        incident("c", "2026-03-01T00:00:00Z", None),
    ];
    store.save(&all.clone().map(told)).unwrap();
    let history = store.history();
    let found = |wanted: Wanted| -> String {
        let by_memory: Vec<&Incident> = all.iter().filter(|incident| wanted.has(incident)).collect();
        let found = history.incidents(&wanted, 10).unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), by_memory);
        found.into_iter().map(|incident| incident.id).collect()
    };
    let from = |text| Wanted { from: Some(stamp(text)), ..Wanted::default() };
    assert_eq!(found(Wanted::default()), "abc");
    assert_eq!(found(from("2026-01-01T12:00:00Z")), "abc");
    assert_eq!(found(from("2026-01-02T00:00:01Z")), "bc");
    assert_eq!(found(Wanted { to: Some(stamp("2026-02-10T00:00:00Z")), ..from("2026-02-01T00:00:02Z") }), "");
    assert_eq!(found(Wanted { to: Some(stamp("2026-02-10T00:00:00Z")), ..Wanted::default() }), "ab");
    assert_eq!(found(Wanted { state: Some(State::Open), ..Wanted::default() }), "c");
    assert_eq!(found(Wanted { node: Some("b".into()), ..Wanted::default() }), "b");
    assert_eq!(found(Wanted { kind: Some(Kind::Straggler), ..Wanted::default() }), "");
    let newest: Vec<Incident> = history.incidents(&Wanted::default(), 2).unwrap();
    assert_eq!((newest[0].id.as_str(), newest[1].id.as_str()), ("b", "c"));
}

#[test]
fn an_older_revision_replaces_no_newer_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let newer = incident("n1", "2026-01-01T00:00:00Z", Some("2026-01-01T01:00:00Z"));
    let older = Incident { revision: 2, ..incident("n1", "2026-01-01T00:00:00Z", None) };
    store.save(&[told(newer.clone())]).unwrap();
    store.save(&[told(older)]).unwrap();
    assert_eq!(store.history().incidents(&Wanted::default(), 9).unwrap(), [newer]);
}

#[test]
fn what_closed_long_ago_is_let_go_of() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let old = incident("old", "2025-01-01T00:00:00Z", Some("2025-01-02T00:00:00Z"));
    let open = incident("open", "2025-01-01T00:00:00Z", None);
    store.save(&[told(old), told(open.clone())]).unwrap();
    store.forget(stamp("2025-06-01T00:00:00Z")).unwrap();
    assert_eq!(store.history().incidents(&Wanted::default(), 9).unwrap(), [open]);
}

#[test]
fn gaps_and_lessons_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let gap = Gap {
        judged_until: Micros(1),
        started_at: Micros(2),
        unseen_from: Some(Micros(3)),
        unseen_to: None,
        unseen_seconds: Some(0.5),
        completeness: None,
        settled_at: None,
    };
    store.put_gap(&gap).unwrap();
    let settled = Gap { settled_at: Some(Micros(9)), ..gap };
    store.put_gap(&settled).unwrap();
    assert_eq!(store.history().gaps(9).unwrap(), [settled]);
    let lesson = |gpu, value| Lesson { what: "gpu_offset".into(), job: "j".into(), node: "n".into(), gpu, value };
    let mut writer = store.writer();
    for lessons in [[lesson(Some(3), 0.25), lesson(None, 1.0)], [lesson(Some(3), 0.5), lesson(None, 2.0)]] {
        let transaction = writer.database.transaction().unwrap();
        learned::write(&transaction, &lessons, Micros(7)).unwrap();
        transaction.commit().unwrap();
    }
    drop(writer);
    assert_eq!(store.load().unwrap().learned, [lesson(None, 2.0), lesson(Some(3), 0.5)]);
}

#[test]
fn a_directory_has_one_collector() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Store::open(folder.path()).unwrap();
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Locked(_))));
}
