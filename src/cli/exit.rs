//! Exit status of commands.

use crate::config::StartRefused;

use super::client::ClientError;

/// Exit status of a command. Documented in `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Any other failure.
    Failed = 1,
    /// The server does not answer.
    Unreachable = 3,
    /// The object does not exist.
    NotFound = 4,
    /// The server refused the request: the object exists, was changed, is in use, or violates a rule.
    Refused = 5,
    /// The token is missing or invalid, or its role does not allow the request.
    NotAllowed = 6,
    /// The server cannot start until an operator acts (EX_CONFIG of sysexits.h): systemd does not try again.
    NeedsOperator = 78,
}

/// Returns the exit status of an error.
pub fn exit_code(error: &anyhow::Error) -> ExitStatus {
    if error.is::<StartRefused>() {
        return ExitStatus::NeedsOperator;
    }
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Unreachable { .. }) => ExitStatus::Unreachable,
        Some(ClientError::Refused { code: 404, .. }) => ExitStatus::NotFound,
        Some(ClientError::Refused { code: 401 | 403, .. }) => ExitStatus::NotAllowed,
        Some(ClientError::Refused { code: 409 | 422, .. }) => ExitStatus::Refused,
        Some(ClientError::Unverified { .. } | ClientError::Refused { .. } | ClientError::Interrupted { .. }) | None => {
            ExitStatus::Failed
        }
    }
}
