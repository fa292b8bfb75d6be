//! Rules about DHCP: addresses, offers and relays.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::boot::{BootProtocol, DropReason, Reason};
use crate::fleet::{BootStage, Certainty, Mac, Phase, StallReason};

use super::evidence::{DhcpClient, Evidence, OtherOffer, Step};
use super::scene::{Boot, Progress, Refusal, Scene};
use super::text::{plural, seconds};
use super::{Finding, LostRequests, Segment, Uptime};

const DHCP: BootStage = BootStage::Dhcp;
const PROGRAM: BootStage = BootStage::Program;

/// Time after an offer by which firmware that takes it asks for its address: it collects offers for 4 s at most (EDK2
/// `mPxeDhcpTimeout`), and a busy machine needs another second.
pub const OFFER_TIMEOUT: Duration = Duration::from_secs(6);
/// Time without an offer of an address after which the DHCP server counts as absent. EDK2 asks at 0, 4 and 12 s.
const NO_ADDRESS_TIMEOUT: Duration = Duration::from_secs(9);
/// Time from an address to the request for the boot file.
pub const BOOT_FILE_TIMEOUT: Duration = Duration::from_secs(8);
/// Time after which firmware asks again on port 4011: 1, 2 and 3 s (EDK2 `PxeBcDhcp4Discover`).
pub const PROXY_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after a DISCOVER in which firmware that takes an offer has asked for its address, also from a slow DHCP server.
const LATE_REQUEST_TIMEOUT: Duration = Duration::from_secs(8);
/// Time in which the kernel gives up ARP: three tries, a second each.
const ARP_TIMEOUT: Duration = Duration::from_secs(4);
/// Time in which the interface of the host asks too, after another one of its machine did.
const SECOND_INTERFACE_TIMEOUT: Duration = Duration::from_secs(8);
/// Delay of an offer beyond which firmware may not have waited for it.
const LATE_OFFER: Duration = Duration::from_secs(3);

/// The DISCOVER of the firmware in the present boot.
struct Discover<'a> {
    evidence: &'a Evidence,
    secs: u16,
    relay: Option<Ipv4Addr>,
    is_broadcast: bool,
}

fn discover<'a>(boot: &Boot<'a>) -> Option<Discover<'a>> {
    boot.find_map(|evidence| match evidence.step {
        Step::Discover { secs, client: DhcpClient::Firmware(..), relay, is_broadcast, .. } => {
            Some(Discover { evidence, secs, relay, is_broadcast })
        }
        _ => None,
    })
}

/// Returns the offers of other servers in a boot, the newest first.
fn other_offers<'a>(boot: &Boot<'a>) -> impl Iterator<Item = (&'a Evidence, &'a OtherOffer)> {
    boot.steps.iter().rev().filter_map(|evidence| match &evidence.step {
        Step::OtherOffer(offer) => Some((evidence, &**offer)),
        _ => None,
    })
}

fn our_offer<'a>(boot: &Boot<'a>) -> Option<(&'a Evidence, bool)> {
    boot.find_map(|evidence| match &evidence.step {
        Step::Offered { has_address, .. } => Some((evidence, *has_address)),
        _ => None,
    })
}

/// Returns how often the machine asked, in words: `3 times in 12 s`.
pub fn asked(evidence: &Evidence) -> String {
    match evidence.count {
        1 => "once".to_owned(),
        count => format!("{count} times in {}", seconds(evidence.last.saturating_sub(evidence.first))),
    }
}

/// Returns the name of the segment for sentences.
fn on(segment: &Segment) -> String {
    if segment.interface.is_empty() { "this segment".to_owned() } else { segment.interface.clone() }
}

/// Returns a server with its MAC address, by which a switch finds it.
fn with_mac(server: Ipv4Addr, mac: Option<Mac>) -> String {
    mac.map_or_else(|| server.to_string(), |mac| format!("{server} ({mac})"))
}

/// Returns our address for sentences.
fn us(segment: &Segment) -> String {
    segment.address.map_or_else(|| "this server".to_owned(), |address| address.to_string())
}

