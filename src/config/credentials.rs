//! Files with secrets: a path, or the name of a credential that systemd hands to the service (`LoadCredential=`).

use std::path::{Path, PathBuf};

use crate::fleet::Secret;

/// Directory of the credentials of the unit, where no service manager names another one (systemd.exec(5)).
const DEFAULT_DIRECTORY: &str = "/run/credentials/bootlatch.service";
/// Maximum size of a file with one secret, in bytes.
const MAX_SECRET_BYTES: usize = 1024;

/// Returns the path of a file with a secret. A name without a directory is that of a credential.
pub(super) fn path(named: PathBuf) -> PathBuf {
    if !is_name(&named) {
        return named;
    }
    directory().unwrap_or_else(|| DEFAULT_DIRECTORY.into()).join(named)
}

/// Returns whether a file is named as a credential, and no service manager has handed over any.
pub(super) fn is_elsewhere(named: &Path) -> bool {
    is_name(named) && directory().is_none()
}

/// Reads a secret: the first line of a file.
pub(super) fn read(named: &Path) -> Result<Secret, String> {
    use std::io::Read;
    let path = path(named.to_owned());
    let mut text = String::new();
    let read =
        std::fs::File::open(&path).and_then(|file| file.take(MAX_SECRET_BYTES as u64 + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(format!("{}: {error}", path.display())),
        Ok(size) if size > MAX_SECRET_BYTES => Err(format!("{}: more than {MAX_SECRET_BYTES} octets", path.display())),
        Ok(_) => Ok(Secret(text.lines().next().unwrap_or_default().to_owned())),
    }
}

fn is_name(path: &Path) -> bool {
    !path.as_os_str().as_encoded_bytes().contains(&b'/')
}

fn directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_directory_is_a_credential() {
        let rows = [
            ("/etc/bootlatch/state.key", "/etc/bootlatch/state.key"),
            ("./state.key", "./state.key"),
            ("state.key", "/run/credentials/bootlatch.service/state.key"),
        ];
        for (named, expected) in rows {
            assert_eq!(path(named.into()), Path::new(expected));
        }
    }

    #[test]
    fn a_secret_is_the_first_line_of_a_bounded_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        let written = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read(&file).map(|secret| secret.0)
        };
        assert_eq!(written("twelve-octets\n"), Ok("twelve-octets".to_owned()));
        assert!(written(&"x".repeat(MAX_SECRET_BYTES + 1)).unwrap_err().contains("more than 1024"));
        std::fs::remove_file(&file).unwrap();
        assert!(read(&file).unwrap_err().contains("No such file"));
    }
}
