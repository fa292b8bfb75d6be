//! Generation of Ignition configs for the machines of a cluster.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::FieldError;
use super::body::{decode, display_value, field_error, parse_domain};
use super::certificate::certificates;
use super::platform::Platform;
use super::pull_secret::pull_secret;
use super::ssh_key::ssh_key;
use super::{Generated, NewConfig};
use crate::fleet::{self, BootConfigSpec, Format, Name};

/// Maximum length of a cluster name, in octets. The bootstrap machine is named after it, and a host name has at most 64
/// octets.
const MAX_CLUSTER_NAME_LENGTH: usize = 54;
/// TCP port of a cluster's Machine Config Server.
const CONFIG_SERVER: u16 = 22623;
/// Path of root's registry credentials, which podman on the bootstrap machine reads.
const REGISTRY_CREDENTIALS: &str = "/root/.docker/config.json";
/// Path of the file with the network of a node's address (OpenShift 4.10 and newer).
const NODE_ADDRESS: &str = "/etc/default/nodeip-configuration";

/// The body of a request for Ignition configs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IgnitionRequest {
    /// Platform that reads the configs.
    #[schemars(extend("enum" = Platform::ALL.map(Platform::as_str)))]
    platform: String,
    /// Version of the platform, as in 4.19, which decides the version of Ignition; a release or stream of fcos.
    version: String,
    /// The cluster of the machines.
    cluster: Cluster,
    /// SSH public key in the format of authorized_keys, without options.
    ssh_key: String,
    /// Pull secret of the registries: JSON, as a text or as an object.
    #[schemars(extend("oneOf" = [{"type": "string"}, {"type": "object"}], "nullable" = true))]
    pull_secret: Option<Value>,
    /// Roles to generate configs for: bootstrap, master or worker of a cluster; master, worker or node of fcos. All
    /// roles of the platform by default.
    #[schemars(length(min = 1))]
    node_roles: Option<Vec<String>>,
    /// Root CA of the cluster in PEM. Its machines verify their config server with it.
    certificate_authority: Option<String>,
    /// Volume for the files: the first configured one by default, bootlatch for none.
    volume: Option<String>,
}

/// The cluster of the machines.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Cluster {
    /// Name of the cluster, and prefix of the names of its configs and files.
    name: String,
    /// Parent domain of the cluster's domain. Required for a cluster; not used by fcos.
    base_domain: Option<String>,
    /// Network of the nodes' addresses, as in 10.1.107.0/24.
    network: Option<String>,
}

/// A valid request.
struct IgnitionPlan {
    platform: Platform,
    /// Version of the Ignition specification.
    specification: &'static str,
    /// Name of the cluster.
    name: Name,
    /// Domain of the cluster: its name in the base domain.
    domain: Option<Name>,
    network: Option<IpNet>,
    key: String,
    pull_secret: Option<String>,
    authority: Option<String>,
}

/// Generates an Ignition config for each role: SSH access, and the address of the cluster.
///
/// The masters and workers of a cluster get the rest from its Machine Config Server, as with the configs of
/// openshift-install.
///
/// # Errors
/// The field that is wrong.
pub fn ignition(body: Value) -> Result<Generated, FieldError> {
    let body: IgnitionRequest = decode(body)?;
    let platform: Platform = body.platform.parse().map_err(|wrong: String| field_error("platform", wrong))?;
    let specification =
        platform.ignition_specification(&body.version).map_err(|wrong| field_error("version", wrong))?;
    let roles = roles(platform, body.node_roles)?;
    let name = cluster_name(&body.cluster.name)?;
    let subdomain = |base: &str| {
        let base = parse_domain("cluster.baseDomain", base)?;
        parse_domain("cluster.baseDomain", &format!("{name}.{base}"))
    };
    let plan = IgnitionPlan {
        platform,
        specification,
        domain: body.cluster.base_domain.as_deref().map(subdomain).transpose()?,
        network: body.cluster.network.as_deref().map(network).transpose()?,
        key: ssh_key("sshKey", &body.ssh_key)?,
        pull_secret: body.pull_secret.map(|secret| pull_secret("pullSecret", secret)).transpose()?,
        authority: body.certificate_authority.map(|pem| certificates("certificateAuthority", &pem)).transpose()?,
        name,
    };
    plan.check()?;
    let configs = roles.iter().map(|role| plan.config(role)).collect::<Result<_, _>>()?;
    Ok(Generated { configs, volume: body.volume, warnings: plan.warnings(&roles) })
}

