//! The digest that an image may carry about itself: isomd5sum's, in the primary volume descriptor's
//! application use area. Installers of the Fedora and Red Hat family check it ("Test this media").

use md5::{Digest, Md5};

use crate::fleet::hex;

use super::{CannotCompose, ReadAt};

/// Is where the area lies in a volume descriptor, and its length.
pub const AREA: (u64, usize) = (883, 512);
const SECTOR: u64 = 2048;
/// Is how much implantisomd5 reads at once: the fragments' sums depend on it.
const STEP: u64 = 16 * SECTOR;
const FRAGMENTS: u64 = 20;
const SKIP: u64 = 15;

/// Is what an area says of its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Implanted {
    /// isomd5sum's: an MD5 sum in hexadecimal digits, of all but the area and the last sectors, and
    /// whether the image's makers support it (RHLISOSTATUS).
    IsoMd5Sum { md5: String, supported: bool },
    /// tagmedia's, which openSUSE uses; it can only be taken off.
    TagMedia,
}

impl Implanted {
    /// Reads an area; nothing where it holds no digest.
    pub fn parse(area: &[u8]) -> Option<Self> {
        let text: String = area.iter().map(|byte| char::from(*byte)).collect();
        let Some((_, rest)) = text.split_once("ISO MD5SUM = ") else {
            let tagged = ["md5sum=", "sha1sum=", "sha224sum=", "sha256sum=", "sha384sum=", "sha512sum="];
            return tagged.iter().any(|tag| text.contains(tag)).then_some(Self::TagMedia);
        };
        let md5 = rest.get(..32).filter(|md5| md5.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        Some(Self::IsoMd5Sum { md5: md5.to_owned(), supported: text.contains("RHLISOSTATUS=1") })
    }

    /// Computes the area anew for an image whose volume has a length, as implantisomd5 writes it.
    /// Reads the whole volume: seconds for each GiB.
    ///
    /// # Errors
    /// What the medium says.
    pub fn compute(
        image: &dyn ReadAt,
        descriptor_at: u64,
        volume: u64,
        supported: bool,
    ) -> Result<Vec<u8>, CannotCompose> {
        let total = volume.saturating_sub(SKIP * SECTOR);
        let fragment = (total / (FRAGMENTS + 1)).max(1);
        let area_at = descriptor_at + AREA.0;
        let (mut hash, mut fragments, mut previous) = (Md5::new(), String::new(), 0);
        let mut buffer = vec![0; STEP as usize];
        for offset in (0..total).step_by(STEP as usize) {
            let part = &mut buffer[..STEP.min(total - offset) as usize];
            image.read_at(offset, part).map_err(CannotCompose::read("the image, for its digest"))?;
            blank(part, offset, area_at);
            hash.update(&*part);
            if offset / fragment != previous {
                previous = offset / fragment;
                // The first hexadecimal digit, as "%x" prints it, of each of three bytes.
                let sum = hash.clone().finalize();
                fragments.extend(sum.iter().take(3).filter_map(|byte| format!("{byte:x}").chars().next()));
            }
        }
        let (sum, status) = (hex(&hash.finalize()), u8::from(supported));
        let text = format!(
            "ISO MD5SUM = {sum};SKIPSECTORS = {SKIP};RHLISOSTATUS={status};FRAGMENT SUMS = {fragments};\
             FRAGMENT COUNT = {FRAGMENTS};THIS IS NOT THE SAME AS RUNNING MD5SUM ON THIS ISO!!"
        );
        let mut area = text.into_bytes();
        area.resize(AREA.1, b' ');
        Ok(area)
    }
}

/// Blanks what of the area lies in a part of the image: it cannot sum itself.
fn blank(part: &mut [u8], offset: u64, area_at: u64) {
    let from = area_at.saturating_sub(offset).min(part.len() as u64) as usize;
    let to = (area_at + AREA.1 as u64).saturating_sub(offset).min(part.len() as u64) as usize;
    part[from..to].fill(b' ');
}