/// The machine is held, ignored, or has no boot program.
pub fn refused_by_us(scene: &Scene<'_>) -> Option<Finding> {
    const REASONS: &[Reason] =
        &[Reason::Held, Reason::UnknownHostIgnored, Reason::NoBootProgram, Reason::EnrolmentLimit];
    let Refusal { evidence, protocol, reason, .. } = scene.refusal(Progress::ProgramRequest, REASONS)?;
    let over = protocol.name();
    let times = discover(&scene.boot()).map_or_else(|| asked(evidence), |discover| asked(discover.evidence));
    let is_held = scene.is_in(Phase::Held);
    match reason {
        // Somebody has decided meanwhile.
        Reason::Held if !is_held => None,
        Reason::UnknownHostIgnored | Reason::EnrolmentLimit if scene.host.is_some() => None,
        Reason::Held => Finding::new(
            (DHCP, StallReason::Held),
            Certainty::Certain,
            format!("It asks to boot over {over} ({times}) and is held"),
            "assign an image or localboot to the host",
        )
        .map(|found| found.refused_at(held_at(scene))),
        Reason::NoBootProgram => {
            let architecture = scene.boot().find_map(|evidence| match evidence.step {
                Step::Discover { client: DhcpClient::Firmware(_, architecture), .. } => Some(architecture),
                _ => None,
            });
            let firmware = architecture.map_or_else(
                || "of an unknown architecture".to_owned(),
                |architecture| format!("{architecture} (architecture {})", architecture.0),
            );
            Finding::new(
                (DHCP, StallReason::NoBootProgram),
                Certainty::Certain,
                format!("Its firmware is {firmware}, and no boot program is configured for that"),
                "set a program for the architecture in [programs] of the configuration",
            )
        }
        Reason::UnknownHostIgnored | Reason::EnrolmentLimit => Finding::new(
            (DHCP, StallReason::HostIgnored),
            Certainty::Certain,
            format!("It asks to boot over {over} ({times}) and gets no answer: {reason}"),
            "declare the host, or change the rule for unknown machines",
        ),
        _ => None,
    }
}

/// Returns the time of the last request of the machine itself that was refused since it is held.
fn held_at(scene: &Scene<'_>) -> Option<Uptime> {
    let is_own = |step: &Step| matches!(step, Step::Refused { reason: Reason::Held, is_tied: true, .. });
    scene.boot().latest(is_own).map(|evidence| evidence.last)
}

/// Our replies do not reach the relay that the machine asks through.
pub fn relay_unreachable(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let Discover { evidence: asked, relay: Some(relay), .. } = discover(&boot)? else { return None };
    if scene.reached() != Progress::Discover {
        return None;
    }
    let remedy = format!("add a route to {relay}, or listen on an interface that reaches it");
    let name = (DHCP, StallReason::RelayUnreachable);
    // The kernel reports it, too, when nobody answers its ARP requests.
    let is_unanswered = |step: &Step| match step {
        Step::ArpUnanswered { address } => *address == relay,
        Step::Unreachable { by, code: 1, from_port: 67 } => Some(*by) == scene.segment.address,
        _ => false,
    };
    // Without another error the reply to the last message has arrived.
    let is_over = |fault: &Evidence| fault.last < asked.last && scene.has_passed(asked.last, ARP_TIMEOUT);
    if boot.find(is_unanswered).is_some_and(|fault| !is_over(fault)) {
        return Finding::new(
            name,
            Certainty::Certain,
            format!(
                "It asks through the relay {relay}, and we cannot answer: nobody on {} answers ARP for {relay}",
                on(scene.segment)
            ),
            remedy,
        );
    }
    boot.find_map(|evidence| match &evidence.step {
        _ if is_over(evidence) => None,
        Step::ReplyNotSent { to, error } if *to == relay => Finding::new(
            name,
            Certainty::Certain,
            format!("It asks through the relay {relay}, and we cannot answer: {error}"),
            remedy.clone(),
        ),
        Step::Unreachable { by, from_port: 67, .. } => Finding::new(
            name,
            Certainty::Certain,
            format!("It asks through the relay {relay}, and our reply does not reach it: {by} answers 'unreachable'"),
            remedy.clone(),
        ),
        _ => None,
    })
}

