//! Placeholders of user-data, as in `${HOSTNAME}`, and the values of a request for them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::FieldError;
use super::body::{field_error, parse_domain};
use super::network::{Network, network, parse_host};
use super::ssh_key::ssh_key;
use super::user::check_user_name;
use crate::fleet::Name;

/// All placeholders.
const PLACEHOLDERS: [&str; 11] = [
    "HOSTNAME",
    "DOMAIN",
    "ADMIN_USER",
    "SSH_AUTHORIZED_KEYS",
    "DNS_SERVERS",
    "FLAKE_REF",
    "NETWORK_INTERFACE",
    "STATIC_IP",
    "CIDR",
    "GATEWAY",
    BOOT_COMPLETE_URL,
];
/// The placeholder with a value of the server's own.
const BOOT_COMPLETE_URL: &str = "BOOT_COMPLETE_URL";
/// Maximum length of a flake reference, in characters.
const MAX_FLAKE_REF_LENGTH: usize = 512;
/// Maximum length of a text with its values, in octets: a short text may have a long list many times.
const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// Values of placeholders. `${NAME}` in user-data becomes the value of NAME, a list in YAML's form `["a","b"]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "SCREAMING_SNAKE_CASE")]
pub struct Values {
    /// First label of the machine's name; that of hostname by default, and no other.
    hostname: Option<String>,
    /// Domain of the machine; what follows the first label of hostname by default.
    domain: Option<String>,
    /// Name of the administrator's account.
    admin_user: Option<String>,
    /// SSH public keys of the administrator, in the format of authorized_keys, without options.
    ssh_authorized_keys: Option<Vec<String>>,
    /// IP addresses of name servers.
    dns_servers: Option<Vec<String>>,
    /// Reference of a Nix flake, as in github:acme/fleet#node1.
    flake_ref: Option<String>,
    /// Name of the network interface, as in eth0. With it the config has a network-config, unless the request has a
    /// network.
    network_interface: Option<String>,
    /// IP address of the interface; DHCP without it.
    static_ip: Option<String>,
    /// Prefix length of the address, as in 24.
    cidr: Option<u8>,
    /// Router of the default route.
    gateway: Option<String>,
}

/// The checked values of placeholders, as text.
#[derive(Debug)]
pub struct Substitutions {
    texts: BTreeMap<&'static str, String>,
    /// The network config of the values, if they name an interface.
    pub network: Option<Value>,
    /// What an operator may not expect of the values.
    pub warnings: Vec<String>,
}

