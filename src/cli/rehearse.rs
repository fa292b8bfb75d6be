//! `bootlatch rehearse`: what a machine would be sent at its next boot.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use clap_complete::engine::ArgValueCandidates;
use hyper::Method;
use serde_json::Value;

use crate::fleet::text::printable;
use crate::fleet::{Architecture, Kind, Mac};

use super::client::ApiClient;
use super::completion;
use super::connection::ConnectionArgs;
use super::lookup;
use super::reference::{object_path, segment};
use super::show::{OutputFormat, json_text, print_or_end};

/// Width of the code and the name of a DHCP option.
const OPTION_WIDTH: usize = 32;

/// Options of `bootlatch rehearse`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  bootlatch rehearse node1\n  bootlatch rehearse node1 --arch x86_64-uefi-http -o json\n  \
                  bootlatch rehearse --mac 52:54:00:12:34:56 --arch bios\n\n\
                  Nothing is sent, recorded or changed. Without --arch, the firmware is the one that the machine last had; of one \
                  that was never seen, BIOS, UEFI over PXE and UEFI HTTP Boot are rehearsed."
)]
pub struct RehearseArgs {
    /// Host, by name or MAC address
    #[arg(value_name = "HOST", required_unless_present = "mac", add = ArgValueCandidates::new(completion::hosts))]
    name: Option<String>,
    /// MAC address of a machine, also of one that was never seen
    #[arg(long, conflicts_with = "name")]
    mac: Option<Mac>,
    /// Architecture of the firmware, as in [programs], or the number of DHCP option 93
    #[arg(long, value_name = "ARCHITECTURE")]
    arch: Option<Architecture>,
    /// Vendor class of the firmware (DHCP option 60)
    #[arg(long, value_name = "CLASS")]
    vendor_class: Option<String>,
    /// UUID of the machine (DHCP option 97)
    #[arg(long)]
    uuid: Option<uuid::Uuid>,
    /// Address of the machine
    #[arg(long)]
    address: Option<Ipv4Addr>,
    /// Relay of the machine's DHCP messages
    #[arg(long, value_name = "ADDRESS")]
    relay: Option<Ipv4Addr>,
    /// Interface of the server that the machine reaches
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// Show tokens, CHAP secrets and the content of configs; for admins
    #[arg(long)]
    secrets: bool,
    /// Namespace of the host
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Prints a rehearsal.
///
/// # Errors
/// The host does not exist, or the server refuses the request.
pub async fn rehearse(connection_args: &ConnectionArgs, args: &RehearseArgs) -> anyhow::Result<()> {
    let mut client = ApiClient::connect(connection_args).await?;
    let path = match (&args.name, args.mac) {
        (Some(name), _) => {
            let name = lookup::resolve(&mut client, Kind::BareMetalHost, &args.namespace, name).await?;
            format!("{}/rehearsal?", object_path(Kind::BareMetalHost, &args.namespace, &name))
        }
        (None, mac) => format!("/api/v1/rehearsal?mac={}&", mac.unwrap_or(Mac([0; 6]))),
    };
    let rehearsal = client.ask(Method::GET, &(path + &args.query()), None).await?;
    print_or_end(&match args.output {
        OutputFormat::Json => json_text(&rehearsal)?,
        OutputFormat::Yaml => serde_saphyr::to_string(&rehearsal)?,
        OutputFormat::Table => format_rehearsal(&rehearsal),
    })
}

impl RehearseArgs {
    fn query(&self) -> String {
        let given = [
            ("arch", self.arch.map(|architecture| architecture.0.to_string())),
            ("vendorClass", self.vendor_class.clone()),
            ("uuid", self.uuid.map(|uuid| uuid.to_string())),
            ("address", self.address.map(|address| address.to_string())),
            ("relay", self.relay.map(|relay| relay.to_string())),
            ("interface", self.interface.clone()),
            ("secrets", self.secrets.then(|| "true".to_owned())),
        ];
        let words = given.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", segment(&value?))));
        words.collect::<Vec<_>>().join("&")
    }
}

fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or("-")).into_owned()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Formats a rehearsal for people: each boot, step by step.
fn format_rehearsal(rehearsal: &Value) -> String {
    let machine = &rehearsal["machine"];
    let mut out = match machine["host"].as_str() {
        Some(_) => format!("Host {} ({})", text(&machine["host"]), text(&machine["mac"])),
        None => format!("Machine {}, never seen", text(&machine["mac"])),
    };
    for (name, key) in [("phase", "phase"), ("image", "image"), ("config", "bootConfigRef")] {
        if machine[key].is_string() {
            let _ = write!(out, ", {name} {}", text(&machine[key]));
        }
    }
    out += "\nNothing was sent, recorded or changed.";
    if rehearsal["isRedacted"] == true {
        out += " Secrets are redacted: --secrets shows them.";
    }
    out.push('\n');
    list(&rehearsal["boots"]).for_each(|boot| format_boot(&mut out, boot));
    out
}

