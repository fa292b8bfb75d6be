"""A minimal ISO 9660 image."""


def tiny_iso(volume="TINY"):
    """The smallest ISO 9660 volume that holds a root directory (ECMA-119)."""
    both = lambda number, size: number.to_bytes(size, "little") + number.to_bytes(size, "big")
    sectors = 24
    image = bytearray(sectors * 2048)
    record = lambda name: bytes([34, 0]) + both(20, 4) + both(2048, 4) + bytes(7) + bytes([2, 0, 0]) + both(1, 2) + bytes([1, name])
    descriptor = bytearray(2048)
    descriptor[0:7] = b"\x01CD001\x01"
    descriptor[40:72] = volume.ljust(32).encode()
    descriptor[80:88] = both(sectors, 4)
    descriptor[120:124], descriptor[124:128], descriptor[128:132] = both(1, 2), both(1, 2), both(2048, 2)
    descriptor[132:140] = both(10, 4)
    descriptor[140:144], descriptor[148:152] = (18).to_bytes(4, "little"), (19).to_bytes(4, "big")
    descriptor[156:190] = record(0)
    descriptor[881] = 1
    image[16 * 2048:17 * 2048] = descriptor
    image[17 * 2048:17 * 2048 + 7] = b"\xffCD001\x01"
    image[18 * 2048:18 * 2048 + 10] = bytes([1, 0]) + (20).to_bytes(4, "little") + (1).to_bytes(2, "little") + b"\0\0"
    image[19 * 2048:19 * 2048 + 10] = bytes([1, 0]) + (20).to_bytes(4, "big") + (1).to_bytes(2, "big") + b"\0\0"
    image[20 * 2048:20 * 2048 + 68] = record(0) + record(1)
    return bytes(image)
