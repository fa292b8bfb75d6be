"""The command line and its servers: contexts, time limits, status, kubeconfig, the first configuration, and help."""

import json
import os
import socket
import subprocess
import threading

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
    assert wrong.returncode == 1 and "nowhere" in wrong.stderr and "context list" in wrong.stderr, f"an unknown context is named: {wrong}"
    assert run("context", "remove", "local").returncode == 0 and run("context", "use", "local").returncode == 4, "a context can be removed"


def test_kubeconfig(server, run):
    done = run("kubeconfig", "--server", URL, "--token-file", server.state / "admin.token", "--name", "lab")
    file = server.place / "kubeconfig"
    file.write_text(done.stdout)
    assert done.returncode == 0 and server.token in done.stdout and "current-context: lab" in done.stdout, f"a kubeconfig has the server and the token: {done}"
    assert run("kubeconfig").returncode == 1 and "--server" in run("kubeconfig").stderr, "kubectl does not use a unix socket"
    pinned = run("kubeconfig", "--server", "https://127.0.0.1:1", "--fingerprint", "ab" * 32)
    assert pinned.stdout.startswith("#") and "fingerprint" in pinned.stdout, f"a fingerprint is a note: {pinned}"
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


def test_the_socket_of_another_user(server):
    """The process enters the directory by a file descriptor: the parents of the test's directory may be closed to it."""
    os.chmod(server.state, 0o755)
    words = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", server.binary, "--server", f"unix:{server.state}/api.sock", "get", "hosts"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 6 and "sudo" in done.stderr and "permission denied" in done.stderr, f"without sudo the message says so: {done}"


def test_init(server, run):
    file = server.place / "etc/bootlatch.toml"
    assert run("init", file).returncode == 2, "without a terminal the interface must be given"
    wrong = run("init", file, "--interface", "eth1", "--unknown-hosts", "instal live")
    assert wrong.returncode == 1 and "unknown_hosts" in wrong.stderr and not file.exists(), f"a wrong answer writes nothing: {wrong}"
    made = run("init", file, "--interface", "lo", "--mode", "server", "--subnet", "192.168.10.0/24", "--pool", "192.168.10.100-192.168.10.199")
    text = file.read_text()
    assert made.returncode == 0 and 'interface = "lo"' in text and 'mode = "server"' in text and "#: " in text, f"init writes a commented configuration: {made}"
    again = run("init", file, "--interface", "eth2")
    assert again.returncode == 1 and "exists" in again.stderr and file.read_text() == text, f"init overwrites nothing: {again}"
    assert run("setup", server.place / "other.toml", "--interface", "eth2").returncode == 0, "setup is another name of init"


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
