//! Edits of kernel arguments.

use std::collections::HashSet;

/// Maximum length of the lines that the edits of the menus of an image write, in bytes.
pub const MAX_EDITED_BYTES: usize = 16 << 20;

/// The changes to a boot menu.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MenuEdit {
    /// Kernel arguments to add to every kernel line that does not have them yet.
    pub append: Vec<String>,
    /// Kernel arguments to remove: exact (`quiet`), or by name (`console=`).
    pub remove: Vec<String>,
    /// Timeout in seconds before the menu boots its default entry. If that entry leaves for the local disk, the first one
    /// that boots a kernel becomes the default.
    pub timeout: Option<u16>,
}

impl MenuEdit {
    /// Returns the edit with its arguments in the representation of `characters`.
    pub(super) fn as_characters(&self) -> Self {
        let convert = |texts: &[String]| texts.iter().map(|text| characters(text.as_bytes())).collect();
        Self { append: convert(&self.append), remove: convert(&self.remove), timeout: self.timeout }
    }

    /// Returns the words of a line of kernel arguments after the edit.
    pub fn apply_to_line(&self, line: &str) -> Vec<String> {
        edited_arguments(line.split_ascii_whitespace(), self, str::to_owned)
    }

    /// Returns whether the edit removes an argument.
    pub fn removes(&self, argument: &str) -> bool {
        self.remove
            .iter()
            .any(|removed| argument == removed || (removed.ends_with('=') && argument.starts_with(removed)))
    }

    /// Returns whether the edit changes kernel arguments.
    pub fn changes_arguments(&self) -> bool {
        !self.append.is_empty() || !self.remove.is_empty()
    }
}

/// The room for the lines that edits write, in bytes.
#[derive(Debug)]
pub(super) struct EditRoom {
    left: usize,
}

impl EditRoom {
    /// Creates the room for the menus of an image.
    pub fn new() -> Self {
        Self { left: MAX_EDITED_BYTES }
    }

    /// Takes the room for a text. Returns whether there is enough; after one that does not fit there is none.
    pub fn take(&mut self, length: usize) -> bool {
        let left = self.left.checked_sub(length);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// Returns whether no more lines are written.
    pub fn is_used_up(&self) -> bool {
        self.left == 0
    }
}

/// Maps each byte to one character, so that text of any encoding is preserved. Only ASCII whitespace separates words: the
/// bytes 0x85 and 0xa0, which are whitespace as characters, are parts of letters in UTF-8.
pub(super) fn characters(raw: &[u8]) -> String {
    raw.iter().map(|byte| char::from(*byte)).collect()
}

/// Returns the words of a kernel line after the edit. debian-installer copies the words after `---` to the installed
/// system, so the arguments of this boot are added before it.
pub fn edited_arguments<'a>(
    words: impl Iterator<Item = &'a str>,
    edit: &MenuEdit,
    quote: impl Fn(&str) -> String,
) -> Vec<String> {
    let mut kept: Vec<String> = words.filter(|word| !edit.removes(word)).map(str::to_owned).collect();
    let stop = kept.iter().position(|word| word == "---" || word == "--").unwrap_or(kept.len());
    let new = {
        let known: HashSet<&String> = kept.iter().filter(|_| !edit.append.is_empty()).collect();
        let new = edit.append.iter().map(|argument| quote(argument)).filter(|argument| !known.contains(argument));
        new.collect::<Vec<String>>()
    };
    kept.splice(stop..stop, new);
    kept
}
