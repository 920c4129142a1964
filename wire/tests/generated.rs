//! The checked-in code is what the .proto says. Without `CI` in the environment a difference is also mended.

use std::path::Path;

#[test]
fn generated_code_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors =
        protox::compile([root.join("proto/telemetry.proto")], [root.join("proto")]).expect("telemetry.proto compiles");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tonic_prost_build::configure().out_dir(out).compile_fds(descriptors).expect("code is generated");
    let fresh = std::fs::read_to_string(out.join("gridstep.telemetry.v1.rs")).expect("generated file");
    let kept = root.join("src/generated/gridstep.telemetry.v1.rs");
    if std::fs::read_to_string(&kept).unwrap_or_default() == fresh {
        return;
    }
    if std::env::var_os("CI").is_none() {
        std::fs::write(&kept, fresh).expect("checked-in file is written");
    }
    panic!(
        "wire/src/generated did not match wire/proto; run `cargo test -p gridstep-wire --test generated` and commit what it wrote"
    );
}
