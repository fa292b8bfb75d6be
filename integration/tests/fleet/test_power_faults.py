"""BMCs that refuse for now, lie, hang or have other words: each costs its own host a condition, and nothing else.

The real controllers (ipmi_sim, sushy-tools) obey; what they cannot do wrong is done by a scripted one.
"""

import hashlib
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from support import management_controllers
from support.bmc_hosts import becomes, bmc, condition, events, patch, read, status
from support.objects import HOSTS, host, make_example
from support.scripted_redfish import Refusal, ScriptedRedfish
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_objects_left")
PORT = 8020
ADDRESS = "192.0.2.7"


@pytest.fixture
def controllers():
    """A function that starts a scripted BMC on the next port."""
    running = []

    def start(**how):
        running.append(ScriptedRedfish(PORT + len(running), **how))
        return running[-1]

    yield start
    for one in running:
        one.close()


def add(server, name, controller, number=20, **spec):
    """Declares a host with a scripted BMC, and waits until its power was read."""
    address = f"redfish+http://127.0.0.1:{controller.server.server_port}"
    made = server.ask("POST", HOSTS, host(name, number, bmc=bmc(address), **spec))
    assert made.code == 201, made
    assert becomes(server, name, controller.power.lower()), server.tail()


def power(server, name, operation, **more):
    asked = server.ask("POST", f"{HOSTS}/{name}/power", {"operation": operation, **more})
    assert asked.code == 200, asked
    return asked.json


def last(server, name, wait=20):
    """Waits until no power change is in progress, and returns the last one."""
    ended = eventually(lambda: "powerTransition" not in status(server, name) and status(server, name).get("lastPowerTransition"), wait)
    assert ended, (status(server, name), server.tail())
    return ended


def test_a_shutdown_that_is_refused_for_now_does_not_cut_the_power(server, controllers):
    post = controllers(power="On")
    post.script = {("POST", "GracefulShutdown"): Refusal(503, "in POST, try again", times=2, headers={"Retry-After": "2"})}
    busy = controllers(power="On")
    busy.script = {("POST", "GracefulShutdown"): Refusal(409, "in POST", times=1)}
    slow = controllers(power="On")
    slow.script = {("POST", "GracefulShutdown"): Refusal(429, "too many requests", times=1, headers={"Retry-After": "3"})}
    for number, (name, controller) in enumerate([("post", post), ("busy", busy), ("slow", slow)], 20):
        add(server, name, controller, number)
        power(server, name, "off")
    said = eventually(lambda: "in POST, try again" in status(server, "post").get("powerTransition", {}).get("message", ""))
    assert said, f"the BMC's own words are in the status while it is asked again: {status(server, 'post')}"
    waits = {"post": 2, "busy": 5, "slow": 3}
    for name, controller in [("post", post), ("busy", busy), ("slow", slow)]:
        done = last(server, name, 30)
        assert done["state"] == "confirmed" and set(controller.types()) == {"GracefulShutdown"}, (
            f"{name}: the shutdown is asked for again, and the power is not cut: {controller.types()} {done}")
        first, second = controller.times()[:2]
        assert second - first >= waits[name], f"{name}: the BMC is left alone for as long as it asked: {second - first}"
        assert not events(server, name, "bmc_failed"), f"{name}: a BMC that is busy for a while has not failed"


def test_the_boot_device_is_written_on_the_version_that_was_read(server, controllers):
    make_example(server)
    tagged = controllers(tags=True)
    tagged.writes_by_others = 1
    plain = controllers(modes=False)
    for number, (name, controller) in enumerate([("tagged", tagged), ("plain", plain)], 20):
        add(server, name, controller, number, image="live")
        assert eventually(lambda: status(server, name).get("bootDevice"), 20), f"{name}: {status(server, name)} {server.tail()}"
        told = status(server, name)["bootDevice"]
        assert told["device"] == "network" and "error" not in told, f"{name}: the BMC was told to boot from the network: {told}"
        assert (controller.boot["BootSourceOverrideTarget"], controller.boot["BootSourceOverrideEnabled"]) == ("Pxe", "Once"), controller.boot
    assert len(tagged.sent("PATCH")) == 2, f"a write that lost (412) is repeated once on the new version: {tagged.asked}"
    for name, controller in [("tagged", tagged), ("plain", plain)]:
        assert controller.types() == [], f"{name}: nobody asked for it to be switched on: {controller.types()}"


