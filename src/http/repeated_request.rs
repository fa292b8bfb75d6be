//! The request that comes thousands of times on one connection: another range of the same bytes, or the same request again.

use std::time::Instant;

use hyper::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use hyper::{Method, Request};

use crate::http::handler::Handler;
use crate::http::reply::RepeatedContent;

/// Start of a Range header's value.
const BYTES: &[u8] = b"bytes=";
/// Maximum length of the numbers in it, in octets: two of twenty digits, and the dash.
const MAX_NUMBERS_LENGTH: usize = 41;

/// A connection's last request, as a template: the next one mostly differs in the numbers of its range only, or not at all,
/// and then means the same.
#[derive(Debug)]
pub struct RequestTemplate<Key> {
    /// Bytes of the head up to the numbers; the whole head if it has no range.
    before: Vec<u8>,
    /// Bytes of the head after the numbers; none if it has no range.
    after: Option<Vec<u8>>,
    key: Key,
}

impl<Key> RequestTemplate<Key> {
    /// Makes the template of a request and of the head that it was parsed from; `None` unless it is a plain GET, of one
    /// range or of all bytes. `is_repeated` says that the head came before: a request for all bytes mostly comes once.
    /// `repeated_key` is the handler's.
    pub fn new(
        head: &[u8],
        request: &Request<()>,
        is_repeated: bool,
        repeated_key: impl FnOnce(&Request<()>) -> Option<Key>,
    ) -> Option<Self> {
        let headers = request.headers();
        let ranges = headers.get_all(RANGE).iter().count();
        let is_plain = *request.method() == Method::GET
            && (ranges == 1 || ranges == 0 && is_repeated)
            && ![IF_MATCH, IF_NONE_MATCH, IF_RANGE].iter().any(|name| headers.contains_key(name));
        let key = Some(request).filter(|_| is_plain).and_then(repeated_key)?;
        if ranges == 0 {
            return Some(Self { before: head.to_vec(), after: None, key });
        }
        let numbers = headers.get(RANGE)?.as_bytes().strip_prefix(BYTES)?;
        // There is one such field, but its text may also stand in another field, or in the path.
        let field = head.windows(8).position(|text| text.eq_ignore_ascii_case(b"\r\nrange:"))? + 8;
        let from = field + head[field..].iter().position(|octet| !matches!(octet, b' ' | b'\t'))? + BYTES.len();
        let after = head.get(from..)?.strip_prefix(numbers)?;
        if leading_numbers(numbers) != numbers.len() || !after.starts_with(b"\r\n") {
            return None;
        }
        Some(Self { before: head.get(..from)?.to_vec(), after: Some(after.to_vec()), key })
    }

    /// Returns the bytes that the next request selects, the length of its head and the time, if the request fits the
    /// template and the handler finds them at once.
    pub fn recall<H: Handler<RepeatedKey = Key>>(
        &self,
        handler: &H,
        recent: &H::Recent,
        input: &[u8],
    ) -> Option<(RepeatedContent, usize, Instant)> {
        let (range, length) = self.range(input)?;
        let now = Instant::now();
        handler.recall(recent, &self.key, range, now).map(|content| (content, length, now))
    }

    /// Returns the value of the Range header, if there is one, and the length of the head.
    fn range<'a>(&self, input: &'a [u8]) -> Option<(Option<&'a str>, usize)> {
        let rest = input.strip_prefix(self.before.as_slice())?;
        let Some(after) = &self.after else { return Some((None, self.before.len())) };
        let numbers = leading_numbers(rest);
        rest[numbers..].starts_with(after).then_some(())?;
        let (first, last) = (self.before.len() - BYTES.len(), self.before.len() + numbers);
        let range = std::str::from_utf8(input.get(first..last)?).ok()?;
        Some((Some(range), last + after.len()))
    }
}

