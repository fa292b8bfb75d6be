//! The embed areas of a Fedora CoreOS or RHEL CoreOS live image: an Ignition config as an additional
//! initramfs, and kernel arguments with padding.
//!
//! coreos-assembler defines the layout and coreos-installer reads it: `/coreos/igninfo.json` and
//! `/coreos/kargs.json`, or headers at the end of the system area in older images.

use serde::Deserialize;

use super::descriptor::SYSTEM_AREA;
use super::endian::le64;
use super::error::ViewResult;
use super::extent::Extent;
use super::{Iso, IsoError, MenuEdit, OverlayBuilder, ReadAt, ViewError};

/// Maximum length of a kernel argument area in bytes.
const MAX_KARGS_BYTES: u64 = 2048;
/// Maximum number of kernel argument areas.
const MAX_AREAS: usize = 6;
/// Offset of the Ignition header in older images: magic, offset and length, 8 bytes each.
const IGNITION_HEADER: u64 = SYSTEM_AREA - 24;
/// Offset of the kernel argument header in older images: magic, length, default and six offsets, 8 bytes each.
const KARGS_HEADER: u64 = IGNITION_HEADER - 72;

/// The embed areas of a CoreOS live image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoreOs {
    /// Area of the Ignition config.
    pub ignition: Option<Extent>,
    /// Path of the file that consists of the area alone, which a longer file may therefore replace.
    pub ignition_file: Option<String>,
    /// Areas of the kernel arguments, which all hold the same text.
    pub kargs: Vec<KargsArea>,
}

/// One area of kernel arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KargsArea {
    /// Byte range in the image.
    pub place: Extent,
    /// Padding after the text.
    pad: u8,
    /// Terminator of the text, before the padding.
    end: u8,
}

/// The content of `/coreos/igninfo.json`.
#[derive(Debug, Deserialize)]
struct IgnitionInfo {
    file: String,
    offset: Option<u64>,
    length: Option<u64>,
}

/// The content of `/coreos/kargs.json`.
#[derive(Debug, Deserialize)]
struct KargsInfo {
    files: Vec<KargsFile>,
    size: u64,
}

/// One kernel argument area in `/coreos/kargs.json`.
#[derive(Debug, Deserialize)]
struct KargsFile {
    path: String,
    offset: u64,
    pad: Option<char>,
    end: Option<char>,
}

impl CoreOs {
    /// Finds the embed areas of an image. A description that is wrong is treated as absent.
    ///
    /// # Errors
    /// Returns what is damaged in the image.
    pub fn read(iso: &Iso<'_>) -> Result<Option<Self>, IsoError> {
        let mut found = Self::default();
        let info = json::<IgnitionInfo>(iso, "/coreos/igninfo.json")?;
        match (info, header(iso.image, IGNITION_HEADER, b"coreiso+")?) {
            (Some(info), _) => found.locate_ignition(iso, &info)?,
            (None, Some(header)) => {
                found.ignition =
                    le64(&header, 8).zip(le64(&header, 16)).map(|(offset, length)| Extent { offset, length });
                let area =
                    iso.find("/images/ignition.img")?.filter(|entry| entry.extents.first() == found.ignition.as_ref());
                found.ignition_file = area.map(|_| "/images/ignition.img".to_owned());
            }
            // coreos-installer reads this file without a description; no other distribution has it.
            (None, None) => {
                let file = "images/ignition.img".to_owned();
                found.locate_ignition(iso, &IgnitionInfo { file, offset: None, length: None })?;
            }
        }
        let length = iso.image.len();
        found.ignition = found.ignition.filter(|area| area.ensure_within(length, "").is_ok());
        match json::<KargsInfo>(iso, "/coreos/kargs.json")? {
            Some(info) => found.locate_kargs(iso, &info)?,
            None => found.read_kargs_header(iso)?,
        }
        found.kargs.retain(|area| area.place.ensure_within(length, "").is_ok() && area.place.length <= MAX_KARGS_BYTES);
        Ok((found != Self::default()).then_some(found))
    }

    fn locate_ignition(&mut self, iso: &Iso<'_>, info: &IgnitionInfo) -> Result<(), IsoError> {
        let Some(file) = iso.file_extents(&info.file)? else { return Ok(()) };
        let [file] = file[..] else { return Ok(()) };
        let skip = info.offset.unwrap_or(0).min(file.length);
        let length = info.length.unwrap_or(file.length - skip).min(file.length - skip);
        self.ignition = Some(Extent { offset: file.offset + skip, length });
        let whole = skip == 0 && length == file.length;
        self.ignition_file = whole.then(|| format!("/{}", info.file.trim_start_matches('/')));
        Ok(())
    }

