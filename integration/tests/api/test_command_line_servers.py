"""The command line and its servers: contexts, time limits, status, kubeconfig, the first configuration, and help."""

import http.server
import json
import os
import socket
import subprocess
import threading
import time

import pytest

from support.kubectl import kubectl
from support.objects import HOSTS, host
from support.server import PORT
from support.waiting import eventually, slowness

pytestmark = pytest.mark.usefixtures("example_objects")

URL = f"http://127.0.0.1:{PORT}"


@pytest.fixture
def run(server):
    """Runs the command line with a home directory of its own, and without a server in its environment."""
    home = server.place / "home"
    home.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BOOTLATCH_", "XDG_"))}

    def run(*words, stdin="", **more):
        return subprocess.run([server.binary, *map(str, words)], input=stdin, capture_output=True, text=True, timeout=60 * slowness(),
                              env={**environment, "HOME": str(home), **more})

    yield run
    if (home / ".config/bootlatch/config").exists():
        (home / ".config/bootlatch/config").unlink()


def test_contexts(server, run):
    token = server.state / "admin.token"
    assert "no contexts" in run("context", "list").stderr, "there are no contexts at first"
    assert run("context", "set", "lab").returncode == 2, "a context needs a server"
    made = run("context", "set", "lab", "--server", URL, "--token-file", os.path.relpath(token))
    assert made.returncode == 0 and "current" in made.stdout, f"the first context is the current one: {made}"
    assert run("context", "set", "local", "--server", f"unix:{server.state}/api.sock").returncode == 0
    path = server.place / "home/.config/bootlatch/config"
    assert path.stat().st_mode & 0o777 == 0o600 and str(token) in path.read_text(), f"the file is its owner's, and names files by absolute paths: {path.read_text()}"
    assert "one" in run("get", "hosts").stdout, "commands use the current context"
    assert run("context", "use", "local").returncode == 0 and "one" in run("get", "hosts").stdout, "another one can be made the current one"
    listed = json.loads(run("context", "list", "-o", "json").stdout)
    assert [(row["current"], row["name"]) for row in listed] == [("", "lab"), ("*", "local")], f"context list marks the current one: {listed}"
    assert run("get", "hosts", "--context", "lab").returncode == 0, "--context selects one"
    assert run("get", "hosts", BOOTLATCH_CONTEXT="lab").returncode == 0, "and so does the variable"
    assert run("get", "hosts", "--server", URL).returncode == 6, "--server takes no token from the current context"
    wrong = run("get", "hosts", "--context", "nowhere")
    assert wrong.returncode == 4 and "nowhere" in wrong.stderr and "context list" in wrong.stderr, f"an unknown context is named: {wrong}"
    assert run("context", "remove", "local").returncode == 0 and run("context", "use", "local").returncode == 4, "a context can be removed"


class TokenCatcher:
    """An HTTP server that notes the Authorization header of each request, and refuses it."""

    def __enter__(self):
        caught = self.tokens = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                caught.append(self.headers.get("Authorization"))
                self.send_response(403)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_a_token_goes_to_its_own_server(server, run):
    run("context", "set", "lab", "--server", URL, "--token-file", server.state / "admin.token")
    with TokenCatcher() as other:
        assert run("get", "hosts", "--context", "lab", BOOTLATCH_SERVER=other.url).returncode == 0, "--context wins over BOOTLATCH_SERVER"
        assert other.tokens == [], "and nothing is sent to the other server"
        for words, more in ((("--server", other.url), {"BOOTLATCH_CONTEXT": "lab"}), ((), {"BOOTLATCH_CONTEXT": "lab", "BOOTLATCH_SERVER": other.url})):
            done = run("get", "hosts", *words, **more)
            assert done.returncode == 6 and set(other.tokens) == {None}, f"another server gets no token of a context: {done} {other.tokens}"
        both = run("get", "hosts", "--server", other.url, "--context", "lab")
        assert both.returncode == 2 and "not both" in both.stderr, f"two servers are wrong usage: {both}"


def test_kubeconfig(server, run):
    done = run("kubeconfig", "--server", URL, "--token-file", server.state / "admin.token", "--name", "lab")
    file = server.place / "kubeconfig"
    file.write_text(done.stdout)
    assert done.returncode == 0 and server.token in done.stdout and "current-context: lab" in done.stdout, f"a kubeconfig has the server and the token: {done}"
    assert run("kubeconfig").returncode == 1 and "--server" in run("kubeconfig").stderr, "kubectl does not use a unix socket"
    pinned = run("kubeconfig", "--server", "https://127.0.0.1:1", "--fingerprint", "ab" * 32)
    assert pinned.stdout.startswith("#") and "fingerprint" in pinned.stdout, f"a fingerprint is a note: {pinned}"
    written = server.place / "written"
    done = run("kubeconfig", "--server", URL, "--token-file", server.state / "admin.token", "--name", "lab", "--output", written)
    assert done.returncode == 0 and written.stat().st_mode & 0o777 == 0o600 and written.read_text() == file.read_text(), f"--output writes a file for its owner only: {done}"
    again = run("kubeconfig", "--server", URL, "--output", written)
    assert again.returncode == 1 and "written" in again.stderr and written.read_text() == file.read_text(), f"and overwrites nothing: {again}"
    odd = server.place / "odd.token"
    odd.write_text("a/b@c:d%")
    assert "http://bootlatch:a%2Fb%40c%3Ad%25@127" in run("kubeconfig", "--server", URL, "--token-file", odd).stdout, "a token in a URL is encoded"
    listed = subprocess.run([str(kubectl()), "--kubeconfig", str(file), "get", "bmh", "-o", "name"], capture_output=True, text=True, env={"HOME": str(server.place)})
    assert listed.stdout == "baremetalhost/one\n", f"kubectl works with it: {listed}"


