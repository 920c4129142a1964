//! Gives the library its soname and generates a "not supported" function for every NVML name that `src/nvml` does not model.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

/// Names of devices whose first argument is no device handle.
const WITHOUT_HANDLE: [&str; 5] = [
    "nvmlDeviceDiscoverGpus",
    "nvmlDeviceModifyDrainState",
    "nvmlDeviceQueryDrainState",
    "nvmlDeviceRemoveGpu",
    "nvmlDeviceRemoveGpu_v2",
];

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libnvidia-ml.so.1");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/nvml");

    let mut modelled = BTreeSet::new();
    for entry in fs::read_dir("src/nvml").expect("src/nvml is part of the package") {
        let path = entry.expect("src/nvml can be listed").path();
        if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).expect("a source file can be read");
            modelled.extend(text.split("fn nvml").skip(1).map(|rest| {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                format!("nvml{}", &rest[..end])
            }));
        }
    }

    let exports = fs::read_to_string("src/nvml/exports.txt").expect("the list of names is part of the package");
    let mut stubs = String::new();
    for name in exports.lines().map(str::trim).filter(|name| !name.is_empty() && !modelled.contains(*name)) {
        let (argument, body) = if name.starts_with("nvmlDevice") && !WITHOUT_HANDLE.contains(&name) {
            ("device: Handle", "with_gpu(device, |_, _| Err(NOT_SUPPORTED))")
        } else {
            ("", "with_simulation(|_| Err(NOT_SUPPORTED))")
        };
        writeln!(stubs, "#[unsafe(no_mangle)]\npub extern \"C\" fn {name}({argument}) -> Code {{ {body} }}")
            .expect("a string grows");
    }
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("stubs.rs"), stubs).expect("OUT_DIR is writable");
}
