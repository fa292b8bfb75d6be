use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::fleet::{self, BootConfigSpec, Format, Name};

use super::super::Fault;
use super::body::{domain, fault, said, typed};
use super::certificate::certificates;
use super::platform::Platform;
use super::pull_secret::pull_secret;
use super::ssh_key::ssh_key;
use super::{Generated, NewConfig};

/// Bounds a cluster's name: its bootstrap machine is named after it, and a host name has at most 64 octets.
const CLUSTER_NAME: usize = 54;
/// Is where a cluster's Machine Config Server listens.
const CONFIG_SERVER: u16 = 22623;
/// Is the file that podman, and so the bootstrap, finds root's logins in.
const LOGINS: &str = "/root/.docker/config.json";
/// Is the file that says which network a node's address is to be of, to OpenShift 4.10 and newer.
const NODE_ADDRESS: &str = "/etc/default/nodeip-configuration";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Body {
    platform: String,
    version: String,
    cluster: Cluster,
    ssh_key: String,
    pull_secret: Option<Value>,
    node_roles: Option<Vec<String>>,
    certificate_authority: Option<String>,
    volume: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Cluster {
    name: String,
    base_domain: Option<String>,
    network: Option<String>,
}

/// Is a body that makes sense.
struct Plan {
    platform: Platform,
    specification: &'static str,
    name: Name,
    /// Is the domain of a cluster.
    domain: Option<Name>,
    network: Option<IpNet>,
    key: String,
    pull_secret: Option<String>,
    authority: Option<String>,
}

/// Generates an Ignition config for each role: what its machines need to be reached, and to reach their cluster.
///
/// A cluster's master and worker take the rest from its Machine Config Server, as openshift-install's own do.
///
/// # Errors
/// The field that is wrong.
pub fn ignition(body: Value) -> Result<Generated, Fault> {
    let body: Body = typed(body)?;
    let platform: Platform = body.platform.parse().map_err(|wrong: String| fault("platform", wrong))?;
    let specification = platform.ignition(&body.version).map_err(|wrong| fault("version", wrong))?;
    let roles = roles(platform, body.node_roles)?;
    let name = cluster_name(&body.cluster.name)?;
    let under = |base: &str| {
        let base = domain("cluster.baseDomain", base)?;
        domain("cluster.baseDomain", &format!("{name}.{base}"))
    };
    let plan = Plan {
        platform,
        specification,
        domain: body.cluster.base_domain.as_deref().map(under).transpose()?,
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

fn roles(platform: Platform, given: Option<Vec<String>>) -> Result<Vec<&'static str>, Fault> {
    let known = platform.roles();
    let Some(given) = given else { return Ok(known.to_vec()) };
    if given.is_empty() {
        return Err(fault("nodeRoles", format!("no role: name some of {}", known.join(", "))));
    }
    let mut roles = Vec::new();
    for (index, text) in given.iter().enumerate() {
        let field = || format!("nodeRoles[{index}]");
        let Some(role) = known.iter().find(|role| *role == text) else {
            let message = format!("{} is no role of {}: {}", said(text), platform.as_str(), known.join(", "));
            return Err(fault(field(), message));
        };
        if roles.contains(role) {
            return Err(fault(field(), format!("{role} is named twice")));
        }
        roles.push(*role);
    }
    Ok(roles)
}

fn cluster_name(text: &str) -> Result<Name, Fault> {
    let name = text.parse().ok().filter(|_| text.len() <= CLUSTER_NAME && !text.contains('.'));
    name.ok_or_else(|| {
        let message =
            "is no cluster's name: lower-case letters, digits and '-', beginning and ending with a letter or digit";
        fault("cluster.name", format!("{} {message}, at most {CLUSTER_NAME}", said(text)))
    })
}

fn network(text: &str) -> Result<IpNet, Fault> {
    let wrong = |message: String| fault("cluster.network", message);
    let net: IpNet = text
        .parse()
        .map_err(|_| wrong(format!("{} is no network: ADDRESS/LENGTH, as in 10.1.107.0/24", said(text))))?;
    if net.trunc() != net {
        return Err(wrong(format!("{} is an address in {}: name the network", said(text), net.trunc())));
    }
    match fleet::rejection_reason(net.addr()).is_some() {
        true => Err(wrong(format!("{net} is no network that machines are in"))),
        false => Ok(net),
    }
}

impl Plan {
    fn check(&self) -> Result<(), Fault> {
        if self.platform.is_cluster() && self.domain.is_none() {
            return Err(fault("cluster.baseDomain", "it is missing: a cluster's machines are found by its names"));
        }
        if !self.platform.is_cluster() && self.authority.is_some() {
            let message = "fcos asks no cluster for its config: an authority is of no use to it";
            return Err(fault("certificateAuthority", message));
        }
        match (self.platform, &self.pull_secret) {
            (Platform::OpenShift, None) => {
                Err(fault("pullSecret", "it is missing: OpenShift's images are given to nobody without one"))
            }
            _ => Ok(()),
        }
    }

    fn config(&self, role: &'static str) -> Result<NewConfig, Fault> {
        let name = format!("{}-{}-{role}", self.platform.as_str(), self.name);
        let name: Name = name.parse().map_err(|_| fault("cluster.name", "it makes no name for a config"))?;
        let is_pointer = self.platform.is_cluster() && role != "bootstrap";
        let mut ignition = json!({"version": self.specification});
        if is_pointer {
            self.point(role, &mut ignition);
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
        // A cluster gives its nodes the secret itself.
        let pull_secret = self.pull_secret.as_ref().filter(|_| !is_pointer);
        files.extend(pull_secret.map(|secret| file(LOGINS, 0o600, secret)));
        if !files.is_empty() {
            config["storage"] = json!({"files": files});
        }
        let main = Format::Ignition.main_file();
        let data = [(main.to_owned(), format!("{config}\n"))].into();
        let spec = BootConfigSpec { format: Format::Ignition, data, confidential: pull_secret.is_some() };
        Ok(NewConfig { name, spec, files: vec![(role, main)] })
    }

    /// Points at what the cluster's own server has for machines of this role.
    fn point(&self, role: &str, ignition: &mut Value) {
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

    fn warnings(&self, roles: &[&str]) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.platform.is_cluster() {
            if self.network.is_some() || self.domain.is_some() {
                warnings
                    .push("fcos: cluster.network and cluster.baseDomain are for clusters, and say nothing here".into());
            }
            return warnings;
        }
        if roles.contains(&"bootstrap") {
            warnings.push(
                "bootstrap: it lets you in and pulls images, and starts no cluster: openshift-install's bootstrap.ign does"
                    .into(),
            );
        }
        if self.authority.is_none() && roles.iter().any(|role| *role != "bootstrap") {
            warnings.push(format!(
                "certificateAuthority: without the root CA that openshift-install made, machines do not believe their cluster's server (port {CONFIG_SERVER})"
            ));
        }
        warnings
    }
}

fn file(path: &str, mode: u32, text: &str) -> Value {
    json!({"path": path, "mode": mode, "overwrite": true, "contents": {"source": data_url(text)}})
}

/// Writes a text as a URL (RFC 2397).
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

    fn made(config: &NewConfig) -> Value {
        assert_eq!(check(&config.spec), Ok(vec![]), "{config:?}");
        serde_json::from_str(config.spec.data["config.ign"].as_str()).unwrap()
    }

    fn content(config: &Value, path: &str) -> Option<String> {
        let file = config["storage"]["files"].as_array()?.iter().find(|file| file["path"] == path)?;
        let encoded = file["contents"]["source"].as_str()?.strip_prefix("data:;base64,")?;
        String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
    }

    #[test]
    fn a_cluster_has_a_bootstrap_and_pointers_to_it() {
        let generated = ignition(body(|_| {})).unwrap();
        let names: Vec<&str> = generated.configs.iter().map(|config| config.name.as_str()).collect();
        assert_eq!(names, ["okd-prod-bootstrap", "okd-prod-master", "okd-prod-worker"]);
        let [bootstrap, master, worker] = &generated.configs[..] else { panic!() };
        let hint = Some("KUBELET_NODEIP_HINT=10.1.107.0\n");
        for config in [bootstrap, master, worker] {
            let made = made(config);
            assert_eq!(made["ignition"]["version"], "3.5.0");
            assert_eq!(made["passwd"]["users"], json!([{"name": "core", "sshAuthorizedKeys": [KEY]}]));
            assert_eq!(content(&made, NODE_ADDRESS).as_deref(), hint);
        }
        assert!(bootstrap.spec.confidential && !master.spec.confidential && !worker.spec.confidential);
        let first = made(bootstrap);
        assert_eq!(content(&first, LOGINS).as_deref(), Some(SECRET));
        assert_eq!(content(&first, "/etc/hostname").as_deref(), Some("prod-bootstrap\n"));
        assert_eq!(first["storage"]["files"][2]["mode"], 0o600);
        let second = made(master);
        let source = "https://api-int.prod.example.com:22623/config/master";
        assert_eq!(second["ignition"]["config"]["merge"][0]["source"], source);
        assert_eq!((content(&second, LOGINS), content(&second, "/etc/hostname")), (None, None));
        assert!(made(worker).to_string().contains("config/worker"));
        assert_eq!(generated.warnings.len(), 2, "{:?}", generated.warnings);
        let text = &generated.configs[0].spec.data["config.ign"];
        assert_eq!(*text, ignition(body(|_| {})).unwrap().configs[0].spec.data["config.ign"]);
    }

    #[test]
    fn plain_machines_point_at_nobody() {
        let generated = ignition(body(|body| {
            *body = json!({"platform": "fcos", "version": "36", "cluster": {"name": "lab"}, "sshKey": KEY});
        }));
        let generated = generated.unwrap();
        let names: Vec<&str> = generated.configs.iter().map(|config| config.name.as_str()).collect();
        assert_eq!(names, ["fcos-lab-master", "fcos-lab-worker", "fcos-lab-node"]);
        let made = made(&generated.configs[1]);
        assert_eq!(made["ignition"], json!({"version": "3.3.0"}));
        assert!(made.get("storage").is_none() && generated.warnings.is_empty());
        let secret = ignition(body(|body| {
            *body = json!({"platform": "fcos", "version": "stable", "cluster": {"name": "lab"}, "sshKey": KEY,
                           "pullSecret": SECRET, "nodeRoles": ["node"]});
        }));
        assert!(secret.unwrap().configs[0].spec.confidential);
    }

    #[test]
    fn what_is_wrong_names_its_field_and_no_secret() {
        type Change = fn(&mut Value);
        let rows: [(&str, Change); 26] = [
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
