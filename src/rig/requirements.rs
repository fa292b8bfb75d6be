//! What a rig needs of the machine that it runs on: programs, firmware, namespaces. Says what is missing, and how it is got.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;

use super::command_line::program;
use super::plan::Plan;
use super::spec::{Dhcp, Firmware, MachineSpec};

/// What the machine does not have, and the packages or the line that help.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}\n  {remedy}")]
pub struct Missing {
    /// What is missing, and what needs it.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Flash files of a firmware, the code and the variables, where distributions have them.
const UEFI: &[(&str, &str)] = &[
    ("OVMF/OVMF_CODE_4M.fd", "OVMF/OVMF_VARS_4M.fd"),
    ("OVMF/OVMF_CODE.fd", "OVMF/OVMF_VARS.fd"),
    ("edk2/ovmf/OVMF_CODE.fd", "edk2/ovmf/OVMF_VARS.fd"),
    ("edk2/x64/OVMF_CODE.4m.fd", "edk2/x64/OVMF_VARS.4m.fd"),
];
/// The same with Secure Boot on, and Microsoft's keys.
const SECURE: &[(&str, &str)] = &[
    ("OVMF/OVMF_CODE_4M.secboot.fd", "OVMF/OVMF_VARS_4M.ms.fd"),
    ("edk2/ovmf/OVMF_CODE.secboot.fd", "edk2/ovmf/OVMF_VARS.secboot.fd"),
];
/// The same of arm64.
const ARM64: &[(&str, &str)] = &[
    ("AAVMF/AAVMF_CODE.fd", "AAVMF/AAVMF_VARS.fd"),
    ("edk2/aarch64/QEMU_EFI-pflash.raw", "edk2/aarch64/vars-template-pflash.raw"),
];

/// Oldest version of QEMU. It is the first with network interfaces on datagram sockets.
const MINIMUM: (u32, u32) = (7, 2);
/// Boot ROMs of models of network interfaces, in QEMU's directories. Of other models it may have none.
const ROMS: [(&str, &str); 5] = [
    ("virtio-net-pci", "efi-virtio.rom"),
    ("e1000", "efi-e1000.rom"),
    ("e1000e", "efi-e1000e.rom"),
    ("rtl8139", "efi-rtl8139.rom"),
    ("vmxnet3", "efi-vmxnet3.rom"),
];

/// Checks that all programs and firmware files of a rig are there.
///
/// # Errors
/// The first that is missing.
pub fn check(plan: &Plan) -> Result<(), Missing> {
    needs("ip", "the LAN", "apt install iproute2    (dnf install iproute)")?;
    for machine in &plan.spec.machines {
        let package = match machine.firmware {
            Firmware::Arm64 => "apt install qemu-system-arm    (dnf install qemu-system-aarch64-core)",
            Firmware::Bios | Firmware::Uefi | Firmware::Secure => {
                "apt install qemu-system-x86    (dnf install qemu-system-x86-core)"
            }
        };
        needs(program(machine.firmware), &machine.name, package)?;
        recent(program(machine.firmware), package)?;
        boot_roms(machine)?;
        flash(machine.firmware)?;
    }
    if plan.spec.machines.iter().any(|machine| !machine.disks.is_empty()) {
        needs("qemu-img", "disks", "apt install qemu-utils    (dnf install qemu-img)")?;
    }
    if plan.spec.dhcp == Dhcp::Proxy {
        needs("dnsmasq", "dhcp: proxy", "apt install dnsmasq-base    (dnf install dnsmasq)")?;
    }
    Ok(())
}

/// Checks that QEMU is not too old.
fn recent(program: &str, remedy: &str) -> Result<(), Missing> {
    let said = output(program, &["--version"]);
    match version(&said) {
        Some(version) if version >= MINIMUM => Ok(()),
        _ => Err(Missing {
            what: format!(
                "{program}: {:?} is not QEMU {}.{} or newer, whose network interfaces the LAN needs",
                said.lines().next().unwrap_or_default(),
                MINIMUM.0,
                MINIMUM.1
            ),
            remedy: format!("install a newer one: {remedy}"),
        }),
    }
}

/// Reads the version in what QEMU prints about itself: `QEMU emulator version 10.0.2 (Debian ...)`.
fn version(said: &str) -> Option<(u32, u32)> {
    let (_, rest) = said.split_once("version ")?;
    let mut numbers = rest.split(|sign: char| !sign.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Checks that QEMU has the boot ROMs of a machine's network interfaces, by which BIOS boots from them.
fn boot_roms(machine: &MachineSpec) -> Result<(), Missing> {
    let models = machine.nics.iter().filter(|nic| nic.rom.is_none()).map(|nic| nic.model.as_str());
    let roms = models.filter_map(|model| ROMS.iter().find(|(known, _)| *known == model));
    let roms: BTreeSet<&str> = roms.map(|(_, rom)| *rom).collect();
    if machine.firmware != Firmware::Bios || roms.is_empty() {
        return Ok(());
    }
    let directories = output(program(machine.firmware), &["-L", "help"]);
    match roms.iter().find(|rom| !directories.lines().any(|directory| Path::new(directory).join(rom).is_file())) {
        None => Ok(()),
        Some(rom) => Err(Missing {
            what: format!("{rom}: no such boot ROM; {} boots from the network by it", machine.name),
            remedy: "apt install ipxe-qemu    (dnf install ipxe-roms-qemu)".to_owned(),
        }),
    }
}

/// Returns what a program prints.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Returns the flash files of a firmware, code and variables; none of BIOS.
///
/// # Errors
/// The firmware is not installed.
pub fn flash(firmware: Firmware) -> Result<Option<(PathBuf, PathBuf)>, Missing> {
    let (candidates, name, packages) = match firmware {
        Firmware::Bios => return Ok(None),
        Firmware::Uefi => (UEFI, "FIRMWARE_UEFI", "apt install ovmf    (dnf install edk2-ovmf)"),
        Firmware::Secure => (SECURE, "FIRMWARE_UEFI_SECURE", "apt install ovmf    (dnf install edk2-ovmf)"),
        Firmware::Arm64 => (ARM64, "FIRMWARE_ARM64", "apt install qemu-efi-aarch64    (dnf install edk2-aarch64)"),
    };
    let share = Path::new("/usr/share");
    let found = candidates.iter().map(|(code, variables)| (share.join(code), share.join(variables)));
    let found = found.into_iter().find(|(code, variables)| code.is_file() && variables.is_file());
    found.map(Some).ok_or_else(|| Missing {
        what: format!("{name}: the firmware is not installed (such as {})", share.join(candidates[0].0).display()),
        remedy: packages.to_owned(),
    })
}

/// Checks that a directory of boot programs has one.
///
/// # Errors
/// None of the directories has any.
pub fn boot_programs(directories: &[PathBuf]) -> Result<(), Missing> {
    let has_any = |directory: &PathBuf| directory.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if directories.iter().any(has_any) {
        return Ok(());
    }
    let names: Vec<_> = directories.iter().map(|directory| directory.display().to_string()).collect();
    Err(Missing {
        what: format!("no boot programs in {}", names.join(", ")),
        remedy: "apt install ./bootlatch-firmware_*.deb, or name their directory: --firmware-dir DIR".to_owned(),
    })
}

/// Returns what does not let this user make namespaces, from the error of the kernel.
pub fn namespaces(error: Errno) -> Missing {
    Missing { what: format!("user and network namespaces are not allowed here: {error}"), remedy: remedy().to_owned() }
}

/// The same for a mount in them.
pub fn mounts(error: Errno, what: &str) -> Missing {
    Missing { what: format!("{what}: mounts are not allowed here: {error}"), remedy: remedy().to_owned() }
}

fn remedy() -> &'static str {
    let setting = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let restricted = "kernel/apparmor_restrict_unprivileged_userns";
    if setting(&format!("/proc/sys/{restricted}")) == "1" {
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    } else if setting("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    } else if setting("/proc/sys/user/max_user_namespaces") == "0" {
        "sudo sysctl -w user.max_user_namespaces=10000"
    } else {
        "in a container: docker run --cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt seccomp=unconfined \
         --security-opt apparmor=unconfined; elsewhere: run it as root"
    }
}

fn needs(name: &str, what: &str, remedy: &str) -> Result<(), Missing> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    let is_there =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|directory: PathBuf| {
            let about = directory.join(name).metadata();
            about.is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
        });
    match is_there {
        true => Ok(()),
        false => Err(Missing { what: format!("{name}: no such program; {what} needs it"), remedy: remedy.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_qemu_is_read() {
        let rows = [
            ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright", Some((10, 0))),
            ("QEMU emulator version 7.2.22", Some((7, 2))),
            ("QEMU emulator version 6.2", Some((6, 2))),
            ("QEMU", None),
            ("", None),
        ];
        for (said, expected) in rows {
            assert_eq!(version(said), expected, "{said}");
        }
        assert!((10, 0) > MINIMUM && (7, 1) < MINIMUM);
    }
}
