//! The reply to a request that failed, and to a DELETE (meta/v1 Status).

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::bmc::BmcError;
use crate::fleet::rules::Invalid;
use crate::fleet::{Key, Kind};
use crate::store;

use crate::api::objects::managed_fields::Conflict;
use crate::http::reply::{Reply, json};

/// The outcome of a request that failed, or of a DELETE (meta/v1 Status).
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    #[schemars(extend("enum" = ["Status"]))]
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    /// Success or Failure.
    #[schemars(extend("enum" = ["Success", "Failure"]))]
    status: &'static str,
    /// A sentence for people: what failed and what to do.
    message: String,
    /// The reason as one word for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<StatusDetails>>,
    /// The HTTP status code.
    pub code: u16,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(inline)]
struct Empty {}

#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[schemars(inline)]
struct StatusDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<Cause>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(inline)]
struct Cause {
    reason: &'static str,
    message: String,
    field: String,
}

impl Cause {
    fn of(field: &str, message: &str) -> Self {
        Self { reason: "FieldValueInvalid", message: message.to_owned(), field: field.to_owned() }
    }
}

impl Status {
    fn failure(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: Empty {},
            status: "Failure",
            message: message.into(),
            reason: Some(reason),
            details: None,
            code: code.as_u16(),
        }
    }

    /// Returns the reply to a DELETE that was carried out.
    pub fn deleted(key: &Key, uid: &str) -> Self {
        let details = StatusDetails { uid: Some(uid.to_owned()), ..about(key) };
        let message = String::new();
        let done = Self::failure(StatusCode::OK, "", message);
        Self { status: "Success", reason: None, details: Some(details.into()), ..done }
    }

    /// Returns 400 BadRequest.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// Returns 401 Unauthorized. `given`: whether the request carried a token.
    pub fn unauthorized(given: bool) -> Self {
        let message = match given {
            true => "the bearer token is not valid: use the one in admin.token of the server's state directory",
            false => "a bearer token is required: use the one in admin.token of the server's state directory",
        };
        Self::failure(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    /// Returns 401 Unauthorized for a page in a browser.
    pub fn login_ended() -> Self {
        Self::failure(StatusCode::UNAUTHORIZED, "Unauthorized", "Your login has ended. Log in again.")
    }

    /// Returns 403 Forbidden.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// Returns 429 TooManyRequests.
    pub fn too_many_requests(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
    }

    /// Returns 410 Expired: a version is no longer in the history.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::GONE, "Expired", message)
    }

    /// Returns 404 NotFound for a path without a route.
    pub fn no_route() -> Self {
        Self::failure(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
    }

    /// Returns 404 NotFound for an object.
    pub fn not_found(kind: Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.plural());
        let details =
            StatusDetails { name: Some(name.to_owned()), kind: Some(kind.plural()), ..StatusDetails::default() };
        Self { details: Some(details.into()), ..Self::failure(StatusCode::NOT_FOUND, "NotFound", message) }
    }

    /// Returns 404 NotFound for anything but an object.
    pub fn not_found_message(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// Returns 405 MethodNotAllowed.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// Returns 413 RequestEntityTooLarge for a body. `limit` is in bytes.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("the body is larger than {limit} bytes");
        Self::failure(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// Returns 413 RequestEntityTooLarge for an object that a change would make too large. `limit` is in bytes.
    pub fn object_too_large(limit: usize) -> Self {
        let message = format!("the object would have more than {limit} bytes");
        Self::failure(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// Returns 406 NotAcceptable.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    /// Returns 415 UnsupportedMediaType.
    pub fn unsupported_media(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// Returns 422 Invalid: the request is well-formed, and cannot be carried out.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// Returns 422 Invalid for a field of the body; an empty field means the whole body.
    pub fn unprocessable_field(field: &str, message: &str) -> Self {
        let details = StatusDetails { causes: vec![Cause::of(field, message)], ..StatusDetails::default() };
        let text = if field.is_empty() { message.to_owned() } else { format!("{field}: {message}") };
        Self { details: Some(details.into()), ..Self::unprocessable(text) }
    }

    /// Returns 409 AlreadyExists.
    pub fn already_exists(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::CONFLICT, "AlreadyExists", message)
    }

    /// Returns 503 ServiceUnavailable.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// Returns 502 BadGateway, or 503 ServiceUnavailable for a BMC that is busy: a BMC failed.
    pub fn of_bmc(error: &BmcError) -> Self {
        let (code, reason) = match error {
            BmcError::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            BmcError::Address(_)
            | BmcError::Unreachable { .. }
            | BmcError::Refused { .. }
            | BmcError::Denied { .. }
            | BmcError::Unsupported { .. }
            | BmcError::InvalidReply { .. } => (StatusCode::BAD_GATEWAY, "BadGateway"),
        };
        Self::failure(code, reason, error.to_string())
    }

    /// Returns 409 Conflict.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::CONFLICT, "Conflict", message)
    }

    /// Returns 409 Conflict for a parameter whose value is out of date.
    pub fn conflict_field(field: &str, message: &str) -> Self {
        let details = StatusDetails { causes: vec![Cause::of(field, message)], ..StatusDetails::default() };
        Self { details: Some(details.into()), ..Self::conflict(format!("{field}: {message}")) }
    }

    /// Returns 408 Timeout.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::REQUEST_TIMEOUT, "Timeout", message)
    }

    /// Returns 507 InsufficientStorage: the body does not fit on the disk (RFC 4918, section 11.5).
    pub fn insufficient_storage(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage", message)
    }

    /// Returns 500 InternalError.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// Returns 422 Invalid for a field of an object.
    pub fn invalid(kind: Kind, name: &str, wrong: &Invalid) -> Self {
        let message = format!("{} {name:?} is invalid: {wrong}", kind.as_str());
        let causes = wrong.message.lines().map(|line| Cause::of(&wrong.field, line)).collect();
        let details = StatusDetails {
            name: Some(name.to_owned()),
            kind: Some(kind.as_str()),
            causes,
            ..StatusDetails::default()
        };
        Self { details: Some(details.into()), ..Self::unprocessable(message) }
    }

    /// Returns 409 Conflict for the fields that other managers set to other values.
    pub fn conflicts(key: &Key, conflicts: &[Conflict]) -> Self {
        let cause = |one: &Conflict| Cause {
            reason: "FieldManagerConflict",
            message: format!("conflict with {:?}", one.manager),
            field: one.field(),
        };
        let fields: Vec<_> =
            conflicts.iter().map(|one| format!("{} is set by {:?}", one.field(), one.manager)).collect();
        let count = conflicts.len();
        let message = format!("Apply failed with {count} conflict{}: {}", plural(count), fields.join(", "));
        let details = StatusDetails { causes: conflicts.iter().map(cause).collect(), ..about(key) };
        Self { details: Some(details.into()), ..Self::failure(StatusCode::CONFLICT, "Conflict", message) }
    }

    /// Returns the reply for a change that the store refused.
    pub fn of_store(error: &store::StoreError, key: &Key) -> Self {
        use store::StoreError::{
            AlreadyExists, Conflict, DiskNearlyFull, EnrolmentLimit, InUse, Lost, NoSuchMac, NotFound, Unavailable,
            Unreadable,
        };
        let (code, reason) = match error {
            NotFound(_) | NoSuchMac(_) => return Self::not_found(key.kind, key.name.as_str()),
            store::StoreError::Invalid(wrong) => return Self::invalid(key.kind, key.name.as_str(), wrong),
            AlreadyExists(_) => (StatusCode::CONFLICT, "AlreadyExists"),
            Conflict { .. } | InUse { .. } => (StatusCode::CONFLICT, "Conflict"),
            EnrolmentLimit(_) | DiskNearlyFull | Lost { .. } | Unavailable(_) | Unreadable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")
            }
        };
        Self { details: Some(about(key).into()), ..Self::failure(code, reason, error.to_string()) }
    }

    /// Returns whether another writer came first.
    pub fn is_conflict(&self) -> bool {
        self.code == StatusCode::CONFLICT.as_u16() && self.reason == Some("Conflict")
    }

    /// Returns whether an object of the same name exists already.
    pub fn is_already_exists(&self) -> bool {
        self.reason == Some("AlreadyExists")
    }

    /// Returns the sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the HTTP reply; a 401 carries WWW-Authenticate.
    pub fn reply(&self) -> Reply {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut reply = json(code, self);
        if code == StatusCode::UNAUTHORIZED {
            let scheme = hyper::header::HeaderValue::from_static("Bearer realm=\"bootlatch\"");
            reply.headers_mut().insert(hyper::header::WWW_AUTHENTICATE, scheme);
        }
        reply
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn about(key: &Key) -> StatusDetails {
    StatusDetails { name: Some(key.name.to_string()), kind: Some(key.kind.plural()), ..StatusDetails::default() }
}
