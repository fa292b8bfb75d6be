//! Generation of cloud-init files for one machine.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::super::FieldError;
use super::body::{decode, display_value, field_error, parse_domain};
use super::network::{Network, network};
use super::placeholders::{Substitutions, Values};
use super::template::Template;
use super::user::{User, users};
use super::{Generated, NewConfig};
use crate::fleet::{BootConfigSpec, Format, Name};

/// Maximum length of a host name, in octets. Files are named after it, and a file name has at most 255 octets.
const MAX_HOST_NAME_LENGTH: usize = 200;
/// Maximum length of a package name, in characters.
const MAX_PACKAGE_NAME_LENGTH: usize = 128;
/// Name of the reporter in user-data. Another one than that of vendor-data, which has the machine's token and would be
/// replaced.
const REPORTER: &str = "bootlatch-address";
/// Path of the report of a completed install.
const BOOT_COMPLETE: &str = "/api/v1/boot-complete";
/// Number of tries of a report by `phone_home`.
const PHONE_HOME_TRIES: u32 = 30;
/// Timeout of a report about a stage, in seconds: cloud-init waits for the answer.
const REPORT_TIMEOUT: u32 = 5;

/// The body of a request for one machine's cloud-init files.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CloudInitRequest {
    /// Purpose of the machine; base by default.
    #[schemars(extend("enum" = Template::ALL.map(|one| Some(one.as_str())).into_iter().chain([None]).collect::<Vec<_>>()))]
    template: Option<String>,
    /// Name of the machine, and prefix of the names of its config and files.
    hostname: String,
    /// Network configuration of the machine; DHCP by default.
    network: Option<Network>,
    /// Packages to install.
    #[serde(default)]
    packages: Vec<String>,
    /// Users of the machine; all of them are administrators.
    #[serde(default)]
    users: Vec<User>,
    /// Whether cloud-init reports the end of its first boot to this server, which completes the install.
    #[serde(default)]
    phone_home: bool,
    /// Whether cloud-init reports its stages to this server. A NoCloud source has that in its vendor-data anyway.
    #[serde(default)]
    reporting: bool,
    /// Values of the placeholders in userData, or in the template nixos-bootstrap.
    values: Option<Values>,
    /// The whole user-data, with placeholders as in ${HOSTNAME}; instead of template, packages and users.
    user_data: Option<String>,
    /// Whether the files hold secrets: only the machine gets them.
    #[serde(default)]
    confidential: bool,
    /// Volume for the files: the first configured one by default, bootlatch for none.
    volume: Option<String>,
}

/// Generates the cloud-init files for one machine: user-data, meta-data, and network-config if the request has a
/// network. The server's URL has no slash at its end.
///
/// # Errors
/// The field that is wrong.
pub fn cloudinit(body: Value, server_url: &str) -> Result<Generated, FieldError> {
    let body: CloudInitRequest = decode(body)?;
    let template = match &body.template {
        Some(text) => text.parse().map_err(|wrong: String| field_error("template", wrong))?,
        None => Template::Base,
    };
    let name = parse_domain("hostname", &body.hostname)?;
    if name.as_str().len() > MAX_HOST_NAME_LENGTH {
        return Err(field_error("hostname", format!("longer than {MAX_HOST_NAME_LENGTH} characters")));
    }
    let written = match UserDataText::of(&body, template)? {
        Some(text) => text.user_data(&body, &name, server_url)?,
        None => user_data(&body, &name, template, server_url)?,
    };
    let network = body.network.as_ref().map(network).transpose()?.or(written.network);
    let network = network.as_ref().map(yaml).transpose()?;
    let meta_data = meta_data(&name, &[&written.user_data, network.as_deref().unwrap_or_default()])?;
    let mut files = vec![("userdata", "user-data"), ("metadata", "meta-data")];
    let mut data = BTreeMap::from([("user-data".to_owned(), written.user_data), ("meta-data".to_owned(), meta_data)]);
    if let Some(network) = network {
        files.push(("network", "network-config"));
        data.insert("network-config".into(), network);
    }
    let spec = BootConfigSpec {
        format: Format::CloudInit,
        data,
        binary_data: Default::default(),
        confidential: body.confidential,
        template: None,
    };
    Ok(Generated { configs: vec![NewConfig { name, spec, files }], volume: body.volume, warnings: written.warnings })
}

