"""Damaged ISOs: refused however they come, and reported while hosts boot them. Removed and replaced files: test_iso_files."""

import hashlib
import os
import subprocess

import pytest

from support.damaged_isos import damaged_isos
from support.iscsi_initiator import Initiator
from support.iso_uploads import iso_path
from support.objects import HOSTS, IMAGES, host, image
from support.served_iso import IQN, MERGE, causes
from support.waiting import eventually
from support.watched_isos import LOOK, details, login_refusal, status

IN_USE = ("half of Debian's", "a directory that is its own child", "a file past the end", "no descriptor")
KINDS = ("an empty file", "the first 20 KiB", "half of Debian's", "Debian's without its last sector", "half of GRUB's rescue CD",
         "half of memtest86+", "a directory that is its own child", "a file past the end", "a boot image past the end",
         "a boot catalogue of zeros", "a directory of zeros", "no descriptor")
NODES = {"plain": ("52-54-00-00-00-01", "192.0.2.1"), "changed": ("52-54-00-00-00-02", "192.0.2.2")}


@pytest.fixture(scope="module")
def damaged(debian, material, place):
    """Damaged copies of ISOs by what is wrong with them."""
    made = damaged_isos(place, debian, material.rescue, material.memtest)
    assert set(made) == set(KINDS), f"every kind of damage is tested: {set(made) ^ set(KINDS)}"
    return made


@pytest.fixture(scope="module")
def used(server, debian):
    """A server with the undamaged ISO "used", which two hosts boot: one as it is, one with a kernel argument."""
    added = server.run("iso", "add", "used", debian)
    assert added.returncode == 0, f"the undamaged image is added: {added}"
    for name, number, more in (("plain", 1, {}), ("changed", 2, {"kernelArguments": ["a=b"]})):
        created = server.ask("POST", HOSTS, host(name, number, ip=NODES[name][1], image="used", **more))
        assert created.code == 201, f"a host boots it: {created}"
    server.original = status(server, "used")
    assert server.original["phase"] == "Ready" and server.original["sizeBytes"] == debian.stat().st_size, f"it is Ready: {server.original}"
    return server


def replace(server, name, file, *how):
    """Puts another file in an ISO's place."""
    new = iso_path(server, name).with_suffix(".new")
    subprocess.run(["cp", *how, file, new], check=True)
    new.rename(iso_path(server, name))


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_iso_is_refused_however_it_comes(used, damaged, kind):
    what, file, words = damaged[kind]
    added = used.run("iso", "add", "bad", file)
    assert added.returncode == 5 and words in added.stderr and "bad" in added.stderr, f"{what}: `iso add` refuses it: {added}"
    sent = used.ask("POST", f"{IMAGES}/upload?name=bad", file.read_bytes(), "application/octet-stream")
    assert sent.code == 422 and causes(sent)[0].get("field") == "spec.isoFile" and words in causes(sent)[0]["message"], f"{what}: an upload is refused: {sent}"
    present = used.ask("POST", IMAGES, image("bad", file=str(file)))
    assert present.code == 422 and words in present.text and str(file) in present.text, f"{what}: a file that is already there is refused: {present}"
    moved = used.ask("PATCH", f"{IMAGES}/used", {"spec": {"isoFile": str(file)}}, MERGE)
    assert moved.code == 422 and words in moved.text, f"{what}: it is refused as another file of a known ISO: {moved}"
    manifest = used.place / "bad.json"
    manifest.write_text(f'{{"apiVersion": "v1", "kind": "ISCSICdrom", "metadata": {{"name": "bad"}}, "spec": {{"isoFile": "{file}"}}}}')
    applied = used.run("apply", "-f", manifest)
    assert applied.returncode == 5 and words in applied.stderr, f"{what}: `apply` refuses it: {applied}"
    kept = sorted(os.listdir(used.state / "isos"))
    assert kept == ["used.iso"], f"{what}: no part of it remains: {kept}"


@pytest.fixture
def restored(used, debian):
    """The server; the undamaged ISO is put back at the end, and must be Ready as it was."""
    yield used
    replace(used, "used", debian, "--preserve=timestamps")
    as_before = lambda: {**status(used, "used"), "fileModificationTime": 0} == {**used.original, "fileModificationTime": 0}
    assert eventually(as_before, LOOK), f"with the undamaged file it is Ready again, as it was: {used.original}, {status(used, 'used')}"
    read = used.ask("GET", "/iso/used", token=None, headers={"Range": "bytes=32769-32773"})
    assert read.body == b"CD001", f"it is read again: {read}"


