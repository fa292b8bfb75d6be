"""RFC 9110 and RFC 9112 on every route that machines read: the fast path and hyper answer each request with the same bytes.

A connection goes to hyper at its first request that is not a machine's plain read, and stays there. Each request is sent
on a new connection, and on one that has asked for /healthz.
"""

import re
import socket
import subprocess

import pytest

from support.objects import HOSTS, IMAGES, host
from support.server import PORT
from support.waiting import slowness

MACHINE, MAC = "192.0.2.7", "52-54-00-00-00-01"
FAR = "Sat, 01 Jan 2050 00:00:00 GMT"
ROUTES = ("script", "script by API", "local disk", "bootstrap", "autoexec", "boot program", "no boot program", "ISO", "no ISO", "file in an ISO",
          "no file in an ISO", "leased view", "forged lease", "site file", "empty site file", "no site file", "way out", "config", "no such config file",
          "config by token", "config file by token", "generated config", "no generated config", "NoCloud", "NoCloud meta-data", "Ignition")
BYTES = ("boot program", "ISO", "file in an ISO", "leased view", "site file")


@pytest.fixture(scope="module")
def paths(start_server, tmp_path_factory):
    """The path of each route, by its name. Nothing that these requests do changes what the next ones are answered."""
    server = start_server()
    tree = tmp_path_factory.mktemp("tree")
    (tree / "kernel").write_bytes(bytes(range(256)) * 300)
    (server.state / "isos").mkdir(exist_ok=True)
    subprocess.run(["genisoimage", "-quiet", "-R", "-o", server.state / "isos/x.iso", tree], check=True)
    (server.state / "files").mkdir(exist_ok=True)
    (server.state / "files/site.bin").write_bytes(bytes(range(255)) * 100)
    (server.state / "files/empty").write_bytes(b"")
    (server.place / "firmware/undionly.kpxe").write_bytes(b"MZ" + bytes(range(256)) * 70)
    config = {"apiVersion": "v1", "kind": "BootConfig", "metadata": {"name": "seed"}, "spec": {"format": "cloud-init", "data": {"user-data": "#cloud-config\n"}}}
    image = {"apiVersion": "v1", "kind": "ISCSICdrom", "metadata": {"name": "live"}, "spec": {"isoFile": "x.iso", "bootConfigs": ["seed"]}}
    machine = host("one", 1, image="live", bootConfigRef="seed", bootMode="forever", ip=MACHINE)
    for path, body in (("/api/v1/bootconfigs", config), (IMAGES, image), (HOSTS, machine)):
        made = server.ask("POST", path, body)
        assert made.code == 201, made
    made = server.ask("POST", "/api/v1/configs/cloudinit/generate", {"template": "base", "hostname": "made"})
    assert made.code in (200, 201), made
    generated = re.search(r'bootlatch:([^"]+)', made.text)[1]
    script = server.ask("GET", f"/ipxe?mac={MAC}", token=None, source=MACHINE).text
    token = re.search(r"(?:token=|/nocloud/|/config/)([0-9a-f]+)", script)[1]
    medium = server.ask("POST", f"{HOSTS}/one/virtualmedia").json["url"].split("/", 3)[3]
    return dict(zip(ROUTES, (
        f"/ipxe?mac={MAC}", f"/api/v1/ipxe/boot?mac={MAC}", f"/api/v1/ipxe/localboot?mac={MAC}", "/boot.ipxe", f"/boot/{MAC}/autoexec.ipxe",
        f"/boot/{MAC}/undionly.kpxe", f"/boot/{MAC}/none.efi", "/iso/live", "/iso/none", "/iso/live/kernel", "/iso/live/none", f"/{medium}", "/media/00/live.iso",
        "/files/site.bin", "/files/empty", "/files/none", "/files/%2e%2e/admin.token", "/api/v1/bootconfig", "/api/v1/bootconfig?file=none",
        f"/config/{token}", f"/config/{token}/user-data", f"/configs/{generated}", "/configs/none.ign", f"/nocloud/{token}/user-data", f"/nocloud/{token}/meta-data",
        "/get_ignition"), strict=True))


