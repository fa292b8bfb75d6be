"""Hostile text of machines and media: none of it acts on a terminal, a log, a script or a page."""

import json
import os
import pty
import re
import subprocess

import pytest

from support.iscsi_initiator import Initiator, Refused
from support.objects import HOSTS, IMAGES, host, image, timeline
from support.tiny_iso import tiny_iso
from support.waiting import eventually

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
BIDI = "\u202e\u2066"
UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
ADDRESS = "127.0.0.1"


@pytest.fixture(scope="module")
def server(start_server):
    server = start_server('unknown_hosts = "hold"\n[iscsi]\naccess = "any"\n', environment={"BOOTLATCH_LOG": "debug"})
    iso = bytearray(tiny_iso())
    # The volume id of the primary descriptor: 32 octets at 16 * 2048 + 40.
    label = b"EVIL\x1b[2J\r\nFORGED\x9b31m\x07".ljust(32)
    iso[16 * 2048 + 40:16 * 2048 + 72] = label
    (server.state / "isos").mkdir(exist_ok=True)
    (server.state / "isos" / "evil.iso").write_bytes(iso)
    made = server.ask("POST", IMAGES, image("evil", file="evil.iso"))
    assert made.code == 201, made
    assert server.ask("POST", HOSTS, host("one", 1, image="evil", ip="192.0.2.7")).code == 201
    return server


def assert_safe(text, what):
    found = UNSAFE.search(text)
    assert not found, f"{what}: {found.group()!r} at {text[max(0, found.start() - 60):found.end() + 20]!r}"


def texts(value):
    if isinstance(value, dict):
        return [text for item in value.items() for part in item for text in texts(part)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


def target(server):
    return server.ask("GET", f"{IMAGES}/evil").json["status"]["targetIQN"]


def test_a_volume_id_is_stripped_at_the_entrance(server):
    status = server.ask("GET", f"{IMAGES}/evil").json["status"]
    assert "EVIL" in status["volumeID"] and "FORGED" in status["volumeID"], status
    for text in texts(status):
        assert_safe(text, "the status of an image")


@pytest.mark.parametrize("name", [f"iqn.x:{ESCAPE}", f"iqn.x:{BIDI}", "iqn.x:a b", "iqn.x:line\nbreak", "iqn.x:\u009b31m", "iqn.x:" + "a" * 218],
                         ids=["escape", "bidi", "space", "line", "c1", "224 octets"])
def test_an_initiator_name_that_is_none(server, name):
    with pytest.raises(Refused) as refused:
        Initiator(3260, target(server), name=name).stream.close()
    assert refused.value.args[0] == "0200", f"the login is refused as an initiator error: {refused.value.args}"


@pytest.mark.parametrize("name", ["iqn.x:" + "a" * 217, "iqn.2026-11.example:Ünïcödé", "eui.02004567A425678D", "iqn.1991-05.com.microsoft:win_host"])
def test_an_initiator_name_that_is_one(server, name):
    Initiator(3260, target(server), name=name).stream.close()
    assert eventually(lambda: any(name.lower() in str(entry) for entry in timeline(server))), "the login is in the timeline"


def send_hostile_text(server):
    """Sends hostile text by every way that machines have."""
    from urllib.parse import quote
    hostile = quote(f"{ESCAPE}{BIDI}\r\nERROR forged")
    for path in (f"/ipxe?mac={hostile}", f"/iso/{hostile}", f"/iso/evil/{hostile}", f"/iso/evil?host={hostile}", f"/files/{hostile}", f"/boot/{hostile}/x",
                 f"/boot/52-54-00-00-00-01/{hostile}", f"/api/v1/bootconfig?file={hostile}", f"/media/{hostile}/x.iso", f"/ipxe?mac=525400000001&choose={hostile}"):
        answer = server.ask("GET", path, token=None, source="127.0.0.1")
        if "html" in answer.headers.get("Content-Type", "") or answer.headers["X-Content-Type-Options"] != "nosniff":
            raise AssertionError(f"{path} may be taken for a page: {answer.headers}")
        if answer.code != 200:
            assert_safe(answer.text.rstrip("\n").replace("\n", ""), f"the answer to {path}")
    subprocess.run(["curl", "-s", "--max-time", "5", f"tftp://127.0.0.1/{hostile}"], capture_output=True)


def test_the_log_and_the_timeline(server):
    send_hostile_text(server)
    log = server.log()
    for line in log.splitlines():
        assert_safe(line, "a line of the log")
        assert re.match(r"\d{4}-\d\d-\d\dT", line), f"each line is the server's own: {line!r}"
    for text in texts(server.ask("GET", "/api/v1/timeline").json):
        assert_safe(text, "the timeline")
    assert_safe(server.ask("GET", "/metrics", token=None).text.replace("\n", ""), "the metrics")
    assert_safe(server.ask("GET", "/ipxe?mac=525400000001", token=None).text.replace("\n", ""), "a script")


def on_a_terminal(server, *words):
    """Runs the command line with a terminal as its output; returns what the terminal gets."""
    near, far = pty.openpty()
    process = subprocess.Popen([server.binary, *words], stdout=far, stderr=far, stdin=far, env={**os.environ, "BOOTLATCH_SERVER": f"unix:{server.state}/api.sock"})
    os.close(far)
    output = b""
    while True:
        try:
            part = os.read(near, 1 << 16)
        except OSError:
            break
        if not part:
            break
        output += part
    process.wait()
    os.close(near)
    return output.decode("utf-8", "replace").replace("\r\n", "\n")


def test_the_command_line(server):
    # What a client of the API wrote is shown on terminals as well.
    hostile = f"{BIDI}name\u200b"
    assert server.ask("PATCH", f"{IMAGES}/evil", {"spec": {"description": hostile}, "metadata": {"annotations": {"note": f"{ESCAPE}{BIDI}\nname"}}}).code == 200
    for words in (("get", "isos"), ("get", "isos", "-o", "wide"), ("get", "iso", "evil", "-o", "yaml"), ("get", "iso", "evil", "-o", "json"),
                  ("iso", "list"), ("iso", "show", "evil"), ("iso", "show", "evil", "-o", "yaml"), ("host", "list"), ("host", "timeline", "one"), ("get", "iso", f"{ESCAPE}{BIDI}")):
        shown = on_a_terminal(server, *words)
        assert shown.strip() and "panicked" not in shown
        assert_safe(shown, " ".join(words))
    # In a pipe the values are exact.
    exact = json.loads(server.run("get", "iso", "evil", "-o", "json").stdout)
    assert exact["spec"]["description"] == hostile, exact


def test_a_menu_of_hostile_descriptions(server):
    assert server.ask("PATCH", f"{IMAGES}/evil", {"spec": {"description": f"{BIDI}|| shell"}}).code == 200
    with server.configured('unknown_hosts = "menu"\n'):
        script = server.ask("GET", "/ipxe?mac=52-54-00-aa-bb-01", token=None).text
        assert "menu bootlatch" in script and "evil" in script, script
        assert_safe(script.replace("\n", ""), "the menu")
        assert script.splitlines().count("shell") == 1, f"a description adds no command: {script}"