/// A text whose placeholders cannot be replaced.
#[derive(Debug, PartialEq, Eq)]
pub enum FillError {
    /// Placeholders without a value, each with the line of its first use, which counts from 1.
    NoValues(Vec<(usize, &'static str)>),
    /// The text would be longer than [`MAX_TEXT_BYTES`].
    TooLong,
}

impl Values {
    /// Checks the values for a machine of this name, and returns them as text.
    ///
    /// # Errors
    /// Returns the first invalid value.
    pub fn check(&self, name: &Name, boot_complete_url: String) -> Result<Substitutions, FieldError> {
        let (first, rest) = match name.as_str().split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (name.as_str(), None),
        };
        if self.hostname.as_ref().is_some_and(|given| given != first) {
            return Err(field_error("values.HOSTNAME", format!("expected {first}, the first label of hostname")));
        }
        let mut texts = BTreeMap::from([("HOSTNAME", first.to_owned()), (BOOT_COMPLETE_URL, boot_complete_url)]);
        if let Some(domain) = self.domain.as_deref().or(rest) {
            let domain = parse_domain("values.DOMAIN", domain)?;
            texts.insert("DOMAIN", domain.to_string());
        }
        if let Some(user) = &self.admin_user {
            check_user_name("values.ADMIN_USER", user)?;
            texts.insert("ADMIN_USER", user.clone());
        }
        if let Some(keys) = &self.ssh_authorized_keys {
            let keys = keys.iter().enumerate();
            let keys = keys.map(|(index, key)| ssh_key(&format!("values.SSH_AUTHORIZED_KEYS[{index}]"), key));
            texts.insert("SSH_AUTHORIZED_KEYS", json!(keys.collect::<Result<Vec<String>, FieldError>>()?).to_string());
        }
        if let Some(reference) = &self.flake_ref {
            check_flake_ref(reference)?;
            texts.insert("FLAKE_REF", reference.clone());
        }
        let network = self.check_network(&mut texts)?;
        let has_no_key = self.ssh_authorized_keys.as_ref().is_some_and(Vec::is_empty);
        let warnings = has_no_key.then(|| "values.SSH_AUTHORIZED_KEYS: no SSH key: nobody can log in".to_owned());
        Ok(Substitutions { texts, network, warnings: warnings.into_iter().collect() })
    }

    /// Checks the values of the network, and returns the network config if there is an interface.
    fn check_network(&self, texts: &mut BTreeMap<&'static str, String>) -> Result<Option<Value>, FieldError> {
        let address = self.static_ip.as_deref().map(|text| parse_host("values.STATIC_IP", text)).transpose()?;
        let net = match (address, self.cidr) {
            (None, None) => None,
            (Some(_), None) => return Err(field_error("values.CIDR", "missing: the prefix length of STATIC_IP")),
            (None, Some(_)) => {
                return Err(field_error("values.STATIC_IP", "missing: the address that CIDR belongs to"));
            }
            (Some(address), Some(length)) => {
                let longest = if address.is_ipv4() { 32 } else { 128 };
                if !(1..=longest).contains(&length) {
                    return Err(field_error("values.CIDR", format!("{length}: expected 1 to {longest}")));
                }
                texts.insert("STATIC_IP", address.to_string());
                texts.insert("CIDR", length.to_string());
                Some(format!("{address}/{length}"))
            }
        };
        let servers = self.dns_servers.clone().unwrap_or_default();
        // The values are checked as those of an interface, also where the user-data alone has them.
        let interface = self.network_interface.as_deref().unwrap_or("eth0");
        let domain = texts.get("DOMAIN").cloned();
        let single = Network::single(interface, net, self.gateway.clone(), servers, domain);
        let config = network(&single).map_err(|error| field_error(value_of(&error.field), error.message))?;
        if let Some(gateway) = &self.gateway {
            texts.insert("GATEWAY", parse_host("values.GATEWAY", gateway)?.to_string());
        }
        if let Some(servers) = &self.dns_servers {
            let servers = servers.iter().map(|text| parse_host("values.DNS_SERVERS", text));
            texts.insert("DNS_SERVERS", json!(servers.collect::<Result<Vec<IpAddr>, FieldError>>()?).to_string());
        }
        if let Some(interface) = &self.network_interface {
            texts.insert("NETWORK_INTERFACE", interface.clone());
        }
        Ok(self.network_interface.is_some().then_some(config))
    }
}

impl Substitutions {
    /// Returns a text with the values of its placeholders. What is no placeholder stays: `$VAR`, `$(command)`, `${OTHER}`.
    ///
    /// # Errors
    /// A placeholder has no value, or the text becomes too long.
    pub fn fill(&self, text: &str) -> Result<String, FillError> {
        let (mut filled, mut rest, mut line) = (String::with_capacity(text.len()), text, 1);
        let mut missing: Vec<(usize, &'static str)> = Vec::new();
        while let Some(at) = rest.find("${") {
            let (before, after) = (&rest[..at], &rest[at + 2..]);
            line += before.matches('\n').count();
            filled.push_str(before);
            let placeholder = PLACEHOLDERS.iter().find_map(|name| {
                let after = after.strip_prefix(name)?.strip_prefix('}')?;
                Some((*name, after))
            });
            rest = match placeholder {
                Some((name, after)) => {
                    match self.texts.get(name) {
                        Some(value) => filled.push_str(value),
                        None if missing.iter().any(|(_, known)| *known == name) => {}
                        None => missing.push((line, name)),
                    }
                    after
                }
                None => {
                    filled.push_str("${");
                    after
                }
            };
            if filled.len() > MAX_TEXT_BYTES {
                return Err(FillError::TooLong);
            }
        }
        filled.push_str(rest);
        match missing.is_empty() {
            true if filled.len() > MAX_TEXT_BYTES => Err(FillError::TooLong),
            true => Ok(filled),
            false => Err(FillError::NoValues(missing)),
        }
    }
}

impl FillError {
    /// Returns the message for a text that `what` names.
    pub fn message(&self, what: &str) -> String {
        match self {
            Self::NoValues(missing) => {
                let of_one = |(line, name)| format!("{what} line {line}: ${{{name}}} has no value: add values.{name}");
                missing.iter().copied().map(of_one).collect::<Vec<_>>().join("; ")
            }
            Self::TooLong => format!("{what} is longer than {MAX_TEXT_BYTES} octets with its values"),
        }
    }
}

/// Returns the field of a value for a field of the network.
fn value_of(field: &str) -> String {
    let of_interface = field.strip_prefix("network.interfaces[0].").unwrap_or(field);
    match of_interface.split_once('[').map_or((of_interface, None), |(name, index)| (name, Some(index))) {
        ("name", _) => "values.NETWORK_INTERFACE".into(),
        ("addresses", _) => "values.STATIC_IP".into(),
        ("gateway", _) => "values.GATEWAY".into(),
        ("nameservers", Some(index)) => format!("values.DNS_SERVERS[{index}"),
        _ => "values.DOMAIN".into(),
    }
}

/// Checks the reference of a flake. In double quotes it is one word of a shell, as it is; without them `&` would end the
/// word. It ends no plain text of YAML.
fn check_flake_ref(text: &str) -> Result<(), FieldError> {
    let fits = (1..=MAX_FLAKE_REF_LENGTH).contains(&text.len())
        && text.starts_with(|sign: char| sign.is_ascii_alphanumeric() || "./".contains(sign))
        && text.chars().all(|sign| sign.is_ascii_alphanumeric() || "-._~:/?#@&=+%,".contains(sign));
    match fits {
        true => Ok(()),
        // A reference may have a token in its URL.
        false => Err(field_error(
            "values.FLAKE_REF",
            format!(
                "expected at most {MAX_FLAKE_REF_LENGTH} letters, digits and -._~:/?#@&=+%, for example \
                 github:acme/fleet#node1"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ssh_key::tests::KEY;
    use super::*;

    fn check(name: &str, values: Value) -> Result<Substitutions, FieldError> {
        let values: Values = serde_json::from_value(values).unwrap();
        values.check(&name.parse().unwrap(), "http://192.0.2.1/api/v1/boot-complete".into())
    }

    #[test]
    fn known_placeholders_are_replaced_and_shell_text_stays() {
        let values =
            check("node1.example.org", json!({"SSH_AUTHORIZED_KEYS": [KEY], "CIDR": 24, "STATIC_IP": "192.0.2.7"}));
        let values = values.unwrap();
        for (text, expected) in [
            ("${HOSTNAME}.${DOMAIN} ${STATIC_IP}/${CIDR}", "node1.example.org 192.0.2.7/24".to_owned()),
            ("keys: ${SSH_AUTHORIZED_KEYS}", format!("keys: [\"{KEY}\"]")),
            ("${BOOT_COMPLETE_URL}", "http://192.0.2.1/api/v1/boot-complete".to_owned()),
        ] {
            assert_eq!(values.fill(text), Ok(expected), "{text}");
        }
        for same in [
            "$HOSTNAME $(hostname) ${OTHER} ${HOSTNAME:-x} ${HOSTNAMES} ${hostname} `x` $$ $ ${ ${",
            "${${x}} ${HOSTNAME",
            "",
        ] {
            assert_eq!(values.fill(same), Ok(same.to_owned()));
        }
        assert_eq!(values.fill("${${HOSTNAME}}"), Ok("${node1}".to_owned()));
    }

    #[test]
    fn a_placeholder_without_a_value_is_named_with_its_line() {
        let values = check("node1", json!({})).unwrap();
        let error = values.fill("a\n${DOMAIN}\n${HOSTNAME}\n\n${GATEWAY} ${DOMAIN}\n").unwrap_err();
        assert_eq!(error, FillError::NoValues(vec![(2, "DOMAIN"), (5, "GATEWAY")]));
        let expected = "userData line 2: ${DOMAIN} has no value: add values.DOMAIN; \
                        userData line 5: ${GATEWAY} has no value: add values.GATEWAY";
        assert_eq!(error.message("userData"), expected);
    }

    #[test]
    fn a_text_with_its_values_is_bounded() {
        let values = check("node1", json!({"SSH_AUTHORIZED_KEYS": vec![KEY; 200]})).unwrap();
        assert_eq!(values.fill(&"${SSH_AUTHORIZED_KEYS}".repeat(100)), Err(FillError::TooLong));
        assert_eq!(values.fill(&"a".repeat(MAX_TEXT_BYTES + 1)), Err(FillError::TooLong));
        assert!(values.fill(&"a".repeat(MAX_TEXT_BYTES)).is_ok());
    }

    #[test]
    fn an_invalid_value_is_refused_by_its_field() {
        let net = |gateway: &str| json!({"STATIC_IP": "10.0.0.5", "CIDR": 24, "GATEWAY": gateway});
        let rows = [
            (json!({"HOSTNAME": "other"}), "values.HOSTNAME"),
            (json!({"DOMAIN": "a b"}), "values.DOMAIN"),
            (json!({"ADMIN_USER": "a:b"}), "values.ADMIN_USER"),
            (json!({"SSH_AUTHORIZED_KEYS": [KEY, "x"]}), "values.SSH_AUTHORIZED_KEYS[1]"),
            (json!({"DNS_SERVERS": ["192.0.2.1", "x"]}), "values.DNS_SERVERS[1]"),
            (json!({"FLAKE_REF": "github:a/b; reboot"}), "values.FLAKE_REF"),
            (json!({"FLAKE_REF": "-x"}), "values.FLAKE_REF"),
            (json!({"FLAKE_REF": ""}), "values.FLAKE_REF"),
            (json!({"NETWORK_INTERFACE": "../eth0"}), "values.NETWORK_INTERFACE"),
            (json!({"STATIC_IP": "10.0.0.5"}), "values.CIDR"),
            (json!({"CIDR": 24}), "values.STATIC_IP"),
            (json!({"STATIC_IP": "10.0.0.5", "CIDR": 33}), "values.CIDR"),
            (json!({"STATIC_IP": "10.0.0.0", "CIDR": 24}), "values.STATIC_IP"),
            (json!({"STATIC_IP": "x", "CIDR": 24}), "values.STATIC_IP"),
            (json!({"GATEWAY": "10.0.0.1"}), "values.GATEWAY"),
            (net("10.0.1.1"), "values.GATEWAY"),
        ];
        for (values, field) in rows {
            assert_eq!(check("node1", values.clone()).unwrap_err().field, field, "{values}");
        }
        assert!(check("node1", net("10.0.0.1")).is_ok_and(|values| values.network.is_none()));
    }

    #[test]
    fn a_flake_reference_stays_a_word_in_double_quotes() {
        let is_allowed = |sign: char| check("node1", json!({"FLAKE_REF": format!("a{sign}a")})).is_ok();
        let allowed: String = (0..=u8::MAX).map(char::from).filter(|sign| is_allowed(*sign)).collect();
        assert!(allowed.contains('&') && !allowed.contains([' ', '\n', '"', '\'', '$', '`', '\\', '!']), "{allowed}");
    }

    #[test]
    fn an_interface_makes_a_network_config() {
        let network = |values| check("node1.example.org", values).unwrap().network;
        assert_eq!(
            network(json!({"NETWORK_INTERFACE": "eno1"})),
            Some(json!({"version": 2, "ethernets": {"eno1": {"dhcp4": true}}}))
        );
        let given = json!({"NETWORK_INTERFACE": "eno1", "STATIC_IP": "10.0.0.5", "CIDR": 24, "GATEWAY": "10.0.0.1",
                           "DNS_SERVERS": ["10.0.0.1"]});
        let eno1 = json!({"addresses": ["10.0.0.5/24"], "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1"}],
                          "nameservers": {"addresses": ["10.0.0.1"], "search": ["example.org"]}});
        assert_eq!(network(given), Some(json!({"version": 2, "ethernets": {"eno1": eno1}})));
    }
}
