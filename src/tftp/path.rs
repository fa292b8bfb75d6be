//! The file name of a request, as a value. Nothing here opens a file.

use std::fmt;

use uuid::Uuid;

use crate::fleet::Mac;

/// Maximum number of folders and the file name together.
const MAX_DEPTH: usize = 16;
/// Maximum length of a folder or file name, in octets (Linux's NAME_MAX).
const MAX_NAME_LENGTH: usize = 255;

/// The requested file, and the folder that identifies the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedFile {
    /// The MAC address in a leading folder, which the offered boot file's name has. It is a claim, like everything in a
    /// request.
    pub folder: Option<Mac>,
    /// The requested file.
    pub file: FileName,
    /// Whether octets that are no text follow the name. A ROM that takes DHCP option 67 for a C string sends the octets
    /// of the next options too (boot-facts 27).
    pub has_trailing_octets: bool,
}

/// The kinds of requested files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileName {
    /// `autoexec.ipxe`, which iPXE's EFI programs request from their own folder.
    Autoexec,
    /// A file in a folder `pxelinux.cfg`: PXELINUX tries names from the UUID to `default`.
    Pxelinux(ConfigFileKey),
    /// A file `grub.cfg` with one of GRUB's suffixes: `-01-<mac>`, `-<hex address>` or none.
    Grub(ConfigFileKey),
    /// Any other name: a boot program, or a site file.
    Plain(RelativePath),
}

/// The host that a boot loader's configuration file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigFileKey {
    /// A host by its MAC address.
    Mac(Mac),
    /// In PXELINUX's spelling: the 16 octets in wire order (DHCP option 97), not mixed-endian.
    Uuid(Uuid),
    /// The leading hexadecimal digits of an IPv4 address: `digits` of them (1 to 8), the others zero.
    Address {
        /// The address, with the missing digits as zeros.
        bits: u32,
        /// Number of leading hexadecimal digits, 1 to 8.
        digits: u8,
    },
    /// Any host without a more specific file.
    Anyone,
}

/// A path below a directory: no `..`, no root, no empty part, no NUL or control character.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RelativePath(Box<str>);

impl RelativePath {
    /// Returns the folders and then the file name.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// Returns the path as text.
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

/// The reason a name is no valid path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadPath {
    /// The name leaves the directory.
    #[error("file name leaves the directory")]
    Escape,
    /// The name is empty.
    #[error("file name is empty")]
    NoFile,
    /// A part is too long, or there are too many folders.
    #[error("file name is too long or has too many folders")]
    TooLong,
}

impl RequestedFile {
    /// Parses the name of a request, up to the first octet that is no text. Leading slashes and `.` are ignored, a
    /// backslash is a slash (Windows boot loaders), and known names match in any case.
    ///
    /// # Errors
    /// The name could refer to a file outside of the directory, or to no file.
    pub fn parse(name: &[u8]) -> Result<Self, BadPath> {
        let text = leading_text(name);
        let parts: Vec<&str> = text.split(['/', '\\']).filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.contains(&"..") {
            return Err(BadPath::Escape);
        }
        if parts.len() > MAX_DEPTH || parts.iter().any(|part| part.len() > MAX_NAME_LENGTH) {
            return Err(BadPath::TooLong);
        }
        let (folder, below) = match parts.split_first() {
            Some((first, below)) if parse_mac(first).is_some() => (parse_mac(first), below),
            _ => (None, parts.as_slice()),
        };
        let file = FileName::parse(below).ok_or(BadPath::NoFile)?;
        Ok(RequestedFile { folder, file, has_trailing_octets: text.len() < name.len() })
    }

    /// Returns the plain file that the name may mean, in the order of lookup. The last one or two characters before
    /// other octets may be the code and the length of the next DHCP option.
    pub fn candidates(&self) -> Vec<RelativePath> {
        /// Maximum number of characters that belong to the next option.
        const OPTION_HEAD: usize = 2;
        let FileName::Plain(path) = &self.file else { return Vec::new() };
        let shorter = path.0.char_indices().rev().take(if self.has_trailing_octets { OPTION_HEAD } else { 0 });
        let is_file = |path: &RelativePath| path.parts().all(|part| !matches!(part, "" | "." | ".."));
        let shorter = shorter.map(|(end, _)| RelativePath(path.0[..end].into())).filter(is_file);
        std::iter::once(path.clone()).chain(shorter).collect()
    }