/// User-data, and what belongs to it.
struct Written {
    user_data: String,
    /// The network config of the values of placeholders.
    network: Option<Value>,
    warnings: Vec<String>,
}

/// Returns the cloud-config of a request without a text of user-data.
fn user_data(
    body: &CloudInitRequest,
    name: &Name,
    template: Template,
    server_url: &str,
) -> Result<Written, FieldError> {
    if body.values.is_some() {
        return Err(field_error("values", "not used: expected userData or the template nixos-bootstrap with it"));
    }
    let mut config = host_settings(name);
    let (users, warnings) = users(&body.users)?;
    if !users.is_empty() {
        config.insert("users".into(), users.into());
    }
    if body.users.iter().any(|user| user.name == "root") {
        config.insert("disable_root".into(), false.into());
    }
    let packages = check_packages(&body.packages)?;
    if !packages.is_empty() {
        config.insert("package_update".into(), true.into());
        config.insert("packages".into(), json!(packages));
    }
    template.add(&mut config);
    if body.phone_home {
        let url = format!("{server_url}/phone_home");
        config.insert("phone_home".into(), json!({"url": url, "post": ["instance_id"], "tries": PHONE_HOME_TRIES}));
    }
    if body.reporting {
        let endpoint = format!("{server_url}/api/v1/report");
        let webhook = json!({"type": "webhook", "endpoint": endpoint, "timeout": REPORT_TIMEOUT});
        config.insert("reporting".into(), json!({REPORTER: webhook}));
    }
    let user_data = format!("#cloud-config\n{}", yaml(&Value::Object(config))?);
    Ok(Written { user_data, network: None, warnings })
}

/// A text of user-data with placeholders.
struct UserDataText<'a> {
    /// Field for errors about the text.
    field: &'static str,
    /// Name of the text in errors.
    what: &'static str,
    text: &'a str,
}

impl<'a> UserDataText<'a> {
    /// Returns the text of a request: its own, or that of its template.
    fn of(body: &'a CloudInitRequest, template: Template) -> Result<Option<Self>, FieldError> {
        let found = match (&body.user_data, template.text()) {
            (Some(_), _) if body.template.is_some() => {
                return Err(field_error("userData", "not allowed with template: expected one of them"));
            }
            (Some(text), _) => Self { field: "userData", what: "user-data", text },
            (None, Some(text)) => Self { field: "values", what: "the template nixos-bootstrap", text },
            (None, None) => return Ok(None),
        };
        let others = [
            ("packages", body.packages.is_empty()),
            ("users", body.users.is_empty()),
            ("phoneHome", !body.phone_home),
            ("reporting", !body.reporting),
        ];
        for (field, is_unset) in others {
            if !is_unset {
                return Err(field_error(field, format!("not allowed: {} is the whole user-data", found.what)));
            }
        }
        Ok(Some(found))
    }

    /// Returns the user-data, with the values of its placeholders.
    fn user_data(&self, body: &CloudInitRequest, name: &Name, server_url: &str) -> Result<Written, FieldError> {
        let none = Values::default();
        let values = body.values.as_ref().unwrap_or(&none);
        let values: Substitutions = values.check(name, format!("{server_url}{BOOT_COMPLETE}"))?;
        let user_data = values.fill(self.text).map_err(|wrong| field_error(self.field, wrong.message(self.what)))?;
        Ok(Written { user_data, network: values.network, warnings: values.warnings })
    }
}

