//! Objects as rows of a table (meta.k8s.io/v1 Table). Pure; the time is an argument.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::fleet::text::{binary_size, printable};
use crate::fleet::{BootMode, Kind, Name, Object};

use crate::api::objects::options::IncludeObject;
use crate::api::objects::redaction::{ListMeta, Metadata, View};

/// Objects as rows, for `Accept: application/json;as=Table;v=v1;g=meta.k8s.io`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    kind: &'static str,
    api_version: &'static str,
    metadata: ListMeta,
    /// Name, type and description of each column.
    #[schemars(with = "Vec<serde_json::Map<String, Value>>")]
    column_definitions: Vec<Value>,
    /// One row per object: its cells, and the requested part of the object.
    #[schemars(with = "Vec<serde_json::Map<String, Value>>")]
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    cells: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Value>,
}

impl Table {
    /// Returns the table of these objects; `now` is the time from which ages count.
    pub fn of<'a>(
        kind: Kind,
        objects: impl Iterator<Item = &'a Object>,
        metadata: ListMeta,
        include: IncludeObject,
        now: Timestamp,
    ) -> Self {
        let rows = objects.map(|object| Row { cells: cells(object, now), object: included(object, include) }).collect();
        let column_definitions = columns(kind).iter().map(ColumnDefinition::define).collect();
        Self { kind: "Table", api_version: "meta.k8s.io/v1", metadata, column_definitions, rows }
    }
}

/// A row of a table of what is no object of the store: its cells, and its JSON.
pub type PlainRow = (Vec<String>, Value);

impl Table {
    /// Returns the table of what is no object of the store, by the names and descriptions of its columns.
    pub fn plain(
        columns: &[(&'static str, &'static str)],
        rows: Vec<PlainRow>,
        metadata: ListMeta,
        include: IncludeObject,
    ) -> Self {
        let define = |(name, description): &(&'static str, &'static str)| column(name, description).define();
        let metadata_of = |object: &Value| json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]});
        let row = |(cells, object): PlainRow| Row {
            cells: cells.iter().map(|text| Value::String(printable(text).into_owned())).collect(),
            object: match include {
                IncludeObject::None => None,
                IncludeObject::Metadata => Some(metadata_of(&object)),
                IncludeObject::Object => Some(object),
            },
        };
        let rows = rows.into_iter().map(row).collect();
        let column_definitions = columns.iter().map(define).collect();
        Self { kind: "Table", api_version: "meta.k8s.io/v1", metadata, column_definitions, rows }
    }
}

fn included(object: &Object, include: IncludeObject) -> Option<Value> {
    match include {
        IncludeObject::None => None,
        IncludeObject::Object => serde_json::to_value(View(object)).ok(),
        IncludeObject::Metadata => serde_json::to_value(Metadata(object)).ok(),
    }
}

struct ColumnDefinition {
    name: &'static str,
    description: &'static str,
    /// Whether the column appears with `-o wide` only.
    wide: bool,
}

impl ColumnDefinition {
    fn define(&self) -> Value {
        let format = if self.name == "Name" { "name" } else { "" };
        let priority = i32::from(self.wide);
        json!({"name": self.name, "type": "string", "format": format, "description": self.description, "priority": priority})
    }
}

const fn column(name: &'static str, description: &'static str) -> ColumnDefinition {
    ColumnDefinition { name, description, wide: false }
}

const fn wide(name: &'static str, description: &'static str) -> ColumnDefinition {
    ColumnDefinition { name, description, wide: true }
}

const NAME: ColumnDefinition = column("Name", "Name, unique in its namespace or in the cluster.");
const AGE: ColumnDefinition = column("Age", "Time since the object was created.");

const HOST: &[ColumnDefinition] = &[
    NAME,
    column("MAC", "MAC address that the machine boots with."),
    column("IP", "IP address in the spec, or else the last one observed."),
    column("Image", "ISCSICdrom that the machine boots, or localboot for its own disk."),
    column("Config", "BootConfig for the installer."),
    column("Phase", "State of the machine's install."),
    column("Power", "Power state that the BMC last reported."),
    AGE,
    wide("Mode", "Boot mode: the image once, or at every boot."),
    wide("Online", "Power state that the spec asks for."),
    wide("Firmware", "Architecture that the firmware reports."),
    wide("Last Seen", "Time since the machine's last request."),
    wide("Message", "Reason for the phase."),
];

const IMAGE: &[ColumnDefinition] = &[
    NAME,
    column("Phase", "State of the ISO: whether hosts can boot it."),
    column("Size", "Size of the ISO."),
    column("Volume", "Volume identifier of the ISO."),
    column("Configs", "BootConfigs that hosts may combine with it."),
    AGE,
    wide("File", "File that is served."),
    wide("Target", "Name of its iSCSI target."),
    wide("Message", "Reason for the phase."),
];

