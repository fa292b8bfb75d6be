"""A host's view of its ISO through the running server: over iSCSI, over HTTP and by its BMC, with the same bytes."""

import re

import pytest

from support.iso_uploads import sha
from support.iscsi_initiator import Initiator
from support.objects import HOSTS, IMAGES
from support.served_iso import (
    ARGUMENTS, IQN, MERGE, MINE, VIEW, change_host, kernel_lines, local_url, portal_url, read_by_qemu, read_by_ranges, run)
from support.waiting import eventually


def insert_medium(server):
    """Gives node1's BMC its medium; returns the URL, size and tag."""
    inserted = server.ask("POST", f"{HOSTS}/node1/virtualmedia")
    assert inserted.code == 200 and inserted.json["url"].endswith("/live.iso"), f"the BMC gets a URL: {inserted}"
    return inserted.json


def read_medium(medium):
    return read_by_ranges(medium["url"], medium["sizeBytes"], medium["etag"])


def test_the_view_is_the_same_over_every_protocol(live, bootable, here):
    plain = live.ask("GET", "/iso/live", token=None)
    assert sha(plain.body) == sha(bootable.read_bytes()), "without a host the ISO is served as it is"
    over_http = live.ask("GET", VIEW, token=None)
    tag = over_http.headers["ETag"]
    assert over_http.code == 200 and sha(over_http.body) != sha(plain.body) and tag != plain.headers["ETag"], "a host gets its own view, with its own tag"
    over_iscsi = read_by_qemu(here, "live")
    assert sha(over_iscsi) == sha(over_http.body), f"iSCSI and HTTP give the same bytes: {len(over_iscsi)}, {len(over_http.body)}"
    assert sha(read_by_ranges(local_url(VIEW), len(over_http.body), tag)) == sha(over_http.body), "ranges give the same bytes"
    medium = insert_medium(live)
    over_media = read_medium(medium)
    assert sha(over_media) == sha(read_by_qemu(here, "live")), "the BMC reads the same bytes"
    assert live.ask("GET", VIEW, token=None).headers["ETag"] == medium["etag"], "the BMC's medium has the same tag"
    status = live.ask("GET", f"{HOSTS}/node1").json["status"]
    assert status["phase"] == "Offered", f"the install is offered: {status}"


def test_xorriso_finds_the_hosts_arguments_in_the_view(live, view):
    view.write_bytes(live.ask("GET", VIEW, token=None).body)
    for menu in ("/isolinux/isolinux.cfg", "/boot/grub/grub.cfg"):
        lines = kernel_lines(view, menu)
        assert lines and all(argument in line for line in lines for argument in ARGUMENTS), f"{menu} has the host's arguments: {lines}"
    report = run("xorriso", "-indev", view, "-report_el_torito", "plain")
    assert "BIOS" in report and "UEFI" in report, f"both boot entries are there: {report}"


def blocks_of(session, first, last):
    """Reads blocks over iSCSI."""
    read = b""
    for at in range(first, last, 32):
        count = min(32, last - at)
        read += session.good([0x28, 0, *at.to_bytes(4, "big"), 0, *count.to_bytes(2, "big"), 0], room=count * 2048)
    return read


def test_a_session_and_a_url_keep_their_bytes_when_the_host_changes(live, here):
    medium = insert_medium(live)
    before = read_medium(medium)
    blocks = len(before) // 2048
    half = blocks // 2
    session = Initiator(3260, f"{IQN}:live", name=MINE)
    data = blocks_of(session, 0, half)
    first_half = read_medium(medium)[:half * 2048]
    changed = change_host(live, kernelArguments=["another=argument", "x" * 900])
    assert changed.code == 200, f"the host's arguments change: {changed}"
    now = live.ask("GET", VIEW, token=None)
    assert now.headers["ETag"] != medium["etag"] and sha(now.body) != sha(before), "a new request by the host's name gets another tag and other bytes"
    stale = live.ask("GET", VIEW, token=None, headers={"Range": "bytes=100-", "If-Range": medium["etag"]})
    assert stale.code == 200 and sha(stale.body) == sha(now.body), "a range of the old view gets the whole new one"
    data += blocks_of(session, half, blocks)
    assert sha(data) == sha(before), "the iSCSI session continues with the bytes that it began with"
    assert sha(first_half + read_medium(medium)[half * 2048:]) == sha(before), "the BMC's URL does so too"
    session.logout()
    assert sha(read_by_qemu(here, "live")) == sha(now.body), "the next session gets the new view"
    assert change_host(live, kernelArguments=ARGUMENTS).code == 200, "the host's arguments change back"
    live.restart()
    assert sha(read_medium(medium)) == sha(before), "the URL outlives a restart, since the host is as it was"


def test_another_token_reads_nothing(live):
    url = insert_medium(live)["url"]
    wrong = url[:-12] + ("0" if url[-12] != "0" else "1") + url[-11:]
    assert live.ask("GET", re.sub(r"^http://[^/]+", "", wrong), token=None).code == 403, "another token reads nothing"


@pytest.mark.parametrize("how, kind", [("disk", 0), ("cdrom", 5)])
def test_an_iso_is_attached_as_a_disk_or_a_cdrom(live, how, kind):
    live.ask("PATCH", f"{IMAGES}/live", {"spec": {"attachAs": how}}, MERGE)
    session = Initiator(3260, f"{IQN}:live", name=MINE)
    found = session.good([0x12, 0, 0, 0, 36, 0])[0] & 31
    session.logout()
    assert found == kind, f"attachAs {how} is device type {kind}: {found}"


def test_another_way_to_attach_an_iso_is_refused(live):
    other = live.ask("PATCH", f"{IMAGES}/live", {"spec": {"attachAs": "floppy"}}, MERGE)
    assert other.code == 422, f"attachAs: floppy is refused: {other}"


def test_a_view_that_cannot_be_made_is_refused_and_recorded(live):
    """The host's arguments with those of the image are longer than a kernel reads."""
    live.ask("PATCH", f"{IMAGES}/live", {"spec": {"kernelArguments": ["a" * 1000]}}, MERGE)
    changed = change_host(live, kernelArguments=["b" * 1000, "c" * 40])
    assert changed.code == 200, f"each of both is accepted: {changed}"
    try:
        run("iscsi-inq", "-i", MINE, portal_url("live"), good=False)
        timeline = lambda: live.run("host", "timeline", "node1", "-o", "json").stdout
        assert eventually(lambda: "the view of" in timeline()), f"the refusal is in the host's timeline: {timeline()}"
    finally:
        live.ask("PATCH", f"{IMAGES}/live", {"spec": {"kernelArguments": []}}, MERGE)
        change_host(live, kernelArguments=ARGUMENTS)
