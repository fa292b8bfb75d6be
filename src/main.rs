use std::process::ExitCode;

use bootlatch::cli;

fn main() -> ExitCode {
    // The composition root goes here: `bootlatch::appliance::run`.
    cli::run(|_flags| anyhow::bail!("this build has no composition root yet"))
}
