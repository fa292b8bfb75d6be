//! Inspection of an image: its trees, boot catalogue, boot menus, distribution and embed areas.

use std::collections::{HashMap, HashSet};

use super::coreos::CoreOs;
use super::descriptor::SECTOR;
use super::distribution::{self, Distribution};
use super::eltorito::{self, BootEntry, BootPlatform, Emulation};
use super::extent::Extent;
use super::fat::{FatFile, FatVolume};
use super::hybrid::Hybrid;
use super::isomd5::ImplantedDigest;
use super::limited_image::LimitedImage;
use super::menu::{self, Dialect, MenuEntry, MenuGap, MenuText, UnreadFiles};
use super::tree::{DirectoryEntry, EntryKind};
use super::volume::read_extents;
use super::{Iso, IsoError, ReadAt, VolumeDescriptorSet};
use crate::fleet::Firmwares;

/// Maximum length of a boot menu in bytes.
const MAX_MENU_BYTES: u64 = 256 * 1024;
/// Maximum number of boot menus.
const MAX_MENUS: usize = 256;
/// Maximum length of all boot menus, with the files that they may read, in bytes.
const MAX_ALL_MENUS_BYTES: usize = 2 * 1024 * 1024;
/// Maximum length of a file that a menu may read, in bytes.
const MAX_PART_BYTES: usize = 16 * 1024;
/// Maximum number of such files.
const MAX_PARTS: usize = 64;
/// Maximum length of all files that are read since they may be boot menus, in bytes.
const MAX_CANDIDATE_BYTES: u64 = 32 * 1024 * 1024;
/// Maximum number of bytes that are read of the EFI partitions' file systems.
const MAX_PARTITION_READS: u64 = 256 * 1024 * 1024;
/// Maximum length of the paths of EFI partitions that are kept for lookups, in bytes.
const MAX_LISTING_BYTES: usize = 4 * 1024 * 1024;
/// Maximum number of bytes that the lookups of the files of menus read. Real images have some kilobytes of directories.
const MAX_LOOKUP_BYTES: u64 = 64 * 1024 * 1024;

/// The result of inspecting an image. Views are composed from it.
#[derive(Debug, Clone)]
pub struct Examined {
    /// Length of the image in bytes, with the partitions of a hybrid image after the volume.
    pub length: u64,
    /// Length of the ISO 9660 volume in bytes.
    pub volume_length: u64,
    /// Volume id of the primary volume descriptor.
    pub volume_id: String,
    /// Whether a tree has Rock Ridge names.
    pub rock_ridge: bool,
    /// Whether the image has a Joliet tree.
    pub joliet: bool,
    /// Whether the image has a UDF file system as well (bridge image).
    pub udf: bool,
    /// Partition tables of a hybrid image.
    pub hybrid: Hybrid,
    /// El Torito entries in the order of the boot catalogue; empty if the image cannot be booted as a CD.
    pub boots: Vec<BootEntry>,
    /// File names of the programs in `EFI/BOOT` that UEFI firmware starts, in upper case; `None` if not all of the file
    /// systems of the UEFI entries could be read.
    pub uefi_programs: Option<Vec<String>>,
    /// Detected distribution.
    pub distribution: Distribution,
    /// Boot menus of the volume and of its EFI partitions.
    pub menus: Vec<BootMenu>,
    /// Whether the image has more files that may be boot menus than are read.
    pub has_more_menus: bool,
    /// Files that menus may read, with their content.
    pub(super) menu_parts: Vec<(String, Vec<u8>)>,
    /// Digest that is implanted in the image (isomd5sum).
    pub implanted: Option<ImplantedDigest>,
    /// Embed areas of a CoreOS live image.
    pub core_os: Option<CoreOs>,
    /// Volume descriptors.
    pub(super) volume: VolumeDescriptorSet,
    /// Offsets of the directory records of the Ignition file of CoreOS, in bytes.
    pub(super) ignition_records: Vec<u64>,
}

/// A boot menu of an image.
#[derive(Debug, Clone)]
pub struct BootMenu {
    /// Path of the menu. In an EFI partition it has the prefix `efi:`.
    pub path: String,
    /// Language of the menu.
    pub dialect: Dialect,
    /// Kernels that the menu boots.
    pub entries: Vec<MenuEntry>,
    /// Number of kernel lines, to which arguments can be added.
    pub kernel_lines: usize,
    /// What is not understood in it.
    pub gaps: Vec<MenuGap>,
    /// Location of the text.
    pub(super) location: MenuLocation,
}

