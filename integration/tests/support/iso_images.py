"""The ISOs of the tests: Debian's own, from its packages, and images that are laid out as distributions do."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from support.downloads import downloading
from support.programs import ROOT

CACHE = Path(os.environ.get("BOOTLATCH_LAB_CACHE", ROOT / "integration/.cache")) / "iso-material"
MATERIAL = "usr/lib/debian-installer/images/{}/amd64/text/debian-installer/amd64"


def run(*command, **more):
    """Runs a program, which must succeed; returns its standard output."""
    done = subprocess.run([str(part) for part in command], capture_output=True, **more)
    if done.returncode:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout[-2000:]!r}\n{done.stderr[-2000:]!r}")
    return done.stdout


def text(*command, **more):
    """Runs a program, which must succeed; returns its standard output as text."""
    return run(*command, **more).decode(errors="replace")


def debian():
    """Returns the number of the Debian release; the installer's package is named after it."""
    return re.search(r'^VERSION_ID="?(\d+)', Path("/etc/os-release").read_text(), re.M)[1]


class Material:
    """Paths of Debian's material, set by `fetch_material`."""

    installer = memtest = rescue = python = None


def fetch_material():
    """Finds the packages of Debian that the tests read; downloads and unpacks those that are not installed."""
    installed = [Path("/") / path for path in (MATERIAL.format(debian()), "usr/lib/memtest86+/memtest86+x64.iso",
                                               "usr/lib/grub-rescue/grub-rescue-cdrom.iso", "usr/lib/python3/dist-packages/cloudinit")]
    if not all(path.exists() for path in installed):
        with downloading(CACHE):
            if not CACHE.exists():
                download_material()
    found = lambda path: CACHE / path if (CACHE / path).exists() else Path("/") / path
    Material.installer = found(MATERIAL.format(debian()))
    Material.memtest = found("usr/lib/memtest86+/memtest86+x64.iso")
    Material.rescue = found("usr/lib/grub-rescue/grub-rescue-cdrom.iso")
    Material.python = {**os.environ, "PYTHONPATH": str(CACHE / "usr/lib/python3/dist-packages")}


def download_material():
    """Downloads the packages and unpacks them into the cache."""
    work = Path(tempfile.mkdtemp(prefix=".iso-material-", dir=CACHE.parent))
    (work / "debs/partial").mkdir(parents=True)
    command = ["apt-get", "install", "-q", "-y", "--no-install-recommends", "--download-only", "-o", "APT::Sandbox::User=root",
               "-o", f"Dir::Cache::archives={work}/debs", "-o", "DPkg::Lock::Timeout=600", "-o", "Debug::NoLocking=1",
               f"debian-installer-{debian()}-netboot-amd64", "memtest86+", "grub-rescue-pc", "cloud-init"]
    if subprocess.run(command, capture_output=True).returncode:
        run("apt-get", "update", "-q")
        run(*command)
    (work / "root").mkdir()
    for package in sorted((work / "debs").glob("*.deb")):
        run("dpkg-deb", "-x", package, work / "root")
    (work / "root").rename(CACHE)
    shutil.rmtree(work)


