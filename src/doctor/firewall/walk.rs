//! The way of a packet through the rules. What a rule looks at that the packet leaves open may or may not match.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::Value;

use super::ruleset::{Chain, Rule, Ruleset, Table};
use super::{Direction, Layer, Packet, legacy};

/// Maximum depth of jumps, that of the kernel.
const MAX_DEPTH: usize = 16;

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No rule drops it.
    Passes,
    /// A rule drops it.
    Dropped(Place),
    /// A rule drops it, unless one before it that depends on more than is known lets it through; or a rule for its port
    /// depends on more.
    MayBeDropped(Place),
}

/// The place of a drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Table and chain, as nft takes them.
    pub chain: String,
    /// The rule, for people.
    pub rule: String,
    /// Whether iptables-legacy has the chain, else nftables.
    pub is_legacy: bool,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    No,
    Maybe,
    Yes,
}

/// The verdict of a rule.
enum Verdict<'a> {
    Accept,
    Drop,
    Return,
    Jump(&'a str),
    Goto(&'a str),
}

/// The end of a walk through a chain.
enum End {
    Accept,
    Drop(Place),
    /// The chain that called goes on.
    Back,
}

/// A field of a packet.
enum Field {
    Number(u64),
    Text(String),
    /// One of these.
    OneOf(Vec<String>),
    /// An address out of these.
    Address(Ipv4Net),
    /// The packet has no such field, whatever it is compared with.
    Absent,
    Unknown,
}

struct Walk<'a> {
    rules: &'a Ruleset<'a>,
    packet: &'a Packet,
    /// Whether a rule that may match accepts the packet.
    may_accept: bool,
    /// The first rule for the packet's port that may match and drops.
    may_drop: Option<Place>,
}

/// Returns what happens to a packet.
pub fn trace(rules: &Ruleset<'_>, packet: &Packet) -> Outcome {
    let hooks: &[&str] = match packet.direction {
        Direction::In => &["prerouting", "input"],
        Direction::Out => &["output", "postrouting"],
        Direction::Between => &["prerouting", "forward", "postrouting"],
    };
    let mut may_drop = None;
    for chain in rules.base_chains(hooks, matches!(packet.layer, Layer::Bridge(_))) {
        let mut walk = Walk { rules, packet, may_accept: false, may_drop: None };
        let dropped = match walk.through(chain, true, 0) {
            End::Drop(place) => Some(place),
            End::Back if chain.drops_rest => Some(Place::policy(chain)),
            End::Accept | End::Back => None,
        };
        match dropped {
            Some(place) if walk.may_accept => may_drop = may_drop.or(Some(place)),
            Some(place) => return Outcome::Dropped(place),
            None => may_drop = may_drop.or(walk.may_drop),
        }
    }
    may_drop.map_or(Outcome::Passes, Outcome::MayBeDropped)
}

impl Place {
    fn chain(chain: &Chain<'_>) -> String {
        format!("{} {} {}", chain.table.0, chain.table.1, chain.name)
    }

    fn policy(chain: &Chain<'_>) -> Self {
        let at = Self::chain(chain);
        Self { rule: format!("the policy of the chain {at}"), chain: at, is_legacy: chain.table.0 == legacy::FAMILY }
    }

    fn rule(chain: &Chain<'_>, rule: &Rule<'_>) -> Self {
        let (at, text) = (Self::chain(chain), describe(rule));
        let is_legacy = chain.table.0 == legacy::FAMILY;
        Self { rule: format!("rule {} of the chain {at}{text}", rule.handle), chain: at, is_legacy }
    }
}

