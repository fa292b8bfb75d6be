//! What the web page shows of an object in lists: one row, as JSON. Fields with their default value are left out.

use jiff::Timestamp;
use serde::Serialize;

use crate::fleet::{
    BootConfig, BootMode, BootTarget, Certainty, Host, Image, Key, Kind, Name, Object, Phase, Power, PowerOperation,
    PowerTransition, Stall, TransitionState,
};
use crate::ui::advice;

/// The rows of changed objects, and the identities of deleted ones.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PageRows {
    /// Hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostRow>,
    /// ISOs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageRow>,
    /// Boot configs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<ConfigRow>,
    /// Deleted hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone_hosts: Vec<String>,
    /// Deleted ISOs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone_images: Vec<String>,
    /// Deleted boot configs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone_configs: Vec<String>,
}

impl PageRows {
    /// Adds the row of an object.
    pub fn add(&mut self, object: &Object) {
        match object {
            Object::Host(host) => self.hosts.push(HostRow::of(host)),
            Object::Image(image) => self.images.push(ImageRow::of(image)),
            Object::BootConfig(config) => self.configs.push(ConfigRow::of(config)),
            // The pages show no templates.
            Object::ConfigTemplate(_) => {}
        }
    }

    /// Adds a deleted object.
    pub fn remove(&mut self, key: &Key) {
        match key.kind {
            Kind::BareMetalHost => self.gone_hosts.push(id(key.namespace.as_ref(), &key.name)),
            Kind::IscsiCdrom => self.gone_images.push(id(key.namespace.as_ref(), &key.name)),
            Kind::BootConfig => self.gone_configs.push(id(key.namespace.as_ref(), &key.name)),
            Kind::ConfigTemplate => {}
        }
    }

    /// Returns whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
            && self.images.is_empty()
            && self.configs.is_empty()
            && self.gone_hosts.is_empty()
            && self.gone_images.is_empty()
            && self.gone_configs.is_empty()
    }
}

/// Returns the identity of an object on the page: `NAMESPACE/NAME`, or the name alone without a namespace.
pub fn id(namespace: Option<&Name>, name: &Name) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_string(),
    }
}

/// A host. Times are seconds since 1970 (UTC).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostRow {
    /// `NAMESPACE/NAME`.
    pub id: String,
    /// Boot MAC address.
    pub mac: String,
    /// ISO, `localboot` or `menu`.
    pub image: String,
    /// Boot config; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub config: String,
    /// Phase.
    pub phase: Phase,
    /// Time of the last change of the phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// Time of the last boot script.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<i64>,
    /// Time of the last request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<i64>,
    /// Power state; absent without a BMC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// Power state that was requested and is not reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Power>,
    /// The power change that goes on, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub transition: String,
    /// Address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Architecture of the firmware.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub firmware: String,
    /// Whether nobody decided about the machine yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_new: bool,
    /// Whether the image is booted every time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub forever: bool,
    /// The reason for the phase, the BMC's error, or the first warning.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Diagnosis of a boot that does not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall: Option<StallRow>,
}

/// The diagnosis of a boot.
#[derive(Debug, Serialize)]
pub struct StallRow {
    /// Code of the reason.
    pub reason: &'static str,
    /// Title of the reason.
    pub title: &'static str,
    /// How sure it is.
    pub certainty: Certainty,
    /// What was seen.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// Time since which the boot stands.
    pub since: i64,
    /// What the page offers: codes of actions and of other pages, or keys of the configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<&'static str>,
}

impl StallRow {
    fn of(stall: &Stall) -> Self {
        Self {
            reason: stall.reason.code(),
            title: stall.reason.title(),
            certainty: stall.certainty,
            message: stall.message.clone(),
            remedy: stall.remedy.clone(),
            since: stall.since.as_second(),
            advice: advice::advice(stall.reason).iter().map(|advice| advice.code()).collect(),
        }
    }
}

impl HostRow {
    /// Returns the row of a host.
    pub fn of(host: &Host) -> Self {
        let (spec, status) = (&host.spec, &host.status);
        let seconds = |time: Option<Timestamp>| time.map(Timestamp::as_second);
        Self {
            id: id(host.metadata.namespace.as_ref(), &host.metadata.name),
            mac: spec.boot_mac_address.to_string(),
            image: spec.image.to_string(),
            config: spec.boot_config_ref.as_ref().map(ToString::to_string).unwrap_or_default(),
            phase: status.phase,
            since: seconds(status.phase_transition_time),
            boot: seconds(status.last_boot_time),
            seen: seconds(status.last_seen_time),
            power: status.power,
            target: status.power_transition.as_ref().map(|transition| transition.target),
            transition: status.power_transition.as_deref().map(transition).unwrap_or_default(),
            address: spec.ip.or(status.address).map(|address| address.to_string()).unwrap_or_default(),
            firmware: status.firmware.map(|firmware| firmware.to_string()).unwrap_or_default(),
            is_new: status.is_first_seen_only(),
            forever: spec.boot_mode == BootMode::Forever && matches!(spec.image, BootTarget::Image(_)),
            note: note(host),
            stall: status.stall.as_deref().map(StallRow::of),
        }
    }
}

/// Returns what a power change does, and how far it is.
fn transition(change: &PowerTransition) -> String {
    let operation = match change.operation() {
        PowerOperation::On => "switching on",
        PowerOperation::Off => "shutting down",
        PowerOperation::ForceOff => "cutting the power",
        PowerOperation::Restart => "restarting",
        PowerOperation::Reset => "resetting",
    };
    let state = match (change.state, change.start_time) {
        (TransitionState::Asked, Some(_)) => "waits for its turn",
        (TransitionState::Asked, None) => "asks its BMC",
        (TransitionState::Accepted, _) => "its BMC accepted",
        (TransitionState::Confirmed, _) => "done",
        (TransitionState::Sent, _) => "wake-up packets sent",
        (TransitionState::Failed, _) => "failed",
        (TransitionState::Replaced, _) => "replaced",
    };
    let reason = if change.message.is_empty() { String::new() } else { format!(" ({})", change.message) };
    format!("{operation}: {state}{reason}")
}