/// The firmware got our offer and an address, and takes neither.
pub fn offers_refused(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let discover = discover(&boot)?;
    if scene.reached() != Progress::Discover {
        return None;
    }
    let (ours, has_address) = our_offer(&boot)?;
    let other = other_offers(&boot).filter(|(_, offer)| offer.address.is_some()).last();
    let both = match (other, has_address) {
        (Some((evidence, _)), false) => evidence.first.max(ours.first),
        (_, true) => ours.first,
        (None, false) => return None,
    };
    // The last DISCOVER of this transaction must have come well after both offers, and be without effect too.
    let repeats_after = discover.evidence.last.saturating_sub(both) >= Duration::from_secs(3);
    if !repeats_after {
        let _ = scene.has_passed(discover.evidence.last, OFFER_TIMEOUT);
        return None;
    }
    let is_third = discover.evidence.count >= 3;
    if !is_third && !scene.has_passed(discover.evidence.last, OFFER_TIMEOUT) {
        return None;
    }
    let times = asked(discover.evidence);
    let us = us(scene.segment);
    match other {
        Some((_, offer)) if !has_address => {
            let server = offer.server;
            if let Some(rival) = rival(&boot, server) {
                return other_boot_server(&us, rival, "it takes neither");
            }
            Finding::new(
                (DHCP, StallReason::OffersRefused),
                Certainty::Likely,
                format!(
                    "It was offered an address by {server} and a boot file by {us}, and took neither: it asks again with \
                     the same number ({times}). Its firmware most likely wants both from one server"
                ),
                format!(
                    "let {server} name {us} as next-server, and the boot file (mode = \"off\" of the README), or set \
                     boot_file_in = \"4011\" for the host"
                ),
            )
        }
        _ => Finding::new(
            (DHCP, StallReason::OffersRefused),
            Certainty::Possible,
            format!("It was offered an address and a boot file by {us}, and asks again with the same number ({times})"),
            "our offers may not reach it: look for DHCP snooping on the switch; or its firmware refuses them",
        ),
    }
}

/// Our offer left so late that the firmware may not have waited for it.
pub fn offer_late(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    if scene.reached() != Progress::Discover {
        return None;
    }
    let (offered, delay) = boot.find_map(|evidence| match evidence.step {
        Step::Offered { delay: Some(delay), .. } if delay > LATE_OFFER => Some((evidence, delay)),
        _ => None,
    })?;
    if !scene.has_passed(offered.last, Duration::from_secs(1)) {
        return None;
    }
    Finding::new(
        (DHCP, StallReason::OfferLate),
        Certainty::Certain,
        format!(
            "Our offer left {} after it asked, and firmware waits for 3 s: this server was stopped, or the disk of its state \
             is slow",
            seconds(delay)
        ),
        "look at the load of this server and at the disk of its state: enrolments wait for it",
    )
}

/// Returns another boot server than the DHCP server, if one answers the machine.
fn rival<'a>(boot: &Boot<'a>, address_server: Ipv4Addr) -> Option<&'a OtherOffer> {
    let mut boots =
        other_offers(boot).map(|(_, offer)| offer).filter(|offer| offer.claims_boot || offer.file.is_some());
    boots.find(|offer| offer.address.is_none() && offer.server != address_server)
}

fn other_boot_server(us: &str, rival: &OtherOffer, effect: &str) -> Option<Finding> {
    let file = rival.file.as_ref().map_or_else(String::new, |file| format!(" ({file})"));
    let server = rival.server;
    Finding::new(
        (DHCP, StallReason::OtherBootServer),
        Certainty::Likely,
        format!(
            "{} also tells machines what to boot{file}, as {us} does, and {effect}: it may have gone to {server}",
            with_mac(server, rival.mac)
        ),
        format!("switch the boot service of {server} off, or set dhcp.on_other_server = \"stand_down\""),
    )
}

