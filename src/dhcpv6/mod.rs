//! DHCPv6 messages of firmware that tries to boot over IPv6 (RFC 8415, RFC 5970). They are heard and never answered: the
//! machine boots over IPv4 once it has given up, about a minute later.

pub mod message;
pub mod probe;
pub mod serve;
