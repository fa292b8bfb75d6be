"""The log: text, JSON, and fields of a real journal."""

import json
import os
import re
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import pytest

from support.objects import HOSTS, host
from support.server import PORT
from support.journal_world import World
from support.waiting import eventually

UNIT = Path(__file__).resolve().parents[3] / "systemd/bootlatch.service"
MAC = "52:54:00:00:00:01"
# What Rust's Debug writes, and no person does: Some(x), None, Name { field: ... }, an enum's path.
RUST_DEBUG = re.compile(r"\bSome\(|\bNone\b|\b[A-Z]\w+ \{ |\b[A-Z]\w+\(\"|::[A-Z]")


def make_noise(ask):
    """Has the server log events, refusals and drops."""
    assert ask("POST", HOSTS, host("one", 1)).code == 201
    assert ask("POST", f"{HOSTS}/one/hold").code in (200, 201, 202)
    assert ask("GET", f"/ipxe?mac={MAC}").code < 500
    assert ask("GET", f"/boot/{MAC.replace(':', '-')}/x.efi").code in (403, 404)
    assert ask("GET", "/api/v1/bootconfig").code < 500


@pytest.fixture(scope="module")
def json_lines(start_server):
    """The lines that a server logs in JSON, at the level debug."""
    server = start_server("", ["--log-format", "json"], environment={"BOOTLATCH_LOG": "bootlatch=debug"})
    make_noise(server.ask)
    assert eventually(lambda: '"reason":"held"' in server.log(), 10), server.tail()
    server.close()
    return [json.loads(line) for line in server.log().splitlines()]


def test_each_line_is_an_object_with_time_level_and_message(json_lines):
    for line in json_lines:
        assert list(line)[:3] == ["time", "level", "message"], line
        age = datetime.now(timezone.utc) - datetime.fromisoformat(line["time"].replace("Z", "+00:00"))
        assert 0 <= age.total_seconds() < 3600 and line["time"].endswith("Z"), line
        assert line["level"] in ("error", "warn", "info", "debug", "trace"), line
        assert not any(value is None or isinstance(value, (dict, list)) for value in line.values()), line


def test_an_event_has_its_fields(json_lines):
    held = next(line for line in json_lines if line.get("event") == "held")
    assert (held["mac"], held["host"], held["message"], held["level"]) == (MAC, "one", "host held", "info")
    refused = next(line for line in json_lines if line.get("event") == "refused")
    assert (refused["reason"], refused["protocol"], refused["host"]) == ("held", "http", "one")


def test_no_line_has_words_of_rust(json_lines):
    written = [str(value) for line in json_lines for value in line.values()]
    assert [text for text in written if RUST_DEBUG.search(text)] == []


def test_text_without_the_journal(start_server):
    server = start_server("", environment={"JOURNAL_STREAM": "1:2"})
    make_noise(server.ask)
    assert eventually(lambda: "event=\"held\"" in server.log(), 10)
    line = next(line for line in server.log().splitlines() if "event=\"held\"" in line)
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z +INFO host held ", line), line
    server.close()


@pytest.mark.parametrize("config, named", [("intreface = 1", "intreface"), ("log_format = \"xml\"", "xml")])
def test_the_error_that_ends_the_server_is_a_line_of_json(place, private_network, config, named):
    file = place / "broken.toml"
    file.write_text(config)
    done = subprocess.run([os.environ["BOOTLATCH"], "serve", "--config", file, "--log-format", "json"], capture_output=True, text=True)
    assert done.returncode not in (0, None)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["error"], lines
    assert lines[0]["message"] == "the server ended" and named in lines[0]["error"] and str(file) in lines[0]["error"]


def test_the_key_of_the_configuration_sets_the_format(start_server):
    server = start_server('log_format = "json"')
    assert all(json.loads(line)["message"] for line in server.log().splitlines())
    server.close()


