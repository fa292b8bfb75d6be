use super::descriptor::{SECTOR, Volume};
use super::eltorito::{self, BootEntry, Platform};
use super::{NotAnIso, ReadAt};
use crate::fleet::Firmwares;

/// Is what an ISO says of itself.
#[derive(Debug, Clone)]
pub struct Examined {
    /// Is the image's length in bytes, hybrid parts behind the volume included.
    pub length: u64,
    /// Is the ISO 9660 volume's length in bytes.
    pub volume_length: u64,
    pub volume_id: String,
    pub joliet: bool,
    pub udf: bool,
    /// Holds the El Torito entries in the catalogue's order; none where the ISO cannot be booted as a CD.
    pub boots: Vec<BootEntry>,
}

impl Examined {
    /// Says which firmware finds something bootable in the catalogue.
    pub fn firmwares(&self) -> Firmwares {
        let finds = |platform| self.boots.iter().any(|entry| entry.bootable && entry.platform == platform);
        Firmwares { bios: finds(Platform::Bios), uefi: finds(Platform::Uefi) }
    }
}

/// Reads what an ISO says of itself.
///
/// # Errors
/// Says why it is no ISO image, or what of it is damaged.
pub fn examine(image: &dyn ReadAt) -> Result<Examined, NotAnIso> {
    let volume = Volume::read(image)?;
    let boots = match volume.catalogue {
        Some(sector) => eltorito::catalogue(image, sector)?,
        None => Vec::new(),
    };
    Ok(Examined {
        length: image.len(),
        volume_length: u64::from(volume.primary.sectors) * SECTOR,
        volume_id: volume.primary.volume_id.clone(),
        joliet: volume.joliet().is_some(),
        udf: volume.udf,
        boots,
    })
}
