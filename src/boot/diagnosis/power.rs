//! Rules about machines that were switched on and boot something else, or are not heard.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::fleet::{BootStage, BootTarget, Certainty, Phase, Power, StallReason};

use super::Finding;
use super::evidence::{DhcpClient, Evidence, ScriptStep, Step};
use super::install::bmc_address;
use super::scene::{Progress, Scene};
use super::text::seconds;

/// Time after which a machine that was switched on has sent something.
pub const POWER_ON_TIMEOUT: Duration = Duration::from_secs(300);
/// Time between the setting of a boot device and the power-on that it is for.
const OVERRIDE_LEAD: Duration = Duration::from_secs(600);

/// Returns when a machine that is to boot from the network was switched on, or was sent Wake-on-LAN packets, if nothing was
/// heard of it for long enough.
fn unheard_power_on<'a>(scene: &Scene<'a>) -> Option<&'a Evidence> {
    if scene.reached() != Progress::Power {
        return None;
    }
    let switched = scene.boot().find(|step| matches!(step, Step::PoweredOn | Step::WakeSent))?;
    let is_to_boot = scene.host.is_some_and(|host| {
        host.spec.image != BootTarget::LocalDisk && !matches!(host.status.phase, Phase::Installed | Phase::LocalBoot)
    });
    (is_to_boot && scene.has_passed(switched.last, POWER_ON_TIMEOUT)).then_some(switched)
}

/// Returns what was done to switch a machine on, and how long ago.
fn switched_on(scene: &Scene<'_>, switched: &Evidence) -> String {
    let ago = seconds(scene.now.saturating_sub(switched.last));
    match switched.step {
        Step::WakeSent => format!("It was sent Wake-on-LAN packets {ago} ago"),
        _ => format!("It was switched on {ago} ago"),
    }
}

/// The BMC accepted to boot the machine from the network, and the machine booted something else.
pub fn override_ignored(scene: &Scene<'_>) -> Option<Finding> {
    let switched = unheard_power_on(scene).filter(|switched| switched.step == Step::PoweredOn)?;
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
            "{} and has sent nothing, and no machine near {address} was ever heard: most often the router of its network does \
             not forward DHCP requests to {us}; or network boot is off{}",
            switched_on(scene, switched),
            if switched.step == Step::WakeSent { "; or it did not wake" } else { "" }
        ),
        format!(
            "add {us} to the helper addresses (DHCP relay) of the router of {address}; then look at its boot order"
        ),
    )
}

/// The machine was switched on, and sends nothing.
pub fn no_network_boot(scene: &Scene<'_>) -> Option<Finding> {
    let switched = unheard_power_on(scene)?;
    let interface = &scene.segment.interface;
    let on = if interface.is_empty() { String::new() } else { format!(" on {interface}") };
    let (cause, remedy) = match switched.step {
        // Nothing confirms that it was off, or that it woke.
        Step::WakeSent => (
            "most often Wake-on-LAN is off in its firmware, or its network adapter has no power while it is off; or network boot \
             is off, it was on already, or its cable or VLAN is another",
            "switch Wake-on-LAN and network boot on in its firmware, or switch it on by hand",
        ),
        _ => (
            "most often network boot is off or behind the disk in its boot order; or its cable or VLAN is another",
            "set its next boot to PXE in the BMC, or look at its switch port",
        ),
    };
    Finding::new(
        (BootStage::Power, StallReason::NoNetworkBoot),
        Certainty::Possible,
        format!("{} and has sent nothing{on}: {cause}", switched_on(scene, switched)),
        remedy,
    )
}

/// Returns whether a step shows that a machine boots whose old system was seen. That system goes on to renew its lease. A
/// script to boot the image is not the machine's own while its host is assigned: its own makes the host `Offered`.
fn is_boot_step(step: &Step) -> bool {
    let is_renewal = matches!(
        step,
        Step::Discover { client: DhcpClient::System, .. } | Step::Request { client: DhcpClient::System, .. }
    );
    Progress::of(step).is_some() && !is_renewal && !is_image_script(step)
}

fn is_image_script(step: &Step) -> bool {
    matches!(step, Step::Script { action: ScriptStep::Attach | ScriptStep::Load })
}

/// The system that is to be replaced runs: it reported that it is complete before the install began.
pub fn old_system_runs(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let early = boot.latest(|step| matches!(step, Step::CompletedEarly { .. }))?;
    let Step::CompletedEarly { asked_from } = early.step else { return None };
    let has_since =
        |test: fn(&Step) -> bool| boot.steps.iter().any(|evidence| evidence.last > early.last && test(&evidence.step));
    if has_since(is_boot_step) || !scene.is_in(Phase::Assigned) {
        return None;
    }
    let ago = seconds(scene.now.saturating_sub(early.last));
    if asked_from.is_some() || has_since(is_image_script) {
        return old_or_new_system_runs(&ago, asked_from);
    }
    Finding::new(
        (BootStage::Power, StallReason::OldSystemRunning),
        Certainty::Certain,
        format!(
            "It has not booted from the network since its install was requested: its present system runs, and reported \
             'complete' {ago} ago. The install stays due"
        ),
        "set its next boot to the network and restart it, or put network boot first in its boot order",
    )
}

/// Returns the finding that a system reported that it is complete, and that its image was asked for from an address that
/// nothing ties to the machine: that may have been the machine itself.
fn old_or_new_system_runs(ago: &str, asked_from: Option<IpAddr>) -> Option<Finding> {
    let address = asked_from.map_or_else(|| "an address".to_owned(), |address| address.to_string());
    let its_own = asked_from.map_or_else(|| "its address".to_owned(), |address| address.to_string());
    Finding::new(
        (BootStage::Power, StallReason::OldSystemRunning),
        Certainty::Possible,
        format!(
            "It reported 'complete' {ago} ago, and its install stays due: its present system runs and has not booted from the \
             network, or it booted from {address}, which nothing ties to it"
        ),
        format!(
            "if the address is its own, set spec.ip of the host to {its_own}; else set its next boot to the network and \
             restart it"
        ),
    )
}
