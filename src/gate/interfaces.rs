//! What the DHCP service has heard on the server's interfaces, as the API shows it.

use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::Serialize;

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
    /// Time since it was last heard, in seconds.
    pub seconds_ago: u64,
}
