//! Records the steps of boots that DHCP shows, for the diagnosis of boots that do not go on.

use std::time::{Duration, Instant};

use dhcproto::v4::MessageType;

use crate::boot::diagnosis::{DhcpClient, OtherOffer, Step};
use crate::boot::{Facts, Stage};
use crate::dhcp::answer::{Arrival, DhcpPort};
use crate::dhcp::packet::DhcpPacket;
use crate::dhcp::serve::interface::InterfaceState;
use crate::fleet::Mac;
use crate::gate::Gate;
use crate::gate::boot_traces::{MessageOrigin, OfferedFile};

/// Maximum length of a boot file's name that is kept, in octets.
const MAX_FILE: usize = 128;
/// Time after the start in which the offers to every machine are recorded.
const START_TIME: Duration = Duration::from_secs(5);

/// Returns the program that sends a message with these claims; none if it does not boot from the network.
fn client_of_claims(claims: Option<&Facts>) -> DhcpClient {
    match claims {
        Some(Facts { stage: Stage::Rom, firmware: Some(firmware), .. }) => {
            DhcpClient::Firmware(firmware.loading, firmware.architecture)
        }
        Some(_) => DhcpClient::Ipxe,
        None => DhcpClient::System,
    }
}

/// Returns the step that a message with these claims shows; `None` for a message that is no step of a boot.
fn step_of(request: &DhcpPacket<'_>, arrival: Arrival, claims: Option<&Facts>) -> Option<Step> {
    let client = client_of_claims(claims);
    Some(match (request.kind, arrival.port) {
        (MessageType::Discover, DhcpPort::Server) => Step::Discover {
            xid: request.xid(),
            secs: request.secs(),
            client,
            relay: Some(request.giaddr()).filter(|relay| !relay.is_unspecified()),
            is_broadcast: request.flags() & 0x8000 != 0,
        },
        (MessageType::Request, DhcpPort::Server) => {
            let address = request.address(50).or(Some(request.ciaddr())).filter(|ip| !ip.is_unspecified())?;
            Step::Request { server: request.address(54), address, client }
        }
        (MessageType::Request | MessageType::Inform, DhcpPort::Proxy) => Step::ProxyRequest { xid: request.xid() },
        _ => return None,
    })
}

/// Records the step that a message with these claims shows, and the offer that answers it. A running system is of
/// interest only if its machine booted from here.
pub fn record_request(
    gate: &Gate,
    interface: &InterfaceState,
    (request, arrival, at): (&DhcpPacket<'_>, Arrival, Instant),
    claims: Option<&Facts>,
    offer: Option<&OfferedFile<'_>>,
) {
    let Some(step) = step_of(request, arrival, claims) else { return };
    if claims.is_none() && !gate.traces.is_known(request.mac) {
        return;
    }
    let uuid = claims.and_then(|claims| claims.uuid);
    let origin = MessageOrigin { interface: interface.index, uuid, at: Some(at) };
    match offer.filter(|_| request.kind == MessageType::Discover) {
        Some(offer) => gate.trace_exchange(request.mac, step, origin, offer),
        None => gate.trace_from(request.mac, step, origin),
    }
}

/// Records another server's reply to a machine that boots.
pub fn record_other_offer(gate: &Gate, interface: &InterfaceState, bytes: &[u8], from: Option<Mac>) {
    let Ok(reply) = DhcpPacket::parse_reply(bytes) else { return };
    // What comes at the start is heard before the messages that it answers are read.
    let is_wanted = gate.traces.is_known(reply.mac) || gate.traces.now() < START_TIME;
    if reply.kind != MessageType::Offer || !is_wanted {
        return;
    }
    let ours = interface.address;
    let Some(server) = reply.address(54).filter(|server| *server != ours) else { return };
    let class = reply.option(60).unwrap_or_default();
    let file = reply.option(67).unwrap_or_default();
    let file = if file.is_empty() { reply.boot_file() } else { &file };
    let file = String::from_utf8_lossy(&file[..file.len().min(MAX_FILE)]).trim_end_matches('\0').to_owned();
    let next_server = Some(reply.siaddr()).filter(|next| !next.is_unspecified() && *next != server);
    // A DHCP server that names us and our file is as it should be (`mode = "off"`).
    let names_us = next_server == Some(ours) || file.contains(&ours.to_string());
    let offer = OtherOffer {
        server,
        address: Some(reply.yiaddr()).filter(|address| !address.is_unspecified()),
        claims_boot: !names_us && (class.starts_with(b"PXEClient") || class.starts_with(b"HTTPClient")),
        file: Some(file).filter(|file| !file.is_empty() && !names_us).map(Into::into),
        mac: from,
        next_server: next_server.filter(|_| !names_us),
    };
    let origin = MessageOrigin { interface: interface.index, uuid: None, at: None };
    gate.trace_from(reply.mac, Step::OtherOffer(Box::new(offer)), origin);
}

/// Returns the MAC address of the client that a reply is for.
pub fn client_of(reply: &[u8]) -> Option<Mac> {
    DhcpPacket::parse_reply(reply).ok().map(|reply| reply.mac)
}