def write(path, data):
    """Writes a file and the folders above it; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


TRIXIE = CACHE.with_name("iso-material-trixie-arm64")
TRIXIE_PACKAGES = ("debian-installer-13-netboot-arm64", "grub-efi-arm64-signed:arm64")


def fetch_trixie():
    """Unpacks Debian 13's installer for arm64, and its signed GRUB for CDs, from the suite's own package lists."""
    with downloading(TRIXIE):
        if TRIXIE.exists():
            return TRIXIE
        work = Path(tempfile.mkdtemp(prefix=".iso-material-", dir=TRIXIE.parent))
        try:
            run("bash", "-ec", '. "$0"; suite_open "$PWD/apt" trixie arm64; suite_fetch "$PWD/apt" "$@"',
                ROOT / "firmware/debian-suite.sh", *TRIXIE_PACKAGES, cwd=work)
            for package in sorted(work.glob("*.deb")):
                run("dpkg-deb", "-x", package, work / "root")
            shutil.rmtree(work / "root/usr/lib/debian-installer/images/13/arm64/gtk")
            (work / "root").rename(TRIXIE)
        finally:
            shutil.rmtree(work)
    return TRIXIE


GRUB_MENU = """set timeout=-1
menuentry --hotkey=i 'Install' {
    set background_color=black
    linux    /install.amd/vmlinuz vga=788 --- quiet
    initrd   /install.amd/initrd.gz
}
submenu 'Advanced' {
    menuentry 'Rescue' {
        linux    /install.amd/vmlinuz vga=788 rescue/enable=true ---
        initrd   /install.amd/initrd.gz
    }
}
"""


def debian_tree(top):
    """Lays files out as debian-cd does for a netinst image, with the installer's own menus."""
    write(top / ".disk/info", 'Debian GNU/Linux 12.12.0 "Bookworm" - Unofficial amd64 NETINST with firmware 20250906-10:22\n')
    (top / "install.amd").mkdir(parents=True)
    shutil.copy(Material.installer / "linux", top / "install.amd/vmlinuz")
    shutil.copy(Material.installer / "initrd.gz", top / "install.amd/initrd.gz")
    menus = {path: top / "isolinux" / path.name for path in (Material.installer / "boot-screens").iterdir()}
    menus[Material.installer / "grub/grub.cfg"] = top / "boot/grub/grub.cfg"
    for source, place in menus.items():
        data = source.read_bytes()
        if source.suffix == ".cfg":
            for old, new in ((b"debian-installer/amd64/boot-screens/", b""), (b"/debian-installer/amd64/linux", b"/install.amd/vmlinuz"),
                             (b"debian-installer/amd64/linux", b"/install.amd/vmlinuz"), (b" /debian-installer/amd64/", b" /install.amd/"),
                             (b"debian-installer/amd64/", b"/install.amd/")):
                data = data.replace(old, new)
        write(place, data)
    write(top / "empty-1", "")
    write(top / "empty-2", "")
    (top / "isolinux/syslinux.cfg").rename(top / "isolinux/isolinux.cfg")
    shutil.copy("/usr/lib/ISOLINUX/isolinux.bin", top / "isolinux")
    write(top / "boot/grub/loopback.cfg", "source /boot/grub/grub.cfg\n")
    write(top / "README.html", "<p>It installs.</p>\n" * 400)
    for number in range(40):
        write(top / f"pool/main/a package with a long name number {number}_1.2.3-4+deb12u5_amd64.deb", os.urandom(300))
    return top


def efi_image(path, kib, width, files):
    """Makes an EFI system partition with mtools."""
    path.write_bytes(b"")
    os.truncate(path, kib * 1024)
    run("mkfs.fat", "-F", width, "-n", "ESP", "--invariant", path)
    made = set()
    for name, data in files.items():
        for parent in list(reversed(Path(name).parents))[1:]:
            if parent not in made:
                made.add(parent)
                run("mmd", "-i", path, f"::{parent}")
        source = write(path.parent / "efi-file", data)
        run("mcopy", "-i", path, source, f"::{name}")
    return path


def grub_efi(here):
    """Builds a GRUB for UEFI that looks for its menu on the ISO, as those of distributions do."""
    config = write(here / "early.cfg", "search --file --set=root /.disk/info\nset prefix=($root)/boot/grub\nconfigfile /boot/grub/grub.cfg\n")
    out = here / "bootx64.efi"
    run("grub-mkimage", "-O", "x86_64-efi", "-o", out, "-p", "/boot/grub", "-c", config,
        *"iso9660 fat part_gpt part_msdos normal search search_fs_file configfile linux echo test font gfxterm "
        "gfxterm_background png play sleep all_video".split())
    return out.read_bytes()


def debian_iso(here, name="debian.iso", extra=()):
    """Packs Debian's installer as debian-cd does: an isohybrid for BIOS and UEFI, with a list of checksums."""
    tree = debian_tree(here / "debian")
    efi_image(tree / "boot/grub/efi.img", 2880, "12", {"EFI/BOOT/BOOTX64.EFI": grub_efi(here), "EFI/debian/grub.cfg": GRUB_MENU})
    (tree / "boot/grub/efi-file").unlink()
    write(tree / "md5sum.txt", b"".join(
        b"%s  ./%s\n" % (hashlib.md5(path.read_bytes()).hexdigest().encode(), str(path.relative_to(tree)).encode())
        for path in sorted(tree.rglob("*")) if path.is_file() and path.name != "isolinux.bin"))
    iso = here / name
    run("xorriso", "-as", "mkisofs", "-r", "-J", "-V", "Debian 12.12.0 amd64 n", "-o", iso,
        "-isohybrid-mbr", "/usr/lib/ISOLINUX/isohdpfx.bin", "-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat",
        "-boot-load-size", "4", "-boot-info-table", "-no-emul-boot", "-eltorito-alt-boot", "-e", "boot/grub/efi.img",
        "-no-emul-boot", "-isohybrid-gpt-basdat", *extra, tree)
    return iso


