"""ISO files that change under the running server, and while it is stopped: removed, truncated, replaced, put back."""

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from support.iscsi_initiator import Initiator
from support.iso_uploads import iso_path, sha
from support.network import ip
from support.objects import HOSTS, host, timeline
from support.server import PORT, Server
from support.served_iso import IQN, MINE
from support.waiting import eventually
from support.watched_isos import LOOK, details, host_status, login_refusal, phase_is, phases, status

ADDRESS = "10.9.9.9"  # the host's: another address of the loopback
OWN_MAC = "52-54-00-00-00-01"


def build(place, name, volume, files):
    """Makes an ISO with a menu that boots a kernel of the first file's name."""
    tree = place / f"{name}.d"
    (tree / "isolinux").mkdir(parents=True)
    for file, size in files.items():
        (tree / file).write_bytes(hashlib.shake_128(file.encode()).digest(size))
    kernel = next(iter(files))
    (tree / "isolinux/isolinux.cfg").write_text(f"default x\nlabel x\n  kernel /{kernel}\n  append quiet\n")
    iso = place / f"{name}.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", volume, "-o", iso, tree], check=True, capture_output=True)
    return iso


@pytest.fixture(scope="module")
def first(place):
    """The ISO that is added."""
    return build(place, "first", "LIVE", {"vmlinuz": 40_000, "initrd": 500_000})


@pytest.fixture(scope="module")
def other(place):
    """Another ISO, with another kernel."""
    return build(place, "other", "OTHER", {"linux": 50_000, "more": 900_000})


@pytest.fixture
def live(private_network, first):
    """A server with the ISO "live" and the host node1, for one test."""
    if ADDRESS not in ip("address", "show", "dev", "lo"):
        ip("address", "add", f"{ADDRESS}/32", "dev", "lo")
    with tempfile.TemporaryDirectory(prefix="biso-", dir="/var/tmp") as place:
        server = Server(place)
        try:
            server.start()
            added = server.run("iso", "add", "live", first)
            assert added.returncode == 0, f"an ISO is added: {added}"
            server.ask("POST", HOSTS, host("node1", 1, image="live", ip=ADDRESS))
            assert status(server, "live")["phase"] == "Ready" and "sanboot" in script(server), "the ISO is Ready and booted"
            yield server
            assert server.process.poll() is None, f"the server is still running: {server.tail()}"
        finally:
            server.close()


def script(server):
    return server.ask("GET", "/ipxe?mac=52:54:00:00:00:01", token=None, source=ADDRESS).text


def login():
    return Initiator(3260, f"{IQN}:live", name=MINE, source=ADDRESS)


def refused_over(server, protocol):
    """Returns the messages in the host's timeline of the requests that were refused over a protocol."""
    return [detail["message"] for detail in details(server, "node1", "refused") if detail["protocol"] == protocol]


def test_a_removed_file_is_reported_until_it_is_back(live, place):
    file = iso_path(live, "live")
    login().logout()
    before = host_status(live, "node1")
    assert before["phase"] == "Offered" and before["install"]["bootCount"] == 1, f"the boot is offered: {before}"
    file.rename(place / "aside")
    assert phase_is(live, "live", "Broken"), f"a removed file is noticed: {status(live, 'live')}"
    message = status(live, "live")["message"]
    assert "no such file" in message and "live.iso" in message, f"the status has the reason: {message}"
    table = live.run("iso", "list").stdout
    assert "Broken" in table and "no such file" in table, f"`iso list` has it too: {table}"
    shown = script(live)
    assert "live" in shown and "sleep 30" in shown and "sanboot" not in shown and "/ipxe?mac=" in shown, \
        f"the machine shows the reason on its screen, and asks again: {shown}"
    now = host_status(live, "node1")
    assert now["phase"] == "Offered" and now["install"] == before["install"], f"its install is unchanged: {now}"
    waits = eventually(lambda: details(live, "node1", "waiting_for_image"))
    assert waits and "no such file" in waits[0]["message"], f"its timeline has the reason: {timeline(live, 'node1')}"
    gone = live.ask("GET", "/iso/live", token=None)
    assert gone.code == 503 and "live" in gone.text and "no such file" in gone.text and gone.headers["Retry-After"], f"its URL answers 503: {gone}"
    assert login_refusal(live, "live", OWN_MAC, ADDRESS), "iSCSI logins are refused"
    medium = live.ask("POST", f"{HOSTS}/node1/virtualmedia")
    assert medium.code == 422 and "live" in medium.text, f"no virtual medium is given: {medium}"
    live.restart()
    assert status(live, "live")["phase"] == "Broken", "after a restart it is still Broken"
    (place / "aside").rename(file)
    assert phase_is(live, "live", "Ready"), f"when the file is back it is Ready without help: {status(live, 'live')}"
    assert status(live, "live")["sha256"] == sha(file.read_bytes()), f"it is as it was: {status(live, 'live')}"
    assert "sanboot" in script(live), "it is booted again"
    order = lambda: [phase for phase, _ in phases(live, "live")]
    assert eventually(lambda: order() == ["Broken", "Ready"]), f"both are in the server's timeline: {phases(live, 'live')}"


def test_a_request_for_a_removed_file_notices_it_at_once(live, place):
    iso_path(live, "live").rename(place / "aside")
    gone = live.ask("GET", "/iso/live", token=None)
    assert gone.code == 503 and "live" in gone.text, f"a removed file is 503 at once: {gone}"
    assert phase_is(live, "live", "Broken", 4), f"it is noticed at the request: {status(live, 'live')}"
    (place / "aside").rename(iso_path(live, "live"))
    assert phase_is(live, "live", "Ready"), "it comes back"


