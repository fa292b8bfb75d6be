//! That a config was given: on disk before it is, whichever way it goes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::boot::{Facts, Reason};
use crate::event::{DeliveryChannel, Event};
use crate::fleet::lifecycle::Transition;
use crate::fleet::{Mac, Name};

use crate::gate::Gate;

/// Returns the transition that a delivery makes.
fn transition(channel: DeliveryChannel) -> Transition {
    match channel {
        DeliveryChannel::SeedUnit => Transition::FetchConfig,
        DeliveryChannel::Embedded => Transition::CarryConfig,
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
    /// Makes it durable that a machine is given a file of the config that was decided on: before it is given. `file`
    /// is none where it is the config's main file.
    ///
    /// # Errors
    /// Reason it is not to be given.
    pub async fn configure(&self, facts: &Facts, config: &Name, file: Option<&str>) -> Result<(), Reason> {
        let event = fetched(facts, config, None, file);
        self.advance(facts, Transition::FetchConfig, Some(event)).await?;
        Ok(())
    }

    /// Tells that a machine is given a file that goes beside its config, which is no step of an install.
    pub fn record_side_file(&self, facts: &Facts, config: &Name, file: &str) {
        self.store.record_event(Some(facts.mac), fetched(facts, config, None, Some(file)));
    }

    /// Makes it durable that a machine is given its config without asking for it by name: before it is given, and
    /// once for all the reads of an install from an address.
    ///
    /// # Errors
    /// Reason it is not to be given.
    pub async fn release(&self, facts: &Facts, config: &Name, way: DeliveryChannel) -> Result<(), Reason> {
        let host = self.store.load().host_by_mac(facts.mac).cloned().ok_or(Reason::UnknownHost)?;
        let install = host.status.install.as_ref().and_then(|install| install.first_offer_time);
        let (of, release) = ((facts.mac, way), Release { config: config.clone(), install, to: facts.address });
        if self.releases.is_told(of, &release) {
            return Ok(());
        }
        let event = fetched(facts, config, Some(way), None);
        self.advance(facts, transition(way), Some(event)).await?;
        self.releases.note(of, release);
        Ok(())
    }
}

fn fetched(facts: &Facts, config: &Name, channel: Option<DeliveryChannel>, file: Option<&str>) -> Event {
    Event::ConfigFetched { config: config.clone(), address: facts.address, channel, file: file.map(str::to_owned) }
}
