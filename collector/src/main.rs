//! The collector's binary: see [`gridstep_collector::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    gridstep_collector::cli::main()
}
