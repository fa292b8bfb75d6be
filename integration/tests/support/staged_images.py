"""Small bootable ISOs for staged boots."""

import os
import subprocess
from pathlib import Path

ISOLINUX = "default install\nlabel install\n  kernel /boot/vmlinuz\n  append initrd=/boot/initrd.gz quiet\n"
GRUB = "set timeout=30\nmenuentry 'Install' {\n  linux /boot/vmlinuz quiet\n  initrd /boot/initrd.gz\n}\n"


def run(*command):
    """Runs a program, which must succeed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout[-800:]}{done.stderr[-800:]}"


def bootable_iso(place, name, bios=True, uefi=True):
    """Makes an ISO that boots under BIOS, under UEFI (x86-64 and arm64), or both; returns its path."""
    tree, esp, iso = place / f"{name}.tree", place / f"{name}.esp", place / f"{name}.iso"
    for path, data in (("boot/vmlinuz", os.urandom(2_000_001)), ("boot/initrd.gz", os.urandom(2_000_003)), ("boot/grub/grub.cfg", GRUB.encode()),
                       *((("isolinux/isolinux.cfg", ISOLINUX.encode()),) if bios else ())):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(data)
    words = ["xorriso", "-as", "mkisofs", "-quiet", "-r", "-J", "-V", name.upper(), "-o", iso]
    if bios:
        (tree / "isolinux/isolinux.bin").write_bytes(Path("/usr/lib/ISOLINUX/isolinux.bin").read_bytes())
        words += ["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]
    if uefi:
        run("mkfs.fat", "-C", "-n", "ESP", esp, 1440)
        run("mmd", "-i", esp, "::EFI", "::EFI/BOOT")
        for loader in ("BOOTX64.EFI", "BOOTAA64.EFI"):
            (place / loader).write_bytes(b"MZ" + os.urandom(100_000))
            run("mcopy", "-o", "-i", esp, place / loader, f"::EFI/BOOT/{loader}")
        (tree / "efi.img").write_bytes(esp.read_bytes())
        words += [*(["-eltorito-alt-boot"] if bios else []), "-e", "efi.img", "-no-emul-boot"]
    run(*words, tree)
    return iso
