"""SCSI commands: those of MMC-6, which libiscsi's suite does not test, reads of every kind, refused writes, the tray."""

import os

import pytest

from support.iscsi_initiator import Initiator
from support.iscsi_target import OTHER, TARGET, Target

INVALID_FIELD = (5, 0x24, 0)


@pytest.fixture
def initiator(target):
    """A session with the first target: a disk as unit 0, a CD-ROM as unit 1."""
    initiator = Initiator(target.port, TARGET)
    yield initiator
    initiator.logout()


@pytest.fixture
def blocks(media):
    """Size of the CD-ROM in blocks of 2048 octets."""
    return -(-media.cd.stat().st_size // 2048)


def test_a_cdrom_identifies_itself_and_its_capacity(initiator, blocks):
    inquiry = initiator.good([0x12, 0, 0, 0, 96, 0], 1)
    assert inquiry[0] == 5 and inquiry[1] == 0x80 and inquiry[58:66].hex() == "00a0046004e00960", \
        f"INQUIRY: a removable CD-ROM with its version descriptors: {inquiry.hex()}"
    assert initiator.good([0x25], 1) == (blocks - 1).to_bytes(4, "big") + (2048).to_bytes(4, "big"), "READ CAPACITY: last block and block size"
    assert initiator.good([0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0], 1)[:4] == (16).to_bytes(4, "big"), "REPORT LUNS: two units"


def test_a_cdrom_has_one_track_and_a_lead_out(initiator, blocks):
    toc = initiator.good([0x43, 0, 0, 0, 0, 0, 0, 1, 0, 0], 1)
    assert toc == bytes.fromhex("0012010100140100000000000014aa00") + blocks.to_bytes(4, "big"), f"READ TOC: one track and the lead-out: {toc.hex()}"
    seconds = (blocks + 150) // 75
    lead_out = initiator.good([0x43, 2, 0, 0, 0, 0, 0xAA, 1, 0, 0], 1)[-3:]
    assert lead_out == bytes([seconds // 60, seconds % 60, (blocks + 150) % 75]), f"READ TOC: the lead-out in minutes, seconds, frames: {lead_out.hex()}"
    assert initiator.good([0x43, 0, 1, 0, 0, 0, 0, 1, 0, 0], 1)[:4] == bytes.fromhex("000a0101"), "READ TOC: one session"
    assert len(initiator.good([0x43, 2, 2, 0, 0, 0, 1, 1, 0, 0], 1)) == 48, "READ TOC: the raw entries of the one session"
    assert initiator.scsi([0x43, 0, 5, 0, 0, 0, 0, 1, 0, 0], 1)[1] == INVALID_FIELD, "READ TOC: CD-TEXT is an invalid field"


def test_a_cdrom_describes_disc_track_and_events(initiator, blocks):
    disc = initiator.good([0x51, 0, 0, 0, 0, 0, 0, 0, 34, 0], 1)
    assert disc[:8] == bytes.fromhex("00200e0101010120") and len(disc) == 34, f"READ DISC INFORMATION: a complete disc: {disc.hex()}"
    track = initiator.good([0x52, 1, 0, 0, 0, 1, 0, 0, 36, 0], 1)
    assert track[2:4] == b"\1\1" and track[5] == 4 and track[24:28] == blocks.to_bytes(4, "big"), \
        f"READ TRACK INFORMATION: a data track as long as the medium: {track.hex()}"
    assert initiator.scsi([0x52, 1, 0, 0, 0, 2, 0, 0, 36, 0], 1)[1] == INVALID_FIELD, "READ TRACK INFORMATION: there is no track 2"
    events = initiator.good([0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8, 0], 1).hex()
    assert events == "0006041000020000", f"GET EVENT STATUS NOTIFICATION: a medium is present: {events}"
    assert initiator.scsi([0x4A, 0, 0, 0, 0x10, 0, 0, 0, 8, 0], 1)[1] == INVALID_FIELD, "GET EVENT STATUS NOTIFICATION: must be polled"
    page = initiator.good([0x5A, 0, 0x2A, 0, 0, 0, 0, 0, 128, 0], 1)
    assert page[8] == 0x2A and page[0] << 8 | page[1] == len(page) - 2 and page[6:8] == b"\0\0", f"MODE SENSE (10): the capabilities page: {page.hex()}"
    assert initiator.good([0x1A, 0, 0x2A, 0, 128, 0], 1)[4:6] == page[8:10], "MODE SENSE (6): the same page"


@pytest.mark.parametrize("name, lun, profile", [(TARGET, 1, 8), (OTHER, 0, 16)], ids=["cd-rom", "dvd-rom"])
def test_profile_and_features_depend_on_the_disc(target, name, lun, profile):
    drive = Initiator(target.port, name)
    data = drive.good([0x46, 0, 0, 0, 0, 0, 0, 4, 0, 0], lun)
    assert int.from_bytes(data[:4], "big") == len(data) - 4 and int.from_bytes(data[6:8], "big") == profile, f"GET CONFIGURATION: profile {profile}"
    at, codes = 8, []
    while at < len(data):
        codes.append(int.from_bytes(data[at:at + 2], "big"))
        at += 4 + data[at + 3]
    # What the profiles CD-ROM and DVD-ROM make mandatory (MMC-6 5.4.3, 5.4.9).
    assert codes == sorted(codes) and {0, 1, 2, 3, 0x10, 0x1E, 0x1F, 0x100, 0x105} <= set(codes), f"the mandatory features, in order: {codes}"
    one = drive.good([0x46, 2, 0, 3, 0, 0, 0, 4, 0, 0], lun)
    assert one[8:10] == b"\0\3" and len(one) == 16, f"one feature by its number: {one.hex()}"
    _, sense = drive.scsi([0xAD, 0, 0, 0, 0, 0, 0, 0, 16, 0], lun)
    assert (sense is None) == (profile == 16), f"only a DVD has a disc structure: {sense}"
    drive.logout()


def test_reads_of_every_kind_return_the_image(target, media, blocks):
    image = media.cd.read_bytes()
    cd = Initiator(target.port, TARGET, ["MaxRecvDataSegmentLength=8192", "MaxBurstLength=16384"])
    wanted = image[10 * 2048:50 * 2048]
    for cdb in ([0x28, 0, 0, 0, 0, 10, 0, 0, 40, 0], [0xA8, 0, 0, 0, 0, 10, 0, 0, 0, 40, 0, 0],
                [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 40, 0, 0], [0x08, 0, 0, 10, 40, 0],
                [0xBE, 0, 0, 0, 0, 10, 0, 0, 40, 0x10, 0, 0]):
        assert cd.good(cdb, 1, 40 * 2048) == wanted, f"the read {bytes(cdb).hex()} returns the image's blocks"
    last = cd.good([0x28, 0, *(blocks - 1).to_bytes(4, "big"), 0, 0, 1, 0], 1)
    assert last == image[(blocks - 1) * 2048:].ljust(2048, b"\0"), "the last block is padded with zeros"
    for start, count in ((blocks, 1), (blocks - 1, 2), (0xFFFFFFFF, 0xFFFF)):
        cdb = [0x28, 0, *start.to_bytes(4, "big"), 0, *count.to_bytes(2, "big"), 0]
        assert cd.scsi(cdb, 1)[1] == (5, 0x21, 0), f"{count} blocks at {start} are past the end"
    assert cd.scsi([0xBE, 0, 0, 0, 0, 0, 0, 0, 1, 0xF8, 0, 0], 1)[1] == INVALID_FIELD, "READ CD: raw sectors are an invalid field"
    cd.logout()


@pytest.mark.parametrize("lun, more", [(0, [0x89, 0x8B, 0x8E, 0xAE]), (1, [])], ids=["disk", "cdrom"])
def test_every_write_is_refused_with_write_protect_sense(initiator, lun, more):
    for opcode in (0x04, 0x0A, 0x2A, 0x2E, 0x41, 0x42, 0x8A, 0x93, 0xAA, *more):
        assert initiator.scsi([opcode], lun)[1] == (7, 0x27, 0), f"the write {opcode:02x} on unit {lun} is refused"


def test_a_tray_opens_and_locks_for_its_own_session_only(target):
    one, two = Initiator(target.port, TARGET, isid=1), Initiator(target.port, TARGET, isid=2)
    one.good([0x1E, 0, 0, 0, 1, 0], 1)
    assert one.scsi([0x1B, 0, 0, 0, 2, 0], 1)[1] == (5, 0x53, 2), "a locked tray does not open"
    one.good([0x1E, 0, 0, 0, 0, 0], 1)
    one.good([0x1B, 0, 0, 0, 2, 0], 1)
    assert one.scsi([0x00], 1)[1] == (2, 0x3A, 0), "an open tray has no medium"
    assert one.good([0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8, 0], 1).hex() == "0006041000010000", "the event status is an open tray"
    two.good([0x00], 1)  # the other session's tray is closed
    one.good([0x1B, 0, 0, 0, 3, 0], 1)
    one.good([0x00], 1)
    one.logout()
    two.logout()


def test_a_truncated_file_is_a_medium_error(tmp_path):
    medium = tmp_path / "medium"
    medium.write_bytes(bytes(1 << 20))
    with Target(f"{TARGET}=disk:{medium}") as target:
        initiator = Initiator(target.port, TARGET)
        os.truncate(medium, 4096)
        assert initiator.scsi([0x28, 0, 0, 0, 0, 100, 0, 0, 8, 0])[1] == (3, 0x11, 0), "a read past the end of the file is a medium error"
        initiator.good([0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0])
        initiator.logout()
        target.wait_for("ReadFailed")
