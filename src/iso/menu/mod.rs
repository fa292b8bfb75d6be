//! Boot menus: the kernels that they boot, and edits of their kernel arguments.
//!
//! A text is edited byte by byte, so that its encoding does not matter.

mod grub;
mod syslinux;
mod systemd_boot;

use crate::fleet::text::{is_printable, printable};

/// Maximum size of the entries of a menu in memory, in bytes. Real menus have a few kilobytes; a title or an `append` line
/// that many kernels share is copied to each of them.
pub const MAX_ENTRIES_SIZE: usize = 1 << 20;

/// The language of a boot menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// ISOLINUX, SYSLINUX and EXTLINUX.
    Syslinux,
    /// GRUB 2 scripts.
    Grub,
    /// systemd-boot entries (Boot Loader Specification, type 1).
    SystemdBoot,
}

/// A kernel that a menu boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuEntry {
    /// Title of the entry.
    pub title: String,
    /// Path of the kernel, as the menu has it.
    pub kernel: String,
    /// Paths of the initrds.
    pub initrds: Vec<String>,
    /// Kernel arguments, separated by spaces.
    pub arguments: String,
}

/// The changes to a boot menu.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MenuEdit {
    /// Kernel arguments to add to every kernel line that does not have them yet.
    pub append: Vec<String>,
    /// Kernel arguments to remove: exact (`quiet`), or by name (`console=`).
    pub remove: Vec<String>,
    /// Timeout in seconds before the menu boots its default entry.
    pub timeout: Option<u16>,
}

/// Returns the language of a text that may be a boot menu. The content decides: file names say little.
pub fn detect_dialect(path: &str, raw: &[u8]) -> Option<Dialect> {
    let text = characters(raw);
    let lower = path.to_ascii_lowercase();
    if systemd_boot::matches(&lower, &text) {
        return Some(Dialect::SystemdBoot);
    }
    if syslinux::matches(&lower, &text) {
        return Some(Dialect::Syslinux);
    }
    grub::matches(&text).then_some(Dialect::Grub)
}

/// Returns the Linux kernels that a menu boots; those past `MAX_ENTRIES_SIZE` are left out.
pub fn entries(dialect: Dialect, raw: &[u8]) -> Vec<MenuEntry> {
    let text = String::from_utf8_lossy(raw);
    let mut entries = match dialect {
        Dialect::Syslinux => syslinux::entries(&text, &mut EntryRoom::default()),
        Dialect::Grub => grub::entries(&text, &mut EntryRoom::default()),
        Dialect::SystemdBoot => systemd_boot::entries(&text),
    };
    for MenuEntry { title, kernel, initrds, arguments } in &mut entries {
        for text in [title, kernel, arguments].into_iter().chain(initrds) {
            if !is_printable(text) {
                *text = printable(text).into_owned();
            }
        }
    }
    entries
}

/// Applies an edit to a menu. Returns the text and the number of its kernel lines. The text is the same if
/// nothing changes.
pub fn edit_menu(dialect: Dialect, path: &str, raw: &[u8], edit: &MenuEdit) -> (Vec<u8>, usize) {
    let text = characters(raw);
    let (text, lines) = match dialect {
        Dialect::Syslinux => syslinux::edit_menu(path, &text, &edit.as_characters()),
        Dialect::Grub => grub::edit_menu(&text, &edit.as_characters()),
        Dialect::SystemdBoot => systemd_boot::edit_menu(&text, &edit.as_characters()),
    };
    (text.chars().map(|byte| byte as u8).collect(), lines)
}

impl MenuEntry {
    /// Returns the size in memory, in bytes.
    fn size(&self) -> usize {
        let initrds: usize = self.initrds.iter().map(|path| size_of::<String>() + path.len()).sum();
        size_of::<Self>() + self.title.len() + self.kernel.len() + self.arguments.len() + initrds
    }
}

/// The number of bytes that are left for entries.
#[derive(Debug)]
struct EntryRoom(usize);

impl Default for EntryRoom {
    fn default() -> Self {
        Self(MAX_ENTRIES_SIZE)
    }
}