/// Nobody offers the machine an address.
pub fn no_address_offered(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let discover = discover(&boot)?;
    let is_refused = |step: &Step| matches!(step, Step::NoAddress { .. });
    if let Some(Evidence { step: Step::NoAddress { reason }, .. }) = boot.fault(Progress::Address, is_refused) {
        return Finding::new(
            (DHCP, StallReason::NoAddressOffered),
            Certainty::Certain,
            format!("It asks ({}) and gets no address from this server: {reason}", asked(discover.evidence)),
            match reason {
                DropReason::LeaseNotWritten => "look at the disk of the state: bootlatch doctor",
                _ => "look at the pools and the limits of [dhcp] in the configuration",
            },
        );
    }
    let is_offered = scene.segment.is_address_server || other_offers(&boot).any(|(_, offer)| offer.address.is_some());
    if scene.reached() != Progress::Discover || is_offered || our_offer(&boot).is_none() {
        return None;
    }
    if discover.evidence.count < 2 || !scene.has_passed(discover.evidence.first, NO_ADDRESS_TIMEOUT) {
        return None;
    }
    let times = asked(discover.evidence);
    let interface = on(scene.segment);
    let name = (DHCP, StallReason::NoAddressOffered);
    let remedy = "start the DHCP server of this network, look at its pool and its filters, or set dhcp.mode = \"server\" with \
         [[dhcp.subnets]]";
    match (discover.relay, discover.is_broadcast && scene.segment.hears_offers) {
        (None, true) => Finding::new(
            name,
            Certainty::Certain,
            format!(
                "Nobody offers it an address on {interface} (it asked {times}): this server says what to boot, and gives none"
            ),
            remedy,
        ),
        _ => Finding::new(
            name,
            Certainty::Likely,
            format!(
                "It asked {times} and took no address: most often no DHCP server offers it one. Offers to it are not heard \
                 here, so it may also have refused them"
            ),
            remedy,
        ),
    }
}

/// Returns the number of requests that the kernel lost while the machine asked and was not heard.
fn lost_requests(scene: &Scene<'_>, discover: &Discover<'_>) -> Option<u64> {
    let LostRequests { first, last, count } = scene.segment.lost_requests?;
    let heard = discover.evidence.first;
    let began = heard.saturating_sub(Duration::from_secs(discover.secs.into()) + Duration::from_secs(1));
    (last >= began && first <= heard + Duration::from_secs(1)).then_some(count)
}

/// The first requests of the machine did not arrive, and it gave up.
pub fn first_request_late(scene: &Scene<'_>) -> Option<Finding> {
    let discover = discover(&scene.boot())?;
    let is_late = discover.secs >= 4 && discover.secs < 600;
    if scene.reached() != Progress::Discover || !is_late {
        return None;
    }
    if !scene.has_passed(discover.evidence.last, LATE_REQUEST_TIMEOUT) {
        return None;
    }
    if let Some(lost) = lost_requests(scene, &discover) {
        return Finding::new(
            (DHCP, StallReason::RequestsLost),
            Certainty::Likely,
            format!(
                "Its first message that was read was sent {} s after it began to ask, and meanwhile the kernel lost {} on {}: \
                 they came faster than this server reads",
                discover.secs,
                plural(usize::try_from(lost).unwrap_or(usize::MAX), "request"),
                on(scene.segment)
            ),
            "switch fewer machines on at a time; run bootlatch doctor, which looks at the receive buffers and the load",
        );
    }
    Finding::new(
        (DHCP, StallReason::FirstRequestLate),
        Certainty::Likely,
        format!(
            "Its first message that reached us was sent {} s after it began to ask: most often the switch port waits for \
             spanning tree",
            discover.secs
        ),
        "make its switch port an edge port (portfast)",
    )
}

