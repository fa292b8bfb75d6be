//! Requests of web browsers. A page of any site can make the browser of somebody on this network send a request; it
//! must gain nothing by where that browser runs, or by what the browser knows.

use hyper::header::{
    ACCEPT_LANGUAGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, REFERER,
    UPGRADE_INSECURE_REQUESTS, USER_AGENT,
};

/// Fields that browsers send and a page cannot remove. Origin is not sent with a plain GET, a page turns Referer off,
/// and `Sec-Fetch-*` are sent over TLS and to the loopback only (Fetch, section 3.1; Fetch Metadata, section 2); the
/// languages and the User-Agent are sent always.
const FIELDS: [HeaderName; 5] =
    [ORIGIN, REFERER, ACCEPT_LANGUAGE, UPGRADE_INSECURE_REQUESTS, ACCESS_CONTROL_REQUEST_METHOD];
/// Start of the field names that only a browser itself may set (Fetch, section 2.2.2).
const FORBIDDEN_PREFIX: &str = "sec-";
/// The relation between the page that caused a request and its target (Fetch Metadata, section 2.4).
const FETCH_SITE: &str = "sec-fetch-site";
/// Start of the User-Agent of every browser.
const BROWSERS: &[u8] = b"Mozilla/";
/// Part of the User-Agent of a program that poses as a browser, and installs Windows.
const POWERSHELL: &[u8] = b"PowerShell/";

/// Returns whether a browser sent the request. Boot programs, installers, BMCs and command lines send none of these
/// fields.
pub fn is_browser_request(headers: &HeaderMap) -> bool {
    let has_field = || headers.keys().any(|name| FIELDS.contains(name) || name.as_str().starts_with(FORBIDDEN_PREFIX));
    let is_browser =
        |agent: &[u8]| agent.starts_with(BROWSERS) && !agent.windows(POWERSHELL.len()).any(|part| part == POWERSHELL);
    has_field() || headers.get_all(USER_AGENT).iter().any(|agent| is_browser(agent.as_bytes()))
}

/// Returns whether a page of another site had the request sent. What the browser adds by itself, a client certificate
/// or a password that it remembers, then proves nothing.
pub fn is_cross_site(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(FETCH_SITE) {
        return site != "same-origin" && site != "none";
    }
    headers.get(ORIGIN).is_some_and(|origin| !is_own_origin(origin, headers))
}

/// Returns whether the request proves that a page of this server sent it. Without TLS, and not over the loopback,
/// browsers send no `Sec-Fetch-Site`; they send Origin with all methods but GET and HEAD (Fetch, section 3.1).
pub fn is_same_origin(headers: &HeaderMap) -> bool {
    match headers.get(FETCH_SITE) {
        Some(site) => site == "same-origin",
        None => headers.get(ORIGIN).is_some_and(|origin| is_own_origin(origin, headers)),
    }
}

fn is_own_origin(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    authority.is_some() && authority == host
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    const POWERSHELL_AGENT: &str = "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.26100.1";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_browser_shows_by_what_a_page_cannot_remove() {
        let browsers: &[&[(&str, &str)]] = &[
            &[("origin", "null")],
            &[("referer", "http://evil.example/")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-ch-ua", "\"Chromium\"")],
            &[("accept-language", "")],
            &[("user-agent", FIREFOX)],
            &[("access-control-request-method", "GET")],
        ];
        for fields in browsers {
            assert!(is_browser_request(&headers(fields)), "{fields:?}");
        }
        let programs: &[&[(&str, &str)]] = &[
            &[],
            &[("user-agent", "iPXE/1.21.1+ (g2265a)"), ("connection", "keep-alive")],
            &[("user-agent", "UefiHttpBoot/1.0"), ("accept", "*/*")],
            &[("user-agent", "GRUB 2.12"), ("accept-encoding", "identity")],
            &[("user-agent", "curl/8.14.1"), ("accept", "*/*"), ("range", "bytes=0-1")],
            &[("user-agent", "Wget/1.25.0"), ("accept-encoding", "identity")],
            &[("user-agent", "Cloud-Init/25.1"), ("accept-encoding", "gzip, deflate")],
            &[("user-agent", "Ignition/2.21.0"), ("accept", "application/vnd.coreos.ignition+json;version=3.5.0")],
            &[("user-agent", POWERSHELL_AGENT)],
        ];
        for fields in programs {
            assert!(!is_browser_request(&headers(fields)), "{fields:?}");
        }
    }

    #[test]
    fn a_page_of_another_site_shows_by_its_origin() {
        let rows: &[(&[(&str, &str)], bool)] = &[
            (&[], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-origin"), ("origin", "https://10.0.0.1:6443")], false),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("origin", "https://10.0.0.1:6443"), ("host", "10.0.0.1:6443")], false),
            (&[("origin", "https://evil.example"), ("host", "10.0.0.1:6443")], true),
            (&[("origin", "null"), ("host", "10.0.0.1:6443")], true),
        ];
        for (fields, expected) in rows {
            assert_eq!(is_cross_site(&headers(fields)), *expected, "{fields:?}");
        }
    }
}
