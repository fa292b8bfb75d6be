use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::fleet::{BootConfigSpec, Format, Name, hex};

use super::super::Fault;
use super::body::{domain, fault, said, typed};
use super::network::{Network, network};
use super::ssh_key::ssh_key;
use super::template::Template;
use super::{Generated, NewConfig};

/// Bounds a host's name: files are named after it, and a file's name has at most 255 octets.
const HOST_NAME: usize = 200;
/// Bounds the name of a user (useradd(8)), and of a package.
const USER_NAME: usize = 32;
const PACKAGE_NAME: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    template: Option<String>,
    hostname: String,
    network: Option<Network>,
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default)]
    users: Vec<User>,
    volume: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct User {
    name: String,
    #[serde(default)]
    ssh_keys: Vec<String>,
}

/// Generates cloud-init's files for one machine: user-data, meta-data, and where a network is given network-config.
///
/// # Errors
/// The field that is wrong.
pub fn cloudinit(body: Value) -> Result<Generated, Fault> {
    let body: Body = typed(body)?;
    let template = match &body.template {
        Some(text) => text.parse().map_err(|wrong: String| fault("template", wrong))?,
        None => Template::Base,
    };
    let name = domain("hostname", &body.hostname)?;
    if name.as_str().len() > HOST_NAME {
        return Err(fault("hostname", format!("it has more than {HOST_NAME} characters")));
    }
    let mut config = host(&name);
    let (users, warnings) = users(&body.users)?;
    if !users.is_empty() {
        config.insert("users".into(), users.into());
    }
    if body.users.iter().any(|user| user.name == "root") {
        config.insert("disable_root".into(), false.into());
    }
    let packages = packages(&body.packages)?;
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

fn host(name: &Name) -> Map<String, Value> {
    let mut config = Map::new();
    let first = name.as_str().split('.').next().unwrap_or_default();
    config.insert("hostname".into(), first.into());
    if name.as_str() != first {
        config.insert("fqdn".into(), name.as_str().into());
    }
    config.insert("manage_etc_hosts".into(), true.into());
    config
}

/// Writes the users, each an administrator who logs on with a key alone.
fn users(given: &[User]) -> Result<(Vec<Value>, Vec<String>), Fault> {
    let (mut users, mut warnings, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (index, user) in given.iter().enumerate() {
        let field = format!("users[{index}]");
        if !is_user(&user.name) {
            let message = "is no user's name: lower-case letters, digits, '-' and '_', beginning with a letter or '_', at most 32";
            return Err(fault(format!("{field}.name"), format!("{} {message}", said(&user.name))));
        }
        if !names.insert(user.name.as_str()) {
            return Err(fault(format!("{field}.name"), format!("{} is named twice", user.name)));
        }
        let keys = user.ssh_keys.iter().enumerate();
        let keys = keys.map(|(index, key)| ssh_key(&format!("{field}.sshKeys[{index}]"), key));
        let keys = keys.collect::<Result<Vec<String>, Fault>>()?;
        let mut written = Map::new();
        written.insert("name".into(), user.name.as_str().into());
        if user.name != "root" {
            written.insert("shell".into(), "/bin/bash".into());
            written.insert("sudo".into(), "ALL=(ALL) NOPASSWD:ALL".into());
            written.insert("lock_passwd".into(), true.into());
        }
        match keys.is_empty() {
            true => warnings.push(format!("{field}: without a key, nobody can log on as {}", user.name)),
            false => drop(written.insert("ssh_authorized_keys".into(), json!(keys))),
        }
        users.push(Value::Object(written));
    }
    Ok((users, warnings))
}

fn is_user(name: &str) -> bool {
    name.len() <= USER_NAME
        && name.starts_with(|sign: char| sign.is_ascii_lowercase() || sign == '_')
        && name.chars().all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || "-_".contains(sign))
}

/// Checks that each is a package and nothing else: what begins with a dash would be an option of the package manager.
fn packages(given: &[String]) -> Result<&[String], Fault> {
    let is_package = |name: &String| {
        name.len() <= PACKAGE_NAME
            && name.starts_with(|sign: char| sign.is_ascii_alphanumeric())
            && name.chars().all(|sign| sign.is_ascii_alphanumeric() || "+-._:=~@/".contains(sign))
    };
    match given.iter().position(|name| !is_package(name)) {
        None => Ok(given),
        Some(index) => {
            let message = format!("{} is no package's name", said(&given[index]));
            Err(fault(format!("packages[{index}]"), message))
        }
    }
}

/// Names the instance after its host and what it is told: cloud-init begins anew where that is something else.
fn meta_data(name: &Name, told: &[&str]) -> Result<String, Fault> {
    let mut digest = Sha256::new();
    for text in told {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    let digest = hex(&digest.finalize()[..8]);
    yaml(&json!({"instance-id": format!("{name}-{digest}"), "local-hostname": name}))
}

fn yaml(value: &Value) -> Result<String, Fault> {
    serde_saphyr::to_string(value).map_err(|_| fault("", "what is given cannot be written as YAML"))
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
    fn a_machine_has_its_files() {
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
    fn an_instance_is_another_where_it_is_told_something_else() {
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
    fn little_is_needed() {
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
    fn what_is_wrong_names_its_field() {
        type Change = fn(&mut Value);
        let rows: [(&str, Change); 14] = [
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
