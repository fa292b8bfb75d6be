//! The serial consoles of machines as they were captured: a file a boot, of the present boot and of the one before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::fleet::Mac;

/// Maximum length of the console of one boot, in octets. Of a longer one, the newest text is kept.
pub const MAX_CONSOLE: u64 = 1 << 20;
/// Length of what is kept of a longer one, before more comes.
const KEPT: usize = 1 << 19;
/// The files of a machine: of the present boot, of the one before, and one that is being written.
const EXTENSIONS: [&str; 3] = ["log", "previous", "new"];
/// The first line of a console that is longer.
const CUT: &[u8] = b"[bootlatch: the console of this boot is longer than 1 MiB; its oldest part is not kept]\n";

/// The files of the consoles.
#[derive(Debug, Default)]
pub struct ConsoleLogs {
    directory: OnceLock<PathBuf>,
    /// Held while a file is changed.
    changes: Mutex<()>,
}

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
        drop(self.directory.set(directory));
        Ok(())
    }

    /// Begins the file of another boot.
    ///
    /// # Errors
    /// The file cannot be renamed.
    pub fn begin_boot(&self, mac: Mac) -> io::Result<()> {
        let _changes = self.lock();
        match fs::rename(self.path(mac, "log")?, self.path(mac, "previous")?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Appends to the file of the present boot. Of one that is full, the oldest half is dropped.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&self, mac: Mac, text: &[u8]) -> io::Result<()> {
        let _changes = self.lock();
        let path = self.path(mac, "log")?;
        // A console shows what is on its screen: secrets too.
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
        let (length, more) = (file.metadata()?.len(), text.len() as u64);
        if length + more <= MAX_CONSOLE {
            return file.write_all(text);
        }
        let mut kept = Vec::new();
        file.seek(SeekFrom::Start(length.saturating_sub(KEPT as u64)))?;
        file.read_to_end(&mut kept)?;
        kept.extend(text);
        let newest = kept.get(kept.len().saturating_sub(KEPT)..).unwrap_or_default();
        let new = self.path(mac, "new")?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&[CUT, newest].concat())?;
        fs::rename(new, path)
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
        let _changes = self.lock();
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
        let directory = self.directory.get().ok_or_else(|| io::Error::other("no directory for consoles"))?;
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            let mac = name.to_str().and_then(|name| name.split_once('.')).and_then(|(mac, _)| Mac::from_dashed(mac));
            if let Some(mac) = mac.filter(|mac| !is_kept(*mac)) {
                self.remove(mac);
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, mac: Mac, extension: &str) -> io::Result<PathBuf> {
        let directory = self.directory.get().ok_or_else(|| io::Error::other("no directory for consoles"))?;
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
        for letter in 0..200 {
            logs.append(mac, &[letter; 40_000]).unwrap();
        }
        let text = logs.read(mac, false, 0).unwrap().unwrap();
        assert!(text.starts_with(CUT) && text.len() >= KEPT && text.len() as u64 <= MAX_CONSOLE, "{}", text.len());
        assert!(text.ends_with(&[199; 40_000]), "the newest text is kept");
        assert!(!text[CUT.len()..].windows(CUT.len()).any(|part| part == CUT), "the line is there once");
        logs.append(mac, &[b'y'; 3 << 20]).unwrap();
        assert_eq!(logs.read(mac, false, 0).unwrap().unwrap(), [CUT, &[b'y'; KEPT]].concat());
        logs.append(mac, b"z").unwrap();
        let text = logs.read(mac, false, 0).unwrap().unwrap();
        assert_eq!(text.len(), CUT.len() + KEPT + 1);
        logs.begin_boot(mac).unwrap();
        assert_eq!(logs.read(mac, true, 0).unwrap().unwrap(), text);
        logs.retain(|known| known == mac).unwrap();
        assert_eq!(logs.read(mac, true, 0).unwrap().unwrap(), text);
        logs.retain(|_| false).unwrap();
        assert_eq!(logs.read(mac, true, 0).unwrap(), Some(Vec::new()));
    }
}
