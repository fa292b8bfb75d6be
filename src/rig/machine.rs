//! A running machine: QEMU, its disks, its console and its control.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::json;

use crate::fleet::Mac;
use crate::iso::build_seed;

use super::command_line::{MachineFiles, MachineSockets, arguments, program, shell_words};
use super::console::{PlainText, TimedLines};
use super::outputs::run_dir;
use super::qmp::Qmp;
use super::requirements;
use super::spec::{CloudInit, DiskSpec, MachineSpec};

/// Maximum size of the log of a console in bytes.
const MAX_LOG: u64 = 64 << 20;
/// The bytes that a qcow2 image begins with.
const QCOW2: [u8; 4] = *b"QFI\xfb";

/// A machine that was started.
#[derive(Debug)]
pub struct Machine {
    /// Name.
    pub name: String,
    process: Child,
    control: Qmp,
    /// Our end of the console.
    console: UnixStream,
    log: File,
    log_left: u64,
    plain: PlainText,
    lines: TimedLines,
}

impl Machine {
    /// Starts QEMU. The machine does not run before [`Machine::power_on`]. `nics` are the ends on the LAN.
    ///
    /// # Errors
    /// A disk or the process is not made; QEMU's own error is in it.
    pub fn start(
        spec: &MachineSpec,
        macs: &[Mac],
        accelerator: &str,
        nics: Vec<OwnedFd>,
        output: &Path,
    ) -> anyhow::Result<Self> {
        let name = &spec.name;
        let files = make_files(spec, &run_dir(output))?;
        let (console, their_console) = UnixStream::pair()?;
        let (control, their_control) = UnixStream::pair()?;
        let their_control = OwnedFd::from(their_control);
        let sockets =
            MachineSockets { nics: nics.iter().map(AsRawFd::as_raw_fd).collect(), control: their_control.as_raw_fd() };
        let log = output.join(format!("{name}.qemu.log"));
        let program = program(spec.firmware);
        std::fs::write(output.join(format!("{name}.qemu.sh")), script(spec, macs, &files, accelerator))?;
        for inherited in nics.iter().chain([&their_control]) {
            fcntl(inherited, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        let mut command = Command::new(program);
        command.args(arguments(spec, macs, &files, accelerator, Some(&sockets)));
        command.stdin(OwnedFd::from(their_console.try_clone()?)).stdout(OwnedFd::from(their_console));
        command.stderr(File::create(&log)?);
        let process = command.spawn().with_context(|| program.to_owned())?;
        drop((command, nics, their_control));
        let control = Qmp::connect(control).map_err(|error| {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            anyhow::anyhow!(
                "{name}: {program} did not start: {}",
                if said.is_empty() { error.to_string() } else { said }
            )
        })?;
        let log = File::create(output.join(format!("{name}.console.log")))?;
        let (plain, lines) = (PlainText::default(), TimedLines::default());
        Ok(Self { name: name.clone(), process, control, console, log, log_left: MAX_LOG, plain, lines })
    }

    /// Returns another handle of the console.
    ///
    /// # Errors
    /// The kernel refuses another descriptor.
    pub fn console(&self) -> io::Result<UnixStream> {
        self.console.try_clone()
    }

    /// Switches the machine on.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn power_on(&mut self) -> io::Result<()> {
        self.control.run("cont", json!({})).map(drop)
    }

    /// Returns whether QEMU has stopped the machine, and says why in its log.
    pub fn has_stopped(&mut self) -> bool {
        // One whose QEMU has ended is seen by its console.
        self.control.has_internal_error().unwrap_or(false)
    }

    /// Takes in what the console wrote at a time since power-on; returns it as plain text.
    pub fn heard(&mut self, bytes: &[u8], time: Duration) -> String {
        let text = self.plain.push(bytes);
        let written = self.lines.push(&text, time);
        if let Some(left) = self.log_left.checked_sub(written.len() as u64) {
            self.log_left = left;
            // A full disk ends the log, and not the rig.
            let _ = self.log.write_all(written.as_bytes());
        }
        text
    }

    /// Presses keys.
    ///
    /// # Errors
    /// QEMU refuses a key, or has ended.
    pub fn press(&mut self, keys: &[String]) -> io::Result<()> {
        self.control.press(keys)
    }

    /// Writes the screen to a PNG file.
    ///
    /// # Errors
    /// QEMU cannot write it, or has ended.
    pub fn screenshot(&mut self, file: &Path) -> io::Result<()> {
        self.control.screenshot(file)
    }

    /// Ends QEMU, as a power cut does.
    pub fn stop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = self.console.shutdown(Shutdown::Both);
    }
}

/// Makes the files of a machine: disks, its copy of the firmware's variables, and the NoCloud seed.
fn make_files(spec: &MachineSpec, run: &Path) -> anyhow::Result<MachineFiles> {
    let name = &spec.name;
    let flash = match requirements::flash(spec.firmware)? {
        None => None,
        Some((code, variables)) => {
            let own = run.join(format!("{name}.vars"));
            let bytes = std::fs::read(&variables).with_context(|| variables.display().to_string())?;
            std::fs::write(&own, bytes).with_context(|| own.display().to_string())?;
            Some((code, own))
        }
    };
    let mut disks = Vec::new();
    for disk in &spec.disks {
        let file = run.join(format!("{name}.{}.qcow2", disk.id));
        make_disk(disk, &file).with_context(|| format!("{name}: disk {}", disk.id))?;
        disks.push(file);
    }
    let seed = spec.cloud_init.as_ref().map(|files| make_seed(name, files, run)).transpose()?;
    Ok(MachineFiles { flash, disks, seed })
}

fn make_disk(disk: &DiskSpec, file: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2"]);
    if let Some(backing) = &disk.backing_file {
        let backing = std::fs::canonicalize(backing)?;
        let mut head = [0; 4];
        io::Read::read_exact(&mut File::open(&backing)?, &mut head)?;
        command.args(["-F", if head == QCOW2 { "qcow2" } else { "raw" }, "-b"]).arg(backing);
    }
    command.arg("--").arg(file);
    command.args(disk.size_gib.map(|size| format!("{size}G")));
    let output = command.stdin(Stdio::null()).output().context("qemu-img")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn make_seed(name: &str, files: &CloudInit, run: &Path) -> anyhow::Result<PathBuf> {
    let given = [
        ("user-data", &files.user_data),
        ("meta-data", &files.meta_data),
        ("network-config", &files.network_config),
        ("vendor-data", &files.vendor_data),
    ];
    let given = given.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.clone()?)));
    let seed = build_seed(name, name, &given.collect::<BTreeMap<String, String>>())?;
    let file = run.join(format!("{name}.seed.iso"));
    std::fs::write(&file, seed).with_context(|| file.display().to_string())?;
    Ok(file)
}

/// Returns a script that starts the machine without the rig.
fn script(spec: &MachineSpec, macs: &[Mac], files: &MachineFiles, accelerator: &str) -> String {
    let line = shell_words(program(spec.firmware), &arguments(spec, macs, files, accelerator, None));
    format!(
        "#!/bin/sh\n# {}, with QEMU's own network in place of the rig's LAN. Its disks are kept with --keep-disks.\n{line}",
        spec.name
    )
}