/// Returns the requested roles, or all roles of the platform.
fn roles(platform: Platform, given: Option<Vec<String>>) -> Result<Vec<&'static str>, FieldError> {
    let known = platform.roles();
    let Some(given) = given else { return Ok(known.to_vec()) };
    if given.is_empty() {
        return Err(field_error("nodeRoles", format!("empty: expected one or more of {}", known.join(", "))));
    }
    let mut roles = Vec::new();
    for (index, text) in given.iter().enumerate() {
        let field = || format!("nodeRoles[{index}]");
        let Some(role) = known.iter().find(|role| *role == text) else {
            let message = format!(
                "unknown role {} of {}: expected one of {}",
                display_value(text),
                platform.as_str(),
                known.join(", ")
            );
            return Err(field_error(field(), message));
        };
        if roles.contains(role) {
            return Err(field_error(field(), format!("duplicate role {role}")));
        }
        roles.push(*role);
    }
    Ok(roles)
}

/// Parses the name of a cluster.
fn cluster_name(text: &str) -> Result<Name, FieldError> {
    let name = text.parse().ok().filter(|_| text.len() <= MAX_CLUSTER_NAME_LENGTH && !text.contains('.'));
    name.ok_or_else(|| {
        let expected = "lower-case letters, digits and '-', beginning and ending with a letter or digit";
        let message =
            format!("invalid cluster name {}: expected 1 to {MAX_CLUSTER_NAME_LENGTH} {expected}", display_value(text));
        field_error("cluster.name", message)
    })
}

/// Parses the network of a cluster.
fn network(text: &str) -> Result<IpNet, FieldError> {
    let wrong = |message: String| field_error("cluster.network", message);
    let net: IpNet = text.parse().map_err(|_| {
        wrong(format!("invalid network {}: expected ADDRESS/LENGTH, for example 10.1.107.0/24", display_value(text)))
    })?;
    if net.trunc() != net {
        return Err(wrong(format!("found the address {}, expected the network {}", display_value(text), net.trunc())));
    }
    match fleet::rejection_reason(net.addr()).is_some() {
        true => Err(wrong(format!("{net}: expected a unicast network"))),
        false => Ok(net),
    }
}

impl IgnitionPlan {
    /// Checks the fields that depend on the platform.
    fn check(&self) -> Result<(), FieldError> {
        if self.platform.is_cluster() && self.domain.is_none() {
            return Err(field_error("cluster.baseDomain", "missing: required for a cluster"));
        }
        if !self.platform.is_cluster() && self.authority.is_some() {
            let message = "not allowed for fcos, which has no cluster";
            return Err(field_error("certificateAuthority", message));
        }
        match (self.platform, &self.pull_secret) {
            (Platform::OpenShift, None) => {
                Err(field_error("pullSecret", "missing: the OpenShift registries require one"))
            }
            (Platform::OpenShift, Some(_)) | (Platform::Okd | Platform::Fcos, _) => Ok(()),
        }
    }

    /// Returns the config of a role.
    fn config(&self, role: &'static str) -> Result<NewConfig, FieldError> {
        let name = format!("{}-{}-{role}", self.platform.as_str(), self.name);
        let name: Name = name.parse().map_err(|_| field_error("cluster.name", "cannot derive a valid config name"))?;
        let is_pointer = self.platform.is_cluster() && role != "bootstrap";
        let mut ignition = json!({"version": self.specification});
        if is_pointer {
            self.add_config_server(role, &mut ignition);
        }
        let mut config = json!({
            "ignition": ignition,
            "passwd": {"users": [{"name": "core", "sshAuthorizedKeys": [self.key]}]},
        });
        let mut files = Vec::new();
        if role == "bootstrap" {
            files.push(file("/etc/hostname", 0o644, &format!("{}-bootstrap\n", self.name)));
        }
        if let Some(network) = self.network.filter(|_| self.platform.is_cluster()) {
            files.push(file(NODE_ADDRESS, 0o644, &format!("KUBELET_NODEIP_HINT={}\n", network.addr())));
        }
        // The cluster itself distributes the secret to its nodes.
        let pull_secret = self.pull_secret.as_ref().filter(|_| !is_pointer);
        files.extend(pull_secret.map(|secret| file(REGISTRY_CREDENTIALS, 0o600, secret)));
        if !files.is_empty() {
            config["storage"] = json!({"files": files});
        }
        let main = Format::Ignition.main_file();
        let data = [(main.to_owned(), format!("{config}\n"))].into();
        let spec = BootConfigSpec {
            format: Format::Ignition,
            data,
            binary_data: Default::default(),
            confidential: pull_secret.is_some(),
            template: None,
        };
        Ok(NewConfig { name, spec, files: vec![(role, main)] })
    }