    /// Returns the MAC address in the name: in the file name, or else in a leading folder.
    pub fn mac(&self) -> Option<Mac> {
        match self.file {
            FileName::Pxelinux(ConfigFileKey::Mac(mac)) | FileName::Grub(ConfigFileKey::Mac(mac)) => Some(mac),
            FileName::Pxelinux(_) | FileName::Grub(_) | FileName::Autoexec | FileName::Plain(_) => self.folder,
        }
    }
}

impl FileName {
    fn parse(parts: &[&str]) -> Option<Self> {
        let (name, folders) = parts.split_last()?;
        if name.eq_ignore_ascii_case("autoexec.ipxe") {
            return Some(FileName::Autoexec);
        }
        let loader = folders.last().filter(|folder| folder.eq_ignore_ascii_case("pxelinux.cfg"));
        if let Some(key) = loader.and_then(|_| parse_pxelinux_name(name)) {
            return Some(FileName::Pxelinux(key));
        }
        if let Some(key) = parse_grub_name(name) {
            return Some(FileName::Grub(key));
        }
        Some(FileName::Plain(RelativePath(parts.join("/").into())))
    }
}

/// Returns the text at the start of a name: up to the first control character, or octet that is not UTF-8.
fn leading_text(name: &[u8]) -> &str {
    let text = name.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    text.split(char::is_control).next().unwrap_or_default()
}

/// Parses a name of PXELINUX: UUID, hardware type and address, the IPv4 address in hexadecimal with ever fewer digits,
/// `default` (<https://wiki.syslinux.org/wiki/index.php?title=PXELINUX#Configuration>).
fn parse_pxelinux_name(name: &str) -> Option<ConfigFileKey> {
    if name.eq_ignore_ascii_case("default") {
        return Some(ConfigFileKey::Anyone);
    }
    let uuid = || Some(name).filter(|name| name.len() == 36).and_then(|name| Uuid::try_parse(name).ok());
    parse_hardware_address(name).or_else(|| parse_hex_address(name)).or_else(|| uuid().map(ConfigFileKey::Uuid))
}

/// Parses a name of GRUB: `grub.cfg-01-<mac>`, `grub.cfg-<hex address>` and prefixes, `grub.cfg` (manual, "Network").
fn parse_grub_name(name: &str) -> Option<ConfigFileKey> {
    let (stem, ending) = name.split_at_checked("grub.cfg".len())?;
    if !stem.eq_ignore_ascii_case("grub.cfg") {
        return None;
    }
    if ending.is_empty() {
        return Some(ConfigFileKey::Anyone);
    }
    let ending = ending.strip_prefix('-')?;
    parse_hardware_address(ending).or_else(|| parse_hex_address(ending))
}

/// Parses an ARP hardware type in two digits and the address. Only Ethernet's (01) has six octets for certain.
fn parse_hardware_address(name: &str) -> Option<ConfigFileKey> {
    parse_mac(name.strip_prefix("01-")?).map(ConfigFileKey::Mac)
}

fn parse_hex_address(name: &str) -> Option<ConfigFileKey> {
    let digits = u8::try_from(name.len()).ok().filter(|digits| (1..=8).contains(digits))?;
    if !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let bits = u32::from_str_radix(name, 16).ok()? << (4 * (8 - u32::from(digits)));
    Some(ConfigFileKey::Address { bits, digits })
}

