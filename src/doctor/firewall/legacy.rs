//! The rules of iptables-legacy, as `iptables-legacy-save` prints them, in the form of nft's list.

use serde_json::{Value, json};

/// The family of these tables: no family of nftables has this name.
pub const FAMILY: &str = "iptables-legacy";

/// The tables that can drop a packet, with the priority of their chains. `nat` only changes addresses.
const TABLES: [(&str, i64); 4] = [("raw", -300), ("mangle", -150), ("filter", 0), ("security", 50)];
/// Modules whose conditions are those of the options below, or none.
const KNOWN_MODULES: [&str; 7] = ["udp", "tcp", "multiport", "conntrack", "state", "comment", "pkttype"];

/// Returns the entries of nft's list that mean the same. What iptables can and this cannot counts as maybe.
pub fn entries(save: &str) -> Vec<Value> {
    let mut entries = Vec::new();
    let mut table = None;
    let mut handle = 0;
    for line in save.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = TABLES.iter().find(|(known, _)| *known == name);
            continue;
        }
        let Some((table, priority)) = table else { continue };
        if let Some(chain) = line.strip_prefix(':') {
            entries.extend(chain_entry(table, *priority, chain));
        } else if let Some(rule) = line.strip_prefix("-A ") {
            handle += 1;
            entries.extend(rule_entry(table, handle, rule));
        }
    }
    entries
}

/// Returns the entry of a chain: `INPUT DROP [0:0]`, or `NAME - [0:0]` of one that others jump to.
fn chain_entry(table: &str, priority: i64, line: &str) -> Option<Value> {
    let mut words = line.split_ascii_whitespace();
    let (name, policy) = (words.next()?, words.next()?);
    let mut chain = json!({"family": FAMILY, "table": table, "name": name});
    if policy != "-" {
        chain["hook"] = name.to_ascii_lowercase().into();
        chain["prio"] = priority.into();
        chain["policy"] = policy.to_ascii_lowercase().into();
    }
    Some(json!({"chain": chain}))
}

fn rule_entry(table: &str, handle: u64, line: &str) -> Option<Value> {
    let words = words(line);
    let (chain, options) = words.split_first()?;
    let mut rule = RuleReader::default();
    let mut options = options.iter().map(String::as_str).peekable();
    let mut is_negated = false;
    while let Some(option) = options.next() {
        if option == "!" {
            is_negated = true;
            continue;
        }
        // Options without a value, such as --syn, are those of conditions that are not known.
        let value = options.next_if(|next| !next.starts_with('-') && *next != "!").unwrap_or_default();
        rule.read(option, value, is_negated);
        is_negated = false;
    }
    let entry = json!({
        "family": FAMILY, "table": table, "chain": chain, "handle": handle, "comment": rule.comment,
        "expr": rule.statements,
    });
    Some(json!({"rule": entry}))
}

/// The statements of a rule while its options are read.
#[derive(Default)]
struct RuleReader {
    statements: Vec<Value>,
    protocol: String,
    comment: String,
}

impl RuleReader {
    fn read(&mut self, option: &str, value: &str, is_negated: bool) {
        let op = if is_negated { "!=" } else { "==" };
        let compare = |left: Value, right: Value| json!({"match": {"op": op, "left": left, "right": right}});
        let header = |field: &str| json!({"payload": {"protocol": "ip", "field": field}});
        let meta = |key: &str| json!({"meta": {"key": key}});
        let port = |field: &str| json!({"payload": {"protocol": self.protocol.as_str(), "field": field}});
        let statement = match option {
            "-i" => compare(meta("iifname"), interface(value)),
            "-o" => compare(meta("oifname"), interface(value)),
            "-s" => compare(header("saddr"), network(value)),
            "-d" => compare(header("daddr"), network(value)),
            "-p" => {
                value.clone_into(&mut self.protocol);
                compare(header("protocol"), value.into())
            }
            "--dport" | "--dports" => compare(port("dport"), ports(value)),
            "--sport" | "--sports" => compare(port("sport"), ports(value)),
            "--ctstate" | "--state" => {
                let states: Vec<String> = value.split(',').map(str::to_ascii_lowercase).collect();
                compare(json!({"ct": {"key": "state"}}), json!(states))
            }
            "--pkt-type" => compare(meta("pkttype"), if value == "unicast" { "host" } else { value }.into()),
            "--comment" => return value.clone_into(&mut self.comment),
            "-m" if KNOWN_MODULES.contains(&value) => return,
            "-m" => json!({"xt": {"type": "match", "name": value}}),
            "-j" => target(value),
            "-g" => json!({"goto": {"target": value}}),
            // Options of a module that is not known, of a target, or rare ones of a known module.
            "--ports" | "--tcp-flags" | "--syn" | "--tcp-option" => json!({"xt": {"type": "match", "name": option}}),
            _ => return,
        };
        self.statements.push(statement);
    }
}

/// Returns the statement of a target. One that is no chain and no verdict, such as LOG, lets the packet go on.
fn target(name: &str) -> Value {
    match name {
        "ACCEPT" => json!({"accept": null}),
        "DROP" => json!({"drop": null}),
        "REJECT" => json!({"reject": null}),
        "RETURN" => json!({"return": null}),
        _ => json!({"jump": {"target": name}}),
    }
}

/// Returns an interface; `eth+` means all whose names begin so.
fn interface(name: &str) -> Value {
    name.strip_suffix('+').map_or_else(|| name.into(), |prefix| format!("{prefix}*").into())
}

fn network(text: &str) -> Value {
    match text.split_once('/') {
        Some((address, length)) => json!({"prefix": {"addr": address, "len": length.parse::<u8>().ok()}}),
        None => text.into(),
    }
}

/// Returns ports: `67,69,4000:4010`.
fn ports(text: &str) -> Value {
    let one = |text: &str| match text.split_once(':') {
        Some((first, last)) => json!({"range": [first.parse::<u16>().ok(), last.parse::<u16>().ok()]}),
        None => json!(text.parse::<u16>().ok()),
    };
    let all: Vec<Value> = text.split(',').map(one).collect();
    if let [single] = all.as_slice() { single.clone() } else { json!({"set": all}) }
}

/// Returns the words of a line, of which those in quotation marks may have spaces and escapes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), None::<String>, false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            '\\' if is_quoted => word.get_or_insert_default().extend(letters.next()),
            ' ' if !is_quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}