impl EntryRoom {
    /// Takes the room for an entry; returns nothing if there is not enough.
    fn take(&mut self, entry: MenuEntry) -> Option<MenuEntry> {
        self.0 = self.0.checked_sub(entry.size())?;
        Some(entry)
    }
}

impl MenuEdit {
    /// Returns the edit with its arguments in the representation of `characters`.
    fn as_characters(&self) -> Self {
        let convert = |texts: &[String]| texts.iter().map(|text| characters(text.as_bytes())).collect();
        Self { append: convert(&self.append), remove: convert(&self.remove), timeout: self.timeout }
    }

    /// Returns the words of a line of kernel arguments after the edit.
    pub(super) fn apply_to_line(&self, line: &str) -> Vec<String> {
        edited_arguments(line.split_ascii_whitespace(), self, str::to_owned)
    }

    /// Returns whether the edit removes an argument.
    fn removes(&self, argument: &str) -> bool {
        self.remove
            .iter()
            .any(|removed| argument == removed || (removed.ends_with('=') && argument.starts_with(removed)))
    }

    /// Returns whether the edit changes kernel arguments.
    pub(super) fn changes_arguments(&self) -> bool {
        !self.append.is_empty() || !self.remove.is_empty()
    }
}

/// Maps each byte to one character, so that text of any encoding is preserved. Only ASCII whitespace separates words: the
/// bytes 0x85 and 0xa0, which are whitespace as characters, are parts of letters in UTF-8.
fn characters(raw: &[u8]) -> String {
    raw.iter().map(|byte| char::from(*byte)).collect()
}

/// Returns the words of a kernel line after the edit. debian-installer copies the words after `---` to the installed
/// system, so the arguments of this boot are added before it.
fn edited_arguments<'a>(
    words: impl Iterator<Item = &'a str>,
    edit: &MenuEdit,
    quote: impl Fn(&str) -> String,
) -> Vec<String> {
    let mut kept: Vec<String> = words.filter(|word| !edit.removes(word)).map(str::to_owned).collect();
    let stop = kept.iter().position(|word| word == "---" || word == "--").unwrap_or(kept.len());
    let new = edit.append.iter().map(|argument| quote(argument)).filter(|argument| !kept.contains(argument));
    let new: Vec<String> = new.collect();
    kept.splice(stop..stop, new);
    kept
}

/// Returns whether a kernel takes arguments. Memory testers and chain loaders do not.
fn takes_arguments(kernel: &str) -> bool {
    let name = kernel.rsplit(['/', '\\']).next().unwrap_or(kernel).to_ascii_lowercase();
    let suffixes = [".c32", ".com", ".cbt", ".bin", ".bss", ".bs", ".0", ".img", ".efi"];
    let tools = ["memtest", "mt86", "memdisk", "mboot", "hdt", "sbm", "ipxe", "plpbt", "xen"];
    !name.is_empty()
        && !suffixes.iter().any(|suffix| name.ends_with(suffix))
        && !tools.iter().any(|tool| name.starts_with(tool))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_many_entries_share_takes_little_memory() {
        let long = "x".repeat(100_000);
        let grub = format!("menuentry {long} {{\n{}}}\n", "linux /k\n".repeat(10_000));
        let initrds = format!("linux /k\n{}", "initrd /i\n".repeat(10_000));
        let syslinux = format!("append {long}\n{}", "label a\nlinux /k\n".repeat(10_000));
        let commas = format!("append initrd={}\n{}", ",".repeat(100_000), "label a\nlinux /k\n".repeat(10_000));
        for (dialect, text, least) in [
            (Dialect::Grub, grub, 9),
            (Dialect::Grub, initrds, 0),
            (Dialect::Syslinux, syslinux, 9),
            (Dialect::Syslinux, commas, 0),
        ] {
            let entries = entries(dialect, text.as_bytes());
            assert!((least..=10_000).contains(&entries.len()), "{} entries", entries.len());
            assert!(entries.iter().map(MenuEntry::size).sum::<usize>() <= MAX_ENTRIES_SIZE);
        }
    }
}