/// Returns the host name settings of a cloud-config.
fn host_settings(name: &Name) -> Map<String, Value> {
    let mut config = Map::new();
    let first = name.as_str().split('.').next().unwrap_or_default();
    config.insert("hostname".into(), first.into());
    if name.as_str() != first {
        config.insert("fqdn".into(), name.as_str().into());
    }
    config.insert("manage_etc_hosts".into(), true.into());
    config
}

/// Checks package names. A name with a leading dash would be an option of the package manager.
fn check_packages(given: &[String]) -> Result<&[String], FieldError> {
    let is_package = |name: &String| {
        name.len() <= MAX_PACKAGE_NAME_LENGTH
            && name.starts_with(|sign: char| sign.is_ascii_alphanumeric())
            && name.chars().all(|sign| sign.is_ascii_alphanumeric() || "+-._:=~@/".contains(sign))
    };
    match given.iter().position(|name| !is_package(name)) {
        None => Ok(given),
        Some(index) => {
            let message = format!("invalid package name {}", display_value(&given[index]));
            Err(field_error(format!("packages[{index}]"), message))
        }
    }
}

/// Returns the meta-data. The instance id contains a digest of the other files: cloud-init runs again when they
/// change.
fn meta_data(name: &Name, files: &[&str]) -> Result<String, FieldError> {
    let mut digest = Sha256::new();
    for text in files {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    let digest = hex::encode(&digest.finalize()[..8]);
    yaml(&json!({"instance-id": format!("{name}-{digest}"), "local-hostname": name}))
}

/// Serializes a value as YAML.
fn yaml(value: &Value) -> Result<String, FieldError> {
    serde_saphyr::to_string(value).map_err(|_| field_error("", "the values cannot be written as YAML"))
}

#[cfg(test)]
mod tests {
    use super::super::super::{check, reports_completion};
    use super::super::ssh_key::tests::KEY;
    use super::*;

    fn body(change: impl FnOnce(&mut Value)) -> Value {
        let mut body = json!({
            "template": "kubernetes-node", "hostname": "k8s-master-01",
            "network": {"interfaces": [{"name": "eth0", "addresses": ["10.1.107.11/24"], "gateway": "10.1.107.1"}]},
            "packages": ["docker.io", "kubeadm=1.34.1-1.1"], "users": [{"name": "admin", "sshKeys": [KEY]}],
        });
        change(&mut body);
        body
    }

    fn cloudinit_of(body: Value) -> Result<Generated, FieldError> {
        cloudinit(body, "http://192.0.2.1")
    }

    fn read(config: &NewConfig, file: &str) -> Value {
        serde_saphyr::from_str(&config.spec.data[file]).unwrap()
    }

    #[test]
    fn a_request_results_in_all_files() {
        let generated = cloudinit_of(body(|body| body["packages"] = json!(["docker.io"]))).unwrap();
        let config = &generated.configs[0];
        assert_eq!(check(&config.spec), Ok(vec![]));
        assert!(generated.warnings.is_empty() && !config.spec.confidential);
        assert_eq!((config.name.as_str(), config.files.len()), ("k8s-master-01", 3));
        assert!(config.spec.data["user-data"].starts_with("#cloud-config\n"));
        let user_data = read(config, "user-data");
        assert_eq!(user_data["hostname"], "k8s-master-01");
        assert_eq!(user_data["users"][0]["ssh_authorized_keys"], json!([KEY]));
        assert_eq!(user_data["packages"], json!(["docker.io"]));
        assert_eq!(user_data["write_files"][0]["permissions"], "0644");
        assert_eq!(user_data["write_files"][0]["content"], "overlay\nbr_netfilter\n");
        assert_eq!(read(config, "network-config")["ethernets"]["eth0"]["addresses"], json!(["10.1.107.11/24"]));
        assert_eq!(read(config, "meta-data")["local-hostname"], "k8s-master-01");
    }

    #[test]
    fn the_instance_id_follows_the_files() {
        let id = |change: fn(&mut Value)| {
            let generated = cloudinit_of(body(change)).unwrap();
            read(&generated.configs[0], "meta-data")["instance-id"].to_string()
        };
        let plain: fn(&mut Value) = |body| body["packages"] = json!([]);
        assert_eq!(id(plain), id(plain));
        assert_ne!(id(plain), id(|body| body["packages"] = json!(["vim"])));
        assert_ne!(
            id(plain),
            id(|body| {
                body["packages"] = json!([]);
                body["network"] = Value::Null;
            })
        );
    }

    #[test]
    fn only_the_hostname_is_required() {
        let generated = cloudinit_of(json!({"hostname": "web.example.com"})).unwrap();
        let config = &generated.configs[0];
        assert_eq!(config.files.len(), 2);
        let user_data = read(config, "user-data");
        assert_eq!(user_data, json!({"hostname": "web", "fqdn": "web.example.com", "manage_etc_hosts": true}));
        let root = cloudinit_of(json!({"hostname": "web", "users": [{"name": "root"}]})).unwrap();
        assert_eq!(read(&root.configs[0], "user-data")["disable_root"], false);
        assert!(root.warnings[0].contains("users[0]"));
    }

    #[test]
    fn cloud_init_reports_to_the_server() {
        let generated = cloudinit_of(json!({"hostname": "a", "phoneHome": true, "reporting": true})).unwrap();
        let config = &generated.configs[0];
        let user_data = read(config, "user-data");
        let phone_home = json!({"url": "http://192.0.2.1/phone_home", "post": ["instance_id"], "tries": 30});
        assert_eq!(user_data["phone_home"], phone_home);
        let endpoint = "http://192.0.2.1/api/v1/report";
        let webhook = json!({"type": "webhook", "endpoint": endpoint, "timeout": 5});
        // Not `bootlatch`, the reporter of the vendor-data.
        assert_eq!(user_data["reporting"], json!({"bootlatch-address": webhook}));
        assert_eq!(reports_completion(&config.spec), Some(true));
    }

    #[test]
    fn an_error_names_its_field() {
        type Edit = fn(&mut Value);
        let rows: [(&str, Edit); 21] = [
            ("template", |body| body["template"] = "docker".into()),
            ("hostname", |body| body["hostname"] = "../../etc/passwd".into()),
            ("hostname", |body| body["hostname"] = "Server".into()),
            ("hostname", |body| body["hostname"] = "".into()),
            ("hostname", |body| body["hostname"] = ["abc"; 60].join(".").into()),
            ("packages[1]", |body| body["packages"] = json!(["vim", "-y"])),
            ("packages[0]", |body| body["packages"] = json!(["vim; reboot"])),
            ("packages", |body| body["packages"] = "vim".into()),
            ("users[0].name", |body| body["users"][0]["name"] = "Admin".into()),
            ("users[0].name", |body| body["users"][0]["name"] = "a:b".into()),
            ("users[1].name", |body| body["users"] = json!([{"name": "a"}, {"name": "a"}])),
            ("users[0].sshKeys[0]", |body| body["users"][0]["sshKeys"] = json!(["ssh-ed25519 AAAA"])),
            ("users[0].password", |body| body["users"][0]["password"] = "x".into()),
            ("values", |body| body["values"] = json!({})),
            ("values.PASSWORD", |body| body["values"] = json!({"PASSWORD": "x"})),
            ("values", |body| *body = json!({"hostname": "a", "template": "nixos-bootstrap"})),
            ("packages", |body| *body = json!({"hostname": "a", "template": "nixos-bootstrap", "packages": ["vim"]})),
            ("phoneHome", |body| *body = json!({"hostname": "a", "userData": "x", "phoneHome": true})),
            ("users", |body| *body = json!({"hostname": "a", "userData": "x", "users": [{"name": "a"}]})),
            ("userData", |body| *body = json!({"hostname": "a", "userData": "x", "template": "base"})),
            ("network.interfaces[0].gateway", |body| body["network"]["interfaces"][0]["gateway"] = "10.0.0.1".into()),
        ];
        for (field, change) in rows {
            let mut given = body(|body| body["packages"] = json!([]));
            change(&mut given);
            assert_eq!(cloudinit_of(given).unwrap_err().field, field);
        }
    }

    /// The example of docs/guides/nixos.md.
    fn nixos() -> Value {
        json!({"template": "nixos-bootstrap", "hostname": "node1.example.org", "values": {
            "ADMIN_USER": "ops", "SSH_AUTHORIZED_KEYS": [KEY], "FLAKE_REF": "github:acme/fleet",
            "NETWORK_INTERFACE": "eno1", "STATIC_IP": "192.168.10.31", "CIDR": 24, "GATEWAY": "192.168.10.1",
            "DNS_SERVERS": ["192.168.10.1", "9.9.9.9"],
        }})
    }

    #[test]
    fn the_files_of_the_nixos_template_are_what_was_written_down() {
        let generated = cloudinit_of(nixos()).unwrap();
        let config = &generated.configs[0];
        assert_eq!(check(&config.spec), Ok(vec![]));
        assert_eq!(reports_completion(&config.spec), Some(true));
        let written: String = config.spec.data.iter().map(|(name, text)| format!("==> {name}\n{text}")).collect();
        let expected = include_str!("../../../integration/fixtures/generated/nixos-bootstrap.txt");
        assert_eq!(written, expected);
        assert_eq!(cloudinit_of(nixos()).unwrap().configs[0].spec, config.spec);
    }

    #[test]
    fn the_nixos_template_runs_again_for_a_new_flake_and_not_in_memory() {
        let config: Value = read(&cloudinit_of(nixos()).unwrap().configs[0], "user-data");
        assert_eq!(config["runcmd"][0], json!(["rm", "-f", "/var/lib/nixos-bootstrap/complete"]));
        let run = config["write_files"][1]["content"].as_str().unwrap();
        let place = |words: &str| run.find(words).unwrap_or_else(|| panic!("{words}: {run}"));
        let steps =
            ["findmnt -no FSTYPE /", "exit 78", "/applied\" 2>/dev/null)\" != \"$target\"", "nixos-rebuild", "curl"];
        assert!(steps.map(place).is_sorted(), "{run}");
        let unit = config["write_files"][2]["content"].as_str().unwrap();
        assert!(unit.contains("\nRestartPreventExitStatus=78\n"), "{unit}");
    }

    #[test]
    fn the_nixos_template_names_each_value_that_is_missing() {
        let mut body = nixos();
        body["values"] = json!({"ADMIN_USER": "ops", "SSH_AUTHORIZED_KEYS": []});
        body["hostname"] = "node1".into();
        let error = cloudinit_of(body).unwrap_err();
        assert_eq!(error.field, "values");
        assert!(error.message.contains("line 5: ${DOMAIN} has no value"), "{}", error.message);
        assert!(error.message.contains("${FLAKE_REF} has no value: add values.FLAKE_REF"), "{}", error.message);
    }

    #[test]
    fn a_file_of_the_users_own_has_placeholders_too() {
        let own = "#cloud-config\nhostname: ${HOSTNAME}\nruncmd: ['echo $HOME ${OTHER} $(id) | tee ${FLAKE_REF}']\n";
        let body =
            |values: Value| json!({"hostname": "node1", "userData": own, "values": values, "confidential": true});
        let generated = cloudinit_of(body(json!({"FLAKE_REF": "/etc/nixos"}))).unwrap();
        let config = &generated.configs[0];
        let expected = "#cloud-config\nhostname: node1\nruncmd: ['echo $HOME ${OTHER} $(id) | tee /etc/nixos']\n";
        assert_eq!(config.spec.data["user-data"], expected);
        assert!(config.spec.confidential);
        let error = cloudinit_of(body(json!({}))).unwrap_err();
        let message = "user-data line 3: ${FLAKE_REF} has no value: add values.FLAKE_REF";
        assert_eq!((error.field.as_str(), error.message.as_str()), ("userData", message));
    }
}
