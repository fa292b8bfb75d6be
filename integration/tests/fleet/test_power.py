"""status.power and spec.online with real management controllers: openipmi's ipmi_sim and sushy-tools' Redfish emulator."""

import base64
import http.server
import json
import shutil
import threading

import pytest

from support import management_controllers
from support.bmc_hosts import PASSWORD, becomes, bmc, condition, events, patch, read, status
from support.objects import HOSTS, host, timeline
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_objects_left")


@pytest.fixture
def sim(server):
    """openipmi's ipmi_sim with a machine that is off."""
    sim = management_controllers.Simulator(server, 6231)
    yield sim
    sim.close()
    shutil.rmtree(sim.place)


@pytest.fixture
def redfish(server):
    """sushy-tools' emulator with a machine that is off, as sushy's system."""
    sushy = management_controllers.sushy()
    emulator = management_controllers.emulator(server, 8003)
    yield sushy.Sushy("http://127.0.0.1:8003/redfish/v1", auth=sushy.auth.BasicAuth("admin", PASSWORD)).get_system_collection().get_members()[0]
    emulator.close()
    shutil.rmtree(emulator.place)


@pytest.fixture
def ipmi(server, sim):
    """A host "ipmi" whose power was read as off through the simulator."""
    server.ask("POST", HOSTS, host("ipmi", 1, bmc=bmc("ipmi://127.0.0.1:6231")))
    assert becomes(server, "ipmi", "off"), f"IPMI: the power is read as off: {server.tail()}"
    return sim


def test_the_power_state_is_read(server, sim, redfish):
    made = server.ask("POST", HOSTS, host("ipmi", 1, bmc=bmc("ipmi://127.0.0.1:6231"))).json
    assert (made["status"]["power"] == "unknown" and
          [(one["type"], one["status"], one["reason"]) for one in made["status"]["conditions"] if one["type"] == "PowerKnown"] == [("PowerKnown", "Unknown", "NotAsked")]), (
        f"the power of a new host is unknown until its BMC was asked: {made}")
    assert becomes(server, "ipmi", "off"), f"IPMI: the power is read as off: {server.tail()}"
    now = read(server, "ipmi")
    assert now["status"]["powerTransitionTime"] and condition(server, "ipmi", "PowerKnown")["reason"] == "Off", (
        f"the status has the time of the power state and the condition PowerKnown: {now}")
    assert sim.told == [], f"reading the power switches nothing: {sim.told}"
    server.ask("POST", HOSTS, host("redfish", 2, bmc=bmc("redfish+http://127.0.0.1:8003")))
    assert becomes(server, "redfish", "off"), f"Redfish: the power is read as off: {server.tail()}"
    server.ask("POST", HOSTS, host("bare", 3, online=True))
    assert "power" not in status(server, "bare") and condition(server, "bare", "PowerKnown") is None, "a host without a BMC has no power state"
    chosen = server.ask("GET", f"{HOSTS}?fieldSelector=status.power%3Doff").json["items"]
    assert sorted(one["metadata"]["name"] for one in chosen) == ["ipmi", "redfish"], f"hosts are selected by their power state: {chosen}"


