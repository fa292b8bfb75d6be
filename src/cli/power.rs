//! `bootlatch host on`, `off`, `restart`, `reset` and `boot-device`: hosts by their BMCs.

use std::time::Duration;

use anyhow::bail;
use clap_complete::engine::ArgValueCandidates;
use hyper::Method;
use serde_json::{Value, json};

use crate::fleet::Kind;

use super::client::ApiClient;
use super::completion;
use super::exit::UsageError;
use super::get::SelectionArgs;
use super::lookup;
use super::reference::{kind_and_name, object_path};
use super::refusals::Refusals;
use super::show::print;

const KIND: Kind = Kind::BareMetalHost;
/// Maximum time between two waves.
const MAX_PACE: Duration = Duration::from_secs(3600);

/// The hosts of a power command.
#[derive(Debug, clap::Args)]
pub struct PowerArgs {
    /// Hosts, by name or MAC address
    #[arg(value_name = "HOST", add = ArgValueCandidates::new(completion::hosts))]
    names: Vec<String>,
    #[command(flatten)]
    selection: SelectionArgs,
}

/// How fast many hosts are switched.
#[derive(Debug, clap::Args)]
pub struct WaveArgs {
    /// Number of hosts that are switched within --pace, evenly spread
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    wave: u32,
    /// Time between two waves, as in 30s or 2m; at most an hour
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = parse_pace)]
    pace: Duration,
}

/// A boot device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DeviceArg {
    /// The network (PXE or HTTP)
    Network,
    /// The local disk
    Disk,
    /// The boot order of the firmware
    Default,
}

impl DeviceArg {
    fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Disk => "disk",
            Self::Default => "default",
        }
    }
}

/// Requests a power change of hosts. Of many, each begins a little later than the one before: the server keeps the
/// times, and this command need not go on.
///
/// # Errors
/// No host is named, or the server refuses the request for one: the others are switched all the same.
pub async fn switch(
    client: &mut ApiClient,
    args: &PowerArgs,
    operation: &str,
    waves: Option<&WaveArgs>,
) -> anyhow::Result<()> {
    let mut refusals = Refusals::default();
    for (number, (namespace, name)) in hosts(client, args).await?.into_iter().enumerate() {
        let delay = waves.map_or(0, |waves| delay_of(number, waves));
        let body = json!({"operation": operation, "delaySeconds": delay});
        match post(client, (&namespace, &name), "power", &body).await {
            Ok(name) => {
                let later = if delay > 0 { format!(", in {delay} s") } else { String::new() };
                print(&format!("{} {operation} requested{later}\n", kind_and_name(KIND, &name)))?;
            }
            Err(error) => refusals.note(error.context(kind_and_name(KIND, &name)))?,
        }
    }
    refusals.end()
}

/// Returns the seconds until a host is switched: the hosts of a wave are spread evenly over its time.
fn delay_of(number: usize, waves: &WaveArgs) -> u64 {
    let number = u64::try_from(number).unwrap_or(u64::MAX);
    number.saturating_mul(waves.pace.as_secs()) / u64::from(waves.wave.max(1))
}

/// Parses the time between two waves, in whole seconds. A number without a unit is seconds.
fn parse_pace(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().or_else(|| {
        let time = Duration::try_from(text.parse::<jiff::SignedDuration>().ok()?).ok()?;
        (time.subsec_nanos() == 0).then_some(time.as_secs())
    });
    let seconds = seconds.filter(|seconds| *seconds <= MAX_PACE.as_secs());
    seconds.map(Duration::from_secs).ok_or_else(|| "expected whole seconds up to an hour, as in 30s or 2m".to_owned())
}

/// Has the BMCs of hosts set their boot device.
///
/// # Errors
/// No host is named, or a BMC or the server refuses the request: the others are set all the same.
pub async fn set_boot_device(
    client: &mut ApiClient,
    args: &PowerArgs,
    device: DeviceArg,
    persistent: bool,
) -> anyhow::Result<()> {
    let mut refusals = Refusals::default();
    for (namespace, name) in hosts(client, args).await? {
        let body = json!({"device": device.as_str(), "persistent": persistent});
        match post(client, (&namespace, &name), "bootdevice", &body).await {
            Ok(name) => print(&format!("{} boots from {}\n", kind_and_name(KIND, &name), device.as_str()))?,
            Err(error) => refusals.note(error.context(kind_and_name(KIND, &name)))?,
        }
    }
    refusals.end()
}

/// Sends an action on a host. Returns the name of the host.
async fn post(
    client: &mut ApiClient,
    (namespace, word): (&str, &str),
    action: &str,
    body: &Value,
) -> anyhow::Result<String> {
    let name = lookup::resolve(client, KIND, namespace, word).await?;
    client.ask(Method::POST, &format!("{}/{action}", object_path(KIND, namespace, &name)), Some(body)).await?;
    Ok(name)
}

/// Returns the namespaces and names of the hosts of a command.
async fn hosts(client: &mut ApiClient, args: &PowerArgs) -> anyhow::Result<Vec<(String, String)>> {
    let selection = &args.selection;
    match (args.names.is_empty(), selection.selects()) {
        (true, false) => Err(UsageError("name the hosts, or give -l or --field-selector".to_owned()).into()),
        (false, true) => Err(UsageError("give either names or a selector, not both".to_owned()).into()),
        (false, false) => Ok(args.names.iter().map(|name| (selection.namespace.clone(), name.clone())).collect()),
        (true, true) => {
            let list = client.ask(Method::GET, &selection.list_path(KIND, None, &[]), None).await?;
            let text = |host: &Value, field: &str| host["metadata"][field].as_str().unwrap_or_default().to_owned();
            let hosts = lookup::items(list);
            if hosts.is_empty() {
                bail!("no host matches the selector");
            }
            Ok(hosts.iter().map(|host| (text(host, "namespace"), text(host, "name"))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_switched_in_waves() {
        let waves = |wave, pace| WaveArgs { wave, pace: Duration::from_secs(pace) };
        let delays = |wave, pace| (0..7).map(|number| delay_of(number, &waves(wave, pace))).collect::<Vec<_>>();
        assert_eq!(delays(3, 6), [0, 2, 4, 6, 8, 10, 12]);
        assert_eq!(delays(10, 5), [0, 0, 1, 1, 2, 2, 3]);
        assert_eq!(delays(1, 0), [0; 7]);
        assert_eq!(delay_of(usize::MAX, &waves(1, 3600)), u64::MAX, "refused by the server");
    }

    #[test]
    fn a_pace_has_a_unit_or_is_in_seconds() {
        for (text, seconds) in [
            ("5s", Some(5)),
            ("1m", Some(60)),
            ("1m 30s", Some(90)),
            ("1h", Some(3600)),
            ("10", Some(10)),
            ("0", Some(0)),
        ] {
            assert_eq!(parse_pace(text).ok().map(|pace| pace.as_secs()), seconds, "{text}");
        }
        for text in ["", "5 x", "-5s", "500ms", "1h 1s", "3601", "s"] {
            assert!(parse_pace(text).unwrap_err().contains("30s or 2m"), "{text}");
        }
    }
}
