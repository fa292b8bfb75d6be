"""Debian packages, written by dpkg-deb."""

import hashlib
import os
import shutil
import subprocess

from packager import elf
from packager.release import ROOT
from packager.stage import compressed, put, settle

HOMEPAGE = "https://github.com/bootlatch/bootlatch"
DESCRIPTION = """network boot appliance: ProxyDHCP, TFTP, HTTP and iSCSI
 Installs machines over the network from ISOs as their makers published them,
 next to the DHCP server that is there already: one process answers DHCP, TFTP,
 HTTP and iSCSI, decides for each machine what it boots, and says why one did
 not. Hosts, ISOs and configs are objects of a Kubernetes-shaped API, managed
 with the command line, kubectl, YAML files or a web page."""
FIRMWARE_DESCRIPTION = """boot programs that bootlatch serves
 iPXE, PXELINUX, SYSLINUX, shim and GRUB for BIOS, UEFI x86-64 and UEFI arm64,
 as Debian built and signed them. bootlatch serves them over TFTP and HTTP."""
OVERRIDES = {
    "bootlatch": """\
# The program is one file. It has the SQLite that its Rust crate brings, whose version the state was tested with.
bootlatch: embedded-library *sqlite*
# It does not come from Debian's archive.
bootlatch: initial-upload-closes-no-bugs *
""",
    "bootlatch-firmware": """\
# Programs of other machines, which this one only sends.
bootlatch-firmware: arch-dependent-file-in-usr-share *
bootlatch-firmware: arch-independent-package-contains-binary-or-object *
bootlatch-firmware: binary-from-other-architecture *
bootlatch-firmware: executable-not-elf-or-script *
bootlatch-firmware: embedded-library *
bootlatch-firmware: statically-linked-binary *
bootlatch-firmware: elf-error *
# It does not come from Debian's archive.
bootlatch-firmware: initial-upload-closes-no-bugs *
""",
}


def dependencies(binary):
    """Returns what the program needs of Debian, by its headers."""
    needs = [] if (oldest := elf.glibc(binary)) is None else [f"libc6 (>= {oldest})"]
    if "libgcc_s.so.1" in elf.libraries(binary):
        needs.append("libgcc-s1 (>= 4.2)")
    return [*needs, "systemd | systemd-standalone-sysusers | systemd-sysusers"]


def fields(release, package, architecture, size, **more):
    lines = {"Package": package, "Version": f"{release.version}-1", "Architecture": architecture, "Maintainer": release.maintainer,
             "Installed-Size": str(size), "Section": "net", "Priority": "optional", "Homepage": HOMEPAGE, **more}
    return "".join(f"{name}: {value}\n" for name, value in lines.items())


def changelog(release, package):
    """Returns Debian's changelog; that of the program is another file."""
    return (f"{package} ({release.version}-1) unstable; urgency=medium\n\n  * Version {release.version}: see changelog.gz and README.md.\n\n"
            f" -- {release.maintainer}  {release.rfc2822()}\n")


def scripts():
    """Returns the maintainer scripts by name."""
    return {path.name: path.read_text() for path in sorted((ROOT / "packaging/debian").iterdir())}


def build_bootlatch(tree, out, binary, architecture, release, fast=False):
    """Writes the program's package, of its tree; returns the file."""
    control = {"Depends": ", ".join(dependencies(binary)), "Recommends": "bootlatch-firmware", "Suggests": "qemu-utils",
               "Description": DESCRIPTION}
    return build(tree, out, "bootlatch", architecture, release, control, scripts(), ["/etc/bootlatch/bootlatch.toml"], fast)


def build_firmware(tree, out, release, fast=False):
    """Writes the package of the boot programs, of their tree; returns the file."""
    control = {"Enhances": "bootlatch", "Suggests": "shim-signed, grub-efi-amd64-signed", "Multi-Arch": "foreign",
               "Description": FIRMWARE_DESCRIPTION}
    return build(tree, out, "bootlatch-firmware", "all", release, control, {}, [], fast)


def build(tree, out, package, architecture, release, control, maintainer_scripts, conffiles, fast):
    """Adds Debian's files to a copy of the tree and packs it. `fast` packs without xz, for tests."""
    copy = out / f".{package}-{architecture}"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(tree, copy, symlinks=True)
    put(copy, f"usr/share/doc/{package}/changelog.Debian.gz", compressed(changelog(release, package)))
    put(copy, f"usr/share/lintian/overrides/{package}", OVERRIDES[package])
    found = sorted(path for path in copy.rglob("*") if path.is_file())
    size = sum(-(-path.stat().st_size // 1024) for path in found) + sum(1 for path in copy.rglob("*") if path.is_dir())
    sums = "".join(f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(copy)}\n" for path in found
                   if f"/{path.relative_to(copy)}" not in conffiles)
    put(copy, "DEBIAN/control", fields(release, package, architecture, size, **control))
    put(copy, "DEBIAN/md5sums", sums)
    if conffiles:
        put(copy, "DEBIAN/conffiles", "".join(f"{path}\n" for path in conffiles))
    for name, text in maintainer_scripts.items():
        put(copy, f"DEBIAN/{name}", text, 0o755)
    settle(copy, release.epoch)
    target = out / f"{package}_{release.version}-1_{architecture}.deb"
    # One thread: the blocks of xz depend on how many there are.
    how = ["-Zgzip", "-z1"] if fast else ["-Zxz", "-z6", "--threads-max=1"]
    subprocess.run(["dpkg-deb", "--root-owner-group", *how, "--build", str(copy), str(target)], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "SOURCE_DATE_EPOCH": str(release.epoch)})
    shutil.rmtree(copy)
    return target
