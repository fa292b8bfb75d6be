//! Names every limit of the target.

use std::time::Duration;

/// Bounds sessions at once over all targets: a hall of racks, twice each (BIOS iPXE opens two).
pub const SESSIONS_AT_ONCE: usize = 2048;
/// Bounds the data segment that we take in one PDU, in bytes: our MaxRecvDataSegmentLength, and what a login may carry.
pub const RECEIVE_SEGMENT: usize = 8192;
/// Bounds additional header segments of one PDU, in bytes (RFC 7143 11.2.1.5: one byte of 4-byte words).
pub const AHS: usize = 255 * 4;
/// Bounds the input that a connection holds: one largest PDU with its digests, and room to batch small ones.
pub const INPUT: usize = 16 * 1024;
const _: () = assert!(INPUT >= 48 + AHS + 4 + RECEIVE_SEGMENT + 4, "a whole PDU finds room");
/// Bounds the data segment that we send in one Data-In, in bytes, where the initiator takes as much. Larger ones
/// were not faster: the medium's bytes leave the processor's cache before they are sent.
pub const SEND_SEGMENT: usize = 64 * 1024;
/// Is from which length on a data segment is sent out of the page cache, not copied through the output.
pub const LEND: u64 = 32 * 1024;
/// Bounds the output that a connection gathers before it writes: one largest Data-In and what small answers fit beside it.
pub const OUTPUT: usize = SEND_SEGMENT + 16 * 1024;
/// Bounds commands outstanding in a session: the CmdSN window (RFC 7143 4.2.2.1).
pub const COMMAND_WINDOW: u32 = 128;
/// Bounds immediate commands outstanding beside the window; one more is rejected (RFC 7143 11.17.1).
pub const IMMEDIATE_COMMANDS: usize = 8;
/// Bounds the text of one login or text negotiation gathered over continued PDUs, in bytes.
pub const TEXT: usize = 64 * 1024;
/// Bounds login requests in one login: a negotiation that goes on longer is not one.
pub const LOGIN_ROUNDS: u32 = 32;
/// Bounds logical units of a target.
pub const LUNS: usize = 16;

/// Bounds the time from the TCP connection to the end of the login.
pub const LOGIN_TIME: Duration = Duration::from_secs(30);
/// Bounds the silence after which an initiator that sends NOP-Outs itself is pinged with a NOP-In.
pub const IDLE_PING: Duration = Duration::from_secs(30);
/// Bounds the time that a ping may stay unanswered.
pub const PING_ANSWER: Duration = Duration::from_secs(60);
/// Bounds the time in which a peer must take at least one byte of what is sent to it.
pub const SEND_STALL: Duration = Duration::from_secs(60);
/// Bounds the time between the asynchronous logout request and the end of the connection at shutdown.
pub const LOGOUT_TIME: Duration = Duration::from_secs(2);
/// Bounds the time that all sessions get to end at shutdown: one that takes nothing is not sent the request even.
pub const STOP_TIME: Duration = Duration::from_secs(3);
/// Bounds the silence after which TCP probes a peer: an abandoned session of a booted machine gets a reset this way.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(120);
/// Bounds the time between two such probes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Bounds probes without answer that end a connection. A boot menu under BIOS answers none while it waits
/// for a key, so that the whole is a quarter of an hour.
pub const KEEPALIVE_PROBES: u32 = 26;
/// Bounds the pause after a failed accept: it fails for want of file descriptors, which only time gives back.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