@pytest.mark.parametrize("kind", IN_USE)
def test_a_file_that_is_replaced_by_a_damaged_one_is_reported(restored, damaged, kind):
    server, (what, file, words) = restored, damaged[kind]
    session = Initiator(3260, f"{IQN}:used", name=f"{IQN}:52-54-00-00-00-01")
    replace(server, "used", file)
    read = server.ask("GET", "/iso/used", token=None, headers={"Range": "bytes=0-9"})
    assert read.code == 503 and b"CD001" not in read.body, f"no part of it is read before it was checked: {read}"
    broken = eventually(lambda: (now := status(server, "used"))["phase"] == "Broken" and words in now["message"] and now, LOOK)
    assert broken, f"its object is Broken, with the reason: {status(server, 'used')}"
    for name in NODES:
        assert_not_served(server, words, name)
    first = session.good([0x28, 0, *(16).to_bytes(4, "big"), 0, 0, 1, 0], room=2048)
    assert first[1:6] == b"CD001", "an open session reads on from the file that it opened"
    session.logout()
    recorded = lambda: [one for one in details(server, "", "image") if (one["image"], one["phase"]) == ("used", "Broken") and words in one["message"]]
    assert eventually(recorded), f"it is in the server's timeline: {details(server, '', 'image')}"
    listed = server.run("iso", "list")
    assert "Broken" in listed.stdout and words in listed.stdout, f"`iso list` shows it: {listed}"
    server.ask("GET", "/ipxe?mac=52-54-00-00-00-01", token=None)
    waits = lambda: any(words in waiting["message"] for waiting in details(server, "plain", "waiting_for_image"))
    assert eventually(waits), f"a boot's timeline has it before anything is read: {details(server, 'plain', 'waiting')}"


def assert_not_served(server, words, name):
    """Checks that a host and its initiator get the reason, without a path of the server."""
    mac, source = NODES[name]
    for path in (f"/iso/used?host={mac}", "/iso/used", "/iso/used/install.amd/vmlinuz"):
        read = server.ask("GET", path, token=None, source=source, headers={"Range": "bytes=0-9"})
        assert read.code == 503 and words in read.text and str(iso_path(server, "used")) not in read.text and read.headers["Retry-After"], \
            f"{name} cannot read {path}: {read.code}, {read.text[:300]}"
    refused = login_refusal(server, "used", mac, source)
    assert refused and refused.args[0] == "0301", f"{name} cannot attach it: unavailable: {refused}"
    for protocol in ("http", "iscsi"):
        recorded = lambda: any(words in refused["message"] and refused["protocol"] == protocol for refused in details(server, name, "refused"))
        assert eventually(recorded), f"{name}'s timeline has the reason for {protocol}: {details(server, name, 'refused')}"


def test_a_file_that_is_replaced_by_another_iso_is_described(restored, fedora):
    replace(restored, "used", fedora)
    now = eventually(lambda: (now := status(restored, "used")).get("family") == "Fedora" and now, LOOK)
    assert now and now["phase"] == "Ready" and now["kernel"]["kernel"] == "/images/pxeboot/vmlinuz", f"its object describes the new image: {status(restored, 'used')}"
    assert now["sha256"] == hashlib.sha256(fedora.read_bytes()).hexdigest(), f"it has the new digest: {now}"


def test_a_damaged_companion_is_named(used, damaged, material):
    used.run("iso", "add", "drivers", material.rescue)
    changed = used.ask("PATCH", f"{IMAGES}/used", {"spec": {"companions": ["drivers"]}}, MERGE)
    assert changed.code == 200, f"a second ISO goes with the first: {changed}"
    subprocess.run(["cp", damaged["half of GRUB's rescue CD"].file, iso_path(used, "drivers")], check=True)
    broken = lambda: (now := status(used, "drivers"))["phase"] == "Broken" and "truncated" in now["message"]
    assert eventually(broken, LOOK), f"its file is truncated, and its object is Broken: {status(used, 'drivers')}"
    script = used.ask("GET", "/ipxe?mac=52-54-00-00-00-01", token=None).text
    assert "drivers" in script and "sanboot" not in script, f"a boot of the first ISO waits for it, and names it: {script}"
    waits = lambda: any(waiting["image"] == "drivers" and "truncated" in waiting["message"] for waiting in details(used, "plain", "waiting_for_image"))
    assert eventually(waits), f"it is in the host's timeline: {details(used, 'plain', 'waiting')}"
    refused = login_refusal(used, "used", "52-54-00-00-00-01")
    recorded = lambda: any("drivers" in refusal["message"] and "truncated" in refusal["message"] for refusal in details(used, "plain", "refused"))
    assert refused and refused.args[0] == "0301" and eventually(recorded), f"the first is not attached without it: {refused}, {details(used, 'plain', 'refused')}"
    read = used.ask("GET", "/iso/used", token=None, headers={"Range": "bytes=32769-32773"})
    assert read.body == b"CD001", f"the first is still read by itself: {read}"
