//! Reports: of recordings, and of a collector that runs.

use crate::agent::Agent;
use crate::collector::{DEADLINE, get, json, json_until, start};
use crate::scenarios::{gpt3_limits, scenario, shared};
use gridstep_collector::replay::replay_with_report;
use gridstep_collector::report::{Report, page};
use std::process::Command;

/// A page that stands alone, with as many plots, and no figure that is none.
fn check(html: &str, plots: usize) {
    assert_eq!(html.matches("<svg").count(), plots);
    for outside in ["src=", "href=\"http", "url(", "@import", "<script", "<link"] {
        assert!(!html.contains(outside), "{outside}");
    }
    for none in ["NaN", "inf ", "Some(", "None"] {
        assert!(!html.contains(none), "{none}");
    }
}

fn has(html: &str, wanted: &[&str]) {
    let html = html.replace('\u{a0}', " ");
    for wanted in wanted {
        assert!(html.contains(wanted), "{wanted:?} is not in the page");
    }
}

#[test]
fn a_report_of_a_job_that_starts_swings_and_crashes() {
    let (folder, truth, config) = scenario("job-start-and-crash");
    let (replayed, report) = replay_with_report(&folder, config, |_| ()).unwrap();
    let html = page(&report);
    check(&html, 5 + 3);
    has(
        &html,
        &[
            "Beyond a limit: 2 changes of level, 1 sustained oscillation, no period of demand.",
            "128 GPUs, 16 nodes, 4 racks, 2 feeders",
            "llama3-405b",
            "89.6 kW",
            "2025-10-09 08:53:20 to 2025-10-09 09:00:20 UTC (7 min 1 s), from recording job-start-and-crash",
            "#1 step up",
            "#2 oscillation",
            "#3 step down",
            "nothing is claimed above 4.000 Hz",
            "it is not what the site draws from the grid",
        ],
    );
    assert_eq!(report.incidents, replayed.incidents);
    // The worst second is at least as steep as the steps that were made, and no steeper than all that is drawn.
    let step = truth["swings"][0]["delta_watts"].as_f64().unwrap();
    let worst = report.changes[1].worst(0)[0];
    assert!((step..1.3 * step).contains(&worst.watts), "{worst:?}, made {step}");
    let line = truth["swings"][1]["frequency_hz"].as_f64().unwrap();
    let strongest = report.spectra.unwrap().strongest(report.facts.claim_limit_hz, report.facts.threshold_ratio).unwrap();
    assert!((strongest.0 - line).abs() < 0.01, "{strongest:?}");
}

#[test]
fn a_report_of_512_real_gpus() {
    let folder = shared("data/mlperf-smc-gpt3-64x8-h100-ac");
    let (_, report) = replay_with_report(&folder, gpt3_limits(), |_| ()).unwrap();
    let html = page(&report);
    check(&html, 5 + 2);
    assert!(html.len() < 400_000, "{} bytes", html.len());
    let whole = report.trace.whole().unwrap();
    assert!((430e3..450e3).contains(&whole.mean_watts), "{whole:?}");
    assert_eq!(report.demand.len(), 4);
    let line = report.spectra.unwrap().strongest(report.facts.claim_limit_hz, report.facts.threshold_ratio).unwrap();
    assert!((line.0 - 0.0915).abs() < 0.01, "{line:?}");
    has(
        &html,
        &["64 nodes", "The whole nodes drew", "1 sustained oscillation", "at 0.091 Hz", "are lower bounds", "88 % of 500.0 kW"],
    );
}

#[tokio::test]
async fn a_running_collector_is_reported_of() {
    let state = tempfile::tempdir().unwrap();
    let server = start(state.path()).await;
    let (mut agent, _) = Agent::join(server.grpc, "node1", 1).await;
    let seen = json_until(&server, "/api/v1/report", |report| {
        report["trace"]["buckets"].as_array().is_some_and(|buckets| buckets.len() >= 2)
    });
    tokio::select! { _ = seen => (), () = agent.feed() => unreachable!() }
    let power = json(&server, "/api/v1/power").await;
    assert_eq!(power["figures"][0]["basis"], "gpu");
    assert!(power["claim_limit_hz"].as_f64().unwrap() > 0.0 && power["ramps"].as_array().unwrap().len() == 4, "{power:#}");
    let levels = json(&server, "/api/v1/power/levels").await;
    assert_eq!(levels["nodes"][0]["name"], "node1");
    let metrics = get(&server, "/metrics").await;
    for wanted in ["gridstep_sum_power_watts{basis=\"gpu\"}", "gridstep_cluster_change_watts{direction=\"down\",window=\"10s\"}"]
    {
        assert!(metrics.contains(wanted), "{wanted}: {metrics}");
    }
    assert!(metrics.contains("gridstep_cluster_claim_limit_hertz ") && !metrics.contains("gridstep_cluster_oscillation_hertz "));
    let out = state.path().join("report.html");
    let (url, path) = (format!("http://{}", server.http), out.clone());
    let run = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gridstep-collector"));
        command.args(["report", "--url", &url, "--out"]).arg(path).status().unwrap()
    });
    assert!(tokio::time::timeout(DEADLINE, run).await.unwrap().unwrap().success());
    let html = std::fs::read_to_string(out).unwrap();
    has(&html, &["No change of power was beyond a limit.", "1 node", "the power is not known", &server.http.to_string()]);
    server.stop().await.unwrap();
}

#[test]
fn a_report_goes_over_the_wire_as_it_is() {
    let (folder, _, config) = scenario("healthy-pipeline");
    let (_, report) = replay_with_report(&folder, config, |_| ()).unwrap();
    let text = serde_json::to_string(&report).unwrap();
    let again: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(page(&again), page(&report));
}
