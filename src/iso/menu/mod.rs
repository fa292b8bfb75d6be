//! The boot menus of distributions: what they boot, and the same text with more kernel arguments.
//!
//! Texts are taken as bytes and given back to the byte, whatever their encoding.

mod grub;
mod loader;
mod syslinux;

/// Is the language of a boot menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// ISOLINUX, SYSLINUX and EXTLINUX.
    Syslinux,
    /// GRUB 2's scripts.
    Grub,
    /// systemd-boot's entries (the Boot Loader Specification, type 1).
    Loader,
}

/// Is what a menu's entry boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuEntry {
    pub title: String,
    pub kernel: String,
    pub initrds: Vec<String>,
    pub arguments: String,
}

/// Is what is wanted of a menu's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// Holds kernel arguments to add to every kernel line that does not have them.
    pub append: Vec<String>,
    /// Holds kernel arguments to take out: whole (`quiet`), or by name (`console=`).
    pub remove: Vec<String>,
    /// Is after how many seconds the menu boots its default entry.
    pub timeout: Option<u16>,
}

/// Tells the language of a text that might be a boot menu: by what it says, for names say little.
pub fn dialect(path: &str, raw: &[u8]) -> Option<Dialect> {
    let text = characters(raw);
    let lower = path.to_ascii_lowercase();
    if loader::is_one(&lower, &text) {
        return Some(Dialect::Loader);
    }
    if syslinux::is_one(&lower, &text) {
        return Some(Dialect::Syslinux);
    }
    grub::is_one(&text).then_some(Dialect::Grub)
}

/// Lists what a menu boots with a kernel of Linux's.
pub fn entries(dialect: Dialect, raw: &[u8]) -> Vec<MenuEntry> {
    let text = String::from_utf8_lossy(raw);
    match dialect {
        Dialect::Syslinux => syslinux::entries(&text),
        Dialect::Grub => grub::entries(&text),
        Dialect::Loader => loader::entries(&text),
    }
}

/// Gives a menu's text with an edit made, and how many kernel lines it has; the text is the same
/// where there was nothing to change.
pub fn edited(dialect: Dialect, path: &str, raw: &[u8], edit: &Edit) -> (Vec<u8>, usize) {
    let text = characters(raw);
    let (text, lines) = match dialect {
        Dialect::Syslinux => syslinux::edited(path, &text, &edit.in_bytes()),
        Dialect::Grub => grub::edited(&text, &edit.in_bytes()),
        Dialect::Loader => loader::edited(&text, &edit.in_bytes()),
    };
    (text.chars().map(|byte| byte as u8).collect(), lines)
}

impl Edit {
    /// Spells the arguments as `characters` spells a text.
    fn in_bytes(&self) -> Self {
        let spell = |texts: &[String]| texts.iter().map(|text| characters(text.as_bytes())).collect();
        Self { append: spell(&self.append), remove: spell(&self.remove), timeout: self.timeout }
    }

    /// Gives the words of a line of kernel arguments with the edit made.
    pub(super) fn words(&self, line: &str) -> Vec<String> {
        arguments(line.split_whitespace(), self, str::to_owned)
    }

    /// Says whether an argument is to go.
    fn removes(&self, argument: &str) -> bool {
        self.remove.iter().any(|gone| argument == gone || (gone.ends_with('=') && argument.starts_with(gone)))
    }

    /// Says whether kernel lines are changed at all.
    pub(super) fn arguments(&self) -> bool {
        !self.append.is_empty() || !self.remove.is_empty()
    }
}

/// Spells each byte as one character, so that text of any encoding survives.
fn characters(raw: &[u8]) -> String {
    raw.iter().map(|byte| char::from(*byte)).collect()
}

/// Rewrites the words of a kernel line. What is behind `---` goes to the installed system as well
/// (debian-installer), so the arguments of this boot go before it.
fn arguments<'a>(words: impl Iterator<Item = &'a str>, edit: &Edit, quote: impl Fn(&str) -> String) -> Vec<String> {
    let mut kept: Vec<String> = words.filter(|word| !edit.removes(word)).map(str::to_owned).collect();
    let stop = kept.iter().position(|word| word == "---" || word == "--").unwrap_or(kept.len());
    let new = edit.append.iter().map(|argument| quote(argument)).filter(|argument| !kept.contains(argument));
    let new: Vec<String> = new.collect();
    kept.splice(stop..stop, new);
    kept
}

/// Says whether a file name is a kernel's that takes arguments, as memory testers and chain loaders are not.
fn takes_arguments(kernel: &str) -> bool {
    let name = kernel.rsplit(['/', '\\']).next().unwrap_or(kernel).to_ascii_lowercase();
    let other = [".c32", ".com", ".cbt", ".bin", ".bss", ".bs", ".0", ".img", ".efi"];
    let tool = ["memtest", "mt86", "memdisk", "mboot", "hdt", "sbm", "ipxe", "plpbt", "xen"];
    !name.is_empty()
        && !other.iter().any(|end| name.ends_with(end))
        && !tool.iter().any(|start| name.starts_with(start))
}
