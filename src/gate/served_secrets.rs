//! The secrets in what machines were served from templates: a template may change while a machine runs an earlier version.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::boot::installer::Redactor;
use crate::fleet::{BootConfig, Host, Mac};
use crate::gate::Gate;

/// Maximum number of machines. Beyond it the machine that was served longest ago is forgotten.
const MAX_MACHINES: usize = 4096;
/// Maximum number of configs of a machine whose secrets are kept.
const MAX_CONFIGS: usize = 4;

/// The redactors of what machines were served last.
#[derive(Debug, Default)]
pub struct ServedSecrets(Mutex<Machines>);

#[derive(Debug, Default)]
struct Machines {
    /// Number of configs that were noted.
    noted: u64,
    secrets: HashMap<Mac, MachineSecrets>,
}

/// The redactors of what one machine was served last, the newest last.
#[derive(Debug)]
struct MachineSecrets {
    /// The number of the last config among those of all machines.
    last: u64,
    redactors: VecDeque<Arc<Redactor>>,
}

impl ServedSecrets {
    /// Adds the secrets of a config that a machine is served.
    fn note(&self, mac: Mac, redactor: Arc<Redactor>) {
        let mut machines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Machines { noted, secrets } = &mut *machines;
        *noted += 1;
        if secrets.len() >= MAX_MACHINES && !secrets.contains_key(&mac) {
            let oldest = secrets.iter().min_by_key(|(_, secrets)| secrets.last).map(|(mac, _)| *mac);
            oldest.and_then(|oldest| secrets.remove(&oldest));
        }
        let of_machine = secrets.entry(mac).or_insert_with(|| MachineSecrets { last: 0, redactors: VecDeque::new() });
        of_machine.last = *noted;
        let redactors = &mut of_machine.redactors;
        redactors.retain(|known| !known.has_same_secrets(&redactor));
        redactors.push_back(redactor);
        if redactors.len() > MAX_CONFIGS {
            redactors.pop_front();
        }
    }

    /// Returns the redactors of what a machine was served.
    pub(super) fn of(&self, mac: Mac) -> Vec<Arc<Redactor>> {
        let machines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        machines.secrets.get(&mac).map(|secrets| secrets.redactors.iter().cloned().collect()).unwrap_or_default()
    }
}

impl Gate {
    /// Keeps the secrets of a rendered config that a host is served, for the lines of its installer.
    pub(super) fn note_served(&self, host: &Host, rendered: &BootConfig) {
        self.served_secrets.note(host.spec.boot_mac_address, Arc::new(self.installer_lines.redactor_of(rendered)));
    }

    /// Returns the redactors of a host whose config is rendered: of what it was served. If that is not known, of the version
    /// that it got last and of the one that it would get now.
    pub(super) fn served_redactors(&self, host: &Host, config: &Arc<BootConfig>) -> Vec<Arc<Redactor>> {
        let known = self.served_secrets.of(host.spec.boot_mac_address);
        if !known.is_empty() {
            return known;
        }
        let at = self.address_for(host);
        let last = host.status.rendered_template.as_ref().filter(|last| last.error.is_none());
        let last = last.and_then(|last| self.render_version(host, config, last, at).ok());
        let now = self.render_config(host, config, at).ok();
        let found: Vec<_> = last.iter().chain(&now).collect();
        if found.is_empty() {
            return vec![Arc::new(Redactor::of_everything())];
        }
        found.iter().for_each(|rendered| self.note_served(host, &rendered.config));
        self.served_secrets.of(host.spec.boot_mac_address)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::boot::installer::{InstallerLine, InstallerSource, LogLevel};
    use crate::boot::{Facts, Stage};
    use crate::event::Protocol;
    use crate::fleet::Kind;
    use crate::gate::fixture::{Fixture, VM};

    /// Declares a template of a kickstart, a config of it, and the host `vm`, which was served its script.
    async fn booted(text: &str) -> Fixture {
        let fixture = Fixture::new("hold");
        put_template(&fixture, text).await;
        fixture.put(Kind::BootConfig, "c", json!({"format": "kickstart", "template": {"name": "t"}})).await;
        fixture.put_image(json!({"bootConfigs": ["c"]})).await;
        fixture.put_host(json!({"bootConfigRef": "c"})).await;
        let facts =
            Facts { mac: VM, firmware: None, stage: Stage::Ipxe, address: Some([10, 77, 0, 10].into()), uuid: None };
        fixture.gate.script(&facts, None, Protocol::Http, None).await;
        fixture
    }

    async fn put_template(fixture: &Fixture, text: &str) {
        fixture.put(Kind::ConfigTemplate, "t", json!({"format": "kickstart", "data": {"ks.cfg": text}})).await;
    }

    /// Serves the host its config.
    async fn serve(fixture: &Fixture) {
        let (gate, host) = (&fixture.gate, fixture.vm());
        let config = gate.assigned_config(&host).unwrap();
        gate.serve_config(&host, &config, None, false).await.unwrap();
    }

    /// Returns what is recorded of a line of the host's installer.
    fn said(fixture: &Fixture, message: &str) -> String {
        let (source, level) = (InstallerSource::Syslog, Some(LogLevel::Info));
        let line = InstallerLine { source, stage: None, level, message: message.to_owned() };
        fixture.gate.record_installer_line(VM, line, false).unwrap();
        fixture.gate.last_installer_line(VM).unwrap().line.message
    }

    #[tokio::test]
    async fn the_secrets_of_the_served_version_outlast_a_change_of_the_template() {
        let fixture = booted("rootpw --plaintext first-one\n").await;
        serve(&fixture).await;
        put_template(&fixture, "rootpw --plaintext second-one\n").await;
        assert_eq!(said(&fixture, "it is first-one"), "it is REDACTED");
        serve(&fixture).await;
        assert_eq!(said(&fixture, "it was first-one, is second-one"), "it was REDACTED, is REDACTED");
        put_template(&fixture, "rootpw --plaintext {{ values.none }}\n").await;
        assert_eq!(said(&fixture, "still second-one"), "still REDACTED");
        let spec = json!({"format": "kickstart", "data": {"ks.cfg": "rootpw --plaintext third-one\n"}});
        fixture.put(Kind::BootConfig, "c", spec).await;
        assert_eq!(said(&fixture, "second-one, third-one"), "REDACTED, REDACTED");
    }

    #[tokio::test]
    async fn after_a_restart_the_recorded_version_counts() {
        let fixture = booted("rootpw --plaintext first-one\n").await;
        serve(&fixture).await;
        put_template(&fixture, "rootpw --plaintext second-one\n").await;
        fixture.gate.served_secrets.0.lock().unwrap().secrets.clear();
        assert_eq!(said(&fixture, "it is first-one or second-one"), "it is REDACTED or REDACTED");
    }

    #[tokio::test]
    async fn nothing_is_shown_where_the_secrets_are_not_known() {
        let fixture = booted("rootpw --plaintext {{ values.none }}\n").await;
        assert_eq!(said(&fixture, "whatever it says"), "REDACTED");
    }
}
