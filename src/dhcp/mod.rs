//! DHCP for booting machines: the ProxyDHCP answers on ports 67 and 4011 (PXE 2.1, RFC 2131, RFC 4578).

pub mod answer;
mod export;
mod frame;
pub mod leases;
mod message;
mod options;
pub mod packet;
mod probing;
pub mod quirks;
pub mod rivals;
pub mod serve;
pub mod server;
