//! Generation of cloud-init files for one machine.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::super::FieldError;
use super::body::{decode, display_value, field_error, parse_domain};
use super::network::{Network, network};
use super::ssh_key::ssh_key;
use super::template::Template;
use super::{Generated, NewConfig};
use crate::fleet::{BootConfigSpec, Format, Name};

/// Maximum length of a host name, in octets. Files are named after it, and a file name has at most 255 octets.
const MAX_HOST_NAME_LENGTH: usize = 200;
/// Maximum length of a user name, in characters (useradd(8)).
const MAX_USER_NAME_LENGTH: usize = 32;
/// Maximum length of a package name, in characters.
const MAX_PACKAGE_NAME_LENGTH: usize = 128;

/// The body of a request for one machine's cloud-init files.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
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
    /// Volume for the files: the first configured one by default, bootlatch for none.
    volume: Option<String>,
}

/// A user of the machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct User {
    /// Name of the user.
    name: String,
    /// SSH public keys in the format of authorized_keys, without options.
    #[serde(default)]
    ssh_keys: Vec<String>,
}

/// Generates the cloud-init files for one machine: user-data, meta-data, and network-config if the request has a
/// network.
///
/// # Errors
/// The field that is wrong.
pub fn cloudinit(body: Value) -> Result<Generated, FieldError> {
    let body: CloudInitRequest = decode(body)?;
    let template = match &body.template {
        Some(text) => text.parse().map_err(|wrong: String| field_error("template", wrong))?,
        None => Template::Base,
    };
    let name = parse_domain("hostname", &body.hostname)?;
    if name.as_str().len() > MAX_HOST_NAME_LENGTH {
        return Err(field_error("hostname", format!("longer than {MAX_HOST_NAME_LENGTH} characters")));
    }
    let mut config = host_settings(&name);
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
    let user_data = format!("#cloud-config\n{}", yaml(&Value::Object(config))?);
    let network = body.network.as_ref().map(|given| yaml(&network(given)?)).transpose()?;
    let meta_data = meta_data(&name, &[&user_data, network.as_deref().unwrap_or_default()])?;
    let mut files = vec![("userdata", "user-data"), ("metadata", "meta-data")];
    let mut data = BTreeMap::from([("user-data".to_owned(), user_data), ("meta-data".to_owned(), meta_data)]);
    if let Some(network) = network {
        files.push(("network", "network-config"));
        data.insert("network-config".into(), network);
    }
    let spec = BootConfigSpec { format: Format::CloudInit, data, confidential: false };
    Ok(Generated { configs: vec![NewConfig { name, spec, files }], volume: body.volume, warnings })
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

/// Returns the users of a cloud-config, and warnings. Each user is an administrator who logs in with a key.
fn users(given: &[User]) -> Result<(Vec<Value>, Vec<String>), FieldError> {
    let (mut users, mut warnings, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (index, user) in given.iter().enumerate() {
        let field = format!("users[{index}]");
        if !is_user_name(&user.name) {
            let expected = "1 to 32 lower-case letters, digits, '-' and '_', beginning with a letter or '_'";
            let message = format!("invalid user name {}: expected {expected}", display_value(&user.name));
            return Err(field_error(format!("{field}.name"), message));
        }
        if !names.insert(user.name.as_str()) {
            return Err(field_error(format!("{field}.name"), format!("duplicate user {}", user.name)));
        }
        let keys = user.ssh_keys.iter().enumerate();
        let keys = keys.map(|(index, key)| ssh_key(&format!("{field}.sshKeys[{index}]"), key));
        let keys = keys.collect::<Result<Vec<String>, FieldError>>()?;
        let mut entry = Map::new();
        entry.insert("name".into(), user.name.as_str().into());
        if user.name != "root" {
            entry.insert("shell".into(), "/bin/bash".into());
            entry.insert("sudo".into(), "ALL=(ALL) NOPASSWD:ALL".into());
            entry.insert("lock_passwd".into(), true.into());
        }
        match keys.is_empty() {
            true => warnings.push(format!("{field}: no SSH key: {} cannot log in", user.name)),
            false => drop(entry.insert("ssh_authorized_keys".into(), json!(keys))),
        }
        users.push(Value::Object(entry));
    }
    Ok((users, warnings))
}

/// Returns whether a text is a valid user name.
fn is_user_name(name: &str) -> bool {
    name.len() <= MAX_USER_NAME_LENGTH
        && name.starts_with(|sign: char| sign.is_ascii_lowercase() || sign == '_')
        && name.chars().all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || "-_".contains(sign))
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
    use super::super::super::check;
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

    fn read(config: &NewConfig, file: &str) -> Value {
        serde_saphyr::from_str(&config.spec.data[file]).unwrap()
    }

    #[test]
    fn a_request_results_in_all_files() {
        let generated = cloudinit(body(|body| body["packages"] = json!(["docker.io"]))).unwrap();
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
            let generated = cloudinit(body(change)).unwrap();
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
        let generated = cloudinit(json!({"hostname": "web.example.com"})).unwrap();
        let config = &generated.configs[0];
        assert_eq!(config.files.len(), 2);
        let user_data = read(config, "user-data");
        assert_eq!(user_data, json!({"hostname": "web", "fqdn": "web.example.com", "manage_etc_hosts": true}));
        let root = cloudinit(json!({"hostname": "web", "users": [{"name": "root"}]})).unwrap();
        assert_eq!(read(&root.configs[0], "user-data")["disable_root"], false);
        assert!(root.warnings[0].contains("users[0]"));
    }

    #[test]
    fn an_error_names_its_field() {
        type Edit = fn(&mut Value);
        let rows: [(&str, Edit); 14] = [
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
            ("network.interfaces[0].gateway", |body| body["network"]["interfaces"][0]["gateway"] = "10.0.0.1".into()),
        ];
        for (field, change) in rows {
            let mut given = body(|body| body["packages"] = json!([]));
            change(&mut given);
            assert_eq!(cloudinit(given).unwrap_err().field, field);
        }
    }
}