/// The machine asks again on port 4011, or never for the file that it was told there.
pub fn proxy_unanswered(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    if scene.reached() != Progress::ProxyRequest {
        return None;
    }
    let request = boot.find(|step| matches!(step, Step::ProxyRequest { .. }))?;
    let us = us(scene.segment);
    let unreachable = boot.find_map(|evidence| match evidence.step {
        Step::Unreachable { by, from_port: 4011, .. } => Some(by),
        _ => None,
    });
    if request.count >= 3 || unreachable.is_some() {
        let icmp = unreachable.map_or_else(String::new, |by| format!(" ({by} answers 'port unreachable')"));
        return Finding::new(
            (PROGRAM, StallReason::ProxyRepliesLost),
            Certainty::Certain,
            format!(
                "It asks on port 4011 again and again ({}) though we answer: our answers do not reach it{icmp}. Most \
                 often a firewall",
                asked(request)
            ),
            format!("let UDP from {us}:4011 through to it"),
        );
    }
    if !scene.has_passed(request.last, PROXY_TIMEOUT) {
        return None;
    }
    Finding::new(
        (PROGRAM, StallReason::ProxyReplyUnused),
        Certainty::Possible,
        "It got the name of its boot file on port 4011 and never asked for the file: it has no way to this server \
         (netmask, gateway), or its firmware rejects the answer"
            .to_owned(),
        format!("see that its DHCP server gives it an address and a gateway that reach {us}; UDP 69 must be open"),
    )
}

/// Returns the server and address that the firmware took in the present boot, and when.
fn taken<'a>(boot: &Boot<'a>) -> Option<(&'a Evidence, Option<Ipv4Addr>, Ipv4Addr)> {
    boot.find_map(|evidence| match evidence.step {
        Step::Request { server, address, client: DhcpClient::Firmware(..) } => Some((evidence, server, address)),
        _ => None,
    })
}

/// The machine took an address of another network.
pub fn unexpected_dhcp_server(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let (evidence, server, address) = taken(&boot)?;
    let is_relayed = discover(&boot).is_some_and(|discover| discover.relay.is_some());
    let networks = &scene.segment.networks;
    let is_foreign = !networks.is_empty() && !networks.iter().any(|network| network.contains(&address));
    if !matches!(scene.reached(), Progress::Address) || is_relayed || !is_foreign {
        return None;
    }
    if !scene.has_passed(evidence.last, Duration::from_secs(4)) {
        return None;
    }
    let offer = other_offers(&boot).map(|(_, offer)| offer).find(|offer| Some(offer.server) == server);
    let mac = offer.and_then(|offer| offer.mac);
    let server = server.map_or_else(|| "a server".to_owned(), |server| with_mac(server, mac));
    Finding::new(
        (DHCP, StallReason::UnexpectedDhcpServer),
        Certainty::Certain,
        format!(
            "It took the address {address}, which is in no network of {}, from {server}: somebody connected another DHCP \
             server, or {} has no address in that network",
            on(scene.segment),
            on(scene.segment)
        ),
        format!("find {server} on the switch and remove it, or give this server an address in that network"),
    )
}

/// The machine took an address, and asks for no boot file here.
pub fn boot_file_not_requested(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let (evidence, server, _) = taken(&boot)?;
    if scene.reached() != Progress::Address || our_offer(&boot).is_none() {
        return None;
    }
    let us = us(scene.segment);
    if protocol(&boot) == Some(BootProtocol::Http) {
        return http_boot_not_requested(scene, &boot, evidence);
    }
    let offer = other_offers(&boot).map(|(_, offer)| offer).find(|offer| Some(offer.server) == server);
    if let Some(offer) = offer.filter(|offer| offer.file.is_some() || offer.claims_boot)
        && scene.has_passed(evidence.last, PROXY_TIMEOUT)
    {
        return misled(offer, &us);
    }
    if let Some(rival) = server.and_then(|server| rival(&boot, server))
        && scene.has_passed(evidence.last, Duration::from_secs(4))
    {
        return other_boot_server(&us, rival, "the machine took an address and did not come here");
    }
    if !scene.has_passed(evidence.last, BOOT_FILE_TIMEOUT) {
        return None;
    }
    let stuck = scene.segment.stuck_machines;
    if stuck > 0 && scene.segment.booting_machines == 0 {
        return Finding::new(
            (DHCP, StallReason::OffersNotReceived),
            Certainty::Likely,
            format!(
                "It and {} of {} take addresses and none of our offers: most often the switch drops the offers of \
                 untrusted ports (DHCP snooping)",
                plural(stuck, "other machine"),
                on(scene.segment)
            ),
            "trust the switch port of this server",
        );
    }
    Finding::new(
        (PROGRAM, StallReason::BootFileNotRequested),
        Certainty::Likely,
        format!(
            "It took its address and asked for no boot file, neither on port 4011 nor over TFTP ({} since): its firmware \
             ignores this form of offer, or our packets do not reach it (UDP 67, 69, 4011)",
            seconds(scene.now.saturating_sub(evidence.last))
        ),
        "its next boot gets the other form of offer (boot_file_in); if that does not help, look for a firewall or DHCP \
         snooping between",
    )
}