def test_online_switches_a_machine_over_ipmi(server, ipmi):
    sim = ipmi
    patch(server, "ipmi", online=True)
    assert eventually(lambda: sim.power == "on", 20) and becomes(server, "ipmi", "on"), f"online: true switches the machine on: {server.tail()}"
    assert eventually(lambda: "powerTransition" not in status(server, "ipmi")), f'the power change ends when the machine is on: {status(server, "ipmi")}'
    assert sim.told == ["power 1"], f"the machine is switched on once: {sim.told}"
    assert events(server, "ipmi", "power_switched") == [{"reset": "on"}] and {"state": "on"} in events(server, "ipmi", "power"), (
        f'the timeline shows the power change: {events(server, "ipmi", "power_switched", "power")}')
    version = read(server, "ipmi")["metadata"]["resourceVersion"]
    again = patch(server, "ipmi", online=True)
    assert again["metadata"]["resourceVersion"] == version and "powerTransition" not in again["status"], f"writing online again is no change: {again}"
    (sim.place / "obeys").touch()
    patch(server, "ipmi", online=False)
    assert becomes(server, "ipmi", "off") and sim.told[-1] == "shutdown 1" and "power 0" not in sim.told, (
        f"online: false asks the machine to shut down: {sim.told}")
    (sim.place / "obeys").unlink()
    patch(server, "ipmi", online=True)
    assert becomes(server, "ipmi", "on"), "online: true switches the machine on again"
    patch(server, "ipmi", online=False)
    assert eventually(lambda: sim.told[-1] == "shutdown 1") and status(server, "ipmi")["powerTransition"]["target"] == "off", (
        f"the power change stays pending while the machine does not shut down: {sim.told}")
    reset = server.ask("POST", "/redfish/v1/Systems/ipmi/Actions/ComputerSystem.Reset", {"ResetType": "ForceOff"})
    assert reset.code == 204 and eventually(lambda: "powerTransition" not in status(server, "ipmi")), (
        f'a reset by hand ends the pending power change: {(reset, status(server, "ipmi"))}')


def test_online_switches_a_machine_over_redfish(server, redfish):
    power = management_controllers.sushy().PowerState
    server.ask("POST", HOSTS, host("redfish", 2, bmc=bmc("redfish+http://127.0.0.1:8003")))
    patch(server, "redfish", online=True)
    there = lambda: (redfish.refresh(), redfish.power_state)[1]
    assert eventually(lambda: there() == power.ON, 20) and becomes(server, "redfish", "on"), "Redfish: online: true switches the machine on"
    patch(server, "redfish", online=False)
    assert eventually(lambda: there() == power.OFF, 20) and becomes(server, "redfish", "off"), "Redfish: online: false switches the machine off"


def test_a_machine_that_was_switched_off_by_hand_stays_off(server, ipmi):
    sim = ipmi
    patch(server, "ipmi", online=True)
    assert eventually(lambda: "powerTransition" not in status(server, "ipmi"), 20) and becomes(server, "ipmi", "on"), server.tail()
    told = sim.told
    sim.power = "off"
    server.restart()
    # A changed spec.bmc makes the server ask the BMC at once, without applying spec.online again.
    patch(server, "ipmi", bmc={"disableCertificateVerification": True})
    assert becomes(server, "ipmi", "off"), f"after a restart the power of a machine that was switched off by hand is read as off: {server.tail()}"
    assert sim.told == told and read(server, "ipmi")["spec"]["online"] is True, f"a restart does not switch the machine on again: {sim.told}"
    version = read(server, "ipmi")["metadata"]["resourceVersion"]
    asked = server.ask("GET", f"/api/v1/baremetalhosts?watch=true&resourceVersion={version}&timeoutSeconds=2")
    assert asked.text == "" and read(server, "ipmi")["metadata"]["resourceVersion"] == version, f"an unchanged power state makes no new version: {asked}"


