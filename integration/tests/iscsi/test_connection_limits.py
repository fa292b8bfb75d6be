"""Strangers who open connections and never log in, and who guess CHAP secrets."""

import contextlib
import time

import pytest

from support.attackers import allow_files, connections, is_counted, is_open, metric, settled
from support.iscsi_initiator import Ended, Initiator, Refused, chap_response, refusal
from support.objects import HOSTS, IMAGES, host, image
from support.waiting import eventually, slowness

ATTACKER, STRANGER, MACHINE = "192.0.2.66", "192.0.2.8", "192.0.2.7"
PORT, IQN = 3260, "iqn.2026-11.org.bootlatch"
PER_SOURCE, TOTAL, RESERVE = 64, 2048, 512
USER, SECRET = "site", b"a-secret-of-site"


@pytest.fixture(scope="module")
def server(start_server):
    allow_files()
    server = start_server(f'[iscsi]\naccess = "any"\n[iscsi.chap]\nusername = "{USER}"\nsecret = "{SECRET.decode()}"\n')
    server.iso()
    assert server.ask("POST", IMAGES, image("live")).code == 201
    assert server.ask("POST", HOSTS, host("node1", 1, ip=MACHINE)).code == 201
    return server


def is_answered(source):
    """Returns whether a login from an address gets an answer; one without CHAP fails by it."""
    with contextlib.suppress(OSError, Ended):
        refused = refusal(PORT, f"{IQN}:live", ["AuthMethod=None"], source=source)
        return refused is not None and refused.args[0] == "0201"
    return False


class Guess(Initiator):
    """A login with CHAP and a secret, which may be wrong."""

    def __init__(self, secret, source):
        self.secret = secret
        super().__init__(PORT, f"{IQN}:live", ["AuthMethod=CHAP"], source=source)

    def login(self, flags, keys):
        super().login(0, keys)
        challenge = super().login(0, ["CHAP_A=5"])
        answer = chap_response(int(challenge["CHAP_I"]), self.secret, bytes.fromhex(challenge["CHAP_C"][2:]))
        super().login(0x81, [f"CHAP_N={USER}", f"CHAP_R={answer}"])
        return super().login(0x87, [])


def guess(secret, source):
    """Returns the status of a login with a secret."""
    try:
        Guess(secret, source).logout()
    except Refused as refused:
        return refused.args[0]
    return "0000"


def test_one_source_takes_its_share_and_no_more(server):
    with connections(3 * PER_SOURCE, ATTACKER, PORT) as held:
        assert settled(held) == PER_SOURCE, "the attacker keeps its share"
        assert is_answered(STRANGER), "another initiator is answered"
        assert is_counted(server, "iscsi", "source_limit")
        began = time.monotonic()
        assert eventually(lambda: not any(map(is_open, held)), 25), "connections that do not log in are closed"
        assert time.monotonic() - began < 20 * slowness()
    assert is_answered(ATTACKER), "the share is given back"


def test_many_sources_leave_a_reserve_for_known_machines(server):
    with contextlib.ExitStack() as attack:
        held = []
        for last in range(100, 100 + (TOTAL - RESERVE) // PER_SOURCE + 2):
            held += attack.enter_context(connections(PER_SOURCE, f"192.0.2.{last}", PORT))
        assert sum(map(is_open, held)) >= TOTAL - RESERVE - PER_SOURCE
        assert is_answered(MACHINE), "a declared machine is answered"
        assert not is_answered(STRANGER), "there is no place for another stranger"
    assert eventually(lambda: is_answered(STRANGER)), "the places are given back"


def test_guesses_of_a_secret_are_slowed_down_for_the_guesser_only(server):
    assert guess(SECRET, STRANGER) == "0000", "the secret works"
    statuses = [guess(b"a-wrong-secret-%d" % number, ATTACKER) for number in range(40)]
    wrong, waiting = statuses.count("0201"), statuses.count("0301")
    assert wrong + waiting == 40 and 10 <= wrong <= 25, f"after ten guesses the source waits: {statuses}"
    assert statuses[-1] == "0301" and guess(SECRET, ATTACKER) in ("0301", "0000")
    assert guess(SECRET, STRANGER) == "0000", "another source logs in"
    counted = metric(server, 'bootlatch_requests_refused_total{protocol="iscsi",reason="chap_throttled"}')
    assert counted >= waiting, "the refusals are counted"
