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
        bridge: None,
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

/// Rules as iptables-legacy-save 1.8.9 printed them.
const LEGACY: &str = r#"# Generated by iptables-save v1.8.9
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 4011 -j DROP
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:SVC - [0:0]
-A INPUT -i eth1 -p udp -m udp --dport 69 -m comment --comment "no \"tftp\" here" -j DROP
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -j SVC
-A SVC -i eth+ -p udp -m multiport --dports 67,69,4010:4012 -j ACCEPT
-A SVC -s 10.88.0.0/16 -p tcp -m tcp --dport 80:81 -j ACCEPT
-A SVC ! -i lo -p tcp -m tcp ! --dport 80 -m limit --limit 3/min -j ACCEPT
-A SVC -m state --state NEW -j LOG
COMMIT
"#;

#[test]
fn the_rules_of_iptables_legacy_are_followed() {
    let findings = check_legacy(LEGACY, &[interface("eth1")]);
    let found: Vec<_> = findings.iter().map(|one| (one.code, one.subject.as_str(), one.seen.as_str())).collect();
    assert_eq!(
        found,
        [
            (
                DROP,
                "boot requests of firmware (UDP 4011) on eth1",
                "dropped by rule 1 of the chain iptables-legacy raw PREROUTING (ip protocol udp udp dport 4011)"
            ),
            (
                DROP,
                "TFTP requests (UDP 69) on eth1",
                "dropped by rule 2 of the chain iptables-legacy filter INPUT (iifname eth1 ip protocol udp udp dport 69 comment \"no \\\"tftp\\\" here\")"
            ),
            (
                MAY,
                "iSCSI (TCP 3260) on eth1",
                "some are dropped by the policy of the chain iptables-legacy filter INPUT"
            ),
        ]
    );
    assert_eq!(
        findings[1].remedy,
        "let them through: iptables-legacy -t filter -I INPUT -i eth1 -p udp --dport 69 -j ACCEPT"
    );
    assert_eq!(check_legacy("", &[interface("eth1")]), []);
    // The policy drops all that comes in on another interface, but what limits and wildcards leave.
    let other = check_legacy(LEGACY, &[interface("wan0")]);
    assert_eq!(other[0].subject, "DHCP requests (UDP 67) on wan0");
}

/// Returns the list of one chain of the family bridge.
fn bridge_chain(hook: &str, rule: &Value) -> Value {
    json!({"nftables": [
        {"chain": {"family": "bridge", "table": "t", "name": "c", "handle": 1, "type": "filter", "hook": hook, "prio": 0, "policy": "accept"}},
        {"rule": {"family": "bridge", "table": "t", "chain": "c", "handle": 2, "expr": rule}}
    ]})
}

#[test]
fn the_chains_of_a_bridge_see_its_ports() {
    let bridge = |ports: &[&str], calls_iptables| ServedInterface {
        bridge: Some(Bridge {
            ports: ports.iter().map(|port| (*port).to_owned()).collect(),
            calls_iptables,
            carries_dhcp: true,
        }),
        ..interface("br0")
    };
    let on = |name: &str| json!({"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": name}});
    let tftp = matches("udp", "dport", json!(69));
    let rows = [
        (json!([tftp, {"drop": null}]), vec![DROP]),
        (json!([on("p1"), tftp, {"drop": null}]), vec![MAY]),
        (json!([on("p*"), tftp, {"drop": null}]), vec![DROP]),
        (json!([on("p9"), tftp, {"drop": null}]), vec![]),
        (
            json!([{"match": {"op": "==", "left": {"meta": {"key": "ibrname"}}, "right": "br0"}}, tftp, {"drop": null}]),
            vec![DROP],
        ),
        (
            json!([{"match": {"op": "==", "left": {"payload": {"protocol": "ether", "field": "type"}}, "right": "ip6"}}, {"drop": null}]),
            vec![],
        ),
    ];
    for (rule, expected) in rows {
        let found = check_firewall(&bridge_chain("input", &rule), &[bridge(&["p1", "p2"], false)]).unwrap();
        assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), expected, "{rule}");
        // An interface that is no bridge never meets them.
        assert_eq!(check_firewall(&bridge_chain("input", &rule), &[interface("eth1")]).unwrap(), []);
    }
    let dhcp = json!([matches("udp", "sport", json!(67)), {"drop": null}]);
    let found = check_firewall(&bridge_chain("forward", &dhcp), &[bridge(&["p1", "p2"], false)]).unwrap();
    assert_eq!(found[0].subject, "DHCP replies between the ports of the bridge br0");
    // The rules of IP matter to bridged frames only with br_netfilter.
    let list = chain("forward", "drop", &[]);
    assert_eq!(check_firewall(&list, &[bridge(&["p1"], false)]).unwrap(), []);
    let found = check_firewall(&list, &[bridge(&["p1"], true)]).unwrap();
    assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), ["firewall_drops_bridged"; 2]);
}
