//! Syslog: the lines of installers (RFC 3164, RFC 5424), over UDP and TCP (RFC 6587).

mod framing;
mod message;
pub mod serve;

/// Maximum length of a line, in octets. The rest of a longer one is left out.
pub const MAX_LINE_BYTES: usize = 8 * 1024;

pub use framing::{Deframer, Frame, UnknownFraming};
pub use message::parse;