    fn locate_kargs(&mut self, iso: &Iso<'_>, info: &KargsInfo) -> Result<(), IsoError> {
        for place in info.files.iter().take(MAX_AREAS) {
            let Some(file) = iso.file_extents(&place.path)? else { continue };
            let [file] = file[..] else { continue };
            let inside = place.offset.checked_add(info.size).is_some_and(|end| end <= file.length);
            let byte = |given: Option<char>, other| given.and_then(|given| u8::try_from(given).ok()).unwrap_or(other);
            let area = KargsArea {
                place: Extent { offset: file.offset + place.offset.min(file.length), length: info.size },
                pad: byte(place.pad, b'#'),
                end: byte(place.end, b'\n'),
            };
            self.kargs.extend(inside.then_some(area));
        }
        Ok(())
    }

    fn read_kargs_header(&mut self, iso: &Iso<'_>) -> Result<(), IsoError> {
        let Some(header) = header(iso.image, KARGS_HEADER, b"coreKarg")? else { return Ok(()) };
        let length = le64(&header, 8).unwrap_or(0);
        let places = (0..MAX_AREAS).map_while(|at| le64(&header, 24 + at * 8).filter(|offset| *offset != 0));
        self.kargs =
            places.map(|offset| KargsArea { place: Extent { offset, length }, pad: b'#', end: b'\n' }).collect();
        Ok(())
    }

    /// Rewrites the kernel arguments in all areas. Returns false, and changes nothing, if they do not fit.
    ///
    /// # Errors
    /// Returns the error of reading the image, or `TooMuch` if the view is full.
    pub fn write_kargs(&self, builder: &mut OverlayBuilder<'_>, edit: &MenuEdit) -> ViewResult<bool> {
        let mut texts = Vec::new();
        for area in &self.kargs {
            let mut old = vec![0; area.place.length as usize];
            builder.read_at(area.place.offset, &mut old).map_err(ViewError::read("the kernel arguments of CoreOS"))?;
            let end = old.iter().rposition(|byte| *byte != area.pad).map_or(0, |last| last + 1);
            let mut text = edit.apply_to_line(&String::from_utf8_lossy(&old[..end])).join(" ").into_bytes();
            if text.len() >= old.len() {
                return Ok(false);
            }
            text.push(area.end);
            text.resize(old.len(), area.pad);
            texts.push(text);
        }
        for (area, text) in self.kargs.iter().zip(&texts) {
            builder.write(area.place.offset, text)?;
        }
        Ok(!texts.is_empty())
    }
}

/// Packs an Ignition config as an initramfs: an uncompressed cpio archive (newc) of `config.ign`.
pub fn initramfs(config: &[u8]) -> ViewResult<Vec<u8>> {
    let mut archive = Vec::new();
    for (name, mode, data) in [("config.ign", 0o100_644_u32, config), ("TRAILER!!!", 0, &[][..])] {
        let length = u32::try_from(data.len()).map_err(|_| ViewError::CoreOs("the config is longer than 4 GiB"))?;
        let fields = [u32::from(mode != 0), mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        archive.extend(b"070701");
        fields.iter().for_each(|field| archive.extend(format!("{field:08x}").bytes()));
        archive.extend(name.bytes().chain([0]));
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(data);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    Ok(archive)
}

fn json<T: for<'de> Deserialize<'de>>(iso: &Iso<'_>, path: &str) -> Result<Option<T>, IsoError> {
    Ok(iso.read(path)?.and_then(|text| serde_json::from_slice(&text).ok()))
}

fn header(image: &dyn ReadAt, at: u64, magic: &[u8]) -> Result<Option<Vec<u8>>, IsoError> {
    let mut header = vec![0; (SYSTEM_AREA - at) as usize];
    image.read_at(at, &mut header).map_err(IsoError::read("the system area"))?;
    Ok(header.starts_with(magic).then_some(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits the first file off a cpio archive (newc): its name, mode and content, and the rest of the archive.
    fn first_file(archive: &[u8]) -> (&str, usize, &[u8], &[u8]) {
        let (head, rest) = archive.split_at(110);
        assert_eq!(&head[..6], b"070701");
        let field = |index: usize| {
            let digits = std::str::from_utf8(&head[6 + index * 8..14 + index * 8]).unwrap();
            usize::from_str_radix(digits, 16).unwrap()
        };
        let (mode, length, name_length) = (field(1), field(6), field(11));
        let (name, rest) = rest.split_at((110 + name_length).next_multiple_of(4) - 110);
        let (content, rest) = rest.split_at(length.next_multiple_of(4));
        let (name, end) = name.split_at(name_length - 1);
        assert!(end.iter().chain(&content[length..]).all(|octet| *octet == 0), "zeros end the name and pad");
        (std::str::from_utf8(name).unwrap(), mode, &content[..length], rest)
    }

    #[test]
    fn a_config_reads_back_from_its_archive() {
        for config in [&b""[..], b"{", b"{}", b"{ }", b"{  }", &[b' '; 5000]] {
            let archive = initramfs(config).unwrap();
            let (name, mode, content, rest) = first_file(&archive);
            assert_eq!((name, mode, content), ("config.ign", 0o100_644, config));
            let (trailer, _, content, rest) = first_file(rest);
            assert_eq!((trailer, content, rest), ("TRAILER!!!", &b""[..], &b""[..]));
        }
    }
}
