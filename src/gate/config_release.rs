//! That a config was given: on disk before it is, whichever way it goes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::boot::{Facts, Reason};
use crate::event::Event;
use crate::fleet::lifecycle::Transition;
use crate::fleet::{Mac, Name};

use crate::gate::Gate;

/// Names the ways in which a config is given to a machine that does not ask for it by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryChannel {
    /// The NoCloud seed on a unit beside the image: its first read. Firmware reads the image's unit alone.
    SeedUnit,
    /// Within the image as the machine sees it. What reads that may be its boot loader still.
    Embedded,
}

impl DeliveryChannel {
    fn as_str(self) -> &'static str {
        match self {
            Self::SeedUnit => "the seed's unit",
            Self::Embedded => "the image",
        }
    }

    fn change(self) -> Transition {
        match self {
            Self::SeedUnit => Transition::FetchConfig,
            Self::Embedded => Transition::CarryConfig,
        }
    }
}

/// Remembers which releases are told: an image is read in thousands of pieces, and each install is told once of every
/// address and way.
#[derive(Debug, Default)]
pub struct Releases(Mutex<HashMap<(Mac, DeliveryChannel), Release>>);

/// Is what makes a release another one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Release {
    config: Name,
    install: Option<Timestamp>,
    to: Option<IpAddr>,
}

impl Releases {
    /// Bounds the releases that are remembered; of others, every read is told.
    const REMEMBERED: usize = 8192;

    fn is_told(&self, of: (Mac, DeliveryChannel), release: &Release) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&of) == Some(release)
    }

    fn note(&self, of: (Mac, DeliveryChannel), release: Release) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < Self::REMEMBERED || told.contains_key(&of) {
            told.insert(of, release);
        }
    }
}

impl Gate {
    /// Makes it durable that a machine is given a file of the config that was decided on: before it is given. `by`
    /// says how, where that is not the request for its main file.
    ///
    /// # Errors
    /// Reason it is not to be given.
    pub async fn configure(&self, facts: &Facts, config: &Name, by: &str) -> Result<(), Reason> {
        let event = fetched(facts, config, by);
        self.advance(facts, Transition::FetchConfig, Some(event)).await.map_err(|_| Reason::StoreUnavailable)?;
        Ok(())
    }

    /// Tells that a machine is given a file that goes beside its config, which is no step of an install.
    pub fn record_side_file(&self, facts: &Facts, config: &Name, file: &str) {
        self.store.record_event(Some(facts.mac), fetched(facts, config, file));
    }

    /// Makes it durable that a machine is given its config without asking for it by name: before it is given, and
    /// once for all the reads of an install from an address.
    ///
    /// # Errors
    /// Reason it is not to be given.
    pub async fn release(&self, facts: &Facts, config: &Name, way: DeliveryChannel) -> Result<(), Reason> {
        let host = self.store.load().host_by_mac(facts.mac).cloned().ok_or(Reason::NoSuchHost)?;
        let install = host.status.install.as_ref().and_then(|install| install.first_offer);
        let (of, release) = ((facts.mac, way), Release { config: config.clone(), install, to: facts.address });
        if self.releases.is_told(of, &release) {
            return Ok(());
        }
        let event = fetched(facts, config, way.as_str());
        self.advance(facts, way.change(), Some(event)).await.map_err(|_| Reason::StoreUnavailable)?;
        self.releases.note(of, release);
        Ok(())
    }
}

fn fetched(facts: &Facts, config: &Name, by: &str) -> Event {
    let address = facts.address.map(|address| address.to_string()).unwrap_or_default();
    Event::ConfigFetched { config: config.to_string(), address, by: by.to_owned() }
}
