"""Plain reads of machines over HTTP take the fast path; every other request is passed on to hyper.

Raw bytes on a socket, so that the test decides where one request ends and the next begins.
"""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from support.objects import IMAGES
from support.server import PORT
from support.tiny_iso import tiny_iso

BIG = 5_000_000


class Wire:
    """A connection whose responses are read one by one."""

    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", PORT), 10)
        self.rest = b""

    def send(self, text):
        self.socket.sendall(text.encode())
        return self

    def more(self):
        got = self.socket.recv(1 << 20)
        self.rest += got
        return got

    def answer(self, body=True):
        """Returns status, headers by lower-case name, and body; None at the end of the connection."""
        while b"\r\n\r\n" not in self.rest:
            if not self.more():
                return None
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        headers = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in lines[1:]}
        length = int(headers.get("content-length", 0)) if body else 0
        while len(self.rest) < length and self.more():
            pass
        content, self.rest = self.rest[:length], self.rest[length:]
        return int(lines[0].split()[1]), headers, content

    def ended(self):
        return not self.rest and not self.more()


def get(path, *fields, version="1.1", method="GET"):
    return f"{method} {path} HTTP/{version}\r\nHost: b\r\n" + "".join(f"{field}\r\n" for field in fields) + "\r\n"


@pytest.fixture(scope="module")
def iso(server):
    """The bytes of the ISO "big" of the server."""
    (server.state / "isos").mkdir(exist_ok=True)
    iso = tiny_iso() + os.urandom(BIG)
    (server.state / "isos" / "big.iso").write_bytes(iso)
    made = server.ask("POST", IMAGES, {"apiVersion": "v1", "kind": "ISCSICdrom", "metadata": {"name": "big"}, "spec": {"isoFile": "big.iso"}})
    assert made.code == 201, f"an ISO is created: {made}"
    return iso


def test_whole_files_ranges_and_conditions(server, iso):
    wire = Wire().send(get("/iso/big"))
    assert wire.answer()[2] == iso, "the fast path sends the whole ISO"
    wire.send(get("/iso/big", "Range: bytes=2048-4095", "Connection: keep-alive"))
    status, headers, body = wire.answer()
    assert (status, body) == (206, iso[2048:4096]), f"the same connection serves a range: {headers}"
    assert headers["content-range"] == f"bytes 2048-4095/{len(iso)}" and "date" in headers and "etag" in headers, (
        f"a partial response carries Content-Range, Date and ETag: {headers}")
    tag = headers["etag"]
    wire.send(get("/iso/big", f"If-None-Match: {tag}"))
    assert (lambda a: a[0] == 304 and "content-length" not in a[1])(wire.answer()), "304 has no Content-Length"
    wire.send(get("/iso/big", method="HEAD"))
    assert (lambda a: a[0] == 200 and a[1]["content-length"] == str(len(iso)))(wire.answer(body=False)), "HEAD returns the length and no body"
    wire.send(get("/iso/big", f"Range: bytes={len(iso)}-"))
    assert wire.answer()[0] == 416, "a range past the end is 416"
    for asked, held in (("0-99999999999999999999", iso[:]), ("5000000-99999999999999999999", iso[5000000:]), ("-99999999999999999999", iso)):
        status, headers, body = wire.send(get("/iso/big", f"Range: bytes={asked}")).answer()
        assert (status, body) == (206, held), f"the range {asked} is clipped to the file: {(status, headers)}"
    wire.send(get("/iso/big", "Range: bytes=99999999999999999999-"))
    assert wire.answer()[0] == 416, "a range that starts past any possible end is 416"
    for match, wanted in (('"x"', 412), (f'"x", {tag}', 206), ("*", 206), (f"W/{tag}", 412)):
        wire.send(get("/iso/big", f"If-Match: {match}", "Range: bytes=0-9") * 2)
        assert [wire.answer()[0], wire.answer()[0]] == [wanted, wanted], f"If-Match: {match} is {wanted}, for the first and for a repeated request"
    wire.send(get("/iso/none"))
    assert wire.answer()[0] == 404, "a missing ISO is 404, and the connection continues"


def test_pipelined_and_split_requests(server, iso):
    wire = Wire()
    ranges = [(at, at + 99_999) for at in range(0, 4_000_000, 100_000)]
    wire.send("".join(get("/iso/big", f"Range: bytes={a}-{b}") for a, b in ranges))
    assert all(wire.answer()[2] == iso[a:b + 1] for a, b in ranges), "forty requests in one packet are answered in order"

    text = get("/iso/big", "Range: bytes=5-9")
    for place in range(0, len(text), 7):
        wire.send(text[place:place + 7])
    assert wire.answer()[2] == iso[5:10], "a request that arrives in pieces is answered"


def test_other_requests_are_passed_on_to_hyper(server, iso):
    wire = Wire()
    wire.send(get("/healthz") + get("/iso/big", "Range: bytes=1-3") + get("/ipxe?mac=52-54-00-00-00-01"))
    assert wire.answer()[2] == b"ok", "a request outside the fast path is passed on to hyper"
    assert wire.answer()[2] == iso[1:4], "hyper receives the bytes read after the request"
    assert wire.answer()[2].startswith(b"#!ipxe"), "the connection stays with hyper"
    hyper, lane = Wire().send(get("/healthz") + get("/iso/big", "Range: bytes=0-99")), Wire().send(get("/iso/big", "Range: bytes=0-99"))
    hyper.answer()
    (ours, theirs) = lane.answer(), hyper.answer()
    theirs[1].pop("date"), ours[1].pop("date")
    assert ours == theirs, f"hyper and the fast path send the same response: {(ours, theirs)}"
    hyper.send(get("/iso/big"))
    assert hyper.answer()[2] == iso, "hyper sends the whole ISO"


