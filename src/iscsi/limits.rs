//! Names every limit of the target.

use std::time::Duration;

/// Sessions at once over all targets: a hall of racks, twice each (BIOS iPXE opens two).
pub const SESSIONS_AT_ONCE: usize = 2048;
/// Data segment that we take in one PDU, in bytes: our MaxRecvDataSegmentLength, and what a login may carry.
pub const RECEIVE_SEGMENT: usize = 8192;
/// Additional header segments of one PDU, in bytes (RFC 7143 11.2.1.5: one byte of 4-byte words).
pub const AHS: usize = 255 * 4;
/// Input that a connection holds: one largest PDU with its digests, and room to batch small ones.
pub const INPUT: usize = 16 * 1024;
/// Data segment that we send in one Data-In, in bytes, where the initiator takes as much. Larger ones
/// were not faster: the medium's bytes leave the processor's cache before they are sent.
pub const SEND_SEGMENT: usize = 64 * 1024;
/// Output that a connection gathers before it writes: one largest Data-In and what small answers fit beside it.
pub const OUTPUT: usize = SEND_SEGMENT + 16 * 1024;
/// Commands outstanding in a session: the CmdSN window (RFC 7143 4.2.2.1).
pub const COMMAND_WINDOW: u32 = 128;
/// Immediate commands outstanding beside the window; one more is rejected (RFC 7143 11.17.1).
pub const IMMEDIATE_COMMANDS: usize = 8;
/// Text of one login or text negotiation gathered over continued PDUs, in bytes.
pub const TEXT: usize = 64 * 1024;
/// Login requests in one login: a negotiation that goes on longer is not one.
pub const LOGIN_ROUNDS: u32 = 32;
/// Logical units of a target.
pub const LUNS: usize = 16;

/// Time from the TCP connection to the end of the login.
pub const LOGIN_TIME: Duration = Duration::from_secs(30);
/// Silence after which an initiator that sends NOP-Outs itself is pinged with a NOP-In.
pub const IDLE_PING: Duration = Duration::from_secs(30);
/// Time a ping may stay unanswered.
pub const PING_ANSWER: Duration = Duration::from_secs(60);
/// Time in which a peer must take at least one byte of what is sent to it.
pub const SEND_STALL: Duration = Duration::from_secs(60);
/// Time between the asynchronous logout request and the end of the connection at shutdown.
pub const LOGOUT_TIME: Duration = Duration::from_secs(2);
/// Silence after which TCP probes a peer: an abandoned session of a booted machine gets a reset this way.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(120);
/// Time between two such probes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Probes without answer that end a connection. A boot menu under BIOS answers none while it waits
/// for a key, so that the whole is a quarter of an hour.
pub const KEEPALIVE_PROBES: u32 = 26;
/// Pause after a failed accept: it fails for want of file descriptors, which only time gives back.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
