//! Replies of a Redfish service: each is read, or refused with a short, printable text without the password.
#![no_main]

use bootlatch::bmc::redfish::client::RedfishService;
use bootlatch::bmc::{BmcError, MAX_MESSAGE_LENGTH, Reset};
use bootlatch::fleet::text::is_printable;
use bootlatch::fleet::{Bmc, BmcAddress, Secret};
use bootlatch::http_client::redirect_target;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Method, Response, StatusCode};
use libfuzzer_sys::fuzz_target;

const PASSWORD: &str = "geheim!";

/// Checks the error as the caller of the client sees it.
fn check<T>(bmc: &Bmc, result: Result<T, BmcError>) -> Option<T> {
    result
        .map_err(|error| {
            let text = error.without_password(bmc).to_string();
            assert!(is_printable(&text), "{text:?}");
            assert!(!text.contains(PASSWORD) && !text.contains("YWRtaW46Z2VoZWltIQ=="), "{text}");
            assert!(text.len() <= 4 * MAX_MESSAGE_LENGTH + 200, "{} bytes", text.len());
        })
        .ok()
}

fuzz_target!(|data: &[u8]| {
    let [how, code, length, rest @ ..] = data else { return };
    let address = "redfish+http://10.0.0.9:8000/redfish/v1/Systems/1";
    let at: BmcAddress = address.parse().expect("an address");
    let bmc = Bmc::new(address, "admin", Secret(PASSWORD.to_owned()));
    let service = RedfishService::new(&bmc, &at, None);
    let (field, body) = rest.split_at(usize::from(*length).min(rest.len()));
    let body = body.repeat(if how & 0x80 == 0x80 { 200 } else { 1 });
    let mut reply = Response::new(Bytes::from(body));
    *reply.status_mut() = StatusCode::from_u16(100 + u16::from(*code) * 2).expect("100 to 610");
    if let Ok(value) = HeaderValue::from_bytes(field) {
        reply.headers_mut().insert(if how & 1 == 1 { LOCATION } else { CONTENT_TYPE }, value);
    }
    let Some(url) = check(&bmc, service.url("/redfish/v1/Systems/1?a=b")) else { panic!("a path") };
    if let Some(target) = redirect_target(&url, &reply) {
        let path = target.path_and_query().map_or("/", |path| path.as_str());
        if let Some(next) = check(&bmc, service.url(path)) {
            assert_eq!(next.authority().map(|name| name.as_str()), Some("bmc"), "the credentials go to the BMC alone");
        }
        return;
    }
    let method = if how & 2 == 2 { Method::POST } else { Method::GET };
    let Some(system) = check(&bmc, service.read_reply(&method, &reply)) else { return };
    check(&bmc, service.power_of(&system));
    for reset in Reset::ALL {
        if let Some(target) = check(&bmc, service.reset_target(&system, reset)) {
            check(&bmc, service.url(target));
        }
    }
    if let Some(path) = check(&bmc, service.only_system(&system)) {
        check(&bmc, service.url(path));
    }
});