fn note(host: &Host) -> String {
    let status = &host.status;
    let power = || status.power_error.as_ref().map(|error| error.message.clone());
    let own = Some(status.message.clone()).filter(|message| !message.is_empty());
    own.or_else(power).or_else(|| status.warnings.first().cloned()).unwrap_or_default()
}

/// An ISO.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRow {
    /// Name.
    pub id: String,
    /// `Ready`, `Broken`, or empty.
    pub phase: String,
    /// Reason for the phase.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Path of the file, or where the ISO is.
    pub file: String,
    /// Size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256 digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Distribution, as the ISO has it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub distribution: String,
    /// Volume ID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume: String,
    /// Firmware that can boot it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub boots: Vec<&'static str>,
    /// Boot configs that a host may combine with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<String>,
    /// What is unusual about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl ImageRow {
    /// Returns the row of an ISO.
    pub fn of(image: &Image) -> Self {
        let (spec, status) = (&image.spec, &image.status);
        let firmwares = status.boots.unwrap_or_default();
        let boots = [(firmwares.bios, "BIOS"), (firmwares.uefi, "UEFI")];
        Self {
            id: image.metadata.name.to_string(),
            phase: status.phase.clone(),
            message: status.message.clone(),
            file: match (&spec.portal, &spec.url) {
                _ if !spec.iso_file.is_empty() => spec.iso_file.clone(),
                (Some(portal), _) => format!("{}:{}", portal.address, portal.port),
                (None, url) => url.as_deref().map(without_credentials).unwrap_or_default(),
            },
            size: status.size_bytes,
            sha256: status.sha256.clone(),
            distribution: status.distribution.clone(),
            volume: status.volume_id.clone().unwrap_or_default(),
            boots: boots.into_iter().filter(|(can, _)| *can).map(|(_, name)| name).collect(),
            configs: spec.boot_configs.iter().map(ToString::to_string).collect(),
            warnings: status.warnings.clone(),
        }
    }
}

/// Returns a URL without a user's name and password.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// A boot config. Its content is not in it: it may be confidential.
#[derive(Debug, Serialize)]
pub struct ConfigRow {
    /// Name.
    pub id: String,
    /// Format.
    pub format: String,
    /// Its files, by name.
    pub files: Vec<String>,
    /// Whether only its machine may read it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub confidential: bool,
    /// What is unusual about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl ConfigRow {
    /// Returns the row of a boot config.
    pub fn of(config: &BootConfig) -> Self {
        let warnings = config.status.get("warnings").and_then(|warnings| warnings.as_array());
        let warnings = warnings.into_iter().flatten().filter_map(|warning| warning.as_str());
        Self {
            id: config.metadata.name.to_string(),
            format: config.spec.format.to_string(),
            files: config.spec.file_names().map(str::to_owned).collect(),
            confidential: config.spec.confidential,
            warnings: warnings.map(str::to_owned).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(kind: Kind, object: serde_json::Value) -> serde_json::Value {
        let mut rows = PageRows::default();
        rows.add(&Object::from_json(kind, object).unwrap());
        serde_json::to_value(rows).unwrap()
    }

    #[test]
    fn a_row_has_what_a_list_shows_and_no_secrets() {
        let spec = json!({"bootMACAddress": "52:54:00:00:00:01", "image": "live", "bootConfigRef": "c", "ip": "10.0.0.1",
            "bmc": {"address": "b", "username": "u", "password": "geheim"}});
        let stall = json!({"stage": "dhcp", "reason": "held", "certainty": "certain", "message": "m", "remedy": "r",
            "since": "1970-01-01T00:01:00Z"});
        let status = json!({"phase": "Failed", "message": "no report", "power": "off", "stall": stall,
            "powerTransition": {"target": "on", "requestTime": "1970-01-01T00:00:00Z"}});
        let host = json!({"metadata": {"name": "a", "namespace": "default"}, "spec": spec, "status": status});
        let found = row(Kind::BareMetalHost, host);
        let expected = json!({"hosts": [{"id": "default/a", "mac": "52:54:00:00:00:01", "image": "live", "config": "c",
            "phase": "Failed", "power": "off", "target": "on", "transition": "switching on: asks its BMC", "address": "10.0.0.1", "note": "no report",
            "stall": {"reason": "held", "title": "it asks to boot, and is held", "certainty": "certain", "message": "m",
                "remedy": "r", "since": 60, "advice": ["approve", "release"]}}]});
        assert_eq!(found, expected);
        let spec = json!({"method": "chain", "url": "http://user:geheim@10.0.0.1/a@b.iso"});
        let image = row(Kind::IscsiCdrom, json!({"metadata": {"name": "i"}, "spec": spec}));
        assert_eq!(image["images"][0]["file"], "http://10.0.0.1/a@b.iso");
        let spec = json!({"format": "preseed", "data": {"preseed.cfg": "geheim"}, "confidential": true});
        let status = json!({"warnings": ["w"]});
        let config = row(Kind::BootConfig, json!({"metadata": {"name": "c"}, "spec": spec, "status": status}));
        let expected = json!([{"id": "c", "format": "preseed", "files": ["preseed.cfg"], "confidential": true, "warnings": ["w"]}]);
        assert_eq!(config["configs"], expected);
    }
}