impl<'a> Walk<'a> {
    /// Walks through a chain. `is_certain` is whether the packet surely gets there.
    fn through(&mut self, chain: &'a Chain<'a>, mut is_certain: bool, depth: usize) -> End {
        for rule in chain.rules.iter().filter(|_| depth < MAX_DEPTH) {
            for (matched, verdict) in self.verdicts(chain.table, rule) {
                let is_sure = is_certain && matched == Match::Yes;
                match verdict {
                    Verdict::Accept if is_sure => return End::Accept,
                    Verdict::Accept => self.may_accept = true,
                    Verdict::Drop if is_sure => return End::Drop(Place::rule(chain, rule)),
                    Verdict::Drop => {
                        if self.names_port(chain.table, rule) {
                            self.may_drop.get_or_insert_with(|| Place::rule(chain, rule));
                        }
                    }
                    Verdict::Return if is_sure => return End::Back,
                    Verdict::Return => is_certain = false,
                    Verdict::Jump(target) | Verdict::Goto(target) => {
                        let Some(next) = self.rules.chain(chain.table, target) else { continue };
                        let end = self.through(next, is_sure, depth + 1);
                        match (end, verdict) {
                            (end @ (End::Accept | End::Drop(_)), _) => return end,
                            (End::Back, Verdict::Goto(_)) if is_sure => return End::Back,
                            (End::Back, _) => {}
                        }
                    }
                }
            }
        }
        End::Back
    }

    /// Returns the verdicts that a rule may come to, each with whether it does.
    fn verdicts(&self, table: Table<'_>, rule: &Rule<'a>) -> Vec<(Match, Verdict<'a>)> {
        let mut matched = Match::Yes;
        for statement in rule.statements {
            let Some((kind, body)) = statement.as_object().and_then(|map| map.iter().next()) else { continue };
            match kind.as_str() {
                "match" => matched = matched.min(self.compare(table, body)),
                // What depends on time, on counts, or on extensions of iptables.
                "xt" if body["name"] == "comment" => {}
                "limit" | "quota" | "xt" | "ct count" => matched = matched.min(Match::Maybe),
                "vmap" => return self.mapped(table, body, matched),
                _ => {
                    if let Some(verdict) = verdict(statement) {
                        return if matched == Match::No { Vec::new() } else { vec![(matched, verdict)] };
                    }
                }
            }
            if matched == Match::No {
                break;
            }
        }
        Vec::new()
    }

    /// Returns the verdicts of a verdict map.
    fn mapped(&self, table: Table<'_>, map: &'a Value, matched: Match) -> Vec<(Match, Verdict<'a>)> {
        let field = self.field(&map["key"]);
        let pairs = match map["data"].as_str().and_then(|name| name.strip_prefix('@')) {
            Some(name) => self.rules.elements(table, name),
            None => map["data"]["set"].as_array().map_or(&[][..], Vec::as_slice),
        };
        let mut found = Vec::new();
        for pair in pairs {
            let (Some(key), Some(verdict)) = (pair.get(0), pair.get(1).and_then(verdict)) else { continue };
            let here = matched.min(self.contains(table, &field, key));
            if here != Match::No {
                found.push((here, verdict));
            }
        }
        found
    }

    /// Returns whether a rule is for the packet's port alone or with a few others.
    fn names_port(&self, table: Table<'_>, rule: &Rule<'_>) -> bool {
        let is_port = |body: &Value| body["left"]["payload"]["field"] == "dport";
        let mut matches = rule.statements.iter().filter_map(|statement| statement.get("match"));
        matches.any(|body| is_port(body) && self.compare(table, body) == Match::Yes)
    }

    fn compare(&self, table: Table<'_>, body: &Value) -> Match {
        let field = self.field(&body["left"]);
        match (&field, body["op"].as_str().unwrap_or_default()) {
            (Field::Absent, _) => Match::No,
            (_, "==" | "in") => self.contains(table, &field, &body["right"]),
            (_, "!=") => match self.contains(table, &field, &body["right"]) {
                Match::No => Match::Yes,
                Match::Maybe => Match::Maybe,
                Match::Yes => Match::No,
            },
            (Field::Number(number), op) => match body["right"].as_u64() {
                Some(right) => yes(match op {
                    "<" => *number < right,
                    ">" => *number > right,
                    "<=" => *number <= right,
                    ">=" => *number >= right,
                    _ => return Match::Maybe,
                }),
                None => Match::Maybe,
            },
            (Field::Text(_) | Field::OneOf(_) | Field::Address(_) | Field::Unknown, _) => Match::Maybe,
        }
    }

