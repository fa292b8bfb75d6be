//! Composing of a host's view of an image: a customization is turned into an overlay.

use super::add_file::{self, ContentLocation};
use super::checksum_files;
use super::coreos;
use super::descriptor::SECTOR;
use super::endian::both32;
use super::error::ViewResult;
use super::examine::{MenuLocation, menu_texts};
use super::extent::Extent;
use super::isomd5::{self, ImplantedDigest};
use super::tree::EntryKind;
use super::volume::read_extents;
use super::{Customization, DigestPolicy, Examined, Iso, MenuEdit, Overlay, OverlayBuilder, ReadAt, ViewError, menu};

/// Maximum length of one kernel argument in bytes.
const MAX_ARGUMENT_LENGTH: usize = 1024;
/// Maximum length of all kernel arguments in bytes: x86 kernels read 2048, and the boot loader adds some
/// of its own (`BOOT_IMAGE=`, `initrd=`).
const MAX_ARGUMENTS_LENGTH: usize = 2000;
/// Maximum number of added files.
const MAX_FILES: usize = 64;

/// A composed view and a summary of its changes.
#[derive(Debug, Clone)]
pub struct ComposedView {
    /// The differing byte ranges.
    pub overlay: Overlay,
    /// Paths of the changed and added files. A file in an EFI partition has the prefix `efi:`.
    pub changed: Vec<String>,
    /// Sentences for the operator about effects that may be unexpected.
    pub warnings: Vec<String>,
}

/// Composes a host's view of an image.
///
/// The same base, identity and customization result in the same bytes. `identity` identifies the bytes of
/// the base, for example by its SHA-256.
///
/// # Errors
/// Returns the reason why the customization cannot be applied to the image.
pub fn compose(
    base: &dyn ReadAt,
    examined: &Examined,
    identity: &[u8],
    customization: &Customization,
) -> ViewResult<ComposedView> {
    validate(customization)?;
    let mut composer =
        ViewComposer { builder: OverlayBuilder::new(base), examined, changed: Vec::new(), warnings: Vec::new() };
    let mut edit = customization.edit.clone();
    if examined.implanted.is_some()
        && *customization != Customization::default()
        && customization.digest == DigestPolicy::Remove
    {
        // checkisomd5 reports an image without a digest as bad, and dracut then refuses to boot.
        edit.remove.push("rd.live.check".into());
    }
    if let Some(config) = &customization.ignition {
        composer.embed_ignition(config)?;
    }
    if composer.write_kargs(&edit)? {
        (edit.append, edit.remove) = (Vec::new(), Vec::new());
    }
    composer.edit_menus(&edit)?;
    for (path, bytes) in &customization.files {
        composer.add_or_replace_file(path, bytes)?;
    }
    composer.update_checksum_files()?;
    composer.update_sizes()?;
    composer.update_digest(customization.digest)?;
    let ViewComposer { builder, changed, warnings, .. } = composer;
    Ok(ComposedView { overlay: builder.finish(identity), changed, warnings })
}

/// Checks the kernel arguments and the number of files.
fn validate(customization: &Customization) -> ViewResult<()> {
    for argument in &customization.edit.append {
        let valid = !argument.is_empty() && !argument.chars().any(|character| character.is_control());
        if !valid || argument.len() > MAX_ARGUMENT_LENGTH {
            return Err(ViewError::Argument(argument.clone()));
        }
    }
    let length = customization.edit.append.iter().map(|argument| argument.len() + 1).sum();
    if length > MAX_ARGUMENTS_LENGTH {
        return Err(ViewError::Arguments(length));
    }
    match customization.files.get(MAX_FILES) {
        Some((path, _)) => Err(ViewError::File { path: path.clone(), reason: "more than 64 files" }),
        None => Ok(()),
    }
}

/// A view while it is being composed.
#[derive(Debug)]
struct ViewComposer<'a> {
    builder: OverlayBuilder<'a>,
    examined: &'a Examined,
    /// Paths of the changed and added files.
    changed: Vec<String>,
    warnings: Vec<String>,
}

