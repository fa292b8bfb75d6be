//! `bootlatch network`: interfaces, leases, relays, and what was dropped.

use std::net::Ipv4Addr;

use clap::Subcommand;
use hyper::Method;

use super::client::ApiClient;
use super::connection::ConnectionArgs;
use super::show::{Column, OutputFormat, note, show};

const INTERFACES: &[Column] = &[
    ("NAME", "/name"),
    ("ADDRESS", "/address"),
    ("MODE", "/mode"),
    ("STANDS DOWN", "/standsDown"),
    ("OTHER SERVERS", "/servers"),
];
const LEASES: &[Column] = &[
    ("ADDRESS", "/address"),
    ("MAC", "/mac"),
    ("HOST", "/host"),
    ("HOSTNAME", "/hostname"),
    ("STATE", "/state"),
    ("UNTIL", "/until"),
];
const RELAYS: &[Column] = &[
    ("RELAY", "/address"),
    ("SOURCE", "/source"),
    ("INTERFACE", "/interface"),
    ("BELIEVED", "/isBelieved"),
    ("REASON", "/reason"),
    ("MESSAGES", "/messages"),
    ("REFUSED", "/refused"),
    ("LAST", "/lastHeardTime"),
];
const DROPS: &[Column] =
    &[("COUNT", "/count"), ("OUTCOME", "/outcome"), ("PROTOCOL", "/protocol"), ("REASON", "/reason")];

/// The commands of `bootlatch network`.
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Show the interfaces with DHCP, and the other servers heard on them
    Interfaces {
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Show the leases of the DHCP server
    Leases {
        /// Only those with each of these words in address, MAC address, host, hostname or state
        words: Vec<String>,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// End the lease of an address, which another machine may then get; for a machine that is gone
    EndLease {
        /// Address
        address: Ipv4Addr,
    },
    /// Show the relays whose DHCP messages arrived, and whether they are believed
    Relays {
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Show what was dropped and refused since the server started, by reason
    Drops {
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
}

/// Runs a command of `bootlatch network`.
///
/// # Errors
/// The server does not answer, or refuses the request.
pub async fn run(command: NetworkCommand, connection_args: &ConnectionArgs) -> anyhow::Result<()> {
    let mut client = ApiClient::connect(connection_args).await?;
    let (path, output, columns) = match command {
        NetworkCommand::Interfaces { output } => ("interfaces", output, INTERFACES),
        NetworkCommand::Relays { output } => ("relays", output, RELAYS),
        NetworkCommand::Drops { output } => ("drops", output, DROPS),
        NetworkCommand::Leases { words, output } => {
            let mut list = client.ask(Method::GET, "/api/v1/leases", None).await?;
            let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
            if let Some(leases) = list["items"].as_array_mut() {
                leases.retain(|lease| {
                    let shown = LEASES.iter().filter_map(|(_, pointer)| lease.pointer(pointer)?.as_str());
                    let text = shown.collect::<Vec<_>>().join(" ").to_lowercase();
                    words.iter().all(|word| text.contains(word))
                });
            }
            return show(output, &list["items"], LEASES);
        }
        NetworkCommand::EndLease { address } => {
            client.ask(Method::DELETE, &format!("/api/v1/leases/{address}"), None).await?;
            note(&format!("lease of {address} ended"));
            return Ok(());
        }
    };
    let mut list = client.ask(Method::GET, &format!("/api/v1/{path}"), None).await?;
    if let (OutputFormat::Table, Some(interfaces)) = (output, list["items"].as_array_mut()) {
        for interface in interfaces {
            let Some(servers) = interface["servers"].as_array() else { continue };
            let addresses: Vec<_> = servers.iter().filter_map(|server| server["address"].as_str()).collect();
            interface["servers"] = addresses.join(", ").into();
        }
    }
    show(output, &list["items"], columns)
}
