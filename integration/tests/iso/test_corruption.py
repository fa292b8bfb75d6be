"""Images with damaged structures: refused by the library with a reason, and random damage that never crashes it."""

import random
import shutil
import subprocess

import pytest

from support.iso_images import efi_image, run, write
from support.iso_readers import refused
from support.programs import helper
from support.waiting import slowness

PRIMARY, BOOT_RECORD = 32768, 34816  # offsets of the volume descriptors
ROOT = PRIMARY + 156
FAR = (0x7fffffff).to_bytes(4, "little")


@pytest.fixture(scope="module")
def data(debian):
    return debian.read_bytes()


def put(at, value):
    """Returns a change that writes bytes at an offset."""
    def change(data):
        return data[:at] + value + data[at + len(value):]
    return change


def offset(data, field):
    """Returns the byte offset that a block number in the image leads to."""
    return int.from_bytes(data[field:field + 4], "little") * 2048


def root(data):
    return offset(data, ROOT + 2)


def catalogue(data):
    return offset(data, BOOT_RECORD + 71)


def record(data, name, before):
    """Returns the offset of a record in the root directory by its name."""
    return data.index(name, root(data)) - before


DAMAGES = {
    "an empty file": (lambda data: b"", "0 bytes"),
    "the system area only": (lambda data: data[:20000], "too short"),
    "all but the last sector": (lambda data: data[:-2048], "truncated"),
    "half of it": (lambda data: data[:len(data) // 2], "truncated"),
    "another standard identifier": (put(PRIMARY, b"\1CD002"), "no ISO 9660 volume descriptor"),
    "no primary descriptor": (put(PRIMARY, b"\3"), "primary"),
    "a block size of 512": (put(PRIMARY + 128, b"\0\2"), "512"),
    "a root directory past the end": (put(ROOT + 2, FAR), "past the end"),
    "a root directory of 1 GiB": (put(ROOT + 10, (1 << 30).to_bytes(4, "little")), "16 MiB"),
    "a record that is too short": (lambda data: put(root(data), b"\5")(data), "record"),
    "a boot catalogue past the end": (put(BOOT_RECORD + 71, FAR), "catalogue lies past the end"),
    "a directory that is its own child": (lambda data: put(record(data, b"\x08ISOLINUX", 32) + 2, data[ROOT + 2:ROOT + 10])(data), "its own ancestor"),
    "a file past the end": (lambda data: put(record(data, b"README.HT", 33) + 2, (0x7ffffff).to_bytes(4, "little"))(data), "past the end"),
    "a wrong checksum of the boot catalogue": (lambda data: put(catalogue(data) + 5, b"\7")(data), "checksum"),
    "no key in the boot catalogue": (lambda data: put(catalogue(data) + 30, b"\0\0")(data), "no key"),
    "a boot image past the end": (lambda data: put(catalogue(data) + 32 + 8, b"\xff\xff\xff\x7f")(data), "boot image lies past the end"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_corrupt_image_is_refused_with_a_reason(data, here, damage):
    change, reason = DAMAGES[damage]
    broken = write(here / "broken.iso", change(data))
    message = refused("inspect", broken)
    assert reason in message, f"{damage}: the reason names {reason!r}: {message}"


def test_random_damage_never_crashes_the_library(here, view):
    tree, iso, broken = here / "small", here / "small.iso", here / "broken.iso"
    write(tree / "isolinux/isolinux.cfg", "label a\nkernel /k\nappend b\n")
    for number in range(8):
        write(tree / f"d{number}/file with a long name {number}", str(number))
    esp = efi_image(here / "esp.img", 64, "12", {"EFI/BOOT/grub.cfg": "linux /k\n"})
    shutil.copy(esp, tree / "efi.img")
    run("xorriso", "-as", "mkisofs", "-R", "-J", "-e", "efi.img", "-no-emul-boot", "-o", iso, tree)
    data = iso.read_bytes()
    chance = random.Random(9660)
    for _ in range(150):
        copy = bytearray(data)
        for _ in range(chance.randrange(1, 8)):
            copy[chance.randrange(32768, 32768 + 64 * 1024)] = chance.choice([0, 1, 2, 0x7f, 0x80, 0xff, chance.randrange(256)])
        broken.write_bytes(copy)
        done = subprocess.run([helper("iso"), "view", broken, view, "--append", "x=1", "--file", f"/ks.cfg={esp}"],
                              capture_output=True, timeout=20 * slowness())
        assert done.returncode in (0, 1), f"the image is viewed or refused: {done.returncode}, {done.stderr[-500:]}"
