//! The command line: `serve`, and commands that are clients of the object API.

mod apply;
mod butane;
mod client;
mod completion;
mod config;
mod connection;
mod console;
mod context;
mod context_file;
mod delete;
mod describe;
mod doctor;
mod download;
mod edit;
mod exit;
mod explain;
mod get;
mod host;
mod init;
mod iso;
mod ledger;
mod line_diff;
mod local_files;
mod lookup;
mod man;
mod manifests;
mod network;
mod object;
mod power;
mod progress;
mod prompt;
mod reference;
mod refusals;
mod rehearse;
mod rig;
mod seed;
mod settings;
mod show;
mod source;
mod status;
mod template;
mod timeline;
mod tls;
mod wait;
mod watch;
mod why;

use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use nix::sys::socket::SockaddrStorage;

use crate::config::{Config, DhcpInterface, Flags, NOT_OWN_ADDRESS};
use crate::doctor::Report;
use crate::fleet::text::printable_lines;

use connection::ConnectionArgs;

/// Examples of the help of the program.
const EXAMPLES: &str = "\
Examples:
  sudo bootlatch status
  sudo bootlatch iso add fedora Fedora-Server-dvd-x86_64-43-1.6.iso
  sudo bootlatch host assign 52:54:00:12:34:56 --image fedora
  sudo bootlatch logs -f 52:54:00:12:34:56
  bootlatch context set lab --server https://192.0.2.1:6443 --token-file lab.token --ca lab.crt
";

/// Boot machines over the network: DHCP, TFTP, HTTP and iSCSI in one service.
#[derive(Debug, Parser)]
#[command(name = "bootlatch", version, after_help = after_help(), max_term_width = 100)]
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
    /// Manage templates of boot configs, and their versions
    #[command(subcommand)]
    Template(template::TemplateCommand),
    /// Build seeds for cloud-init (NoCloud)
    #[command(subcommand)]
    Seed(seed::SeedCommand),
    /// Show interfaces, leases, relays and drops, and end leases
    #[command(subcommand)]
    Network(network::NetworkCommand),
    #[command(flatten)]
    Object(object::ObjectCommand),
    /// Look for what is wrong with the appliance on this machine, and with its wire
    Doctor(doctor::DoctorArgs),
    /// Test boots and installs with virtual machines, without root
    #[command(subcommand)]
    Rig(rig::RigCommand),
    /// Show what a machine would be sent at its next boot, step by step, and why
    Rehearse(rehearse::RehearseArgs),
    /// Show version, readiness, hosts by phase, running installs and faults of the server
    Status {
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: show::OutputFormat,
    },
    /// Show the server's settings in force, and where each comes from
    Settings {
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: show::OutputFormat,
    },
    /// Show the versions of this program and of the server
    Version {
        /// Do not ask the server
        #[arg(long)]
        client: bool,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: show::OutputFormat,
    },
    /// Manage contexts: servers by name
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Print a kubeconfig for kubectl, with the token in it
    #[command(
        after_help = "Examples:\n  bootlatch kubeconfig --server https://192.0.2.1:6443 --token-file admin.token --ca tls.crt --output kubeconfig\n  \
                            bootlatch kubeconfig --context lab --output kubeconfig\n  kubectl --kubeconfig kubeconfig get hosts"
    )]
    Kubeconfig {
        /// Name of the cluster, user and context
        #[arg(long, default_value = "bootlatch")]
        name: String,
        /// Namespace that kubectl uses
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// New file to write, readable by its owner only; without it, the kubeconfig is printed
        #[arg(long, value_name = "FILE")]
        output: Option<std::path::PathBuf>,
    },
    /// Write a first configuration file, by questions or by options
    #[command(visible_alias = "setup")]
    Init(init::InitArgs),
    /// Print the completions of a shell, which complete names that the server has
    #[command(after_help = "Examples:\n  source <(bootlatch completions bash)\n  bootlatch completions fish | source")]
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