def test_a_bmc_that_lies_is_found_out(server, controllers):
    liar = controllers(obeys=False)
    add(server, "liar", liar)
    honest = controllers()
    add(server, "honest", honest, 21)
    power(server, "liar", "on")
    assert eventually(lambda: status(server, "liar").get("powerTransition", {}).get("state") == "accepted", 10), status(server, "liar")
    assert condition(server, "liar", "PowerChanged")["reason"] == "Accepted", condition(server, "liar", "PowerChanged")
    power(server, "honest", "on")
    assert last(server, "honest", 15)["state"] == "confirmed", "another host is switched meanwhile"
    done = last(server, "liar", 130)
    assert (done["state"], done["reason"], liar.types()) == ("failed", "NotConfirmed", ["On"] * 3), (done, liar.types())
    times = liar.times()
    assert all(29 < later - earlier < 45 for earlier, later in zip(times, times[1:])), f"three tries of 30 s: {times}"
    found = condition(server, "liar", "PowerChanged")
    assert found["status"] == "False" and "accepted On 3 times, and the machine is still off" in found["message"], found
    assert condition(server, "honest", "PowerChanged")["status"] == "True", condition(server, "honest", "PowerChanged")
    liar.power = "On"
    patch(server, "liar", bmc={"disableCertificateVerification": True})
    assert becomes(server, "liar", "on") and condition(server, "liar", "PowerChanged")["status"] == "True", condition(server, "liar", "PowerChanged")
    assert liar.types() == ["On"] * 3, f"a machine that somebody switched on meanwhile is not switched again: {liar.types()}"


def test_a_bmc_that_hangs_is_noticed_early_and_keeps_nobody_waiting(server, controllers):
    hanging = controllers()
    add(server, "hanging", hanging)
    other = controllers()
    add(server, "other", other, 21)
    hanging.script = {("GET", "/Systems"): Refusal("hang", times=1000)}
    power(server, "hanging", "on")
    power(server, "other", "on")
    assert last(server, "other", 15)["state"] == "confirmed", "another host is switched meanwhile"
    known = eventually(lambda: condition(server, "hanging", "PowerKnown")["status"] == "False" and condition(server, "hanging", "PowerKnown"), 30)
    assert known and "no answer within 20 s" in known["message"], f"it is noticed at the first request: {known}"
    patch(server, "hanging", online=True)
    done = last(server, "hanging", 180)
    assert (done["state"], done["reason"]) == ("failed", "Unreachable"), done
    hanging.script = {}
    hanging.released.set()
    patch(server, "hanging", bmc={"disableCertificateVerification": True})
    assert becomes(server, "hanging", "on", 30), f"a corrected BMC is asked for what failed: {status(server, 'hanging')}"


def test_what_a_bmc_does_not_offer_is_done_otherwise(server, controllers):
    bare = controllers(power="On", resets=["On", "ForceOff"], action_info=True)
    add(server, "bare", bare)
    power(server, "bare", "restart")
    assert last(server, "bare")["state"] == "confirmed" and bare.types() == ["ForceOff", "On"], (
        f"reset types are read from the ActionInfo: what is not offered is not asked for: {bare.types()}")
    power(server, "bare", "reset")
    assert last(server, "bare")["state"] == "confirmed" and bare.types()[2:] == ["ForceOff", "On"], bare.types()


def test_a_wrong_password_is_tried_once(server, controllers):
    strict = controllers()
    add(server, "strict", strict)
    before = len(strict.asked)
    patch(server, "strict", bmc={"password": "sesame-geheim"}, online=True)
    done = last(server, "strict")
    assert (done["state"], done["reason"]) == ("failed", "Refused") and "geheim" not in str(read(server, "strict")), done
    assert len(strict.asked) - before <= 2 and strict.types() == [], f"the account is not locked by us: {strict.asked[before:]}"
    patch(server, "strict", bmc={"password": "password"})
    assert becomes(server, "strict", "on") and last(server, "strict")["state"] == "confirmed", "the corrected password is used for what failed"


