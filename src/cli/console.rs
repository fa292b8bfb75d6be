//! `bootlatch host console`: the serial console of a host, as it was captured.

use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;

use crate::fleet::Kind;
use crate::fleet::text::printable_lines;

use super::client::ApiClient;
use super::completion;
use super::connection::ConnectionArgs;
use super::lookup;
use super::show::print;

/// Interval in which a console that is followed is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// A host, and which part of its console.
#[derive(Debug, clap::Args)]
pub struct ConsoleArgs {
    /// Name or MAC address of the host
    #[arg(value_name = "HOST", add = ArgValueCandidates::new(completion::hosts))]
    name: String,
    /// Namespace of the host
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Go on with what comes, and with the next boot
    #[arg(short, long, conflicts_with = "previous")]
    follow: bool,
    /// Show the boot before the present one
    #[arg(long)]
    previous: bool,
}

/// Prints the console of a boot.
///
/// # Errors
/// The host does not exist, or the server refuses the request.
pub async fn console(connection_args: &ConnectionArgs, args: &ConsoleArgs) -> anyhow::Result<()> {
    let mut client = ApiClient::connect(connection_args).await?;
    let name = lookup::resolve(&mut client, Kind::BareMetalHost, &args.namespace, &args.name).await?;
    let path = format!("/api/v1/namespaces/{}/baremetalhosts/{name}/console", args.namespace);
    let mut offset = 0;
    loop {
        let text = client.bytes(&format!("{path}?from={offset}&previous={}", args.previous)).await;
        let text = match text {
            // The file of the next boot is shorter.
            Err(_) if offset > 0 => {
                offset = 0;
                client.bytes(&path).await?
            }
            other => other?,
        };
        offset += text.len();
        // A carriage return belongs to the line's end of a serial line.
        let shown = String::from_utf8_lossy(&text).replace('\r', "");
        print(&printable_lines(&shown))?;
        if !args.follow {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