/// Runs the command line. `serve` and `examine` are of the composition root, which only `main` names.
pub fn run(serve: impl FnOnce(Flags) -> anyhow::Result<()>, examine: impl FnOnce(&Flags, bool) -> Report) -> ExitCode {
    // A shell has this program complete a command line; the process then ends here.
    clap_complete::CompleteEnv::with_factory(command_line).var(man::COMPLETE_VARIABLE).complete();
    let matches = command_line().get_matches();
    let parsed = Arguments::from_arg_matches(&matches);
    let Arguments { mut connection_args, command } = parsed.unwrap_or_else(|error| error.exit());
    connection_args.note_typed(&matches);
    let done = match command {
        RootCommand::Rig(verb) => match rig::run(verb) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        RootCommand::Serve(flags) if flags.check => check_config(&flags),
        RootCommand::Serve(flags) => serve(flags),
        RootCommand::Iso(verb) => run_async(iso::run(verb, &connection_args)),
        RootCommand::Host(verb) => run_async(host::run(verb, &connection_args)),
        RootCommand::Config(verb) => run_async(config::run(verb, &connection_args)),
        RootCommand::Template(verb) => run_async(template::run(verb, &connection_args)),
        RootCommand::Seed(verb) => run_async(seed::run(verb, &connection_args)),
        RootCommand::Network(verb) => run_async(network::run(verb, &connection_args)),
        RootCommand::Object(verb) => run_async(object::run(verb, &connection_args)),
        RootCommand::Doctor(args) => doctor::doctor(&args, examine),
        RootCommand::Rehearse(args) => run_async(rehearse::rehearse(&connection_args, &args)),
        RootCommand::Status { output } => run_async(status::status(&connection_args, output)),
        RootCommand::Settings { output } => run_async(settings::settings(&connection_args, output)),
        RootCommand::Version { client, output } => run_async(status::version(&connection_args, client, output)),
        RootCommand::Context(verb) => context::run(verb, &connection_args),
        RootCommand::Kubeconfig { name, namespace, output } => {
            context::kubeconfig(&connection_args, &name, &namespace, output.as_deref())
        }
        RootCommand::Init(args) => init::init(&args),
        RootCommand::Completions { shell } => man::completions(shell),
        RootCommand::Man { directory } => man::man(command_line(), &directory),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if exit::is_silent(&error) => ExitCode::from(exit::exit_code(&error) as u8),
        Err(error) => {
            eprintln!("bootlatch: {}", printable_lines(&format!("{error:#}")));
            ExitCode::from(exit::exit_code(&error) as u8)
        }
    }
}

/// Checks the configuration of `serve`, as for a change that is to be deployed.
fn check_config(flags: &Flags) -> anyhow::Result<()> {
    let config = crate::config::load(flags)?;
    notes_on_configuration(&config).iter().for_each(|note| eprintln!("bootlatch: {note}"));
    let files: Vec<_> = config.files.iter().map(|path| path.display().to_string()).collect();
    show::print(&format!("the configuration is valid: {}\n", files.join(", ")))
}

/// Returns what a valid configuration means on this machine that may not be what was meant: an interface or an `address` that
/// is not there, and a NAT that TFTP does not pass. It is no fault of the file: the file may be for another machine, and an
/// interface and an address may come later.
fn notes_on_configuration(config: &Config) -> Vec<String> {
    let found: Vec<_> = nix::ifaddrs::getifaddrs().into_iter().flatten().collect();
    let exists = |name: &str| found.iter().any(|one| one.interface_name == name);
    let has = |name: &str, address| {
        let is_address = |one: &SockaddrStorage| one.as_sockaddr_in().is_some_and(|one| one.ip() == address);
        found.iter().any(|one| one.interface_name == name && one.address.as_ref().is_some_and(is_address))
    };
    let note = |interface: &DhcpInterface| match (&interface.name, interface.address) {
        (name, _) if !found.is_empty() && !exists(name) => Some(format!(
            "note: interface {name} does not exist now: nothing is answered on it until it comes; `ip link` lists those that do"
        )),
        (name, Some(address)) if !has(name, address) => {
            Some(format!("note: interface {name} does not have the address {address} now: {NOT_OWN_ADDRESS}"))
        }
        _ => None,
    };
    let is_advertised = config.interfaces.iter().any(|interface| interface.advertise.is_some());
    let nat = (is_advertised && !config.tftp.single_port).then(|| {
        "note: tftp.single_port = false with an advertised address: a NAT knows no other port of a transfer than the one that it \
         forwards, and machines behind it load no program over TFTP"
            .to_owned()
    });
    config.interfaces.iter().filter_map(note).chain(nat).collect()
}

/// Returns the command line. The options that select a server are hidden for commands without one.
fn command_line() -> clap::Command {
    let connection_args = ConnectionArgs::augment_args(clap::Command::new("connection_args"));
    let hidden: Vec<_> = connection_args.get_arguments().map(|argument| argument.clone().hide(true)).collect();
    let mut command = Arguments::command();
    for local in ["serve", "doctor", "init", "completions", "man", "rig"] {
        let hidden = hidden.clone();
        command = command.mut_subcommand(local, |local| local.args(hidden));
    }
    command
}

/// Returns the end of the program's help.
fn after_help() -> String {
    let codes = exit::EXIT_CODES.map(|(code, meaning)| format!("{code} {meaning}"));
    format!("{EXAMPLES}\nExit status: {}", codes.join("; "))
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
        assert!(!help("doctor").contains("--server") && !help("doctor").contains("--start-empty"));
        assert!(!help("serve").contains("--server") && !help("serve").contains("--token-file"));
        for rule in ["ignore", "hold", "localboot", "menu", "install"] {
            assert!(help("serve").contains(rule), "{rule}");
        }
    }
}
