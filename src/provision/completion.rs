//! The search for the report of a completed install in a config.

use serde_json::Value;

use super::user_data::{self, UserDataKind};
use super::yaml::yaml_value;
use crate::fleet::embedded_text::embedded_texts;
use crate::fleet::{BootConfigSpec, Format};

/// Parts of the paths of the routes that end an install.
const CALLS: [&str; 3] = ["boot-complete", "phone_home", "phone-home"];
/// Maximum depth of values, and of configs within configs, that are looked at.
const MAX_DEPTH: usize = 64;
/// Parts of a line that fetches or runs what the config does not contain.
const FOREIGN_CODE: [&str; 26] = [
    "curl ",
    "wget ",
    "Invoke-WebRequest",
    "Invoke-RestMethod",
    "git clone",
    "ansible-pull",
    "ansible-playbook",
    "puppet agent",
    "chef-client",
    "salt-call",
    "podman run",
    "podman play",
    "docker run",
    "Image=",
    "rpm-ostree",
    "bootc ",
    "ostreecontainer",
    "ignition-url",
    "preseed/run",
    "preseed/include",
    // A script of AutoYaST, one of Agama, and the first boot of Proxmox.
    "<location>",
    "\"url\"",
    "from-url",
    "from-iso",
    // Windows' unattend.xml.
    "DownloadString",
    "DownloadFile",
];

/// Returns whether the machine reports its completed install by this config; `None` if the config runs or includes something
/// that it does not contain.
pub fn reports_completion(spec: &BootConfigSpec) -> Option<bool> {
    let mut search = Search::default();
    for (name, text) in &spec.data {
        search.file(spec.format, name, text);
    }
    for (name, file) in &spec.binary_data {
        match spec.format {
            Format::CloudInit => search.cloud_init(&file.0),
            format => search.file(format, name, &file.text()),
        }
    }
    match (search.has_call, search.has_foreign_code) {
        (true, _) => Some(true),
        (false, true) => None,
        (false, false) => Some(false),
    }
}

#[derive(Debug, Default)]
struct Search {
    has_call: bool,
    has_foreign_code: bool,
}

impl Search {
    fn file(&mut self, format: Format, name: &str, text: &str) {
        match format {
            Format::Ignition => match serde_json::from_str(text) {
                Ok(config) => self.ignition(&config, MAX_DEPTH),
                Err(_) => self.lines(text),
            },
            Format::CloudInit => self.cloud_init(text.as_bytes()),
            Format::Kickstart if name == format.main_file() => self.kickstart(text),
            Format::Kickstart | Format::Preseed | Format::Script => self.lines(text),
        }
    }

