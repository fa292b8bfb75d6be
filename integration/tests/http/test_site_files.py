"""The administrator's own files over HTTP and TFTP, and no path out of their directory."""

import os
import subprocess

from support.server import PORT


def curl(*words):
    done = subprocess.run(["curl", "-sS", "--max-time", "10", *words], capture_output=True)
    return done.returncode, done.stdout


def test_files_over_http_and_tftp(server):
    files = server.state / "files"
    assert files.is_dir(), "the directory is created at the first start"
    kernel = os.urandom(3_000_000)
    (files / "deep").mkdir()
    (files / "deep" / "vmlinuz").write_bytes(kernel)
    (files / "own.ipxe").write_text("#!ipxe\nshell\n")
    (server.place / "firmware" / "first").write_text("a boot program")
    (files / "first").write_text("a file of the same name")
    (server.state / "secret").write_text("nobody's business")
    (files / "out").symlink_to("../secret")
    (files / "whole").symlink_to(server.state / "secret")
    (files / "near").symlink_to("deep/vmlinuz")
    os.mkfifo(files / "pipe")

    url = f"http://127.0.0.1:{PORT}/files"
    assert curl(f"{url}/deep/vmlinuz") == (0, kernel), "HTTP: a file is served"
    assert curl(f"{url}/near") == (0, kernel), "HTTP: a link within the directory is followed"
    assert curl("-r", "1000000-", f"{url}/deep/vmlinuz") == (0, kernel[1_000_000:]), "HTTP: a range is served"
    whole = server.ask("GET", "/files/deep/vmlinuz", token=None)
    again = server.ask("GET", "/files/deep/vmlinuz", token=None, headers={"If-None-Match": whole.headers["ETag"]})
    assert again.code == 304, f"HTTP: a request with the current ETag is answered 304: {again}"
    head = server.ask("HEAD", "/files/own.ipxe", token=None)
    assert (head.code, head.headers["Content-Type"], head.headers["Content-Length"]) == (200, "text/plain", "13"), (
        f"HTTP: HEAD returns type and length: {head.headers}")
    (files / "own.ipxe").write_text("#!ipxe\nshell # another\n")
    assert server.ask("GET", "/files/own.ipxe", token=None).text.endswith("another\n"), "HTTP: a changed file is served with its new content"
    for path in ("none", "deep", "out", "whole", "pipe", "../secret", "deep/../../secret", "%2e%2e/secret", "..%2fsecret",
                 "%2fetc/passwd", "/etc/passwd", "deep%00", "deep/vmlinuz/x", "x" * 300):
        got = server.ask("GET", f"/files/{path}", token=None)
        assert got.code == 404 and b"business" not in got.body, f"HTTP: {path[:30]!r} is 404: {got}"
    put = server.ask("PUT", "/files/own.ipxe", "x")
    assert put.code == 405, f"HTTP: PUT is refused: {put}"

    assert curl("tftp://127.0.0.1/deep/vmlinuz") == (0, kernel), "TFTP: a file is served"
    assert curl("tftp://127.0.0.1/first") == (0, b"a boot program"), "TFTP: boot programs come before files of the same name"
    for path in ("none", "out", "whole", "pipe", "deep"):
        code, got = curl(f"tftp://127.0.0.1/{path}")
        assert code != 0 and not got, f"TFTP: {path!r} is refused: {(code, got)}"

    boot = server.ask("GET", "/boot/52-54-00-12-34-56/first", token=None)
    assert (boot.code, boot.text) == (200, "a boot program"), f"a boot program is served over HTTP: {boot}"
    assert server.ask("GET", "/boot/52-54-00-12-34-56/own.ipxe", token=None).code == 404, "HTTP: files are not served as boot programs"


def test_ranges_conditions_and_paths(server):
    place, ask = server.state / "files", server.ask
    (place / "sub").mkdir()
    (place / "sub/a file.bin").write_bytes(bytes(range(256)) * 40)
    (place / "empty").write_bytes(b"")
    (place / "leak").symlink_to(server.state / "admin.token")
    os.mkfifo(place / "fifo")
    get = lambda path, **headers: ask("GET", f"/files/{path}", token=None, headers={name.replace("_", "-"): text for name, text in headers.items()})
    whole = get("sub/a%20file.bin")
    assert whole.code == 200 and whole.body == bytes(range(256)) * 40, "a file is served without a token"
    tail, rest, beyond = (get("sub/a%20file.bin", Range=f"bytes={text}") for text in ("-6", "10230-", "10240-"))
    assert (tail.code, tail.body, rest.code, len(rest.body)) == (206, bytes(range(250, 256)), 206, 10), (
        f"suffix and open-ended ranges are served: {(tail, rest)}")
    assert (beyond.code, beyond.headers["Content-Range"]) == (416, "bytes */10240"), f"a range past the end is 416: {beyond}"
    assert get("sub/a%20file.bin", If_None_Match=whole.headers["ETag"]).code == 304, "a request with the current ETag is answered 304"
    assert ask("HEAD", "/files/sub/a%20file.bin", token=None).headers["Content-Length"] == "10240", "HEAD returns the length"
    assert (get("empty").code, get("empty").body) == (200, b""), "an empty file is served"
    ways = ("../admin.token", "..%2fadmin.token", "sub/../../admin.token", "/etc/passwd", "%2fetc%2fpasswd", "leak", "sub", "fifo", "none", "a%00b")
    assert all(get(path).code == 404 for path in ways), f"everything but a regular file in the directory is 404: {[get(path) for path in ways]}"
