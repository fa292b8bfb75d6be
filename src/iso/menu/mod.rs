//! Boot menus: the kernels that they boot, and edits of their kernel arguments.
//!
//! The menus of an image are read together, since they include each other. A text is edited byte by byte, so that its
//! encoding does not matter.

mod edit;
mod entry;
mod grub;
mod lookup;
mod syslinux;
mod systemd_boot;

use std::collections::BTreeSet;

pub use edit::{MAX_EDITED_BYTES, MenuEdit};
pub use entry::{MAX_ENTRIES_SIZE, MAX_KERNEL_LINES, MenuEntry, MenuGap, Obstacle, ValueOrigin};
pub use lookup::{FileTest, MAX_LOOKUPS, UnreadFiles};

use edit::{EditRoom, characters};
use entry::{EntryRoom, directory, normal_path};
use grub::GrubScripts;
use lookup::FileLookup;
use syslinux::{ConfigFile, SyslinuxConfigs};

/// The language of a boot menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// ISOLINUX, SYSLINUX and EXTLINUX.
    Syslinux,
    /// GRUB 2 scripts.
    Grub,
    /// systemd-boot: its configuration, and entries (Boot Loader Specification, type 1).
    SystemdBoot,
}

/// A text of an image that is a boot menu, or that one may read.
#[derive(Debug, Clone, Copy)]
pub struct MenuText<'a> {
    /// Path in the image. In an EFI partition it has the prefix `efi:`.
    pub path: &'a str,
    /// Language, if the text is a menu. Any other text may be a part of one.
    pub dialect: Option<Dialect>,
    /// Content.
    pub raw: &'a [u8],
}

/// The reading of a boot menu.
#[derive(Debug, Default)]
pub struct MenuReading {
    /// Linux kernels that it boots; those past `MAX_ENTRIES_SIZE` are left out.
    pub entries: Vec<MenuEntry>,
    /// Number of its kernel lines, to which arguments can be added.
    pub kernel_lines: usize,
    /// What is not understood in it.
    pub gaps: Vec<MenuGap>,
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
    grub::matches(&lower, &text).then_some(Dialect::Grub)
}

/// Returns whether a menu is one that other boot managers read from an image in a file (`loopback.cfg`).
pub fn is_loopback(path: &str) -> bool {
    grub::is_loopback(path)
}

