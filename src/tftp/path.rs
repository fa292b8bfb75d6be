//! The name in a request -> what is asked, as a value. Nothing here opens a file.

use std::fmt;

use uuid::Uuid;

use crate::fleet::Mac;

/// The most folders and the file's name together.
const DEPTH: usize = 16;
/// The longest folder or file name, in octets (Linux's NAME_MAX).
const NAME: usize = 255;

/// Is what a peer asks for: the folder that tells who asks, if it leads with one, and the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The MAC address that was a folder in front: what we put into the boot file's name that we offered.
    /// A claim, as everything in a request.
    pub folder: Option<Mac>,
    pub file: File,
}

/// Says which file is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    /// `autoexec.ipxe`, which iPXE's EFI programs ask for beside themselves.
    Autoexec,
    /// A file in a folder `pxelinux.cfg`: PXELINUX works its way from the UUID to `default`.
    Pxelinux(For),
    /// A file `grub.cfg` with one of GRUB's endings: `-01-<mac>`, `-<hex address>` or none.
    Grub(For),
    /// Any other name: a boot program, or a file of the site.
    Plain(RelativePath),
}

/// Says whom a boot loader's configuration file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    Mac(Mac),
    /// As PXELINUX spells it: the 16 octets in the order of the wire (DHCP option 97), not mixed-endian.
    Uuid(Uuid),
    /// The leading hexadecimal digits of an IPv4 address: `digits` of them (1 to 8), the others zero.
    Address {
        bits: u32,
        digits: u8,
    },
    /// Whoever found nothing more specific.
    Anyone,
}

/// Is a path below a directory: no `..`, no root, no empty part, no NUL or control character.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RelativePath(Box<str>);

impl RelativePath {
    /// Yields the folders and at last the file's name.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a name is no path of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadPath {
    #[error("the name is not UTF-8, or has control characters")]
    NotText,
    #[error("the name leads out of the directory")]
    Escape,
    #[error("the name has no file in it")]
    NoFile,
    #[error("the name is too long or too deep")]
    TooLong,
}

impl Asked {
    /// Reads the name of a request: leading slashes and `.` are left out, a backslash is a slash (firmware of
    /// Microsoft's school), and known names are read in any case.
    ///
    /// # Errors
    /// [`BadPath`] where the name could mean a file outside of the directory, or no file at all.
    pub fn read(name: &[u8]) -> Result<Self, BadPath> {
        let text = std::str::from_utf8(name).map_err(|_| BadPath::NotText)?;
        if text.chars().any(char::is_control) {
            return Err(BadPath::NotText);
        }
        let parts: Vec<&str> = text.split(['/', '\\']).filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.contains(&"..") {
            return Err(BadPath::Escape);
        }
        if parts.len() > DEPTH || parts.iter().any(|part| part.len() > NAME) {
            return Err(BadPath::TooLong);
        }
        let (folder, below) = match parts.split_first() {
            Some((first, below)) if mac(first).is_some() => (mac(first), below),
            _ => (None, parts.as_slice()),
        };
        let file = File::read(below).ok_or(BadPath::NoFile)?;
        Ok(Asked { folder, file })
    }

    /// Says whose MAC address the name carries: in the file's name, or else as a folder.
    pub fn mac(&self) -> Option<Mac> {
        match self.file {
            File::Pxelinux(For::Mac(mac)) | File::Grub(For::Mac(mac)) => Some(mac),
            File::Pxelinux(_) | File::Grub(_) | File::Autoexec | File::Plain(_) => self.folder,
        }
    }
}

impl File {
    fn read(parts: &[&str]) -> Option<Self> {
        let (name, folders) = parts.split_last()?;
        if name.eq_ignore_ascii_case("autoexec.ipxe") {
            return Some(File::Autoexec);
        }
        let loader = folders.last().filter(|folder| folder.eq_ignore_ascii_case("pxelinux.cfg"));
        if let Some(whom) = loader.and_then(|_| pxelinux(name)) {
            return Some(File::Pxelinux(whom));
        }
        if let Some(whom) = grub(name) {
            return Some(File::Grub(whom));
        }
        Some(File::Plain(RelativePath(parts.join("/").into())))
    }
}

