//! Why the driver does not open, and what to do: one line.

use nvml_wrapper::error::NvmlError;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// As the dynamic linker finds it.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// Where it looks for libraries; those of other architectures are looked for too, as that is what can be wrong.
const FOLDERS: [&str; 8] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/lib64",
    "/lib",
    "/usr/lib/i386-linux-gnu",
    "/usr/lib32",
];
/// The oldest driver that gridstep is tried with.
const OLDEST: &str = "535";

/// ELF: class and machine of this program, and machines by name.
const CLASS: u8 = if cfg!(target_pointer_width = "64") { 2 } else { 1 };
const MACHINES: [(u16, &str); 4] = [(3, "x86"), (40, "arm"), (62, "x86_64"), (183, "aarch64")];

/// Whether no call is of any use any more, for no GPU: the driver was unloaded, or replaced.
pub(super) fn is_gone(error: &NvmlError) -> bool {
    matches!(error, NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch)
}

/// Whether a fresh process may have more success: this one has loaded a library that is not the driver's.
pub(super) fn needs_fresh_process(error: &NvmlError) -> bool {
    !matches!(error, NvmlError::LibloadingError(_) | NvmlError::DriverNotLoaded)
}

/// What is wrong and what to do, in one line.
pub(super) fn advice(library: Option<&Path>, error: &NvmlError) -> String {
    let name = library.map_or_else(|| LIBRARY.into(), |path| path.display().to_string());
    let text = match error {
        NvmlError::LibloadingError(why) => not_loadable(library, &name, &why.to_string()),
        NvmlError::FailedToLoadSymbol(why) => {
            format!("{name} is too old or no NVML ({why}): install NVIDIA driver {OLDEST} or later")
        }
        NvmlError::DriverNotLoaded => {
            "the NVIDIA driver is not loaded: load it (modprobe nvidia); dmesg says why, if it fails".into()
        }
        NvmlError::NoPermission => {
            "no permission to use the NVIDIA driver: let this user read and write /dev/nvidiactl and /dev/nvidia0, 1, …".into()
        }
        NvmlError::LibRmVersionMismatch => format!(
            "{name} is of another version than the loaded NVIDIA driver, as after an upgrade: reload the driver or reboot; \
             in a container, start it anew"
        ),
        NvmlError::OperatingSystem => {
            "the operating system denies access to the GPUs: allow the NVIDIA devices in this unit's or container's device rules"
                .into()
        }
        other => format!("opening NVML failed: {other}; nvidia-smi and dmesg may say more"),
    };
    text.replace('\n', " ")
}

fn not_loadable(library: Option<&Path>, name: &str, why: &str) -> String {
    if let Some(foreign) = places(library).iter().find_map(|path| Some((path.display().to_string(), foreign(path)?))) {
        let own = std::env::consts::ARCH;
        return format!(
            "{} is {}, this agent is {own}: install the driver's {own} library, or name it (reader.nvml_library, --nvml-library)",
            foreign.0, foreign.1
        );
    }
    match () {
        () if why.contains("No such file") => format!(
            "{name} is not there: is the NVIDIA driver installed? if it lies elsewhere, name it (reader.nvml_library, --nvml-library)"
        ),
        () if why.contains("Permission denied") => {
            format!("no permission to read {name}: let this user read it and the folders above ({why})")
        }
        () => format!("{name} cannot be loaded: install the NVIDIA driver anew ({why})"),
    }
}

/// Files that the name may stand for.
fn places(library: Option<&Path>) -> Vec<PathBuf> {
    let name = library.unwrap_or(Path::new(LIBRARY));
    if name.components().count() > 1 {
        return vec![name.to_owned()];
    }
    let listed = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = std::env::split_paths(&listed).chain(FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).collect()
}

/// What an ELF file is that is not for this machine; None: it is, or is none.
fn foreign(path: &Path) -> Option<String> {
    let mut head = [0; 20];
    File::open(path).ok()?.read_exact(&mut head).ok()?;
    let machine = u16::from_le_bytes([head[18], head[19]]);
    let own = MACHINES.iter().find(|known| known.1 == std::env::consts::ARCH)?.0;
    if !head.starts_with(b"\x7fELF") || (head[4], machine) == (CLASS, own) {
        return None;
    }
    let bits = if head[4] == 1 { 32 } else { 64 };
    let machine = MACHINES.iter().find(|known| known.0 == machine).map_or("of another machine", |known| known.1);
    Some(format!("a {bits}-bit library ({machine})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(head: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LIBRARY);
        std::fs::write(&path, head).unwrap();
        (folder, path)
    }

    fn elf(class: u8, machine: u16) -> Vec<u8> {
        let mut head = b"\x7fELF".to_vec();
        head.resize(64, 0);
        (head[4], head[5]) = (class, 1);
        head[18..20].copy_from_slice(&machine.to_le_bytes());
        head
    }

    /// What is said of what really happens when the file is loaded.
    fn said(path: &Path) -> String {
        let error = super::super::driver::init(Some(path)).expect_err("it is no NVML");
        advice(Some(path), &error)
    }

    #[test]
    fn libraries_of_other_machines_are_named() {
        let foreign = if cfg!(target_arch = "aarch64") { (62, "x86_64") } else { (183, "aarch64") };
        for (class, machine, word) in [(1, 3, "32-bit library (x86)"), (2, foreign.0, foreign.1)] {
            let (_folder, path) = library(&elf(class, machine));
            let said = said(&path);
            assert!(said.contains(word) && said.contains(std::env::consts::ARCH) && !said.contains('\n'), "{said}");
        }
    }

    #[test]
    fn what_is_no_library_or_not_there_is_said() {
        let (folder, path) = library(b"nothing");
        let no_library = said(&path);
        assert!(no_library.contains("cannot be loaded"), "{no_library}");
        let missing = said(&folder.path().join("nothing.so"));
        assert!(missing.contains("is not there: is the NVIDIA driver installed?"), "{missing}");
    }

    #[test]
    fn each_refusal_says_what_to_do_in_one_line() {
        for (error, word) in [
            (NvmlError::DriverNotLoaded, "modprobe nvidia"),
            (NvmlError::NoPermission, "/dev/nvidiactl"),
            (NvmlError::LibRmVersionMismatch, "reload the driver"),
            (NvmlError::FailedToLoadSymbol("undefined symbol: nvmlInit_v2".into()), "driver 535 or later"),
            (NvmlError::Unknown, "nvidia-smi"),
        ] {
            let said = advice(None, &error);
            assert!(said.contains(word) && !said.contains('\n'), "{said}");
        }
    }
}
