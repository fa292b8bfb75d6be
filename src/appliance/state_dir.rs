//! The state directory: its creation, its lock, and the key of its encryption.

use std::path::Path;

use anyhow::{Context, anyhow};

/// Creates a directory with mode 0750 if it does not exist.
///
/// # Errors
/// The file system refuses.
pub fn create_directory(path: &Path, key: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(path);
    created.with_context(|| format!("{key}: cannot create {}", path.display()))
}

/// Locks the state directory against a second process. The lock lasts as long as the returned value.
///
/// # Errors
/// Another process holds the lock, or the lock file cannot be created.
pub fn lock(state_dir: &Path) -> anyhow::Result<nix::fcntl::Flock<std::fs::File>> {
    let path = state_dir.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("state_dir: {}", path.display()))?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|(_, _)| anyhow!("state_dir: another bootlatch process uses {}", state_dir.display()))
}

/// Reads the encryption key: 32 octets, or 64 hexadecimal digits.
///
/// # Errors
/// The file cannot be read or has other content.
pub fn read_encryption_key(path: &Path) -> anyhow::Result<[u8; 32]> {
    let bytes = std::fs::read(path).with_context(|| format!("store.encryption_key_file: {}", path.display()))?;
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
    key.ok_or_else(|| {
        anyhow!("store.encryption_key_file: {}: expected 32 octets or 64 hexadecimal digits", path.display())
    })
}
