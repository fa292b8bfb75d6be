//! A host's view of an image: what is wished for it, made of extents.

use bytes::Bytes;

use super::add::{self, Content};
use super::coreos;
use super::descriptor::{Extent, SECTOR};
use super::examine::Home;
use super::implanted::{self, Implanted};
use super::sums;
use super::tree::Kind;
use super::volume::read_extents;
use super::{CannotCompose, Draft, Edit, Examined, Iso, Overlay, ReadAt, menu};
use crate::iso::endian::both32;

const ARGUMENT_MAX: usize = 1024;
/// Is what x86 kernels read, with room for what the boot program adds (`BOOT_IMAGE=`, `initrd=`).
const ARGUMENTS_MAX: usize = 2000;
const FILES_MAX: usize = 64;

/// Is what a host is to see in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Is what changes in the boot menus.
    pub edit: Edit,
    /// Holds files to add, or to replace, by path (`/ks.cfg`). Directories must be there.
    pub files: Vec<(String, Bytes)>,
    /// Is an Ignition config for CoreOS's embed area.
    pub ignition: Option<Bytes>,
    pub digest: ImplantedDigest,
}

/// Says what becomes of a digest that the image carries about itself (isomd5sum).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ImplantedDigest {
    /// Takes it off, so that a check of the medium finds none rather than a wrong one.
    #[default]
    Off,
    /// Computes it anew, which reads the whole image.
    Recomputed,
}

/// Is a view that was composed, and what is different in it.
#[derive(Debug, Clone)]
pub struct Composed {
    pub overlay: Overlay,
    /// Names the files that changed or came.
    pub changed: Vec<String>,
    /// Says, for people, what is not as they may expect.
    pub warnings: Vec<String>,
}

type Result<T, E = CannotCompose> = std::result::Result<T, E>;

/// Composes a host's view of an image. The same base, identity and wishes give the same bytes.
/// `identity` identifies the base's bytes, its SHA-256 at best.
///
/// # Errors
/// Says why the image cannot be seen so.
pub fn compose(base: &dyn ReadAt, examined: &Examined, identity: &[u8], wishes: &Wishes) -> Result<Composed> {
    check(wishes)?;
    let mut work = Work { draft: Draft::new(base), examined, changed: Vec::new(), warnings: Vec::new() };
    let mut edit = wishes.edit.clone();
    if examined.implanted.is_some() && *wishes != Wishes::default() && wishes.digest == ImplantedDigest::Off {
        // checkisomd5 calls a medium without a digest a bad one, and dracut then refuses to boot.
        edit.remove.push("rd.live.check".into());
    }
    if let Some(config) = &wishes.ignition {
        work.ignition(config)?;
    }
    if work.kargs(&edit)? {
        (edit.append, edit.remove) = (Vec::new(), Vec::new());
    }
    work.menus(&edit)?;
    for (path, bytes) in &wishes.files {
        work.file(path, bytes)?;
    }
    work.sums()?;
    work.sizes()?;
    work.digest(wishes.digest)?;
    let Work { draft, changed, warnings, .. } = work;
    Ok(Composed { overlay: draft.finish(identity), changed, warnings })
}

fn check(wishes: &Wishes) -> Result<()> {
    for argument in &wishes.edit.append {
        let harmless = !argument.is_empty() && !argument.chars().any(|character| character.is_control());
        if !harmless || argument.len() > ARGUMENT_MAX {
            return Err(CannotCompose::Argument(argument.clone()));
        }
    }
    let length = wishes.edit.append.iter().map(|argument| argument.len() + 1).sum();
    if length > ARGUMENTS_MAX {
        return Err(CannotCompose::Arguments(length));
    }
    match wishes.files.get(FILES_MAX) {
        Some((path, _)) => Err(CannotCompose::File { path: path.clone(), why: "more than 64 files" }),
        None => Ok(()),
    }
}

/// Is a view while it is being composed.
#[derive(Debug)]
struct Work<'a> {
    draft: Draft<'a>,
    examined: &'a Examined,
    changed: Vec<String>,
    warnings: Vec<String>,
}