def test_a_session_is_opened_and_closed(server, controllers):
    careful = controllers(sessions=2)
    add(server, "careful", careful)
    careful.script = {("POST", "On"): Refusal(500, "a fault of mine")}
    power(server, "careful", "on")
    assert last(server, "careful", 40)["state"] == "confirmed", server.tail()
    assert careful.opened >= 4 and careful.most == 1 and eventually(lambda: not careful.open, 10), (
        f"each operation logs in and out again, also one that fails: {careful.opened} {careful.most} {careful.open}")
    patch(server, "careful", bmc={"password": "sesame-geheim"})
    said = eventually(lambda: condition(server, "careful", "PowerKnown")["status"] == "False" and condition(server, "careful", "PowerKnown"), 20)
    assert said and said["reason"] == "Refused" and "401" in said["message"], said


def test_a_restart_of_the_server_in_the_middle(server, controllers):
    steady = controllers(power="On", obeys=False)
    add(server, "steady", steady)
    power(server, "steady", "restart")
    assert eventually(lambda: status(server, "steady").get("powerTransition", {}).get("state") == "accepted", 15), status(server, "steady")
    server.restart()
    assert status(server, "steady")["powerTransition"]["accepted"]["reset"] == "GracefulShutdown", status(server, "steady")
    steady.obeys, steady.power = True, "Off"
    assert last(server, "steady", 30)["state"] == "confirmed" and steady.types() == ["GracefulShutdown", "On"], (
        f"the restart goes on where it was: {steady.types()}")


def test_an_assignment_switches_the_machine_on_and_its_end_sets_the_disk(server, controllers):
    make_example(server)
    machine = controllers()
    server.ask("POST", HOSTS, host("machine", 20, bmc=bmc(f"redfish+http://127.0.0.1:{PORT}"), online=True, ip=ADDRESS))
    assert last(server, "machine")["state"] == "confirmed" and becomes(server, "machine", "on"), server.tail()
    machine.power = "Off"
    patch(server, "machine", bmc={"disableCertificateVerification": True})
    assert becomes(server, "machine", "off") and "powerTransition" not in status(server, "machine"), "a person switched it off: it stays off"
    machine.asked.clear()
    patch(server, "machine", image="live")
    assert last(server, "machine")["state"] == "confirmed" and becomes(server, "machine", "on"), status(server, "machine")
    changes = [how for how, *_ in machine.asked if how != "GET"]
    assert changes[-1] == "POST" and "PATCH" in changes[:-1], f"it is told to boot from the network, and then switched on: {changes}"
    assert (machine.boot["BootSourceOverrideTarget"], machine.types()) == ("Pxe", ["On"]), (machine.boot, machine.types())
    # The machine boots and installs from its own address, and reports it.
    script = server.ask("GET", f"/ipxe?mac={read(server, 'machine')['spec']['bootMACAddress']}", token=None, source=ADDRESS)
    assert script.code == 200 and status(server, "machine")["phase"] == "Offered", (script, status(server, "machine"))
    done = server.ask("POST", "/api/v1/boot-complete", token=None, source=ADDRESS)
    assert done.code == 200 and status(server, "machine")["phase"] == "Installed", done
    assert eventually(lambda: machine.boot["BootSourceOverrideTarget"] == "Hdd", 20), f"its next boot is from its disk: {machine.boot}"
    assert eventually(lambda: status(server, "machine")["bootDevice"]["device"] == "disk", 10) and machine.types() == ["On"], status(server, "machine")


