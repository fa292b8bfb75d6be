//! The digest that isomd5sum implants in the application use area of the primary volume descriptor.
//! Installers of the Fedora and Red Hat families verify it ("Test this media").

use md5::{Digest, Md5};

use super::descriptor::SECTOR;
use super::error::ViewResult;
use super::{ReadAt, ViewError};

/// Offset and length, in bytes, of the application use area in a volume descriptor (ECMA-119 8.4.32).
pub const AREA: (u64, usize) = (883, 512);
/// Number of bytes that implantisomd5 reads at once. The fragment sums depend on it.
const STEP: u64 = 16 * SECTOR;
/// Number of fragment sums.
const FRAGMENTS: u64 = 20;
/// Number of sectors at the end of the volume that are not part of the digest.
const SKIP: u64 = 15;

/// The digest in an application use area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImplantedDigest {
    /// A digest of isomd5sum.
    IsoMd5Sum {
        /// MD5 of all but the area and the last sectors, in hexadecimal digits.
        md5: String,
        /// Whether the vendor supports the image (`RHLISOSTATUS`).
        supported: bool,
    },
    /// A digest of tagmedia, which openSUSE uses. It can only be removed.
    TagMedia,
}

impl ImplantedDigest {
    /// Parses an area. Returns `None` if it holds no digest.
    pub fn parse(area: &[u8]) -> Option<Self> {
        let text: String = area.iter().map(|byte| char::from(*byte)).collect();
        let Some((_, rest)) = text.split_once("ISO MD5SUM = ") else {
            let tagged = ["md5sum=", "sha1sum=", "sha224sum=", "sha256sum=", "sha384sum=", "sha512sum="];
            return tagged.iter().any(|tag| text.contains(tag)).then_some(Self::TagMedia);
        };
        let md5 = rest.get(..32).filter(|md5| md5.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        Some(Self::IsoMd5Sum { md5: md5.to_owned(), supported: text.contains("RHLISOSTATUS=1") })
    }

    /// Computes the area of an image as implantisomd5 writes it. Reads the whole volume, which takes seconds
    /// per GiB. `descriptor_at` is the offset of the primary volume descriptor and `volume` the length of the
    /// volume, in bytes.
    ///
    /// # Errors
    /// Returns the error of reading the image.
    pub fn compute(image: &dyn ReadAt, descriptor_at: u64, volume: u64, supported: bool) -> ViewResult<Vec<u8>> {
        let total = volume.saturating_sub(SKIP * SECTOR);
        let fragment = (total / (FRAGMENTS + 1)).max(1);
        let area_at = descriptor_at + AREA.0;
        let (mut hash, mut fragments, mut previous) = (Md5::new(), String::new(), 0);
        let mut buffer = vec![0; STEP as usize];
        for offset in (0..total).step_by(STEP as usize) {
            let part = &mut buffer[..STEP.min(total - offset) as usize];
            image.read_at(offset, part).map_err(ViewError::read("the image to compute its digest"))?;
            blank(part, offset, area_at);
            hash.update(&*part);
            if offset / fragment != previous {
                previous = offset / fragment;
                // implantisomd5 keeps the first digit of each of three bytes, printed with "%x".
                let sum = hash.clone().finalize();
                fragments.extend(sum.iter().take(3).filter_map(|byte| format!("{byte:x}").chars().next()));
            }
        }
        let (sum, status) = (hex::encode(hash.finalize()), u8::from(supported));
        let text = format!(
            "ISO MD5SUM = {sum};SKIPSECTORS = {SKIP};RHLISOSTATUS={status};FRAGMENT SUMS = {fragments};\
             FRAGMENT COUNT = {FRAGMENTS};THIS IS NOT THE SAME AS RUNNING MD5SUM ON THIS ISO!!"
        );
        let mut area = text.into_bytes();
        area.resize(AREA.1, b' ');
        Ok(area)
    }
}

/// Blanks the part of the area in a part of the image: the digest does not cover itself.
fn blank(part: &mut [u8], offset: u64, area_at: u64) {
    let from = area_at.saturating_sub(offset).min(part.len() as u64) as usize;
    let to = (area_at + AREA.1 as u64).saturating_sub(offset).min(part.len() as u64) as usize;
    part[from..to].fill(b' ');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iso::MemoryImage;

    #[test]
    fn a_computed_area_reads_back_and_does_not_cover_itself() {
        let (descriptor_at, volume) = (16 * SECTOR, 400 * SECTOR);
        let area = (descriptor_at + AREA.0) as usize..(descriptor_at + AREA.0) as usize + AREA.1;
        let mut bytes: Vec<u8> = (0..volume).map(|at| (at / 7) as u8).collect();
        bytes[area.clone()].fill(b' ');
        let md5 = hex::encode(Md5::digest(&bytes[..(volume - SKIP * SECTOR) as usize]));
        for supported in [false, true] {
            bytes[area.clone()].fill(0xa5);
            let image = MemoryImage(bytes.clone().into());
            let written = ImplantedDigest::compute(&image, descriptor_at, volume, supported).unwrap();
            assert_eq!(written.len(), AREA.1);
            let expected = ImplantedDigest::IsoMd5Sum { md5: md5.clone(), supported };
            assert_eq!(ImplantedDigest::parse(&written), Some(expected));
            bytes[area.clone()].copy_from_slice(&written);
            let image = MemoryImage(bytes.clone().into());
            assert_eq!(ImplantedDigest::compute(&image, descriptor_at, volume, supported).unwrap(), written);
        }
    }

    #[test]
    fn other_areas_hold_no_digest_or_tagmedias() {
        let tagged = Some(ImplantedDigest::TagMedia);
        for (text, expected) in [
            ("", None),
            ("ISO MD5SUM = 0123", None),
            ("ISO MD5SUM = zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz;", None),
            ("sha256sum=0123", tagged),
        ] {
            assert_eq!(ImplantedDigest::parse(text.as_bytes()), expected, "{text}");
        }
    }
}
