//! Exit status of commands.

use crate::config::{ConfigError, Logged, StartRefused};
use crate::doctor::Severity;

use super::client::ClientError;
use super::connection::TwoServers;
use super::context_file::NoSuchContext;

/// Error of words that a command does not take.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// A failure of `diff`, whose exit status 1 has another meaning (diff(1)).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(pub String);

/// The end of `diff` that found differences. It prints nothing.
#[derive(Debug, thiserror::Error)]
#[error("differences were found")]
pub struct Differs;

/// The end of `doctor` that found something wrong. It has printed what.
#[derive(Debug, thiserror::Error)]
#[error("something is wrong")]
pub struct Unwell(pub Severity);

/// The reader of standard output, such as `head`, has ended. It prints nothing.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub struct OutputClosed;

/// The exit status of commands, for help and man pages.
pub const EXIT_CODES: [(u8, &str); 10] = [
    (0, "success"),
    (1, "failure; differences, of diff"),
    (2, "wrong usage; failure, of diff"),
    (3, "the server does not answer"),
    (4, "not found"),
    (5, "refused (conflict or rule)"),
    (6, "not authorized"),
    (7, "warnings, of doctor"),
    (8, "errors, of doctor"),
    (78, "the server cannot start until somebody acts"),
];

/// Exit status of a command. Documented in `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Success.
    Success = 0,
    /// Any other failure; also differences, of `diff`.
    Failed = 1,
    /// Wrong usage; also a failure of `diff`.
    Usage = 2,
    /// The server does not answer, or not in time.
    Unreachable = 3,
    /// The object does not exist.
    NotFound = 4,
    /// The server refused the request: the object exists, was changed, is in use, or violates a rule.
    Refused = 5,
    /// The token is missing or invalid, or its role does not allow the request.
    NotAllowed = 6,
    /// `doctor` found nothing worse than warnings.
    Warnings = 7,
    /// `doctor` found errors.
    Errors = 8,
    /// The server cannot start until an operator acts (EX_CONFIG of sysexits.h): systemd does not try again.
    NeedsOperator = 78,
}

/// Returns the exit status of an error.
pub fn exit_code(error: &anyhow::Error) -> ExitStatus {
    if error.is::<StartRefused>() || error.is::<ConfigError>() {
        return ExitStatus::NeedsOperator;
    }
    if error.is::<UsageError>() || error.is::<TwoServers>() || error.is::<Trouble>() {
        return ExitStatus::Usage;
    }
    if error.is::<OutputClosed>() {
        return ExitStatus::Success;
    }
    if let Some(Unwell(severity)) = error.downcast_ref() {
        return match severity {
            Severity::Warning => ExitStatus::Warnings,
            Severity::Error => ExitStatus::Errors,
        };
    }
    if error.is::<NoSuchContext>() {
        return ExitStatus::NotFound;
    }
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Unreachable { .. } | ClientError::TimedOut { .. }) => ExitStatus::Unreachable,
        Some(ClientError::Refused { code: 404, .. }) => ExitStatus::NotFound,
        Some(ClientError::Refused { code: 401 | 403, .. } | ClientError::NotPermitted { .. }) => ExitStatus::NotAllowed,
        Some(ClientError::Refused { code: 409 | 422, .. }) => ExitStatus::Refused,
        Some(ClientError::Unverified { .. } | ClientError::Refused { .. } | ClientError::Interrupted { .. }) | None => {
            ExitStatus::Failed
        }
    }
}

/// Returns whether an error ends a command without a message.
pub fn is_silent(error: &anyhow::Error) -> bool {
    error.is::<Logged>() || error.is::<OutputClosed>() || error.is::<Differs>() || error.is::<Unwell>()
}