/// <https://wiki.syslinux.org/wiki/index.php?title=PXELINUX#Configuration>: UUID, hardware type and address,
/// the IPv4 address in hexadecimal and ever fewer of its digits, `default`.
fn pxelinux(name: &str) -> Option<For> {
    if name.eq_ignore_ascii_case("default") {
        return Some(For::Anyone);
    }
    let uuid = || Some(name).filter(|name| name.len() == 36).and_then(|name| Uuid::try_parse(name).ok());
    hardware(name).or_else(|| address(name)).or_else(|| uuid().map(For::Uuid))
}

/// GRUB's manual, "Network": `grub.cfg-01-<mac>`, `grub.cfg-<hex address>` and prefixes, `grub.cfg`.
fn grub(name: &str) -> Option<For> {
    let (stem, ending) = name.split_at_checked("grub.cfg".len())?;
    if !stem.eq_ignore_ascii_case("grub.cfg") {
        return None;
    }
    if ending.is_empty() {
        return Some(For::Anyone);
    }
    let ending = ending.strip_prefix('-')?;
    hardware(ending).or_else(|| address(ending))
}

/// An ARP hardware type in two digits, then the address. Only Ethernet's (01) has six octets for sure.
fn hardware(name: &str) -> Option<For> {
    mac(name.strip_prefix("01-")?).map(For::Mac)
}

fn address(name: &str) -> Option<For> {
    let digits = u8::try_from(name.len()).ok().filter(|digits| (1..=8).contains(digits))?;
    if !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let bits = u32::from_str_radix(name, 16).ok()? << (4 * (8 - u32::from(digits)));
    Some(For::Address { bits, digits })
}

