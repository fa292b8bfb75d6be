"""Strangers who open connections, never read, or never finish a head: others are served all the time."""

import contextlib
import http.client
import socket
import time

import pytest

from support.attackers import allow_files, connections, is_counted, is_served_still, memory, settled
from support.objects import HOSTS, host
from support.server import PORT
from support.waiting import eventually, slowness

ATTACKER, STRANGER, MACHINE = "192.0.2.66", "192.0.2.8", "192.0.2.7"
MIB = 1 << 20
PER_SOURCE, TOTAL, RESERVE = 256, 8192, 2048


@pytest.fixture(scope="module")
def server(start_server):
    allow_files()
    server = start_server('[limits]\nhttp_send_timeout = "3s"\n')
    assert server.ask("POST", HOSTS, host("node1", 1, ip=MACHINE)).code == 201
    (server.state / "files").mkdir(exist_ok=True)
    (server.state / "files/large").write_bytes(bytes(64 * MIB))
    return server


def is_served(server, source):
    """Returns whether a new connection from an address is answered."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return server.ask("GET", "/healthz", token=None, source=source).code == 200
    return False


def test_one_source_takes_its_share_and_no_more(server):
    with connections(3 * PER_SOURCE, ATTACKER, PORT) as held:
        assert settled(held) == PER_SOURCE, "the attacker keeps its share"
        assert not is_served(server, ATTACKER), "more of its connections are closed"
        assert is_served(server, STRANGER), "another client is served"
        assert server.run("get", "hosts").returncode == 0, "the unix socket is served"
        assert is_counted(server, "http", "source_limit"), "the closed connections are counted"
    assert eventually(lambda: is_served(server, ATTACKER)), "the share is given back"


def test_many_sources_leave_a_reserve_for_known_machines_and_the_unix_socket(server):
    with contextlib.ExitStack() as attack:
        sources = [f"192.0.2.{last}" for last in range(100, 100 + (TOTAL - RESERVE) // PER_SOURCE + 2)]
        held = [one for source in sources for one in attack.enter_context(connections(PER_SOURCE, source, PORT))]
        assert eventually(lambda: settled(held) <= TOTAL - RESERVE, 20), "strangers do not get the reserve"
        assert not is_served(server, STRANGER), "there is no place for another stranger"
        began = time.monotonic()
        assert is_served(server, MACHINE), "a declared machine is served"
        listed = server.run("get", "hosts")
        assert listed.returncode == 0 and "node1" in listed.stdout, f"the admin lists hosts over the unix socket: {listed}"
        assert server.run("delete", "host", "node1").returncode == 0, "the admin deletes a host over the unix socket"
        assert time.monotonic() - began < 10 * slowness(), "neither waits for the attack to end"
    assert eventually(lambda: is_served(server, STRANGER)), "the places are given back"
    assert server.ask("POST", HOSTS, host("node1", 1, ip=MACHINE)).code == 201


def request_of_large(receive_buffer):
    """Opens a connection and requests a large file, of which nothing is read."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    reader.settimeout(10 * slowness())
    reader.bind((STRANGER, 0))
    reader.connect(("127.0.0.1", PORT))
    reader.sendall(b"GET /files/large HTTP/1.1\r\nHost: b\r\n\r\n")
    return reader


def test_a_client_that_never_reads_is_given_up_and_a_slow_one_is_not(server):
    with request_of_large(4096) as stuck, request_of_large(65536) as slow:
        end, got = time.monotonic() + 8, 0
        while time.monotonic() < end:
            got += len(slow.recv(65536))
            time.sleep(0.2)  # the client is slow
        assert eventually(lambda: not is_served_still(stuck), 10), "the client that takes no byte is given up"
        assert is_served_still(slow) and got > 65536, f"the slow client is still served: {got} bytes"


def test_heads_that_never_end_use_a_bounded_memory_that_is_given_back(server):
    before = memory(server.process.pid)
    with contextlib.ExitStack() as attack:
        for last in range(100, 116):
            for one in attack.enter_context(connections(PER_SOURCE, f"192.0.2.{last}", PORT)):
                one.setblocking(False)
                with contextlib.suppress(OSError):
                    one.send(b"POST /api/v1/x HTTP/1.1\r\nX: " + b"x" * 60_000)
        assert is_counted(server, "http", "head_memory"), "heads beyond the budget are counted"
        at_worst = memory(server.process.pid) - before
        print(f"4,096 heads of 60 kB: {at_worst / MIB:.0f} MiB")
        assert is_served(server, STRANGER), "an ordinary request is served meanwhile"
        assert at_worst < 140 * MIB, f"4,096 unfinished heads of 60 kB use {at_worst / MIB:.0f} MiB"
    kept = lambda: memory(server.process.pid) - before
    assert eventually(lambda: kept() < 48 * MIB, 20), f"the memory is given back: {kept() / MIB:.0f} MiB stay"


def test_a_body_of_nobody_is_not_read(server):
    before = memory(server.process.pid)
    with connections(200, ATTACKER, PORT) as held:
        for one in held:
            one.setblocking(False)
            with contextlib.suppress(OSError):
                one.send(b"POST /redfish/v1/SessionService/Sessions HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n" + b" " * 500_000)
        refused = server.ask("POST", "/redfish/v1/SessionService/Sessions", b" " * 100_000, token=None, source=STRANGER)
        assert refused.code == 413, f"a long body of a client without a role is refused: {refused}"
        grown = memory(server.process.pid) - before
        assert grown < 32 * MIB, f"200 bodies of 4 MB use {grown / MIB:.0f} MiB"