    /// Returns whether a value, a range, a prefix or a set has a field.
    fn contains(&self, table: Table<'_>, field: &Field, right: &Value) -> Match {
        if let Field::Unknown | Field::Absent = field {
            return if matches!(field, Field::Unknown) { Match::Maybe } else { Match::No };
        }
        let any = |values: &[Value]| values.iter().map(|value| self.contains(table, field, value)).max();
        if let Some(name) = right.as_str().and_then(|text| text.strip_prefix('@')) {
            return any(self.rules.elements(table, name)).unwrap_or(Match::No);
        }
        if let Some(values) = right.as_array().or_else(|| right["set"].as_array()) {
            return any(values).unwrap_or(Match::No);
        }
        if let Some(value) = right.get("elem").map(|elem| &elem["val"]) {
            return self.contains(table, field, value);
        }
        match field {
            Field::Number(number) => number_in(*number, right),
            Field::Text(text) => text_in(text, right),
            Field::OneOf(texts) => {
                let matched: Vec<Match> = texts.iter().map(|text| text_in(text, right)).collect();
                match (matched.iter().min(), matched.iter().max()) {
                    (Some(least), Some(most)) if least == most => *least,
                    (_, Some(Match::No)) | (None, _) => Match::No,
                    _ => Match::Maybe,
                }
            }
            Field::Address(net) => address_in(*net, right),
            Field::Absent | Field::Unknown => Match::Maybe,
        }
    }

    /// Returns a field of the packet.
    fn field(&self, left: &Value) -> Field {
        let Packet { direction, layer, interface, is_udp, source, destination, source_port, port, is_established } =
            self.packet;
        let protocol = if *is_udp { "udp" } else { "tcp" };
        let of_port = |port: &Option<u16>| port.map_or(Field::Unknown, |port| Field::Number(port.into()));
        let payload = &left["payload"];
        if let (Some(header), Some(name)) = (payload["protocol"].as_str(), payload["field"].as_str()) {
            return match (header, name) {
                ("ip", "saddr") => Field::Address(*source),
                ("ip", "daddr") => Field::Address(*destination),
                ("ip", "protocol") => Field::Text(protocol.to_owned()),
                ("ip", _) => Field::Unknown,
                ("udp" | "tcp", _) if header != protocol => Field::Absent,
                ("udp" | "tcp" | "th", "sport") => of_port(source_port),
                ("udp" | "tcp" | "th", "dport") => of_port(port),
                ("ether", "type") => Field::Text("ip".to_owned()),
                ("udp" | "tcp" | "th", _) | ("ether", _) => Field::Unknown,
                _ => Field::Absent,
            };
        }
        let is_broadcast = *destination == Ipv4Net::from(Ipv4Addr::BROADCAST);
        // The chains of a bridge see its ports as interfaces.
        let own = match layer {
            Layer::Ip => Field::Text(interface.clone()),
            Layer::Bridge(ports) => Field::OneOf(ports.clone()),
        };
        match (left["meta"]["key"].as_str(), left["ct"]["key"].as_str(), direction) {
            (Some("iif" | "iifname"), _, Direction::In | Direction::Between)
            | (Some("oif" | "oifname"), _, Direction::Out | Direction::Between) => own,
            (Some("ibrname" | "obrname"), ..) => Field::Text(interface.clone()),
            // Within the chains of a bridge, the bridge itself is the other side.
            (Some("iif" | "iifname" | "oif" | "oifname"), ..) => match layer {
                Layer::Ip => Field::Text(String::new()),
                Layer::Bridge(_) => Field::Text(interface.clone()),
            },
            (Some("l4proto"), ..) => Field::Text(protocol.to_owned()),
            (Some("nfproto"), ..) => Field::Text("ipv4".to_owned()),
            (Some("protocol"), ..) => Field::Text("ip".to_owned()),
            (Some("pkttype"), _, Direction::In | Direction::Between) => {
                Field::Text(if is_broadcast { "broadcast" } else { "host" }.to_owned())
            }
            (_, Some("state"), _) => Field::Text(if *is_established { "established" } else { "new" }.to_owned()),
            _ => Field::Unknown,
        }
    }
}

