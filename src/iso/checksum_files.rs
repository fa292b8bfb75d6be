//! Checksum files of Debian and Ubuntu images (`/md5sum.txt`), which casper verifies at every boot. The lines
//! of changed files are updated in place.

use md5::{Digest, Md5};
use sha2::Sha256;

use super::error::ViewResult;
use super::extent::Extent;
use super::tree::EntryKind;
use super::{Iso, OverlayBuilder, ReadAt, ViewError};

/// Paths of checksum files, and the algorithm of each.
const LISTS: [(&str, ChecksumAlgorithm); 3] = [
    ("/md5sum.txt", ChecksumAlgorithm::Md5),
    ("/sha256sum.txt", ChecksumAlgorithm::Sha256),
    ("/SHA256SUMS", ChecksumAlgorithm::Sha256),
];
/// Maximum length of a file that is hashed, in bytes. Menus, configs and EFI partitions are shorter.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Number of bytes that are read at once.
const STEP: u64 = 1024 * 1024;

/// The algorithm of a checksum file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChecksumAlgorithm {
    Md5,
    Sha256,
}

/// Updates the checksum files for changed files, by their paths. Returns the paths of the updated checksum
/// files.
///
/// # Errors
/// Returns what is damaged in the image, or the error of reading it.
pub fn update(builder: &mut OverlayBuilder<'_>, changed: &[String]) -> ViewResult<Vec<String>> {
    let mut patches: Vec<(u64, String)> = Vec::new();
    let mut lists = Vec::new();
    {
        let iso = Iso::open(&*builder)?;
        for (list, sum) in LISTS {
            let Some(entry) = iso.find(list)?.filter(|entry| entry.kind == EntryKind::File) else { continue };
            let ([extent], Some(text)) = (&entry.extents[..], iso.read(list)?) else { continue };
            let before = patches.len();
            for path in changed {
                let Some(at) = line_offset(&text, path, sum) else { continue };
                let Some(extents) = iso.file_extents(path)? else { continue };
                let Some(digits) = digest(builder, &extents, sum)? else { continue };
                patches.push((extent.offset + at as u64, digits));
            }
            if patches.len() > before {
                lists.push(list.to_owned());
            }
        }
    }
    for (at, digits) in patches {
        builder.write(at, digits.as_bytes())?;
    }
    Ok(lists)
}

/// Returns the offset of a file's line (`0123...  ./boot/grub/grub.cfg`), which begins with the digits.
fn line_offset(text: &[u8], path: &str, sum: ChecksumAlgorithm) -> Option<usize> {
    let digits = match sum {
        ChecksumAlgorithm::Md5 => 32,
        ChecksumAlgorithm::Sha256 => 64,
    };
    let wanted = path.trim_start_matches('/').as_bytes();
    let mut at = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let (head, name) = line.split_at_checked(digits)?;
        let name = name.trim_ascii();
        let name = name.strip_prefix(b"*").unwrap_or(name);
        if name.strip_prefix(b"./").unwrap_or(name) == wanted && head.iter().all(u8::is_ascii_hexdigit) {
            return Some(at);
        }
        at += line.len();
    }
    None
}

/// Returns the checksum of a file in hexadecimal digits, or `None` if the file is longer than 64 MiB.
fn digest(image: &dyn ReadAt, extents: &[Extent], sum: ChecksumAlgorithm) -> ViewResult<Option<String>> {
    if extents.iter().map(|extent| extent.length).sum::<u64>() > MAX_FILE_BYTES {
        return Ok(None);
    }
    let (mut md5, mut sha256) = (Md5::new(), Sha256::new());
    let mut buffer = vec![0; STEP as usize];
    for extent in extents {
        for at in (0..extent.length).step_by(STEP as usize) {
            let part = &mut buffer[..STEP.min(extent.length - at) as usize];
            image
                .read_at(extent.offset + at, part)
                .map_err(ViewError::read("a changed file to compute its checksum"))?;
            match sum {
                ChecksumAlgorithm::Md5 => md5.update(&*part),
                ChecksumAlgorithm::Sha256 => sha256.update(&*part),
            }
        }
    }
    Ok(Some(match sum {
        ChecksumAlgorithm::Md5 => hex::encode(md5.finalize()),
        ChecksumAlgorithm::Sha256 => hex::encode(sha256.finalize()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_by_its_path() {
        let text = b"0123456789abcdef0123456789abcdef  ./a/b.cfg\n0123456789abcdef0123456789abcdef *c.cfg\n";
        assert_eq!(line_offset(text, "/a/b.cfg", ChecksumAlgorithm::Md5), Some(0));
        assert_eq!(line_offset(text, "/c.cfg", ChecksumAlgorithm::Md5), Some(44));
        assert_eq!(line_offset(text, "/b.cfg", ChecksumAlgorithm::Md5), None);
        assert_eq!(line_offset(b"short\n", "/b.cfg", ChecksumAlgorithm::Md5), None);
    }
}
