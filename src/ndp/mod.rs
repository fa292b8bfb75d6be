//! One answer to iPXE's router solicitation, where no router gives any (RFC 4861 4.1, 4.2).
//!
//! iPXE configures IPv4 and IPv6 together, and waits for a router 4 s (2025) to 16 s (2019 ROMs) on a
//! network without one, at every boot (boot-facts 13). An advertisement that says "no router here, nothing
//! to configure" ends the wait. It goes to that machine alone, once for each of its DHCP rounds with us.

mod advert;
pub mod serve;