def test_repeated_events_are_one_line_with_a_count(live):
    """Three hundred logins do not displace the other events, and are all counted after a crash."""
    logins = lambda: timeline(live, "node1", "iscsi_login")
    before = sum(entry.get("count", 1) for entry in logins())
    for _ in range(300):
        login().logout()
    counted = lambda: sum(entry.get("count", 1) for entry in logins()) == before + 300
    assert eventually(counted), f"every login is counted: {logins()}"
    assert len(logins()) <= 4 and logins()[-1]["last"] > logins()[-1]["time"], f"they are in a line or two: {logins()}"
    assert "assigned" in {entry["event"] for entry in timeline(live, "node1")}, f"other events are still there: {timeline(live, 'node1')}"
    table = live.run("host", "timeline", "node1").stdout
    shown = any("iscsi_login" in line and str(logins()[-1]["count"]) in line for line in table.splitlines())
    assert "TIMES" in table and shown, f"the table shows how often: {table}"
    live.restart(signal.SIGKILL)
    assert counted(), f"every login is counted after a crash: {logins()}"


def test_requests_for_missing_files_are_in_the_timeline(live):
    fetch = lambda url: subprocess.run(["curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", url], capture_output=True, text=True)
    for _ in range(20):
        program = fetch("tftp://127.0.0.1/52-54-00-00-00-01/snponly.efi")
    recorded = lambda: [message for message in refused_over(live, "tftp") if "snponly.efi" in message and "firmware_dir" in message]
    assert program.returncode == 68 and eventually(recorded), f"a missing boot program is in the host's timeline: {program}, {timeline(live, 'node1')}"
    fetch("tftp://127.0.0.1/52-54-00-00-00-01/revocations.efi")
    kernel = fetch("tftp://127.0.0.1/iso/live/no-such-kernel")
    fetch(f"http://127.0.0.1:{PORT}/boot/52-54-00-00-00-01/snponly.efi")
    over_http = lambda: [message for message in refused_over(live, "http") if "snponly.efi" in message]
    assert eventually(over_http), f"so is one over HTTP: {timeline(live, 'node1')}"
    assert kernel.returncode == 68 and len(refused_over(live, "tftp")) == 1, f"optional files that loaders try are not: {refused_over(live, 'tftp')}"
    lines = sum("boot program" in line and "snponly.efi" in line for line in live.log().splitlines())
    assert 1 <= lines <= 6, f"the log has no line for each request: {lines}"


def test_a_file_truncated_under_a_session_is_a_medium_error(live):
    file = iso_path(live, "live")
    session = login()
    whole = file.read_bytes()
    os.truncate(file, 100_000)
    for _ in range(20):
        _, sense = session.scsi([0x28, 0, *(200).to_bytes(4, "big"), 0, 0, 8, 0], room=8 * 2048)
    assert sense and sense[:2] == (3, 0x11), f"a read past the end of the file is a medium error: {sense}"
    recorded = lambda: details(live, "node1", "read_failed")
    assert eventually(lambda: [(one["unit"], "file ends before" in one["message"]) for one in recorded()] == [(0, True)]), f"it is one line of the timeline: {timeline(live, 'node1')}"
    session.logout()
    file.write_bytes(whole)
    assert phase_is(live, "live", "Ready"), f"with the whole file it is Ready: {status(live, 'live')}"


def test_a_file_replaced_in_place_is_read_again(live, first, other):
    file = iso_path(live, "live")
    assert status(live, "live")["kernel"]["kernel"] == "/vmlinuz", f"the kernel of its menu is known: {status(live, 'live')}"
    shutil.copyfile(other, file)
    assert eventually(lambda: status(live, "live").get("volumeID") == "OTHER", LOOK), f"a file replaced in place is read again: {status(live, 'live')}"
    now = status(live, "live")
    assert (now["phase"], now["sizeBytes"], now["sha256"], now["kernel"]["kernel"]) == ("Ready", other.stat().st_size, sha(other.read_bytes()), "/linux"), \
        f"size, digest and kernel are those of the new file: {now}"
    recorded = lambda: any(phase == "Ready" and "OTHER" in text and "LIVE" in text for phase, text in phases(live, "live"))
    assert eventually(recorded), f"an event records it: {phases(live, 'live')}"
    assert live.ask("GET", "/iso/live/linux", token=None).code == 200, "a machine gets the new kernel"
    missing = live.ask("GET", "/iso/live/vmlinuz", token=None, source=ADDRESS)
    refused = lambda: [message for message in refused_over(live, "http") if "vmlinuz" in message]
    assert missing.code == 404 and eventually(refused), f"a request for the old kernel is in the host's timeline: {missing}, {timeline(live, 'node1')}"

    live.stop()
    shutil.copyfile(first, file)
    os.utime(file, (time.time() - 60, time.time() - 60))
    live.start()
    assert eventually(lambda: status(live, "live").get("volumeID") == "LIVE", LOOK), f"so is one that was replaced while the server was stopped: {status(live, 'live')}"
    assert status(live, "live")["sha256"] == sha(first.read_bytes()), "its digest is that of the new file"


def test_a_truncated_file_is_not_served_and_can_be_removed(live):
    file = iso_path(live, "live")
    os.truncate(file, 300_000)
    reason = lambda: "ISO 9660" in status(live, "live")["message"]
    assert phase_is(live, "live", "Broken") and eventually(reason, LOOK), f"a truncated file is Broken: {status(live, 'live')}"
    assert live.ask("GET", "/iso/live", token=None).code == 503, "it is not served"
    assert live.ask("DELETE", f"{HOSTS}/node1").code == 200 and live.run("iso", "remove", "live").returncode == 0, "it can be removed"
    assert not file.exists(), "its file is removed with it"