def test_bmcs_that_fail(server, sim, redfish):
    server.ask("POST", HOSTS, host("gone", 4, bmc=bmc("redfish+http://127.0.0.1:9"), online=True))
    failed = eventually(lambda: (condition(server, "gone", "PowerKnown") or {}).get("status") == "False" and condition(server, "gone", "PowerKnown"), 20)
    assert failed and failed["reason"] == "Unreachable" and "127.0.0.1:9" in failed["message"], (
        f"an unreachable BMC is reported in the condition PowerKnown: {failed}")
    assert eventually(lambda: events(server, "gone", "bmc_failed")), "an unreachable BMC is reported in the timeline"
    assert status(server, "gone")["power"] == "unknown", "the power of a host with an unreachable BMC is unknown"
    server.ask("DELETE", f"{HOSTS}/gone")
    server.ask("POST", HOSTS, host("wrong", 5, bmc={**bmc("redfish+http://127.0.0.1:8003"), "password": "sesame-geheim"}))
    refused = eventually(lambda: (condition(server, "wrong", "PowerKnown") or {}).get("status") == "False" and condition(server, "wrong", "PowerKnown"), 20)
    assert refused and refused["reason"] == "Refused" and "geheim" not in json.dumps(read(server, "wrong")), (
        f"Redfish: a wrong password is reported and not shown: {refused}")
    server.ask("POST", HOSTS, host("wrong2", 6, bmc={**bmc("127.0.0.1:6231"), "password": "sesame-geheim"}))
    assert eventually(lambda: (condition(server, "wrong2", "PowerKnown") or {}).get("status") == "False", 30), (
        f'IPMI: a wrong password is reported: {read(server, "wrong2")}')
    told = json.dumps(timeline(server)) + server.all_logs()
    assert "geheim" not in told, f'the timeline and the log do not contain the password: {[line for line in told.splitlines() if "geheim" in line]}'
    patch(server, "wrong", bmc={"password": PASSWORD})
    assert becomes(server, "wrong", "off"), f'a corrected password is tried at once: {read(server, "wrong")}'
    turned = condition(server, "wrong", "PowerKnown")
    assert turned["status"] == "True" and turned["message"] == "" and "powerError" not in status(server, "wrong"), (
        f"a corrected password turns the condition and clears the error: {turned}")
    patch(server, "wrong", bmc=None)
    assert "power" not in status(server, "wrong") and condition(server, "wrong", "PowerKnown") is None, "a host whose BMC was removed has no power state"
    for name in ("wrong", "wrong2"):
        server.ask("DELETE", f"{HOSTS}/{name}")


