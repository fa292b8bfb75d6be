"""Copies of real ISOs with one kind of damage each, made with dd."""

import subprocess
from collections import namedtuple

# A damaged ISO, what is wrong with it, and the words that its refusal must have.
Damaged = namedtuple("Damaged", "what file words")


def overwritten(source, place, at, data):
    """Copies a file and replaces some of its bytes."""
    subprocess.run(["cp", source, place], check=True)
    subprocess.run(["dd", f"of={place}", "bs=1", f"seek={at}", "conv=notrunc", "status=none"], input=data, check=True)
    return place


def cut(source, place, size):
    """Copies the beginning of a file."""
    subprocess.run(["dd", f"if={source}", f"of={place}", "bs=2048", f"count={size // 2048}", "status=none"], check=True)
    return place


def damaged_isos(place, debian, rescue, memtest):
    """Makes the damaged copies, by what is wrong with them."""
    data = debian.read_bytes()
    root = int.from_bytes(data[32768 + 158:32768 + 162], "little") * 2048
    folder = data.index(b"\x08ISOLINUX", root) - 32
    file = data.index(b"README.HT", root) - 33
    catalogue = int.from_bytes(data[34816 + 71:34816 + 75], "little") * 2048
    far = (0x7ffffff).to_bytes(4, "little")
    # An isohybrid ends with padding that belongs to no volume: the cut is within the volume.
    volume = int.from_bytes(data[32768 + 80:32768 + 84], "little") * 2048
    rows = [
        ("an empty file", cut(debian, place / "empty.iso", 0), "0 bytes"),
        ("the first 20 KiB", cut(debian, place / "early.iso", 20 << 10), "too short"),
        ("half of Debian's", cut(debian, place / "half.iso", volume // 2), "truncated"),
        ("Debian's without its last sector", cut(debian, place / "last.iso", volume - 2048), "truncated"),
        ("half of GRUB's rescue CD", cut(rescue, place / "rescue.iso", rescue.stat().st_size // 2), "truncated"),
        ("half of memtest86+", cut(memtest, place / "memtest.iso", memtest.stat().st_size // 2), "boot image lies past the end"),
        ("a directory that is its own child", overwritten(debian, place / "loop.iso", folder + 2, data[32768 + 158:32768 + 166]), "its own ancestor"),
        ("a file past the end", overwritten(debian, place / "file.iso", file + 2, far), "past the end"),
        ("a boot image past the end", overwritten(debian, place / "boot.iso", catalogue + 40, far), "boot image lies past the end"),
        ("a boot catalogue of zeros", overwritten(debian, place / "catalogue.iso", catalogue, bytes(64)), "boot catalogue is damaged"),
        ("a directory of zeros", overwritten(debian, place / "zeros.iso", root, bytes(2048)), "directory"),
        ("no descriptor", overwritten(debian, place / "descriptor.iso", 32768, bytes(2048)), "no ISO 9660 volume descriptor"),
    ]
    return {row[0]: Damaged(*row) for row in rows}
