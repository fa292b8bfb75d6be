//! A small image, damaged as the fuzzer's bytes say: each piece of damage is an offset and some bytes.
//! The first byte picks the image; 0xff takes the rest of the bytes as the image itself.

use bootlatch::iso::{Draft, Memory};

static IMAGES: [&[u8]; 2] = [include_bytes!("../seeds/small.iso"), include_bytes!("../seeds/small-udf.iso")];

pub fn image(data: &[u8]) -> Memory {
    match data {
        [0xff, rest @ ..] => Memory::from(rest.to_vec()),
        [which, ..] => Memory::from(IMAGES[usize::from(*which) % IMAGES.len()].to_vec()),
        [] => Memory::from(Vec::new()),
    }
}

/// Damages the image; gives what is left of the bytes.
pub fn damage<'a>(draft: &mut Draft<'_>, data: &'a [u8]) -> &'a [u8] {
    let mut rest = data.get(1..).unwrap_or_default();
    if data.first() == Some(&0xff) {
        return &[];
    }
    while let [length @ 1..=16, a, b, c, tail @ ..] = rest {
        let Some((bytes, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
        // What lies past the end is not written, and need not be.
        let _ = draft.write(u64::from(u32::from_be_bytes([0, *a, *b, *c])), bytes);
        rest = tail;
    }
    rest
}
