"""Strangers cause events at will: the timelines of declared hosts stay."""

import json
import sqlite3

import pytest

from support.objects import HOSTS, host, timeline
from support.waiting import eventually

STRANGERS, ALL = 20_000, 200_000


@pytest.fixture(scope="module")
def server(start_server):
    return start_server('unknown_hosts = "localboot"\n[limits]\nunknown_hosts_per_network = 100000\n')


def database(server):
    return sqlite3.connect(server.state / "bootlatch.db")


def count(server):
    with database(server) as state:
        return [state.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("timeline", "timeline_strangers")]


def test_strangers_wipe_each_others_entries_only(server):
    assert server.ask("POST", HOSTS, host("node1", 1)).code == 201
    assert server.ask("POST", f"{HOSTS}/node1/hold").code == 200
    assert eventually(lambda: timeline(server, "node1", "held")), "the host has an event"
    server.stop()
    # The history of a long attack: as many entries as strangers may have, and all others by declared hosts.
    body = json.dumps({"time": "2026-01-01T00:00:00Z", "mac": "02:f0:00:00:00:01", "host": None, "event": "boot_completed", "detail": {}})
    with database(server) as state:
        known = state.execute("SELECT count(*) FROM timeline").fetchone()[0]
        state.executemany("INSERT INTO timeline (mac, body) VALUES (?, ?)", ((f"02:f0:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}", body) for n in range(ALL - known)))
        state.execute("INSERT INTO timeline_strangers SELECT id FROM timeline ORDER BY id DESC LIMIT ?", (STRANGERS,))
    server.start()
    for number in range(300):
        machine = f"02:f1:00:00:{number >> 8:02x}:{number & 255:02x}"
        server.ask("GET", f"/ipxe?mac={machine}", token=None, source=f"192.0.2.{10 + number % 200}")
    assert eventually(lambda: timeline(server, "", "first_seen")), "the strangers' events are recorded"
    assert eventually(lambda: count(server)[1] <= STRANGERS), f"strangers keep their share: {count(server)}"
    assert timeline(server, "node1", "held"), "the declared host's timeline is whole"
    assert count(server)[0] <= ALL, f"the timeline is bounded: {count(server)}"
