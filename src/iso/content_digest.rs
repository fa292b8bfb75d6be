//! The SHA-256 of any content that is read in parts.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Size of a part, in bytes.
const PART: u64 = 1 << 20;

/// Returns the SHA-256 of a content of `size` bytes, in hexadecimal.
///
/// # Errors
/// The first error of `read`.
pub fn sha256(size: u64, mut read: impl FnMut(Range<u64>) -> io::Result<Bytes>) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut at = 0;
    while at < size {
        let end = size.min(at.saturating_add(PART));
        digest.update(read(at..end)?);
        at = end;
    }
    Ok(hex::encode(digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_one_content() {
        for size in [0, 1, PART, PART + 1, 2 * PART + 7] {
            let whole: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let got = sha256(size, |part| Ok(whole[part.start as usize..part.end as usize].to_vec().into())).unwrap();
            assert_eq!(got, hex::encode(Sha256::digest(&whole)), "{size}");
        }
        assert!(sha256(1, |_| Err(io::ErrorKind::UnexpectedEof.into())).is_err());
    }
}
