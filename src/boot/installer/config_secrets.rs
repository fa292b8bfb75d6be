//! The secrets of a config, as far as its words show them.
//!
//! A value is a secret by its key (`password`, `--passphrase=`), by its form (a hash of crypt(3), a private key), and in a
//! confidential config by default: there every word of a value is one, but for words that everybody may read.

use std::collections::BTreeSet;

use serde_json::Value;

use super::secret_forms::{is_secret_name, random_runs};
use crate::fleet::embedded_text::embedded_texts;
use crate::fleet::{BootConfig, Format};

/// Minimum length, in octets, of a word that is a secret only because its config is confidential. Shorter words would mask
/// parts of any other.
const MIN_WORD_LENGTH: usize = 6;
/// Maximum depth of values that are looked at.
const MAX_DEPTH: usize = 64;

/// Values that are no secret, whatever their key is.
const NO_SECRETS: [&str; 12] = ["true", "false", "yes", "no", "none", "null", "lock", "x", "*", "!", "!!", "string"];

/// Parts of the names of keys whose values everybody may read, although their config is confidential.
const PUBLIC_NAMES: [&str; 28] = [
    "host",
    "mirror",
    "directory",
    "locale",
    "lang",
    "keymap",
    "keyboard",
    "layout",
    "zone",
    "disk",
    "device",
    "bootdev",
    "method",
    "recipe",
    "package",
    "include",
    "interface",
    "nameserver",
    "domain",
    "version",
    "country",
    "path",
    "size",
    "mount",
    "format",
    "tasksel",
    "address",
    "snap",
];

/// Words of scripts that everybody may read, although their config is confidential.
const PUBLIC_WORDS: [&str; 73] = [
    "apt-get",
    "autoinstall",
    "bin/bash",
    "bootlatch",
    "boot-complete",
    "bootconfig",
    "chmod",
    "chown",
    "chroot",
    "cloud-init",
    "command",
    "config",
    "configure",
    "console",
    "content",
    "contents",
    "coreos-installer",
    "create",
    "daemon-reload",
    "debconf",
    "debconf-set",
    "debian",
    "default",
    "delete",
    "device",
    "disable",
    "dracut",
    "enable",
    "enabled",
    "exec",
    "fedora",
    "filesystem",
    "grub-install",
    "hostname",
    "ignition",
    "in-target",
    "install",
    "installer",
    "instance",
    "interface",
    "kernel",
    "locale",
    "late-commands",
    "localhost",
    "mkdir",
    "modprobe",
    "network",
    "network-online.target",
    "oneshot",
    "packages",
    "partition",
    "passwd",
    "password",
    "preseed",
    "reboot",
    "restart",
    "script",
    "service",
    "shutdown",
    "ssh_authorized_keys",
    "storage",
    "subiquity",
    "sysctl",
    "system",
    "systemctl",
    "systemd",
    "target",
    "timezone",
    "ubuntu",
    "update",
    "update-grub",
    "version",
    "volume",
];

/// A function that returns the texts of the parts of user-data that has parts, decoded and decompressed.
pub type PartTexts = fn(&[u8]) -> Vec<String>;

/// Returns the secrets of a config, also of the parts of its user-data.
pub fn config_secrets(config: &BootConfig, part_texts: PartTexts) -> BTreeSet<String> {
    let mut found = Secrets { is_confidential: config.spec.confidential, words: BTreeSet::new() };
    for (name, text) in &config.spec.data {
        found.add_file(config.spec.format, name, text);
    }
    for (name, file) in &config.spec.binary_data {
        found.add_file(config.spec.format, name, &file.text());
    }
    if config.spec.format == Format::CloudInit {
        for (name, content) in config.spec.files().filter(|(name, _)| matches!(*name, "user-data" | "vendor-data")) {
            part_texts(content).iter().for_each(|text| found.add_file(Format::CloudInit, name, text));
        }
    }
    found.words
}

struct Secrets {
    is_confidential: bool,
    words: BTreeSet<String>,
}