/// The location of a menu's text, and of the records that point to it.
#[derive(Debug, Clone)]
pub(super) enum MenuLocation {
    /// A file of the ISO 9660 volume.
    IsoFile {
        /// Byte range of the content.
        extent: Extent,
        /// Offsets of the directory records of the file, in bytes.
        records: Vec<u64>,
    },
    /// A file in the FAT file system of an EFI partition.
    EfiFile {
        /// File system.
        fat: FatVolume,
        /// File in it.
        file: FatFile,
        /// Path of the file in the volume that holds the file system, if the volume has one.
        partition: Option<String>,
    },
}

impl Examined {
    /// Returns which firmware finds an entry that iPXE can boot. iPXE does not emulate a floppy disk.
    pub fn firmwares(&self) -> Firmwares {
        let has_entry = |platform| {
            self.boots
                .iter()
                .any(|entry| entry.bootable && entry.platform == platform && entry.emulation == Emulation::None)
        };
        Firmwares { bios: has_entry(BootPlatform::Bios), uefi: has_entry(BootPlatform::Uefi) }
    }

    /// Returns the entry whose kernel another boot loader can load in place of the menus: the default one, or else the
    /// first, that is no rescue system, upgrade or test. Returns `None` if it can load none.
    pub fn kernel(&self) -> Option<&MenuEntry> {
        let rank = |menu: &BootMenu, entry: &MenuEntry| {
            (menu::is_loopback(&menu.path), entry.is_side_entry(), !entry.is_default)
        };
        let entries =
            self.menus.iter().flat_map(|menu| menu.entries.iter().map(move |entry| (rank(menu, entry), entry)));
        let usable = entries.filter(|(_, entry)| entry.obstacle.is_none());
        usable.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
    }

    /// Returns the files that menus read and that are not read here.
    pub(super) fn unread_files(&self) -> UnreadFiles {
        UnreadFiles::of(self.menus.iter().flat_map(|menu| &menu.gaps))
    }

    /// Returns the number of places that get the kernel arguments of a view: kernel lines, and embed areas of CoreOS.
    pub fn kernel_lines(&self) -> usize {
        let areas = self.core_os.as_ref().map_or(0, |core_os| core_os.kargs.len());
        self.menus.iter().map(|menu| menu.kernel_lines).sum::<usize>() + areas
    }
}

/// Inspects an image: all of its trees, its boot catalogue and its boot menus.
///
/// # Errors
/// Returns why the file is not an ISO image, or what is damaged: a truncation, a loop, a pointer past the end.
pub fn examine(image: &dyn ReadAt) -> Result<Examined, IsoError> {
    let iso = Iso::open(image)?;
    let volume = iso.volume().clone();
    let boots = match volume.catalogue {
        Some(sector) => eltorito::read_catalogue(image, sector)?,
        None => Vec::new(),
    };
    let core_os = CoreOs::read(&iso)?;
    let FoundMenus { mut menus, mut texts, mut parts, has_more, .. } = volume_menus(&iso)?;
    let ignition = core_os.as_ref().and_then(|core_os| core_os.ignition);
    let records = records_by_extent(&iso, &menus, ignition)?;
    for menu in &mut menus {
        if let MenuLocation::IsoFile { extent, records: found } = &mut menu.location {
            *found = records.get(extent).cloned().unwrap_or_default();
        }
    }
    let (in_partitions, listing) = efi_menus(&iso, &boots)?;
    menus.extend(in_partitions.menus);
    texts.extend(in_partitions.texts);
    parts.extend(in_partitions.parts);
    read_entries(&iso, &mut menus, &texts, &parts, &listing);
    let uefi_programs = listing.boot_programs();
    Ok(Examined {
        length: image.len(),
        volume_length: u64::from(volume.primary.sectors) * SECTOR,
        volume_id: volume.primary.volume_id.clone(),
        rock_ridge: iso.rock_ridge(),
        joliet: volume.joliet().is_some(),
        udf: volume.udf,
        hybrid: Hybrid::read(image).map_err(IsoError::read("the system area"))?,
        boots,
        uefi_programs,
        distribution: distribution::detect(&iso, core_os.is_some())?,
        menus,
        has_more_menus: has_more || in_partitions.has_more,
        menu_parts: parts,
        implanted: ImplantedDigest::parse(&volume.primary.application_use),
        ignition_records: ignition.and_then(|area| records.get(&area).cloned()).unwrap_or_default(),
        core_os,
        volume,
    })
}

/// The boot menus of a volume while they are being found.
#[derive(Debug, Default)]
struct FoundMenus {
    menus: Vec<BootMenu>,
    /// Texts of the menus.
    texts: Vec<Vec<u8>>,
    /// Files that the menus may read.
    parts: Vec<(String, Vec<u8>)>,
    /// Length of all of them in bytes.
    length: usize,
    /// Files that were read, whether they are menus or not.
    seen: HashSet<Extent>,
    /// Length of these files in bytes.
    read: u64,
    /// Whether files were not read that may be menus.
    has_more: bool,
}

