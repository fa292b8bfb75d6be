"""Views in emulated machines: Debian's installer boots with the host's arguments, and Linux mounts a view."""

import hashlib
import os
import re
import shutil

import pytest

from support.emulated_boots import boot, ovmf
from support.iso_images import lab_iso, run, write
from support.iso_readers import ARGUMENTS, content, driver, extracted, with_arguments

INIT = """
/bin/busybox mount -t devtmpfs dev /dev
for how in check=r norock norock,nojoliet; do
  /bin/busybox mount -t iso9660 -o ro,$how /dev/vda /mnt || echo mount $how failed
  (cd /mnt && /bin/busybox find . -type f -exec /bin/busybox md5sum {} +) | /bin/busybox sed "s|^|$how |"
  /bin/busybox umount /mnt
done
echo that is all
"""


@pytest.mark.parametrize("medium", ["cdrom", "disk"])
@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_debians_installer_boots_with_the_hosts_arguments(debian, here, view, firmware, medium):
    driver("view", debian, view, *with_arguments("--timeout", "1", "--remove", "quiet"))
    assert view.stat().st_size > debian.stat().st_size, "the menus had to move"
    attached = {"cdrom": ["-cdrom", view],
                "disk": ["-drive", f"file={view},format=raw,if=none,readonly=on,id=disk", "-device", "virtio-blk-pci,drive=disk,bootindex=1"]}
    printed = boot(here, r"Command line: .*\n", [*(ovmf(here) if firmware == "uefi" else []), *attached[medium]])
    line = re.search(r"Command line: (.*)", printed)[1].split()
    for argument in ARGUMENTS:
        assert argument in line, f"{argument} is on the kernel's command line: {line}"
    assert "quiet" not in line and line.index("autoinstall") < line.index("---"), f"quiet is removed, and the arguments are before the ---: {line}"


def initrd(here, packages):
    """Packs an initrd that mounts a disk in three ways and prints the checksums of its files."""
    modules, top = next(packages.glob("usr/lib/modules/*")), here / "initrd"
    for name in ("bin", "lib", "proc", "sys", "dev", "mnt"):
        (top / name).mkdir(parents=True)
    shutil.copy(packages / "usr/bin/busybox", top / "bin/busybox")
    names = []
    for name in ("virtio_blk", "cdrom", "isofs"):
        for found in modules.rglob(f"{name}.ko*"):
            write(top / f"lib/{name}.ko", found.read_bytes() if found.suffix == ".ko" else run("xz", "-dc", found))
            names.append(name)
    write(top / "init", "#!/bin/busybox sh\n" + "\n".join(f"/bin/busybox insmod /lib/{name}.ko" for name in names) + INIT)
    os.chmod(top / "init", 0o755)
    listing = "\n".join(str(path.relative_to(top)) for path in sorted(top.rglob("*")))
    return write(here / "initrd.img", run("cpio", "-o", "-H", "newc", "--quiet", input=listing.encode(), cwd=top))


def test_linux_mounts_a_view(debian, here, view):
    lab = lab_iso()
    packages = [path for path in lab.parent.glob("packages-*/root") if list(path.glob("usr/lib/modules/*"))]
    kernel = write(here / "vmlinuz", content(lab, "/boot/vmlinuz"))
    files = []
    for number in range(30):
        files += ["--file", f"/seed-{number:02}.cfg={write(here / 'seeds' / str(number), f'seed {number}')}"]
    driver("view", debian, view, *with_arguments(*files))
    printed = boot(here, "that is all", ["-kernel", kernel, "-initrd", initrd(here, packages[0]), "-append", "console=ttyS0 quiet",
                                         "-drive", f"file={view},format=raw,if=virtio,readonly=on"])
    seen = {}
    for how, md5, path in re.findall(r"^(\S+) ([0-9a-f]{32})  \./(.*?)\r?$", printed, re.M):
        seen.setdefault(how, {})[path.lower()] = md5
    top = extracted(view, here)
    wanted = {str(path.relative_to(top)).lower(): hashlib.md5(path.read_bytes()).hexdigest() for path in top.rglob("*") if path.is_file()}
    assert len(seen) == 3, f"Linux mounts the view in three ways: {printed[-3000:]}"
    for how, found in seen.items():
        assert sorted(found.values()) == sorted(wanted.values()), f"mounted with {how}, the files are the view's: {len(found)} of {len(wanted)}"
        assert found["seed-29.cfg"] == hashlib.md5(b"seed 29").hexdigest(), f"mounted with {how}, an added file is there"
    assert seen["check=r"] == wanted, "by their Rock Ridge names the files are the view's"
