use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};

use super::show::{Column, show};
use super::{Client, Output, Reach};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the hosts
    List {
        /// Hosts of all namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        #[command(flatten)]
        view: View,
    },
    /// Show one host in full
    Show {
        name: String,
        #[command(flatten)]
        view: View,
    },
    /// Ask for a new install of an image, also of the one that the host has
    Assign {
        name: String,
        /// The ISO to boot
        #[arg(long)]
        image: String,
        /// The boot config that its installer asks for
        #[arg(long)]
        config: Option<String>,
        /// Boot the image at every boot, instead of once
        #[arg(long)]
        forever: bool,
        #[command(flatten)]
        view: View,
    },
    /// Let a host boot its own disk
    Release {
        name: String,
        #[command(flatten)]
        view: View,
    },
    /// Leave a host alone until somebody decides
    Hold {
        name: String,
        #[command(flatten)]
        view: View,
    },
    /// Show what happened to a host
    Timeline {
        name: String,
        #[command(flatten)]
        view: View,
    },
}

#[derive(Debug, clap::Args)]
pub struct View {
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// The namespace that the host is in
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
pub const EVENTS: &[Column] =
    &[("TIME", "/time"), ("EVENT", "/event"), ("DETAIL", "/detail"), ("TIMES", "/count"), ("LAST", "/last")];
/// Says whose events they are as well.
pub const EVENTS_OF_ALL: &[Column] = &[
    ("TIME", "/time"),
    ("HOST", "/host"),
    ("EVENT", "/event"),
    ("DETAIL", "/detail"),
    ("TIMES", "/count"),
    ("LAST", "/last"),
];

/// Runs a command on hosts.
pub async fn run(verb: Verb, reach: &Reach) -> anyhow::Result<()> {
    let mut client = Client::connect(reach).await?;
    let hosts = |view: &View| format!("/api/v1/namespaces/{}/baremetalhosts", view.namespace);
    let (view, value, columns) = match verb {
        Verb::List { all_namespaces, view } => {
            let (route, columns) = match all_namespaces {
                true => ("/api/v1/baremetalhosts".to_owned(), [&[NAMESPACE], COLUMNS].concat()),
                false => (hosts(&view), COLUMNS.to_vec()),
            };
            let list = client.ask(Method::GET, &route, None).await?;
            return show(view.output, &items(list), &columns);
        }
        Verb::Show { name, view } => {
            let host = client.ask(Method::GET, &format!("{}/{name}", hosts(&view)), None).await?;
            (view, host, COLUMNS)
        }
        Verb::Assign { name, image, config, forever, view } => {
            let mut wish = json!({"image": image, "bootMode": if forever { "forever" } else { "once" }});
            if let Some(config) = config {
                wish["bootConfigRef"] = config.into();
            }
            let path = format!("{}/{name}/install", hosts(&view));
            (view, client.ask(Method::POST, &path, Some(&wish)).await?, COLUMNS)
        }
        Verb::Release { name, view } => {
            let path = format!("{}/{name}/localboot", hosts(&view));
            (view, client.ask(Method::POST, &path, None).await?, COLUMNS)
        }
        Verb::Hold { name, view } => {
            let path = format!("{}/{name}/hold", hosts(&view));
            (view, client.ask(Method::POST, &path, None).await?, COLUMNS)
        }
        Verb::Timeline { name, view } => {
            let path = format!("{}/{name}/timeline", hosts(&view));
            let list = client.ask(Method::GET, &path, None).await?;
            (view, items(list), EVENTS)
        }
    };
    show(view.output, &value, columns)
}

/// Takes a list's items out of it.
pub fn items(mut list: Value) -> Value {
    list.get_mut("items").map(Value::take).unwrap_or_else(|| json!([]))
}