impl Secrets {
    fn add_file(&mut self, format: Format, name: &str, text: &str) {
        let parsed = match format {
            Format::Ignition => serde_json::from_str(text).ok(),
            Format::CloudInit => serde_saphyr::from_str::<Value>(text).ok(),
            Format::Kickstart | Format::Preseed | Format::Script => None,
        };
        match (parsed, format) {
            (Some(value @ (Value::Object(_) | Value::Array(_))), _) => {
                self.add_value("", &value, MAX_DEPTH);
                for text in embedded_texts(&value) {
                    self.add_text(&text);
                }
            }
            (_, Format::Preseed) if name == format.main_file() => text.lines().for_each(|line| self.add_answer(line)),
            (_, Format::Kickstart) if name == format.main_file() => self.add_kickstart(text),
            _ => self.add_text(text),
        }
    }

    /// Adds what is secret in a parsed value. `key` is the nearest key above it.
    fn add_value(&mut self, key: &str, value: &Value, depth: usize) {
        if depth == 0 {
            return;
        }
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    // The parts of a secret object are secrets, such as the keys of `ssh_keys`.
                    let name = if is_secret_name(key) { key } else { name };
                    self.add_value(name, field, depth - 1);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.add_value(key, item, depth - 1)),
            Value::String(text) if is_secret_name(key) => self.add_named(text),
            Value::String(text) if is_public_name(key) => self.add_shapes(text),
            Value::String(text) => self.add_text(text),
            Value::Number(number) if is_secret_name(key) => self.add_named(&number.to_string()),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Adds a value with a secret's name: all of it, its lines, and what follows a user's name (`user:password`).
    fn add_named(&mut self, text: &str) {
        let text = unquoted(text.trim());
        self.add(text);
        for line in text.lines() {
            self.add(line.trim());
            if let Some((_, password)) = line.trim().split_once(':') {
                self.add(password.trim());
            }
        }
        self.add_shapes(text);
    }

    /// Adds what is secret in a line of a preseed file: OWNER QUESTION TYPE VALUE.
    fn add_answer(&mut self, line: &str) {
        let line = line.trim_start();
        let mut rest = line.splitn(4, |sign: char| sign.is_ascii_whitespace()).filter(|word| !word.is_empty());
        let (Some(_), Some(question), Some(kind), value) = (rest.next(), rest.next(), rest.next(), rest.next()) else {
            return self.add_text(line);
        };
        let value = value.unwrap_or_default().trim();
        match () {
            () if kind == "password" || is_secret_name(question) => self.add_named(value),
            () if is_public_name(question) => self.add_shapes(value),
            () => self.add_text(value),
        }
    }

    /// Adds what is secret in a kickstart file. Its commands are known, so that only their secrets are; its scripts are texts.
    fn add_kickstart(&mut self, text: &str) {
        let mut section = "";
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("%end") => section = "",
                Some(word) if word.starts_with('%') => section = word,
                Some(_) if section == "%packages" => {}
                Some(command @ ("rootpw" | "sshpw")) if section.is_empty() => {
                    if let Some(password) = words.rfind(|word| !word.starts_with("--")) {
                        self.add_named(password);
                    }
                    self.add_assignments(line);
                    self.add_shapes(command);
                }
                Some(_) if section.is_empty() => {
                    self.add_assignments(line);
                    self.add_shapes(line);
                }
                _ => self.add_text(line),
            }
        }
    }

    /// Adds what is secret in a text without a structure, such as a script.
    fn add_text(&mut self, text: &str) {
        self.add_shapes(text);
        for line in text.lines() {
            self.add_assignments(line);
            if self.is_confidential {
                let separators = |sign: char| sign.is_whitespace() || "\"'`=,;|&<>(){}[]".contains(sign);
                for word in line.split(separators).filter(|word| word.len() >= MIN_WORD_LENGTH && !is_public_word(word))
                {
                    self.add(word);
                    // A short option and its value are one word: `-pPASSWORD`.
                    let value =
                        word.strip_prefix('-').filter(|word| !word.starts_with('-')).and_then(|word| word.get(1..));
                    value.into_iter().filter(|value| value.len() >= MIN_WORD_LENGTH).for_each(|value| self.add(value));
                }
            }
        }
    }

    /// Adds the values that a line gives to secret names: `name=value`, `name: value`, `--name value`, `user:password@host`.
    fn add_assignments(&mut self, line: &str) {
        for (_, rest) in line.match_indices("://").map(|(at, sign)| line.split_at(at + sign.len())) {
            let authority =
                rest.split(|sign: char| sign.is_whitespace() || "/\"'".contains(sign)).next().unwrap_or_default();
            if let Some((user, _)) = authority.rsplit_once('@') {
                self.add(user.split_once(':').map_or(user, |(_, password)| password));
            }
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        for (index, word) in words.iter().enumerate() {
            let next = words.get(index + 1).copied().unwrap_or_default();
            let word = word.trim_start_matches(['"', '\'', '(', '{', '[', ',']);
            let named = match word.split_once(['=', ':']) {
                Some((name, "")) => Some((name, next)),
                Some((name, value)) => Some((name, value)),
                None if word.starts_with("--") => Some((word, next)),
                None if word == "-u" || word == "--user" => {
                    next.split_once(':').map(|(_, password)| ("password", password))
                }
                None => None,
            };
            if let Some((_, value)) = named.filter(|(name, _)| is_secret_name(unquoted(name))) {
                self.add_named(value.trim_end_matches([',', ';', ')', '}', ']']));
            }
        }
    }

    /// Adds what is a secret by its form: hashes of crypt(3), private keys, and long random words.
    fn add_shapes(&mut self, text: &str) {
        let mut is_key = false;
        for line in text.lines() {
            let line = line.trim();
            if line.starts_with("-----BEGIN ") && line.contains("PRIVATE KEY") {
                is_key = true;
            } else if line.starts_with("-----END ") {
                is_key = false;
            } else if is_key {
                self.add(line);
            }
        }
        random_runs(text).for_each(|range| self.add(&text[range]));
    }

    fn add(&mut self, word: &str) {
        let word = unquoted(word);
        if !word.is_empty() && !NO_SECRETS.contains(&word) {
            self.words.insert(word.to_owned());
        }
    }
}