def test_the_protocol_of_a_bare_address_is_detected(server, controllers, tmp_path):
    secure = controllers(tls=tmp_path)
    server.ask("POST", HOSTS, host("secure", 20, bmc=bmc(f"127.0.0.1:{secure.server.server_port}")))
    assert becomes(server, "secure", "off"), server.tail()
    learnt = status(server, "secure")["bmc"]
    shown = hashlib.sha256(ssl.PEM_cert_to_DER_cert((tmp_path / "crt").read_text())).hexdigest()
    assert (learnt["protocol"], learnt["certificate"]) == ("redfish", shown), f"Redfish is detected and its certificate pinned: {learnt}"
    sim = management_controllers.Simulator(server, 6232)
    try:
        server.ask("POST", HOSTS, host("old", 21, bmc=bmc("127.0.0.1:6232")))
        assert becomes(server, "old", "off"), server.tail()
        assert status(server, "old")["bmc"]["protocol"] == "ipmi", status(server, "old")
        power(server, "old", "on")
        assert last(server, "old")["state"] == "confirmed" and sim.told == ["power 1"], sim.told
    finally:
        sim.close()
        shutil.rmtree(sim.place)
    server.ask("POST", HOSTS, host("nobody", 22, bmc=bmc("127.0.0.1:9")))
    said = eventually(lambda: condition(server, "nobody", "PowerKnown")["status"] == "False" and condition(server, "nobody", "PowerKnown"), 20)
    assert said and "neither Redfish (port 9" in said["message"] and "nor IPMI (port 9" in said["message"], said


def test_a_slow_handshake_and_another_certificate(server, controllers, tmp_path):
    slow = controllers(tls=tmp_path, handshake_delay=4)
    server.ask("POST", HOSTS, host("slow", 20, bmc=bmc(f"redfish://127.0.0.1:{slow.server.server_port}")))
    assert becomes(server, "slow", "off", 40), server.tail()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bmc", "-keyout", tmp_path / "key",
                    "-out", tmp_path / "crt"], check=True, capture_output=True)
    slow.handshake_delay = 0
    slow.context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    slow.asked.clear()
    power(server, "slow", "on")
    done = last(server, "slow", 130)
    assert done["state"] == "failed" and "certificate fingerprint" in done["message"] and slow.asked == [], (
        f"another certificate is refused, and gets no credentials: {done} {slow.asked}")


def test_virtual_media_are_inserted_and_ejected(server):
    """sushy-tools' emulator downloads what is inserted: the host's own view of its image."""
    make_example(server)
    emulator = management_controllers.emulator(server, 8005)
    sushy = management_controllers.sushy()
    client = sushy.Sushy("http://127.0.0.1:8005/redfish/v1", auth=sushy.auth.BasicAuth("admin", "password"))
    system = client.get_system_collection().get_members()[0]
    drives = lambda: client.get_manager_collection().get_members()[0].virtual_media.get_members()
    cd = lambda: next(drive for drive in drives() if sushy.VirtualMediaType.CD in drive.media_types)
    try:
        bmc_of = bmc("redfish-virtualmedia+http://127.0.0.1:8005")
        server.ask("POST", HOSTS, host("media", 20, bmc=bmc_of, online=True, image="live", ip=ADDRESS))
        done = last(server, "media", 60)
        assert done["state"] == "confirmed" and becomes(server, "media", "on"), (done, server.tail())
        told = status(server, "media")["bootDevice"]
        assert told["device"] == "cd" and "error" not in told, (told, server.tail())
        system.refresh()
        # The emulator says "Continuous" whatever it is told.
        assert system.boot.target == sushy.BootSource.CD, system.boot
        assert cd().inserted and status(server, "media")["phase"] == "Offered", (cd().image, status(server, "media"))
        completed = server.ask("POST", "/api/v1/boot-complete", token=None, source=ADDRESS)
        assert completed.code == 200, completed
        assert eventually(lambda: not cd().inserted, 30), f"the medium is ejected at the end: {cd().image} {server.tail()}"
        assert eventually(lambda: (system.refresh(), system.boot.target)[1] == sushy.BootSource.HDD, 20), system.boot
    finally:
        emulator.close()
        shutil.rmtree(emulator.place)


