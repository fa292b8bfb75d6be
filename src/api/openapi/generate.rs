use serde_json::{Map, Value, json};

use crate::provision::generate::{Platform, Template};

use crate::api::openapi::paths::{OBJECT, content, operation};
use crate::api::openapi::schemas::{list_of, reference, text};

/// Describes what makes configs from a few words.
pub fn add(paths: &mut Map<String, Value>) {
    for (maker, id, body) in
        [("ignition", "generateIgnition", "IgnitionWish"), ("cloudinit", "generateCloudInit", "CloudInitWish")]
    {
        let body = content(OBJECT, &reference(body));
        let bad = [400, 401, 403, 408, 409, 413, 415, 422, 503];
        let made = operation(id, &[], &[("dryRun", "string")], Some(body), &[(200, "Generated")], &bad);
        paths.insert(format!("/api/v1/configs/{maker}/generate"), json!({"post": made}));
    }
}

/// Lists the schemas of its bodies and of its answer.
pub fn schemas() -> [(&'static str, Value); 3] {
    [("IgnitionWish", ignition()), ("CloudInitWish", cloudinit()), ("Generated", generated())]
}

/// Is a text that may be left out.
fn some(about: &str) -> Value {
    let mut schema = text(about);
    schema["nullable"] = true.into();
    schema
}

const VOLUME: &str =
    "Volume to write the files to; the first of the configuration where none is named; bootlatch for none.";
const KEY: &str = "Public key as authorized_keys has it, without options.";

fn ignition() -> Value {
    let platforms = Platform::ALL.map(Platform::as_str).join(", ");
    let roles = "Roles to make configs for; all of the platform's where none is named.";
    let mut roles = list_of(roles, text("bootstrap, master or worker of a cluster; master, worker or node of fcos."));
    roles["nullable"] = true.into();
    roles["minItems"] = 1.into();
    json!({
        "type": "object", "required": ["platform", "version", "cluster", "sshKey"], "additionalProperties": false,
        "description": "What Ignition configs are made of.",
        "properties": {
            "platform": text(&format!("What reads the configs: {platforms}.")),
            "version": text("Version of the platform, as in 4.19: it says which version of Ignition is written. Of fcos, a release or a stream."),
            "cluster": {
                "type": "object", "required": ["name"], "additionalProperties": false, "description": "The cluster.",
                "properties": {
                    "name": text("Name of the cluster; configs and files are named after it."),
                    "baseDomain": some("Domain that the cluster's own is below. Every cluster needs one; fcos does not."),
                    "network": some("Network that the nodes' addresses are of, as in 10.1.107.0/24."),
                },
            },
            "sshKey": text(KEY),
            "pullSecret": {
                "nullable": true, "description": "Pull secret for the registries: JSON, as a text or as it is.",
                "oneOf": [{"type": "string"}, {"type": "object"}],
            },
            "nodeRoles": roles,
            "certificateAuthority": some("Root CA of the cluster in PEM, by which its machines believe the server that they take their configs from."),
            "volume": some(VOLUME),
        },
    })
}

fn cloudinit() -> Value {
    let templates = Template::ALL.map(Template::as_str).join(", ");
    let interface = json!({
        "type": "object", "required": ["name"], "additionalProperties": false,
        "properties": {
            "name": text("Name of the interface, as in eth0."),
            "addresses": list_of("Addresses with the length of their network's prefix; none for DHCP.", text("As in 10.1.107.11/24.")),
            "gateway": some("Router of the default route."),
            "nameservers": list_of("Name servers.", text("IP address.")),
        },
    });
    let interfaces =
        json!({"type": "array", "minItems": 1, "items": interface, "description": "Its network interfaces."});
    json!({
        "type": "object", "required": ["hostname"], "additionalProperties": false,
        "description": "What one machine's cloud-init files are made of.",
        "properties": {
            "template": some(&format!("What the machine is made for: {templates}.")),
            "hostname": text("Name of the machine; its config and files are named after it."),
            "network": {
                "type": "object", "required": ["interfaces"], "additionalProperties": false, "nullable": true,
                "description": "How the machine is reached.", "properties": {"interfaces": interfaces},
            },
            "packages": list_of("Packages to install.", text("Name of the package.")),
            "users": list_of("Users, each an administrator.", json!({
                "type": "object", "required": ["name"], "additionalProperties": false,
                "properties": {"name": text("Name of the user."), "sshKeys": list_of("Keys to log on with.", text(KEY))},
            })),
            "volume": some(VOLUME),
        },
    })
}

fn generated() -> Value {
    json!({
        "type": "object", "required": ["configs", "servingUrl", "warnings"], "description": "Where what was generated is.",
        "properties": {
            "configs": {
                "type": "object", "additionalProperties": {"type": "string"},
                "description": "VOLUME:snippets/FILE, or bootlatch:FILE, by role; for one machine by userdata, metadata, network.",
            },
            "servingUrl": text("Where each FILE is served; one that holds secrets to its own machine alone."),
            "warnings": list_of("What the configs do not have, and somebody may expect.", json!({"type": "string"})),
            "userdata": text("As in configs, of one machine."),
            "metadata": text("As in configs, of one machine."),
            "network": text("As in configs, of one machine."),
        },
    })
}
