//! QEMU's command line for a machine. Pure.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use crate::fleet::Mac;

use super::spec::{BootDevice, Firmware, MachineSpec};

/// QEMU's emulator, which runs on every machine.
pub const TCG: &str = "tcg";

/// The files of a machine.
#[derive(Debug, Clone)]
pub struct MachineFiles {
    /// Flash with the firmware and the machine's own copy of its variables; none for BIOS.
    pub flash: Option<(PathBuf, PathBuf)>,
    /// Files of the disks, in the order of the specification.
    pub disks: Vec<PathBuf>,
    /// The NoCloud seed.
    pub seed: Option<PathBuf>,
}

/// The descriptors that QEMU inherits.
#[derive(Debug, Clone)]
pub struct MachineSockets {
    /// The network interfaces' ends on the LAN, in the order of the specification.
    pub nics: Vec<RawFd>,
    /// QMP.
    pub control: RawFd,
}

/// Returns the name of the program for a firmware.
pub fn program(firmware: Firmware) -> &'static str {
    match firmware {
        Firmware::Bios | Firmware::Uefi | Firmware::Secure => "qemu-system-x86_64",
        Firmware::Arm64 => "qemu-system-aarch64",
    }
}

/// Returns QEMU's arguments. Without sockets: for a person, with QEMU's own network and the console on the terminal.
pub fn arguments(
    machine: &MachineSpec,
    macs: &[Mac],
    files: &MachineFiles,
    accelerator: &str,
    sockets: Option<&MachineSockets>,
) -> Vec<String> {
    let mut line = Line(Vec::new());
    line.add("-name", machine.name.clone());
    line.board(machine.firmware);
    // arm64 is emulated: machines with KVM are x86.
    let accelerator = if machine.firmware == Firmware::Arm64 { TCG } else { accelerator };
    line.add("-accel", accelerator.to_owned());
    line.add("-cpu", cpu(machine.firmware, accelerator).to_owned());
    line.add("-smp", machine.cpu_cores.to_string());
    line.add("-m", machine.memory_mib.to_string());
    line.0.push("-nodefaults".to_owned());
    // The firmware boots nothing that is not in the order.
    line.add("-boot", "strict=on".to_owned());
    match sockets {
        Some(sockets) => {
            line.add("-display", "none".to_owned());
            line.add("-chardev", "stdio,id=console,signal=off".to_owned());
            line.add("-chardev", format!("socket,id=control,fd={}", sockets.control));
            line.add("-mon", "chardev=control,mode=control".to_owned());
            line.0.push("-S".to_owned());
        }
        None => line.add("-chardev", "stdio,id=console,signal=off,mux=on".to_owned()),
    }
    line.add("-serial", "chardev:console".to_owned());
    if let Some((code, variables)) = &files.flash {
        line.add("-drive", format!("if=pflash,format=raw,readonly=on,file={}", escaped(code)));
        line.add("-drive", format!("if=pflash,format=raw,file={}", escaped(variables)));
    }
    line.devices(machine, macs, files, sockets);
    line.0
}

fn cpu(firmware: Firmware, accelerator: &str) -> &'static str {
    match (firmware, accelerator) {
        // The architected pointer authentication would take most of the emulator's time.
        (Firmware::Arm64, _) => "max,pauth-impdef=on",
        (_, TCG) => "max",
        _ => "host",
    }
}

/// A command line that grows.
struct Line(Vec<String>);

impl Line {
    fn add(&mut self, option: &str, value: String) {
        self.0.extend([option.to_owned(), value]);
    }

    fn board(&mut self, firmware: Firmware) {
        let board = match firmware {
            // Without graphics SeaBIOS, boot ROMs and boot loaders write to the serial port as well.
            Firmware::Bios => "q35,graphics=off",
            Firmware::Uefi => "q35",
            // Only code in SMM may write the variables.
            Firmware::Secure => "q35,smm=on",
            Firmware::Arm64 => "virt",
        };
        self.add("-machine", board.to_owned());
        match firmware {
            Firmware::Arm64 => {
                for device in ["virtio-gpu-pci", "qemu-xhci", "usb-kbd"] {
                    self.add("-device", device.to_owned());
                }
            }
            Firmware::Bios | Firmware::Uefi | Firmware::Secure => self.add("-vga", "std".to_owned()),
        }
        if firmware == Firmware::Secure {
            self.add("-global", "driver=cfi.pflash01,property=secure,value=on".to_owned());
        }
        // Installers wait for random numbers.
        self.add("-device", "virtio-rng-pci".to_owned());
    }

