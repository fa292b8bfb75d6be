"""What the library recognises in an image, and the files that it reads: every name tree, UDF, links, long files."""

import hashlib
import os
import subprocess

import pytest

from support.iso_images import run, text, write
from support.iso_readers import content, driver, grub_reads, refused
from support.programs import helper

# Family, volume id, the name that is shown, files.
FAMILIES = [
    ("Fedora", "Fedora-S-dvd-x86_64-41", "Fedora 41", {".treeinfo": "[general]\nfamily = Fedora\nname = Fedora 41\nversion = 41\n"}),
    ("Fedora", "Fedora-E-dvd-x86_64-41", "Fedora-E-dvd-x86_64-41", {".discinfo": "1729841525.8\n41\nx86_64\n"}),
    ("Fedora", "Fedora-WS-Live-41-1-4", "Fedora-WS-Live-41-1-4", {"LiveOS/squashfs.img": "x"}),
    ("CoreOS", "fedora-coreos-41.20241122.3.0", "fedora-coreos-41.20241122.3.0", {"images/pxeboot/vmlinuz": "x"}),
    ("CoreOS", "rhcos-417.94.202410090854-0", "rhcos-417.94.202410090854-0", {"images/pxeboot/vmlinuz": "x"}),
    ("Red Hat", "RHEL-9-4-0-BaseOS-x86_64", "Red Hat Enterprise Linux 9.4.0",
     {".treeinfo": "[general]\nfamily = Red Hat Enterprise Linux\nname = Red Hat Enterprise Linux 9.4.0\n"}),
    ("Red Hat", "Rocky-9-4-x86_64-dvd", "Rocky Linux 9.4", {".treeinfo": "[general]\nfamily = Rocky Linux\nversion = 9.4\n"}),
    ("Red Hat", "CentOS-Stream-9-BaseOS-x86_64", "CentOS-Stream-9-BaseOS-x86_64", {".discinfo": "1700000000.1\n9\nx86_64\n"}),
    ("Red Hat", "AlmaLinux-9_4-x86_64-Live-GNOME", "AlmaLinux-9_4-x86_64-Live-GNOME", {"LiveOS/squashfs.img": "x"}),
    ("Debian", "Debian 12.8.0 amd64 n", 'Debian GNU/Linux 12.8.0 "Bookworm" - Official amd64 NETINST',
     {".disk/info": 'Debian GNU/Linux 12.8.0 "Bookworm" - Official amd64 NETINST'}),
    ("Debian", "ISOIMAGE", "ISOIMAGE", {"live/filesystem.squashfs": "x"}),
    ("Ubuntu", "Ubuntu-Server 24.04.1 LTS amd64", 'Ubuntu-Server 24.04.1 LTS "Noble Numbat" - Release amd64',
     {".disk/info": 'Ubuntu-Server 24.04.1 LTS "Noble Numbat" - Release amd64', "casper/vmlinuz": "x"}),
    ("SUSE", "openSUSE-Leap-15.6-DVD-x86_64710", "openSUSE-Leap 15.6-1",
     {"media.1/products": "/ openSUSE-Leap 15.6-1\n", "boot/x86_64/loader/linux": "x"}),
    ("Agama", "Install-Leap-16.0", "Install-Leap-16.0", {"boot/x86_64/loader/linux": "x", "LiveOS/squashfs.img": "x"}),
    ("Agama", "agama-installer-Leap_16.0", "agama-installer-Leap_16.0", {"boot/x86_64/loader/linux": "x", "LiveOS/squashfs.img": "x"}),
    ("SUSE", "openSUSE_Leap_15.6_KDE_Live", "openSUSE_Leap_15.6_KDE_Live", {"boot/x86_64/loader/linux": "x", "LiveOS/squashfs.img": "x"}),
    ("SUSE", "SLE-15-SP6-Full", "SUSE Linux Enterprise 15 SP6", {".treeinfo": "[general]\nfamily = SUSE Linux Enterprise\nversion = 15 SP6\n"}),
    ("Arch", "ARCH_202411", "ARCH_202411", {"arch/boot/x86_64/vmlinuz-linux": "x"}),
    ("Alpine", "alpine-virt 3.20.3 x86_64", "alpine-virt-3.20.3 240906", {".alpine-release": "alpine-virt-3.20.3 240906\n"}),
    ("Windows", "CCCOMA_X64FRE_EN-US_DV9", "CCCOMA_X64FRE_EN-US_DV9", {"sources/boot.wim": "x", "bootmgr": "x"}),
    ("memtest86+", "MT86PLUS_64", "MT86PLUS_64", {"EFI/BOOT/bootx64.efi": "x"}),
    ("unknown", "SOMETHING", "SOMETHING", {"readme": "x"}),
]


def test_the_layout_of_debians_installer_is_recognised(debian):
    shown = driver("inspect", debian)
    for line in ("volume id     Debian 12.12.0 amd64 n", "(Debian)", "names         ISO 9660, Rock Ridge, Joliet",
                 "hybrid        MBR, GPT", "boots         BIOS", "boots         UEFI",
                 "menu          /isolinux/txt.cfg (Syslinux)", "menu          /boot/grub/grub.cfg (Grub)",
                 '"Install": /install.amd/vmlinuz initrd=/install.amd/initrd.gz vga=788 --- quiet',
                 '"... Rescue mode": /install.amd/vmlinuz', "menu          /isolinux/rqtxt.cfg (Syslinux)"):
        assert line in shown, f"{line!r} is shown: {shown}"


