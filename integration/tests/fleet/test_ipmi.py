"""IPMI 2.0: the cipher suites 17 and 3, rights, lost packets and hanging BMCs, with a scripted BMC, ipmitool and ipmi_sim."""

import shutil
import subprocess

import pytest

from support import management_controllers
from support.bmc_hosts import becomes, bmc, condition, patch, read, status
from support.objects import HOSTS, host
from support.scripted_ipmi import LEVELS, ScriptedIpmi
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_objects_left")

CONTROL, BOOT_OPTIONS, STATUS, SET_PRIVILEGE = (0, 2), (0, 8), (0, 1), (6, 0x3B)
ALGORITHMS = {3: (1, 1, 1), 17: (3, 4, 1)}


@pytest.fixture
def controllers():
    """A function that starts a scripted BMC; all are closed at the end."""
    started = []

    def start(**options):
        started.append(ScriptedIpmi(0, **options))
        return started[-1]

    yield start
    for controller in started:
        controller.close()


def add(server, name, controller, number=20, **more):
    spec = {"username": "admin", "password": "password", **{key: more.pop(key) for key in list(more) if key in ("username", "password", "privilegeLevel", "cipherSuite")}}
    return server.ask("POST", HOSTS, host(name, number, bmc={"address": f"ipmi://127.0.0.1:{controller.port}", **spec}, **more))


def failed(server, name, wait=30):
    """The message of the condition that says why the power of a host is unknown."""
    found = eventually(lambda: (condition(server, name, "PowerKnown") or {}).get("status") == "False" and condition(server, name, "PowerKnown"), wait)
    assert found, f"{name}: {status(server, name)} {server.tail()}"
    return found["reason"], found["message"]


@pytest.mark.parametrize("suite", [17, 3])
def test_ipmitool_works_with_the_scripted_bmc(controllers, suite):
    """The scripted BMC is honest: the IPMI client of most distributions logs in, reads and switches with each suite."""
    scripted = controllers(suites=(suite,), users={"admin": ("password", "operator")})
    run = lambda *words, level="OPERATOR", password="password": subprocess.run(
        ["ipmitool", "-I", "lanplus", "-C", str(suite), "-H", "127.0.0.1", "-p", str(scripted.port), "-U", "admin", "-P", password, "-L", level, "-R", "1",
         "chassis", *words], capture_output=True, text=True)
    assert "is off" in run("power", "status").stdout
    assert run("power", "on").returncode == 0 and scripted.power == "on" and "is on" in run("power", "status").stdout
    assert run("bootdev", "pxe", "options=efiboot").returncode == 0 and scripted.options[5] == bytes([0xA0, 4, 0, 0, 0]), scripted.options
    assert run("power", "status", password="wrong").returncode != 0 and run("power", "status", level="ADMINISTRATOR").returncode != 0


@pytest.mark.parametrize("suite", [17, 3])
def test_a_machine_is_switched_with_each_suite(server, controllers, suite):
    scripted = controllers(suites=(suite,), users={"admin": ("password", "operator")})
    add(server, "node", scripted)
    assert becomes(server, "node", "off"), server.tail()
    assert status(server, "node")["bmc"]["cipherSuite"] == suite, status(server, "node")["bmc"]
    assert scripted.opened == [ALGORITHMS[17], ALGORITHMS[3]][:2 if suite == 3 else 1], f"17 first: {scripted.opened}"
    scripted.opened.clear()
    patch(server, "node", online=True)
    assert becomes(server, "node", "on") and scripted.power == "on", server.tail()
    assert set(scripted.opened) == {ALGORITHMS[suite]}, f"the suite is remembered: {scripted.opened}"
    assert server.run("host", "boot-device", "network", "node").returncode == 0
    assert scripted.options[5][:2] == bytes([0x80, 4]) and scripted.options[3] == b"\x08", scripted.options
    assert eventually(lambda: not scripted.sessions), f"all sessions are closed: {scripted.sessions}"
    assert all(data == bytes([LEVELS["operator"]]) for function, command, data in scripted.asked if (function, command) == SET_PRIVILEGE), "operator is enough"


def test_a_suite_without_encryption_or_integrity_is_never_used(server, controllers):
    weak = controllers(suites=())
    add(server, "weak", weak)
    reason, message = failed(server, "weak")
    assert reason == "NotSupported" and "cipher suite 3: the cipher suite is not supported; see bmc.cipherSuite (17 or 3" in message, message
    assert weak.opened[:2] == [ALGORITHMS[17], ALGORITHMS[3]] and set(weak.opened) == {ALGORITHMS[17], ALGORITHMS[3]} and weak.logins == [], weak.opened
    for number, algorithms in enumerate([(0, 0, 0), (3, 0, 1), (3, 4, 0)], 21):
        liar = controllers()
        liar.algorithms = algorithms
        add(server, f"liar{number}", liar, number)
        reason, message = failed(server, f"liar{number}")
        assert reason == "InvalidReply" and "other algorithms than those of the cipher suite" in message and liar.logins == [], (message, liar.logins)
    old = controllers()
    old.algorithms = ALGORITHMS[3]
    add(server, "old", old, 24)
    assert eventually(lambda: status(server, "old").get("bmc", {}).get("cipherSuite") == 3), "as pyghmi's: it answers with the suite that it has"
    plain = controllers()
    plain.strip = True
    add(server, "plain", plain, 30)
    reason, message = failed(server, "plain")
    assert reason == "InvalidReply" and "not encrypted and signed with the session's keys" in message, message
    forged = controllers()
    forged.damage = True
    add(server, "forged", forged, 31)
    assert failed(server, "forged")[0] == "InvalidReply"
    for suite in (0, 1, 15, "17"):
        refused = server.ask("PATCH", f"{HOSTS}/weak", {"spec": {"bmc": {"cipherSuite": suite}}}, "application/merge-patch+json")
        assert refused.code == 422 or refused.code == 400, refused
        assert "cipherSuite" in refused.text, refused
    known = controllers()
    add(server, "known", known, 32)
    assert becomes(server, "known", "off") and status(server, "known")["bmc"]["cipherSuite"] == 17
    known.suites = (3,)
    known.opened.clear()
    patch(server, "known", online=True)
    assert eventually(lambda: known.opened, 20) and failed(server, "known")[0] == "NotSupported" and set(known.opened) == {ALGORITHMS[17]}, (
        f"a BMC that has had 17 is not asked with less: {known.opened}")
    patch(server, "known", bmc={"cipherSuite": 3})
    assert becomes(server, "known", "on", 40), f"unless its spec says so: {status(server, 'known')}"


