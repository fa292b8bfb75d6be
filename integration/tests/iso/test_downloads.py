"""`bootlatch iso add` from web servers: nginx, and servers that break off, know no ranges, change the file or use TLS."""

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import socketserver
import ssl
import subprocess
import threading

import pytest

from support.iso_uploads import iso_of, leftovers, sha, stored
from support.waiting import eventually, slowness
from support.web_server import WebServer

URL = "http://127.0.0.1:8099/big.iso"
PART = 8 << 20  # octets that an unfinished download has before a test interrupts it
NGINX = """daemon off; master_process off; pid PLACE/nginx.pid; error_log PLACE/nginx.err; user root; events {}
http { access_log PLACE/access.log; client_body_temp_path PLACE/b; proxy_temp_path PLACE/p; fastcgi_temp_path PLACE/f;
  uwsgi_temp_path PLACE/u; scgi_temp_path PLACE/s; server { listen 127.0.0.1:8099; root PLACE/www; limit_rate 10m; } }"""


class Nginx:
    """nginx with one file, at 10 MB/s."""

    def __init__(self, place, data):
        self.place, self.data, self.process = place, data, None
        (place / "www").mkdir()
        (place / "www/big.iso").write_bytes(data)
        (place / "nginx.conf").write_text(NGINX.replace("PLACE", str(place)))

    def start(self):
        self.process = subprocess.Popen([shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin"), "-c", self.place / "nginx.conf"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert eventually(lambda: subprocess.run(["curl", "-sI", URL], capture_output=True).returncode == 0), "nginx answers"

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def nginx(private_network, tmp_path_factory):
    place = tmp_path_factory.mktemp("nginx")
    place.chmod(0o755)
    nginx = Nginx(place, iso_of(40 << 20, "nginx"))
    nginx.start()
    yield nginx
    nginx.stop()
    shutil.rmtree(place)


@contextlib.contextmanager
def adding(server, name, *more):
    """Runs `iso add` in the background; kills it if it still runs at the end."""
    process = subprocess.Popen([server.binary, "iso", "add", name, URL, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**os.environ, "BOOTLATCH_SERVER": f"unix:{server.state}/api.sock"})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def parts(server):
    """Returns the unfinished downloads that have at least `PART` octets."""
    return [path for path in (server.state / "isos").glob(".*.part") if path.stat().st_size > PART]


def on_a_terminal(server, *words):
    """Runs the command line on a terminal; returns its exit code and what the terminal showed."""
    outer, inner = pty.openpty()
    process = subprocess.Popen([server.binary, *map(str, words)], stdout=subprocess.DEVNULL, stderr=inner,
                               env={**os.environ, "BOOTLATCH_SERVER": f"unix:{server.state}/api.sock"})
    os.close(inner)
    shown = b""
    while True:
        ready, _, _ = select.select([outer], [], [], 0.1)
        try:
            if ready:
                shown += os.read(outer, 65536)
            elif process.poll() is not None:
                break
        except OSError:
            break
    os.close(outer)
    return process.wait(), shown.decode(errors="replace")


def test_a_download_waits_for_its_web_server(server, nginx):
    with adding(server, "big", "--sha256", sha(nginx.data)) as command:
        assert eventually(lambda: parts(server), 20), "a download is in progress"
        nginx.stop()
        assert command.poll() is None, "the command waits for the web server to come back"
        nginx.start()
        assert command.wait(60 * slowness()) == 0 and stored(server, "big") == nginx.data, "it completes once the web server is back"
    log = (nginx.place / "access.log").read_text()
    assert '" 206 ' in log, f"nginx sends the rest as a part: {log}"


def test_a_killed_download_is_continued_by_the_same_command(server, nginx):
    with adding(server, "big2") as command:
        assert eventually(lambda: parts(server), 20), "a download is in progress"
        command.kill()
        command.wait()
    had = eventually(lambda: max((path.stat().st_size for path in parts(server)), default=0))
    code, shown = on_a_terminal(server, "iso", "add", "big2", URL, "--sha256", sha(nginx.data))
    assert code == 0 and stored(server, "big2") == nginx.data and re.search(r"at byte \d+", shown), \
        f"a command that was killed continues when it is given again: {code}, {shown[-400:]}"
    began = int(re.search(r"at byte (\d+)", shown)[1])
    assert began >= had >= PART, f"it continues where it was interrupted: {began}, {had}"
    assert "100%" in shown and "40.00 MiB of 40.00 MiB" in shown and "MiB/s" in shown and "[####" in shown, f"a terminal shows a bar: {shown[-300:]}"
    assert leftovers(server) == [], f"no unfinished download remains: {leftovers(server)}"


def test_a_download_is_continued_after_the_server_was_killed(server, nginx):
    with adding(server, "big3") as command:
        assert eventually(lambda: parts(server), 20), "a download is in progress"
        nginx.process.send_signal(signal.SIGSTOP)
        server.restart(signal.SIGKILL)
        command.wait(30 * slowness())
        nginx.process.send_signal(signal.SIGCONT)
    done = server.run("iso", "add", "big3", URL)
    assert done.returncode == 0 and "at byte" in done.stderr and stored(server, "big3") == nginx.data, \
        f"a download whose bootlatch was killed continues when it is given again: {done}"


@pytest.fixture(scope="module")
def data():
    return iso_of(6 << 20, "one")


def add(server, name, web, *more, scheme="http", **environment):
    return server.run("iso", "add", name, f"{scheme}://127.0.0.1:{web.port}/x.iso", *more, **environment)


def test_a_server_that_breaks_off_each_time_is_asked_for_the_rest(server, data):
    with WebServer(data, cut=2 << 20) as web:
        done = add(server, "cut", web)
        assert done.returncode == 0 and stored(server, "cut") == data and len(web.requested_ranges) >= 4, \
            f"the download completes in several parts: {done}, {web.requested_ranges}"


def test_a_server_without_ranges_sends_the_whole_file_again(server, data):
    with WebServer(data, ranges=False, cut=3 << 20) as web:
        web.on_cut = lambda: setattr(web, "cut", None)
        done = add(server, "whole", web)
        assert done.returncode == 0 and stored(server, "whole") == data, f"the download completes: {done}, {web.requested_ranges}"


def test_a_file_that_changes_meanwhile_is_downloaded_from_its_beginning(server, data):
    other = iso_of(6 << 20, "other")
    with WebServer(data, cut=3 << 20) as web:
        def change():
            web.cut, web.data = None, other

        web.on_cut = change
        done = add(server, "changed", web)
        assert done.returncode == 0 and stored(server, "changed") == other and "again" in done.stderr, \
            f"a file that changes meanwhile is downloaded from its beginning: {done}, {web.requested_ranges}"


def test_parts_without_a_tag_are_not_put_together(server, data):
    with WebServer(data, tags=False, cut=3 << 20) as web:
        web.on_cut = lambda: setattr(web, "cut", None)
        done = add(server, "untagged", web)
        assert done.returncode == 0 and stored(server, "untagged") == data and "again" in done.stderr, \
            f"a file without a tag is downloaded from its beginning: {done}"


def test_a_redirect_is_followed(server, data):
    with WebServer(data, redirect="/there/x.iso") as web:
        done = add(server, "moved", web)
        assert done.returncode == 0 and stored(server, "moved") == data, f"a redirect is followed: {done}"


def test_a_server_that_cannot_be_reached_is_named(server):
    missing = server.run("iso", "add", "none", "http://127.0.0.1:1/x.iso")
    assert missing.returncode == 1 and "127.0.0.1:1" in missing.stderr and "refused" in missing.stderr, f"the address is named: {missing}"


def test_a_missing_file_is_reported_with_the_servers_answer(server):
    class NotFound(socketserver.StreamRequestHandler):
        def handle(self):
            self.rfile.readline()
            self.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), NotFound) as gone:
        threading.Thread(target=gone.serve_forever, daemon=True).start()
        answered = server.run("iso", "add", "none", f"http://127.0.0.1:{gone.server_address[1]}/x.iso")
        gone.shutdown()
    assert "404 Not Found" in answered.stderr, f"the server's answer is reported: {answered}"


def test_a_wrong_digest_of_a_download_is_refused(server, data):
    with WebServer(data) as web:
        wrong = add(server, "wrong", web, "--sha256", "0" * 64)
    assert sha(data) in wrong.stderr and leftovers(server) == [], f"a wrong sha256 is refused, and nothing remains: {wrong}, {leftovers(server)}"


def test_https_needs_a_trusted_certificate(server, place, data):
    key, certificate = place / "key", place / "crt"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
                    "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"],
                   check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with WebServer(data, context=context) as web:
        refused = add(server, "secure", web, scheme="https")
        assert refused.returncode == 1 and "TLS" in refused.stderr and "certificate" in refused.stderr, \
            f"a certificate that no authority signed is refused: {refused}"
        done = add(server, "secure", web, scheme="https", SSL_CERT_FILE=str(certificate))
        assert done.returncode == 0 and stored(server, "secure") == data, f"a trusted certificate is accepted: {done}"
