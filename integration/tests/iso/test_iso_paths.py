"""Files of ISOs by their paths over HTTP: every name tree, a file longer than 4 GiB, and a digest that the image carries."""

import os
import subprocess
from urllib.parse import quote

import pytest

from support import network
from support.iscsi_initiator import Initiator
from support.iso_images import run, write
from support.iso_uploads import iso_path
from support.objects import HOSTS, IMAGES, host, image, timeline
from support.served_iso import IQN
from support.waiting import eventually

BORDER = 4 << 30
SIZE = BORDER + 5_000_001
LONG = "x" * 120 + ".txt"
NAME_TREES = [("rock-ridge", "genisoimage -quiet -R", [LONG, "Grüße.txt", "kernel"]), ("both", "xorriso -as mkisofs -quiet -r -J", [LONG, "kernel"]),
              ("joliet", "genisoimage -quiet -J -joliet-long", ["Grüße.txt"]), ("plain", "genisoimage -quiet", []),
              ("udf", "genisoimage -quiet -udf -hide images -hide vmlinuz", ["Grüße.txt"])]


@pytest.fixture(scope="module")
def server(start_server):
    """A server whose local connections come from 192.0.2.1."""
    network.connect_from_host_address()
    server = start_server()
    (server.state / "isos").mkdir(exist_ok=True)
    return server


def put(server, name, iso):
    """Moves an ISO to where the server looks for it, and creates its object."""
    os.rename(iso, iso_path(server, name))
    return server.ask("POST", IMAGES, image(name, file=f"{name}.iso"))


def get(server, path, **headers):
    return server.ask("GET", quote(path, safe="/?=&"), token=None, headers=headers)


@pytest.fixture(scope="module")
def tree(place):
    """Files with long names, and symbolic links, two of which form a circle."""
    tree = place / "names"
    write(tree / "images/pxeboot/vmlinuz", os.urandom(300_000))
    write(tree / LONG, "long")
    write(tree / "Grüße.txt", "hallo")
    write(tree / "empty", "")
    (tree / "kernel").symlink_to("images/pxeboot/vmlinuz")
    (tree / "round").symlink_to("about")
    (tree / "about").symlink_to("round")
    return tree


@pytest.mark.parametrize("name, how, more", NAME_TREES, ids=[row[0] for row in NAME_TREES])
def test_files_are_read_by_every_name_tree(server, place, tree, name, how, more):
    kernel = (tree / "images/pxeboot/vmlinuz").read_bytes()
    run(*how.split(), "-o", place / "x.iso", tree)
    created = put(server, name, place / "x.iso")
    assert created.code == 201, f"the ISO is there: {created}"
    for path in ["images/pxeboot/vmlinuz", "IMAGES/PXEBOOT/VMLINUZ", "empty", *more]:
        wanted = kernel if path.lower().endswith(("vmlinuz", "kernel")) else (tree / path).read_bytes()
        answer = get(server, f"/iso/{name}/{path}")
        assert answer.code == 200 and answer.body == wanted, f"{path[:40]} is read: {answer.code}, {answer.body[:80]}"
    part = get(server, f"/iso/{name}/images/pxeboot/vmlinuz", Range="bytes=299990-")
    assert part.code == 206 and part.body == kernel[299_990:] and part.headers["Content-Range"] == "bytes 299990-299999/300000", \
        f"a part of a file is read: {part.code}, {part.headers}"
    for path in ("none", "images/none", "empty/none", "images", "round", "round/none", "../../state/admin.token"):
        answer = get(server, f"/iso/{name}/{path}")
        assert answer.code == 404, f"there is no file {path}: {answer.code}"


@pytest.fixture(scope="module")
def big_file(place):
    """A sparse file of several extents."""
    (place / "big").mkdir()
    with open(place / "big/install.img", "wb") as file:
        file.truncate(SIZE)
        for at, text in ((0, b"first"), (BORDER - 2048 - 3, b"across"), (BORDER - 3, b"across the border"), (SIZE - 3, b"end")):
            file.seek(at)
            file.write(text)
    return place / "big/install.img"


