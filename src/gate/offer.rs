//! Scripts over TFTP: a boot counts once the machine has acknowledged the transfer.
//!
//! Over HTTP the handshake shows that the client receives at its address. Over TFTP one datagram with a forged source
//! would begin, use up or end the install of the machine at that address.

use std::net::IpAddr;
use std::sync::Arc;

use crate::boot::identity::judge;
use crate::boot::{Decision, Facts, Reason, Verdict};
use crate::event::{Event, Protocol};
use crate::fleet::Object;
use crate::fleet::lifecycle::Transition;
use crate::gate::{Gate, HostDecision, IdentifiedClient};
use crate::store::{Change, Observation};

/// A record that waits for the machine's first acknowledgement.
#[derive(Debug, Clone)]
pub struct PendingOffer {
    facts: Facts,
    protocol: Protocol,
    transition: Transition,
    event: Option<Event>,
}

impl Gate {
    /// Decides which boot script a machine is served, as `Gate::script` does, and leaves the record to `acknowledge`.
    pub async fn offer_script(
        self: &Arc<Self>,
        facts: &Facts,
        protocol: Protocol,
        at: Option<IpAddr>,
    ) -> (HostDecision, Option<PendingOffer>) {
        let client = match self.identify(facts, protocol) {
            Ok(client) => client,
            Err(reason) => return (HostDecision::ignore(reason), None),
        };
        self.note_boot(facts);
        let decided = self.require_proof(self.decide_and_enrol(facts).await, client.is_tied());
        let Decision { record, event, .. } = &decided.decision;
        let Some(transition) = *record else {
            return (self.commit(&client, protocol, decided).await, None);
        };
        // While the state cannot be written no install begins.
        if self.store.probe_write().await.is_some() {
            self.refuse(facts, protocol, Reason::StoreUnavailable);
            return (HostDecision::ignore(Reason::StoreUnavailable), None);
        }
        let event = event.as_ref().map(|event| self.timeline_event(facts, protocol, event));
        let decided = self.as_offered(facts, transition, decided);
        let since = decided.host.as_ref().and_then(|host| host.status.last_boot_time);
        let transition = match (transition, since) {
            (Transition::Offer, Some(since)) => Transition::OfferAcknowledged { since },
            (transition, _) => transition,
        };
        let pending = PendingOffer { facts: *facts, protocol, transition, event };
        (self.with_medium(decided, at).await, Some(pending))
    }

    /// Returns a decision with the host as it will be after the record: the token in the script depends on the time of
    /// the first offer.
    fn as_offered(&self, facts: &Facts, transition: Transition, decided: HostDecision) -> HostDecision {
        if !matches!(decided.decision.verdict, Verdict::SanBoot(_)) {
            return decided;
        }
        let change = Change::Advance { mac: facts.mac, transition, observation: Observation::default(), event: None };
        match self.store.dry_run(change) {
            Ok(Object::Host(host)) => HostDecision { host: Some(host), ..decided },
            Ok(Object::Image(_) | Object::BootConfig(_) | Object::ConfigTemplate(_)) | Err(_) => decided,
        }
    }

    /// Commits the record of a script whose transfer the machine has acknowledged. The rest of the script may leave
    /// afterwards.
    ///
    /// # Errors
    /// The evidence contradicts the claim now, or the state cannot be written.
    pub async fn acknowledge(&self, offer: &PendingOffer) -> Result<(), Reason> {
        let PendingOffer { facts, protocol, transition, event } = offer;
        let evidence = self.gather(facts.address, Some(facts.mac), None);
        let identity = judge(&evidence, Some(facts.mac));
        if let Err(reason) = identity {
            self.refuse_contradicted(facts, *protocol, reason, &evidence);
            return Err(reason);
        }
        let client = IdentifiedClient::new(facts, &evidence, identity);
        if !client.is_tied() {
            return Ok(());
        }
        match self.advance(&client, *transition, event.clone()).await {
            Ok(host) => {
                self.warn(&host, &host.status.warnings);
                Ok(())
            }
            Err(reason) => {
                self.refuse(facts, *protocol, reason);
                Err(reason)
            }
        }
    }
}
