//! `bootlatch host`: hosts and what they boot.

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use hyper::Method;
use serde_json::{Value, json};

use crate::fleet::{Kind, Mac, Name};

use super::client::{ApiClient, ClientError};
use super::completion;
use super::connection::ConnectionArgs;
use super::console::{self, ConsoleArgs};
use super::exit::UsageError;
use super::get::{SelectionArgs, ViewArgs, show_object, show_objects};
use super::lookup;
use super::power::{self, DeviceArg, PowerArgs, WaveArgs};
use super::prompt;
use super::reference::{Wanted, collection_path, object_path};
use super::refusals::Refusals;
use super::show::{note, print};
use super::timeline::{self, TimelineView};
use super::why::{self, WhyArgs};

/// Subcommands of `bootlatch host`.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// List the hosts, as `get hosts` does
    List {
        #[command(flatten)]
        selection: SelectionArgs,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Show hosts, as `get host` does
    Show {
        /// Hosts, by name or MAC address
        #[arg(value_name = "HOST", required = true, add = ArgValueCandidates::new(completion::hosts))]
        names: Vec<String>,
        /// Namespace of the hosts
        #[arg(short, long, default_value = "default")]
        namespace: String,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Declare a host
    #[command(after_help = "Examples:\n  bootlatch host add node1 --mac 52:54:00:12:34:56\n  \
                            bootlatch host add node1 --mac 52:54:00:12:34:56 --image fedora --config fedora-ks")]
    Add(AddArgs),
    /// Remove hosts
    Remove {
        /// Hosts, by name or MAC address
        #[arg(value_name = "HOST", required = true, add = ArgValueCandidates::new(completion::hosts))]
        names: Vec<String>,
        /// Namespace of the hosts
        #[arg(short, long, default_value = "default")]
        namespace: String,
    },
    /// Request a new install of an ISO, also of the one that the host already has
    #[command(after_help = "Examples:\n  bootlatch host assign node1 --image fedora --config fedora-ks\n  \
                            bootlatch host assign 52:54:00:12:34:56 --image live --forever\n\n\
                            Without --config, the only config of the ISO is taken. Of several, one must be named.")]
    Assign {
        #[command(flatten)]
        host: HostArgs,
        #[command(flatten)]
        boot: BootArgs,
    },
    /// Make a host boot its local disk
    Localboot {
        #[command(flatten)]
        host: HostArgs,
    },
    /// Hold a host: its requests are not answered until another action
    Hold {
        #[command(flatten)]
        host: HostArgs,
    },
    /// Switch hosts on, by their BMCs
    #[command(
        after_help = "Examples:\n  bootlatch host on node1 node2\n  bootlatch host on -l rack=a7 --wave 4 --pace 10s"
    )]
    On {
        #[command(flatten)]
        hosts: PowerArgs,
        #[command(flatten)]
        waves: WaveArgs,
    },
    /// Shut hosts down; what is still on after 3 minutes is switched off
    #[command(after_help = "Examples:\n  bootlatch host off node1\n  bootlatch host off node1 --force")]
    Off {
        #[command(flatten)]
        hosts: PowerArgs,
        /// Switch off at once, without a shutdown
        #[arg(long)]
        force: bool,
    },
    /// Shut hosts down and switch them on; a host that is off is only switched on
    Restart {
        #[command(flatten)]
        hosts: PowerArgs,
        #[command(flatten)]
        waves: WaveArgs,
    },
    /// Restart hosts at once, without a shutdown; a host that is off is switched on
    Reset {
        #[command(flatten)]
        hosts: PowerArgs,
        #[command(flatten)]
        waves: WaveArgs,
    },
    /// Set the device of the hosts' next boot, by their BMCs
    #[command(after_help = "Examples:\n  bootlatch host boot-device network node1")]
    BootDevice {
        /// Device
        device: DeviceArg,
        #[command(flatten)]
        hosts: PowerArgs,
        /// Boot from it at every boot
        #[arg(long)]
        persistent: bool,
    },
    /// Show why a host does not boot, and the steps of its boots
    #[command(after_help = "Examples:\n  bootlatch host why node1")]
    Why(WhyArgs),
    /// Show the serial console of a host, as it was captured; see spec.bmc.console
    #[command(after_help = "Examples:\n  bootlatch host console node1 -f")]
    Console(ConsoleArgs),
    /// Show the timeline of a host, or where the time of its boots went
    #[command(after_help = "Examples:\n  bootlatch host timeline node1\n  bootlatch host timeline node1 --ledger")]
    Timeline {
        /// Name or MAC address of the host
        #[arg(value_name = "HOST", add = ArgValueCandidates::new(completion::hosts))]
        name: String,
        #[command(flatten)]
        view: TimelineView,
    },
}