def test_status_and_version(server):
    text = server.run("status").stdout
    assert "ready" in text and "1 (1 Assigned)" in text and "one Assigned live" in text and "Faults:    none" in text, f"status is one screen: {text}"
    (server.state / "isos/x.iso").unlink()
    broken = eventually(lambda: "iso live:" in server.run("status").stdout, 20)
    assert broken, f"status shows a broken ISO: {server.run('status')}"
    summary = json.loads(server.run("status", "-o", "json").stdout)
    assert summary["ready"] is True and summary["hosts"] == {"Assigned": 1} and len(summary["faults"]) == 1, f"status -o json has the same: {summary}"
    versions = json.loads(server.run("version", "-o", "json").stdout)
    assert versions["client"] in versions["server"], f"version shows both: {versions}"
    assert server.run("version", "--client", BOOTLATCH_SERVER="unix:/nowhere").returncode == 0, "version --client asks no server"
    gone = server.run("version", BOOTLATCH_SERVER="unix:/nowhere")
    assert gone.returncode == 3 and "client" in gone.stdout, f"without a server the client's version is shown: {gone}"


def test_a_server_that_does_not_answer_in_time(server):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kept = []
        threading.Thread(target=lambda: kept.append(silent.accept()), daemon=True).start()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = server.run("get", "hosts", "--timeout", "1s", BOOTLATCH_SERVER=url)
        assert done.returncode == 3 and url in done.stderr and "1s (--timeout)" in done.stderr, f"the time limit is said: {done}"
    assert server.run("get", "hosts", "--timeout", "soon").returncode == 2, "a time that is none is wrong usage"


class HalfAnswers:
    """A server of which each answer is the head and a part of the body."""

    def __init__(self, status, body=b""):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.answer = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n" % status + body
        self.kept = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        try:
            while True:
                connection = self.socket.accept()[0]
                self.kept.append(connection)
                connection.recv(65536)
                connection.sendall(self.answer)
        except OSError:
            return  # the test has ended

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def test_an_answer_that_does_not_end(server):
    """The time limit holds for the body, also of a refusal."""
    for status, words in ((b"200 OK", ("status",)), (b"403 Forbidden", ("watch", "hosts")), (b"200 OK", ("seed", "build", server.place / "never.iso", "--host", "one"))):
        with HalfAnswers(status, b"{") as half:
            done = server.run(*words, "--timeout", "1s", BOOTLATCH_SERVER=half.url)
            # A watch that ends after its time is no fault; here the answer may be missed first.
            assert done.returncode in ((0, 3) if words[0] == "watch" else (3,)) and "1s (--timeout)" in done.stderr, f"{words} ends in its time: {done}"


def test_wait_ends_in_its_time(server):
    with HalfAnswers(b"200 OK", b"{") as half:
        begun = time.monotonic()
        done = server.run("wait", "host/one", "--for=phase=Held", "--timeout", "2s", BOOTLATCH_SERVER=half.url)
        took = time.monotonic() - begun
    assert done.returncode == 3 and done.stderr.count("(--timeout)") == 1 and "phase=Held not reached" in done.stderr, f"the time and the goal are said: {done}"
    assert 2 <= took < 10 * slowness(), f"wait ends in its time: {took} s"


class EndingWatches:
    """An API that ends each watch at once, with some lines before the end."""

    def __init__(self, *lines):
        body = "".join(json.dumps(line) + "\n" for line in lines).encode()
        self.asked = asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(time.monotonic())
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_watch_of_connections_that_end_at_once(server):
    with EndingWatches() as ending:
        done = server.run("watch", "hosts", "--timeout", "3s", BOOTLATCH_SERVER=ending.url)
        assert done.returncode == 0 and 2 <= len(ending.asked) <= 8, f"watch pauses before it connects again: {len(ending.asked)} {done}"
    with EndingWatches({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}) as failing:
        done = server.run("watch", "hosts", "--timeout", "60s", BOOTLATCH_SERVER=failing.url)
        assert done.returncode == 1 and "too old" in done.stderr and len(failing.asked) == 5, f"watch ends after errors without an event: {done}"