@pytest.fixture(scope="module")
def world(place):
    """A systemd that runs the server's own unit, with the log level debug."""
    shutil.copy(os.environ["BOOTLATCH"], place / "bootlatch")
    world = World(place)
    try:
        world.run("cp", place / "bootlatch", "/usr/bin/bootlatch")
        world.write("/etc/systemd/system/bootlatch.service", UNIT.read_text())
        world.write("/usr/lib/sysusers.d/bootlatch.conf", UNIT.with_name("bootlatch.sysusers").read_text())
        world.run("systemd-sysusers")
        world.write("/etc/systemd/system/bootlatch.service.d/test.conf", "[Service]\nEnvironment=BOOTLATCH_LOG=bootlatch=debug\n")
        world.write("/etc/bootlatch/bootlatch.toml", f'interface = "lan0"\nhttp_port = {PORT}\n[api]\ntrust_loopback = true\n')
        world.run("sh", "-c", "mkdir -p /usr/share/bootlatch/firmware && ip link add lan0 type veth peer name lan1 && ip link set lan1 up && ip address add 10.9.0.1/24 dev lan0"
                              " && ip link set lan0 up")
        world.run("systemctl", "daemon-reload")
        started = world.try_run("systemctl", "start", "bootlatch")
        assert started.returncode == 0, world.try_run("journalctl", "--no-pager", "-n", "50").stdout
        yield world
    finally:
        world.close()


@pytest.fixture(scope="module")
def entries(world):
    """The entries that the journal has of the unit."""
    curl = ["curl", "-sS", "--unix-socket", "/var/lib/bootlatch/api.sock", "-H", "Content-Type: application/json"]
    world.run(*curl, "-d", json.dumps(host("one", 1)), f"http://localhost{HOSTS}")
    world.run(*curl, "-X", "POST", f"http://localhost{HOSTS}/one/hold")
    world.run("curl", "-sS", f"http://10.9.0.1:{PORT}/ipxe?mac={MAC}")
    world.run("curl", "-sS", f"http://10.9.0.1:{PORT}/boot/{MAC.replace(':', '-')}/x.efi")
    assert eventually(lambda: read(world, "EVENT=refused"), 20), world.run("journalctl", "--no-pager", "-u", "bootlatch")
    return read(world)


def read(world, *matches):
    world.run("journalctl", "--sync")
    lines = world.try_run("journalctl", "--no-pager", "-u", "bootlatch", "_COMM=bootlatch", "-o", "json", *matches).stdout.splitlines()
    return [json.loads(line) for line in lines]


def test_the_journal_has_native_fields(entries):
    held = next(entry for entry in entries if entry.get("EVENT") == "held")
    assert (held["MAC"], held["HOST"], held["PRIORITY"], held["SYSLOG_IDENTIFIER"], held["_TRANSPORT"]) == (
        MAC, "one", "6", "bootlatch", "journal")
    assert held["MESSAGE"] == f"host held event=held mac={MAC} host=one"
    refused = next(entry for entry in entries if entry.get("EVENT") == "refused")
    assert (refused["REASON"], refused["PROTOCOL"], refused["HOST"]) == ("held", "http", "one")


def test_the_journal_finds_entries_by_their_fields(world, entries):
    assert {entry["EVENT"] for entry in read(world, "HOST=one", "REASON=held")} <= {"refused", "stalled"}
    priorities = {entry["PRIORITY"] for entry in read(world, "-p", "warning")}
    assert priorities <= {"0", "1", "2", "3", "4"}, priorities


def test_an_entry_has_no_second_time_stamp_and_no_words_of_rust(entries):
    assert len(entries) > 5
    for entry in entries:
        assert entry["_TRANSPORT"] == "journal", entry
        assert not re.match(r"\d{4}-\d\d-\d\d|.*\x1b", entry["MESSAGE"]), entry["MESSAGE"]
        assert not re.match(r" *(INFO|WARN|ERROR|DEBUG)\b", entry["MESSAGE"]), entry["MESSAGE"]
        assert not RUST_DEBUG.search(entry["MESSAGE"]), entry["MESSAGE"]


def test_the_priorities_are_those_of_the_levels(entries):
    assert {entry["PRIORITY"] for entry in entries} >= {"6", "7"}
    assert all(entry["PRIORITY"] == "7" for entry in entries if entry["MESSAGE"].startswith("request refused ") and "EVENT" not in entry)


def test_the_error_that_ends_the_server_has_a_priority(world, entries):
    world.run("cp", "/etc/bootlatch/bootlatch.toml", "/etc/bootlatch/good.toml")
    world.write("/etc/bootlatch/bootlatch.toml", "intreface = 1\n")
    assert world.try_run("systemctl", "restart", "bootlatch").returncode != 0
    world.run("cp", "/etc/bootlatch/good.toml", "/etc/bootlatch/bootlatch.toml")
    found = [entry for entry in read(world, "-p", "err") if "intreface" in entry["MESSAGE"]]
    assert found and found[0]["_TRANSPORT"] == "journal" and "/etc/bootlatch/bootlatch.toml" in found[0]["ERROR"], found
