//! The limits of the target.

use std::time::Duration;

/// Maximum number of concurrent connections of a listener, before and after the login: two for each host of a full hall
/// (BIOS iPXE opens two).
pub const MAX_SESSIONS: usize = 2048;
/// Number of sessions that only known machines get.
pub const RESERVED_SESSIONS: usize = 512;
/// Maximum data segment of a received PDU, in bytes: our MaxRecvDataSegmentLength, and the limit during the login.
pub const MAX_RECEIVE_SEGMENT: usize = 8192;
/// Maximum length of the additional header segments of one PDU, in bytes (RFC 7143 11.2.1.5: one byte of 4-byte words).
pub const MAX_AHS_BYTES: usize = 255 * 4;
/// Size of a connection's input buffer at its start, in bytes: a login request, or a few commands. It grows when it is
/// full. The allocator keeps blocks of this size for the next connection.
pub const MIN_INPUT_BUFFER_BYTES: usize = 1024;
/// Maximum size of a connection's input buffer, in bytes: one PDU of the largest size with its digests, and a batch of small
/// ones.
pub const INPUT_BUFFER_BYTES: usize = 16 * 1024;
const _: () = assert!(INPUT_BUFFER_BYTES >= 48 + MAX_AHS_BYTES + 4 + MAX_RECEIVE_SEGMENT + 4, "a whole PDU finds room");
/// Maximum data segment of a Data-In, in bytes, if the initiator accepts it. Longer ones were not faster: the medium's
/// bytes leave the processor's cache before they are sent.
pub const MAX_SEND_SEGMENT: usize = 64 * 1024;
/// Minimum length of a data segment that is sent with sendfile(2) instead of a copy through the output, in bytes.
pub const MIN_SENDFILE_BYTES: u64 = 32 * 1024;
/// Maximum output that a connection gathers before it writes, in bytes: one Data-In of the largest size, and small
/// responses.
pub const MAX_OUTPUT_BYTES: usize = MAX_SEND_SEGMENT + 16 * 1024;
/// Maximum number of outstanding commands of a session: the CmdSN window (RFC 7143 4.2.2.1).
pub const MAX_COMMANDS: u32 = 128;
/// Maximum number of outstanding immediate commands. The next one is rejected (RFC 7143 11.17.1).
pub const MAX_IMMEDIATE_COMMANDS: usize = 8;
/// Maximum text of one login or text negotiation over all its PDUs, in bytes.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Maximum number of login requests in one login.
pub const MAX_LOGIN_REQUESTS: u32 = 32;
/// Maximum number of logical units of a target.
pub const MAX_LUNS: usize = 16;

/// Maximum time from the TCP connection to the end of the login.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(15);
/// Time of silence after which an initiator that sends NOP-Outs itself is pinged with a NOP-In.
pub const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum time to the answer of a ping.
pub const PING_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum time in which a peer accepts no byte of the output.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Time from the asynchronous logout request to the end of the connection at shutdown.
pub const LOGOUT_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum time for all sessions to end at shutdown. A peer that accepts no byte does not even get the request.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// Time of silence after which TCP probes a peer. The abandoned session of a booted host gets a reset this way.
pub const KEEPALIVE_IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Interval between two such probes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum number of unanswered probes; the last one ends the connection. A boot menu under BIOS answers none while it
/// waits for a key, so the total is a quarter of an hour.
pub const MAX_KEEPALIVE_PROBES: u32 = 26;
/// Number of sent bytes after which a session reports them.
pub const REPORT_BYTES: u64 = 1 << 20;
/// Pause after a failed accept. It fails when file descriptors run out, and only time frees them.
pub const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);