/// Parses six octets with dashes or colons. Another spelling of a MAC address may be a file name.
fn parse_mac(part: &str) -> Option<Mac> {
    let separator = |at: usize, byte: u8| (at % 3 == 2) == matches!(byte, b'-' | b':');
    let shaped = part.len() == 17 && part.bytes().enumerate().all(|(at, byte)| separator(at, byte));
    shaped.then(|| part.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOST: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn plain(path: &str) -> FileName {
        FileName::Plain(RelativePath(path.into()))
    }

    fn check(name: &str, folder: Option<Mac>, file: FileName) {
        let expected = RequestedFile { folder, file, has_trailing_octets: false };
        assert_eq!(RequestedFile::parse(name.as_bytes()), Ok(expected), "{name:?}");
    }

    fn refused(name: &[u8], why: BadPath) {
        assert_eq!(RequestedFile::parse(name), Err(why), "{:?}", String::from_utf8_lossy(name));
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
    fn names_of_boot_loaders_identify_the_host() {
        let address = |bits, digits| ConfigFileKey::Address { bits, digits };
        let uuid = "b8945908-d6a6-41a9-611d-74a6ab80b83d";
        check("autoexec.ipxe", None, FileName::Autoexec);
        check("52-54-00-12-34-56/autoexec.ipxe", Some(HOST), FileName::Autoexec);
        check("pxelinux.cfg/01-52-54-00-12-34-56", None, FileName::Pxelinux(ConfigFileKey::Mac(HOST)));
        check("/bios/pxelinux.cfg/01-52-54-00-12-34-56", None, FileName::Pxelinux(ConfigFileKey::Mac(HOST)));
        check("52-54-00-12-34-56/pxelinux.cfg/default", Some(HOST), FileName::Pxelinux(ConfigFileKey::Anyone));
        check(&format!("pxelinux.cfg/{uuid}"), None, FileName::Pxelinux(ConfigFileKey::Uuid(uuid.parse().unwrap())));
        check("PXELINUX.CFG/C0A8025B", None, FileName::Pxelinux(address(0xc0a8_025b, 8)));
        check("pxelinux.cfg/C0A80", None, FileName::Pxelinux(address(0xc0a8_0000, 5)));
        check("pxelinux.cfg/C", None, FileName::Pxelinux(address(0xc000_0000, 1)));
        check("grub/grub.cfg-01-52-54-00-12-34-56", None, FileName::Grub(ConfigFileKey::Mac(HOST)));
        check("/grub/x86_64-efi/grub.cfg", None, FileName::Grub(ConfigFileKey::Anyone));
        check("grub.cfg-0A4D00B9", None, FileName::Grub(address(0x0a4d_00b9, 8)));
        check("grub.cfg-0A4D0", None, FileName::Grub(address(0x0a4d_0000, 5)));
    }

    #[test]
    fn names_similar_to_a_boot_loaders_are_plain_files() {
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
    fn no_spelling_leaves_the_directory() {
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
        refused(b"\xff", BadPath::NoFile);
        refused(b"\x01program", BadPath::NoFile);
        refused(b"../secret\xff", BadPath::Escape);
        refused("a/".repeat(17).as_bytes(), BadPath::TooLong);
        refused(&[b'a'; 256], BadPath::TooLong);
        check("...", None, plain("..."));
        check("..hidden/a..b", None, plain("..hidden/a..b"));
    }

    #[test]
    fn a_name_ends_where_its_text_ends() {
        let check = |name: &[u8], candidates: &[&str]| {
            let asked = RequestedFile::parse(name).unwrap();
            assert!(asked.has_trailing_octets, "{name:?}");
            let found: Vec<_> = asked.candidates().iter().map(ToString::to_string).collect();
            assert_eq!(found, candidates, "{name:?}");
        };
        // What follows option 67: an end mark, option 66 and 43, option 43 with 36 octets, option 1.
        check(b"undionly.kpxe\xff", &["undionly.kpxe", "undionly.kpx", "undionly.kp"]);
        check(b"52-54-00-12-34-56/pB\t10.66.0.2\xff", &["pB", "p"]);
        check(b"a/p+\x04\x06\x01\x08\xff", &["a/p+", "a/p"]);
        check(b"a/p+$\x06\x01\x08", &["a/p+$", "a/p+", "a/p"]);
        check(b"p\x01\x04\xff\xff\xff", &["p"]);
        check("pé\u{1}".as_bytes(), &["pé", "p"]);
        check(b"a/..B\x01", &["a/..B"]);
        assert_eq!(RequestedFile::parse(b"a/program").unwrap().candidates(), [RelativePath("a/program".into())]);
        assert!(RequestedFile::parse(b"autoexec.ipxe").unwrap().candidates().is_empty());
    }

    #[test]
    fn the_address_in_the_file_name_precedes_the_folders() {
        let other = "00-00-00-00-00-01/pxelinux.cfg/01-52-54-00-12-34-56";
        assert_eq!(RequestedFile::parse(other.as_bytes()).unwrap().mac(), Some(HOST));
        assert_eq!(RequestedFile::parse(b"52-54-00-12-34-56/pxelinux.cfg/default").unwrap().mac(), Some(HOST));
        assert_eq!(RequestedFile::parse(b"autoexec.ipxe").unwrap().mac(), None);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_stays_below(name in "[a-z0-9./\\\\:\u{1}-]{0,60}|.{0,60}") {
            let asked = RequestedFile::parse(name.as_bytes());
            for path in asked.iter().flat_map(RequestedFile::candidates) {
                prop_assert!(path.parts().all(|part| !matches!(part, "" | "." | "..")));
                prop_assert!(!path.as_str().starts_with('/') && !path.as_str().contains('\\'));
            }
        }
    }
}
