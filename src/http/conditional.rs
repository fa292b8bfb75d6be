//! Conditional requests and ranges (RFC 9110, sections 13 and 14).

use std::sync::Arc;

use hyper::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH,
    IF_RANGE, RANGE,
};
use hyper::{Response, StatusCode};

use crate::http::ranges::{RequestedRange, requested};
use crate::http::reply::{Body, MediumRange, Reply};
use crate::iso::ReadAt;

/// Answers a GET or HEAD for bytes with a strong tag (without quotes): all of them, a range, or none by the request's
/// conditions.
pub fn answer(medium: Arc<dyn ReadAt>, tag: &str, headers: &HeaderMap, is_head: bool) -> Reply {
    let length = medium.len();
    let tag = format!("\"{tag}\"");
    // A condition's field may come several times: it is one list (RFC 9110, section 5.3).
    let names = |field: HeaderName, is_known: fn(&str, &str) -> bool| {
        let mut known =
            headers.get_all(field).iter().filter_map(|value| value.to_str().ok()).flat_map(|one| one.split(','));
        known.any(|one| one.trim() == "*" || is_known(one.trim(), &tag))
    };
    // In the order of RFC 9110, section 13.2.2.
    if headers.contains_key(IF_MATCH) && !names(IF_MATCH, |known, tag| known == tag) {
        return without_bytes(StatusCode::PRECONDITION_FAILED, &tag);
    }
    if headers.contains_key(IF_NONE_MATCH) && names(IF_NONE_MATCH, |known, tag| strong(known) == tag) {
        return with_tag(StatusCode::NOT_MODIFIED, &tag, Body::Whole(None));
    }
    // Ranges are defined for GET alone (RFC 9110, section 14.2). A client that resumes cannot use a part of other bytes.
    let is_same = || only(headers, IF_RANGE).map_or(!headers.contains_key(IF_RANGE), |known| known == tag);
    let range = only(headers, RANGE).filter(|_| !is_head && is_same());
    let (status, start, count) = match requested(range, length) {
        RequestedRange::Whole => (StatusCode::OK, 0, length),
        RequestedRange::Part { start, count } => (StatusCode::PARTIAL_CONTENT, start, count),
        RequestedRange::Unsatisfiable => {
            let mut reply = without_bytes(StatusCode::RANGE_NOT_SATISFIABLE, &tag);
            insert(&mut reply, CONTENT_RANGE, format!("bytes */{length}"));
            return reply;
        }
    };
    let body = match is_head {
        true => Body::Whole(None),
        false => Body::Medium(MediumRange { medium, start, count }),
    };
    let mut reply = with_tag(status, &tag, body);
    insert(&mut reply, CONTENT_LENGTH, count.to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        insert(&mut reply, CONTENT_RANGE, format!("bytes {start}-{}/{length}", start + count - 1));
    }
    reply
}

/// Returns the value of a field that must come once; `None` if it does not.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok())
}

/// Returns a reply that says by its length, also to a HEAD, that it has no body.
fn without_bytes(status: StatusCode, tag: &str) -> Reply {
    let mut reply = with_tag(status, tag, Body::Whole(None));
    reply.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    reply
}

fn with_tag(status: StatusCode, tag: &str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    insert(&mut reply, ETAG, tag.to_owned());
    reply.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    reply
}

fn insert(reply: &mut Reply, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        reply.headers_mut().insert(name, value);
    }
}

/// Returns a tag without its mark of weakness: `If-None-Match` compares weakly (RFC 9110, section 13.1.2).
fn strong(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iso::MemoryImage;

    fn check(headers: &[(HeaderName, &str)], expected: (u16, Option<&str>, Option<&str>)) {
        let mut fields = HeaderMap::new();
        for (name, value) in headers {
            fields.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        let whole = (200, Some("1000"), None);
        for is_head in [false, true] {
            let is_of_range = matches!(expected.0, 206 | 416);
            let expected = if is_head && is_of_range { whole } else { expected };
            let medium: Arc<dyn ReadAt> = Arc::new(MemoryImage(vec![7; 1000].into()));
            let reply = answer(medium, "a", &fields, is_head);
            let text = |name: HeaderName| reply.headers().get(name).and_then(|value| value.to_str().ok());
            let found = (reply.status().as_u16(), text(CONTENT_LENGTH), text(CONTENT_RANGE));
            assert_eq!(found, expected, "{headers:?}");
            assert_eq!(text(ETAG), Some("\"a\""));
            let has_bytes = matches!(reply.body(), Body::Medium(_));
            assert_eq!(has_bytes, !is_head && reply.status().is_success(), "{headers:?}");
        }
    }

    #[test]
    fn conditions_are_checked_in_the_order_of_the_rfc() {
        let (whole, part) = ((200, Some("1000"), None), (206, Some("2"), Some("bytes 3-4/1000")));
        let (unchanged, failed) = ((304, None, None), (412, Some("0"), None));
        check(&[], whole);
        check(&[(IF_MATCH, "\"b\", \"a\"")], whole);
        check(&[(IF_MATCH, "*")], whole);
        check(&[(IF_MATCH, "\"b\"")], failed);
        check(&[(IF_MATCH, "W/\"a\"")], failed);
        check(&[(IF_NONE_MATCH, "W/\"a\"")], unchanged);
        check(&[(IF_NONE_MATCH, "\"b\",\"a\"")], unchanged);
        check(&[(IF_NONE_MATCH, "*")], unchanged);
        check(&[(IF_NONE_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")], unchanged);
        check(&[(IF_MATCH, "\"b\""), (IF_MATCH, "\"a\"")], whole);
        check(&[(IF_NONE_MATCH, "\"b\"")], whole);
        check(&[(IF_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")], failed);
        check(&[(RANGE, "bytes=3-4")], part);
        check(&[(RANGE, "bytes=3-4"), (IF_RANGE, "\"a\"")], part);
        check(&[(RANGE, "bytes=3-4"), (IF_RANGE, "\"b\"")], whole);
        check(&[(RANGE, "bytes=3-4"), (IF_NONE_MATCH, "\"a\"")], unchanged);
        check(&[(RANGE, "bytes=3-4"), (RANGE, "bytes=5-6")], whole);
        check(&[(RANGE, "bytes=3-4"), (IF_RANGE, "\"a\""), (IF_RANGE, "\"a\"")], whole);
        check(&[(RANGE, "bytes=1000-")], (416, Some("0"), Some("bytes */1000")));
    }
}
