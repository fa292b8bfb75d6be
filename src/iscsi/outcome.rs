//! Values that the phases of a connection share: the reason for its end, and the targets that it lists.

use crate::iscsi::login::LoginError;
use crate::iscsi::pdu::PduError;

/// A target as SendTargets lists it (RFC 7143 appendix C).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetEntry {
    /// The iSCSI name of the target.
    pub name: String,
    /// `address:port` of each portal, an IPv6 address in brackets.
    pub portals: Vec<String>,
}

/// The reason a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The initiator logged out.
    #[error("logout")]
    Logout,
    /// The login failed.
    #[error("login failed: {0}")]
    Login(#[from] LoginError),
    /// The login took too long.
    #[error("login timed out")]
    LoginTime,
    /// The bytes are no valid PDU stream.
    #[error("malformed: {0}")]
    Malformed(#[from] PduError),
    /// The initiator violated the protocol.
    #[error("protocol: {0}")]
    Protocol(&'static str),
    /// A ping was not answered.
    #[error("no answer to a ping")]
    Silent,
    /// The initiator asked for a target cold reset.
    #[error("target cold reset")]
    ColdReset,
    /// A new login reinstated the session.
    #[error("replaced by a new login")]
    Replaced,
    /// The server is stopping.
    #[error("stopped")]
    Stopped,
}