/// Six octets with dashes or colons: other spellings of a MAC address might be a file's name.
fn mac(part: &str) -> Option<Mac> {
    let separator = |at: usize, byte: u8| (at % 3 == 2) == matches!(byte, b'-' | b':');
    let shaped = part.len() == 17 && part.bytes().enumerate().all(|(at, byte)| separator(at, byte));
    shaped.then(|| part.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOST: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn plain(path: &str) -> File {
        File::Plain(RelativePath(path.into()))
    }

    fn check(name: &str, folder: Option<Mac>, file: File) {
        assert_eq!(Asked::read(name.as_bytes()), Ok(Asked { folder, file }), "{name:?}");
    }

    fn refused(name: &[u8], why: BadPath) {
        assert_eq!(Asked::read(name), Err(why), "{:?}", String::from_utf8_lossy(name));
    }

    #[test]
    fn boot_programs_are_named_with_and_without_the_folder() {
        check("snponly.efi", None, plain("snponly.efi"));
        check("52-54-00-12-34-56/snponly.efi", Some(HOST), plain("snponly.efi"));
        check("/52-54-00-12-34-56/snponly.efi", Some(HOST), plain("snponly.efi"));
        check("//52:54:00:12:34:56//./SNPOnly.EFI", Some(HOST), plain("SNPOnly.EFI"));
        check("\\Boot\\BCD", None, plain("Boot/BCD"));
        check("\\52-54-00-12-34-56\\Boot\\BCD", Some(HOST), plain("Boot/BCD"));
        check("525400123456/file", None, plain("525400123456/file"));
    }

    #[test]
    fn files_of_boot_loaders_say_whom_they_are_for() {
        let address = |bits, digits| For::Address { bits, digits };
        let uuid = "b8945908-d6a6-41a9-611d-74a6ab80b83d";
        check("autoexec.ipxe", None, File::Autoexec);
        check("52-54-00-12-34-56/autoexec.ipxe", Some(HOST), File::Autoexec);
        check("pxelinux.cfg/01-52-54-00-12-34-56", None, File::Pxelinux(For::Mac(HOST)));
        check("/bios/pxelinux.cfg/01-52-54-00-12-34-56", None, File::Pxelinux(For::Mac(HOST)));
        check("52-54-00-12-34-56/pxelinux.cfg/default", Some(HOST), File::Pxelinux(For::Anyone));
        check(&format!("pxelinux.cfg/{uuid}"), None, File::Pxelinux(For::Uuid(uuid.parse().unwrap())));
        check("PXELINUX.CFG/C0A8025B", None, File::Pxelinux(address(0xc0a8_025b, 8)));
        check("pxelinux.cfg/C0A80", None, File::Pxelinux(address(0xc0a8_0000, 5)));
        check("pxelinux.cfg/C", None, File::Pxelinux(address(0xc000_0000, 1)));
        check("grub/grub.cfg-01-52-54-00-12-34-56", None, File::Grub(For::Mac(HOST)));
        check("/grub/x86_64-efi/grub.cfg", None, File::Grub(For::Anyone));
        check("grub.cfg-0A4D00B9", None, File::Grub(address(0x0a4d_00b9, 8)));
        check("grub.cfg-0A4D0", None, File::Grub(address(0x0a4d_0000, 5)));
    }

    #[test]
    fn names_that_only_look_like_a_boot_loaders_are_plain_files() {
        for name in [
            "pxelinux.cfg",
            "default",
            "C0A8025B",
            "pxelinux.cfg/C0A8025B5",
            "pxelinux.cfg/vesamenu.c32",
            "pxelinux.cfg/06-52-54-00-12-34-56",
            "grub/grub.cfg-new",
            "grub/grub.cfg.old",
            "grub/grub.cfgé",
        ] {
            check(name, None, plain(name));
        }
    }

    #[test]
    fn no_spelling_leads_out() {
        for name in [
            "..",
            "../etc/passwd",
            "/../etc/passwd",
            "a/../../b",
            "..\\..\\b",
            "a\\../b",
            "52-54-00-12-34-56/../x",
            "pxelinux.cfg/../default",
            "a/..",
            ".\\..\\x",
        ] {
            refused(name.as_bytes(), BadPath::Escape);
        }
        refused(b"", BadPath::NoFile);
        refused(b"/", BadPath::NoFile);
        refused(b"./\\", BadPath::NoFile);
        refused(b"52-54-00-12-34-56/", BadPath::NoFile);
        refused(b"a\nb", BadPath::NotText);
        refused(b"a\xff", BadPath::NotText);
        refused("a/".repeat(17).as_bytes(), BadPath::TooLong);
        refused(&[b'a'; 256], BadPath::TooLong);
        check("...", None, plain("..."));
        check("..hidden/a..b", None, plain("..hidden/a..b"));
    }

    #[test]
    fn the_files_own_address_counts_before_the_folders() {
        let other = "00-00-00-00-00-01/pxelinux.cfg/01-52-54-00-12-34-56";
        assert_eq!(Asked::read(other.as_bytes()).unwrap().mac(), Some(HOST));
        assert_eq!(Asked::read(b"52-54-00-12-34-56/pxelinux.cfg/default").unwrap().mac(), Some(HOST));
        assert_eq!(Asked::read(b"autoexec.ipxe").unwrap().mac(), None);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_stays_below(name in "[a-z0-9./\\\\:-]{0,60}|.{0,60}") {
            if let Ok(Asked { file: File::Plain(path), .. }) = Asked::read(name.as_bytes()) {
                prop_assert!(path.parts().all(|part| !matches!(part, "" | "." | "..")));
                prop_assert!(!path.as_str().starts_with('/') && !path.as_str().contains('\\'));
            }
        }
    }
}