    fn devices(&mut self, machine: &MachineSpec, macs: &[Mac], files: &MachineFiles, sockets: Option<&MachineSockets>) {
        let mut order = BootOrder { order: &machine.boot_order, used: [0; 3] };
        let has_scsi = machine.firmware == Firmware::Arm64;
        if has_scsi && (!machine.cdroms.is_empty() || files.seed.is_some()) {
            self.add("-device", "virtio-scsi-pci,id=scsi".to_owned());
        }
        // Each port of the SATA controller has one drive.
        let drive =
            |port: usize| if has_scsi { "scsi-cd,bus=scsi.0".to_owned() } else { format!("ide-cd,bus=ide.{port}") };
        for (nic, (spec, mac)) in machine.nics.iter().zip(macs).enumerate() {
            let network = match sockets {
                Some(sockets) => format!("dgram,id=lan{nic},local.type=fd,local.str={}", sockets.nics[nic]),
                None => format!("user,id=lan{nic}"),
            };
            self.add("-netdev", network);
            let rom = match (&spec.rom, machine.firmware) {
                // QEMU writes the id of the device only into its own ROM files; another one has the modern id.
                (Some(rom), Firmware::Bios) if spec.model == "virtio-net-pci" => {
                    format!(",romfile={},disable-legacy=on", escaped(rom))
                }
                (Some(rom), _) => format!(",romfile={}", escaped(rom)),
                (None, Firmware::Bios) => String::new(),
                // UEFI has a driver and PXE of its own.
                (None, _) => ",romfile=".to_owned(),
            };
            let index = order.next(BootDevice::Network, true);
            self.add("-device", format!("{},netdev=lan{nic},mac={mac}{rom}{index}", spec.model));
        }
        for (number, (disk, file)) in machine.disks.iter().zip(&files.disks).enumerate() {
            self.add("-drive", format!("if=none,id=disk{number},format=qcow2,cache=unsafe,file={}", escaped(file)));
            let index = order.next(BootDevice::Disk, disk.bootable);
            self.add("-device", format!("virtio-blk-pci,drive=disk{number},serial={}{index}", disk.id));
        }
        for (number, cdrom) in machine.cdroms.iter().enumerate() {
            self.add(
                "-drive",
                format!("if=none,id=cd{number},format=raw,readonly=on,file={}", escaped(&cdrom.iso_path)),
            );
            let index = order.next(BootDevice::Cdrom, cdrom.bootable);
            self.add("-device", format!("{},drive=cd{number}{index}", drive(number)));
        }
        if let Some(seed) = &files.seed {
            self.add("-drive", format!("if=none,id=seed,format=raw,readonly=on,file={}", escaped(seed)));
            self.add("-device", format!("{},drive=seed", drive(machine.cdroms.len())));
        }
    }
}

/// The boot indices of the devices: all of one kind come before those of the next.
struct BootOrder<'a> {
    order: &'a [BootDevice],
    used: [u32; 3],
}

impl BootOrder<'_> {
    fn next(&mut self, kind: BootDevice, is_bootable: bool) -> String {
        let place = self.order.iter().position(|one| *one == kind).filter(|_| is_bootable);
        let Some(place) = place else { return String::new() };
        let used = &mut self.used[kind as usize];
        *used += 1;
        format!(",bootindex={}", place as u32 * 100 + *used)
    }
}

/// Writes a path as a value of QEMU's options, where a comma ends a value.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// Writes a command as a shell reads it.
pub fn shell_words(program: &str, arguments: &[String]) -> String {
    let quote = |word: &String| {
        let is_plain = word.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_./=:,+@%".contains(sign));
        if is_plain && !word.is_empty() { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    let mut text = program.to_owned();
    for argument in arguments {
        text += if argument.starts_with('-') { " \\\n  " } else { " " };
        text += &quote(argument);
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::plan::parse;

    fn of(text: &str, sockets: Option<&MachineSockets>) -> String {
        let plan = parse(Path::new("a.yaml"), text, &|_| true).unwrap();
        let machine = &plan.spec.machines[0];
        let flash = (machine.firmware != Firmware::Bios).then(|| ("/code".into(), "/vars".into()));
        let seed = machine.cloud_init.as_ref().map(|_| "/seed".into());
        let files = MachineFiles { flash, disks: vec!["/d,0".into(), "/d1".into()], seed };
        arguments(machine, &plan.macs[0], &files, "kvm", sockets).join(" ")
    }

    #[test]
    fn the_boot_order_is_that_of_the_specification() {
        let text = "machines: [{name: a, boot_order: [cdrom, disk], disks: [{id: p, size_gib: 1}, {id: q, size_gib: 1, bootable: false}], \
                    cdroms: [{id: e, iso_path: e}, {id: f, iso_path: f}], cloud_init: {user_data: u}}]";
        let line = of(text, Some(&MachineSockets { nics: vec![7], control: 8 }));
        for part in [
            "-accel kvm -cpu host -smp 1 -m 1024 -nodefaults -boot strict=on",
            "file=/d,,0 -device virtio-blk-pci,drive=disk0,serial=p,bootindex=101",
            "virtio-blk-pci,drive=disk1,serial=q -drive",
            "ide-cd,bus=ide.0,drive=cd0,bootindex=1 ",
            "ide-cd,bus=ide.1,drive=cd1,bootindex=2 ",
            "dgram,id=lan0,local.type=fd,local.str=7 -device virtio-net-pci,netdev=lan0,mac=52:54:00:77:00:01 -drive",
            "ide-cd,bus=ide.2,drive=seed",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        let line = of("machines: [{name: a, firmware: arm64, cdroms: [{id: e, iso_path: e}]}]", None);
        assert!(
            line.contains("-accel tcg -cpu max,pauth") && line.contains("scsi-cd,bus=scsi.0,drive=cd0,bootindex=101"),
            "{line}"
        );
        assert!(line.contains("-netdev user,id=lan0") && line.contains("romfile=,bootindex=1"), "{line}");
    }

    #[test]
    fn a_shell_reads_back_the_words() {
        assert_eq!(shell_words("q", &["-a".into(), "b c".into(), "d'e".into()]), "q \\\n  -a 'b c' 'd'\\''e'\n");
    }
}