/// One host, and the output of it.
#[derive(Debug, clap::Args)]
pub struct HostArgs {
    /// Name or MAC address of the host
    #[arg(value_name = "HOST", add = ArgValueCandidates::new(completion::hosts))]
    name: String,
    /// Namespace of the host
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    view: ViewArgs,
}

/// What a host boots.
#[derive(Debug, clap::Args)]
pub struct BootArgs {
    /// ISO to boot; localboot for the local disk
    #[arg(long, value_name = "ISO", add = ArgValueCandidates::new(completion::isos))]
    image: String,
    /// Boot config for the installer
    #[arg(long, add = ArgValueCandidates::new(completion::configs))]
    config: Option<String>,
    /// Boot the ISO without a config, although it has some
    #[arg(long, conflicts_with = "config")]
    no_config: bool,
    /// Boot the ISO at every boot, not only for one install
    #[arg(long)]
    forever: bool,
}

/// Options of `bootlatch host add`.
#[derive(Debug, clap::Args)]
pub struct AddArgs {
    /// Name of the host
    name: Name,
    /// MAC address of the interface that boots
    #[arg(long)]
    mac: Mac,
    /// Address of the host
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<std::net::IpAddr>,
    /// ISO to install; without it the host boots its local disk
    #[arg(long, value_name = "ISO", add = ArgValueCandidates::new(completion::isos))]
    image: Option<String>,
    /// Boot config for the installer
    #[arg(long, requires = "image", add = ArgValueCandidates::new(completion::configs))]
    config: Option<String>,
    /// Install without a config, although the ISO has some
    #[arg(long, requires = "image", conflicts_with = "config")]
    no_config: bool,
    /// Boot the ISO at every boot, not only for one install
    #[arg(long, requires = "image")]
    forever: bool,
    /// Label of the host; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Namespace of the host
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    view: ViewArgs,
}

/// The word for the local disk in the place of an image.
const LOCALBOOT: &str = "localboot";
/// The word for the boot menu in the place of an image.
const MENU: &str = "menu";
const KIND: Kind = Kind::BareMetalHost;

/// Runs a `bootlatch host` command.
///
/// # Errors
/// The server refuses the request.
pub async fn run(verb: HostCommand, connection_args: &ConnectionArgs) -> anyhow::Result<()> {
    if let HostCommand::Timeline { name, view } = verb {
        return timeline::timeline(connection_args, Some(&name), &view).await;
    }
    if let HostCommand::Why(args) = &verb {
        return why::why(connection_args, args).await;
    }
    let mut client = ApiClient::connect(connection_args).await?;
    match verb {
        HostCommand::List { selection, view } => {
            show_objects(&mut client, &[Wanted { kind: KIND, names: Vec::new() }], &selection, view).await
        }
        HostCommand::Show { names, namespace, view } => {
            let selection = SelectionArgs::of_namespace(&namespace);
            show_objects(&mut client, &[Wanted { kind: KIND, names }], &selection, view).await
        }
        HostCommand::Add(args) => add(&mut client, args).await,
        HostCommand::Remove { names, namespace } => remove(&mut client, &names, &namespace).await,
        HostCommand::Assign { host, boot } => assign(&mut client, &host, &boot).await,
        HostCommand::Localboot { host } => act(&mut client, &host, "localboot", None).await,
        HostCommand::Hold { host } => act(&mut client, &host, "hold", None).await,
        HostCommand::On { hosts, waves } => power::switch(&mut client, &hosts, "on", Some(&waves)).await,
        HostCommand::Off { hosts, force } => {
            power::switch(&mut client, &hosts, if force { "forceOff" } else { "off" }, None).await
        }
        HostCommand::Restart { hosts, waves } => power::switch(&mut client, &hosts, "restart", Some(&waves)).await,
        HostCommand::Reset { hosts, waves } => power::switch(&mut client, &hosts, "reset", Some(&waves)).await,
        HostCommand::BootDevice { device, hosts, persistent } => {
            power::set_boot_device(&mut client, &hosts, device, persistent).await
        }
        HostCommand::Why(args) => why::why(connection_args, &args).await,
        HostCommand::Console(args) => console::console(connection_args, &args).await,
        HostCommand::Timeline { name, view } => timeline::timeline(connection_args, Some(&name), &view).await,
    }
}

/// Requests an action on a host, and shows the host after it.
async fn act(client: &mut ApiClient, host: &HostArgs, action: &str, body: Option<&Value>) -> anyhow::Result<()> {
    let name = lookup::resolve(client, KIND, &host.namespace, &host.name).await?;
    let path = format!("{}/{action}", object_path(KIND, &host.namespace, &name));
    let after = client.ask(Method::POST, &path, body).await?;
    show_object(client, KIND, after, host.view).await
}

