//! Answers the serial console of a host, as it was captured.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;

use crate::api::objects::status::Status;
use crate::api::objects::write::find;
use crate::api::state::Shared;
use crate::fleet::{Key, Object};
use crate::http::reply::{self, Reply};

/// Answers GET .../console: the text as the machine sent it, from an offset (`from`) on, of the present boot or of the one
/// before (`previous=true`).
///
/// # Errors
/// 404; 400 for an offset beyond the end, which the console of another boot has; 500 if the file cannot be read.
pub fn read(shared: &Shared, key: &Key, query: Option<&str>) -> Result<Reply, Status> {
    let Object::Host(host) = find(shared, key)? else { return Err(Status::no_route()) };
    let (mut from, mut is_previous) = (0, false);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match (&*name, &*value) {
            ("from", number) => {
                let wrong = || Status::bad_request(format!("from: {number:?} is not a number of octets"));
                from = number.parse().map_err(|_| wrong())?;
            }
            ("previous", "true" | "false") => is_previous = value == "true",
            ("previous", _) => return Err(Status::bad_request("previous: expected true or false".to_owned())),
            _ => {}
        }
    }
    let text = shared.gate.consoles.read(host.spec.boot_mac_address, is_previous, from);
    let text = text.map_err(|error| Status::internal(format!("the console cannot be read: {error}")))?;
    let text = text.ok_or_else(|| Status::bad_request(format!("from: the console has less than {from} octets")))?;
    Ok(reply::bytes(StatusCode::OK, HeaderValue::from_static("text/plain; charset=utf-8"), Bytes::from(text)))
}
