//! `bootlatch rig`: virtual machines that boot from this program, for tests.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use crate::fleet::text::printable_lines;
use crate::rig::{self, Options, Request, RigExit};

use super::show::print;

/// Subcommands of `bootlatch rig`.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  bootlatch rig test install.yaml\n  bootlatch rig up menu.yaml && bootlatch rig console node1\n\n\
                  Exit status of test: 0 everything is met; 1 something is not; 2 the specification is wrong (file and line); \
                  3 this machine lacks a program, a firmware or a permission (what helps is said); 130 stopped and cleaned up."
)]
pub enum RigCommand {
    /// Start machines, wait for what is expected of them, write the reports, and end everything
    Test(StartArgs),
    /// Start machines, and leave them running
    Up(StartArgs),
    /// Show the machines, and how far what is expected of them is
    Status {
        #[command(flatten)]
        place: Place,
    },
    /// Connect the terminal with the serial console of a machine; Ctrl-] leaves it
    Console {
        /// Name of the machine
        machine: String,
        #[command(flatten)]
        place: Place,
    },
    /// Write the screen of a machine to a PNG file
    Screenshot {
        /// Name of the machine
        machine: String,
        /// File to write [default: MACHINE.png in the output directory]
        file: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
    /// Press keys at a machine
    Press {
        /// Name of the machine
        machine: String,
        /// QEMU's names of the keys, as in down, ret, f12, ctrl-b
        #[arg(required = true)]
        keys: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// End the machines, and write the reports
    Down {
        #[command(flatten)]
        place: Place,
    },
    #[command(hide = true)]
    Hold { options: String },
    #[command(hide = true)]
    Supervise { options: String },
}

/// Where a rig's output directory is.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// Output directory of the rig
    #[arg(long, value_name = "DIR", default_value = "rig-out")]
    output: PathBuf,
}

/// Options of a rig that is started.
#[derive(Debug, clap::Args)]
pub struct StartArgs {
    /// Specification, in YAML or JSON
    spec: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Directory of the boot programs [default: that of `server`, else /usr/share/bootlatch/firmware]
    #[arg(long, value_name = "DIR")]
    firmware_dir: Option<PathBuf>,
    /// Do not stretch the time limits where KVM does not run
    #[arg(long)]
    strict: bool,
    /// Keep the machines' disks, in `run` in the output directory, until the next run
    #[arg(long)]
    keep_disks: bool,
}

impl StartArgs {
    fn options(self, stays: bool) -> anyhow::Result<Options> {
        let Self { spec, place, firmware_dir, strict, keep_disks } = self;
        let firmware_dir = firmware_dir.map(std::path::absolute).transpose()?;
        Ok(Options { spec, output: place.output, firmware_dir, strict, keep_disks, stays })
    }
}

/// Runs a `bootlatch rig` command. This process must have one thread.
///
/// # Errors
/// A rig cannot be started, or does not answer.
pub fn run(verb: RigCommand) -> anyhow::Result<ExitCode> {
    let done = match verb {
        RigCommand::Test(args) => rig::test(args.options(false)?),
        RigCommand::Up(args) => rig::up(args.options(true)?),
        RigCommand::Hold { options } => rig::hold(serde_json::from_str(&options)?),
        RigCommand::Supervise { options } => rig::supervise(&serde_json::from_str(&options)?),
        RigCommand::Status { place } => return said(rig::ask(&place.output, &Request::Status)?),
        RigCommand::Console { machine, place } => {
            return rig::attach(&place.output, machine).map(|()| ExitCode::SUCCESS);
        }
        RigCommand::Screenshot { machine, file, place } => {
            let file = file.unwrap_or_else(|| place.output.join(format!("{machine}.png")));
            let file = std::path::absolute(file)?;
            rig::ask(&place.output, &Request::Screenshot(machine, file.clone()))?;
            return said(format!("{}\n", file.display()));
        }
        RigCommand::Press { machine, keys, place } => {
            return said(rig::ask(&place.output, &Request::Press(machine, keys))?);
        }
        RigCommand::Down { place } => return said(rig::ask(&place.output, &Request::Down)?),
    };
    let exit = done.unwrap_or_else(|error| {
        // After `up` nobody may read it; rig.log has it.
        let _ = writeln!(io::stderr(), "bootlatch: {}", printable_lines(&format!("{error:#}")));
        RigExit::of_error(&error)
    });
    Ok(ExitCode::from(exit.code()))
}

fn said(text: String) -> anyhow::Result<ExitCode> {
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
