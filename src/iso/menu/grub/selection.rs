//! The entry of a menu that boots without a key: values of `default`.

use std::ops::Range;

/// A menu entry or a submenu.
#[derive(Debug)]
pub struct Item {
    /// Number of the script that has it.
    pub script: usize,
    /// Tokens of its commands.
    pub body: Range<usize>,
    /// Title.
    pub title: String,
    /// Name by which `default` selects it.
    pub name: Option<String>,
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

/// Returns the item with a number or a name, if the script determines it.
fn find_item(items: &[Item], name: &str) -> Option<usize> {
    if let Ok(number) = if name.is_empty() { Ok(0) } else { name.parse::<usize>() } {
        return items.get(..=number).filter(|before| before.iter().all(|item| item.is_certain)).map(|_| number);
    }
    items.iter().position(|item| item.name.as_deref() == Some(name) || item.title == name)
}

/// Returns a name as a part of a value of `default`.
pub fn escaped(name: &str) -> String {
    name.replace('>', ">>")
}
