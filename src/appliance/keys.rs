use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, anyhow};
use ring::rand::{SecureRandom, SystemRandom};

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

/// Reads a key of our own, making it (file mode 0600) at the first start.
///
/// # Errors
/// A file that can be neither read nor made.
pub fn read_or_make(path: &Path) -> anyhow::Result<[u8; 32]> {
    if path.exists() {
        return read(path);
    }
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).map_err(|_| anyhow!("the system has no random numbers"))?;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| path.display().to_string())?;
    file.write_all(&key)?;
    file.sync_all()?;
    Ok(key)
}