fn format_boot(out: &mut String, boot: &Value) {
    let _ = write!(out, "\n{} ({})", text(&boot["architecture"]), text(&boot["vendorClass"]));
    if let Some(interface) = boot.get("interface") {
        let (name, address, mode) = (&interface["name"], &interface["address"], &interface["mode"]);
        let _ = write!(out, " at {} {}, {} mode", text(name), text(address), text(mode));
    }
    out.push('\n');
    list(&boot["assumptions"]).for_each(|one| {
        let _ = writeln!(out, "  assumed: {}", text(one));
    });
    list(&boot["warnings"]).for_each(|one| {
        let _ = writeln!(out, "  warning: {}", text(one));
    });
    let mut is_over = false;
    for (number, step) in (1..).zip(list(&boot["steps"])) {
        if step["isReached"] == false && !is_over {
            is_over = true;
            let _ = writeln!(out, "  The boot ends here. If the machine asked all the same:");
        }
        format_step(out, number, step);
    }
}

/// Formats one part of a step.
type FormatPart = fn(&mut String, &Value);

fn format_step(out: &mut String, number: usize, step: &Value) {
    let decision = &step["decision"];
    let title = match step["step"].as_str().unwrap_or_default() {
        "discover" => "DHCPDISCOVER of the firmware",
        "request" => "DHCPREQUEST of the firmware",
        "proxy_request" => "request on port 4011, of firmware that asks there",
        "boot_program" => "boot program",
        "autoexec" => "autoexec.ipxe",
        "grub_config" => "configuration of GRUB",
        "pxelinux_config" => "configuration of PXELINUX",
        "ipxe_discover" => "DHCPDISCOVER of iPXE",
        "ipxe_request" => "DHCPREQUEST of iPXE",
        "script" => "iPXE script",
        "iscsi_login" => "iSCSI login",
        "config" => "config of the installer",
        other => other,
    };
    let reason = decision["reason"].as_str().map(|reason| format!(" {reason}")).unwrap_or_default();
    let records = decision["records"].as_str().map(|name| format!("; records {name}")).unwrap_or_default();
    let _ = writeln!(
        out,
        "  {number}. {title}: {}{}{}",
        text(&decision["verdict"]),
        printable(&reason),
        printable(&records)
    );
    let _ = writeln!(out, "     {}", text(&decision["message"]));
    let parts: [(&str, FormatPart); 6] = [
        ("dhcp", format_dhcp),
        ("file", format_file),
        ("script", format_script),
        ("kernel", format_kernel),
        ("iscsi", format_iscsi),
        ("config", format_config),
    ];
    for (key, format) in parts {
        if let Some(part) = step.get(key) {
            format(out, part);
        }
    }
}

fn line(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "     {name:<OPTION_WIDTH$} {}", printable(value));
}

fn format_dhcp(out: &mut String, dhcp: &Value) {
    let Some(reply) = dhcp.get("reply") else {
        return line(out, "reply", "none");
    };
    let size = reply["hex"].as_str().map_or(0, |hex| hex.len() / 2);
    line(out, "reply", &format!("{} to {}, {size} octets", text(&reply["messageType"]), text(&dhcp["to"])));
    for (name, key) in [("probe first", "probe"), ("records lease", "lease")] {
        if dhcp[key].is_string() {
            line(out, name, &text(&dhcp[key]));
        }
    }
    for key in ["ciaddr", "yiaddr", "siaddr", "giaddr", "file"] {
        if !["0.0.0.0", ""].contains(&reply[key].as_str().unwrap_or_default()) {
            line(out, key, &text(&reply[key]));
        }
    }
    for option in list(&reply["options"]) {
        line(out, &format!("{:>3} {}", option["code"], text(&option["name"])), &text(&option["value"]));
    }
}