/// Reads the menus of an image. `is_file` states whether the image has a file; a path with the prefix `efi:` is one of an
/// EFI partition. Returns one reading for each text.
pub fn read_menus(texts: &[MenuText<'_>], is_file: FileTest<'_>) -> Vec<MenuReading> {
    let decoded: Vec<_> = texts.iter().map(|text| String::from_utf8_lossy(text.raw)).collect();
    let decoded: Vec<&str> = decoded.iter().map(|text| text.as_ref()).collect();
    let mut files = FileLookup::new(is_file);
    let mut menus = Menus::read(texts, &decoded, &mut files);
    let kernel_lines = menus.kernel_lines();
    let mut room = EntryRoom::default();
    let readings = kernel_lines.into_iter().enumerate().map(|(number, kernel_lines)| {
        let mut entries = menus.take_entries(number, &mut room);
        for entry in &mut entries {
            files.resolve(entry, |name| menus.candidates(number, name));
            entry.make_printable();
        }
        let mut gaps = menus.take_gaps(number);
        if kernel_lines.is_none() {
            gaps.insert(MenuGap::KernelLines);
        }
        MenuReading { entries, kernel_lines: kernel_lines.unwrap_or(0), gaps: gaps.into_iter().collect() }
    });
    readings.collect()
}

/// Returns the Linux kernels that a menu boots, read alone: the names of its files stay as they are.
pub fn entries(dialect: Dialect, raw: &[u8]) -> Vec<MenuEntry> {
    let text = MenuText { path: "", dialect: Some(dialect), raw };
    let decoded = String::from_utf8_lossy(raw);
    let mut menus = Menus::read(&[text], &[&decoded], &mut FileLookup::new(&|_| Some(false)));
    let mut entries = menus.take_entries(0, &mut EntryRoom::default());
    entries.iter_mut().for_each(MenuEntry::make_printable);
    entries
}

/// Applies an edit to the menus of an image. `unread` are the files of the image that they read and that are not among the
/// texts. Returns for each text the new text, and the number of its kernel lines. The text is the same if nothing changes,
/// or if the menus have too many kernel lines. Returns nothing if the edit writes more than `MAX_EDITED_BYTES`.
pub fn edit_menus(texts: &[MenuText<'_>], unread: &UnreadFiles, edit: &MenuEdit) -> Option<Vec<(Vec<u8>, usize)>> {
    let decoded: Vec<String> = texts.iter().map(|text| characters(text.raw)).collect();
    let decoded: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let paths: BTreeSet<String> = unread.paths.iter().map(|path| characters(path.as_bytes())).collect();
    let is_unread = |path: &str| if paths.contains(path) { Some(true) } else { (!unread.has_more).then_some(false) };
    let menus = Menus::read(texts, &decoded, &mut FileLookup::new(&is_unread));
    let edit = edit.as_characters();
    let mut room = EditRoom::new();
    let edited = menus.kernel_lines().into_iter().enumerate().map(|(number, lines)| match lines {
        Some(lines) => {
            let text = menus.edit(number, &edit, &mut room);
            (!room.is_used_up()).then(|| (text.chars().map(|byte| byte as u8).collect(), lines))
        }
        None => Some((texts[number].raw.to_vec(), 0)),
    });
    edited.collect()
}

/// Applies an edit to a menu that is read alone. Returns the text and the number of its kernel lines.
pub fn edit_menu(dialect: Dialect, path: &str, raw: &[u8], edit: &MenuEdit) -> (Vec<u8>, usize) {
    let edited = edit_menus(&[MenuText { path, dialect: Some(dialect), raw }], &UnreadFiles::default(), edit);
    edited.and_then(|mut edited| edited.pop()).unwrap_or_default()
}

/// The menus of an image in all languages.
#[derive(Debug)]
struct Menus<'a> {
    texts: Vec<(&'a str, Option<Dialect>, &'a str)>,
    grub: GrubScripts<'a>,
    syslinux: SyslinuxConfigs<'a>,
    /// Number of each text among those of its language. A text of none belongs to both.
    numbers: Vec<(usize, usize)>,
}

impl<'a> Menus<'a> {
    fn read(texts: &[MenuText<'a>], decoded: &[&'a str], files: &mut FileLookup<'_>) -> Self {
        let (mut scripts, mut configs, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        for (text, decoded) in texts.iter().zip(decoded) {
            numbers.push((scripts.len(), configs.len()));
            let (is_script, is_config) = match text.dialect {
                Some(Dialect::Grub) => (true, false),
                Some(Dialect::Syslinux) => (false, true),
                Some(Dialect::SystemdBoot) => (false, false),
                None => (true, true),
            };
            scripts.extend(is_script.then_some((text.path, *decoded)));
            let is_menu = text.dialect.is_some();
            configs.extend(is_config.then_some(ConfigFile { path: text.path, text: decoded, is_menu }));
        }
        Self {
            texts: texts.iter().zip(decoded).map(|(text, decoded)| (text.path, text.dialect, *decoded)).collect(),
            grub: GrubScripts::read(&scripts, files),
            syslinux: SyslinuxConfigs::read(&configs, files),
            numbers,
        }
    }

    /// Takes the entries of a menu, as far as there is room for them.
    fn take_entries(&mut self, number: usize, room: &mut EntryRoom) -> Vec<MenuEntry> {
        let ((path, dialect, text), (script, config)) = (self.texts[number], self.numbers[number]);
        match dialect {
            Some(Dialect::Grub) => self.grub.take_entries(script),
            Some(Dialect::Syslinux) => self.syslinux.entries(config, room),
            Some(Dialect::SystemdBoot) => systemd_boot::entries(path, text),
            None => Vec::new(),
        }
    }

    /// Returns the paths that a name in a menu may mean, the likeliest first.
    fn candidates(&self, number: usize, name: &str) -> Vec<String> {
        match self.texts[number].1 {
            Some(Dialect::Syslinux) => self.syslinux.candidates(self.numbers[number].1, name).collect(),
            Some(Dialect::Grub | Dialect::SystemdBoot) if name.starts_with('/') => vec![normal_path(name)],
            Some(Dialect::Grub | Dialect::SystemdBoot) | None => {
                let path = self.texts[number].0;
                let directory = directory(path.strip_prefix("efi:").unwrap_or(path));
                vec![normal_path(&format!("{directory}/{name}")), normal_path(name)]
            }
        }
    }

    /// Takes the parts of a menu that are not understood.
    fn take_gaps(&mut self, number: usize) -> BTreeSet<MenuGap> {
        let (script, config) = self.numbers[number];
        match self.texts[number].1 {
            Some(Dialect::Grub) => self.grub.take_gaps(script),
            Some(Dialect::Syslinux) => self.syslinux.take_gaps(config),
            Some(Dialect::SystemdBoot) | None => BTreeSet::new(),
        }
    }

    /// Returns the number of kernel lines of each text; nothing for a menu that is not edited, since there are too many.
    fn kernel_lines(&self) -> Vec<Option<usize>> {
        let mut left = MAX_KERNEL_LINES;
        let lines = self.texts.iter().zip(&self.numbers).map(|((path, dialect, _), (script, config))| {
            let lines = match dialect {
                Some(Dialect::Grub) => self.grub.kernel_lines(*script),
                Some(Dialect::Syslinux) => self.syslinux.kernel_lines(*config),
                Some(Dialect::SystemdBoot) => systemd_boot::kernel_lines(path),
                None => 0,
            };
            left = left.checked_sub(lines)?;
            Some(lines)
        });
        lines.collect()
    }

    fn edit(&self, number: usize, edit: &MenuEdit, room: &mut EditRoom) -> String {
        let ((path, dialect, text), (script, config)) = (self.texts[number], self.numbers[number]);
        match dialect {
            Some(Dialect::Grub) => self.grub.edit(script, edit, room),
            Some(Dialect::Syslinux) => self.syslinux.edit(config, edit, room),
            Some(Dialect::SystemdBoot) => systemd_boot::edit_menu(path, text, edit),
            None => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