def talk(sent, is_hyper):
    """Sends bytes on a new connection, and a last request after them; returns all that is answered."""
    with socket.create_connection(("127.0.0.1", PORT), 20 * slowness(), (MACHINE, 0)) as wire:
        if is_hyper:
            wire.sendall(b"GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n")
            while not (first := wire.recv(4096)).endswith(b"ok"):
                assert first, "hyper answers the first request"
        answer = b""
        try:
            wire.sendall(sent + b"GET /livez HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
            while got := wire.recv(1 << 20):
                answer += got
        except (ConnectionResetError, BrokenPipeError):
            pass  # The server closed the connection before it had read all.
        return answer


def plain(answer):
    """Returns an answer without its dates, and with each head's fields in order."""
    def sorted_head(found):
        first, *fields = found[0].rstrip(b"\r\n").split(b"\r\n")
        return b"\r\n".join([first, *sorted(field for field in fields if not field.lower().startswith(b"date:"))]) + b"\r\n\r\n"
    return re.sub(rb"HTTP/1\.[01] \d{3} [^\r]*\r\n(?:[^\r\n]+\r\n)*\r\n", sorted_head, answer)


def codes(answer):
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


def both(sent):
    """Returns the answer to bytes, which must be the same on the fast path and by hyper."""
    fast, hyper = plain(talk(sent, False)), plain(talk(sent, True))
    assert fast == hyper, f"the fast path and hyper answer alike: {sent[:200]!r}\n{fast[:600]!r}\n{hyper[:600]!r}"
    return fast


def request(path, *fields, method="GET", version="1.1", host_field="Host: b"):
    lines = [f"{method} {path} HTTP/{version}", *([host_field] if host_field else []), *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


# Requests that are answered, and after which the connection goes on.
ANSWERED = {
    "plain": (),
    "a range": ("Range: bytes=0-3",),
    "a suffix": ("Range: bytes=-5",),
    "an open end": ("Range: bytes=3-",),
    "a range past the end": ("Range: bytes=99999999999-",),
    "several ranges": ("Range: bytes=0-1,4-5",),
    "two range fields": ("Range: bytes=0-1", "Range: bytes=4-5"),
    "letters": ("Range: bytes=u-u",),
    "another unit": ("Range: lines=0-1",),
    "a range that ends before it begins": ("Range: bytes=5-4",),
    "an odd spelling": ("rAnGe:\tbytes=0-3  ",),
    "any tag": ("If-None-Match: *",),
    "other tags": ('If-None-Match: "x", W/"y"', 'If-None-Match: "z"'),
    "none of these": ('If-Match: "x"',),
    "any of them": ("If-Match: *",),
    "another's range": ("Range: bytes=0-3", 'If-Range: "x"'),
    "a range by date": ("Range: bytes=0-3", f"If-Range: {FAR}"),
    "by date": (f"If-Modified-Since: {FAR}",),
    "not by date": ("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT",),
    "kept alive": ("Connection: keep-alive",),
    "options": ("Connection: keep-alive, TE", "TE: trailers"),
    "expectation": ("Expect: 100-continue",),
    "no length": ("Content-Length: 0",),
    "an upgrade": ("Connection: Upgrade", "Upgrade: h2c"),
    "a long field": (f"X: {'x' * 12_000}",),
    "empty fields": ("X:", "Accept:  "),
    "Latin-1": ("X: \xe9",),
    "a page": ("Origin: http://evil.example",),
    "a link": ("Referer: http://evil.example/",),
    "a fetch": ("Sec-Fetch-Site: cross-site",),
    "a proxy": ("X-Forwarded-For: 192.0.2.8", "Via: 1.1 x"),
}


@pytest.mark.parametrize("route", ROUTES)
def test_requests_that_are_answered(paths, route):
    path = paths[route]
    for name, fields in ANSWERED.items():
        for method in ("GET", "HEAD"):
            answer = both(request(path, *fields, method=method))
            assert len(codes(answer)) == 2 and codes(answer)[1] == 200, f"{name}: one answer, and the connection goes on: {answer[:300]!r}"
    pipelined = both(b"".join(request(path, f"Range: bytes={n}-{n}") for n in range(8)))
    assert len(codes(pipelined)) == 9, f"pipelined requests are answered in order: {codes(pipelined)}"
    assert len(codes(both(request(path) * 4))) == 5, "the same request is answered again"
    assert len(codes(both(b"\r\n" + request(path)))) == 2, "an empty line before a request is ignored (RFC 9112, section 2.2)"


@pytest.mark.parametrize("route", ROUTES)
def test_the_end_of_a_connection(paths, route):
    path = paths[route]
    for sent in (request(path, "Connection: close"), request(path, "Connection: close", method="HEAD"), request(path, "Connection: TE, close"),
                 request(path, version="1.0"), request(path, version="1.0", host_field=None), request(path, method="HEAD", version="1.0")):
        answer = both(sent)
        assert len(codes(answer)) == 1, f"the connection ends after the answer: {sent!r} {answer[:300]!r}"
    assert len(codes(both(request(path, "Connection: keep-alive", version="1.0")))) == 2, "HTTP/1.0: the connection is kept where the client asks for it"


# What a server and a proxy before it could read differently (RFC 9112, section 11.2): options and fields of the request.
SMUGGLED = b"GET /files/site.bin HTTP/1.1\r\nHost: b\r\n\r\n"
REFUSED = {
    "a folded field": (dict(), ("X: a", " b")),
    "a folded host": (dict(host_field="Host: a"), (" b",)),
    "a space before the colon": (dict(), ("Content-Length : 43",)),
    "a space before the name": (dict(), (" X: a",)),
    "no colon": (dict(), ("X",)),
    "no name": (dict(), (": x",)),
    "two lengths": (dict(), ("Content-Length: 43", "Content-Length: 0")),
    "a list of lengths": (dict(), ("Content-Length: 43, 0",)),
    "a signed length": (dict(), ("Content-Length: +43",)),
    "a negative length": (dict(), ("Content-Length: -1",)),
    "a hexadecimal length": (dict(), ("Content-Length: 0x2b",)),
    "a length with letters": (dict(), ("Content-Length: 43a",)),
    "an empty length": (dict(), ("Content-Length: ",)),
    "a length past every number": (dict(), ("Content-Length: 99999999999999999999999",)),
    "another encoding": (dict(), ("Transfer-Encoding: gzip",)),
    "chunked and another": (dict(), ("Transfer-Encoding: chunked, gzip",)),
    "a misspelt encoding": (dict(), ("Transfer-Encoding: xchunked",)),
    "a control character": (dict(), ("X: a\x0bTransfer-Encoding: chunked\x00",)),
    "a bare CR": (dict(), ("X: a\rTransfer-Encoding: chunked",)),
    "too many fields": (dict(), tuple(f"X{n}: a" for n in range(100))),
    "another version": (dict(version="2.0"), ()),
    "no version": (dict(version="x"), ()),
}


@pytest.mark.parametrize("route", ROUTES)
def test_requests_that_are_refused(paths, route):
    for name, (options, fields) in REFUSED.items():
        answer = both(request(paths[route], *fields, **options) + SMUGGLED)
        assert codes(answer)[:1] in ([400], [431], [505], [501], []), f"{name} is refused: {answer[:300]!r}"
        assert b"\x00\x01\x02\x03" not in answer, f"{name}: the request behind it is not answered"
    answer = both(f"GET {paths[route]}\x00 HTTP/1.1\r\nHost: b\r\n\r\n".encode() + SMUGGLED)
    assert codes(answer) in ([400], []), f"a NUL in the target is refused: {answer[:300]!r}"


@pytest.mark.parametrize("route", ROUTES)
def test_hosts_that_are_refused(paths, route):
    for options, fields in ((dict(host_field=None), ()), (dict(), ("Host: c",)), (dict(host_field="Host: a b"), ()), (dict(host_field="Host: a/b"), ()),
                            (dict(host_field="Host: a", version="1.0"), ("Host: b",))):
        assert codes(both(request(paths[route], *fields, **options)))[0] == 400, f"{options} {fields}: RFC 9112, section 3.2"


@pytest.mark.parametrize("route", ROUTES)
def test_bodies_are_not_taken_for_requests(paths, route):
    path, length = paths[route], len(SMUGGLED)
    chunk = f"{length:x}\r\n".encode() + SMUGGLED + b"\r\n0\r\n\r\n"
    for sent in (request(path, f"Content-Length: {length}") + SMUGGLED,
                 request(path, f"Content-Length: {length}", f"Content-Length: {length}") + SMUGGLED,
                 request(path, "Transfer-Encoding: chunked") + chunk,
                 request(path, "tRANSFER-eNCODING: Chunked") + chunk,
                 request(path, "Transfer-Encoding: chunked", "Content-Length: 4") + chunk,
                 request(path, "Content-Length: 4", "Transfer-Encoding: chunked") + chunk,
                 request(path, f"Content-Length: {length}", "Expect: 100-continue") + SMUGGLED):
        answer = both(sent)
        found = [code for code in codes(answer) if code != 100]
        assert len(found) in (1, 2) and (len(found) == 1 or found[1] == 200), f"one answer to one request: {sent[:120]!r} {found}"
        assert answer.count(b"\x00\x01\x02\x03\x04\x05\x06\x07") <= both(request(path)).count(b"\x00\x01\x02\x03\x04\x05\x06\x07"), "the body is no request"


def test_targets(paths):
    for path in paths.values():
        for target in (f"http://b{path}", f"http://other:8080{path}", f"/{path}", path.replace("/", "//"), f"{path}#x", f"{path}&x=%zz", f"{path}/"):
            both(request(target))
    for target in ("*", "/", "x", "/files", "/files/", "/iso/", "/config/", "/config/a/b/c", "/nocloud/x", "/configs/a/b", "/get_ignition/x", "//", "/%", "/%ff"):
        both(request(target))


@pytest.mark.parametrize("route", BYTES)
def test_ranges_and_conditions(paths, route):
    path = paths[route]
    def ask(*fields, method="GET"):
        """Returns status, fields by lower-case name, and body of one answer."""
        head, body = both(request(path, *fields, "Connection: close", method=method)).split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        return int(lines[0].split()[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}, body
    code, headers, whole = ask()
    tag, length = headers["etag"], len(whole)
    assert (code, headers["content-length"], headers["accept-ranges"]) == (200, str(length), "bytes") and length > 1000
    for numbers, part in (("0-0", whole[:1]), ("0-3", whole[:4]), ("-7", whole[-7:]), ("5-", whole[5:]), (f"{length - 1}-{length + 9}", whole[-1:]), (f"-{length * 2}", whole)):
        code, headers, body = ask(f"Range: bytes={numbers}")
        start = length - len(part) if numbers.startswith("-") else int(numbers.split("-")[0])
        assert (code, body, headers["content-range"]) == (206, part, f"bytes {start}-{start + len(part) - 1}/{length}"), f"{numbers}: {headers}"
        assert headers["etag"] == tag and headers["content-length"] == str(len(part))
    for numbers in (f"{length}-", "-0", f"{length}-{length + 1}", "99999999999999999999-", "u-u"):
        code, headers, body = ask(f"Range: bytes={numbers}")
        assert (code, headers["content-range"], body) == (416, f"bytes */{length}", b""), f"{numbers}: {headers}"
    for field in ("bytes=0-1,4-5", "lines=0-1", "bytes=5-4", "bytes=", "bytes=-", "0-1"):
        assert ask(f"Range: {field}")[::2] == (200, whole), f"a range that is not understood is ignored (RFC 9110, section 14.2): {field}"
    code, headers, _ = ask("Range: bytes=0-3", method="HEAD")
    assert (code, headers["content-length"]) == (200, str(length)), "a range is defined for GET alone (RFC 9110, section 14.2)"
    for fields, expected in (((f"If-None-Match: {tag}",), 304), ((f'If-None-Match: "x", W/{tag}',), 304), (('If-None-Match: "x"', f"If-None-Match: {tag}"), 304),
                             (("If-None-Match: *",), 304), (('If-None-Match: "x"',), 200), ((f"If-None-Match: {tag}", "Range: bytes=0-3"), 304),
                             ((f'If-None-Match: "x"', f"If-Modified-Since: {FAR}"), 200), ((f"If-Match: {tag}",), 200), (("If-Match: *",), 200),
                             (('If-Match: "x"',), 412), ((f"If-Match: W/{tag}",), 412), ((f'If-Match: "x"', f"If-Match: {tag}"), 200),
                             (("Range: bytes=0-3", f"If-Range: {tag}"), 206), (("Range: bytes=0-3", f"If-Range: W/{tag}"), 200),
                             (("Range: bytes=0-3", 'If-Range: "x"'), 200), (("Range: bytes=0-3", 'If-Match: "x"'), 412)):
        for method in ("GET", "HEAD"):
            code, headers, body = ask(*fields, method=method)
            wanted = 200 if (method, expected) == ("HEAD", 206) else expected
            assert code == wanted and headers["etag"] == tag, f"{method} {fields}: {code} {headers}"
            assert code in (200, 206) or not body, f"{method} {fields} has no body"