def test_a_login_that_is_refused_says_why(server, controllers):
    scripted = controllers(users={"admin": ("password", "operator"), "reader": ("password", "user")})
    for number, (name, spec, reason, words) in enumerate([
            ("wrong", {"password": "geheim-geheim"}, "Refused", 'login of "admin" at level operator with cipher suite 17: the password is wrong'),
            ("nobody", {"username": "nobody"}, "Refused", "no such user, or one who may not log in over the network"),
            ("above", {"privilegeLevel": "administrator"}, "Refused", "may not have this privilege level; see bmc.privilegeLevel"),
            ("reader", {"username": "reader"}, "Refused", "level operator with cipher suite 17: the user may not have this privilege level")], 20):
        scripted.logins.clear()
        add(server, name, scripted, number, **spec)
        found = failed(server, name)
        assert found[0] == reason and words in found[1] and "geheim" not in str(read(server, name)), found
        assert len(scripted.logins) <= 1, f"{name}: the account is not locked by us: {scripted.logins}"
    for number, (spec, field) in enumerate([({"password": "p" * 21}, "password"), ({"username": "u" * 17}, "username")], 26):
        refused = add(server, "long", scripted, number, **spec)
        assert refused.code == 422 and f"spec.bmc.{field}" in refused.text and "IPMI 2.0 has at most" in refused.text, refused
    add(server, "looks", scripted, 30, username="reader", privilegeLevel="user")
    assert becomes(server, "looks", "off"), status(server, "looks")
    patch(server, "looks", online=True)
    done = eventually(lambda: status(server, "looks").get("lastPowerTransition"), 20)
    assert done["state"] == "failed" and "insufficient privilege; see bmc.privilegeLevel" in done["message"] and scripted.power == "off", done
    scripted.codes = {SET_PRIVILEGE: 0x81}
    add(server, "limited", scripted, 31)
    assert "the user may not have the privilege level operator" in failed(server, "limited")[1]
    scripted.codes, scripted.full = {}, True
    asked = len(scripted.opened)
    add(server, "full", scripted, 32)
    assert eventually(lambda: len(scripted.opened) > asked) and "powerError" not in status(server, "full"), "a BMC whose sessions are all in use is busy, and has not failed"
    scripted.full = False
    assert becomes(server, "full", "off", 90), status(server, "full")
    assert eventually(lambda: not scripted.sessions or all(not session.is_open for session in scripted.sessions.values())), scripted.sessions


def test_lost_and_repeated_packets(server, controllers):
    lossy = controllers()
    lossy.lose, lossy.twice = 2, True
    add(server, "lossy", lossy)
    assert becomes(server, "lossy", "off"), status(server, "lossy")
    lossy.asked.clear()
    lossy.lose = 1
    patch(server, "lossy", online=True)
    assert becomes(server, "lossy", "on") and [data for function, command, data in lossy.asked if (function, command) == CONTROL] == [b"\1"], lossy.asked
    assert lossy.numbers and 0 not in lossy.numbers


@pytest.mark.parametrize("stage, words", [(0x10, "no answer to an Open Session Request"), (0x12, "no answer to RAKP 1 within 6 s (3 tries)"),
                                          (0x14, "no answer to RAKP 3 within 6 s (3 tries)"), (STATUS, "no answer to a command within 6 s (3 tries)")])
def test_a_bmc_that_hangs(server, controllers, stage, words):
    hanging, other = controllers(), controllers()
    hanging.hang = {stage}
    add(server, "hanging", hanging)
    add(server, "other", other, 21)
    assert becomes(server, "other", "off", 5), "another host is not kept waiting"
    reason, message = failed(server, "hanging")
    assert reason == "Unreachable" and words in message, message
    assert eventually(lambda: not any(session.is_open for session in hanging.sessions.values())), "its session is closed"


def test_both_rights_and_the_simulator(server):
    """openipmi's simulator has suite 3: it is found after 17 was refused."""
    sim = management_controllers.Simulator(server, 6233)
    (sim.place / "obeys").touch()
    try:
        for number, level in enumerate(["operator", "administrator"], 20):
            spec = {**bmc("ipmi://127.0.0.1:6233"), "privilegeLevel": level}
            server.ask("POST", HOSTS, host(level, number, bmc=spec))
            assert becomes(server, level, sim.power), (status(server, level), server.tail())
            assert status(server, level)["bmc"]["cipherSuite"] == 3, status(server, level)
            patch(server, level, online=sim.power == "off")
            assert eventually(lambda: status(server, level).get("lastPowerTransition"), 20)
            server.ask("DELETE", f"{HOSTS}/{level}")
    finally:
        sim.close()
        shutil.rmtree(sim.place)
