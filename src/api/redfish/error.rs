//! Errors in Redfish's format (DSP0266, section 8.6).

use hyper::StatusCode;
use serde_json::json;

use crate::bmc::BmcError;
use crate::fleet::boot_override::OverrideError;

use crate::api::objects::status::Status;
use crate::http::reply::{Reply, json};

/// The reason for which a Redfish request failed.
#[derive(Debug)]
pub struct RedfishError {
    /// HTTP status code.
    pub code: StatusCode,
    /// Message of DMTF's Base registry.
    pub id: &'static str,
    /// A sentence for people.
    pub message: String,
}

impl RedfishError {
    /// Creates an error with a message of the Base registry.
    pub fn new(code: StatusCode, id: &'static str, message: impl Into<String>) -> Self {
        Self { code, id, message: message.into() }
    }

    /// Returns 404: the resource does not exist.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceMissingAtURI", format!("there is no {what}"))
    }

    /// Returns 400: a property has a wrong value.
    pub fn bad_value(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "PropertyValueError", message)
    }

    /// Returns 409: a property conflicts with the state of the resource.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "PropertyValueConflict", message)
    }

    /// Returns 400: a property cannot be written.
    pub fn not_writable(property: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "PropertyNotWritable", format!("{property} is read-only"))
    }

    /// Returns the HTTP reply.
    pub fn reply(&self) -> Reply {
        let id = format!("Base.1.18.{}", self.id);
        let extended = json!({"MessageId": id, "Message": self.message, "MessageArgs": [], "Severity": "Warning", "Resolution": "None"});
        json(self.code, &json!({"error": {"code": id, "message": self.message, "@Message.ExtendedInfo": [extended]}}))
    }
}

impl From<Status> for RedfishError {
    fn from(status: Status) -> Self {
        let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(code, "GeneralError", status.message())
    }
}

impl From<OverrideError> for RedfishError {
    fn from(error: OverrideError) -> Self {
        Self::conflict(error.to_string())
    }
}

impl From<BmcError> for RedfishError {
    fn from(error: BmcError) -> Self {
        let (code, id) = match error {
            BmcError::Address(_) | BmcError::Unsupported { .. } => (StatusCode::BAD_REQUEST, "ActionNotSupported"),
            BmcError::Unreachable { .. } => (StatusCode::BAD_GATEWAY, "CouldNotEstablishConnection"),
            BmcError::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, "ServiceTemporarilyUnavailable"),
            BmcError::Refused { .. } | BmcError::Denied { .. } | BmcError::InvalidReply { .. } => {
                (StatusCode::BAD_GATEWAY, "GeneralError")
            }
        };
        Self::new(code, id, error.to_string())
    }
}
