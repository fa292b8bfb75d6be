//! Whether KVM runs a guest here, at its speed. /dev/kvm may exist, and not run any.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{AccessFlags, Pid, access};

/// Time that the guest has. It needs less than a second.
const LIMIT: Duration = Duration::from_secs(10);
/// A boot sector that counts `ecx` down from 100 million in real mode, writes 0x10 to port 0xf4, and halts. Where the CPU cannot
/// run real mode in a guest (a guest's own guest, often), KVM emulates each instruction: BIOS machines then take minutes to
/// their boot ROM, and stop at the first instruction that KVM does not know.
#[rustfmt::skip]
const PROGRAM: [u8; 17] = [
    0x66, 0xb9, 0x00, 0xe1, 0xf5, 0x05,
    0x66, 0x49, 0x75, 0xfc,
    0xb0, 0x10, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd,
];
/// The exit status of QEMU's isa-debug-exit for that.
const EXIT: i32 = 0x10 << 1 | 1;

/// Boots a guest of one sector under KVM; returns whether it ran.
pub fn works(directory: &Path) -> bool {
    if access("/dev/kvm", AccessFlags::R_OK | AccessFlags::W_OK).is_err() {
        return false;
    }
    let mut sector = PROGRAM.to_vec();
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    let file = directory.join("probe.img");
    let is_running = std::fs::write(&file, sector).is_ok() && boots(&file);
    let _ = std::fs::remove_file(file);
    is_running
}

fn boots(file: &Path) -> bool {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-accel", "kvm", "-machine", "pc", "-m", "32", "-nodefaults", "-display", "none"]);
    command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-drive"]);
    command.arg(format!("if=ide,format=raw,file={}", file.display().to_string().replace(',', ",,")));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let pid = Pid::from_raw(child.id().cast_signed());
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait().ok().and_then(|status| status.code())));
    let code = end.recv_timeout(LIMIT).unwrap_or_else(|_| {
        let _ = kill(pid, Signal::SIGKILL);
        None
    });
    code == Some(EXIT)
}
