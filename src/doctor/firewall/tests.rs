//! Rules as nftables 1.0.6 printed them, and single rules.

use serde_json::json;

use super::*;

fn interface(name: &str) -> ServedInterface {
    ServedInterface {
        name: name.to_owned(),
        address: [10, 88, 0, 2].into(),
        network: "10.88.0.0/24".parse().unwrap(),
        dhcp: Some((67, 4011)),
        tftp: 69,
        is_tftp_single_port: false,
        tcp: vec![("HTTP", 80), ("iSCSI", 3260)],
    }
}

/// Returns the codes of the findings, with the first word of what is dropped.
fn found(list: &Value, name: &str) -> Vec<(&'static str, String)> {
    let findings = check_firewall(list, &[interface(name)]).unwrap();
    findings.into_iter().map(|one| (one.code, one.subject.split(" on ").next().unwrap().to_owned())).collect()
}

/// Returns the list of one chain with these rules.
fn chain(hook: &str, policy: &str, rules: &[Value]) -> Value {
    let mut entries = vec![
        json!({"table": {"family": "inet", "name": "filter", "handle": 1}}),
        json!({"chain": {"family": "inet", "table": "filter", "name": "c", "handle": 1, "type": "filter", "hook": hook, "prio": 0, "policy": policy}}),
    ];
    let rules = (2..).zip(rules);
    entries.extend(rules.map(|(handle, rule)| {
        json!({"rule": {"family": "inet", "table": "filter", "chain": "c", "handle": handle, "expr": rule}})
    }));
    json!({"nftables": entries})
}

fn matches(protocol: &str, field: &str, right: Value) -> Value {
    json!({"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": field}}, "right": right}})
}

const DROP: &str = "firewall_drops";
const MAY: &str = "firewall_may_drop";

#[test]
fn a_strict_firewall_that_knows_the_ports_is_no_finding() {
    let list: Value = serde_json::from_str(include_str!("../../../integration/fixtures/nft/strict.json")).unwrap();
    assert_eq!(found(&list, "eth1"), []);
    let all = [
        "DHCP requests (UDP 67)",
        "boot requests of firmware (UDP 4011)",
        "TFTP requests (UDP 69)",
        "HTTP (TCP 80)",
        "iSCSI (TCP 3260)",
    ];
    assert_eq!(found(&list, "eth2"), all.map(|name| (DROP, name.to_owned())), "the rules are for eth1");
    assert_eq!(found(&json!({"nftables": []}), "eth1"), [], "no rules");
    assert!(check_firewall(&json!({}), &[]).is_err());
}

#[test]
fn sets_maps_jumps_and_ranges_are_followed() {
    let list: Value = serde_json::from_str(include_str!("../../../integration/fixtures/nft/mixed.json")).unwrap();
    // eth1 goes to a chain that returns to the policy, for all but iSCSI. DHCP and TFTP pass on eth0; port 80 of 10/8 is
    // left to a rule with a limit.
    let names =
        |found: Vec<(&str, String)>| found.into_iter().map(|(code, name)| format!("{code} {name}")).collect::<Vec<_>>();
    assert_eq!(names(found(&list, "eth0")), ["firewall_may_drop HTTP (TCP 80)"]);
    assert_eq!(
        names(found(&list, "eth1")),
        [
            "firewall_drops DHCP requests (UDP 67)",
            "firewall_drops boot requests of firmware (UDP 4011)",
            "firewall_drops TFTP requests (UDP 69)",
            "firewall_drops HTTP (TCP 80)"
        ]
    );
}

#[test]
fn a_rule_drops_what_it_surely_matches() {
    let tftp = || (DROP, "TFTP requests (UDP 69)".to_owned());
    let drop = || json!({"drop": null});
    let rows = [
        (json!([matches("udp", "dport", json!(69)), drop()]), vec![tftp()]),
        (json!([matches("udp", "dport", json!({"set": [69, 70]})), {"counter": {}}, {"reject": null}]), vec![tftp()]),
        (
            json!([
                matches("th", "dport", json!({"range": [60, 70]})),
                matches("ip", "protocol", json!("udp")),
                drop()
            ]),
            vec![(DROP, "DHCP requests (UDP 67)".to_owned()), tftp()],
        ),
        (json!([matches("tcp", "dport", json!(69)), drop()]), vec![]),
        (json!([matches("udp", "dport", json!(69)), matches("ip6", "saddr", json!("::1")), drop()]), vec![]),
        (
            json!([
                matches("udp", "dport", json!(69)),
                matches("ip", "saddr", json!({"prefix": {"addr": "10.0.0.0", "len": 8}})),
                drop()
            ]),
            vec![tftp()],
        ),
        (json!([matches("udp", "dport", json!(69)), matches("ip", "saddr", json!("192.0.2.1")), drop()]), vec![]),
        (
            json!([matches("udp", "dport", json!(69)), matches("ip", "saddr", json!("10.88.0.7")), drop()]),
            vec![(MAY, tftp().1)],
        ),
        (json!([matches("udp", "dport", json!(69)), {"limit": {"rate": 1}}, drop()]), vec![(MAY, tftp().1)]),
        // An extension of iptables that says nothing of a port is no reason to suspect every packet.
        (json!([{"xt": {"type": "match", "name": "recent"}}, drop()]), vec![]),
    ];
    for (rule, expected) in rows {
        assert_eq!(found(&chain("input", "accept", std::slice::from_ref(&rule)), "eth1"), expected, "{rule}");
    }
    let finding = check_firewall(
        &chain("input", "accept", &[json!([matches("udp", "dport", json!(69)), drop()])]),
        &[interface("eth1")],
    );
    let finding = finding.unwrap().remove(0);
    assert_eq!(finding.seen, "dropped by rule 2 of the chain inet filter c (udp dport 69)");
    assert_eq!(finding.remedy, "let them through: nft insert rule inet filter c iifname \"eth1\" udp dport 69 accept");
}

#[test]
fn a_policy_drops_what_no_rule_accepts() {
    let accept = json!({"accept": null});
    let open = json!([matches("udp", "dport", json!({"set": [67, 69, 4011]})), accept]);
    let tcp = json!([matches("tcp", "dport", json!({"range": [1, 65535]})), accept]);
    let established =
        json!([{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, accept]);
    let list = chain("input", "drop", &[open.clone(), tcp.clone()]);
    assert_eq!(found(&list, "eth1"), [(DROP, "TFTP acknowledgements".to_owned())], "answers to the transfers' ports");
    let list = chain("input", "drop", &[established.clone(), open, tcp]);
    assert_eq!(found(&list, "eth1"), []);
    // A firewall for what goes out: TFTP sends its data from new ports.
    assert_eq!(
        found(&chain("output", "drop", std::slice::from_ref(&established)), "eth1"),
        [(DROP, "TFTP data".to_owned())]
    );
    let single = ServedInterface { is_tftp_single_port: true, ..interface("eth1") };
    assert_eq!(check_firewall(&chain("output", "drop", &[established]), &[single]).unwrap(), []);
}
