//! Detection of a BMC's protocol. No credentials are sent for it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::header::{ACCEPT, HOST};
use hyper::{Request, StatusCode};
use serde_json::Value;
use tokio::net::UdpSocket;

use crate::fleet::{BmcAddress, DetectedProtocol};
use crate::http_client::tls::TrustAnchor;
use crate::http_client::{self, Server, ServerConnection};

use super::BmcError;

/// Maximum time for the answer of a Redfish service.
const REDFISH_TIMEOUT: Duration = Duration::from_secs(6);
/// Maximum length of the service root, in octets.
const MAX_ROOT_BYTES: usize = 1 << 20;
/// Time to wait for the answer to one ping.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// Number of pings: they travel over UDP.
const PINGS: usize = 3;
/// The ASF presence ping (IPMI 2.0, section 13.2.3): RMCP version, no acknowledgement, ASF class; then ASF's number, type
/// 0x80, a tag, no data.
const PRESENCE_PING: [u8; 12] = [0x06, 0x00, 0xff, 0x06, 0x00, 0x00, 0x11, 0xbe, 0x80, 0x00, 0x00, 0x00];
/// The ASF presence pong up to its type.
const PRESENCE_PONG: [u8; 9] = [0x06, 0x00, 0xff, 0x06, 0x00, 0x00, 0x11, 0xbe, 0x40];
/// Offset of the supported entities in a pong, and their bit for IPMI.
const ENTITIES: usize = 20;
const ENTITY_IPMI: u8 = 0x80;

/// Detects the protocol of a BMC: Redfish over TLS, else IPMI.
///
/// # Errors
/// It answers over neither.
pub async fn detect(address: &BmcAddress) -> Result<DetectedProtocol, BmcError> {
    let redfish = address.with_protocol(DetectedProtocol::Redfish);
    let refused = match tokio::time::timeout(REDFISH_TIMEOUT, read_root(&redfish)).await {
        Ok(Ok(())) => return Ok(DetectedProtocol::Redfish),
        Ok(Err(cause)) => cause,
        Err(_) => format!("no answer within {} s", REDFISH_TIMEOUT.as_secs()),
    };
    let ipmi = address.with_protocol(DetectedProtocol::Ipmi);
    match ping(&ipmi).await {
        Ok(()) => Ok(DetectedProtocol::Ipmi),
        Err(cause) => Err(BmcError::Unreachable {
            at: address.host.clone(),
            cause: format!("neither Redfish (port {}: {refused}) nor IPMI (port {}: {cause})", redfish.port, ipmi.port),
        }),
    }
}

/// Reads the service root, which needs no login (DSP0266, section 6.4).
async fn read_root(at: &BmcAddress) -> Result<(), String> {
    let server = Server { tls: true, host: at.host.clone(), port: at.port };
    let opened = ServerConnection::open(&server, &TrustAnchor::Any.into(), REDFISH_TIMEOUT).await;
    let mut connection = opened.map_err(|error| error.to_string())?;
    let request = Request::get("/redfish/v1/").header(HOST, server.host_header()).header(ACCEPT, "application/json");
    let request = request.body(http_client::full(Bytes::new())).map_err(|error| error.to_string())?;
    let answer = async {
        let answer = connection.send(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ROOT_BYTES).collect().await;
        Ok::<_, String>((status, body.map_err(|error| error.to_string())?.to_bytes()))
    };
    let answer = answer.await;
    connection.close();
    match answer? {
        (StatusCode::OK, body) if is_root(&body) => Ok(()),
        (status, _) => Err(format!("answered {status}, and not with a service root")),
    }
}

/// Returns whether a body is that of a service root.
fn is_root(body: &[u8]) -> bool {
    let root = serde_json::from_slice::<Value>(body).unwrap_or_default();
    root["RedfishVersion"].is_string() || root["Systems"].is_object()
}

/// Sends presence pings until one is answered by a BMC that speaks IPMI.
async fn ping(at: &BmcAddress) -> Result<(), String> {
    let found = tokio::net::lookup_host((at.host.as_str(), at.port)).await.map_err(|error| error.to_string())?;
    let target = found.into_iter().next().ok_or("the name has no address")?;
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.map_err(|error| error.to_string())?;
    socket.connect(target).await.map_err(|error| error.to_string())?;
    let mut packet = [0; 512];
    for _ in 0..PINGS {
        socket.send(&PRESENCE_PING).await.map_err(|error| error.to_string())?;
        match tokio::time::timeout(PING_TIMEOUT, socket.recv(&mut packet)).await {
            Ok(Ok(length)) if is_ipmi_pong(packet.get(..length).unwrap_or_default()) => return Ok(()),
            Ok(Ok(_)) => return Err("the presence ping is answered, and not by IPMI".to_owned()),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => {}
        }
    }
    Err(format!("no answer to {PINGS} presence pings"))
}

/// Returns whether a packet is the presence pong of a BMC that supports IPMI.
fn is_ipmi_pong(packet: &[u8]) -> bool {
    packet.starts_with(&PRESENCE_PONG) && packet.get(ENTITIES).is_some_and(|entities| entities & ENTITY_IPMI != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pong_of_ipmi_is_one() {
        // Of openipmi's ipmi_sim.
        let mut pong = hex::decode("0600ff06000011be40000010000011be000000008100000000000000").unwrap();
        assert!(is_ipmi_pong(&pong));
        for length in 0..=ENTITIES {
            assert!(!is_ipmi_pong(&pong[..length]), "{length}");
        }
        pong[ENTITIES] = 0x01;
        assert!(!is_ipmi_pong(&pong), "ASF alone");
        assert!(!is_ipmi_pong(&PRESENCE_PING));
    }

    #[test]
    fn a_service_root_is_told_from_other_pages() {
        assert!(is_root(br##"{"RedfishVersion": "1.6.0", "Systems": {"@odata.id": "/redfish/v1/Systems"}}"##));
        for other in ["", "<html>", "{}", "[1]", r#"{"Systems": "none"}"#] {
            assert!(!is_root(other.as_bytes()), "{other}");
        }
    }
}