class Talker(http.server.BaseHTTPRequestHandler):
    """A BMC whose error messages repeat the credentials of the request."""

    def do_GET(self):
        proof = self.headers["Authorization"]
        if proof is None:  # The service root is read without.
            self.send_response(404)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        words = f"internal: {proof} is {base64.b64decode(proof.split()[1]).decode()}"
        body = json.dumps({"error": {"code": "x", "message": words}}).encode()
        self.send_response(500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PATCH = do_GET

    def log_message(self, *_):
        pass


def test_the_error_message_of_a_bmc(server):
    """A BMC's error message is passed on to Redfish clients, without the password."""
    talker = http.server.ThreadingHTTPServer(("127.0.0.1", 8009), Talker)
    threading.Thread(target=talker.serve_forever, daemon=True).start()
    secret = "sesame-geheim"
    server.ask("POST", HOSTS, host("talks", 8, bmc={**bmc("redfish+http://127.0.0.1:8009"), "password": secret}))
    at = "/redfish/v1/Systems/talks"
    said = [server.ask("PATCH", at, {"Boot": {"BootSourceOverrideTarget": "Hdd"}}),
            server.ask("POST", f"{at}/Actions/ComputerSystem.Reset", {"ResetType": "On"})]
    hidden = (secret, base64.b64encode(f"admin:{secret}".encode()).decode())
    clean = lambda text: not any(word in text for word in hidden)
    assert all(one.code == 502 and "internal: Basic REDACTED is admin:REDACTED" in one.text and clean(one.text) for one in said), (
        f"a BMC's error message is passed on without the password: {said}")
    eventually(lambda: (condition(server, "talks", "PowerKnown") or {}).get("status") == "False", 20)
    told = json.dumps([read(server, "talks"), server.ask("GET", "/api/v1/timeline").json]) + server.all_logs()
    assert "internal: Basic REDACTED" in told and clean(told), "status, timeline and log have a BMC's error message without the password: " + str(told[-2000:])
    server.ask("DELETE", f"{HOSTS}/talks")
    talker.shutdown()
    talker.server_close()


class OddService(http.server.BaseHTTPRequestHandler):
    """A web server that is no Redfish service below /page, redirects without end below /moved, and offers two resets below /few."""

    def do_GET(self):
        page = self.path.startswith("/page")
        reset = {"target": "/few/reset", "ResetType@Redfish.AllowableValues": ["On", "ForceOff"]}
        system = {"PowerState": "On", "Actions": {"#ComputerSystem.Reset": reset}}
        body = b"<html>Log in</html>" if page else json.dumps(system).encode()
        self.send_response(302 if self.path.startswith("/moved") else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8" if page else "application/json")
        self.send_header("Location", f"{self.path}/again")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_bmc_that_answers_as_no_redfish_service_does(server):
    """Another web server, a redirect without end, and a reset that is not offered are reported as what they are."""
    odd = http.server.ThreadingHTTPServer(("127.0.0.1", 8010), OddService)
    threading.Thread(target=odd.serve_forever, daemon=True).start()
    failed = lambda name: (condition(server, name, "PowerKnown") or {}).get("status") == "False" and condition(server, name, "PowerKnown")
    for number, (name, expected) in enumerate([("page", "answered 200 with text/html, not JSON"),
                                               ("moved", "more than 3 redirects; the last one to /moved/again/again/again/again")], 10):
        server.ask("POST", HOSTS, host(name, number, bmc=bmc(f"redfish+http://127.0.0.1:8010/{name}")))
        found = eventually(lambda: failed(name), 20)
        assert found and found["reason"] == "InvalidReply" and found["message"].endswith(f"invalid reply: {expected}"), f"{name}: {found}"
    server.ask("POST", HOSTS, host("few", 12, bmc=bmc("redfish+http://127.0.0.1:8010/few")))
    refused = server.ask("POST", "/redfish/v1/Systems/few/Actions/ComputerSystem.Reset", {"ResetType": "Nmi"})
    assert refused.code == 400 and "reset type Nmi; allowable values: On, ForceOff" in refused.text, f"a reset that is not offered is named: {refused}"
    for name in ("page", "moved", "few"):
        server.ask("DELETE", f"{HOSTS}/{name}")
    odd.shutdown()
    odd.server_close()


def test_the_command_line_switches_the_power(server, ipmi):
    run = lambda *words: server.run("host", *words)
    ended = lambda: eventually(lambda: "powerTransition" not in status(server, "ipmi") and status(server, "ipmi")["lastPowerTransition"], 30)
    on = run("on", "ipmi")
    assert on.returncode == 0 and "on requested" in on.stdout and becomes(server, "ipmi", "on") and read(server, "ipmi")["spec"]["online"], f"host on: {on} {ipmi.told}"
    assert ended()["state"] == "confirmed", status(server, "ipmi")
    off = run("off", "ipmi")
    assert off.returncode == 0 and eventually(lambda: "shutdown 1" in ipmi.told, 20), f"host off asks the machine first: {off} {ipmi.told}"
    forced = run("off", "--force", "ipmi")
    assert forced.returncode == 0 and becomes(server, "ipmi", "off") and ended()["operation"] == "forceOff", f"host off --force cuts the power: {forced} {ipmi.told}"
    run("restart", "ipmi")
    assert becomes(server, "ipmi", "on") and ended()["state"] == "confirmed" and ipmi.told[-1] == "power 1", f"restart starts a stopped machine: {ipmi.told}"
    told = len(ipmi.told)
    reset = run("reset", "52:54:00:00:00:01")
    assert reset.returncode == 0 and ended()["operation"] == "reset" and ipmi.told[told:] == ["reset 1"], f"host reset reaches the BMC: {reset} {ipmi.told}"
    (ipmi.place / "obeys").touch()
    run("restart", "ipmi")
    assert eventually(lambda: ipmi.told[-2:] == ["shutdown 1", "power 1"], 30) and ended()["state"] == "confirmed", f"restart cycles a running machine: {ipmi.told}"
    device = run("boot-device", "network", "ipmi")
    assert device.returncode == 0 and ipmi.told[-1].startswith("boot "), f"host boot-device reaches the BMC: {device} {ipmi.told}"