@pytest.mark.parametrize("family, volume, name, files", FAMILIES, ids=[row[1] for row in FAMILIES])
def test_a_family_is_recognised_by_its_files(here, family, volume, name, files):
    for path, data in files.items():
        write(here / "tree" / path, data)
    run("xorriso", "-as", "mkisofs", "-quiet", "-r", "-J", "-V", volume, "-o", here / "x.iso", here / "tree")
    shown = driver("inspect", here / "x.iso")
    assert f"{name} ({family})" in shown, f"{volume} is recognised as {name} ({family}): {shown}"


def test_memtest_and_grubs_rescue_cd_are_read(material):
    assert "(memtest86+)" in driver("inspect", material.memtest), "memtest86+ is recognised"
    path = "/boot/grub/i386-pc/normal.mod"
    assert content(material.rescue, path) == grub_reads(material.rescue, path), "a file of GRUB's rescue CD is read as GRUB reads it"


DEEP = "a/b/c/d/e/f/g/h/i/j/deep.txt"
LONG = "x" * 180 + ".txt"
MANY = "images/file-number-299.rpm"
NAME_TREES = [
    ("rock-ridge", "genisoimage -quiet -R -J", ["kernel", "images/again", LONG, "Grüße.txt", DEEP]),
    ("xorriso", "xorriso -as mkisofs -r -J -iso-level 3", ["kernel", "images/again", LONG, "Grüße.txt", DEEP]),
    ("plain", "genisoimage -quiet -D", [DEEP]),
    ("joliet", "genisoimage -quiet -D -J", ["Grüße.txt", DEEP, MANY]),
    ("udf", "genisoimage -quiet -D -udf", [DEEP, MANY, "Grüße.txt"]),
]


@pytest.fixture(scope="module")
def tree(place):
    """Files with long names, deep folders, and symbolic links, two of which form a circle."""
    tree = place / "names"
    write(tree / "images/pxeboot/vmlinuz", os.urandom(300_000))
    write(tree / LONG, "long")
    write(tree / "Grüße.txt", "hallo")
    write(tree / "empty", "")
    write(tree / DEEP, "deep")
    for number in range(300):
        write(tree / f"images/file-number-{number}.rpm", str(number))
    (tree / "kernel").symlink_to("images/pxeboot/vmlinuz")
    (tree / "images/again").symlink_to("/kernel")
    (tree / "round").symlink_to("round2")
    (tree / "round2").symlink_to("round")
    return tree


@pytest.mark.parametrize("name, how, more", NAME_TREES, ids=[row[0] for row in NAME_TREES])
def test_every_name_tree_of_an_image_is_read(here, tree, name, how, more):
    iso = here / "x.iso"
    run(*how.split(), "-o", iso, tree)
    kernel = (tree / "images/pxeboot/vmlinuz").read_bytes()
    for path in ["images/pxeboot/vmlinuz", "/IMAGES/PXEBOOT/VMLINUZ", "//images/./pxeboot/vmlinuz", "empty", *more]:
        wanted = kernel if path == "images/again" or path.startswith("/") else (tree / path).read_bytes()
        assert content(iso, path) == wanted, f"{name}: {path} is read"
    for path in ("none", "images/none", "empty/none", "images", ""):
        assert "no such file" in refused("cat", iso, path), f"{name}: there is no file {path!r}"
    if name == "rock-ridge":
        assert "symbolic links" in refused("cat", iso, "round"), "a circle of symbolic links is refused"


def test_files_of_windows_are_read_from_udf(here):
    tree, iso = here / "windows", here / "windows.iso"
    wim = write(tree / "sources/boot.wim", os.urandom(5_000_000)).read_bytes()
    write(tree / "bootmgr", "bootmgr")
    write(tree / "README.TXT", "This disc contains a \"UDF\" file system")
    run("genisoimage", "-quiet", "-udf", "-hide", "sources", "-hide", "bootmgr", "-hide", "boot.wim", "-V", "CCCOMA_X64FRE", "-o", iso, tree)
    assert "BOOTMGR" not in text("isoinfo", "-f", "-i", iso), "the files are not in the ISO 9660 tree"
    assert "(Windows)" in driver("inspect", iso), "Windows is recognised"
    assert content(iso, "/sources/boot.wim") == wim, "a file is read from UDF"
    assert content(iso, "/Sources/BOOT.WIM") == wim, "the case of its name does not matter"
    assert content(iso, "/readme.txt").startswith(b"This disc"), "a file of the ISO 9660 tree is read too"


def test_a_file_longer_than_4_gib_is_read(here, view):
    tree, iso = here / "big", here / "big.iso"
    tree.mkdir()
    size = (4 << 30) + 5_000_001
    with open(tree / "install.img", "wb") as file:
        file.truncate(size)
        file.seek((4 << 30) - 3)
        file.write(b"across the border")
        file.seek(size - 3)
        file.write(b"end")
    write(tree / "isolinux.cfg", "label a\nkernel /k\nappend b\n")
    write(tree / "z", "behind")
    run("xorriso", "-as", "mkisofs", "-r", "-J", "-iso-level", "3", "-o", iso, tree)
    listing = driver("ls", iso)
    assert f"/install.img\t{size}\tFile" in listing, f"the file is listed with its size: {listing}"
    with subprocess.Popen([helper("iso"), "cat", iso, "install.img"], stdout=subprocess.PIPE) as done:
        digest, length = hashlib.sha256(), 0
        while part := done.stdout.read(1 << 22):
            digest.update(part)
            length += len(part)
    with open(tree / "install.img", "rb") as file:
        assert length == size and digest.hexdigest() == hashlib.file_digest(file, "sha256").hexdigest(), "the file is read whole"
    driver("view", iso, view, "--file", f"/ks.cfg={write(here / 'ks', 'x')}", "--append", "c")
    assert f"/install.img\t{size}\tFile" in driver("ls", view), "a view lists the file with its size"
    assert content(view, "isolinux.cfg").endswith(b"append b c\n"), "a view changes the menu behind it"