    /// Searches an Ignition config: its units, the files within it, and configs within it.
    fn ignition(&mut self, config: &Value, depth: usize) {
        if depth == 0 {
            return;
        }
        // What another server adds to the config.
        for list in ["/ignition/config/merge", "/ignition/config/append"] {
            let sources = config.pointer(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            self.has_foreign_code |= sources.iter().any(|source| is_remote(&source["source"]));
        }
        self.has_foreign_code |= config.pointer("/ignition/config/replace/source").is_some_and(is_remote);
        // A file of another server may be a script that a unit runs.
        let files = config.pointer("/storage/files").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        self.has_foreign_code |= files.iter().any(|file| is_remote(&file["contents"]["source"]));
        self.strings(config, depth);
        for text in embedded_texts(config) {
            match serde_json::from_str::<Value>(&text) {
                Ok(inner @ Value::Object(_)) => self.ignition(&inner, depth - 1),
                Ok(_) | Err(_) => self.lines(&text),
            }
        }
    }

    /// Searches each part of a file of cloud-init that cloud-init uses.
    fn cloud_init(&mut self, bytes: &[u8]) {
        let Ok(parts) = user_data::parts(bytes) else { return self.lines(&String::from_utf8_lossy(bytes)) };
        for part in parts {
            match part.kind {
                // Ignored, unless another part brings a handler for it.
                None => {}
                Some(UserDataKind::Include) => self.has_foreign_code = true,
                Some(UserDataKind::CloudConfig) => self.cloud_config(&part.text),
                Some(
                    UserDataKind::Archive
                    | UserDataKind::JsonPatch
                    | UserDataKind::Script
                    | UserDataKind::BootHook
                    | UserDataKind::PartHandler
                    | UserDataKind::Jinja,
                ) => self.lines(&part.text),
            }
        }
    }

    fn cloud_config(&mut self, text: &str) {
        let Ok(config) = yaml_value(text) else { return self.lines(text) };
        self.strings(&config, MAX_DEPTH);
        embedded_texts(&config).iter().for_each(|text| self.lines(text));
    }

    /// Searches a kickstart file. Only the scripts after the installation end an install.
    fn kickstart(&mut self, text: &str) {
        let mut section = "";
        for line in text.lines() {
            match line.split_ascii_whitespace().next() {
                Some("%end") => section = "",
                Some("%include" | "%ksappend") => self.has_foreign_code = true,
                Some(word) if word.starts_with('%') => section = word,
                _ if section == "%post" => self.lines(line),
                _ => {}
            }
        }
    }

    /// Searches the texts in a parsed config.
    fn strings(&mut self, value: &Value, depth: usize) {
        if depth == 0 {
            return;
        }
        match value {
            Value::Object(fields) => fields.values().for_each(|field| self.strings(field, depth - 1)),
            Value::Array(items) => items.iter().for_each(|item| self.strings(item, depth - 1)),
            Value::String(text) => self.lines(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Searches a text line by line. A comment calls nobody.
    fn lines(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])) {
            self.has_call |= has_call(line);
            self.has_foreign_code |= FOREIGN_CODE.iter().any(|part| line.contains(part));
        }
    }
}

/// Returns whether a text names a route that ends an install.
fn has_call(text: &str) -> bool {
    CALLS.iter().any(|call| text.contains(&format!("/{call}")))
}

/// Returns whether a source of Ignition is a URL whose content is not in the config.
fn is_remote(source: &Value) -> bool {
    source.as_str().is_some_and(|url| !url.is_empty() && !url.starts_with("data:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(format: Format, files: &[(&str, &str)]) -> Option<bool> {
        let data = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        reports_completion(&BootConfigSpec {
            format,
            data,
            binary_data: Default::default(),
            confidential: false,
            template: None,
        })
    }

    const CALL: &str = "curl -fsS -X POST http://192.168.10.2/api/v1/boot-complete";

    #[test]
    fn the_call_is_found_where_an_installer_runs_it() {
        let ignition = |units: &str, rest: &str| {
            format!(
                r#"{{"ignition":{{"version":"3.4.0"}},{rest}"systemd":{{"units":[{{"name":"a.service","contents":"{units}"}}]}}}}"#
            )
        };
        // `printf '#!/bin/sh\ncurl -X POST http://10.0.0.1/api/v1/boot-complete\n' | gzip -n | base64 -w0`
        let packed =
            "H4sIAAAAAAAAA1NW1E/KzNMvzuBKLi3KUdCNUAjwDw5RyCgpKbDS1zc00ANBQ/3Egkz9MkP9pPz8Et3k/NyCnNSSVC4AVJqPfDwAAAA=";
        let rows: Vec<(Format, String, Option<bool>)> = vec![
            (Format::Kickstart, format!("text\n%packages\n@core\n%end\n%post\n{CALL}\n%end\n"), Some(true)),
            (Format::Kickstart, format!("text\n%post --nochroot\n{CALL}\n%end\n"), Some(true)),
            (Format::Kickstart, format!("text\n%pre\n{CALL}\n%end\n"), Some(false)),
            (Format::Kickstart, format!("text\n%post\n# {CALL}\n%end\n"), Some(false)),
            (Format::Kickstart, "text\nreboot\n".into(), Some(false)),
            (Format::Kickstart, "text\n%include http://192.168.10.2/files/post.ks\n".into(), None),
            (Format::Kickstart, "text\n%post\ncurl -o /x http://x/setup && sh /x\n%end\n".into(), None),
            (Format::Kickstart, "url --url=http://mirror/os\n%post\necho curly\n%end\n".into(), Some(false)),
            (Format::Preseed, format!("d-i x/y string z\nd-i preseed/late_command string in-target {CALL}\n"), Some(true)),
            (Format::Preseed, format!("d-i preseed/late_command string \\\n  apt-install curl; \\\n  in-target {CALL}\n"), Some(true)),
            (Format::Preseed, format!("#d-i preseed/late_command string {CALL}\n"), Some(false)),
            (Format::Preseed, "d-i preseed/run string post.sh\n".into(), None),
            (Format::Script, format!("#!/bin/sh\n{CALL}\n"), Some(true)),
            (Format::Script, "<profile><scripts/></profile>\n".into(), Some(false)),
            (Format::Script, "<script><location>http://192.0.2.1/x.sh</location></script>\n".into(), None),
            (Format::Script, r#"{"scripts":{"post":[{"name":"x","url":"http://192.0.2.1/x.sh"}]}}"#.into(), None),
            (Format::Script, "[first-boot]\nsource = \"from-url\"\n".into(), None),
            (Format::Script, "[post-installation-webhook]\nurl = \"http://192.0.2.1/api/v1/boot-complete\"\n".into(), Some(true)),
            (Format::CloudInit, format!("#cloud-config\nautoinstall:\n  version: 1\n  late-commands:\n  - {CALL}\n"), Some(true)),
            (Format::CloudInit, "#cloud-config\nphone_home:\n  url: http://192.168.10.2/phone_home\n  post: all\n".into(), Some(true)),
            (Format::CloudInit, "#cloud-config\nphone_home: {url: \"http://elsewhere/x\"}\n".into(), Some(false)),
            (Format::CloudInit, "#cloud-config\nruncmd:\n- [curl, -X, POST, \"http://10.0.0.1/api/v1/boot-complete\"]\n".into(), Some(true)),
            (Format::CloudInit, "#cloud-config\nwrite_files:\n- {path: /a, encoding: b64, content: Y3VybCBodHRwOi8veC9ib290LWNvbXBsZXRlCg==}\n".into(), Some(true)),
            (Format::CloudInit, format!("#cloud-config\n# {CALL}\npackages: [vim]\n"), Some(false)),
            (Format::CloudInit, format!("#!/bin/sh\n{CALL}\n"), Some(true)),
            (Format::CloudInit, "#include\nhttp://192.0.2.1/x\n".into(), None),
            (Format::CloudInit, "MIME-Version: 1.0\nContent-Type: text/x-include-url\n\nhttp://192.0.2.1/x\n".into(), None),
            // `printf '#!/bin/sh\ncurl -X POST http://10.0.0.1/api/v1/boot-complete\n' | base64 -w0`
            (Format::CloudInit, "MIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\nIyEvYmluL3NoCmN1cmwgLVggUE9TVCBodHRwOi8vMTAuMC4wLjEvYXBpL3YxL2Jvb3QtY29tcGxldGUK\n".into(), Some(true)),
            (Format::CloudInit, format!("MIME-Version: 1.0\nContent-Type: application/pdf\n\n#!/bin/sh\n{CALL}\n"), Some(false)),
            (Format::CloudInit, format!("#cloud-config-archive\n- content: |\n    #!/bin/sh\n    {CALL}\n"), Some(true)),
            (Format::CloudInit, format!("#cloud-config-archive\n- 'runcmd: [\"{CALL}\"]'\n"), Some(true)),
            (Format::CloudInit, format!("#cloud-config-archive\n- '# {CALL}'\n- '#!/bin/sh'\n"), Some(false)),
            (Format::CloudInit, format!("## template: jinja\n#cloud-config\nruncmd: ['{CALL} # {{{{ v1.x }}}}']\n"), Some(true)),
            (Format::CloudInit, format!("#cloud-boothook\n#!/bin/sh\n{CALL}\n"), Some(true)),
            (Format::Ignition, ignition(&format!("[Service]\\nExecStart=/usr/bin/{CALL}\\n"), ""), Some(true)),
            (Format::Ignition, ignition(&format!("[Service]\\n# ExecStart=/usr/bin/{CALL}\\n"), ""), Some(false)),
            (Format::Ignition, ignition("[Service]\\nExecStart=/usr/local/bin/x\\n", &format!(r#""storage":{{"files":[{{"path":"/usr/local/bin/x","contents":{{"compression":"gzip","source":"data:;base64,{packed}"}}}}]}},"#)), Some(true)),
            (Format::Ignition, ignition("x", r#""storage":{"files":[{"path":"/x","contents":{"source":"data:,curl%20http://x/api/v1/boot-complete"}}]},"#), Some(true)),
            (Format::Ignition, ignition("x", r#""storage":{"files":[{"path":"/x","contents":{"source":"http://192.168.10.2/files/x"}}]},"#), None),
            (Format::Ignition, r#"{"ignition":{"version":"3.4.0","config":{"merge":[{"source":"https://api-int.x:22623/config/master"}]}}}"#.into(), None),
            (Format::Ignition, r#"{"ignition":{"version":"3.4.0","config":{"merge":[{"source":"data:,%7B%22x%22:%22/boot-complete%22%7D"}]}}}"#.into(), Some(true)),
            (Format::Ignition, r#"{"ignition":{"version":"3.4.0"}}"#.into(), Some(false)),
        ];
        for (format, text, expected) in rows {
            assert_eq!(found(format, &[(format.main_file(), &text)]), expected, "{format}: {text}");
        }
    }

    #[test]
    fn any_file_of_the_config_may_have_the_call() {
        let files = [
            ("user-data", "#cloud-config\n"),
            ("vendor-data", "#cloud-config\nruncmd: [\"curl http://x/boot-complete\"]\n"),
        ];
        assert_eq!(found(Format::CloudInit, &files), Some(true));
        let target = format!(r#"{{"ignition":{{"version":"3.4.0"}},"systemd":{{"units":[{{"contents":"{CALL}"}}]}}}}"#);
        assert_eq!(
            found(Format::Ignition, &[("config.ign", r#"{"ignition":{"version":"3.4.0"}}"#), ("target.ign", &target)]),
            Some(true)
        );
    }

    #[test]
    fn compressed_files_are_searched_too() {
        let packed = |text: &str| crate::provision::user_data::tests::packed(text.as_bytes());
        for (format, file) in [(Format::CloudInit, "user-data"), (Format::Script, "script")] {
            let spec = |text: &str| BootConfigSpec::of_files(format, [(file.to_owned(), packed(text))]);
            assert_eq!(reports_completion(&spec(&format!("#!/bin/sh\n{CALL}\n"))), Some(true), "{format}");
            assert_eq!(reports_completion(&spec("#!/bin/sh\nreboot\n")), Some(false), "{format}");
        }
    }
}