fn format_file(out: &mut String, file: &Value) {
    line(out, "url", &text(&file["url"]));
    if let Some(bytes) = file["bytes"].as_u64() {
        line(out, "size", &format!("{bytes} bytes"));
        line(out, "sha256", &text(&file["sha256"]));
    }
}

fn format_script(out: &mut String, script: &Value) {
    line(out, "url", &text(&script["url"]));
    for one in script["text"].as_str().unwrap_or_default().lines() {
        let _ = writeln!(out, "     | {}", printable(one));
    }
}

fn format_kernel(out: &mut String, kernel: &Value) {
    let words = |value: &Value| list(value).map(text).collect::<Vec<_>>().join(" ");
    for (name, value) in
        [("kernel arguments added", &kernel["added"]), ("kernel arguments removed", &kernel["removed"])]
    {
        if list(value).next().is_some() {
            line(out, name, &words(value));
        }
    }
    if kernel["kernel"].is_string() {
        line(out, "kernel in the image", &text(&kernel["kernel"]));
        line(out, "initrds in the image", &words(&kernel["initrds"]));
        line(out, "kernel line", &text(&kernel["line"]));
    }
}

fn format_iscsi(out: &mut String, iscsi: &Value) {
    for (name, key) in
        [("target", "target"), ("portal", "portal"), ("initiator", "initiator"), ("CHAP name", "chapUsername")]
    {
        if iscsi[key].is_string() {
            line(out, name, &text(&iscsi[key]));
        }
    }
    for unit in list(&iscsi["units"]) {
        let what = unit["image"].as_str().unwrap_or("seed of the config");
        let config = if unit["carriesConfig"] == true { ", with the host's config" } else { "" };
        let (device, bytes, serial) = (text(&unit["device"]), &unit["bytes"], text(&unit["serial"]));
        line(
            out,
            &format!("LUN {}", unit["lun"]),
            &format!("{what}: {device}, {bytes} bytes, serial {serial}{config}"),
        );
    }
    if iscsi["error"].is_string() {
        line(out, "error", &text(&iscsi["error"]));
    }
}

fn format_config(out: &mut String, config: &Value) {
    line(out, "config", &format!("{}, {}", text(&config["name"]), text(&config["format"])));
    line(out, "url", &text(&config["url"]));
    if config["delivery"].is_string() {
        line(out, "delivery", &text(&config["delivery"]));
    }
    for file in list(&config["files"]) {
        line(out, &text(&file["name"]), &format!("{} bytes", file["bytes"]));
        for one in file["text"].as_str().unwrap_or_default().lines() {
            let _ = writeln!(out, "     | {}", printable(one));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_boot_is_told_step_by_step() {
        let reply = json!({"hex": "00".repeat(300), "messageType": "OFFER", "ciaddr": "0.0.0.0", "siaddr": "10.0.0.2", "file": "a\u{1b}.efi",
                           "options": [{"code": 60, "name": "class identifier", "value": "PXEClient", "hex": "50"}]});
        let decision = |verdict: &str, message: &str| json!({"verdict": verdict, "message": message});
        let rehearsal = json!({
            "machine": {"mac": "52:54:00:00:00:01", "host": "default/vm", "phase": "Held"}, "isRedacted": true,
            "boots": [{"architecture": "bios", "vendorClass": "PXEClient", "assumptions": ["x"], "warnings": ["spec.image: y"],
                       "interface": {"name": "lan0", "address": "10.0.0.2", "mode": "proxy"},
                       "steps": [
                           {"step": "discover", "isReached": true, "decision": decision("chainload", "m"), "dhcp": {"reply": reply, "to": "broadcast"}},
                           {"step": "script", "isReached": false, "decision": {"verdict": "ignore", "reason": "held", "message": "held"},
                            "script": {"url": "http://x", "text": "#!ipxe\nexit"}},
                       ]}],
        });
        let text = format_rehearsal(&rehearsal);
        for expected in [
            "Host default/vm (52:54:00:00:00:01), phase Held\n",
            "bios (PXEClient) at lan0 10.0.0.2, proxy mode\n  assumed: x\n  warning: spec.image: y\n  1. DHCPDISCOVER of the firmware: chainload\n",
            "OFFER to broadcast, 300 octets\n",
            " 60 class identifier              PXEClient\n",
            "a.efi\n",
            "  The boot ends here. If the machine asked all the same:\n  2. iPXE script: ignore held\n",
            "     | #!ipxe\n     | exit\n",
        ] {
            assert!(text.contains(expected), "{expected:?}: {text}");
        }
    }
}