/// Requests an install.
async fn assign(client: &mut ApiClient, host: &HostArgs, boot: &BootArgs) -> anyhow::Result<()> {
    if boot.image == LOCALBOOT {
        if boot.config.is_some() || boot.forever {
            return Err(UsageError("--config and --forever: only for an ISO, and the image is localboot".into()).into());
        }
        return act(client, host, LOCALBOOT, None).await;
    }
    let present = lookup::object(client, KIND, &host.namespace, &host.name).await?;
    let mut request = json!({"image": boot.image, "bootMode": if boot.forever { "forever" } else { "once" }});
    let config = match (&boot.config, boot.no_config) {
        (Some(config), _) => Some(config.clone()),
        (None, true) => Some(String::new()),
        (None, false) => choose_config(client, &present, &boot.image).await?,
    };
    if let Some(config) = config {
        request["bootConfigRef"] = config.into();
    }
    act(client, host, "install", Some(&request)).await
}

/// Declares a host.
async fn add(client: &mut ApiClient, args: AddArgs) -> anyhow::Result<()> {
    let mut spec = json!({"bootMACAddress": args.mac.to_string()});
    if let Some(ip) = args.ip {
        spec["ip"] = ip.to_string().into();
    }
    if let Some(image) = &args.image {
        let config = match (args.config, args.no_config) {
            (None, false) => choose_config(client, &Value::Null, image).await?,
            (config, _) => config,
        };
        spec["image"] = image.as_str().into();
        spec["bootMode"] = if args.forever { "forever" } else { "once" }.into();
        if let Some(config) = config {
            spec["bootConfigRef"] = config.into();
        }
    }
    let mut labels = json!({});
    for label in &args.labels {
        let Some((key, value)) = label.split_once('=') else {
            return Err(UsageError(format!("--label {label:?}: expected KEY=VALUE")).into());
        };
        labels[key] = value.into();
    }
    let metadata = json!({"name": args.name, "namespace": args.namespace, "labels": labels});
    let host = json!({"apiVersion": "v1", "kind": KIND.as_str(), "metadata": metadata, "spec": spec});
    let added = client.ask(Method::POST, &collection_path(KIND, Some(&args.namespace)), Some(&host)).await?;
    show_object(client, KIND, added, args.view).await
}

/// Removes hosts. If one of them is refused, the others are removed all the same.
async fn remove(client: &mut ApiClient, names: &[String], namespace: &str) -> anyhow::Result<()> {
    let mut refusals = Refusals::default();
    for word in names {
        let removed = async {
            let name = lookup::resolve(client, KIND, namespace, word).await?;
            client.ask(Method::DELETE, &object_path(KIND, namespace, &name), None).await?;
            anyhow::Ok(name)
        };
        match removed.await {
            Ok(name) => print(&format!("removed {name}\n"))?,
            Err(error) => refusals.note(error)?,
        }
    }
    refusals.end()
}

/// Returns the config for a host that boots an ISO and for which none was named: the only one that the ISO lists, or
/// the one that somebody picks on a terminal. `None` leaves the config to the server: the host keeps the one that it
/// has for this ISO, or the ISO has none.
async fn choose_config(client: &mut ApiClient, host: &Value, image: &str) -> anyhow::Result<Option<String>> {
    if image == MENU || image == LOCALBOOT {
        return Ok(None);
    }
    let Some(iso) = client.find(&object_path(Kind::IscsiCdrom, "", image)).await? else {
        let message = format!(
            "--image: ISO {image} does not exist: `bootlatch iso list` lists the ISOs, `bootlatch iso add` adds one; for the local \
             disk, the image is localboot"
        );
        return Err(ClientError::Refused { code: 422, message, field: Some("image".to_owned()) }.into());
    };
    let configs: Vec<_> =
        iso["spec"]["bootConfigs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let present = host["spec"]["bootConfigRef"].as_str().unwrap_or_default();
    if host["spec"]["image"] == image && configs.contains(&present) {
        return Ok(None);
    }
    match configs.as_slice() {
        [] => Ok(None),
        [only] => {
            note(&format!("config {only}: the only one of ISO {image}; --no-config boots it without"));
            Ok(Some((*only).to_owned()))
        }
        several if prompt::is_interactive() => ask_for_config(image, several).await,
        several => {
            let known = several.join(", ");
            let message =
                format!("ISO {image} has several configs ({known}): name one with --config, or give --no-config");
            Err(UsageError(message).into())
        }
    }
}

/// Asks on a terminal which config of an ISO a host gets.
async fn ask_for_config(image: &str, configs: &[&str]) -> anyhow::Result<Option<String>> {
    let question = format!("ISO {image} has several configs: {}. Which one? [none]", configs.join(", "));
    let answer = prompt::ask_beside(question).await?;
    match answer.as_str() {
        "" | "none" => Ok(Some(String::new())),
        config if configs.contains(&config) => Ok(Some(config.to_owned())),
        other => {
            Err(UsageError(format!("{other:?} is no config of ISO {image}: expected {}", configs.join(", "))).into())
        }
    }
}
