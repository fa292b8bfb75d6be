//! The lists of checksums that Debian and Ubuntu put in their images (`/md5sum.txt`), which casper checks
//! at every boot: the lines of files that changed are kept right, digit by digit.

use md5::{Digest, Md5};
use sha2::Sha256;

use crate::fleet::hex;

use super::descriptor::Extent;
use super::tree::Kind;
use super::{CannotCompose, Draft, Iso, ReadAt};

const LISTS: [(&str, Sum); 3] =
    [("/md5sum.txt", Sum::Md5), ("/sha256sum.txt", Sum::Sha256), ("/SHA256SUMS", Sum::Sha256)];
/// Bounds the files that are summed anew: menus, configs and EFI partitions are all shorter.
const FILE_MAX: u64 = 64 * 1024 * 1024;
const STEP: u64 = 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sum {
    Md5,
    Sha256,
}

/// Corrects the lists for files that changed; gives the paths of the lists.
///
/// # Errors
/// What the medium says, and what of the image is damaged.
pub fn correct(draft: &mut Draft<'_>, changed: &[String]) -> Result<Vec<String>, CannotCompose> {
    let mut patches: Vec<(u64, String)> = Vec::new();
    let mut lists = Vec::new();
    {
        let iso = Iso::open(&*draft)?;
        for (list, sum) in LISTS {
            let Some(entry) = iso.find(list)?.filter(|entry| entry.kind == Kind::File) else { continue };
            let ([extent], Some(text)) = (&entry.extents[..], iso.read(list)?) else { continue };
            let before = patches.len();
            for path in changed {
                let Some(at) = line(&text, path, sum) else { continue };
                let Some(extents) = iso.file(path)? else { continue };
                let Some(digits) = digest(draft, &extents, sum)? else { continue };
                patches.push((extent.offset + at as u64, digits));
            }
            if patches.len() > before {
                lists.push(list.to_owned());
            }
        }
    }
    for (at, digits) in patches {
        draft.write(at, digits.as_bytes())?;
    }
    Ok(lists)
}

/// Finds where the digits of a file's line begin (`0123...  ./boot/grub/grub.cfg`).
fn line(text: &[u8], path: &str, sum: Sum) -> Option<usize> {
    let digits = match sum {
        Sum::Md5 => 32,
        Sum::Sha256 => 64,
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

fn digest(image: &dyn ReadAt, extents: &[Extent], sum: Sum) -> Result<Option<String>, CannotCompose> {
    if extents.iter().map(|extent| extent.length).sum::<u64>() > FILE_MAX {
        return Ok(None);
    }
    let (mut md5, mut sha256) = (Md5::new(), Sha256::new());
    let mut buffer = vec![0; STEP as usize];
    for extent in extents {
        for at in (0..extent.length).step_by(STEP as usize) {
            let part = &mut buffer[..STEP.min(extent.length - at) as usize];
            image.read_at(extent.offset + at, part).map_err(CannotCompose::read("a changed file, for its checksum"))?;
            match sum {
                Sum::Md5 => md5.update(&*part),
                Sum::Sha256 => sha256.update(&*part),
            }
        }
    }
    Ok(Some(match sum {
        Sum::Md5 => hex(&md5.finalize()),
        Sum::Sha256 => hex(&sha256.finalize()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_by_its_path() {
        let text = b"0123456789abcdef0123456789abcdef  ./a/b.cfg\n0123456789abcdef0123456789abcdef *c.cfg\n";
        assert_eq!(line(text, "/a/b.cfg", Sum::Md5), Some(0));
        assert_eq!(line(text, "/c.cfg", Sum::Md5), Some(44));
        assert_eq!(line(text, "/b.cfg", Sum::Md5), None);
        assert_eq!(line(b"short\n", "/b.cfg", Sum::Md5), None);
    }
}