/// Returns the number of leading octets that are digits or dashes.
fn leading_numbers(text: &[u8]) -> usize {
    text.iter().take(MAX_NUMBERS_LENGTH).take_while(|octet| octet.is_ascii_digit() || **octet == b'-').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Request<()> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap().split(' ');
        let mut request = Request::builder().method(words.next().unwrap()).uri(words.next().unwrap());
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            request = request.header(name, value.trim());
        }
        request.body(()).unwrap()
    }

    fn image_key(request: &Request<()>) -> Option<String> {
        request.uri().path().strip_prefix("/iso/").map(str::to_owned)
    }

    /// Returns the range of a second request by the template of the first, and the bytes after its head.
    fn second(first: &str, second: &str) -> Option<(String, String)> {
        let template = RequestTemplate::new(first.as_bytes(), &request(first), true, image_key)?;
        let (range, length) = template.range(second.as_bytes())?;
        Some((range.unwrap_or("all").to_owned(), second[length..].to_owned()))
    }

    const FIRST: &str = "GET /iso/a HTTP/1.1\r\nHost: b\r\nRange: bytes=0-2047\r\nA: b\r\n\r\n";

    #[test]
    fn a_request_that_differs_in_its_numbers_fits() {
        let rows = [
            (FIRST.to_owned(), Some(("bytes=0-2047", ""))),
            (FIRST.replace("0-2047", "4096-6143"), Some(("bytes=4096-6143", ""))),
            (FIRST.replace("0-2047", "5-") + "GET", Some(("bytes=5-", "GET"))),
            (FIRST.replace("0-2047", "-5"), Some(("bytes=-5", ""))),
            (FIRST.replace("0-2047", "0-1,4-5"), None),
            (FIRST.replace("0-2047", "0-1 "), None),
            (FIRST.replace("0-2047", &"1".repeat(MAX_NUMBERS_LENGTH + 1)), None),
            (FIRST.replace("bytes=0-2047", "lines=0-2047"), None),
            (FIRST.replace("A: b", "A: c"), None),
            (FIRST.replace("A: b", "If-Range: x"), None),
            (FIRST.replace("GET", "HEAD"), None),
            (FIRST.replace("/a", "/b"), None),
            (FIRST[..FIRST.len() - 1].to_owned(), None),
            (String::new(), None),
        ];
        for (input, expected) in rows {
            let expected = expected.map(|(range, rest)| (range.to_owned(), rest.to_owned()));
            assert_eq!(second(FIRST, &input), expected, "{input:?}");
        }
    }

    #[test]
    fn a_request_for_all_bytes_fits_if_it_is_the_same() {
        let whole = &FIRST.replace("Range: bytes=0-2047\r\n", "");
        let rows = [
            (whole.clone() + "GET", Some(("all".to_owned(), "GET".to_owned()))),
            (whole.replace("/a", "/b"), None),
            (whole.replace("A: b", "A: c"), None),
            (whole[..whole.len() - 1].to_owned(), None),
            (FIRST.to_owned(), None),
        ];
        for (input, expected) in rows {
            assert_eq!(second(whole, &input), expected, "{input:?}");
        }
        assert!(RequestTemplate::new(whole.as_bytes(), &request(whole), false, image_key).is_none(), "it came once");
    }

    #[test]
    fn only_a_plain_range_of_an_image_makes_a_template() {
        let rows = [
            FIRST.replace("0-2047", "0-1,4-5"),
            FIRST.replace("GET", "HEAD"),
            FIRST.replace("/iso/", "/files/"),
            FIRST.replace("A: b", "If-Range: \"x\""),
            FIRST.replace("A: b", "If-None-Match: \"x\""),
            FIRST.replace("A: b", "Range: bytes=5-6"),
            FIRST.replace("bytes=", "lines="),
        ];
        for head in rows {
            assert!(RequestTemplate::new(head.as_bytes(), &request(&head), true, image_key).is_none(), "{head:?}");
        }
        let odd = "GET /iso/a?x=Range:%20bytes=0-1 HTTP/1.1\r\nX: range: bytes=7-8\r\nrAnge:\tbytes=7-8\r\n\r\n";
        let other = odd.replace(":\tbytes=7-8", ":\tbytes=9-10");
        assert_eq!(second(odd, &other), Some(("bytes=9-10".into(), String::new())));
        assert_eq!(second(odd, &odd.replace("X: range: bytes=7-8", "X: range: bytes=9-9")), None);
    }
}
