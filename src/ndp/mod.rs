//! One answer to iPXE's router solicitation where no router answers (RFC 4861 4.1, 4.2).
//!
//! iPXE configures IPv4 and IPv6 together, and waits for a router 4 s (2025) to 16 s (2019 ROMs) at every boot on a
//! network without one (boot-facts 13). An advertisement of "no router, nothing to configure" ends the wait. It is sent
//! to that host alone, once for each of its DHCP exchanges with this server.

pub mod advert;
pub mod serve;
