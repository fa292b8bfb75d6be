//! The command line: `serve`, and nouns that talk to a server's object API.

mod client;
mod config;
mod host;
mod iso;
mod nocloud;
mod object;
mod pages;
mod progress;
mod show;
mod source;
mod tls;
mod web;

use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::Flags;

pub use client::{Client, Reach};
pub use show::Output;

/// Says how a command ended, for scripts. Documented in `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
    Failed = 1,
    /// The server does not answer.
    Unreachable = 3,
    /// What was named does not exist.
    NotFound = 4,
    /// The server refused: it exists already, changed meanwhile, is in use, or breaks a rule.
    Refused = 5,
    /// The token is missing or wrong.
    NotAllowed = 6,
}

const EXITS: &str = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 the server does not answer; 4 not found; \
                     5 refused by a rule or a conflict; 6 no token, or a wrong one";

/// Boots machines over the network: ProxyDHCP, TFTP, HTTP and iSCSI behind one decision.
#[derive(Debug, Parser)]
#[command(name = "bootlatch", version, after_help = EXITS, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    reach: Reach,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the appliance
    Serve(Flags),
    /// ISOs that hosts boot
    #[command(subcommand)]
    Iso(iso::Verb),
    /// Hosts, and what they boot
    #[command(subcommand)]
    Host(host::Verb),
    /// Boot configs that installers ask for
    #[command(subcommand)]
    Config(config::Verb),
    /// Seeds that cloud-init reads
    #[command(subcommand)]
    Nocloud(nocloud::Verb),
    #[command(flatten)]
    Object(object::Verb),
    /// Write the completions of a shell to standard output
    Completions { shell: clap_complete::Shell },
    /// Write the man pages into a directory
    Man { directory: std::path::PathBuf },
}

/// Runs the command line; `serve` is the composition root, which nothing below it may name.
pub fn run(serve: impl FnOnce(Flags) -> anyhow::Result<()>) -> ExitCode {
    let parsed = Arguments::from_arg_matches(&arguments().get_matches());
    let Arguments { reach, command } = parsed.unwrap_or_else(|error| error.exit());
    let done = match command {
        Command::Serve(flags) => serve(flags),
        Command::Iso(verb) => talk(iso::run(verb, &reach)),
        Command::Host(verb) => talk(host::run(verb, &reach)),
        Command::Config(verb) => talk(config::run(verb, &reach)),
        Command::Nocloud(verb) => talk(nocloud::run(verb, &reach)),
        Command::Object(verb) => talk(object::run(verb, &reach)),
        Command::Completions { shell } => pages::completions(shell, arguments()),
        Command::Man { directory } => pages::man(arguments(), &directory),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bootlatch: {error:#}");
            ExitCode::from(exit(&error) as u8)
        }
    }
}

/// Describes the command line; `serve` is the server, and does not offer to say which one is asked.
fn arguments() -> clap::Command {
    let reach = Reach::augment_args(clap::Command::new("reach"));
    let hidden: Vec<_> = reach.get_arguments().map(|argument| argument.clone().hide(true)).collect();
    Arguments::command().mut_subcommand("serve", |serve| serve.args(hidden))
}

fn exit(error: &anyhow::Error) -> Exit {
    match error.downcast_ref::<client::Error>() {
        Some(client::Error::Unreachable { .. }) => Exit::Unreachable,
        Some(client::Error::Refused { code: 404, .. }) => Exit::NotFound,
        Some(client::Error::Refused { code: 401 | 403, .. }) => Exit::NotAllowed,
        Some(client::Error::Refused { code: 409 | 422, .. }) => Exit::Refused,
        Some(client::Error::Untrusted { .. } | client::Error::Refused { .. } | client::Error::Broken { .. }) | None => {
            Exit::Failed
        }
    }
}

fn talk(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        arguments().debug_assert();
    }

    #[test]
    fn a_server_is_named_where_one_is_asked() {
        let help = |command: &str| {
            let mut all = arguments();
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
