//! Config deliveries: each is durable before the config leaves, over every channel.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::boot::{Facts, Reason};
use crate::event::{DeliveryChannel, Event};
use crate::fleet::lifecycle::Transition;
use crate::fleet::{BootConfig, Mac, Name};

use crate::gate::{Gate, IdentifiedClient};

/// Returns the transition that a delivery makes.
fn transition(channel: DeliveryChannel) -> Transition {
    match channel {
        DeliveryChannel::SeedUnit => Transition::FetchConfig,
        DeliveryChannel::Embedded => Transition::CarryConfig,
    }
}

/// Deliveries that are recorded. A client reads an image in thousands of pieces: each install records one delivery
/// per address and channel.
#[derive(Debug, Default)]
pub struct RecordedDeliveries(Mutex<HashMap<(Mac, DeliveryChannel), RecordedDelivery>>);

/// The fields that distinguish a delivery from the last one to the same machine over the same channel.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RecordedDelivery {
    config: Name,
    install: Option<Timestamp>,
    to: Option<IpAddr>,
}

impl RecordedDeliveries {
    /// Maximum number of deliveries. Of other machines, every read is recorded.
    const MAX_DELIVERIES: usize = 8192;

    fn is_recorded(&self, of: (Mac, DeliveryChannel), delivery: &RecordedDelivery) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&of) == Some(delivery)
    }

    fn record(&self, of: (Mac, DeliveryChannel), delivery: RecordedDelivery) {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.len() < Self::MAX_DELIVERIES || recorded.contains_key(&of) {
            recorded.insert(of, delivery);
        }
    }
}

impl Gate {
    /// Commits the delivery of a file of the config that was decided on. The file may be sent afterwards. `file` is
    /// `None` for the config's main file.
    ///
    /// # Errors
    /// The reason not to send it.
    pub async fn record_config_fetch(
        &self,
        caller: &IdentifiedClient,
        config: &BootConfig,
        file: Option<&str>,
    ) -> Result<(), Reason> {
        let event = fetched(&caller.facts, &config.metadata.name, None, file);
        self.advance(caller, Transition::FetchConfig, Some(event)).await?;
        self.trace_config(caller.facts.mac, config);
        Ok(())
    }

    /// Records the delivery of a file next to the config, which is no step of an install.
    pub fn record_side_file(&self, facts: &Facts, config: &Name, file: &str) {
        self.store.record_event(Some(facts.mac), fetched(facts, config, None, Some(file)));
    }

    /// Commits the delivery of a config that the machine does not request by name, once for all reads of an install from
    /// an address. The bytes may be sent afterwards.
    ///
    /// # Errors
    /// The reason not to send them.
    pub async fn record_config_delivery(
        &self,
        facts: &Facts,
        config: &Name,
        channel: DeliveryChannel,
    ) -> Result<(), Reason> {
        let host = self.store.load().host_by_mac(facts.mac).ok_or(Reason::UnknownHost)?;
        let install = host.status.install.as_ref().and_then(|install| install.first_offer_time);
        let (of, delivery) =
            ((facts.mac, channel), RecordedDelivery { config: config.clone(), install, to: facts.address });
        if self.deliveries.is_recorded(of, &delivery) {
            return Ok(());
        }
        let event = fetched(facts, config, Some(channel), None);
        self.advance(&self.caller(facts), transition(channel), Some(event)).await?;
        if let Some(config) = self.store.load().boot_config(config) {
            self.trace_config(facts.mac, config);
        }
        self.deliveries.record(of, delivery);
        Ok(())
    }
}

fn fetched(facts: &Facts, config: &Name, channel: Option<DeliveryChannel>, file: Option<&str>) -> Event {
    Event::ConfigFetched { config: config.clone(), address: facts.address, channel, file: file.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_of_deliveries_is_remembered() {
        let recorded = RecordedDeliveries::default();
        let of = |number: usize| {
            let [.., a, b, c] = number.to_be_bytes();
            (Mac([2, 0, 0, a, b, c]), DeliveryChannel::Embedded)
        };
        let delivery = |config: &str| RecordedDelivery { config: config.parse().unwrap(), install: None, to: None };
        for number in 0..=RecordedDeliveries::MAX_DELIVERIES {
            recorded.record(of(number), delivery("a"));
        }
        assert_eq!(recorded.0.lock().unwrap().len(), RecordedDeliveries::MAX_DELIVERIES);
        assert!(!recorded.is_recorded(of(RecordedDeliveries::MAX_DELIVERIES), &delivery("a")), "each read is recorded");
        recorded.record(of(0), delivery("b"));
        assert!(recorded.is_recorded(of(0), &delivery("b")) && !recorded.is_recorded(of(0), &delivery("a")));
    }
}