def test_requests_that_the_fast_path_does_not_answer(server, iso):
    wire = Wire().send(get("/iso/big", "Range: bytes=0-9", "Connection: close"))
    status, headers, body = wire.answer()
    assert body == iso[:10] and headers.get("connection") == "close" and wire.ended(), f"Connection: close is answered and the connection ends: {headers}"
    wire = Wire().send(get("/iso/big", version="1.0"))
    assert wire.answer()[2] == iso and wire.ended(), "HTTP/1.0 is answered by hyper and the connection ends"
    wire = Wire().send(get("/iso/big", "Content-Length: 3") + "abc" + get("/iso/big", "Range: bytes=0-1"))
    assert wire.answer()[0] == 200 and wire.answer()[2] == iso[:2], "a GET with a body is answered by hyper"
    wire = Wire().send("GET /iso/big HTTP/1.1\r\nHost: b\r\n" + "".join(f"h{n}: {'x' * 500}\r\n" for n in range(40)) + "\r\n")
    assert wire.answer()[2] == iso, "a long head is answered by hyper"
    wire = Wire().send("GET /iso/big\x00 HTTP/1.1\r\n\r\n")
    assert (wire.answer() or [400])[0] == 400, "an invalid request is answered 400 or closed"


def test_a_slow_reader(server, iso):
    slow = Wire().send(get("/iso/big"))
    assert Wire().send(get("/iso/big", "Range: bytes=7-7")).answer()[2] == iso[7:8], "a slow reader does not delay another client"
    assert slow.answer()[2] == iso, "a slow reader receives the whole ISO"


def test_a_deleted_iso(server, iso):
    (server.state / "isos/gone.iso").write_bytes(iso)
    server.ask("POST", IMAGES, {"apiVersion": "v1", "kind": "ISCSICdrom", "metadata": {"name": "gone"}, "spec": {"isoFile": "gone.iso"}})
    wire = Wire().send(get("/iso/gone", "Range: bytes=0-2"))
    assert wire.answer()[2] == iso[:3], "the ISO is served before it is deleted"
    assert server.ask("DELETE", f"{IMAGES}/gone").code == 200, "the ISO is deleted"
    assert wire.send(get("/iso/gone", "Range: bytes=0-2")).answer()[0] == 404, "a deleted ISO is 404 on a connection that served it"


@pytest.mark.parametrize("fields", [(), ("Range: bytes=0-9",)])
def test_a_site_file_that_changes(server, fields):
    files = server.state / "files"
    files.mkdir(exist_ok=True)
    text = lambda number: f"number {number:03}".encode()
    (files / "changing").write_bytes(text(0))
    wire, tags = Wire(), set()
    def found():
        _, headers, body = wire.send(get("/files/changing", *fields)).answer()
        tags.add(headers.get("etag"))
        return body
    for number in range(1, 100):
        assert [found() for _ in range(3)] == [text(number - 1)] * 3, "a connection repeats its request"
        (files / "new").write_bytes(text(number))
        (files / "new").rename(files / "changing")
        assert found() == text(number), "a replaced file is served at once"
    assert len(tags) == 100, f"each file has its tag: {len(tags)}"
    (files / "changing").write_bytes(b"longer than before")
    assert found() == (b"longer than before"[:10] if fields else b"longer than before"), "a file written in place is served with its new length"
    (files / "changing").unlink()
    assert wire.send(get("/files/changing", *fields)).answer()[0] == 404, "a deleted file is 404"
    (files / "changing").symlink_to("../admin.token")
    assert wire.send(get("/files/changing", *fields)).answer()[0] == 404, "a link out of the directory is 404"
    (files / "changing").unlink()


SETTING = Path("/proc/sys/net/ipv4/tcp_congestion_control")


def congestion_control():
    """Returns what the kernel reports about an open HTTP connection, with its congestion control."""
    wire = Wire().send(get("/ipxe?mac=52-54-00-00-00-01"))
    wire.answer()
    return subprocess.run(["ss", "-tinH", "state", "established", f"sport = :{PORT}"], capture_output=True, text=True).stdout


@pytest.mark.parametrize("other, configured, used", [(False, "", "cubic"), (True, 'tcp_congestion_control = "reno"', "reno")])
def test_the_congestion_control_of_connections(server, other, configured, used):
    # The kernel lets a network namespace set only what the machine allows.
    allowed = SETTING.with_name("tcp_allowed_congestion_control").read_text().split()
    default = next((name for name in allowed if other and name != "reno"), "reno")
    before = SETTING.read_text()
    SETTING.write_text(default)
    try:
        with server.configured(configured):
            said = congestion_control()
            assert f" {used} " in said, f"with {configured or 'no setting'} and the system default {default}, connections use {used}: {said}"
    finally:
        SETTING.write_text(before)


def test_an_unknown_congestion_control(server):
    with pytest.raises(RuntimeError) as ended, server.configured('tcp_congestion_control = "none-such"'):
        pytest.fail("an unknown congestion control is refused")
    assert 'tcp_congestion_control: "none-such"' in str(ended.value), f"an unknown congestion control is refused by name: {ended.value}"


def test_the_server_stops_with_an_idle_connection(server):
    idle = Wire().send(get("/ipxe?mac=52-54-00-00-00-01"))
    idle.answer()
    server.restart()
    assert idle.ended(), "the server stops while an idle connection is open"
