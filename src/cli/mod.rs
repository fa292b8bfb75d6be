//! The command line: `serve`, and commands that are clients of the object API.

mod client;
mod config;
mod download;
mod exit;
mod host;
mod iso;
mod man;
mod object;
mod progress;
mod seed;
mod show;
mod source;
mod tls;

use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::Flags;
use crate::fleet::text::printable_lines;

use client::ConnectionArgs;

const EXIT_CODES: &str = "Exit codes: 0 success; 1 failure; 2 wrong usage; 3 the server does not answer; 4 not found; \
                          5 refused (conflict or rule); 6 not authorized; 78 the server cannot start until somebody acts";

/// Boot machines over the network: DHCP, TFTP, HTTP and iSCSI in one service.
#[derive(Debug, Parser)]
#[command(name = "bootlatch", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    connection_args: ConnectionArgs,
    #[command(subcommand)]
    command: RootCommand,
}

#[derive(Debug, Subcommand)]
enum RootCommand {
    /// Run the appliance
    Serve(Flags),
    /// Manage ISOs
    #[command(subcommand)]
    Iso(iso::IsoCommand),
    /// Manage hosts and what they boot
    #[command(subcommand)]
    Host(host::HostCommand),
    /// Manage boot configs for installers
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Build seeds for cloud-init (NoCloud)
    #[command(subcommand)]
    Seed(seed::SeedCommand),
    #[command(flatten)]
    Object(object::ObjectCommand),
    /// Print the completions of a shell
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages to a directory
    Man {
        /// Directory; it is created if it does not exist
        directory: std::path::PathBuf,
    },
}

/// Runs the command line. `serve` is the composition root, which only `main` names.
pub fn run(serve: impl FnOnce(Flags) -> anyhow::Result<()>) -> ExitCode {
    let parsed = Arguments::from_arg_matches(&command_line().get_matches());
    let Arguments { connection_args, command } = parsed.unwrap_or_else(|error| error.exit());
    let done = match command {
        RootCommand::Serve(flags) => serve(flags),
        RootCommand::Iso(verb) => run_async(iso::run(verb, &connection_args)),
        RootCommand::Host(verb) => run_async(host::run(verb, &connection_args)),
        RootCommand::Config(verb) => run_async(config::run(verb, &connection_args)),
        RootCommand::Seed(verb) => run_async(seed::run(verb, &connection_args)),
        RootCommand::Object(verb) => run_async(object::run(verb, &connection_args)),
        RootCommand::Completions { shell } => man::completions(shell, command_line()),
        RootCommand::Man { directory } => man::man(command_line(), &directory),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bootlatch: {}", printable_lines(&format!("{error:#}")));
            ExitCode::from(exit::exit_code(&error) as u8)
        }
    }
}

/// Returns the command line. The options that select a server are hidden for `serve`.
fn command_line() -> clap::Command {
    let connection_args = ConnectionArgs::augment_args(clap::Command::new("connection_args"));
    let hidden: Vec<_> = connection_args.get_arguments().map(|argument| argument.clone().hide(true)).collect();
    Arguments::command().mut_subcommand("serve", |serve| serve.args(hidden))
}

/// Runs a client command.
fn run_async(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_valid() {
        command_line().debug_assert();
    }

    #[test]
    fn only_client_commands_have_the_options_of_a_server() {
        let help = |command: &str| {
            let mut all = command_line();
            all.build();
            all.find_subcommand_mut(command).unwrap().render_help().to_string()
        };
        assert!(help("get").contains("--server") && help("get").contains("--token-file"));
        assert!(!help("serve").contains("--server") && !help("serve").contains("--token-file"));
        for rule in ["ignore", "hold", "localboot", "menu", "install"] {
            assert!(help("serve").contains(rule), "{rule}");
        }
    }
}