def trixie_arm64_iso(here):
    """Packs Debian 13's installer for arm64 as debian-cd does: for UEFI only, by the GRUB that Debian signs for CDs."""
    material = fetch_trixie()
    netboot = material / "usr/lib/debian-installer/images/13/arm64/text/debian-installer/arm64"
    tree = here / "trixie"
    write(tree / ".disk/info", 'Debian GNU/Linux 13.0.0 "Trixie" - Unofficial arm64 NETINST with firmware 20250803-10:22\n')
    (tree / "install.a64").mkdir()
    shutil.copy(netboot / "linux", tree / "install.a64/vmlinuz")
    shutil.copy(netboot / "initrd.gz", tree / "install.a64/initrd.gz")
    shutil.copytree(netboot / "grub", tree / "boot/grub")
    menu = (tree / "boot/grub/grub.cfg").read_text()
    menu = menu.replace("/debian-installer/arm64/linux", "/install.a64/vmlinuz").replace("/debian-installer/arm64/", "/install.a64/")
    write(tree / "boot/grub/grub.cfg", menu)
    loader = (material / "usr/lib/grub/arm64-efi-signed/gcdaa64.efi.signed").read_bytes()
    efi_image(tree / "boot/grub/efi.img", 8192, "12", {"EFI/BOOT/BOOTAA64.EFI": loader})
    (tree / "boot/grub/efi-file").unlink()
    iso = here / "trixie.iso"
    run("xorriso", "-as", "mkisofs", "-r", "-J", "-joliet-long", "-V", "Debian 13.0.0 arm64 n", "-o", iso,
        "-e", "boot/grub/efi.img", "-no-emul-boot", "-append_partition", "2", "0xef", tree / "boot/grub/efi.img",
        "-partition_cyl_align", "all", tree)
    return iso


FEDORA_MENU = """set default="1"
function load_video { insmod all_video }
set timeout=60
search --no-floppy --set=root -l 'Fedora-S-dvd-x86_64-40'
menuentry 'Install Fedora 40' --class fedora --class gnu-linux --class gnu --class os {
	linuxefi /images/pxeboot/vmlinuz inst.stage2=hd:LABEL=Fedora-S-dvd-x86_64-40 quiet
	initrdefi /images/pxeboot/initrd.img
}
menuentry 'Test this media & install Fedora 40' --class fedora --class gnu-linux --class gnu --class os {
	linuxefi /images/pxeboot/vmlinuz inst.stage2=hd:LABEL=Fedora-S-dvd-x86_64-40 rd.live.check quiet
	initrdefi /images/pxeboot/initrd.img
}
"""


def fedora_iso(here, width="12", kib=2880):
    """Packs files as lorax does: the menu is in the ISO and in the EFI partition; isomd5sum's digest is implanted."""
    tree = here / f"fedora{width}"
    write(tree / ".treeinfo", "[general]\nfamily = Fedora\nname = Fedora 40\nversion = 40\n")
    write(tree / "images/pxeboot/vmlinuz", os.urandom(200_000))
    write(tree / "images/pxeboot/initrd.img", os.urandom(500_000))
    write(tree / "EFI/BOOT/grub.cfg", FEDORA_MENU)
    files = {"EFI/BOOT/grub.cfg": FEDORA_MENU, "EFI/BOOT/BOOTX64.EFI": grub_efi(here), "EFI/BOOT/a long file name.txt": "x"}
    efi_image(tree / "images/efiboot.img", kib, width, files)
    iso = here / f"fedora{width}.iso"
    run("xorriso", "-as", "mkisofs", "-R", "-J", "-V", "Fedora-S-dvd-x86_64-40", "-o", iso,
        "-e", "images/efiboot.img", "-no-emul-boot", tree)
    run("implantisomd5", "--supported-iso", iso)
    return iso


def built(path):
    """Runs the script below integration/fixtures that builds an ISO of the lab, unless it is built; returns the ISO's path."""
    with downloading(CACHE.with_name("lab-iso")):
        return Path(text(ROOT / "integration/fixtures" / path).strip().splitlines()[-1])


def lab_iso():
    """Returns the live ISO of the lab."""
    return Path(os.environ["LAB_ISO"]) if "LAB_ISO" in os.environ else built("iso/build")
