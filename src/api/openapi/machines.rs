//! Operations of machines; they need no token.

use serde_json::{Map, Value, json};

use crate::api::openapi::build::{Details, any, content, described_query, plain, text};
use crate::api::route::{MachineEndpoint, Route};

const REFUSED: &str = "The reason of the refusal.";
const NOT_FOUND: &str = "There is none.";
const MAC: &str = "MAC address in any usual spelling.";

/// Returns the parameters, body and responses of a machine's operation.
pub fn details(route: &Route, endpoint: MachineEndpoint) -> Details {
    let details = Details::default();
    let script = || plain("An iPXE script.");
    let in_path = |name: &str| route.parameters().any(|parameter| parameter == name);
    let token = |details: Details| match in_path("token") {
        true => details,
        false => details.parameter(described_query("token", "Token of the machine's script.")),
    };
    let failure = |details: Details| {
        let details = details.parameter(described_query("failed", "Command of the script that failed."));
        let details = details.parameter(described_query("errno", "iPXE's ${errno} after it."));
        let details = details.parameter(described_query("memsize", "iPXE's ${memsize}, in MiB."));
        ["manufacturer", "product", "serial", "asset"].into_iter().fold(details, |details, name| {
            details.parameter(described_query(name, "iPXE's setting of this name, from SMBIOS."))
        })
    };
    match endpoint {
        MachineEndpoint::Script => {
            let mut mac = described_query("mac", MAC);
            mac["required"] = true.into();
            let details = details.parameter(mac).parameter(described_query("platform", "iPXE's ${platform}."));
            let details = details.parameter(described_query("buildarch", "iPXE's ${buildarch}."));
            let details = details.parameter(described_query("choose", "Image that was chosen in a menu."));
            let details = failure(details);
            details.response(200, script()).response(400, plain("The MAC address is missing or wrong."))
        }
        MachineEndpoint::ScriptFailed => {
            let mut mac = described_query("mac", MAC);
            mac["required"] = true.into();
            let details = failure(details.parameter(mac)).response(200, plain("Nothing."));
            details.response(400, plain("The MAC address is missing or wrong."))
        }
        MachineEndpoint::LocalDiskScript => details.parameter(described_query("mac", MAC)).response(200, script()),
        MachineEndpoint::BootstrapScript => details.response(200, script()),
        MachineEndpoint::BootProgram => {
            let program = json!({"description": "A boot program, or the iPXE script for it."});
            details.response(200, program).response(403, plain(REFUSED)).response(404, plain(NOT_FOUND))
        }
        MachineEndpoint::Image => {
            let about = "MAC address or name of the host whose view of the ISO is read; NAMESPACE/NAME outside of the configured namespace.";
            let details = token(details.parameter(described_query("host", about)));
            details_of_image(details_of_bytes(details))
        }
        MachineEndpoint::LeasedImage => details_of_image(details_of_bytes(details)),
        MachineEndpoint::File => details_of_bytes(details),
        MachineEndpoint::Config => {
            let about = "File of the config; its main file by default.";
            let details = token(details);
            config(match in_path("file") {
                true => details,
                false => details.parameter(described_query("file", about)),
            })
        }
        MachineEndpoint::GeneratedConfig | MachineEndpoint::NoCloud | MachineEndpoint::NamedIgnition => {
            config(token(details))
        }
        MachineEndpoint::BootComplete => refusals(token(details).response(200, any("The host is Installed."))),
        MachineEndpoint::Report => {
            let details = token(details).body(content(&["application/json"], &report()));
            let details = details.response(200, any("The line is in the timeline of the host."));
            refusals(details).response(429, plain("The host has too many lines, or reports too often."))
        }
    }
}

/// Returns the schema of a report.
fn report() -> Value {
    json!({
        "type": "object",
        "description": "A plain report (stage, message), or an event of the reporter of cloud-init, curtin or Subiquity.",
        "properties": {
            "stage": text("Step of a plain report."),
            "message": text("Text of a plain report."),
            "level": text("Severity: a keyword of syslog, or a level of Python's logging."),
            "name": text("Step of an event."),
            "description": text("Text of an event."),
            "event_type": text("start or finish."),
            "origin": text("cloudinit or curtin."),
            "result": text("SUCCESS, WARN or FAIL."),
            "timestamp": {"type": "number", "description": "Not read: the server's clock counts."},
            "files": {"type": "array", "items": {"type": "object"}, "description": "Logs, of which a line may say why a step failed."},
        },
    })
}

/// Adds the responses of a config.
fn config(details: Details) -> Details {
    let kinds =
        [("application/vnd.coreos.ignition+json", "object"), ("text/cloud-config", "string"), ("text/plain", "string")];
    let content: Map<String, Value> =
        kinds.into_iter().map(|(kind, json)| (kind.to_owned(), json!({"schema": {"type": json}}))).collect();
    refusals(details.response(200, json!({"description": "The config of the machine that asks.", "content": content})))
}

fn refusals(details: Details) -> Details {
    [400, 403, 404, 503].iter().fold(details, |details, code| details.response(*code, plain(REFUSED)))
}

/// Adds the responses of bytes that can be read in ranges.
fn details_of_bytes(details: Details) -> Details {
    details
        .response(200, json!({"description": "All bytes."}))
        .response(206, json!({"description": "The requested range (RFC 9110, section 14)."}))
        .response(304, json!({"description": "The client has these bytes already."}))
        .response(403, plain(REFUSED))
        .response(404, plain(NOT_FOUND))
        .response(416, json!({"description": "The range cannot be satisfied."}))
}

/// Adds the response of an image that cannot be read.
fn details_of_image(details: Details) -> Details {
    details.response(503, plain("The ISO's file is missing or broken. Retry-After says when to ask again."))
}
