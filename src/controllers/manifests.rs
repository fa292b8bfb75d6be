//! Loads the manifests at start and when told to, and keeps in mind which ones are not applied.

use std::path::PathBuf;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::admission::manifest::{self, Loaded};
use crate::admission::prepare::Places;
use crate::config::Config;
use crate::event::Event;
use crate::fleet::Name;
use crate::gate::Gate;
use crate::gate::tokens::{self, TokenKey};

/// Is a directory of manifests, where the site has one. One that is wrong is left out and told, and the server is not
/// ready until it is mended; it answers all the same, for those that have nothing to do with it.
pub struct Manifests {
    directory: Option<PathBuf>,
    namespace: Name,
    key: TokenKey,
    /// Says of each that is not applied where it stands.
    faults: watch::Sender<Vec<String>>,
}

impl Manifests {
    /// # Errors
    /// The key of their marks cannot be read or made.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let key = tokens::key(&config.state_dir, "manifest.key").context("state_dir: manifest.key")?;
        let (directory, namespace) = (config.manifests.clone(), config.namespace.clone());
        Ok(Self { directory, namespace, key, faults: watch::Sender::default() })
    }

    /// Tells the faults as they change.
    pub fn faults(&self) -> watch::Receiver<Vec<String>> {
        self.faults.subscribe()
    }

    /// Loads them at start.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub async fn load(&self, places: &Places, gate: &Gate) -> Result<(), manifest::ManifestError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let Loaded { written, wrong } =
            manifest::load(directory, &self.namespace, &self.key, places, &gate.store).await?;
        for error in &wrong {
            gate.store.record_event(None, Event::ManifestInvalid { message: error.to_string() });
        }
        tracing::info!(directory = %directory.display(), written, wrong = wrong.len(), "manifests");
        self.tell(wrong.iter().map(|error| format!("a manifest is not applied: {}", error.place())).collect());
        Ok(())
    }

    /// Loads them again; what cannot be read now is a fault like any other.
    pub async fn reload(&self, places: &Places, gate: &Gate) {
        if self.directory.is_none() {
            return tracing::info!("SIGHUP: there are no manifests to load");
        }
        if let Err(error) = self.load(places, gate).await {
            gate.store.record_event(None, Event::ManifestInvalid { message: error.to_string() });
            self.tell(vec!["the directory of manifests cannot be read".to_owned()]);
        }
    }

    fn tell(&self, faults: Vec<String>) {
        let status = match faults.as_slice() {
            [] => "Serves.".to_owned(),
            [only] => format!("Serves, but {only}."),
            [first, more @ ..] => format!("Serves, but {first}, and {} more.", more.len()),
        };
        let _ = sd_notify::notify(&[NotifyState::Status(&status)]);
        self.faults.send_replace(faults);
    }
}
