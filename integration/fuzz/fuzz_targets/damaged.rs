//! A small image with damage from the fuzzer's bytes: each piece of damage is an offset and some bytes.
//! The first byte selects the image; 0xff uses the rest of the bytes as the image.

use bootlatch::iso::{MemoryImage, OverlayBuilder};

static IMAGES: [&[u8]; 2] = [include_bytes!("../seeds/small.iso"), include_bytes!("../seeds/small-udf.iso")];

pub fn image(data: &[u8]) -> MemoryImage {
    match data {
        [0xff, rest @ ..] => MemoryImage::from(rest.to_vec()),
        [which, ..] => MemoryImage::from(IMAGES[usize::from(*which) % IMAGES.len()].to_vec()),
        [] => MemoryImage::from(Vec::new()),
    }
}

/// Damages the image; returns the rest of the bytes.
pub fn damage<'a>(draft: &mut OverlayBuilder<'_>, data: &'a [u8]) -> &'a [u8] {
    let mut rest = data.get(1..).unwrap_or_default();
    if data.first() == Some(&0xff) {
        return &[];
    }
    while let [length @ 1..=16, a, b, c, tail @ ..] = rest {
        let Some((bytes, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
        // Bytes past the end are not written.
        let _ = draft.write(u64::from(u32::from_be_bytes([0, *a, *b, *c])), bytes);
        rest = tail;
    }
    rest
}
