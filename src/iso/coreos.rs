//! Fedora CoreOS's (and RHEL CoreOS's) embed areas in its live image: an Ignition config as one more
//! initramfs, and kernel arguments with room behind them. The layout is coreos-assembler's, as
//! coreos-installer reads it: `/coreos/igninfo.json` and `/coreos/kargs.json`, or headers at the end of
//! the system area in older images.

use serde::Deserialize;

use super::descriptor::{Extent, SYSTEM_AREA};
use super::{CannotCompose, Draft, Edit, Iso, NotAnIso, ReadAt};
use crate::iso::endian::le64;

const KARGS_MAX: u64 = 2048;
const AREAS_MAX: usize = 6;
const IGNITION_HEADER: u64 = SYSTEM_AREA - 24;
const KARGS_HEADER: u64 = IGNITION_HEADER - 72;

/// Is what a CoreOS live image offers to be written into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoreOs {
    /// Is where an Ignition config goes.
    pub ignition: Option<Extent>,
    /// Names the file that is nothing but the area, which may then be replaced by a longer one.
    pub ignition_file: Option<String>,
    pub kargs: Vec<KargsArea>,
}

/// Is one of the places that hold the kernel arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KargsArea {
    pub place: Extent,
    pad: u8,
    end: u8,
}

#[derive(Debug, Deserialize)]
struct IgnitionInfo {
    file: String,
    offset: Option<u64>,
    length: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct KargsInfo {
    files: Vec<KargsPlace>,
    size: u64,
}

#[derive(Debug, Deserialize)]
struct KargsPlace {
    path: String,
    offset: u64,
    pad: Option<char>,
    end: Option<char>,
}

impl CoreOs {
    /// Looks for embed areas; nothing where the image has none.
    ///
    /// # Errors
    /// Says what of the image is damaged. A description that is wrong is as none.
    pub fn read(iso: &Iso<'_>) -> Result<Option<Self>, NotAnIso> {
        let mut found = Self::default();
        let info = json::<IgnitionInfo>(iso, "/coreos/igninfo.json")?;
        match (info, header(iso.image, IGNITION_HEADER, b"coreiso+")?) {
            (Some(info), _) => found.ignition(iso, &info)?,
            (None, Some(header)) => {
                found.ignition =
                    le64(&header, 8).zip(le64(&header, 16)).map(|(offset, length)| Extent { offset, length });
                let area =
                    iso.find("/images/ignition.img")?.filter(|entry| entry.extents.first() == found.ignition.as_ref());
                found.ignition_file = area.map(|_| "/images/ignition.img".to_owned());
            }
            // coreos-installer takes this file without more ado; nobody else's image has it.
            (None, None) => {
                let file = "images/ignition.img".to_owned();
                found.ignition(iso, &IgnitionInfo { file, offset: None, length: None })?;
            }
        }
        let length = iso.image.len();
        found.ignition = found.ignition.filter(|area| area.within(length, "").is_ok());
        match json::<KargsInfo>(iso, "/coreos/kargs.json")? {
            Some(info) => found.kargs(iso, &info)?,
            None => found.kargs_header(iso)?,
        }
        found.kargs.retain(|area| area.place.within(length, "").is_ok() && area.place.length <= KARGS_MAX);
        Ok((found != Self::default()).then_some(found))
    }

    fn ignition(&mut self, iso: &Iso<'_>, info: &IgnitionInfo) -> Result<(), NotAnIso> {
        let Some(file) = iso.file(&info.file)? else { return Ok(()) };
        let [file] = file[..] else { return Ok(()) };
        let skip = info.offset.unwrap_or(0).min(file.length);
        let length = info.length.unwrap_or(file.length - skip).min(file.length - skip);
        self.ignition = Some(Extent { offset: file.offset + skip, length });
        let whole = skip == 0 && length == file.length;
        self.ignition_file = whole.then(|| format!("/{}", info.file.trim_start_matches('/')));
        Ok(())
    }

    fn kargs(&mut self, iso: &Iso<'_>, info: &KargsInfo) -> Result<(), NotAnIso> {
        for place in info.files.iter().take(AREAS_MAX) {
            let Some(file) = iso.file(&place.path)? else { continue };
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

    fn kargs_header(&mut self, iso: &Iso<'_>) -> Result<(), NotAnIso> {
        let Some(header) = header(iso.image, KARGS_HEADER, b"coreKarg")? else { return Ok(()) };
        let length = le64(&header, 8).unwrap_or(0);
        let places = (0..AREAS_MAX).map_while(|at| le64(&header, 24 + at * 8).filter(|offset| *offset != 0));
        self.kargs =
            places.map(|offset| KargsArea { place: Extent { offset, length }, pad: b'#', end: b'\n' }).collect();
        Ok(())
    }

    /// Rewrites the kernel arguments in all areas; false where they do not fit, and nothing is changed.
    ///
    /// # Errors
    /// What the medium says.
    pub fn write_kargs(&self, draft: &mut Draft<'_>, edit: &Edit) -> Result<bool, CannotCompose> {
        let mut texts = Vec::new();
        for area in &self.kargs {
            let mut old = vec![0; area.place.length as usize];
            draft.read_at(area.place.offset, &mut old).map_err(CannotCompose::read("CoreOS's kernel arguments"))?;
            let end = old.iter().rposition(|byte| *byte != area.pad).map_or(0, |last| last + 1);
            let mut text = edit.words(&String::from_utf8_lossy(&old[..end])).join(" ").into_bytes();
            if text.len() >= old.len() {
                return Ok(false);
            }
            text.push(area.end);
            text.resize(old.len(), area.pad);
            texts.push(text);
        }
        for (area, text) in self.kargs.iter().zip(&texts) {
            draft.write(area.place.offset, text)?;
        }
        Ok(!texts.is_empty())
    }
}

/// Packs an Ignition config as the initramfs that CoreOS expects: a cpio archive (newc) of `config.ign`.
/// It is not compressed: the kernel takes it as it is.
pub fn initramfs(config: &[u8]) -> Result<Vec<u8>, CannotCompose> {
    let mut archive = Vec::new();
    for (name, mode, data) in [("config.ign", 0o100_644_u32, config), ("TRAILER!!!", 0, &[][..])] {
        let length = u32::try_from(data.len()).map_err(|_| CannotCompose::CoreOs("the config is longer than 4 GiB"))?;
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

fn json<T: for<'de> Deserialize<'de>>(iso: &Iso<'_>, path: &str) -> Result<Option<T>, NotAnIso> {
    Ok(iso.read(path)?.and_then(|text| serde_json::from_slice(&text).ok()))
}

fn header(image: &dyn ReadAt, at: u64, magic: &[u8]) -> Result<Option<Vec<u8>>, NotAnIso> {
    let mut header = vec![0; (SYSTEM_AREA - at) as usize];
    image.read_at(at, &mut header).map_err(NotAnIso::read("the system area"))?;
    Ok(header.starts_with(magic).then_some(header))
}
