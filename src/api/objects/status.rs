use hyper::StatusCode;
use serde::Serialize;

use crate::fleet::rules::Invalid;
use crate::fleet::{Key, Kind};
use crate::store;

use crate::api::objects::managed_fields::Conflict;
use crate::http::reply::{Reply, json};

/// Is Kubernetes' answer to what could not be done (meta/v1 Status), and to a delete that could.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    status: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<Details>>,
    pub code: u16,
}

#[derive(Debug, Clone, Serialize)]
struct Empty {}

#[derive(Debug, Clone, Default, Serialize)]
struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<Cause>,
}

#[derive(Debug, Clone, Serialize)]
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

    /// Says that an object is gone as asked.
    pub fn deleted(key: &Key, uid: &str) -> Self {
        let details = Details { uid: Some(uid.to_owned()), ..about(key) };
        let message = String::new();
        let done = Self::failure(StatusCode::OK, "", message);
        Self { status: "Success", reason: None, details: Some(details.into()), ..done }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// Says that nobody is known to ask, who gave a token or did not.
    pub fn unauthorized(given: bool) -> Self {
        let message = match given {
            true => "the token is none of this server's: the admin's is in its state directory's admin.token",
            false => "a bearer token is needed: the one in the state directory's admin.token",
        };
        Self::failure(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// Says that a place in the past is no longer known.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::GONE, "Expired", message)
    }

    pub fn no_route() -> Self {
        Self::failure(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
    }

    pub fn not_found(kind: Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.plural());
        let details = Details { name: Some(name.to_owned()), kind: Some(kind.plural()), ..Details::default() };
        Self { details: Some(details.into()), ..Self::failure(StatusCode::NOT_FOUND, "NotFound", message) }
    }

    /// Says that something other than an object is not there.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub fn too_large(limit: usize) -> Self {
        let message = format!("the body is larger than {limit} bytes");
        Self::failure(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    pub fn unsupported_media(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// Says that a request is understood, and cannot be carried out on what is there.
    pub fn unfit(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// Says which field of a body is wrong, and what to do.
    pub fn unfit_field(field: &str, message: &str) -> Self {
        let details = Details { causes: vec![Cause::of(field, message)], ..Details::default() };
        let told = if field.is_empty() { message.to_owned() } else { format!("{field}: {message}") };
        Self { details: Some(details.into()), ..Self::unfit(told) }
    }

    /// Says that what is to be made is there already, and somebody else's.
    pub fn already_there(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::CONFLICT, "AlreadyExists", message)
    }

    /// Says that something which is needed does not work now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// Says that somebody else was there first.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::CONFLICT, "Conflict", message)
    }

    pub fn timeout(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::REQUEST_TIMEOUT, "Timeout", message)
    }

    /// Says that what was sent does not fit on the disk (RFC 4918, section 11.5).
    pub fn no_room(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage", message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// Says which field of a manifest is wrong, and what to do.
    pub fn invalid(kind: Kind, name: &str, wrong: &Invalid) -> Self {
        let message = format!("{} {name:?} is invalid: {wrong}", kind.as_str());
        let causes = vec![Cause::of(&wrong.field, &wrong.message)];
        let details = Details { name: Some(name.to_owned()), kind: Some(kind.as_str()), causes, ..Details::default() };
        Self { details: Some(details.into()), ..Self::unfit(message) }
    }

    /// Says which fields other managers set to other values.
    pub fn conflicts(key: &Key, conflicts: &[Conflict]) -> Self {
        let cause = |one: &Conflict| Cause {
            reason: "FieldManagerConflict",
            message: format!("conflict with {:?}", one.manager),
            field: one.field.clone(),
        };
        let told: Vec<_> = conflicts.iter().map(|one| format!("{} is {:?}'s", one.field, one.manager)).collect();
        let count = conflicts.len();
        let message = format!("Apply failed with {count} conflict{}: {}", plural(count), told.join(", "));
        let details = Details { causes: conflicts.iter().map(cause).collect(), ..about(key) };
        Self { details: Some(details.into()), ..Self::failure(StatusCode::CONFLICT, "Conflict", message) }
    }

    /// Says why a change of an object was not made.
    pub fn of_store(error: &store::StoreError, key: &Key) -> Self {
        use store::StoreError::{AlreadyExists, Conflict, InUse, NoSuchMac, NotFound, Unavailable, Unreadable};
        let (code, reason) = match error {
            NotFound(_) | NoSuchMac(_) => return Self::not_found(key.kind, key.name.as_str()),
            store::StoreError::Invalid(wrong) => return Self::invalid(key.kind, key.name.as_str(), wrong),
            AlreadyExists(_) => (StatusCode::CONFLICT, "AlreadyExists"),
            Conflict { .. } | InUse { .. } => (StatusCode::CONFLICT, "Conflict"),
            Unavailable(_) | Unreadable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        };
        Self { details: Some(about(key).into()), ..Self::failure(code, reason, error.to_string()) }
    }

    /// Says whether another writer came first.
    pub fn is_conflict(&self) -> bool {
        self.code == StatusCode::CONFLICT.as_u16() && self.reason == Some("Conflict")
    }

    /// Says whether there is an object of the name already.
    pub fn is_taken(&self) -> bool {
        self.reason == Some("AlreadyExists")
    }

    /// Gives the sentence that tells what to do.
    pub fn message(&self) -> &str {
        &self.message
    }

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

fn about(key: &Key) -> Details {
    Details { name: Some(key.name.to_string()), kind: Some(key.kind.plural()), ..Details::default() }
}
