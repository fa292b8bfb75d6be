//! The configs that were rendered last. Machines ask for the files of one several times.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fleet::{BootConfig, ConfigTemplateSpec, Mac, Name};
use crate::provision::{RenderError, TemplateScope};

/// Maximum number of configs that are kept.
const MAX_CONFIGS: usize = 64;
/// Maximum size of all files and values that are kept, in octets.
const MAX_SIZE: usize = 16 << 20;

/// A config as a host is served it.
#[derive(Debug, Clone)]
pub struct RenderedConfig {
    /// The config, with its files.
    pub config: Arc<BootConfig>,
    /// The version of its template; `None` without a template.
    pub version: Option<u64>,
}

/// What a rendering depends on.
#[derive(Debug, Clone)]
pub(super) struct RenderInputs {
    /// Boot MAC address of the host.
    pub mac: Mac,
    /// Our address that the machine reaches.
    pub address: IpAddr,
    /// The config.
    pub config: Arc<BootConfig>,
    /// The version of the template.
    pub spec: Arc<ConfigTemplateSpec>,
    /// What the template sees.
    pub scope: TemplateScope,
}

impl RenderInputs {
    /// Returns whether both are of one machine at one of our addresses.
    fn is_of_same(&self, other: &Self) -> bool {
        (self.mac, self.address) == (other.mac, other.address)
    }

    /// Returns whether the same is rendered from both.
    fn gives_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && Arc::ptr_eq(&self.spec, &other.spec) && self.scope == other.scope
    }
}

/// What came of a rendering.
pub type Rendering = Result<RenderedConfig, RenderError>;

/// The configs that were rendered last, the newest last.
#[derive(Debug, Default)]
pub struct RenderedConfigs(Mutex<VecDeque<Kept>>);

#[derive(Debug)]
struct Kept {
    inputs: RenderInputs,
    rendering: Rendering,
    size: usize,
}

impl RenderedConfigs {
    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what was rendered from the same.
    pub(super) fn look_up(&self, inputs: &RenderInputs) -> Option<Rendering> {
        let kept = self.kept();
        let found = kept.iter().find(|kept| kept.inputs.is_of_same(inputs))?;
        found.inputs.gives_same(inputs).then(|| found.rendering.clone())
    }

    /// Keeps a rendering, in place of the machine's last one.
    pub(super) fn keep(&self, inputs: RenderInputs, rendering: Rendering) {
        let files =
            rendering.as_ref().map_or(0, |rendered| rendered.config.spec.files().map(|file| file.1.len()).sum());
        let size = files + inputs.scope.size();
        let mut kept = self.kept();
        kept.retain(|known| !known.inputs.is_of_same(&inputs));
        kept.push_back(Kept { inputs, rendering, size });
        while kept.len() > MAX_CONFIGS || kept.iter().map(|kept| kept.size).sum::<usize>() > MAX_SIZE {
            kept.pop_front();
        }
    }

    /// Returns the length of the main file that was rendered last for a machine from a config.
    pub(super) fn main_length(&self, mac: Mac, config: &Name) -> Option<usize> {
        let kept = self.kept();
        let of = |kept: &&Kept| kept.inputs.mac == mac && kept.inputs.config.metadata.name == *config;
        let rendered = kept.iter().rev().find(of)?.rendering.as_ref().ok()?;
        rendered.config.file(None).map(<[u8]>::len)
    }
}