def test_machines_without_a_bmc_are_woken_in_waves(server):
    macs = {}
    for number, name in enumerate(["plain1", "plain2", "plain3"], 20):
        made = server.ask("POST", HOSTS, host(name, number))
        macs[bytes.fromhex(made.json["spec"]["bootMACAddress"].replace(":", ""))] = name
    arrived = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        listener.bind(("", 9))
        listener.settimeout(15)
        woken = server.run("host", "on", "plain1", "plain2", "plain3", "--wave", "1", "--pace", "3s")
        assert woken.returncode == 0 and [line.split(", in ")[1:] for line in woken.stdout.splitlines()] == [[], ["3 s"], ["6 s"]], (woken, server.tail())
        assert status(server, "plain3")["powerTransition"]["startTime"], "the server keeps the start times"
        patch(server, "plain3", kernelArguments=["quiet"])
        while len(arrived) < 3:
            packet = listener.recv(1000)
            mac = packet[6:12]
            assert packet == b"\xff" * 6 + mac * 16, packet.hex()
            arrived.setdefault(macs[mac], time.monotonic())
    times = [arrived[name] for name in ("plain1", "plain2", "plain3")]
    assert all(later - earlier > 2.5 for earlier, later in zip(times, times[1:])), f"one after the other: {times}"
    for name in arrived:
        assert last(server, name, 10)["state"] == "sent", status(server, name)
        assert condition(server, name, "PowerChanged")["reason"] == "Sent" and "power" not in status(server, name)
        assert [detail["networks"] > 0 for detail in events(server, name, "wake_on_lan_sent")] == [True], events(server, name)
    refused = server.ask("POST", f"{HOSTS}/plain1/power", {"operation": "off"})
    assert refused.code == 422 and refused.json["details"]["causes"][0]["field"] == "spec.bmc", refused
    warned = server.ask("PATCH", f"{HOSTS}/plain1", {"spec": {"online": True}}, "application/merge-patch+json")
    assert warned.code == 200 and "spec.online has no effect: the host has no BMC" in warned.headers["Warning"], warned.headers
    for wrong in ("5 x", "500ms", "2h", "-1s"):
        refused = server.run("host", "on", "plain1", f"--pace={wrong}")
        assert refused.returncode == 2 and "whole seconds up to an hour, as in 30s or 2m" in refused.stderr, refused


def test_the_command_line_switches_many_hosts_in_waves(server, controllers):
    machines = {f"n{number}": controllers() for number in range(3)}
    for number, (name, controller) in enumerate(machines.items(), 20):
        add(server, name, controller, number)
        server.ask("PATCH", f"{HOSTS}/{name}", {"metadata": {"labels": {"rack": "a7"}}}, "application/merge-patch+json")
    on = server.run("host", "on", "-l", "rack=a7", "--wave", "1", "--pace", "4")
    assert on.returncode == 0 and [line.split(", in ")[1:] for line in on.stdout.splitlines()] == [[], ["4 s"], ["8 s"]], on
    assert "startTime" in status(server, "n2")["powerTransition"], status(server, "n2")
    for name in machines:
        assert last(server, name, 30)["state"] == "confirmed" and read(server, name)["spec"]["online"] is True
    begins = sorted(controller.times()[0] for controller in machines.values())
    assert all(later - earlier > 3 for earlier, later in zip(begins, begins[1:])), f"one after the other: {begins}"
    done = server.run("host", "boot-device", "disk", "n0", "n1")
    assert done.returncode == 0 and machines["n1"].boot["BootSourceOverrideTarget"] == "Hdd" and not machines["n2"].boot, done
    assert status(server, "n0")["bootDevice"]["requested"] is True, status(server, "n0")
    assert events(server, "n0", "boot_device_set")[-1] == {"device": "disk", "requested": True}, events(server, "n0")
    forced = server.run("host", "off", "--force", "n0")
    assert forced.returncode == 0 and last(server, "n0")["state"] == "confirmed" and machines["n0"].types() == ["On", "ForceOff"], (forced, machines["n0"].types())
    none = server.run("host", "on")
    assert none.returncode == 2 and "name the hosts" in none.stderr, none
