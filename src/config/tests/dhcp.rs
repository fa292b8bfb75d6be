use std::path::Path;

use super::super::{Config, parse};
use super::*;

fn read(text: &str) -> Result<Config, String> {
    let text =
        format!("interface = \"eth1\"\n[dhcp]\nmode = \"server\"\n[[dhcp.subnets]]\nsubnet = \"10.0.0.0/24\"\n{text}");
    parse(&text, Path::new("b.toml"), &Flags::default()).map_err(|error| error.to_string())
}

#[test]
fn server_mode_needs_a_subnet() {
    let parse = |text: &str| crate::config::parse(text, Path::new("b.toml"), &Flags::default());
    for text in [
        "interface = \"eth1\"\n[dhcp]\nmode = \"server\"\n",
        "[[interfaces]]\nname = \"eth1\"\nmode = \"server\"\n[[interfaces]]\nname = \"eth2\"\nmode = \"proxy\"\n",
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(
            error.contains("dhcp.subnets: mode = \"server\" of eth1") && error.contains("[[dhcp.subnets]]"),
            "{error}"
        );
    }
    // No interface is served so.
    let off = "[dhcp]\nmode = \"server\"\n[[interfaces]]\nname = \"eth1\"\nmode = \"off\"\n";
    parse(off).unwrap();
}

#[test]
fn a_subnet_is_read_with_all_its_keys() {
    let text = "pools = [\"10.0.0.10-10.0.0.20\", \"10.0.0.30 - 10.0.0.30\"]\nsearch = [\"a.example.\"]\n\
                routes = [{ to = \"10.8.1.0/16\", via = \"10.0.0.9\" }]\nlease_time = \"8h\"\n\
                [[dhcp.subnets.reservations]]\nmac = \"52:54:00:00:00:01\"\naddress = \"10.0.0.5\"\n\
                [[dhcp.subnets.reservations]]\nclient_id = \"ff:00:AB\"\naddress = \"10.0.0.6\"";
    let config = read(text).unwrap();
    let subnet = &config.dhcp.subnets[0];
    assert_eq!(config.interfaces[0].mode, DhcpMode::Server);
    assert_eq!(subnet.pools[1], Ipv4Addr::new(10, 0, 0, 30)..=Ipv4Addr::new(10, 0, 0, 30));
    assert_eq!(subnet.times.renew, Duration::from_secs(4 * 3600));
    assert_eq!(subnet.search, ["a.example"]);
    assert_eq!(subnet.routes[0].0.to_string(), "10.8.0.0/16");
    assert_eq!(subnet.reservations[1].who, Reserved::Client([0xff, 0, 0xab].into()));
}

#[test]
fn relays_are_addresses_and_networks() {
    let relays = |text: &str| {
        let text = format!("interface = \"eth1\"\n[dhcp]\nrelays = {text}\n");
        parse(&text, Path::new("b.toml"), &Flags::default())
            .map(|config| config.dhcp.relays)
            .map_err(|error| error.to_string())
    };
    let read: Vec<_> = relays("[\"10.9.0.1\", \"10.8.0.0/16\"]").unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(read, ["10.9.0.1/32", "10.8.0.0/16"]);
    assert!(relays("[\"router\"]").unwrap_err().contains("line 3: dhcp.relays"));
}

#[test]
fn an_impossible_subnet_is_refused() {
    let check = |text: &str, expected: &str| {
        let error = read(text).unwrap_err();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    };
    check("pools = [\"10.0.0.10\"]", "line 6: dhcp.subnets.pools");
    check("pools = [\"10.0.0.20-10.0.0.10\"]", "the first address is after the last");
    check("pools = [\"10.0.0.0-10.0.0.10\"]", "dhcp.subnets.pools");
    check("pools = [\"10.0.0.10-10.0.0.255\"]", "dhcp.subnets.pools");
    check("pools = [\"10.0.1.1-10.0.1.9\"]", "dhcp.subnets.pools");
    check("lease_time = \"1h\"\nrenew_time = \"2h\"", "less than");
    check("domain = \"a..b\"", "not a domain name");
    check("[[dhcp.subnets.reservations]]\naddress = \"10.0.0.5\"", "reservations");
    check("[[dhcp.subnets.reservations]]\nmac = \"52:54:00:00:00:01\"\naddress = \"10.0.9.5\"", "is not in");
    check("[[dhcp.subnets.reservations]]\nclient_id = \"f\"\naddress = \"10.0.0.5\"", "client_id");
    check("[[dhcp.subnets]]\nsubnet = \"10.0.0.128/25\"", "overlaps");
    check("[[dhcp.subnets]]\nsubnet = \"10.64.0.0/10\"\npools = [\"10.64.0.1-10.127.0.1\"]", "more than");
}
