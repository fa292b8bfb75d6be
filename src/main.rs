//! The `bootlatch` binary.

use std::process::ExitCode;

use bootlatch::{appliance, cli};

fn main() -> ExitCode {
    cli::run(appliance::run, appliance::examine)
}