@pytest.fixture(scope="module")
def big(server, place, big_file):
    """The server with the sparse ISO "big", whose last block is `server.last`, and a host with an argument."""
    write(place / "big/isolinux.cfg", "label a\nkernel /k\nappend b\n")
    iso = place / "big.iso"
    with subprocess.Popen(["xorriso", "-as", "mkisofs", "-quiet", "-r", "-J", "-iso-level", "3", place / "big"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as made:
        run("dd", "bs=64k", "iflag=fullblock", "conv=sparse", f"of={iso}", stdin=made.stdout)
    assert made.returncode == 0 and iso.stat().st_size > SIZE and iso.stat().st_blocks < 20_000, f"xorriso made a sparse ISO of more than 4 GiB: {iso.stat()}"
    server.last = subprocess.run(["tail", "-c", "2048", iso], capture_output=True).stdout
    created = put(server, "big", iso)
    assert created.code == 201, f"the ISO is there: {created}"
    created = server.ask("POST", HOSTS, host("node2", 2, ip="192.0.2.1", image="big", kernelArguments=["hello"]))
    assert created.code == 201, f"a host boots it: {created}"
    return server


@pytest.mark.parametrize("query", ["", "?host=52-54-00-00-00-02"], ids=["iso", "view"])
def test_a_file_longer_than_4_gib_is_read_in_parts(big, big_file, query):
    path = f"/iso/big/install.img{query}"
    head = big.ask("HEAD", path, token=None)
    assert head.code == 200 and head.headers["Content-Length"] == str(SIZE), f"its length is right: {head.headers}"
    with open(big_file, "rb") as file:
        for start, end in ((0, 99), (BORDER - 5000, BORDER + 4999), (SIZE - 100, SIZE - 1)):
            file.seek(start)
            wanted, answer = file.read(end - start + 1), get(big, path, Range=f"bytes={start}-{end}")
            assert answer.code == 206 and answer.body == wanted, f"octets {start}-{end} are read: {answer.code}, {answer.headers}"


def test_the_menu_of_a_long_iso_has_the_hosts_argument(big):
    menu = get(big, "/iso/big/isolinux.cfg?host=52-54-00-00-00-02")
    assert menu.body.endswith(b"append b hello\n"), f"the host's menu has its argument: {menu}"


def test_the_end_of_a_long_iso_is_read_over_iscsi(big):
    session = Initiator(3260, f"{IQN}:big", name=f"{IQN}:52-54-00-00-00-02")
    blocks = int.from_bytes(session.good([0x25])[:4], "big") + 1
    assert blocks * 2048 > SIZE, f"the medium is as long as the ISO: {blocks}"
    start = iso_path(big, "big").stat().st_size // 2048 - 1
    assert session.good([0x28, 0, *start.to_bytes(4, "big"), 0, 0, 1, 0]) == big.last, "its last block is read"
    session.logout()


@pytest.fixture(scope="module")
def digests(server, fedora):
    """The server with an ISO that carries isomd5sum's digest, and two hosts: "plain", and "changed" with an argument."""
    added = server.run("iso", "add", "fedora", fedora)
    assert added.returncode == 0, f"an ISO with its own digest is added: {added}"
    server.ask("POST", HOSTS, host("plain", 3, ip="192.0.2.3", image="fedora"))
    server.ask("POST", HOSTS, host("changed", 4, ip="192.0.2.4", image="fedora", kernelArguments=["hello"]))
    return server


def view_of(server, name, source):
    return server.ask("GET", f"/iso/fedora?host={name}", token=None, source=source)


def checked(here, answer):
    """Runs checkisomd5 on what was served."""
    return subprocess.run(["checkisomd5", write(here / "served.iso", answer.body)], capture_output=True, text=True)


def test_an_unchanged_view_passes_checkisomd5(digests, here):
    answer = view_of(digests, "52-54-00-00-00-03", "192.0.2.3")
    done = checked(here, answer)
    assert answer.code == 200 and done.returncode == 0, f"a view that changes nothing passes checkisomd5: {answer.code}, {done}"


def test_a_changed_view_carries_no_wrong_digest(digests, here):
    done = checked(here, view_of(digests, "52-54-00-00-00-04", "192.0.2.4"))
    assert done.returncode != 0 and "No checksum information available" in done.stderr, f"a changed view carries no digest: {done}"
    status = digests.ask("GET", f"{IMAGES}/fedora").json["status"]
    assert any("(isomd5sum)" in line for line in status.get("warnings", [])), f"the ISO's status warns of it: {status}"
    menu = lambda query: digests.ask("GET", f"/iso/fedora/EFI/BOOT/grub.cfg{query}", token=None, source="192.0.2.4").text
    mine, plain = menu("?host=52-54-00-00-00-04"), menu("")
    assert "hello" in mine and "rd.live.check" not in mine and "rd.live.check" in plain, f"the host's menu does not ask for the check: {mine}"


def test_a_removed_digest_is_a_warning_in_the_timeline(digests):
    warned = lambda name: [entry for entry in timeline(digests, name, "warning")
                           if "rd.live.check" in entry["detail"]["message"]]
    for name in ("plain", "changed"):
        digests.ask("POST", f"{HOSTS}/{name}/virtualmedia")
    assert eventually(lambda: warned("changed")), f"the timeline of a host with a changed view warns: {timeline(digests, 'changed')}"
    assert not warned("plain"), "that of a host with the unchanged ISO does not"


def test_a_view_is_found_by_the_hosts_name_from_its_address_only(digests):
    wanted = view_of(digests, "52-54-00-00-00-04", "192.0.2.4").body
    for name in ("changed", "default/changed"):
        assert view_of(digests, name, "192.0.2.4").body == wanted, f"the view is found by the name {name}"
    assert view_of(digests, "changed", "192.0.2.3").code == 403, "another host's address gets no view"
    nobody = view_of(digests, "nobody", "192.0.2.4")
    assert nobody.code == 403 and '"nobody"' in nobody.text, f"an unknown host is named: {nobody}"