impl FoundMenus {
    /// Adds a file: a menu, or one that menus may read.
    fn add(&mut self, path: &str, text: Vec<u8>, menu: Option<BootMenu>) {
        let length = self.length + text.len();
        match menu {
            Some(menu) => {
                self.menus.push(menu);
                self.texts.push(text);
            }
            None if text.len() <= MAX_PART_BYTES && self.parts.len() < MAX_PARTS && length <= MAX_ALL_MENUS_BYTES => {
                self.parts.push((path.to_owned(), text));
            }
            None => return,
        }
        self.length = length;
    }
}

/// Finds the boot menus of a volume by reading every file that may be one.
fn volume_menus(iso: &Iso<'_>) -> Result<FoundMenus, IsoError> {
    let mut found = FoundMenus::default();
    iso.walk(&mut |path, entry| {
        entry.ensure_within(iso.image.len(), path)?;
        let (true, [extent]) = (may_be_menu(path, entry), &entry.extents[..]) else { return Ok(()) };
        if found.seen.contains(extent) {
            return Ok(());
        }
        let is_full = found.length + extent.length as usize > MAX_ALL_MENUS_BYTES
            || found.menus.len() >= MAX_MENUS
            || found.read + extent.length > MAX_CANDIDATE_BYTES;
        if is_full {
            found.has_more = true;
            return Ok(());
        }
        found.seen.insert(*extent);
        found.read += extent.length;
        let text = read_extents(iso.image, &entry.extents, path)?.unwrap_or_default();
        let location = MenuLocation::IsoFile { extent: *extent, records: Vec::new() };
        let menu = menu_of(path, &text, location);
        found.add(path, text, menu);
        Ok(())
    })?;
    Ok(found)
}

/// Reads the entries of all menus together, since menus read each other.
fn read_entries(
    iso: &Iso<'_>,
    menus: &mut [BootMenu],
    texts: &[Vec<u8>],
    parts: &[(String, Vec<u8>)],
    partitions: &PartitionFiles,
) {
    let readings = {
        let all = menu_texts(menus, texts, parts);
        let image = LimitedImage::new(iso.image, MAX_LOOKUP_BYTES);
        let limited = Iso::open(&image);
        menu::read_menus(&all, &|path: &str| {
            if let Some(path) = path.strip_prefix("efi:") {
                return partitions.has(path);
            }
            let found = limited.as_ref().map(|iso| matches!(iso.file_extents(path), Ok(Some(_))));
            found.ok().filter(|_| !image.is_exhausted())
        })
    };
    for (menu, reading) in menus.iter_mut().zip(readings) {
        (menu.entries, menu.kernel_lines, menu.gaps) = (reading.entries, reading.kernel_lines, reading.gaps);
    }
}

/// Returns menus with their texts, then the files that they may read.
pub(super) fn menu_texts<'a>(
    menus: &'a [BootMenu],
    texts: &'a [Vec<u8>],
    parts: &'a [(String, Vec<u8>)],
) -> Vec<MenuText<'a>> {
    let menus = menus.iter().zip(texts);
    let menus = menus.map(|(menu, text)| MenuText { path: &menu.path, dialect: Some(menu.dialect), raw: text });
    menus.chain(parts.iter().map(|(path, text)| MenuText { path, dialect: None, raw: text })).collect()
}

fn may_be_menu(path: &str, entry: &DirectoryEntry) -> bool {
    let lower = path.to_ascii_lowercase();
    let named = lower.ends_with(".cfg")
        || (lower.ends_with(".conf") && (lower.contains("/loader/") || lower.contains("linux")));
    entry.kind == EntryKind::File && named && (1..=MAX_MENU_BYTES).contains(&entry.length())
}

fn menu_of(path: &str, text: &[u8], location: MenuLocation) -> Option<BootMenu> {
    let dialect = menu::detect_dialect(path, text)?;
    Some(BootMenu { path: path.to_owned(), dialect, entries: Vec::new(), kernel_lines: 0, gaps: Vec::new(), location })
}

/// Returns the offsets of the directory records of the menus and of the Ignition file, by extent, in all trees.
fn records_by_extent(
    iso: &Iso<'_>,
    menus: &[BootMenu],
    ignition: Option<Extent>,
) -> Result<HashMap<Extent, Vec<u64>>, IsoError> {
    let extents = menus.iter().filter_map(|menu| match &menu.location {
        MenuLocation::IsoFile { extent, .. } => Some(*extent),
        MenuLocation::EfiFile { .. } => None,
    });
    let mut records: HashMap<Extent, Vec<u64>> = extents.chain(ignition).map(|extent| (extent, Vec::new())).collect();
    for tree in &iso.trees {
        tree.walk(&mut |path, entry| {
            entry.ensure_within(iso.image.len(), path)?;
            if let [extent] = entry.extents[..]
                && let Some(known) = records.get_mut(&extent)
            {
                known.extend(&entry.records);
            }
            Ok(())
        })?;
    }
    Ok(records)
}