    /// Adds the address of the cluster's Machine Config Server for a role.
    fn add_config_server(&self, role: &str, ignition: &mut Value) {
        let Some(domain) = &self.domain else { return };
        let source = format!("https://api-int.{domain}:{CONFIG_SERVER}/config/{role}");
        let mut rest = Map::new();
        rest.insert("config".into(), json!({"merge": [{"source": source}]}));
        if let Some(authority) = &self.authority {
            let source = data_url(authority);
            rest.insert("security".into(), json!({"tls": {"certificateAuthorities": [{"source": source}]}}));
        }
        if let Some(ignition) = ignition.as_object_mut() {
            ignition.append(&mut rest);
        }
    }

    /// Returns sentences about missing parts of the configs.
    fn warnings(&self, roles: &[&str]) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.platform.is_cluster() {
            if self.network.is_some() || self.domain.is_some() {
                warnings.push("fcos: cluster.network and cluster.baseDomain have no effect without a cluster".into());
            }
            return warnings;
        }
        if roles.contains(&"bootstrap") {
            warnings.push(
                "bootstrap: the config only gives SSH access and registry credentials; bootstrap.ign of openshift-install starts the cluster"
                    .into(),
            );
        }
        if self.authority.is_none() && roles.iter().any(|role| *role != "bootstrap") {
            warnings.push(format!(
                "certificateAuthority: missing: machines cannot verify the Machine Config Server (port {CONFIG_SERVER}) without the root CA of openshift-install"
            ));
        }
        warnings
    }
}

/// Returns a file of an Ignition config.
fn file(path: &str, mode: u32, text: &str) -> Value {
    json!({"path": path, "mode": mode, "overwrite": true, "contents": {"source": data_url(text)}})
}

/// Encodes a text as a data URL (RFC 2397).
fn data_url(text: &str) -> String {
    format!("data:;base64,{}", STANDARD.encode(text))
}

#[cfg(test)]
mod tests {
    use super::super::super::check;
    use super::super::ssh_key::tests::KEY;
    use super::*;

    const SECRET: &str = r#"{"auths":{"quay.io":{"auth":"Z2VoZWltOmdlaGVpbQ=="}}}"#;

    fn body(change: impl FnOnce(&mut Value)) -> Value {
        let mut body = json!({
            "platform": "OKD", "version": "4.19",
            "cluster": {"name": "prod", "baseDomain": "example.com", "network": "10.1.107.0/24"},
            "sshKey": KEY, "pullSecret": SECRET, "nodeRoles": ["bootstrap", "master", "worker"],
        });
        change(&mut body);
        body
    }

    fn parsed(config: &NewConfig) -> Value {
        assert_eq!(check(&config.spec), Ok(vec![]), "{config:?}");
        serde_json::from_str(config.spec.data["config.ign"].as_str()).unwrap()
    }

    fn content(config: &Value, path: &str) -> Option<String> {
        let file = config["storage"]["files"].as_array()?.iter().find(|file| file["path"] == path)?;
        let encoded = file["contents"]["source"].as_str()?.strip_prefix("data:;base64,")?;
        String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
    }

    #[test]
    fn a_cluster_has_a_bootstrap_and_nodes_with_a_config_server() {
        let generated = ignition(body(|_| {})).unwrap();
        let names: Vec<&str> = generated.configs.iter().map(|config| config.name.as_str()).collect();
        assert_eq!(names, ["okd-prod-bootstrap", "okd-prod-master", "okd-prod-worker"]);
        let [bootstrap, master, worker] = &generated.configs[..] else { panic!() };
        let hint = Some("KUBELET_NODEIP_HINT=10.1.107.0\n");
        for config in [bootstrap, master, worker] {
            let config = parsed(config);
            assert_eq!(config["ignition"]["version"], "3.5.0");
            assert_eq!(config["passwd"]["users"], json!([{"name": "core", "sshAuthorizedKeys": [KEY]}]));
            assert_eq!(content(&config, NODE_ADDRESS).as_deref(), hint);
        }
        assert!(bootstrap.spec.confidential && !master.spec.confidential && !worker.spec.confidential);
        let first = parsed(bootstrap);
        assert_eq!(content(&first, REGISTRY_CREDENTIALS).as_deref(), Some(SECRET));
        assert_eq!(content(&first, "/etc/hostname").as_deref(), Some("prod-bootstrap\n"));
        assert_eq!(first["storage"]["files"][2]["mode"], 0o600);
        let second = parsed(master);
        let source = "https://api-int.prod.example.com:22623/config/master";
        assert_eq!(second["ignition"]["config"]["merge"][0]["source"], source);
        assert_eq!((content(&second, REGISTRY_CREDENTIALS), content(&second, "/etc/hostname")), (None, None));
        assert!(parsed(worker).to_string().contains("config/worker"));
        assert_eq!(generated.warnings.len(), 2, "{:?}", generated.warnings);
        let text = &generated.configs[0].spec.data["config.ign"];
        assert_eq!(*text, ignition(body(|_| {})).unwrap().configs[0].spec.data["config.ign"]);
    }

