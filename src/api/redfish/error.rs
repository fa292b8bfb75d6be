use hyper::StatusCode;
use serde_json::json;

use crate::bmc::BmcError;
use crate::fleet::boot_override::OverrideError;

use crate::api::objects::status::Status;
use crate::http::reply::{Reply, json};

/// Says what could not be done, in Redfish's form (DSP0266, section 8.6).
#[derive(Debug)]
pub struct Fault {
    pub code: StatusCode,
    /// Is a message of DMTF's Base registry.
    pub id: &'static str,
    pub message: String,
}

impl Fault {
    pub fn new(code: StatusCode, id: &'static str, message: impl Into<String>) -> Self {
        Self { code, id, message: message.into() }
    }

    pub fn unknown(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceMissingAtURI", format!("there is no {what}"))
    }

    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "PropertyValueError", message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "PropertyValueConflict", message)
    }

    pub fn not_writable(property: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "PropertyNotWritable", format!("{property} cannot be set here"))
    }

    pub fn reply(&self) -> Reply {
        let id = format!("Base.1.18.{}", self.id);
        let told = json!({"MessageId": id, "Message": self.message, "MessageArgs": [], "Severity": "Warning", "Resolution": "None"});
        json(self.code, &json!({"error": {"code": id, "message": self.message, "@Message.ExtendedInfo": [told]}}))
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(code, "GeneralError", status.message())
    }
}

impl From<OverrideError> for Fault {
    fn from(error: OverrideError) -> Self {
        Self::conflict(error.to_string())
    }
}

impl From<BmcError> for Fault {
    fn from(trouble: BmcError) -> Self {
        let (code, id) = match trouble {
            BmcError::Address(_) | BmcError::Unsupported { .. } => (StatusCode::BAD_REQUEST, "ActionNotSupported"),
            BmcError::Unreachable { .. } => (StatusCode::BAD_GATEWAY, "CouldNotEstablishConnection"),
            BmcError::Refused { .. } => (StatusCode::BAD_GATEWAY, "GeneralError"),
        };
        Self::new(code, id, trouble.to_string())
    }
}