fn protocol(boot: &Boot<'_>) -> Option<BootProtocol> {
    boot.find_map(|evidence| match evidence.step {
        Step::Discover { client: DhcpClient::Firmware(protocol, _), .. } => Some(protocol),
        _ => None,
    })
}

/// The DHCP server's own offer names a boot server, so that the firmware does not come to us.
fn misled(offer: &OtherOffer, us: &str) -> Option<Finding> {
    let server = offer.server;
    match &offer.file {
        Some(file) => {
            let at = offer.next_server.map_or_else(String::new, |next| format!(" at {next}"));
            Finding::new(
                (DHCP, StallReason::OtherBootFile),
                Certainty::Certain,
                format!("The DHCP server {server} names its own boot file ({file}{at}), and firmware prefers that"),
                format!("remove the boot file (options 66 and 67, next-server) from {server}"),
            )
        }
        None => Finding::new(
            (DHCP, StallReason::DhcpServerClaimsBoot),
            Certainty::Likely,
            format!(
                "The DHCP server {server} claims to be a boot server (option 60): firmware asks it on port 4011, and not {us}"
            ),
            format!("delete option 60 (PXEClient) from {server}"),
        ),
    }
}

fn http_boot_not_requested(scene: &Scene<'_>, boot: &Boot<'_>, taken: &Evidence) -> Option<Finding> {
    if !scene.has_passed(taken.last, BOOT_FILE_TIMEOUT) {
        return None;
    }
    let url = boot.find_map(|evidence| match &evidence.step {
        Step::Offered { file, .. } => Some(file),
        _ => None,
    });
    let url = url.map_or_else(|| "its URL".to_owned(), |url| format!("the URL {url}"));
    Finding::new(
        (PROGRAM, StallReason::HttpBootNotRequested),
        Certainty::Likely,
        format!(
            "It has its address and {url}, and did not ask for it: most often its firmware takes https only, or TCP 80 is \
             closed on the way"
        ),
        "allow HTTP in its firmware's HTTP Boot settings, or boot it over PXE",
    )
}

/// A machine that is known by its UUID asks over another interface.
pub fn second_interface(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let is_other = |step: &Step| matches!(step, Step::OtherInterface { client, .. } if *client != DhcpClient::Ipxe);
    let other = boot.fault(Progress::Discover, is_other)?;
    let Step::OtherInterface { mac, .. } = other.step else { return None };
    // Firmware tries one interface after the other; an installed machine boots its disk in the end.
    let is_to_boot = scene.is_in(Phase::Assigned) || scene.is_installing();
    if !is_to_boot || !scene.has_passed(other.first, SECOND_INTERFACE_TIMEOUT) {
        return None;
    }
    Finding::new(
        (DHCP, StallReason::SecondInterface),
        Certainty::Likely,
        format!("{mac} is another interface of this machine (the same UUID), and boots from there"),
        format!("set the host's bootMACAddress to {mac}, or disable network boot of that interface"),
    )
}

/// The machine tries IPv6 first.
pub fn ipv6_first(scene: &Scene<'_>) -> Option<Finding> {
    let boot = scene.boot();
    let solicit = boot.find(|step| matches!(step, Step::SolicitV6))?;
    let is_answered = boot.has(|step| matches!(step, Step::RequestV6));
    if is_answered || scene.reached() > Progress::Power || !scene.has_passed(solicit.first, Duration::from_secs(8)) {
        return None;
    }
    Finding::new(
        (DHCP, StallReason::Ipv6First),
        Certainty::Certain,
        "It tries to boot over IPv6, and no DHCPv6 server answers here".to_owned(),
        "put IPv4 first in its boot order, which saves about a minute, or switch PXE over IPv6 off",
    )
}
