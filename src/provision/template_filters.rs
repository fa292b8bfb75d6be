//! The filters of templates besides those of the language. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use minijinja::{Environment, Error, ErrorKind};

/// Adds the filters to the language.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("b64encode", |text: String| STANDARD.encode(text));
    environment.add_filter("address", |text: String| parse(&text).map(|net| net.addr().to_string()));
    environment.add_filter("prefix", |text: String| parse(&text).map(|net| net.prefix_len()));
    environment.add_filter("netmask", |text: String| parse(&text).map(|net| net.netmask().to_string()));
    environment.add_filter("network", |text: String| parse(&text).map(|net| net.trunc().to_string()));
}

/// Parses an address with its prefix, as in 192.0.2.5/24.
fn parse(text: &str) -> Result<IpNet, Error> {
    text.parse().map_err(|_| {
        // The text may be a secret that was given by mistake: it is not shown.
        let message = "expected an address with its prefix, as in 192.0.2.5/24";
        Error::new(ErrorKind::InvalidOperation, message)
    })
}