const CONFIG: &[ColumnDefinition] =
    &[NAME, column("Format", "Installer that reads it."), column("Files", "Names of its files."), AGE];

const TEMPLATE: &[ColumnDefinition] = &[
    NAME,
    column("Format", "Installer that reads what is rendered."),
    column("Version", "Newest version."),
    column("Kept", "Number of versions that are kept."),
    column("Files", "Names of its files."),
    AGE,
];

fn columns(kind: Kind) -> &'static [ColumnDefinition] {
    match kind {
        Kind::BareMetalHost => HOST,
        Kind::IscsiCdrom => IMAGE,
        Kind::BootConfig => CONFIG,
        Kind::ConfigTemplate => TEMPLATE,
    }
}

fn cells(object: &Object, now: Timestamp) -> Vec<Value> {
    let name = object.meta().name.to_string();
    let age = ago(object.meta().creation_timestamp, now);
    let texts = match object {
        Object::Host(host) => {
            let (spec, status) = (&host.spec, &host.status);
            let ip = spec.ip.or(status.address).map(|ip| ip.to_string());
            let wanted = spec.online.map(|on| if on { "on" } else { "off" }.to_owned());
            let mode = match spec.boot_mode {
                BootMode::Once => "once",
                BootMode::Forever => "forever",
            };
            vec![
                name,
                spec.boot_mac_address.to_string(),
                text_or_none(ip),
                spec.image.to_string(),
                text_or_none(spec.boot_config_ref.as_ref().map(Name::to_string)),
                status.phase.to_string(),
                text_or_none(status.power.map(|power| power.to_string())),
                age,
                mode.to_owned(),
                text_or_none(wanted),
                text_or_none(status.firmware.map(|firmware| firmware.to_string())),
                ago(status.last_seen_time, now),
                status.message.clone(),
            ]
        }
        Object::Image(image) => {
            let (spec, status) = (&image.spec, &image.status);
            let configs: Vec<_> = spec.boot_configs.iter().map(Name::as_str).collect();
            vec![
                name,
                status.phase.clone(),
                text_or_none(status.size_bytes.map(binary_size)),
                text_or_none(status.volume_id.clone()),
                text_or_none(Some(configs.join(",")).filter(|list| !list.is_empty())),
                age,
                spec.iso_file.clone(),
                status.target_iqn.clone(),
                text_or_none(Some(status.message.clone()).filter(|message| !message.is_empty())),
            ]
        }
        Object::BootConfig(config) => {
            let files: Vec<_> = config.spec.file_names().collect();
            let files = match &config.spec.template {
                Some(reference) => format!("template {}", reference.name),
                None => files.join(","),
            };
            vec![name, config.spec.format.to_string(), files, age]
        }
        Object::ConfigTemplate(template) => {
            let files: Vec<_> = template.spec.data.keys().map(String::as_str).collect();
            let (version, kept) = (template.metadata.generation, template.status.versions.len());
            vec![name, template.spec.format.to_string(), version.to_string(), kept.to_string(), files.join(","), age]
        }
    };
    texts.into_iter().map(|text| Value::String(printable(&text).into_owned())).collect()
}

fn text_or_none(text: Option<String>) -> String {
    text.unwrap_or_else(|| "<none>".to_owned())
}

/// Formats the time since `then` as kubectl does: the largest units, at most two.
pub fn ago(then: Option<Timestamp>, now: Timestamp) -> String {
    let Some(then) = then else { return "<unknown>".to_owned() };
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 > 0 => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if minutes % 60 > 0 => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        172_800..691_200 if hours % 24 > 0 => format!("{days}d{}h", hours % 24),
        _ if days < 730 => format!("{days}d"),
        _ => format!("{}y{}d", days / 365, days % 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_formatted_as_by_kubectl() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (seconds, text) in [
            (5, "5s"),
            (119, "119s"),
            (125, "2m5s"),
            (660, "11m"),
            (11_100, "3h5m"),
            (90_000, "25h"),
            (200_000, "2d7h"),
            (8_640_000, "100d"),
        ] {
            assert_eq!(ago(Some(at(0)), at(seconds)), text);
        }
        assert_eq!(ago(None, at(0)), "<unknown>");
    }

    #[test]
    fn a_row_has_a_cell_for_each_column() {
        use crate::fleet::{Host, HostSpec, HostStatus, Mac, Meta};
        let spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        let metadata = Meta::named("h".parse().unwrap(), None);
        let host = Object::Host(std::sync::Arc::new(Host { metadata, spec, status: HostStatus::default() }));
        assert_eq!(cells(&host, Timestamp::UNIX_EPOCH).len(), HOST.len());
    }
}
