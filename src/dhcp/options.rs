//! The options of a subnet in their wire format.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::fleet::Subnet;

use super::packet::DhcpPacket;

/// Encodes a subnet's options, once for all replies.
pub fn encode(subnet: &Subnet) -> Vec<(u8, Vec<u8>)> {
    let text = |text: &Option<String>| text.as_ref().map_or(Vec::new(), |text| text.as_bytes().to_vec());
    let options = [
        (1, subnet.net.netmask().octets().to_vec()),
        (3, addresses(&subnet.routers)),
        (6, addresses(&subnet.dns)),
        (15, text(&subnet.domain)),
        (28, subnet.net.broadcast().octets().to_vec()),
        (42, addresses(&subnet.ntp)),
        (119, subnet.search.iter().flat_map(|domain| labels(domain)).collect()),
        (121, routes(subnet)),
    ];
    options.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// Returns whether an option is sent even to a client that does not ask for it in option 55.
pub fn is_always_sent(code: u8) -> bool {
    matches!(code, 1 | 3 | 6)
}

fn addresses(addresses: &[Ipv4Addr]) -> Vec<u8> {
    addresses.iter().flat_map(Ipv4Addr::octets).collect()
}

/// Encodes a domain as DNS labels (RFC 1035 3.1, RFC 3397), without the optional compression.
fn labels(domain: &str) -> Vec<u8> {
    let label = |label: &str| [&[u8::try_from(label.len()).unwrap_or(0)], label.as_bytes()].concat();
    let mut spelled: Vec<u8> = domain.split('.').filter(|part| !part.is_empty()).flat_map(label).collect();
    spelled.push(0);
    spelled
}

/// Encodes the classless routes. A client that reads them ignores option 3 (RFC 3442), so they have the default route
/// through the first router too, unless they name one.
fn routes(subnet: &Subnet) -> Vec<u8> {
    let has_default = subnet.routes.iter().any(|(net, _)| net.prefix_len() == 0);
    let missing = subnet.routers.first().filter(|_| !subnet.routes.is_empty() && !has_default);
    let default = missing.map(|router| (Ipv4Net::default(), *router));
    default.iter().chain(&subnet.routes).flat_map(|(net, router)| route(*net, *router)).collect()
}

/// Encodes a route with the significant octets of its network (RFC 3442).
fn route(net: Ipv4Net, router: Ipv4Addr) -> Vec<u8> {
    let significant = usize::from(net.prefix_len().div_ceil(8));
    [&[net.prefix_len()], &net.network().octets()[..significant], &router.octets()].concat()
}

/// Returns a client's hostname if it is a valid one (RFC 1123 2.1).
pub fn hostname<'a>(request: &'a DhcpPacket<'_>) -> Option<&'a str> {
    /// Maximum length of a label, in octets.
    const MAX_LABEL_LENGTH: usize = 63;
    let name = request.part(12)?;
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    let is_name = (1..=MAX_LABEL_LENGTH).contains(&name.len())
        && name.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-')
        && name[0] != b'-';
    std::str::from_utf8(name).ok().filter(|_| is_name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fleet::LeaseTimes;

    #[test]
    fn classless_routes_have_a_default_route() {
        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        let (lab, default) = ("10.8.0.0/16".parse().unwrap(), "0.0.0.0/0".parse().unwrap());
        let through = |last| [&[0][..], &address(last).octets()].concat();
        let to_lab = [&[16, 10, 8][..], &address(9).octets()].concat();
        type Route = (Ipv4Net, Ipv4Addr);
        let check = |routers: &[Ipv4Addr], given: &[Route], expected: &[Vec<u8>]| {
            let subnet = Subnet {
                net: "10.0.0.0/24".parse().unwrap(),
                pools: Vec::new(),
                reservations: Vec::new(),
                routers: routers.to_vec(),
                dns: Vec::new(),
                ntp: Vec::new(),
                domain: None,
                search: Vec::new(),
                routes: given.to_vec(),
                times: LeaseTimes::of(Duration::from_secs(60)),
            };
            let sent = encode(&subnet).into_iter().find(|(code, _)| *code == 121).map(|(_, value)| value);
            assert_eq!(sent.unwrap_or_default(), expected.concat(), "{routers:?} {given:?}");
        };
        check(&[address(1), address(2)], &[(lab, address(9))], &[through(1), to_lab.clone()]);
        check(&[address(1)], &[(lab, address(9)), (default, address(3))], &[to_lab.clone(), through(3)]);
        check(&[], &[(lab, address(9))], &[to_lab]);
        check(&[address(1)], &[], &[]);
    }

    #[test]
    fn another_reader_finds_the_subnet_in_its_options() {
        use dhcproto::{Decodable as _, v4};

        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        let routes = vec![("10.8.0.0/13".parse().unwrap(), address(9)), (Ipv4Net::default(), address(3))];
        let subnet = Subnet {
            net: "10.0.0.0/22".parse().unwrap(),
            pools: Vec::new(),
            reservations: Vec::new(),
            routers: vec![address(1), address(2)],
            dns: vec![address(4)],
            ntp: vec![address(5), address(6)],
            domain: Some("lab.example".into()),
            search: vec!["lab.example".into(), "example".into()],
            routes: routes.clone(),
            times: LeaseTimes::of(Duration::from_secs(60)),
        };
        let mut bytes: Vec<u8> = Vec::new();
        for (code, value) in encode(&subnet) {
            bytes.extend([code, u8::try_from(value.len()).unwrap()]);
            bytes.extend(value);
        }
        bytes.push(255);
        let read = v4::DhcpOptions::decode(&mut dhcproto::Decoder::new(&bytes)).unwrap();
        let search = ["lab.example.", "example."].map(|name| name.parse().unwrap()).to_vec();
        for (code, expected) in [
            (v4::OptionCode::SubnetMask, v4::DhcpOption::SubnetMask([255, 255, 252, 0].into())),
            (v4::OptionCode::Router, v4::DhcpOption::Router(subnet.routers.clone())),
            (v4::OptionCode::DomainNameServer, v4::DhcpOption::DomainNameServer(subnet.dns.clone())),
            (v4::OptionCode::DomainName, v4::DhcpOption::DomainName("lab.example".into())),
            (v4::OptionCode::BroadcastAddr, v4::DhcpOption::BroadcastAddr([10, 0, 3, 255].into())),
            (v4::OptionCode::NtpServers, v4::DhcpOption::NtpServers(subnet.ntp.clone())),
            (v4::OptionCode::DomainSearch, v4::DhcpOption::DomainSearch(search)),
            (v4::OptionCode::ClasslessStaticRoute, v4::DhcpOption::ClasslessStaticRoute(routes)),
        ] {
            assert_eq!(read.get(code), Some(&expected), "{code:?}");
        }
    }

    #[test]
    fn domains_and_routes_are_encoded_as_their_rfcs_do() {
        assert_eq!(labels("eng.apple.com."), b"\x03eng\x05apple\x03com\x00");
        let check = |net: &str, expected: &[u8]| {
            assert_eq!(route(net.parse().unwrap(), [10, 0, 0, 1].into()), [expected, &[10, 0, 0, 1]].concat());
        };
        // The examples of RFC 3442.
        check("0.0.0.0/0", &[0]);
        check("10.0.0.0/8", &[8, 10]);
        check("10.17.0.0/16", &[16, 10, 17]);
        check("10.27.129.0/24", &[24, 10, 27, 129]);
        check("10.229.0.128/25", &[25, 10, 229, 0, 128]);
        check("10.198.122.47/32", &[32, 10, 198, 122, 47]);
    }
}
