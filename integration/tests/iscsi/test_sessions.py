"""Sessions: replaced, asked to log out, aborted, stuck, closed by the initiator, flooded, and many at once."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.busy_initiator import BusyInitiator, read_request, wait_until_stuck
from support.iscsi_initiator import NO_TAG, Ended, Initiator
from support.iscsi_target import LONG, TARGET
from support.waiting import slowness

# Seconds that a stopping target gives its initiators, and some for the machine.
STOP = 4


def test_a_session_is_replaced_by_the_same_initiator_and_isid_only(target):
    first, other = Initiator(target.port, TARGET, isid=7), Initiator(target.port, TARGET, isid=8)
    second = Initiator(target.port, TARGET, isid=7)
    with pytest.raises((Ended, ConnectionError)):  # the first session has ended
        first.scsi([0x00])
    for session in (other, second):
        session.good([0x00])
        session.logout()
    target.wait_for("Replaced")


def test_a_stopping_target_asks_the_initiator_to_log_out(target):
    initiator = Initiator(target.port, TARGET)
    started = time.monotonic()
    target.process.terminate()
    header, _ = initiator.receive()
    assert header[0] == 0x32 and header[36] == 1, f"the target asks for a logout: {header.hex()}"
    initiator.logout()
    assert target.exit_code() == 0 and time.monotonic() - started < 1.5 * slowness(), "the target stops at the logout"


def test_an_initiator_that_does_not_log_out_does_not_delay_a_stop(target):
    initiator = Initiator(target.port, TARGET)
    started = time.monotonic()
    target.process.terminate()
    assert target.exit_code() == 0 and time.monotonic() - started < STOP * slowness(), "the target stops without the logout"
    initiator.stream.close()


@pytest.mark.parametrize("keys, blocks, depth", [([], 512, 32), (LONG, 512, 32), ([], 1, 32), ([], 1, 1)],
                         ids=["full-queue", "long-segments", "short-reads", "one-at-a-time"])
def test_a_busy_initiator_is_replaced_and_asked_to_log_out(target, keys, blocks, depth):
    busy = BusyInitiator(Initiator(target.port, TARGET, keys, isid=7), blocks, depth).start_and_wait()
    Initiator(target.port, TARGET, isid=7).logout()
    busy.join(5 * slowness())
    assert busy.error and not busy.is_alive(), "a busy session ends when it is replaced"
    again = BusyInitiator(Initiator(target.port, TARGET, keys), blocks, depth).start_and_wait()
    started = time.monotonic()
    target.process.terminate()
    assert again.logout_requested.wait(2 * slowness()), "a busy initiator is asked to log out"
    assert target.exit_code() == 0 and time.monotonic() - started < STOP * slowness(), "a busy initiator does not delay the stop"


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "stopped"])
def test_an_initiator_that_never_pauses_is_replaced_and_asked_to_log_out(target, replaced):
    """NOP-Outs that ask for no answer: there is always a next one to read, and never anything to send."""
    initiator = Initiator(target.port, TARGET, isid=7)
    flood_ends = time.monotonic() + 6 * slowness()
    started = threading.Event()
    ping = bytearray(48)
    ping[0], ping[1], ping[16:24] = 0x40, 0x80, b"\xff" * 8
    pings = bytes(ping) * 20000

    def flood():
        try:
            while time.monotonic() < flood_ends:
                initiator.stream.sendall(pings)
                started.set()
        except OSError:
            pass
    flooding = threading.Thread(target=flood, daemon=True)
    flooding.start()
    assert started.wait(5 * slowness()), "the target reads the flood"
    if replaced:
        Initiator(target.port, TARGET, isid=7).logout()
    else:
        target.process.terminate()
        header, _ = initiator.receive()
        assert header[0] == 0x32 and header[36] == 1, f"the target asks for a logout: {header.hex()}"
    assert time.monotonic() < flood_ends - 2, "the target does so while the initiator still sends"
    initiator.stream.close()
    flooding.join(10 * slowness())


@pytest.fixture(params=[[], LONG], ids=["short-segments", "long-segments"])
def stuck(request, target):
    """An initiator that has asked for more than the sockets hold, and takes nothing."""
    stuck = BusyInitiator(Initiator(target.port, TARGET, request.param))
    for _ in range(100):
        stuck.read()
    wait_until_stuck(stuck.initiator.stream)
    return stuck


def test_an_initiator_that_takes_nothing_does_not_delay_a_stop(target, stuck):
    started = time.monotonic()
    target.process.terminate()
    assert target.exit_code() == 0, "the target stops"
    took = time.monotonic() - started
    assert took < STOP * slowness(), f"the target stops within {STOP} s: {took}"


def test_an_initiator_that_disconnects_causes_no_read_error(target, stuck):
    stuck.initiator.stream.close()
    target.wait_for("Ended")
    failed = [line for line in target.lines if "ReadFailed" in line]
    assert not failed, f"a closed connection is not reported as a failed read: {failed}"


def test_pings_are_answered_and_unknown_requests_rejected(target):
    initiator = Initiator(target.port, TARGET)
    initiator.send(0x40, 0x80, b"hello", tag=5, words=[(20, NO_TAG.to_bytes(4, "big"))])
    assert initiator.receive()[1] == b"hello", "a NOP-Out's data comes back"
    initiator.send(0x5C, 0x80, tag=6)
    header, data = initiator.receive()
    assert header[0] == 0x3F and header[2] == 5 and len(data) == 48, f"an unknown opcode is rejected with its header: {header.hex()}"
    initiator.good([0x00])
    initiator.logout()
    target.wait_for("NotSupported")


@pytest.mark.parametrize("keys", [[], LONG], ids=["short-segments", "long-segments"])
@pytest.mark.parametrize("function, kept", [(1, range(1, 100)), (2, None), (5, None)], ids=["abort-task", "abort-task-set", "reset"])
def test_commands_in_progress_are_aborted_and_reset(target, function, kept, keys):
    initiator = Initiator(target.port, TARGET, keys)
    # More than the sockets hold: the target is in the middle of it when the request comes.
    for tag in range(1, 101):
        read_request(initiator, tag, 512)
    wait_until_stuck(initiator.stream)
    initiator.send(0x42, 0x80 | function, tag=999, words=[(20, (100).to_bytes(4, "big"))])
    done, response = set(), None
    while response is None or kept and len(done) < len(kept):
        header, _ = initiator.receive()
        if header[0] == 0x22:
            response = header[2]
        elif header[1] & 1:
            done.add(int.from_bytes(header[16:20], "big"))
    assert response == 0, f"function {function}: response {response} after {len(done)} tasks"
    assert done == set(kept) if kept else len(done) < 90, f"function {function}: only the aborted tasks are missing: {len(done)} done"
    initiator.tag = 2000  # a response to an aborted task would be one to another task now
    _, sense = initiator.scsi([0x00])
    assert sense is None or sense[:2] == (6, 0x29), f"the next command succeeds, or reports the reset: {sense}"
    initiator.good([0x00])
    initiator.logout()


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.0\r\n\r\n" * 4, bytes(48), b"\x43\x87\0\0\0\xff\xff\xff" + bytes(40), b"\x01" * 4096],
                         ids=["http", "zeros", "too-long", "commands"])
def test_junk_instead_of_a_login_does_not_affect_others(target, junk):
    stream = socket.create_connection(("127.0.0.1", target.port), 5 * slowness())
    stream.sendall(junk)
    try:
        stream.recv(100)
    except ConnectionError:
        pass
    stream.close()
    Initiator(target.port, TARGET).logout()


def test_many_initiators_read_at_once(target, media):
    image = media.disk.read_bytes()

    def machine(number):
        initiator = Initiator(target.port, TARGET, isid=number, name=f"iqn.x:{number}")
        for block in range(number * 64, number * 64 + 2048, 512):
            data = initiator.good([0x28, 0, *block.to_bytes(4, "big"), 0, 2, 0, 0], room=512 * 512)
            assert data == image[block * 512:(block + 512) * 512], f"initiator {number} reads the disk's data at block {block}"
        initiator.logout()

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(machine, range(64)))