fn yes(holds: bool) -> Match {
    if holds { Match::Yes } else { Match::No }
}

/// Returns whether a value is a text; one that ends with `*` is all texts that begin so.
fn text_in(text: &str, right: &Value) -> Match {
    right.as_str().map_or(Match::Maybe, |pattern| {
        yes(pattern.strip_suffix('*').map_or(text == pattern, |prefix| text.starts_with(prefix)))
    })
}

fn number_in(number: u64, right: &Value) -> Match {
    if let Some(bounds) = right["range"].as_array() {
        return match (bounds.first().and_then(Value::as_u64), bounds.get(1).and_then(Value::as_u64)) {
            (Some(first), Some(last)) => yes((first..=last).contains(&number)),
            _ => Match::Maybe,
        };
    }
    right.as_u64().map_or(Match::Maybe, |right| yes(right == number))
}

/// Returns whether an address out of a network is in a range of addresses.
fn address_in(net: Ipv4Net, right: &Value) -> Match {
    let address = |value: &Value| value.as_str()?.parse::<Ipv4Addr>().ok();
    let range = if let Some(bounds) = right["range"].as_array() {
        bounds.first().and_then(address).zip(bounds.get(1).and_then(address))
    } else if let Some(prefix) = right.get("prefix") {
        let length = prefix["len"].as_u64().and_then(|length| u8::try_from(length).ok());
        let net = address(&prefix["addr"]).zip(length).and_then(|(at, length)| Ipv4Net::new(at, length).ok());
        net.map(|net| (net.network(), net.broadcast()))
    } else {
        address(right).map(|one| (one, one))
    };
    let Some((first, last)) = range else { return Match::Maybe };
    match (first <= net.network() && net.broadcast() <= last, last < net.network() || net.broadcast() < first) {
        (true, _) => Match::Yes,
        (_, true) => Match::No,
        (false, false) => Match::Maybe,
    }
}

/// Returns the verdict of a statement.
fn verdict(statement: &Value) -> Option<Verdict<'_>> {
    let (kind, body) = statement.as_object()?.iter().next()?;
    match kind.as_str() {
        "accept" => Some(Verdict::Accept),
        "drop" | "reject" => Some(Verdict::Drop),
        "return" => Some(Verdict::Return),
        "jump" => Some(Verdict::Jump(body["target"].as_str()?)),
        "goto" => Some(Verdict::Goto(body["target"].as_str()?)),
        _ => None,
    }
}

/// Returns the conditions and the comment of a rule in nft's words, as far as they are simple.
fn describe(rule: &Rule<'_>) -> String {
    let mut words = Vec::new();
    for body in rule.statements.iter().filter_map(|statement| statement.get("match")) {
        let (payload, text) = (&body["left"]["payload"], |value: &Value| value.as_str().map(str::to_owned));
        let left = match (text(&payload["protocol"]), text(&payload["field"])) {
            (Some(protocol), Some(field)) => Some(format!("{protocol} {field}")),
            _ => text(&body["left"]["meta"]["key"])
                .or_else(|| text(&body["left"]["ct"]["key"]).map(|key| format!("ct {key}"))),
        };
        let right = match &body["right"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let op = if body["op"] == "!=" { "!= " } else { "" };
        words.extend(left.map(|left| format!("{left} {op}{right}")));
    }
    if !rule.comment.is_empty() {
        words.push(format!("comment {:?}", rule.comment));
    }
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(" ")) }
}
