"""How ISOs go: removed, kept while hosts or other objects need them, and uploads that end too late or break off."""

import http.client
import socket

import pytest

from support.iso_uploads import iso_of, iso_path, leftovers, sha, uploads
from support.objects import HOSTS, IMAGES, host, image
from support.server import PORT
from support.tiny_iso import tiny_iso
from support.waiting import eventually, slowness

MERGE = "application/merge-patch+json"
KEY = "ab" * 16  # names an upload, so that it can be continued


@pytest.fixture(scope="module")
def file(place):
    (place / "file.iso").write_bytes(iso_of(1 << 20, "removal"))
    return place / "file.iso"


def test_an_iso_is_not_removed_while_a_host_boots_it(server, file):
    assert server.run("iso", "add", "form", file).returncode == 0, "an ISO is added"
    server.ask("POST", HOSTS, host("user", 7, image="form"))
    kept = server.ask("DELETE", f"{IMAGES}/form")
    assert kept.code == 409 and "user" in kept.text, f"an ISO that a host boots is not removed, and the host is named: {kept}"
    assert iso_path(server, "form").exists(), "its file is not removed either"
    server.ask("POST", f"{HOSTS}/user/localboot")
    kept = server.run("iso", "remove", "form")
    assert kept.returncode == 5 and "localboot" in kept.stderr, \
        f"an ISO whose host was released is not removed, and the next step is given: {kept}"
    assert server.ask("PATCH", f"{HOSTS}/user", {"spec": {"image": "localboot"}}, MERGE).code == 200, "the host is set to localboot"
    assert server.ask("DELETE", f"{IMAGES}/form").code == 200, "an ISO that no host boots is removed"
    assert eventually(lambda: not iso_path(server, "form").exists()), "its uploaded file is removed too"
    assert server.run("iso", "add", "form", file).returncode == 0, "the name can be used again"


def test_a_file_that_was_not_uploaded_is_neither_overwritten_nor_removed(server, file):
    (server.state / "isos").mkdir(exist_ok=True)
    iso_path(server, "mine").write_bytes(tiny_iso())
    taken = server.run("iso", "add", "mine", file)
    assert taken.returncode == 5 and "mine" in taken.stderr, f"a file that somebody put there is not overwritten: {taken}"
    server.ask("POST", IMAGES, image("mine", file="mine.iso"))
    assert server.ask("DELETE", f"{IMAGES}/mine").code == 200 and iso_path(server, "mine").exists(), "its file stays when the object is removed"


@pytest.mark.parametrize("order", [("shared", "two"), ("two", "shared")], ids=["first-one-first", "second-one-first"])
def test_a_file_of_two_isos_is_removed_with_the_last(server, file, order):
    """Several ISCSICdroms may name one upload; the one that brought it need not be the last."""
    path = iso_path(server, "shared")
    assert server.run("iso", "add", "shared", file).returncode == 0, "an upload is added"
    assert server.ask("POST", IMAGES, image("two", file="shared.iso")).code == 201, "another object names it too"
    assert server.run("iso", "remove", order[0]).returncode == 0 and path.exists(), "removing the first keeps the file"
    server.restart()
    removed = server.run("iso", "remove", order[1])
    assert removed.returncode == 0 and not path.exists() and leftovers(server) == [], f"removing the last removes the file: {removed}, {leftovers(server)}"


def test_of_two_uploads_of_one_name_the_later_one_is_refused(server, place):
    late, early = iso_of(1 << 20, "late"), place / "early.iso"
    early.write_bytes(iso_of(1 << 20, "early"))
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30 * slowness())
    connection.putrequest("POST", f"{IMAGES}/upload?name=same&resume={KEY}&offset=0&length={len(late)}")
    for header, value in {"Authorization": f"Bearer {server.token}", "Content-Type": "application/octet-stream", "Content-Length": len(late)}.items():
        connection.putheader(header, value)
    connection.endheaders(late[:-1])
    assert eventually(lambda: [upload for upload in uploads(server) if upload.get("name") == "same"]), f"an upload is in progress: {leftovers(server)}"
    assert server.run("iso", "add", "same", early).returncode == 0, "another upload of the name completes first"
    connection.send(late[-1:])
    refused = connection.getresponse()
    body = refused.read()
    connection.close()
    assert refused.status == 409 and b"same" in body, f"the first is refused at its end: {refused.status} {body}"
    assert leftovers(server) == [] and uploads(server) == [], f"no part of it remains: {leftovers(server)}"
    stored = server.ask("GET", f"{IMAGES}/same").json["status"]["sha256"]
    assert stored == sha(early.read_bytes()), f"the ISO is the other: {stored}"


def test_an_interrupted_upload_is_listed_and_can_be_removed(server):
    connection = socket.create_connection(("127.0.0.1", PORT))
    connection.sendall(f"POST {IMAGES}/upload?name=part&resume={KEY}&offset=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
                       f"Content-Length: 5000000\r\n\r\n".encode() + iso_of(3_000_320, "part"))
    connection.close()
    listed = lambda: server.run("iso", "list").stdout
    assert eventually(lambda: leftovers(server)) and eventually(lambda: "Uploading" in listed()), f"an interrupted upload is kept: {listed()}"
    row = [line for line in listed().splitlines() if line.startswith("part ")]
    assert len(row) == 1 and "Uploading" in row[0], f"it is listed by its name: {row}"
    kept = uploads(server)
    assert len(kept) == 1 and kept[0]["key"] == KEY and kept[0]["keptUntil"] > kept[0]["lastWritten"], f"it is listed with the time when it expires: {kept}"
    gone = server.run("iso", "remove", "part")
    assert gone.returncode == 0 and leftovers(server) == [], f"it is removed by its name: {gone}, {leftovers(server)}"
    assert server.run("iso", "remove", "part").returncode == 4, "a second removal finds nothing"
