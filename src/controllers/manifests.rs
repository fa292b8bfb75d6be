//! Loads the manifests at start, and the configuration and the manifests on SIGHUP, and reports what is not applied.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::signal::unix::Signal;
use tokio::sync::watch;

use crate::admission::manifest::{self, LoadSummary};
use crate::admission::prepare::Places;
use crate::event::Event;
use crate::fleet::Name;
use crate::gate::Gate;
use crate::gate::degradations::{Degradation, Severity, Source};
use crate::gate::tokens::{self, TokenKey};

/// What loads the configuration again. It returns what the operator must know.
pub type ReloadConfig = Arc<dyn Fn() -> Vec<ReloadNote> + Send + Sync>;

/// What the operator must know after a reload, in a short line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadNote {
    /// For the operator.
    pub text: String,
    /// For any client: the place, and none of the values in the file.
    pub public: String,
    /// What it means for machines.
    pub severity: Severity,
}

/// The directory of manifests, if one is configured. An invalid manifest is skipped and reported. The server is not
/// ready until it is corrected, but answers requests.
pub struct Manifests {
    directory: Option<PathBuf>,
    namespace: Name,
    key: TokenKey,
}

impl std::fmt::Debug for Manifests {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Manifests").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Manifests {
    /// Reads the key of the manifests' codes from the state directory, or creates it.
    ///
    /// # Errors
    /// The key cannot be read or created.
    pub fn new(directory: Option<PathBuf>, namespace: Name, state_dir: &Path) -> anyhow::Result<Self> {
        let key = tokens::key(state_dir, "manifest.key").context("state_dir: manifest.key")?;
        Ok(Self { directory, namespace, key })
    }

    /// Applies the manifests.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub async fn load(&self, places: &Places, gate: &Gate) -> Result<(), manifest::ManifestError> {
        self.apply(places, gate, &[]).await
    }

    /// Applies the manifests. `notes`: what the status says as well.
    async fn apply(&self, places: &Places, gate: &Gate, notes: &[ReloadNote]) -> Result<(), manifest::ManifestError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let LoadSummary { written, wrong } =
            manifest::load(directory, &self.namespace, &self.key, places, &gate.store).await?;
        for error in &wrong {
            gate.store.record_event(None, Event::ManifestInvalid { message: error.to_string() });
        }
        tracing::info!(directory = %directory.display(), written, wrong = wrong.len(), "manifests applied");
        Self::report(
            gate,
            wrong.iter().map(|error| format!("manifest not applied: {}", error.place())).collect(),
            notes,
        );
        Ok(())
    }

    /// Loads the configuration and the manifests again at each SIGHUP, until the server stops.
    ///
    /// # Errors
    /// None; the result is that of a service.
    pub async fn watch(
        self,
        (places, gate): (Places, Arc<Gate>),
        reload_config: ReloadConfig,
        mut hang_up: Signal,
        mut stopped: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let reload_always = async {
            while hang_up.recv().await.is_some() {
                let now = NotifyState::monotonic_usec_now().into_iter();
                let _ = sd_notify::notify(&now.chain([NotifyState::Reloading]).collect::<Vec<_>>());
                let reload = reload_config.clone();
                let notes = tokio::task::spawn_blocking(move || reload()).await.unwrap_or_default();
                self.reload(&places, &gate, &notes).await;
                let _ = sd_notify::notify(&[NotifyState::Ready]);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = reload_always => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
        Ok(())
    }

    /// Applies the manifests again. A directory that cannot be read is a fault like an invalid manifest.
    async fn reload(&self, places: &Places, gate: &Gate, notes: &[ReloadNote]) {
        if self.directory.is_none() {
            return Self::report(gate, Vec::new(), notes);
        }
        if let Err(error) = self.apply(places, gate, notes).await {
            gate.store.record_event(None, Event::ManifestInvalid { message: error.to_string() });
            Self::report(gate, vec!["manifest directory unreadable".to_owned()], notes);
        }
    }

    /// Publishes the faults, and what the operator must know of the configuration.
    fn report(gate: &Gate, faults: Vec<String>, notes: &[ReloadNote]) {
        let fault = |(index, message): (usize, String)| Degradation {
            code: "manifest_invalid",
            subject: index.to_string(),
            message,
            public: None,
            severity: Severity::Fault,
        };
        let note = |(index, note): (usize, &ReloadNote)| Degradation {
            code: "configuration",
            subject: index.to_string(),
            message: note.text.clone(),
            public: Some(note.public.clone()),
            severity: note.severity,
        };
        gate.degradations.set(Source::Manifests, faults.into_iter().enumerate().map(fault).collect());
        gate.degradations.set(Source::Configuration, notes.iter().enumerate().map(note).collect());
    }
}
