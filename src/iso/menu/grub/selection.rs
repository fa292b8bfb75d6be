//! The entry of a menu that boots without a key: values of `default`.

use std::collections::HashSet;
use std::ops::Range;

use crate::iso::menu::entry::MAX_DEFAULT_LENGTH;

/// A menu entry or a submenu.
#[derive(Debug)]
pub struct Item {
    /// Number of the script that has it.
    pub script: usize,
    /// Tokens of its commands.
    pub body: Range<usize>,
    /// Title.
    pub title: String,
    /// Id and title, as far as they are known: `default` selects the item by them.
    pub names: Vec<String>,
    /// Whether its id or its title is not known.
    pub has_unknown_name: bool,
    /// Whether it is a submenu.
    pub is_submenu: bool,
    /// Whether it is in the menu at every boot.
    pub is_certain: bool,
}

/// The entry of a menu that boots without a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// None: the menu is not shown without a key.
    None,
    /// The one that a value of `default` selects.
    Entry(String),
    /// Any: the scripts do not determine it.
    Unknown,
}

/// Returns the item that a value of `default` selects, if the script determines it, and the value that selects an item of
/// that submenu: `>` separates them, and `>>` is a character of a name (GRUB manual, "default").
pub fn default_item(items: &[Item], value: &str) -> (Option<usize>, String) {
    let (mut name, mut rest) = (String::new(), value);
    while let Some((before, after)) = rest.split_once('>') {
        name.push_str(before);
        match after.strip_prefix('>') {
            Some(after) => (rest, name) = (after, name + ">"),
            None => return (find_item(items, &name), after.to_owned()),
        }
    }
    (find_item(items, &(name + rest)), String::new())
}

/// Returns the item with a number or a name, if the script determines it. GRUB reads a value that begins with digits as a
/// number, also in octal and hexadecimal, and compares it with names only if it is none (grub-core/normal/menu.c).
fn find_item(items: &[Item], value: &str) -> Option<usize> {
    if value.is_empty() || may_be_number(value) {
        let is_decimal = value.bytes().all(|byte| byte.is_ascii_digit()) && (value == "0" || !value.starts_with('0'));
        let number = if value.is_empty() { 0 } else { value.parse().ok().filter(|_| is_decimal)? };
        return items.get(..=number).filter(|before| before.iter().all(|item| item.is_certain)).map(|_| number);
    }
    let has_name = |item: &Item| item.names.iter().any(|name| name == value);
    let first = items.iter().position(|item| item.has_unknown_name || has_name(item))?;
    (has_name(&items[first]) && items[first].is_certain).then_some(first)
}

/// Returns whether GRUB may read a value of `default` as a number.
pub fn may_be_number(value: &str) -> bool {
    value.starts_with(|first: char| first.is_ascii_whitespace() || first.is_ascii_digit())
}

/// The items before another one.
#[derive(Debug, Default)]
pub struct Preceding<'i> {
    names: HashSet<&'i str>,
    count: usize,
    has_unknown_name: bool,
    has_uncertain: bool,
}

impl<'i> Preceding<'i> {
    /// Creates the items before the first one. `has_gap` states that others may be among them.
    pub fn new(has_gap: bool) -> Self {
        Self { has_uncertain: has_gap, ..Self::default() }
    }

    /// Adds the next item. Returns the value of `default` that selects it, if there is one: a name, or else its number.
    pub fn add(&mut self, item: &'i Item) -> Option<String> {
        let is_unique = |name: &&String| {
            name.len() <= MAX_DEFAULT_LENGTH && !may_be_number(name) && !self.names.contains(name.as_str())
        };
        let name = item.names.iter().filter(|_| !self.has_unknown_name).find(is_unique).map(|name| escaped(name));
        let value = name.or_else(|| (!self.has_uncertain).then(|| self.count.to_string()));
        self.names.extend(item.names.iter().map(String::as_str));
        self.count += 1;
        self.has_unknown_name |= item.has_unknown_name;
        self.has_uncertain |= !item.is_certain;
        value.filter(|_| item.is_certain)
    }
}

/// Returns a name as a part of a value of `default`.
fn escaped(name: &str) -> String {
    name.replace('>', ">>")
}
