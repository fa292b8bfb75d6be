//! Loads the configuration again at SIGHUP.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::api::settings::Setting;
use crate::config::{self, FileKeys, Flags};
use crate::controllers::manifests::{ReloadConfig, ReloadNote};
use crate::gate::Gate;
use crate::gate::degradations::Severity;

use super::settings;

/// Keys that change without a restart: those that only decisions depend on. Of a table all keys.
const LIVE: [&str; 3] = ["unknown_hosts", "rules", "config_access."];

/// What is called with the first interface of a server whose configuration named none.
pub type InterfaceChosen = Box<dyn Fn() + Send + Sync>;

/// Returns what loads the configuration again. It returns what the operator must know: a file that is not valid, whose
/// earlier content stays in force, or keys that wait for a restart.
///
/// `shown` are the settings in force, as the API shows them. `chosen` is called where the server can start
/// again.
pub fn reloader(
    flags: Flags,
    started: FileKeys,
    (gate, shown): (Arc<Gate>, Arc<ArcSwap<Vec<Setting>>>),
    chosen: Option<InterfaceChosen>,
) -> ReloadConfig {
    Arc::new(move || reload(&flags, &started, (&gate, &shown), chosen.as_ref()).into_iter().collect())
}

/// Returns whether a key changes without a restart.
fn is_live(key: &str) -> bool {
    LIVE.iter().any(|live| key == *live || (live.ends_with('.') && key.starts_with(live)))
}

fn reload(
    flags: &Flags,
    started: &FileKeys,
    (gate, shown): (&Gate, &ArcSwap<Vec<Setting>>),
    chosen: Option<&InterfaceChosen>,
) -> Option<ReloadNote> {
    let config = match config::load(flags) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "configuration not loaded: the earlier one stays in force");
            return Some(ReloadNote {
                text: format!("configuration not loaded: {error}"),
                public: format!("configuration not loaded, the earlier one is in force: {}", error.place()),
                // A server that waits for an interface serves nobody until the file is right.
                severity: if gate.site().ours.is_empty() { Severity::Unserved } else { Severity::Note },
            });
        }
    };
    if let Some(chosen) = chosen.filter(|_| !config.interfaces.is_empty()) {
        tracing::info!("configuration loaded: an interface is chosen, the server starts with it");
        chosen();
        return None;
    }
    let fresh = settings::in_force(&config);
    let now = |old: &Setting| fresh.iter().find(|new| new.key == old.key && is_live(&new.key)).unwrap_or(old).clone();
    shown.store(Arc::new(shown.load().iter().map(now).collect()));
    gate.site.rcu(|site| crate::boot::Site {
        unknown_hosts: settings::unknown_hosts(&config),
        config_access: config.config_access.clone(),
        ..(**site).clone()
    });
    warn_about_rules(gate);
    let waiting: Vec<&str> = started.changed(&config.keys).into_iter().filter(|key| !is_live(key)).collect();
    let waiting = waiting.join(", ");
    if waiting.is_empty() {
        tracing::info!("configuration loaded");
        return None;
    }
    tracing::warn!(keys = waiting, "configuration loaded: changed keys wait for a restart");
    let text = format!("restart needed for changed keys: {waiting}");
    Some(ReloadNote { public: text.clone(), text, severity: Severity::Note })
}

/// Warns about rules for unknown machines that name objects which do not exist.
pub fn warn_about_rules(gate: &Gate) {
    for missing in gate.missing_references() {
        let (kind, name, action) = (missing.kind, missing.name, missing.action);
        tracing::warn!(%kind, %name, %action, "rule for unknown machines names an object that does not exist");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::ConfigProof;
    use crate::fleet::enrolment::UnknownHostAction;
    use crate::gate::fixture::Fixture;

    #[tokio::test]
    async fn what_decisions_depend_on_changes_at_once_and_the_rest_waits() {
        let fixture = Fixture::new("hold");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bootlatch.toml");
        let flags = Flags { config: Some(path.clone()), interface: Some("lo".to_owned()), ..Flags::default() };
        let first = "unknown_hosts = \"hold\"\nhttp_port = 80\n";
        let started = config::parse("unknown_hosts = \"hold\"", &path, &flags).unwrap();
        let started_keys = config::parse(first, &path, &flags).unwrap().keys;
        let shown = Arc::new(ArcSwap::from_pointee(settings::in_force(&started)));
        let reload = reloader(flags, started_keys, (fixture.gate.clone(), shown.clone()), None);
        let value = |key: &str| shown.load().iter().find(|one| one.key == key).map(|one| one.value.clone()).unwrap();
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            (reload(), fixture.gate.site().unknown_hosts.otherwise.clone(), fixture.gate.site().config_access.require)
        };
        let before = fixture.gate.site().config_access.require;
        assert_eq!(load(first), (vec![], UnknownHostAction::Hold, before));
        let live = "unknown_hosts = \"menu\"\nhttp_port = 80\n[config_access]\nrequire = \"token\"\n";
        assert_eq!(load(live), (vec![], UnknownHostAction::Menu, ConfigProof::Token));
        assert_eq!((value("unknown_hosts"), value("config_access.require")), ("\"menu\"".into(), "\"token\"".into()));
        let port = value("http_port");
        let broken = "unknown_hosts = \"hold\"\nhttp_port = 80\nnonsense = 1\n";
        let (said, action, _) = load(broken);
        assert_eq!(action, UnknownHostAction::Menu, "the earlier one stays in force");
        assert!(said[0].text.contains("bootlatch.toml: line 3") && said[0].text.contains("nonsense"), "{said:?}");
        let public = &said[0].public;
        assert!(
            public.ends_with("bootlatch.toml: line 3") && public.contains("the earlier one is in force"),
            "{said:?}"
        );
        let (said, action, _) = load("unknown_hosts = \"hold\"\nhttp_port = 8080\n[dhcp]\nmode = \"off\"\n");
        assert_eq!(action, UnknownHostAction::Hold);
        assert_eq!(said[0].text, "restart needed for changed keys: dhcp.mode, http_port");
        assert_eq!((value("unknown_hosts"), value("http_port")), ("\"hold\"".into(), port), "the port waits");
        assert_eq!(load(first).0, vec![], "as it was at the start");
    }
}
