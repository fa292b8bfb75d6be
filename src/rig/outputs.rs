//! The options of a rig, and its output directory.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::fleet::text::printable_lines;

use super::plan::{self, Plan, SpecError};

/// Maximum size of a specification in bytes.
const MAX_SPEC: u64 = 1 << 20;
/// File that the leader locks.
const LOCK: &str = ".lock";
/// File with the number of the supervisor's process.
const PID: &str = ".pid";
/// Time that a rig has to end once it was asked to.
const END_TIMEOUT: Duration = Duration::from_secs(60);
/// Directory in the output directory of the files that a run needs and nobody afterwards.
const RUN: &str = "run";
/// File in it by which a rig knows it as its own.
const OWN: &str = ".bootlatch-rig";
/// Name of the file with what a rig reports.
const LOG: &str = "rig.log";
/// Files that a rig writes for people.
const RIG_REPORTS: [&str; 6] = [LOG, "junit.xml", "timeline.json", "bootlatch.log", "dnsmasq.log", "lan.pcapng"];
/// Endings of those that it writes about each machine.
const REPORTS: [&str; 5] = [".console.log", ".png", ".why.txt", ".qemu.sh", ".qemu.log"];

/// The options of a rig.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Options {
    /// The specification.
    pub spec: PathBuf,
    /// The output directory.
    pub output: PathBuf,
    /// Directory of the boot programs, in place of the configured ones.
    pub firmware_dir: Option<PathBuf>,
    /// Whether the time limits hold under emulation too.
    pub strict: bool,
    /// Whether the disks are kept.
    pub keep_disks: bool,
    /// Whether the rig runs on when everything is met or not.
    pub stays: bool,
}

impl Options {
    /// Reads and checks the specification.
    ///
    /// # Errors
    /// The first fault, with its line.
    pub fn plan(&self) -> Result<Plan, SpecError> {
        let unreadable = |message: String| SpecError { path: self.spec.clone(), line: 1, message };
        let file = File::open(&self.spec).map_err(|error| unreadable(error.to_string()))?;
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(file, MAX_SPEC + 1), &mut text)
            .map_err(|error| unreadable(error.to_string()))?;
        if text.len() as u64 > MAX_SPEC {
            return Err(unreadable(format!("larger than {MAX_SPEC} octets")));
        }
        plan::parse(&self.spec, &text, &Path::is_file)
    }

    /// Creates the output directory, and locks it for the life of the lock. Removes what earlier runs of the machines wrote.
    ///
    /// # Errors
    /// It cannot be made, or another rig uses it.
    pub fn lock(&mut self, plan: &Plan) -> anyhow::Result<Flock<File>> {
        let context = || self.output.display().to_string();
        std::fs::create_dir_all(&self.output).with_context(context)?;
        let output = std::fs::canonicalize(&self.output).with_context(context)?;
        if output.starts_with("/run") {
            anyhow::bail!("--output {}: choose one that is not below /run, which a rig does not see", output.display());
        }
        let lock = lock(&output, FlockArg::LockExclusiveNonblock).map_err(|_| {
            anyhow::anyhow!("{}: another rig uses this directory: choose one with --output", output.display())
        })?;
        self.output = output;
        let run = run_dir(&self.output);
        if run.symlink_metadata().is_ok() && !run.join(OWN).is_file() {
            anyhow::bail!("{}: not made by a rig, which needs this name: choose another --output", run.display());
        }
        self.remove_disposable();
        let own =
            plan.spec.machines.iter().flat_map(|machine| REPORTS.map(|ending| format!("{}{ending}", machine.name)));
        for name in own.chain(RIG_REPORTS.map(str::to_owned)) {
            // What is not there needs not be removed; what cannot be is written anew.
            let _ = std::fs::remove_file(self.output.join(name));
        }
        std::fs::create_dir(&run)
            .and_then(|()| File::create(run.join(OWN)))
            .with_context(|| run.display().to_string())?;
        Ok(lock)
    }

    /// Removes disks and other files that nobody needs after a run.
    pub fn remove_disposable(&self) {
        // What is left only takes room.
        let _ = std::fs::remove_file(self.output.join(PID));
        let run = run_dir(&self.output);
        if run.join(OWN).is_file() {
            let _ = std::fs::remove_dir_all(run);
        }
    }

    /// Writes the number of the supervisor's process.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write_pid(&self, pid: u32) -> io::Result<()> {
        std::fs::write(self.output.join(PID), pid.to_string())
    }
}

/// Adds the error that a rig ends with to its log. Who started it has gone after `rig up`.
pub fn log_error(output: &Path, error: &anyhow::Error) {
    let log = File::options().create(true).append(true).open(output.join(LOG));
    // Without a log there is only standard error.
    let _ = log.and_then(|mut log| writeln!(log, "bootlatch: {}", printable_lines(&format!("{error:#}"))));
}

/// Returns the directory of the files that a run needs and nobody afterwards.
pub fn run_dir(output: &Path) -> PathBuf {
    output.join(RUN)
}

/// Returns the number of the process of the rig of an output directory.
///
/// # Errors
/// No rig runs with it. A rig that was killed leaves the file, but not the lock.
pub fn pid(output: &Path) -> anyhow::Result<u32> {
    let none = || format!("no rig runs with {}", output.display());
    let file = File::open(output.join(LOCK)).with_context(none)?;
    if Flock::lock(file, FlockArg::LockSharedNonblock).is_ok() {
        anyhow::bail!(none());
    }
    let text = std::fs::read_to_string(output.join(PID)).with_context(none)?;
    text.parse().with_context(none)
}

/// Waits until the rig of an output directory has ended.
///
/// # Errors
/// The file system refuses, or it does not end in time.
pub fn wait_for_end(output: &Path) -> anyhow::Result<()> {
    let (ended, end) = mpsc::channel();
    let directory = output.to_owned();
    // After the time limit the thread ends with this process.
    std::thread::spawn(move || ended.send(lock(&directory, FlockArg::LockExclusive).map(drop)));
    let done = end.recv_timeout(END_TIMEOUT);
    let late = || format!("{}: the rig has not ended after {} s", output.display(), END_TIMEOUT.as_secs());
    done.with_context(late)?.with_context(|| output.display().to_string())
}

fn lock(output: &Path, how: FlockArg) -> io::Result<Flock<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(output.join(LOCK))?;
    Flock::lock(file, how).map_err(|(_, error)| error.into())
}

/// What a rig reports while it runs: on standard output, and in a file.
#[derive(Debug)]
pub struct Progress(File);

impl Progress {
    /// Creates the file.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn new(output: &Path) -> io::Result<Self> {
        File::create(output.join(LOG)).map(Self)
    }

    /// Reports a line. A reader that has gone does not end the rig.
    pub fn say(&mut self, line: &str) {
        let _ = writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush());
        let _ = writeln!(self.0, "{line}");
    }
}
