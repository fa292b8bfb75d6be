//! `bootlatch host power`: the power of a host, by its BMC.

use hyper::Method;
use serde_json::json;

use crate::fleet::Kind;

use super::client::ApiClient;
use super::lookup;
use super::reference::{kind_and_name, object_path};
use super::show::print;

/// An action on the power of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PowerAction {
    /// Switch on
    On,
    /// Shut down; given again, switch off at once
    Off,
    /// Restart at once
    Cycle,
}

/// Switches a host. On and off are recorded as `spec.online`; what already has the value is sent to the BMC again.
///
/// # Errors
/// The host has no BMC, or the BMC or the server refuses the request.
pub async fn switch(client: &mut ApiClient, namespace: &str, word: &str, action: PowerAction) -> anyhow::Result<()> {
    let host = lookup::object(client, Kind::BareMetalHost, namespace, word).await?;
    let name = host["metadata"]["name"].as_str().unwrap_or(word).to_owned();
    if host.pointer("/spec/bmc/address").is_none() {
        anyhow::bail!(
            "host {name} has no BMC: set spec.bmc (address, username, password), such as with `bootlatch edit host/{name}`"
        );
    }
    let wanted = match action {
        PowerAction::On => Some((true, "On")),
        PowerAction::Off => Some((false, "ForceOff")),
        PowerAction::Cycle => None,
    };
    let done = match wanted {
        Some((online, _)) if host["spec"]["online"] != online => {
            let path = object_path(Kind::BareMetalHost, namespace, &name);
            client.merge(&path, &json!({"spec": {"online": online}})).await?;
            match online {
                true => "power on requested",
                false => "shutdown requested; its power is cut in 3 minutes, or at once by the same command",
            }
        }
        Some((online, reset)) => {
            send(client, namespace, &name, reset).await?;
            if online { "switched on" } else { "switched off" }
        }
        None => {
            send(client, namespace, &name, "ForceRestart").await?;
            "restarted"
        }
    };
    print(&format!("{} {done}\n", kind_and_name(Kind::BareMetalHost, &name)))
}

/// Has the BMC reset the machine, by the server's Redfish service.
async fn send(client: &mut ApiClient, namespace: &str, name: &str, reset: &str) -> anyhow::Result<()> {
    let path = format!("/redfish/v1/Systems/{namespace}~{name}/Actions/ComputerSystem.Reset");
    client.ask(Method::POST, &path, Some(&json!({"ResetType": reset}))).await?;
    Ok(())
}
