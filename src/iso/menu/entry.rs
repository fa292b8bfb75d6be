//! Entries of boot menus: the kernels that they boot, and what keeps another boot loader from booting them.

use std::fmt;

use crate::fleet::text::{is_printable, printable};

/// Maximum size of the entries of the menus of an image in memory, in bytes. Real menus have a few kilobytes; a title or an `append` line
/// that many kernels share is copied to each of them.
pub const MAX_ENTRIES_SIZE: usize = 1 << 20;

/// Maximum number of kernel lines in the menus of an image that are edited. A view adds its arguments to each of them.
pub const MAX_KERNEL_LINES: usize = 2048;

/// Maximum length of a name or title that a view makes the default, in bytes. Syslinux reads lines up to this length.
pub const MAX_DEFAULT_LENGTH: usize = 4096;

/// Words of a title that mark an entry which does not boot the system or installer of the image.
const SIDE_TITLES: [&str; 9] =
    ["rescue", "recovery", "repair", "upgrade", "check", "verify", "test", "memtest86", "mediacheck"];
/// Beginnings of kernel arguments that mark such an entry.
const SIDE_ARGUMENTS: [&str; 8] = [
    "rescue",
    "inst.rescue",
    "upgrade=",
    "mediacheck=",
    "rd.live.check",
    "systemd.unit=rescue",
    "recovery",
    "proxdebug",
];

/// A kernel that a menu boots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MenuEntry {
    /// Title of the entry.
    pub title: String,
    /// Path of the kernel in the image. A name that the menu's loader resolves is resolved if its file exists.
    pub kernel: String,
    /// Paths of the initrds.
    pub initrds: Vec<String>,
    /// Kernel arguments, separated by spaces.
    pub arguments: String,
    /// Whether the menu boots the entry without a key.
    pub is_default: bool,
    /// The reason why another boot loader cannot boot the kernel; absent if it can.
    pub obstacle: Option<Obstacle>,
}

/// The reason why a boot loader other than the menu's own cannot boot an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The line has a variable of GRUB whose value the menu's text does not determine.
    Variable {
        /// Name of the variable, without `$`.
        name: String,
        /// Source of its value.
        origin: ValueOrigin,
    },
    /// The entry starts a hypervisor, which starts the kernel. The value is the hypervisor's path.
    Hypervisor(String),
    /// A file of the entry does not exist in the image. The value is its path.
    MissingFile(String),
    /// A file of the entry was not looked up, since the menus name too many. The value is its path.
    UncheckedFile(String),
}

/// The source of a variable's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueOrigin {
    /// GRUB itself (`grub_platform`).
    Grub,
    /// A command (`probe`, `regexp`).
    Command(String),
    /// An assignment that depends on a condition.
    Condition,
    /// An assignment of a longer text than is kept.
    Length,
}

/// A part of a menu that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MenuGap {
    /// The menu reads a file of the image that is not read here. The value is its path.
    UnreadFile(String),
    /// The menu reads or calls more than is followed.
    Includes,
    /// The menus have more kernel lines than are edited.
    KernelLines,
}

impl fmt::Display for MenuGap {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnreadFile(path) => {
                write!(
                    out,
                    "it reads {}, whose content is not read: other entries and values may be in it",
                    printable(path)
                )
            }
            Self::Includes => out.write_str("it reads more files, or calls more functions, than are followed"),
            Self::KernelLines => {
                write!(out, "the menus have more than {MAX_KERNEL_LINES} kernel lines: this menu is not edited")
            }
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable { name, origin } => match origin {
                ValueOrigin::Grub => write!(out, "only GRUB knows the value of ${name}"),
                ValueOrigin::Command(command) => {
                    write!(out, "only GRUB knows the value of ${name} ({command} sets it)")
                }
                ValueOrigin::Condition => write!(out, "the value of ${name} depends on a condition"),
                ValueOrigin::Length => write!(out, "the value of ${name} is too long"),
            },
            Self::Hypervisor(path) => write!(out, "it starts the hypervisor {path}"),
            Self::MissingFile(path) => write!(out, "{path} is not on the ISO"),
            Self::UncheckedFile(path) => {
                write!(out, "{path} was not looked up: the menus of the ISO name too many files")
            }
        }
    }
}

impl MenuEntry {
    /// Returns the size in memory, in bytes.
    pub fn size(&self) -> usize {
        let initrds: usize = self.initrds.iter().map(|path| size_of::<String>() + path.len()).sum();
        let obstacle = match &self.obstacle {
            Some(Obstacle::Variable { name, origin: ValueOrigin::Command(command) }) => name.len() + command.len(),
            Some(Obstacle::Variable { name, .. }) => name.len(),
            Some(Obstacle::Hypervisor(path) | Obstacle::MissingFile(path) | Obstacle::UncheckedFile(path)) => {
                path.len()
            }
            None => 0,
        };
        size_of::<Self>() + self.title.len() + self.kernel.len() + self.arguments.len() + initrds + obstacle
    }

    /// Returns whether the entry is a rescue system, an upgrade, a check or a test.
    pub fn is_side_entry(&self) -> bool {
        is_side_title(&self.title) || self.arguments.split_ascii_whitespace().any(is_side_argument)
    }

