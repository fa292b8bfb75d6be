//! The rules of nftables, as `nft -j list ruleset` prints them (libnftables-json(5)).

use std::collections::HashMap;

use serde_json::Value;

use super::legacy;

/// Families whose chains see IPv4 packets at the layer of IP.
const IP_FAMILIES: [&str; 3] = ["ip", "inet", legacy::FAMILY];
/// The family whose chains see the frames of a bridge.
const BRIDGE_FAMILY: &str = "bridge";

/// The chains and sets of a list.
#[derive(Debug)]
pub struct Ruleset<'a> {
    chains: Vec<Chain<'a>>,
    /// The elements of named sets and maps.
    sets: HashMap<(Table<'a>, &'a str), &'a [Value]>,
}

/// A table: its family and name.
pub type Table<'a> = (&'a str, &'a str);

/// A chain with its rules.
#[derive(Debug)]
pub struct Chain<'a> {
    /// The table.
    pub table: Table<'a>,
    /// Name of the chain.
    pub name: &'a str,
    /// The hook and the priority, for a base chain.
    pub hook: Option<(&'a str, i64)>,
    /// Whether packets that no rule decides about are dropped.
    pub drops_rest: bool,
    /// The rules in their order.
    pub rules: Vec<Rule<'a>>,
}

/// A rule.
#[derive(Debug)]
pub struct Rule<'a> {
    /// Its number in the table.
    pub handle: i64,
    /// The comment; may be empty.
    pub comment: &'a str,
    /// Its statements.
    pub statements: &'a [Value],
}

impl<'a> Ruleset<'a> {
    /// Parses a list; `None` if it is none.
    pub fn parse(list: &'a Value) -> Option<Self> {
        let entries = list["nftables"].as_array()?;
        let (mut chains, mut sets): (Vec<Chain<'a>>, _) = (Vec::new(), HashMap::new());
        for entry in entries {
            if let Some(chain) = entry.get("chain") {
                chains.extend(parse_chain(chain));
            }
            for kind in ["set", "map"] {
                let Some(set) = entry.get(kind) else { continue };
                let (Some(table), Some(name)) = (table(set), set["name"].as_str()) else { continue };
                sets.insert((table, name), set["elem"].as_array().map_or(&[][..], Vec::as_slice));
            }
        }
        for rule in entries.iter().filter_map(|entry| entry.get("rule")) {
            let (Some(table), Some(name)) = (table(rule), rule["chain"].as_str()) else { continue };
            let Some(chain) = chains.iter_mut().find(|chain| chain.table == table && chain.name == name) else {
                continue;
            };
            chain.rules.push(Rule {
                handle: rule["handle"].as_i64().unwrap_or_default(),
                comment: rule["comment"].as_str().unwrap_or_default(),
                statements: rule["expr"].as_array().map_or(&[][..], Vec::as_slice),
            });
        }
        Some(Self { chains, sets })
    }

    /// Returns the base chains of hooks, in the order in which a packet meets them: those of IP, or of a bridge.
    pub fn base_chains(&self, hooks: &[&str], is_bridge: bool) -> Vec<&Chain<'a>> {
        let place = |chain: &Chain<'a>| {
            if (chain.table.0 == BRIDGE_FAMILY) != is_bridge {
                return None;
            }
            let (hook, priority) = chain.hook?;
            Some((hooks.iter().position(|one| *one == hook)?, priority))
        };
        let mut found: Vec<_> = self.chains.iter().filter_map(|chain| Some((place(chain)?, chain))).collect();
        found.sort_by_key(|(place, _)| *place);
        found.into_iter().map(|(_, chain)| chain).collect()
    }

    /// Returns a chain of a table.
    pub fn chain(&self, table: Table<'_>, name: &str) -> Option<&Chain<'a>> {
        self.chains.iter().find(|chain| chain.table == table && chain.name == name)
    }

    /// Returns the elements of a named set or map; none for one that does not exist.
    pub fn elements(&self, table: Table<'_>, name: &str) -> &'a [Value] {
        let found = self.sets.iter().find(|((of, set), _)| *of == table && *set == name);
        found.map_or(&[], |(_, elements)| elements)
    }
}

fn table(entry: &Value) -> Option<Table<'_>> {
    Some((entry["family"].as_str()?, entry["table"].as_str()?))
}

fn parse_chain(chain: &Value) -> Option<Chain<'_>> {
    let table = table(chain).filter(|(family, _)| *family == BRIDGE_FAMILY || IP_FAMILIES.contains(family))?;
    let hook = chain["hook"].as_str().zip(chain["prio"].as_i64());
    let (name, drops_rest) = (chain["name"].as_str()?, chain["policy"] == "drop");
    Some(Chain { table, name, hook, drops_rest, rules: Vec::new() })
}