    #[test]
    fn fcos_configs_have_no_config_server() {
        let generated = ignition(body(|body| {
            *body = json!({"platform": "fcos", "version": "36", "cluster": {"name": "lab"}, "sshKey": KEY});
        }));
        let generated = generated.unwrap();
        let names: Vec<&str> = generated.configs.iter().map(|config| config.name.as_str()).collect();
        assert_eq!(names, ["fcos-lab-master", "fcos-lab-worker", "fcos-lab-node"]);
        let config = parsed(&generated.configs[1]);
        assert_eq!(config["ignition"], json!({"version": "3.3.0"}));
        assert!(config.get("storage").is_none() && generated.warnings.is_empty());
        let secret = ignition(body(|body| {
            *body = json!({"platform": "fcos", "version": "stable", "cluster": {"name": "lab"}, "sshKey": KEY,
                           "pullSecret": SECRET, "nodeRoles": ["node"]});
        }));
        assert!(secret.unwrap().configs[0].spec.confidential);
    }

    #[test]
    fn an_error_names_its_field_and_no_secret() {
        type Edit = fn(&mut Value);
        let rows: [(&str, Edit); 26] = [
            ("platform", |body| body["platform"] = "talos".into()),
            ("platform", |body| drop(body.as_object_mut().unwrap().remove("platform"))),
            ("version", |body| body["version"] = "4.99".into()),
            ("version", |body| body["version"] = json!(4.19)),
            ("cluster.name", |body| body["cluster"]["name"] = "../prod".into()),
            ("cluster.name", |body| body["cluster"]["name"] = "a.b".into()),
            ("cluster.name", |body| body["cluster"]["name"] = "".into()),
            ("cluster.name", |body| body["cluster"]["name"] = "a".repeat(55).into()),
            ("cluster.name", |body| body["cluster"] = json!({})),
            ("cluster.baseDomain", |body| body["cluster"] = json!({"name": "a"})),
            ("cluster.baseDomain", |body| body["cluster"]["baseDomain"] = "a_b".into()),
            ("cluster.baseDomain", |body| body["cluster"]["baseDomain"] = ["a"; 125].join(".").into()),
            ("cluster.network", |body| body["cluster"]["network"] = "10.1.107.1/24".into()),
            ("cluster.network", |body| body["cluster"]["network"] = "10.1.107.0".into()),
            ("cluster.network", |body| body["cluster"]["network"] = "10.1.107.0/33".into()),
            ("cluster.network", |body| body["cluster"]["network"] = "224.0.0.0/8".into()),
            ("cluster.x", |body| body["cluster"]["x"] = 1.into()),
            ("sshKey", |body| body["sshKey"] = SECRET.into()),
            ("sshKey", |body| body["sshKey"] = json!([SECRET])),
            ("pullSecret", |body| body["pullSecret"] = "Z2VoZWltOmdlaGVpbQ==".into()),
            ("pullSecret", |body| {
                body["platform"] = "ocp".into();
                body["pullSecret"] = Value::Null;
            }),
            ("nodeRoles", |body| body["nodeRoles"] = json!([])),
            ("nodeRoles[1]", |body| body["nodeRoles"] = json!(["master", "infra"])),
            ("nodeRoles[1]", |body| body["nodeRoles"] = json!(["master", "master"])),
            ("certificateAuthority", |body| body["certificateAuthority"] = SECRET.into()),
            ("pullsecret", |body| body["pullsecret"] = SECRET.into()),
        ];
        for (field, change) in rows {
            let wrong = ignition(body(change)).unwrap_err();
            assert_eq!(wrong.field, field, "{wrong:?}");
            assert!(!wrong.message.contains("Z2VoZWlt"), "{wrong:?}");
        }
    }
}