impl ViewComposer<'_> {
    /// Writes an Ignition config to the embed area of CoreOS, or replaces the file that holds the area.
    fn embed_ignition(&mut self, config: &[u8]) -> ViewResult<()> {
        let Some(core_os) = &self.examined.core_os else { return Err(ViewError::NotCoreOs) };
        let area = core_os.ignition.ok_or(ViewError::NotCoreOs)?;
        let mut archive = coreos::initramfs(config)?;
        match &core_os.ignition_file {
            _ if archive.len() as u64 <= area.length => {
                archive.resize(area.length as usize, 0);
                self.builder.write(area.offset, &archive)?;
            }
            Some(_) if !self.examined.ignition_records.is_empty() => {
                let records = self.examined.ignition_records.clone();
                self.relocate(area, &records, &archive)?;
            }
            _ => return Err(ViewError::CoreOs("the config is longer than the area")),
        }
        self.changed.push(core_os.ignition_file.clone().unwrap_or_else(|| "Ignition embed area of CoreOS".into()));
        Ok(())
    }

    /// Writes kernel arguments to the embed areas of CoreOS. Returns false if there are none, or if the
    /// arguments do not fit.
    fn write_kargs(&mut self, edit: &MenuEdit) -> ViewResult<bool> {
        let core_os =
            self.examined.core_os.as_ref().filter(|core_os| edit.changes_arguments() && !core_os.kargs.is_empty());
        let Some(core_os) = core_os else { return Ok(false) };
        let fits = core_os.write_kargs(&mut self.builder, edit)?;
        if fits {
            self.changed.push("kernel argument areas of CoreOS".into());
        } else {
            self.warnings.push(
                "the kernel arguments do not fit the embed areas of CoreOS: the boot menus were edited instead".into(),
            );
        }
        Ok(fits)
    }

    /// Applies an edit to all boot menus. An image without a kernel line is served without the arguments.
    fn edit_menus(&mut self, edit: &MenuEdit) -> ViewResult<()> {
        if *edit == MenuEdit::default() {
            return Ok(());
        }
        let examined = self.examined;
        let mut texts = Vec::with_capacity(examined.menus.len());
        for menu in &examined.menus {
            texts.push(match &menu.location {
                MenuLocation::IsoFile { extent, .. } => {
                    read_extents(&self.builder, &[*extent], &menu.path)?.unwrap_or_default()
                }
                MenuLocation::EfiFile { fat, file, .. } => fat.read(&self.builder, file)?,
            });
        }
        let all = menu_texts(&examined.menus, &texts, &examined.menu_parts);
        let edited = menu::edit_menus(&all, &examined.unread_files(), edit)
            .ok_or(ViewError::TooMuch { bytes: menu::MAX_EDITED_BYTES + 1, maximum: menu::MAX_EDITED_BYTES })?;
        let mut kernels = 0;
        for ((menu, old), (new, lines)) in examined.menus.iter().zip(&texts).zip(edited) {
            kernels += lines;
            if new == *old {
                continue;
            }
            match &menu.location {
                MenuLocation::IsoFile { extent, records } => self.relocate(*extent, records, &new)?,
                MenuLocation::EfiFile { fat, file, .. } => fat.replace(&mut self.builder, file, &new)?,
            }
            self.changed.push(menu.path.clone());
        }
        if kernels == 0 && !edit.append.is_empty() {
            self.warnings
                .push("no boot menu of the image has a kernel line: the kernel arguments are added to none".into());
        }
        Ok(())
    }

    /// Replaces the content of a file and updates its directory records. The content stays in place if it
    /// fits there; otherwise it is appended to the image.
    fn relocate(&mut self, old: Extent, records: &[u64], data: &[u8]) -> ViewResult<()> {
        let length = u32::try_from(data.len())
            .map_err(|_| ViewError::TooMuch { bytes: data.len(), maximum: u32::MAX as usize })?;
        let room = old.length.next_multiple_of(SECTOR);
        let at = if u64::from(length) <= room {
            let mut padded = data.to_vec();
            padded.resize((old.length as usize).max(data.len()), 0);
            self.builder.write(old.offset, &padded)?;
            old.offset
        } else {
            self.builder.append(data)?
        };
        let pointer = [both32(add_file::sector(at)?), both32(length)].concat();
        for record in records {
            // Without an extended attribute record the content begins at the extent's first sector.
            self.builder.write(record + 1, &[0])?;
            self.builder.write(record + 2, &pointer)?;
        }
        Ok(())
    }

    /// Adds a file, or replaces the file at this path.
    fn add_or_replace_file(&mut self, path: &str, bytes: &[u8]) -> ViewResult<()> {
        let path = format!("/{}", path.trim_start_matches('/'));
        let refuse = |reason| ViewError::File { path: path.clone(), reason };
        let (found, records) = {
            let iso = Iso::open(&self.builder)?;
            let found = iso.find(&path)?;
            let records = match found.as_ref().and_then(|entry| entry.extents.first()) {
                // Empty files may share their extent, so only the path identifies them.
                Some(extent) if extent.length == 0 => records_of_path(&iso, &path)?,
                Some(extent) => records_of_extent(&iso, *extent)?,
                None => Vec::new(),
            };
            (found, records)
        };
        match found {
            Some(entry) if entry.kind != EntryKind::File => return Err(refuse("the path is not a regular file")),
            Some(entry) if records.is_empty() || entry.extents.len() != 1 => {
                return Err(refuse("the existing file cannot be replaced: its content has several extents"));
            }
            Some(_) => {
                let content = self.store_content(bytes)?;
                let pointer = [both32(content.sector), both32(content.length)].concat();
                for record in records {
                    self.builder.write(record + 1, &[0])?;
                    self.builder.write(record + 2, &pointer)?;
                }
            }
            None => {
                let content = self.store_content(bytes)?;
                add_file::add_file(&mut self.builder, &self.examined.volume, &path, content)?;
            }
        }
        self.changed.push(path);
        Ok(())
    }

    /// Appends the content of a new file.
    fn store_content(&mut self, bytes: &[u8]) -> ViewResult<ContentLocation> {
        let length = u32::try_from(bytes.len())
            .map_err(|_| ViewError::TooMuch { bytes: bytes.len(), maximum: u32::MAX as usize })?;
        let at = self.builder.append(bytes)?;
        Ok(ContentLocation { sector: add_file::sector(at)?, length })
    }

    /// Updates the checksum files of the image for the changed files.
    fn update_checksum_files(&mut self) -> ViewResult<()> {
        let mut changed = self.changed.clone();
        for (menu, location) in self.examined.menus.iter().map(|menu| (menu, &menu.location)) {
            if let (true, MenuLocation::EfiFile { partition: Some(path), .. }) =
                (self.changed.contains(&menu.path), location)
            {
                changed.push(path.clone());
            }
        }
        if !changed.is_empty() {
            let lists = checksum_files::update(&mut self.builder, &changed)?;
            self.changed.extend(lists);
        }
        Ok(())
    }

    /// Updates the volume size in the descriptors and partition tables if the image has grown.
    fn update_sizes(&mut self) -> ViewResult<()> {
        if self.examined.udf && !self.changed.is_empty() {
            self.warnings.push(
                "the image has a UDF file system, which still shows the original files: \
                 only ISO 9660 and Joliet are changed"
                    .into(),
            );
        }
        if !self.builder.has_grown() {
            return Ok(());
        }
        let from = self.builder.base_length();
        let sectors = add_file::sector(self.builder.len())?;
        for descriptor in self.examined.volume.descriptors() {
            self.builder.write(descriptor.at + 80, &both32(sectors))?;
        }
        self.examined.hybrid.grow(&mut self.builder, from)
    }

    /// Removes or recomputes the implanted digest if the view changes the image.
    fn update_digest(&mut self, policy: DigestPolicy) -> ViewResult<()> {
        let Some(implanted) = self.examined.implanted.as_ref().filter(|_| !self.changed.is_empty()) else {
            return Ok(());
        };
        let descriptor = self.examined.volume.primary.at;
        let area = match (policy, implanted) {
            (DigestPolicy::Recompute, ImplantedDigest::IsoMd5Sum { supported, .. }) => {
                let mut size = [0; 4];
                self.builder.read_at(descriptor + 80, &mut size).map_err(ViewError::read("a volume descriptor"))?;
                let volume = u64::from(u32::from_le_bytes(size)) * SECTOR;
                ImplantedDigest::compute(&self.builder, descriptor, volume, *supported)?
            }
            (DigestPolicy::Remove, _) | (_, ImplantedDigest::TagMedia) => {
                let words = "the digest implanted in the image (isomd5sum) is removed, and rd.live.check with it";
                self.warnings.push(words.into());
                vec![b' '; isomd5::AREA.1]
            }
        };
        self.builder.write(descriptor + isomd5::AREA.0, &area)
    }
}

/// Returns the offsets of the directory records of a path, in all trees.
fn records_of_path(iso: &Iso<'_>, path: &str) -> ViewResult<Vec<u64>> {
    let mut records = Vec::new();
    for tree in &iso.trees {
        records.extend(tree.find(path)?.into_iter().flat_map(|entry| entry.records));
    }
    Ok(records)
}

/// Returns the offsets of the directory records whose content is an extent, in all trees.
fn records_of_extent(iso: &Iso<'_>, extent: Extent) -> ViewResult<Vec<u64>> {
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