    /// Makes all texts printable.
    pub(super) fn make_printable(&mut self) {
        let Self { title, kernel, initrds, arguments, is_default: _, obstacle } = self;
        let obstacle: Vec<&mut String> = match obstacle {
            Some(Obstacle::Variable { name, origin: ValueOrigin::Command(command) }) => vec![name, command],
            Some(Obstacle::Variable { name, .. }) => vec![name],
            Some(Obstacle::Hypervisor(path) | Obstacle::MissingFile(path) | Obstacle::UncheckedFile(path)) => {
                vec![path]
            }
            None => Vec::new(),
        };
        for text in [title, kernel, arguments].into_iter().chain(initrds).chain(obstacle) {
            if !is_printable(text) {
                *text = printable(text).into_owned();
            }
        }
    }
}

/// Returns whether a kernel argument is that of a rescue system, an upgrade or a check.
pub fn is_side_argument(word: &str) -> bool {
    #[cfg(test)]
    tests::COMPARED.with(|count| count.set(count.get() + 1));
    SIDE_ARGUMENTS.iter().any(|side| word.starts_with(side))
}

/// Returns whether a title is that of a rescue system, an upgrade, a check or a test.
pub fn is_side_title(title: &str) -> bool {
    let mut words = title.split(|sign: char| !sign.is_alphanumeric());
    words.any(|word| SIDE_TITLES.iter().any(|side| word.eq_ignore_ascii_case(side)))
}

/// The number of bytes that are left for entries.
#[derive(Debug)]
pub struct EntryRoom(usize);

impl Default for EntryRoom {
    fn default() -> Self {
        Self(MAX_ENTRIES_SIZE)
    }
}

impl EntryRoom {
    /// Takes the room for an entry; returns nothing if there is not enough.
    pub fn take(&mut self, entry: MenuEntry) -> Option<MenuEntry> {
        self.0 = self.0.checked_sub(entry.size())?;
        Some(entry)
    }
}

/// Returns the name of a file without its directories.
pub fn base_name(path: &str) -> &str {
    path.rsplit(['/', '\\', ')']).next().unwrap_or(path)
}

/// Returns the directory of a path, without a slash at its end. The root is the empty text.
pub fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// Returns an absolute path without empty, `.` and `..` components.
pub fn normal_path(path: &str) -> String {
    #[cfg(test)]
    tests::NORMALIZED.with(|length| length.set(length.get() + path.len()));
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Returns whether a kernel takes arguments. Memory testers and chain loaders do not.
pub fn takes_arguments(kernel: &str) -> bool {
    let name = base_name(kernel).to_ascii_lowercase();
    let suffixes = [".c32", ".com", ".cbt", ".bin", ".bss", ".bs", ".0", ".img", ".efi"];
    let tools = ["memtest", "mt86", "memdisk", "mboot", "hdt", "sbm", "ipxe", "plpbt", "xen"];
    // Linux may be an EFI program (`vmlinuz.efi`), or end in its version (`vmlinuz-6.6.0`).
    let is_linux = ["vmlinu", "bzimage"].iter().any(|word| name.starts_with(word));
    !name.is_empty()
        && (is_linux || !suffixes.iter().any(|suffix| name.ends_with(suffix)))
        && !tools.iter().any(|tool| name.starts_with(tool))
}

/// Returns whether a file is the Xen hypervisor, by its name (`xen.gz`, `xen-4.17.gz`).
pub fn is_xen(path: &str) -> bool {
    base_name(path).to_ascii_lowercase().starts_with("xen")
}

#[cfg(test)]
pub mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// Number of arguments that were compared.
        pub static COMPARED: Cell<usize> = const { Cell::new(0) };
        /// Length of the paths that were made normal, in bytes.
        pub static NORMALIZED: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn rescue_systems_upgrades_and_tests_are_side_entries() {
        let rows = [
            ("Install Fedora 41", "inst.stage2=hd:LABEL=F quiet", false),
            ("Test this media & install Fedora 41", "quiet", true),
            ("Install", "inst.stage2=hd:LABEL=F rd.live.check quiet", true),
            ("Rescue a Fedora system", "inst.rescue", true),
            ("Boot SystemRescue using default options", "archisobasedir=sysresccd", false),
            ("linux", "splash=silent upgrade=1", true),
            ("Upgrade", "splash=silent", true),
            ("Try or Install Ubuntu Server", "---", false),
            ("Rescue mode", "rescue/enable=true ---", true),
            ("Latest release", "quiet", false),
        ];
        for (title, arguments, expected) in rows {
            let entry = MenuEntry { title: title.into(), arguments: arguments.into(), ..MenuEntry::default() };
            assert_eq!(entry.is_side_entry(), expected, "{title}: {arguments}");
        }
    }

    #[test]
    fn a_path_is_made_absolute() {
        let rows = [
            ("/boot/grub/../linux26", "/boot/linux26"),
            ("k", "/k"),
            ("//a/./b", "/a/b"),
            ("/../../a", "/a"),
            ("", "/"),
        ];
        for (path, expected) in rows {
            assert_eq!(normal_path(path), expected, "{path}");
        }
    }

    #[test]
    fn what_takes_no_arguments_is_known_by_its_name() {
        for kernel in [
            "/casper/vmlinuz",
            "/casper/vmlinuz.efi",
            "linux26",
            "/boot/bzImage",
            "/boot/vmlinuz-6.6.0",
            "($root)/boot/loader/linux",
        ] {
            assert!(takes_arguments(kernel), "{kernel}");
        }
        for tool in ["/boot/memtest86+.bin", "vesamenu.c32", "/boot/xen.gz", "memdisk", "/EFI/BOOT/grubx64.efi", ""] {
            assert!(!takes_arguments(tool), "{tool}");
        }
        assert!(is_xen("/boot/xen.gz") && is_xen("xen-4.17.gz") && !is_xen("/boot/vmlinuz"));
    }
}
