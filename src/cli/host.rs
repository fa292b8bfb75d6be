//! `bootlatch host`: hosts and what they boot.

use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};

use super::client::{ApiClient, ConnectionArgs};
use super::show::{Column, OutputFormat, show};

/// Subcommands of `bootlatch host`.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// List the hosts
    List {
        /// Hosts of all namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        #[command(flatten)]
        view: HostArgs,
    },
    /// Show one host
    Show {
        /// Name of the host
        name: String,
        #[command(flatten)]
        view: HostArgs,
    },
    /// Request a new install of an ISO, also of the one that the host already has
    Assign {
        /// Name of the host
        name: String,
        /// ISO to boot
        #[arg(long)]
        image: String,
        /// Boot config for the installer
        #[arg(long)]
        config: Option<String>,
        /// Boot the ISO at every boot, not only for one install
        #[arg(long)]
        forever: bool,
        #[command(flatten)]
        view: HostArgs,
    },
    /// Make a host boot its local disk
    Localboot {
        /// Name of the host
        name: String,
        #[command(flatten)]
        view: HostArgs,
    },
    /// Hold a host: its requests are not answered until another action
    Hold {
        /// Name of the host
        name: String,
        #[command(flatten)]
        view: HostArgs,
    },
    /// Show the timeline of a host
    Timeline {
        /// Name of the host
        name: String,
        #[command(flatten)]
        view: HostArgs,
    },
}

/// Options of all `bootlatch host` commands.
#[derive(Debug, clap::Args)]
pub struct HostArgs {
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    /// Namespace of the host
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

const NAMESPACE: Column = ("NAMESPACE", "/metadata/namespace");
const COLUMNS: &[Column] = &[
    ("NAME", "/metadata/name"),
    ("MAC", "/spec/bootMACAddress"),
    ("ADDRESS", "/status/address|/spec/ip"),
    ("IMAGE", "/spec/image"),
    ("CONFIG", "/spec/bootConfigRef"),
    ("MODE", "/spec/bootMode"),
    ("PHASE", "/status/phase"),
    ("POWER", "/status/power"),
    ("FIRMWARE", "/status/firmware"),
    ("LAST SEEN", "/status/lastSeenTime"),
];
/// Columns of the timeline of a host.
pub const EVENTS: &[Column] =
    &[("TIME", "/time"), ("EVENT", "/event"), ("DETAIL", "/detail"), ("TIMES", "/count"), ("LAST", "/last")];
/// Columns of the timeline of an ISO or boot config, with the host of each event.
pub const EVENTS_OF_ALL: &[Column] = &[
    ("TIME", "/time"),
    ("HOST", "/host"),
    ("EVENT", "/event"),
    ("DETAIL", "/detail"),
    ("TIMES", "/count"),
    ("LAST", "/last"),
];

/// Runs a `bootlatch host` command.
///
/// # Errors
/// The server refuses the request.
pub async fn run(verb: HostCommand, connection_args: &ConnectionArgs) -> anyhow::Result<()> {
    let mut client = ApiClient::connect(connection_args).await?;
    let hosts = |view: &HostArgs| format!("/api/v1/namespaces/{}/baremetalhosts", view.namespace);
    let (view, value, columns) = match verb {
        HostCommand::List { all_namespaces, view } => {
            let (route, columns) = match all_namespaces {
                true => ("/api/v1/baremetalhosts".to_owned(), [&[NAMESPACE], COLUMNS].concat()),
                false => (hosts(&view), COLUMNS.to_vec()),
            };
            let list = client.ask(Method::GET, &route, None).await?;
            return show(view.output, &items(list), &columns);
        }
        HostCommand::Show { name, view } => {
            let host = client.ask(Method::GET, &format!("{}/{name}", hosts(&view)), None).await?;
            (view, host, COLUMNS)
        }
        HostCommand::Assign { name, image, config, forever, view } => {
            let mut request = json!({"image": image, "bootMode": if forever { "forever" } else { "once" }});
            if let Some(config) = config {
                request["bootConfigRef"] = config.into();
            }
            let path = format!("{}/{name}/install", hosts(&view));
            (view, client.ask(Method::POST, &path, Some(&request)).await?, COLUMNS)
        }
        HostCommand::Localboot { name, view } => {
            let path = format!("{}/{name}/localboot", hosts(&view));
            (view, client.ask(Method::POST, &path, None).await?, COLUMNS)
        }
        HostCommand::Hold { name, view } => {
            let path = format!("{}/{name}/hold", hosts(&view));
            (view, client.ask(Method::POST, &path, None).await?, COLUMNS)
        }
        HostCommand::Timeline { name, view } => {
            let path = format!("{}/{name}/timeline", hosts(&view));
            let list = client.ask(Method::GET, &path, None).await?;
            (view, items(list), EVENTS)
        }
    };
    show(view.output, &value, columns)
}

/// Returns the items of a list.
pub fn items(mut list: Value) -> Value {
    list.get_mut("items").map(Value::take).unwrap_or_else(|| json!([]))
}
