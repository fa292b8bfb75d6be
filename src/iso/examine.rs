use std::collections::HashMap;

use super::coreos::CoreOs;
use super::descriptor::{Extent, SECTOR};
use super::distribution::{self, Distribution};
use super::eltorito::{self, BootEntry, Emulation, Platform};
use super::fat::{Fat, FatFile};
use super::hybrid::Hybrid;
use super::implanted::Implanted;
use super::menu::{self, Dialect, MenuEntry};
use super::tree::{Entry, Kind};
use super::volume::read_extents;
use super::{Iso, NotAnIso, ReadAt, Volume};
use crate::fleet::Firmwares;

const MENU_MAX: u64 = 256 * 1024;
const MENUS_MAX: usize = 256;

/// Is what an ISO is, told once; views of it are composed from this.
#[derive(Debug, Clone)]
pub struct Examined {
    /// Is the image's length in bytes, hybrid parts behind the volume included.
    pub length: u64,
    /// Is the ISO 9660 volume's length in bytes.
    pub volume_length: u64,
    pub volume_id: String,
    pub rock_ridge: bool,
    pub joliet: bool,
    pub udf: bool,
    pub hybrid: Hybrid,
    /// Holds the El Torito entries in the catalogue's order; none where the ISO cannot be booted as a CD.
    pub boots: Vec<BootEntry>,
    pub distribution: Distribution,
    /// Holds the boot menus with what they boot, of the volume and of the EFI partitions in it.
    pub menus: Vec<Menu>,
    /// Is the digest that the image carries about itself (isomd5sum).
    pub implanted: Option<Implanted>,
    pub core_os: Option<CoreOs>,
    pub(super) volume: Volume,
    /// Is where the records of CoreOS's Ignition file lie.
    pub(super) ignition_records: Vec<u64>,
}

/// Is a boot menu of an image.
#[derive(Debug, Clone)]
pub struct Menu {
    /// Is its path; one in an EFI partition has `efi:` before it.
    pub path: String,
    pub dialect: Dialect,
    pub entries: Vec<MenuEntry>,
    pub(super) home: Home,
}

/// Says where a menu's text lies, and what names it.
#[derive(Debug, Clone)]
pub(super) enum Home {
    Volume {
        extent: Extent,
        records: Vec<u64>,
    },
    Efi {
        fat: Fat,
        file: FatFile,
        /// Is the path of the file that holds the file system, where the volume names it.
        partition: Option<String>,
    },
}

impl Examined {
    /// Says which firmware finds something in the catalogue that iPXE can boot: it emulates no floppy disk.
    pub fn firmwares(&self) -> Firmwares {
        let finds = |platform| {
            self.boots
                .iter()
                .any(|entry| entry.bootable && entry.platform == platform && entry.emulation == Emulation::None)
        };
        Firmwares { bios: finds(Platform::Bios), uefi: finds(Platform::Uefi) }
    }

    /// Gives every kernel that its menus boot, with initrds and arguments; each once.
    pub fn kernels(&self) -> Vec<&MenuEntry> {
        let mut found: Vec<&MenuEntry> = Vec::new();
        for entry in self.menus.iter().flat_map(|menu| &menu.entries) {
            let same = |other: &&MenuEntry| (&other.kernel, &other.arguments) == (&entry.kernel, &entry.arguments);
            if !found.iter().any(same) {
                found.push(entry);
            }
        }
        found
    }
}

/// Reads what an ISO is: all of its trees, its boot catalogue and its boot menus.
///
/// # Errors
/// Says why it is no ISO image, or what of it is damaged: truncated, looping, past the end.
pub fn examine(image: &dyn ReadAt) -> Result<Examined, NotAnIso> {
    let iso = Iso::open(image)?;
    let volume = iso.volume().clone();
    let boots = match volume.catalogue {
        Some(sector) => eltorito::catalogue(image, sector)?,
        None => Vec::new(),
    };
    let core_os = CoreOs::read(&iso)?;
    let mut menus = volume_menus(&iso)?;
    let ignition = core_os.as_ref().and_then(|core_os| core_os.ignition);
    let records = records_of(&iso, &menus, ignition)?;
    for menu in &mut menus {
        if let Home::Volume { extent, records: home } = &mut menu.home {
            *home = records.get(extent).cloned().unwrap_or_default();
        }
    }
    menus.extend(efi_menus(&iso, &boots)?);
    Ok(Examined {
        length: image.len(),
        volume_length: u64::from(volume.primary.sectors) * SECTOR,
        volume_id: volume.primary.volume_id.clone(),
        rock_ridge: iso.rock_ridge(),
        joliet: volume.joliet().is_some(),
        udf: volume.udf,
        hybrid: Hybrid::read(image).map_err(NotAnIso::read("the system area"))?,
        boots,
        distribution: distribution::recognise(&iso, core_os.is_some())?,
        menus,
        implanted: Implanted::parse(&volume.primary.application_use),
        ignition_records: ignition.and_then(|area| records.get(&area).cloned()).unwrap_or_default(),
        core_os,
        volume,
    })
}