impl Work<'_> {
    fn ignition(&mut self, config: &[u8]) -> Result<()> {
        let Some(core_os) = &self.examined.core_os else { return Err(CannotCompose::NotCoreOs) };
        let area = core_os.ignition.ok_or(CannotCompose::NotCoreOs)?;
        let mut archive = coreos::initramfs(config)?;
        match &core_os.ignition_file {
            _ if archive.len() as u64 <= area.length => {
                archive.resize(area.length as usize, 0);
                self.draft.write(area.offset, &archive)?;
            }
            Some(_) if !self.examined.ignition_records.is_empty() => {
                let records = self.examined.ignition_records.clone();
                self.relocate(area, &records, &archive)?;
            }
            _ => return Err(CannotCompose::CoreOs("the config is longer than the area")),
        }
        self.changed.push(core_os.ignition_file.clone().unwrap_or_else(|| "CoreOS's Ignition area".into()));
        Ok(())
    }

    /// Writes kernel arguments to CoreOS's areas; false where there are none, or no room.
    fn kargs(&mut self, edit: &Edit) -> Result<bool> {
        let core_os = self.examined.core_os.as_ref().filter(|core_os| edit.arguments() && !core_os.kargs.is_empty());
        let Some(core_os) = core_os else { return Ok(false) };
        let fits = core_os.write_kargs(&mut self.draft, edit)?;
        if fits {
            self.changed.push("CoreOS's kernel argument areas".into());
        } else {
            self.warnings
                .push("the kernel arguments do not fit CoreOS's areas: the menus' lines were changed instead".into());
        }
        Ok(fits)
    }

    fn menus(&mut self, edit: &Edit) -> Result<()> {
        if *edit == Edit::default() {
            return Ok(());
        }
        let mut kernels = 0;
        for menu in &self.examined.menus {
            let old = match &menu.home {
                Home::Volume { extent, .. } => read_extents(&self.draft, &[*extent], &menu.path)?.unwrap_or_default(),
                Home::Efi { fat, file, .. } => fat.read(&self.draft, file)?,
            };
            let (new, lines) = menu::edited(menu.dialect, &menu.path, &old, edit);
            kernels += lines;
            if new == old {
                continue;
            }
            match &menu.home {
                Home::Volume { extent, records } => self.relocate(*extent, records, &new)?,
                Home::Efi { fat, file, .. } => fat.replace(&mut self.draft, file, &new)?,
            }
            self.changed.push(menu.path.clone());
        }
        if kernels == 0 && !edit.append.is_empty() { Err(CannotCompose::NoKernelLine) } else { Ok(()) }
    }

    /// Puts new content in a file's place where it fits, or behind the end, and points the records there.
    fn relocate(&mut self, old: Extent, records: &[u64], data: &[u8]) -> Result<()> {
        let length = u32::try_from(data.len())
            .map_err(|_| CannotCompose::TooMuch { held: data.len(), most: u32::MAX as usize })?;
        let room = old.length.next_multiple_of(SECTOR);
        let at = if u64::from(length) <= room {
            let mut padded = data.to_vec();
            padded.resize((old.length as usize).max(data.len()), 0);
            self.draft.write(old.offset, &padded)?;
            old.offset
        } else {
            self.draft.append(data)?
        };
        let pointer = [both32(add::sector(at)?), both32(length)].concat();
        for record in records {
            // The data begin at the sector itself: no extended attributes before them.
            self.draft.write(record + 1, &[0])?;
            self.draft.write(record + 2, &pointer)?;
        }
        Ok(())
    }

    /// Adds a file, or replaces the one that has its path.
    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = format!("/{}", path.trim_start_matches('/'));
        let refuse = |why| CannotCompose::File { path: path.clone(), why };
        let (found, records) = {
            let iso = Iso::open(&self.draft)?;
            let found = iso.find(&path)?;
            let records = match found.as_ref().and_then(|entry| entry.extents.first()) {
                // Empty files share their extent, so one is known by its path alone.
                Some(extent) if extent.length == 0 => named(&iso, &path)?,
                Some(extent) => records(&iso, *extent)?,
                None => Vec::new(),
            };
            (found, records)
        };
        match found {
            Some(entry) if entry.kind != Kind::File => return Err(refuse("something else has its name")),
            Some(entry) if records.is_empty() || entry.extents.len() != 1 => {
                return Err(refuse("the file there cannot be replaced"));
            }
            Some(_) => {
                let content = self.content(bytes)?;
                let pointer = [both32(content.sector), both32(content.length)].concat();
                for record in records {
                    self.draft.write(record + 1, &[0])?;
                    self.draft.write(record + 2, &pointer)?;
                }
            }
            None => {
                let content = self.content(bytes)?;
                add::add(&mut self.draft, &self.examined.volume, &path, content)?;
            }
        }
        self.changed.push(path);
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> Result<Content> {
        let length = u32::try_from(bytes.len())
            .map_err(|_| CannotCompose::TooMuch { held: bytes.len(), most: u32::MAX as usize })?;
        let at = self.draft.append(bytes)?;
        Ok(Content { sector: add::sector(at)?, length })
    }

    /// Keeps the image's own lists of checksums right.
    fn sums(&mut self) -> Result<()> {
        let mut changed = self.changed.clone();
        for (menu, home) in self.examined.menus.iter().map(|menu| (menu, &menu.home)) {
            if let (true, Home::Efi { partition: Some(path), .. }) = (self.changed.contains(&menu.path), home) {
                changed.push(path.clone());
            }
        }
        if !changed.is_empty() {
            let lists = sums::correct(&mut self.draft, &changed)?;
            self.changed.extend(lists);
        }
        Ok(())
    }

    /// Brings what the image says of its own length in step.
    fn sizes(&mut self) -> Result<()> {
        if self.examined.udf && !self.changed.is_empty() {
            self.warnings.push(
                "the UDF side shows the image's own files: only the ISO 9660 and Joliet sides are changed".into(),
            );
        }
        if !self.draft.has_grown() {
            return Ok(());
        }
        let from = self.draft.base_length();
        let sectors = add::sector(self.draft.len())?;
        for descriptor in self.examined.volume.descriptors() {
            self.draft.write(descriptor.at + 80, &both32(sectors))?;
        }
        self.examined.hybrid.grow(&mut self.draft, from)
    }

    fn digest(&mut self, wish: ImplantedDigest) -> Result<()> {
        let Some(implanted) = self.examined.implanted.as_ref().filter(|_| !self.changed.is_empty()) else {
            return Ok(());
        };
        let descriptor = self.examined.volume.primary.at;
        let area = match (wish, implanted) {
            (ImplantedDigest::Recomputed, Implanted::IsoMd5Sum { supported, .. }) => {
                let mut size = [0; 4];
                self.draft.read_at(descriptor + 80, &mut size).map_err(CannotCompose::read("a volume descriptor"))?;
                let volume = u64::from(u32::from_le_bytes(size)) * SECTOR;
                Implanted::compute(&self.draft, descriptor, volume, *supported)?
            }
            (ImplantedDigest::Off, _) | (_, Implanted::TagMedia) => {
                let words = "the digest that the image carries about itself is taken off, and rd.live.check with it";
                self.warnings.push(words.into());
                vec![b' '; implanted::AREA.1]
            }
        };
        self.draft.write(descriptor + implanted::AREA.0, &area)
    }
}

/// Gathers, from all trees, the directory records of a path.
fn named(iso: &Iso<'_>, path: &str) -> Result<Vec<u64>> {
    let mut records = Vec::new();
    for tree in &iso.trees {
        records.extend(tree.find(path)?.into_iter().flat_map(|entry| entry.records));
    }
    Ok(records)
}

/// Gathers, from all trees, the directory records of a file by where its content lies.
fn records(iso: &Iso<'_>, extent: Extent) -> Result<Vec<u64>> {
    let mut records = Vec::new();
    for tree in &iso.trees {
        tree.walk(&mut |_, entry| {
            if entry.extents == [extent] {
                records.extend(&entry.records);
            }
            Ok(())
        })?;
    }
    Ok(records)
}
