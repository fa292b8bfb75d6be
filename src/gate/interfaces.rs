//! What the DHCP service has heard on the server's interfaces, as the API shows it.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// What the DHCP service has heard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HeardNetwork {
    /// The interfaces with DHCP.
    pub interfaces: Vec<InterfaceReport>,
    /// The relays.
    pub relays: Vec<RelayReport>,
}

/// The server's interfaces with DHCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceList {
    #[schemars(extend("enum" = ["InterfaceList"]))]
    kind: &'static str,
    api_version: &'static str,
    /// The interfaces.
    pub items: Vec<InterfaceReport>,
}

impl InterfaceList {
    /// Creates a list.
    pub fn new(items: Vec<InterfaceReport>) -> Self {
        Self { kind: "InterfaceList", api_version: "v1", items }
    }
}

/// An interface of the server, and the other servers that were heard on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceReport {
    /// Name of the interface.
    pub name: String,
    /// Address of the server on it.
    pub address: Ipv4Addr,
    /// Role of the server on it.
    #[schemars(extend("enum" = ["proxy", "server"]))]
    pub mode: &'static str,
    /// Whether machines are left to another boot server (`dhcp.on_other_server = "stand_down"`).
    pub stands_down: bool,
    /// Other DHCP and boot servers that were heard lately.
    pub servers: Vec<HeardServer>,
}

/// Another DHCP or boot server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeardServer {
    /// Address of the server.
    pub address: Ipv4Addr,
    /// What the server does: it announces boot files, or only gives addresses.
    #[schemars(extend("enum" = ["boot_server", "address_server"]))]
    pub role: &'static str,
    /// Whether it was heard to offer an address.
    pub gives_addresses: bool,
    /// Whether it is another bootlatch.
    pub is_bootlatch: bool,
    /// Time at which it was last heard.
    #[schemars(with = "String")]
    pub last_heard_time: Timestamp,
}

/// The relays whose DHCP messages arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RelayList {
    #[schemars(extend("enum" = ["RelayList"]))]
    kind: &'static str,
    api_version: &'static str,
    /// The relays.
    pub items: Vec<RelayReport>,
}

impl RelayList {
    /// Creates a list.
    pub fn new(items: Vec<RelayReport>) -> Self {
        Self { kind: "RelayList", api_version: "v1", items }
    }
}

/// A relay whose DHCP messages arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RelayReport {
    /// Address of the relay, as its messages have it (giaddr).
    pub address: Ipv4Addr,
    /// Address that its last message came from.
    pub source: Ipv4Addr,
    /// Interface that its last message came in on.
    pub interface: String,
    /// Whether its messages count as evidence of a machine's address.
    pub is_believed: bool,
    /// The reason for that: `dhcp.relays` names the sender; it sends from its own address; that address is a machine's;
    /// it sends from another address.
    #[schemars(extend("enum" = ["named", "own_address", "machine_address", "other_source"]))]
    pub reason: &'static str,
    /// Number of messages.
    pub messages: u64,
    /// Number of addresses that a message named, and that were refused because of the relay.
    pub refused: u64,
    /// Time of the last message.
    #[schemars(with = "String")]
    pub last_heard_time: Timestamp,
}