/// Finds the boot menus of a volume by reading whatever might be one.
fn volume_menus(iso: &Iso<'_>) -> Result<Vec<Menu>, NotAnIso> {
    let mut menus: Vec<Menu> = Vec::new();
    iso.walk(&mut |path, entry| {
        entry.within(iso.image.len(), path)?;
        let known = |extent: &Extent| {
            menus.iter().any(|menu| matches!(&menu.home, Home::Volume { extent: known, .. } if known == extent))
        };
        let (true, [extent]) = (might_be_a_menu(path, entry), &entry.extents[..]) else { return Ok(()) };
        if menus.len() >= MENUS_MAX || known(extent) {
            return Ok(());
        }
        let text = read_extents(iso.image, &entry.extents, path)?.unwrap_or_default();
        let home = Home::Volume { extent: *extent, records: Vec::new() };
        menus.extend(menu_of(path.to_owned(), &text, home));
        Ok(())
    })?;
    Ok(menus)
}

fn might_be_a_menu(path: &str, entry: &Entry) -> bool {
    let lower = path.to_ascii_lowercase();
    let named = lower.ends_with(".cfg")
        || (lower.ends_with(".conf") && (lower.contains("/loader/") || lower.contains("linux")));
    entry.kind == Kind::File && named && (1..=MENU_MAX).contains(&entry.length())
}

fn menu_of(path: String, text: &[u8], home: Home) -> Option<Menu> {
    let dialect = menu::dialect(&path, text)?;
    Some(Menu { entries: menu::entries(dialect, text), path, dialect, home })
}

/// Gathers, from all trees, where the directory records of some extents lie.
fn records_of(iso: &Iso<'_>, menus: &[Menu], ignition: Option<Extent>) -> Result<HashMap<Extent, Vec<u64>>, NotAnIso> {
    let homes = menus.iter().filter_map(|menu| match &menu.home {
        Home::Volume { extent, .. } => Some(*extent),
        Home::Efi { .. } => None,
    });
    let mut records: HashMap<Extent, Vec<u64>> = homes.chain(ignition).map(|extent| (extent, Vec::new())).collect();
    for tree in &iso.trees {
        tree.walk(&mut |path, entry| {
            entry.within(iso.image.len(), path)?;
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

/// Finds the path of the file that begins at a place of the image.
fn path_at(iso: &Iso<'_>, place: u64) -> Result<Option<String>, NotAnIso> {
    let mut found = None;
    iso.walk(&mut |path, entry| {
        if entry.kind == Kind::File
            && entry.extents.first().is_some_and(|extent| extent.offset == place && extent.length > 0)
        {
            found = Some(path.to_owned());
        }
        Ok(())
    })?;
    Ok(found)
}

/// Finds the boot menus in the file systems that the catalogue's UEFI entries point to. One that
/// cannot be read is left alone: the firmware may still like it.
fn efi_menus(iso: &Iso<'_>, boots: &[BootEntry]) -> Result<Vec<Menu>, NotAnIso> {
    let image = iso.image;
    let mut menus = Vec::new();
    let mut places: Vec<u64> =
        boots.iter().filter(|boot| boot.platform == Platform::Uefi).map(|boot| boot.image.offset).collect();
    places.dedup();
    for place in places {
        let Ok(Some(fat)) = Fat::open(image, place) else { continue };
        let Ok(files) = fat.files(image) else { continue };
        let partition = path_at(iso, place)?;
        let cfg = |file: &&FatFile| file.path.to_ascii_lowercase().ends_with(".cfg") || file.path.ends_with(".conf");
        for file in files.iter().filter(cfg).filter(|file| u64::from(file.length) <= MENU_MAX) {
            let Ok(text) = fat.read(image, file) else { continue };
            let home = Home::Efi { fat: fat.clone(), file: file.clone(), partition: partition.clone() };
            menus.extend(menu_of(format!("efi:{}", file.path), &text, home));
        }
    }
    menus.truncate(MENUS_MAX);
    Ok(menus)
}
