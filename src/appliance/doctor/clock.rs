//! The clock of this machine.
#![allow(unsafe_code)]

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::doctor::Looked;

/// Status flag of an unsynchronized clock (adjtimex(2)).
const UNSYNCHRONIZED: i32 = 0x40;
/// Time that a file may be ahead of the clock, as on a file server.
const TOLERANCE: Duration = Duration::from_secs(600);

/// Returns whether somebody synchronizes the kernel's clock.
pub fn is_synchronized() -> Looked<bool> {
    // SAFETY: all zeros are a valid `timex`, whose `modes` ask for no change; the kernel fills it.
    let (result, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    match result {
        -1 => Err(format!("adjtimex: {}", std::io::Error::last_os_error())),
        _ => Ok(timex.status & UNSYNCHRONIZED == 0),
    }
}

/// Returns a file that was written in the future: the database, or this program.
pub fn future_file(state_dir: &Path) -> Option<String> {
    let database = ["bootlatch.db", "bootlatch.db-wal"].map(|name| state_dir.join(name));
    let program = std::env::current_exe().ok();
    let latest = SystemTime::now() + TOLERANCE;
    let mut files = database.into_iter().chain(program);
    let found = files.find(|path| {
        let changed = std::fs::metadata(path).and_then(|about| about.modified());
        changed.is_ok_and(|at| at > latest)
    });
    found.map(|path| path.display().to_string())
}
