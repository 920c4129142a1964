//! docs/recorder.md says of the recorder's metrics what the code says. Without `CI` in the environment a difference is also mended.

use super::Metrics;
use std::fs;
use std::path::Path;

const BEGIN: &str = "| name | what |\n|---|---|\n";

fn rows() -> String {
    let families = Metrics::new().unwrap().registry.gather();
    let told = families
        .iter()
        .filter(|family| ["gridstep_recorder_", "gridstep_upload_"].iter().any(|begin| family.name().starts_with(begin)));
    told.map(|family| format!("| `{}` | {} |\n", family.name(), family.help())).collect()
}

#[test]
fn the_recorders_metrics_are_described() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/recorder.md");
    let document = fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("docs/recorder.md has a table of metrics");
    let (found, after) = rest.split_once("\n\n").unwrap();
    let expected = rows();
    if found == expected.trim_end() {
        return;
    }
    if std::env::var_os("CI").is_none() {
        fs::write(&path, format!("{before}{BEGIN}{expected}\n{after}")).unwrap();
    }
    panic!(
        "docs/recorder.md did not match the code; run `cargo test -p gridstep-collector --lib reference` and commit what it wrote"
    );
}