/// Returns the path of the file that begins at an offset of the image.
fn path_at(iso: &Iso<'_>, offset: u64) -> Result<Option<String>, IsoError> {
    let mut found = None;
    iso.walk(&mut |path, entry| {
        if entry.kind == EntryKind::File
            && entry.extents.first().is_some_and(|extent| extent.offset == offset && extent.length > 0)
        {
            found = Some(path.to_owned());
        }
        Ok(())
    })?;
    Ok(found)
}

/// The paths of the files in EFI partitions.
#[derive(Debug, Default)]
struct PartitionFiles {
    /// Paths in lower case.
    paths: HashSet<String>,
    /// Length of the paths in bytes.
    length: usize,
    /// Whether there are files whose paths are not known.
    has_more: bool,
    /// Whether a partition is no file system that can be read here.
    has_unread_volume: bool,
}

impl PartitionFiles {
    fn add(&mut self, path: &str) {
        self.has_more |= self.length + path.len() > MAX_LISTING_BYTES;
        if !self.has_more {
            self.length += path.len();
            self.paths.insert(path.to_ascii_lowercase());
        }
    }

    /// Returns whether a partition has a file, or nothing if that is not known.
    fn has(&self, path: &str) -> Option<bool> {
        let is_listed = self.paths.contains(&path.to_ascii_lowercase());
        if is_listed { Some(true) } else { (!self.has_more).then_some(false) }
    }

    /// Returns the names of the programs that firmware starts from a medium, in upper case; `None` if that is not known.
    fn boot_programs(&self) -> Option<Vec<String>> {
        let programs = self.paths.iter().filter_map(|path| {
            let name = path.trim_start_matches('/').strip_prefix("efi/boot/boot")?;
            let architecture = name.strip_suffix(".efi").filter(|architecture| !architecture.contains('/'))?;
            Some(format!("BOOT{}.EFI", architecture.to_ascii_uppercase()))
        });
        let mut programs: Vec<String> = programs.collect();
        programs.sort_unstable();
        (!self.has_more && !self.has_unread_volume && !programs.is_empty()).then_some(programs)
    }
}

/// Finds the boot menus in the file systems that the UEFI entries of the boot catalogue point to, and lists the files
/// there. A file system that cannot be read is skipped: the firmware may still be able to read it.
fn efi_menus(iso: &Iso<'_>, boots: &[BootEntry]) -> Result<(FoundMenus, PartitionFiles), IsoError> {
    // Each file costs a read of its file system's allocation table.
    let limited = LimitedImage::new(iso.image, MAX_PARTITION_READS);
    let image: &dyn ReadAt = &limited;
    let (mut found, mut listing) = (FoundMenus::default(), PartitionFiles::default());
    let mut offsets: Vec<u64> =
        boots.iter().filter(|boot| boot.platform == BootPlatform::Uefi).map(|boot| boot.image.offset).collect();
    offsets.sort_unstable();
    offsets.dedup();
    for offset in offsets {
        let Ok(Some(fat)) = FatVolume::open(image, offset) else {
            listing.has_unread_volume = true;
            continue;
        };
        let Ok(files) = fat.files(image) else {
            listing.has_more = true;
            continue;
        };
        files.iter().for_each(|file| listing.add(&file.path));
        let partition = path_at(iso, offset)?;
        let is_config =
            |file: &&FatFile| file.path.to_ascii_lowercase().ends_with(".cfg") || file.path.ends_with(".conf");
        for file in files.iter().filter(is_config).filter(|file| u64::from(file.length) <= MAX_MENU_BYTES) {
            found.read += u64::from(file.length);
            if found.menus.len() >= MAX_MENUS || found.read > MAX_CANDIDATE_BYTES {
                found.has_more = true;
                break;
            }
            let Ok(text) = fat.read(image, file) else { continue };
            let path = format!("efi:{}", file.path);
            let location = MenuLocation::EfiFile { fat: fat.clone(), file: file.clone(), partition: partition.clone() };
            let menu = menu_of(&path, &text, location);
            if menu.is_some() && found.length + text.len() > MAX_ALL_MENUS_BYTES {
                found.has_more = true;
                continue;
            }
            found.add(&path, text, menu);
        }
    }
    (found.has_more, listing.has_more) =
        (found.has_more || limited.is_exhausted(), listing.has_more || limited.is_exhausted());
    Ok((found, listing))
}
