//! The recording of GPT-3, with a drop of one node's power put into it.

use super::shift;
use super::{gpt3_limits, shared};
use gridstep_collector::incidents::{Incident, Kind};
use gridstep_collector::judge::Judge;
use gridstep_wire::Micros;

/// Seconds from the recording's begin.
const ONSET: f64 = 1500.0;

fn names() -> Vec<String> {
    shift::read(&shared("data/mlperf-smc-gpt3-64x8-h100-ac")).into_keys().collect()
}

/// Stragglers of the recording, in which `node` draws less by `drop` from `onset` on; each with the seconds from the onset to its opening.
fn stragglers(node: &str, drop: f64, onset: f64) -> Vec<(Incident, f64)> {
    let nodes = shift::read(&shared("data/mlperf-smc-gpt3-64x8-h100-ac"));
    let mut judge = Judge::new(gpt3_limits(), &[]);
    let mut samples: Vec<(i64, &str, f64)> = Vec::new();
    for (name, series) in &nodes {
        samples.extend(series.iter().map(|&(ts, watts)| (ts, name.as_str(), watts)));
    }
    samples.sort_by_key(|sample| sample.0);
    let begin = samples[0].0;
    let mut last: Vec<Incident> = Vec::new();
    for (ts, name, watts) in samples {
        let falls = name == node && (ts - begin) as f64 >= onset * 1e6;
        judge.advance(Micros(ts));
        let slot = judge.fleet_mut().node(name);
        judge.put_node_power(slot, Micros(ts), if falls { watts * (1.0 - drop) } else { watts });
        for incident in judge.take_revisions() {
            match last.iter_mut().find(|known| known.id == incident.id) {
                Some(known) => *known = incident,
                None => last.push(incident),
            }
        }
    }
    last.retain(|incident| incident.kind == Kind::Straggler);
    let delay = |incident: &Incident| (incident.opened_at.0 - begin) as f64 / 1e6 - onset;
    last.into_iter().map(|incident| (incident.clone(), delay(&incident))).collect()
}

#[test]
fn a_drop_of_one_node_is_found_on_that_node_and_no_other() {
    let node = &names()[17];
    for (drop, within) in [(0.03, 240.0), (0.05, 120.0), (0.1, 70.0)] {
        let found = stragglers(node, drop, ONSET);
        assert_eq!(found.len(), 1, "{drop}: {found:#?}");
        let (incident, delay) = &found[0];
        assert_eq!(incident.subject.node.as_deref(), Some(node.as_str()));
        assert!((0.0..=within).contains(delay), "{drop}: {delay} s");
        println!("drop of {drop}: {delay:.0} s");
        // One figure of one kind pages nobody.
        assert_eq!(incident.severity, gridstep_collector::incidents::Severity::Info);
        let change = incident.magnitude["power_change_ratio"].as_f64().unwrap();
        assert!((change + drop).abs() < 0.02, "{drop}: {change}");
    }
}

/// Every eighth node, three drops: for docs/evaluation.md. `cargo test … drops_of_many_nodes -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes"]
fn drops_of_many_nodes() {
    let nodes: Vec<String> = names().into_iter().step_by(8).collect();
    for drop in [0.03, 0.05, 0.1] {
        let (mut delays, mut others) = (Vec::new(), 0);
        for (place, node) in nodes.iter().enumerate() {
            let found = stragglers(node, drop, 900.0 + 230.0 * place as f64);
            delays.extend(found.iter().filter(|(incident, _)| incident.subject.node.as_ref() == Some(node)).map(|found| found.1));
            others += found.iter().filter(|(incident, _)| incident.subject.node.as_ref() != Some(node)).count();
        }
        delays.sort_by(f64::total_cmp);
        println!("{drop}: {} of {} found, after {delays:.0?} s; {others} others", delays.len(), nodes.len());
    }
}
