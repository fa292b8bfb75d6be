//! The serial consoles of machines as they were captured: a file a boot, of the present boot and of the one before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::fleet::Mac;

/// Maximum length of the console of one boot, in octets. What is beyond is not kept.
pub const MAX_CONSOLE: u64 = 1 << 20;
/// The files of a machine: of the present boot, and of the one before.
const EXTENSIONS: [&str; 2] = ["log", "previous"];
/// The last line of a console that is longer.
const CUT: &[u8] = b"\n[bootlatch: the console of this boot is longer than 1 MiB; the rest is not kept]\n";

/// The files of the consoles.
#[derive(Debug, Default)]
pub struct ConsoleLogs(OnceLock<PathBuf>);

impl ConsoleLogs {
    /// Keeps the files in a directory, which is made if it does not exist.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn keep_in(&self, directory: PathBuf) -> io::Result<()> {
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        drop(self.0.set(directory));
        Ok(())
    }

    /// Begins the file of another boot.
    ///
    /// # Errors
    /// The file cannot be renamed.
    pub fn begin_boot(&self, mac: Mac) -> io::Result<()> {
        match fs::rename(self.path(mac, "log")?, self.path(mac, "previous")?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Appends to the file of the present boot, as far as it has room.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&self, mac: Mac, text: &[u8]) -> io::Result<()> {
        // A console shows what is on its screen: secrets too.
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(self.path(mac, "log")?)?;
        let length = file.metadata()?.len();
        let room = usize::try_from(MAX_CONSOLE.saturating_sub(length)).unwrap_or_default();
        match text.split_at_checked(room) {
            None => file.write_all(text),
            Some(_) if length >= MAX_CONSOLE => Ok(()),
            Some((fitting, _)) => file.write_all(&[fitting, CUT].concat()),
        }
    }

    /// Returns the console of a boot from an offset on; `None` if there is none, or it is shorter.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self, mac: Mac, is_previous: bool, from: u64) -> io::Result<Option<Vec<u8>>> {
        let mut file = match File::open(self.path(mac, if is_previous { "previous" } else { "log" })?) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((from == 0).then(Vec::new)),
            Err(error) => return Err(error),
        };
        if from > file.metadata()?.len() {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        file.take(2 * MAX_CONSOLE).read_to_end(&mut text)?;
        Ok(Some(text))
    }

    /// Removes the files of a machine.
    pub fn remove(&self, mac: Mac) {
        for extension in EXTENSIONS {
            // There may be none.
            drop(self.path(mac, extension).and_then(fs::remove_file));
        }
    }

    /// Removes the files of all other machines.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn retain(&self, is_kept: impl Fn(Mac) -> bool) -> io::Result<()> {
        let directory = self.0.get().ok_or_else(|| io::Error::other("no directory for consoles"))?;
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            let mac = name.to_str().and_then(|name| name.split_once('.')).and_then(|(mac, _)| Mac::from_dashed(mac));
            if let Some(mac) = mac.filter(|mac| !is_kept(*mac)) {
                self.remove(mac);
            }
        }
        Ok(())
    }

    fn path(&self, mac: Mac, extension: &str) -> io::Result<PathBuf> {
        let directory = self.0.get().ok_or_else(|| io::Error::other("no directory for consoles"))?;
        Ok(directory.join(format!("{}.{extension}", mac.dashed())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_bounded_and_that_of_the_boot_before_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (logs, mac) = (ConsoleLogs::default(), Mac([2, 0, 0, 0, 0, 1]));
        assert!(logs.append(mac, b"x").is_err(), "nowhere to keep it");
        logs.keep_in(directory.path().join("consoles")).unwrap();
        assert_eq!(logs.read(mac, false, 0).unwrap(), Some(Vec::new()));
        logs.append(mac, b"one").unwrap();
        logs.append(mac, b"two").unwrap();
        assert_eq!(logs.read(mac, false, 2).unwrap().unwrap(), b"etwo");
        assert_eq!(logs.read(mac, false, 6).unwrap(), Some(Vec::new()));
        logs.begin_boot(mac).unwrap();
        assert_eq!(logs.read(mac, false, 6).unwrap(), None, "another boot");
        assert_eq!(logs.read(mac, true, 0).unwrap().unwrap(), b"onetwo");
        for _ in 0..40 {
            logs.append(mac, &[b'x'; 40_000]).unwrap();
        }
        let text = logs.read(mac, false, 0).unwrap().unwrap();
        assert_eq!(text.len() as u64, MAX_CONSOLE + CUT.len() as u64);
        assert!(text.ends_with(CUT));
        logs.begin_boot(mac).unwrap();
        assert_eq!(logs.read(mac, true, 0).unwrap().unwrap(), text);
        logs.retain(|known| known == mac).unwrap();
        assert_eq!(logs.read(mac, true, 0).unwrap().unwrap(), text);
        logs.retain(|_| false).unwrap();
        assert_eq!(logs.read(mac, true, 0).unwrap(), Some(Vec::new()));
    }
}
