//! The values that the iSCSI server and its login authorizer exchange.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::future::BoxFuture;

use crate::bounds::Excess;
use crate::iscsi::chap::ChapTerms;
use crate::iscsi::full_feature::Rejection;
use crate::iscsi::login::{Claim, LoginRefusal};
use crate::iscsi::medium::Lun;
use crate::iscsi::outcome::{End, TargetEntry};
use crate::iso::ReadAt;

/// A login as the authorizer sees it: the initiator's claim and the two ends of its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginClaim {
    /// The claim of the initiator about itself.
    pub claim: Claim,
    /// The initiator's end of the connection.
    pub peer: SocketAddr,
    /// The server's end of the connection.
    pub local: SocketAddr,
}

/// Records, durably, that the data of a unit is about to be sent. An error is a sentence that says what failed.
pub type RecordFirstRead = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// A logical unit that an admitted initiator sees.
#[derive(Clone)]
pub struct GrantedUnit {
    /// The unit's kind, size and identity.
    pub lun: Lun,
    /// The bytes of the unit.
    pub medium: Arc<dyn ReadAt>,
    /// The record that precedes the first data of the unit; `None` if nothing depends on the read.
    pub record_first: Option<RecordFirstRead>,
}

impl GrantedUnit {
    /// Returns a unit whose reads are not recorded.
    #[must_use]
    pub fn new(lun: Lun, medium: Arc<dyn ReadAt>) -> Self {
        Self { lun, medium, record_first: None }
    }
}

impl std::fmt::Debug for GrantedUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrantedUnit").field("lun", &self.lun).field("medium", &self.medium).finish_non_exhaustive()
    }
}

/// The units, targets and CHAP terms of an admitted initiator.
#[derive(Debug, Default)]
pub struct Grant {
    /// The units by number. Empty in a discovery session.
    pub units: BTreeMap<u8, GrantedUnit>,
    /// The targets that SendTargets lists.
    pub targets: Vec<TargetEntry>,
    /// The CHAP credentials that the initiator must prove; `None` if no proof is demanded.
    pub chap: Option<ChapTerms>,
}

/// The authorizer's answer to a login.
#[derive(Debug)]
pub enum Admission {
    /// The initiator may log in, after CHAP if the grant demands it.
    Admit(Grant),
    /// The initiator is sent to another portal.
    Redirect {
        /// The portal: `host:port`, an IPv6 address in brackets.
        portal: String,
        /// Whether the target stays there.
        permanent: bool,
    },
    /// The login fails.
    Refuse(LoginRefusal),
}

/// The count of bytes that a session has sent to its initiator, while it lives.
#[derive(Debug, Clone, Default)]
pub struct SentBytes(pub Arc<AtomicU64>);

impl PartialEq for SentBytes {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SentBytes {}

/// An event of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionReport {
    /// A session began.
    Attached {
        /// The login of the session.
        login: LoginClaim,
        /// The count of bytes that are sent to the initiator.
        sent: SentBytes,
    },
    /// So many more bytes were sent to the initiator.
    Sent(u64),
    /// A session ended.
    Ended {
        /// The login of the session.
        login: LoginClaim,
        /// The reason; `None` if the connection broke, as the connections of boot firmware do.
        end: Option<End>,
        /// Number of bytes sent to the initiator.
        sent: u64,
        /// The count that the session was attached with.
        session: SentBytes,
    },
    /// A connection ended before it became a session.
    Refused {
        /// The initiator's end of the connection.
        peer: SocketAddr,
        /// The login, if the initiator got that far.
        login: Option<LoginClaim>,
        /// The reason; `None` if the peer closed the connection.
        end: Option<End>,
    },
    /// A PDU of a session was rejected.
    Rejected {
        /// The initiator's end of the connection.
        peer: SocketAddr,
        /// The opcode of the PDU.
        opcode: u8,
        /// The reason that the Reject PDU carries.
        why: Rejection,
    },
    /// A connection was closed at once, because a limit of connections is reached.
    Full {
        /// The initiator's end of the connection.
        peer: SocketAddr,
        /// The limit.
        excess: Excess,
    },
    /// A medium could not be read, or its first read could not be recorded.
    ReadFailed {
        /// The initiator's end of the connection.
        peer: SocketAddr,
        /// The login of the session.
        login: Option<LoginClaim>,
        /// The number of the unit.
        lun: u8,
        /// The error text.
        error: String,
    },
}

/// Whether the decision about a login may wait for a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaAccess {
    /// It uses what is in memory. Without an answer the same decision is made again, and may wait.
    InMemory,
    /// It may wait, and always answers.
    MayWait,
}

type Authorize = dyn Fn(&LoginClaim, MediaAccess) -> Option<Admission> + Send + Sync;
type KnownSources = dyn Fn(IpAddr) -> bool + Send + Sync;
type ReportSink = dyn Fn(ConnectionReport) + Send + Sync;

/// The callbacks of the server: who may attach what, and what happened.
pub struct ConnectionHandler {
    /// Decides about a login; `None` if the decision must wait for a file system, and may not.
    pub authorize: Box<Authorize>,
    /// Receives the events of connections.
    pub report: Box<ReportSink>,
    /// Returns whether an address belongs to a machine that the reserve of connections is for.
    pub is_known: Box<KnownSources>,
    /// Maximum number of connections of one source.
    pub per_source: usize,
}

impl std::fmt::Debug for ConnectionHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionHandler").finish_non_exhaustive()
    }
}

impl Rejection {
    /// Returns the code of the reason, in snake case.
    pub fn code(self) -> &'static str {
        match self {
            Self::DataDigest => "data_digest",
            Self::Snack => "snack",
            Self::Protocol => "protocol",
            Self::NotSupported => "not_supported",
            Self::TooManyImmediate => "too_many_immediate",
            Self::TaskInProgress => "task_in_progress",
            Self::InvalidField => "invalid_field",
        }
    }
}
