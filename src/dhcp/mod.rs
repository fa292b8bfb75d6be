//! DHCP for booting hosts: a ProxyDHCP server on ports 67 and 4011, or a DHCP server (PXE 2.1, RFC 2131, RFC 4578).

pub mod answer;
pub mod clients;
pub mod conflict_probe;
pub mod decode;
mod export;
mod frame;
pub mod hardware;
pub mod lease_shares;
pub mod leases;
mod message;
mod options;
pub mod packet;
pub mod quirks;
pub mod relay;
pub mod rogue_servers;
pub mod serve;
pub mod server;
