//! Rules about machines that were switched on and boot something else, or are not heard.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::fleet::{BootStage, BootTarget, Certainty, Phase, Power, StallReason};

use super::Finding;
use super::evidence::{Evidence, Step};
use super::install::{POWER_ON_TIMEOUT, bmc_address};
use super::scene::{Progress, Scene};
use super::text::seconds;

/// Time between the setting of a boot device and the power-on that it is for.
const OVERRIDE_LEAD: Duration = Duration::from_secs(600);

/// Returns when a machine that is to boot from the network was switched on, if nothing was heard of it for long enough.
fn unheard_power_on<'a>(scene: &Scene<'a>) -> Option<&'a Evidence> {
    if scene.reached() != Progress::Power {
        return None;
    }
    let switched = scene.boot().find(|step| matches!(step, Step::PoweredOn))?;
    let is_to_boot = scene.host.is_some_and(|host| {
        host.spec.image != BootTarget::LocalDisk && !matches!(host.status.phase, Phase::Installed | Phase::LocalBoot)
    });
    (is_to_boot && scene.has_passed(switched.last, POWER_ON_TIMEOUT)).then_some(switched)
}

/// The BMC accepted to boot the machine from the network, and the machine booted something else.
pub fn override_ignored(scene: &Scene<'_>) -> Option<Finding> {
    let switched = unheard_power_on(scene)?;
    let all = scene.boots.iter().rev().flat_map(|boot| boot.steps.iter().rev());
    let mut set = all.filter(|evidence| evidence.step == Step::NetworkBootSet);
    let is_for_it = |set: &Evidence| {
        set.last <= switched.last + Duration::from_secs(5) && switched.last.saturating_sub(set.last) <= OVERRIDE_LEAD
    };
    set.next().filter(|set| is_for_it(set))?;
    // A machine that is off boots nothing.
    if scene.host.is_some_and(|host| host.status.power == Some(Power::Off)) {
        return None;
    }
    Finding::new(
        (BootStage::Power, StallReason::BootOverrideIgnored),
        Certainty::Likely,
        format!(
            "Its BMC{} accepted to boot it from the network, it was switched on {} ago and has sent nothing: most often it \
             booted something else, since the BMC sets the boot device for legacy boots only or firmware ignores it; or its \
             cable or VLAN is another",
            bmc_address(scene),
            seconds(scene.now.saturating_sub(switched.last))
        ),
        "look at its screen; put network boot first in the boot order of its firmware, or update the BMC",
    )
}

/// The host's address is in a network behind a router, and no machine of that network was ever heard.
pub fn no_request_relayed(scene: &Scene<'_>) -> Option<Finding> {
    let switched = unheard_power_on(scene)?;
    let Some(IpAddr::V4(address)) = scene.host?.spec.ip else { return None };
    let networks = &scene.segment.networks;
    let is_here = networks.is_empty() || networks.iter().any(|net| net.contains(&address));
    // The prefix of the network is not known: a relay that is anywhere near may be its own.
    let is_near = |relay: &Ipv4Addr| relay.octets()[..2] == address.octets()[..2];
    if is_here || scene.segment.relays.iter().any(is_near) {
        return None;
    }
    let us = scene.segment.address.map_or_else(|| "this server".to_owned(), |us| us.to_string());
    Finding::new(
        (BootStage::Power, StallReason::NoRequestRelayed),
        Certainty::Possible,
        format!(
            "It was switched on {} ago and has sent nothing, and no machine near {address} was ever heard: most often the router \
             of its network does not forward DHCP requests to {us}; or network boot is off",
            seconds(scene.now.saturating_sub(switched.last))
        ),
        format!(
            "add {us} to the helper addresses (DHCP relay) of the router of {address}; then look at its boot order"
        ),
    )
}