/// Returns a text without the quotes around it.
fn unquoted(text: &str) -> &str {
    let inner = |quote: char| text.strip_prefix(quote).map(|text| text.strip_suffix(quote).unwrap_or(text));
    inner('"').or_else(|| inner('\'')).unwrap_or_else(|| text.trim_end_matches(['"', '\'']))
}

/// Returns whether everybody may read the values of a key.
fn is_public_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    PUBLIC_NAMES.iter().any(|part| name.contains(part))
}

/// Returns whether a word of a script is one that everybody may read: a usual one, a path, an address, a number.
fn is_public_word(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    let word = lower.trim_matches(|sign: char| "-.:,".contains(sign));
    let is_path = word.starts_with('/') && word.split('/').all(|part| !part.contains(['=', '+', ':', '@']));
    let is_number = word.chars().all(|sign| sign.is_ascii_digit() || "._:-/kmgbhs%".contains(sign));
    PUBLIC_WORDS.contains(&word) || is_path || is_number || word.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{BootConfigSpec, Meta};

    fn secrets(format: Format, text: &str, confidential: bool) -> Vec<String> {
        let data = [(format.main_file().to_owned(), text.to_owned())].into();
        let spec = BootConfigSpec { format, data, binary_data: Default::default(), confidential, template: None };
        let config = BootConfig { metadata: Meta::named("c".parse().unwrap(), None), spec, status: Default::default() };
        config_secrets(&config, |_| Vec::new()).into_iter().collect()
    }

    #[test]
    fn the_parts_of_user_data_have_secrets_too() {
        let files = [("user-data", &b"\xffa"[..]), ("vendor-data", b"b"), ("other", b"c")];
        let files = files.map(|(name, content)| (name.to_owned(), content.to_vec()));
        let parts: PartTexts = |content| vec![format!("#cloud-config\npassword: geheim-{}\n", content.len())];
        for (format, expected) in [(Format::CloudInit, vec!["geheim-1", "geheim-2"]), (Format::Script, vec![])] {
            let spec = BootConfigSpec::of_files(format, files.clone());
            let metadata = Meta::named("c".parse().unwrap(), None);
            let found = config_secrets(&BootConfig { metadata, spec, status: Default::default() }, parts);
            assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_value_with_a_secrets_name_is_a_secret() {
        let hash = "$6$salt$hashhashhash";
        let rows: &[(Format, &str, &[&str])] = &[
            (Format::Kickstart, "rootpw geheim\nuser --name=a --password=hidden --uid=7\n", &["geheim", "hidden"]),
            (Format::Kickstart, "rootpw --iscrypted $6$salt$hashhashhash\n", &[hash]),
            (
                Format::Kickstart,
                "autopart --encrypted --passphrase=\"open sesame\"\n%packages\npassword=x1\n%end\n",
                &["open"],
            ),
            (Format::Kickstart, "url --url=https://me:geheim@mirror.example/\n", &["geheim"]),
            (
                Format::Kickstart,
                "%post\ncurl -u me:geheim http://x\nexport TOKEN='t0ken'\n%end\n",
                &["geheim", "t0ken"],
            ),
            (Format::Preseed, "d-i passwd/root-password password geheim nis\n", &["geheim nis"]),
            (Format::Preseed, "d-i netcfg/wireless_wpa string geheim\nd-i x/y string plain\n", &["geheim"]),
            (
                Format::CloudInit,
                "#cloud-config\npassword: geheim\nusers: [{name: a, passwd: hidden}]\n",
                &["geheim", "hidden"],
            ),
            (
                Format::CloudInit,
                "#cloud-config\nchpasswd: {list: \"a:geheim\\nb:hidden\"}\n",
                &["a:geheim", "geheim", "hidden"],
            ),
            (Format::CloudInit, "#cloud-config\nchpasswd:\n  users: [{name: root, password: 12345}]\n", &["12345"]),
            (
                Format::CloudInit,
                "#cloud-config\nwrite_files: [{path: /a, encoding: b64, content: dG9rZW49Z2VoZWlt}]\n",
                &["geheim"],
            ),
            (
                Format::Ignition,
                r#"{"passwd":{"users":[{"name":"core","passwordHash":"$6$salt$hashhashhash"}]}}"#,
                &[hash],
            ),
            (
                Format::Ignition,
                r#"{"storage":{"files":[{"contents":{"source":"data:,api_token%3Dgeheim"}}]}}"#,
                &["geheim"],
            ),
            (Format::Script, "mysql --password geheim\npassword: \"hidden\"\n", &["geheim", "hidden"]),
            (
                Format::Script,
                "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaA\n-----END OPENSSH PRIVATE KEY-----\n",
                &["b3BlbnNzaA"],
            ),
        ];
        for (format, text, expected) in rows {
            let found = secrets(*format, text, false);
            for secret in *expected {
                assert!(found.iter().any(|one| one.contains(secret)), "{secret} of {text}: {found:?}");
            }
        }
    }

    #[test]
    fn a_config_that_everybody_may_read_has_no_other_secrets() {
        let rows = [
            (
                Format::Kickstart,
                "lang en_US.UTF-8\nuser --name=admin --groups=wheel\n%post\ncurl -fsS -X POST http://10.0.0.1/x\n%end\n",
            ),
            (Format::Preseed, "d-i mirror/http/hostname string deb.debian.org\nd-i passwd/root-login boolean false\n"),
            (
                Format::CloudInit,
                "#cloud-config\nautoinstall: {version: 1, late-commands: [\"curl http://10.0.0.1/\"]}\n",
            ),
            (Format::Ignition, r#"{"ignition":{"version":"3.4.0"},"storage":{"files":[{"path":"/etc/motd"}]}}"#),
            (Format::Script, "systemctl enable sshd\n"),
        ];
        for (format, text) in rows {
            assert_eq!(secrets(format, text, false), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn in_a_confidential_config_every_word_of_a_script_is_a_secret_but_the_usual_ones() {
        let text = "#cloud-config\nruncmd:\n- mysql -pgeheimnis --execute x\n- echo correcthorse | passwd --stdin admin\n\
                    - systemctl enable /etc/systemd/system/a.service 192.168.10.2\npackages: [openssh-server]\n";
        let found = secrets(Format::CloudInit, text, true);
        for secret in ["-pgeheimnis", "geheimnis", "correcthorse"] {
            assert!(found.iter().any(|one| one == secret), "{secret}: {found:?}");
        }
        for public in ["systemctl", "enable", "/etc/systemd/system/a.service", "192.168.10.2", "openssh-server"] {
            assert!(!found.iter().any(|one| one == public), "{public}: {found:?}");
        }
        let preseed =
            "d-i mirror/http/hostname string deb.debian.org\nd-i preseed/late_command string echo Zauberwort\n";
        assert_eq!(secrets(Format::Preseed, preseed, true), ["Zauberwort"]);
        let kickstart = "clearpart --drives=nvme0n1\n%packages\n@core-packages\n%end\n%post\necho Zauberwort\n%end\n";
        assert_eq!(secrets(Format::Kickstart, kickstart, true), ["Zauberwort"]);
    }
}
