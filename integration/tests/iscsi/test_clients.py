"""The iSCSI target read by libiscsi's tools and by QEMU."""

import pytest

from support.iscsi_target import OTHER, TARGET, run


def test_libiscsi_lists_targets_and_their_units(target):
    text = run("iscsi-ls", "-s", f"iscsi://127.0.0.1:{target.port}")
    assert f"Target:{TARGET} Portal:127.0.0.1:{target.port},1" in text and f"Target:{OTHER}" in text, f"both targets are listed: {text}"
    assert "Lun:0    Type:DIRECT_ACCESS (Size:15M)" in text and "Lun:1    Type:MMC" in text, f"both units are listed: {text}"


def test_libiscsi_reads_inquiry_pages(target):
    assert "Peripheral Device Type:MMC" in run("iscsi-inq", target.url(1)), "unit 1 is a CD-ROM"
    serials = set()
    for lun, name in ((0, TARGET), (1, TARGET), (0, OTHER)):
        serials.add(run("iscsi-inq", "-e", "1", "-c", "128", target.url(lun, name)))
        assert "NAA" in run("iscsi-inq", "-e", "1", "-c", "131", target.url(lun, name)), f"unit {lun} of {name} has a NAA identifier"
    assert len(serials) == 3, f"the serial numbers differ: {serials}"


@pytest.mark.parametrize("lun, medium", [(0, "disk"), (1, "cd")], ids=["disk", "cdrom"])
def test_qemu_reads_a_unit_whole(target, media, tmp_path, lun, medium):
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", target.url(lun), tmp_path / "copy")
    read, wanted = (tmp_path / "copy").read_bytes(), getattr(media, medium).read_bytes()
    assert read[:len(wanted)] == wanted and not read[len(wanted):].strip(b"\0"), f"unit {lun} is the file, padded with zeros"


def test_qemu_reads_with_header_digests(target, media, tmp_path):
    options = (f"driver=raw,file.driver=iscsi,file.transport=tcp,file.portal=127.0.0.1:{target.port},"
               f"file.target={TARGET},file.lun=0,file.header-digest=crc32c")
    run("qemu-img", "convert", "--image-opts", options, "-O", "raw", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == media.disk.read_bytes(), "QEMU reads the disk with header digests"


def test_qemu_is_refused_a_write(target):
    text = run("qemu-io", "-f", "raw", "-c", "write 0 512", target.url(0), good=False)
    assert "read-only" in text or "rite" in text, f"QEMU reports that it cannot write: {text}"