def test_the_socket_of_another_user(server):
    """The process enters the directory by a file descriptor: the parents of the test's directory may be closed to it."""
    os.chmod(server.state, 0o755)
    words = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", server.binary, "--server", f"unix:{server.state}/api.sock", "get", "hosts"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 6 and "sudo" in done.stderr and "permission denied" in done.stderr, f"without sudo the message says so: {done}"


def test_init(server, run):
    file = server.place / "etc/bootlatch.toml"
    assert run("init", file).returncode == 2, "without a terminal the interface must be given"
    nowhere = run("init", file, "--interface", "nowhere0")
    assert nowhere.returncode == 2 and "nowhere0" in nowhere.stderr and not file.exists(), f"an interface that does not exist is refused: {nowhere}"
    wrong = run("init", file, "--interface", "lo", "--unknown-hosts", "instal live")
    assert wrong.returncode == 1 and "unknown_hosts" in wrong.stderr and not file.exists(), f"a wrong answer writes nothing: {wrong}"
    made = run("init", file, "--interface", "lo", "--mode", "server", "--subnet", "192.168.10.0/24", "--pool", "192.168.10.100-192.168.10.199")
    text = file.read_text()
    assert made.returncode == 0 and 'interface = "lo"' in text and 'mode = "server"' in text and "#: " in text, f"init writes a commented configuration: {made}"
    assert "systemctl" not in made.stdout and f"serve --config {file}" in made.stdout, f"the unit of systemd does not read another file: {made}"
    for words in (("--subnet", "192.168.10.0/24"), ("--mode", "proxy", "--pool", "192.168.10.100-192.168.10.199"), ("--mode", "off", "--router", "192.168.10.1")):
        dropped = run("init", server.place / "dropped.toml", "--interface", "lo", *words)
        assert dropped.returncode == 2 and "--mode server" in dropped.stderr and not (server.place / "dropped.toml").exists(), f"{words} needs mode server: {dropped}"
    again = run("init", file, "--interface", "lo")
    assert again.returncode == 1 and "exists" in again.stderr and file.read_text() == text, f"init overwrites nothing: {again}"
    assert run("setup", server.place / "other.toml", "--interface", "lo").returncode == 0, "setup is another name of init"


def test_completion_of_kinds_and_names(server):
    server.ask("POST", HOSTS, host("two", 2))

    def complete(*words):
        done = subprocess.run([server.binary, "--", "bootlatch", *words], capture_output=True, text=True, env={
            **os.environ, "_BOOTLATCH_COMPLETE": "bash", "_CLAP_COMPLETE_INDEX": str(len(words)), "_CLAP_IFS": "\n", "_CLAP_COMPLETE_COMP_TYPE": "9",
            "BOOTLATCH_SERVER": f"unix:{server.state}/api.sock"})
        return done.stdout.split("\n")

    assert {"host", "iso", "config"} <= set(complete("get", "")), f"kinds are completed: {complete('get', '')}"
    assert [word for word in complete("get", "host", "") if not word.startswith("-")] == ["one", "two"], f"names of a kind are completed: {complete('get', 'host', '')}"
    assert complete("delete", "host/t") == ["host/two"], f"KIND/NAME is completed: {complete('delete', 'host/t')}"
    assert "one" in complete("host", "assign", "") and "live" in complete("host", "assign", "one", "--image", ""), "hosts and ISOs are completed"
    assert "assign" in complete("host", ""), "commands are completed"


def test_completion_gives_up_in_time(server):
    """A server that accepts connections and is silent must not keep somebody waiting at the prompt."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words = ["get", "host", ""]
        began = time.monotonic()
        done = subprocess.run([server.binary, "--", "bootlatch", *words], capture_output=True, text=True, timeout=60, env={
            **os.environ, "_BOOTLATCH_COMPLETE": "bash", "_CLAP_COMPLETE_INDEX": str(len(words)), "_CLAP_IFS": "\n", "_CLAP_COMPLETE_COMP_TYPE": "9",
            "BOOTLATCH_SERVER": f"http://127.0.0.1:{silent.getsockname()[1]}"})
        took = time.monotonic() - began
    assert done.returncode == 0 and done.stderr == "", f"it ends quietly: {done}"
    assert [word for word in done.stdout.split("\n") if word and not word.startswith("-")] == [], f"no names are completed: {done}"
    assert 1.9 < took < 2 + 2 * slowness(), f"it waits for 2 s: {took}"


def test_help(server):
    run = server.run
    commands = [("get",), ("apply",), ("delete",), ("host", "assign"), ("iso", "add"), ("config", "add"), ("wait",), ("init",), ("context", "set"), ("kubeconfig",), ()]
    for words in commands:
        text = run(*words, "--help").stdout
        assert max(map(len, text.splitlines())) <= 100, f"the help of {words} fits 100 columns: {max(text.splitlines(), key=len)}"
        assert "Examples:" in text, f"the help of {words} has examples: {text}"
    text = run("get", "--help").stdout
    assert text.index("--selector") < text.index("Connection options:") < text.index("--server"), f"the command's own options come first: {text}"
    for words in (("serve",), ("init",)):
        assert "--server" not in run(*words, "--help").stdout, f"{words} talks to no server"
