use std::path::Path;

use anyhow::{Context, anyhow};

/// Reads a key: 32 octets, or 64 hexadecimal digits.
///
/// # Errors
/// A file that cannot be read, or holds something else.
pub fn read(path: &Path) -> anyhow::Result<[u8; 32]> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    if let Ok(key) = bytes.as_slice().try_into() {
        return Ok(key);
    }
    let text = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
    let pairs: Vec<u8> = text
        .as_bytes()
        .chunks_exact(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let key = (text.len() == 64).then_some(pairs).and_then(|pairs| pairs.try_into().ok());
    key.ok_or_else(|| anyhow!("{}: a key is 32 octets, or 64 hexadecimal digits", path.display()))
}
