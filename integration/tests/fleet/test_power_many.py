"""Many BMCs, some of which hang: each costs its own host a condition, and no other host its time."""

import time

import pytest

from support.bmc_hosts import bmc, condition, read, status
from support.objects import HOSTS, host
from support.scripted_ipmi import ScriptedIpmi
from support.scripted_redfish import Refusal, ScriptedRedfish
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_objects_left")
HANGING, GOOD, PORT = 20, 180, 8100


def test_hanging_bmcs_keep_nobody_waiting(server):
    hanging = [ScriptedRedfish(PORT + number) for number in range(HANGING // 2)]
    for controller in hanging:
        controller.script = {("GET", "/Systems"): Refusal("hang", times=10**6)}
    silent = [ScriptedIpmi(0) for _ in range(HANGING // 2)]
    for controller in silent:
        controller.hang = {0x10}
    good = [ScriptedIpmi(0, suites=(17,)) for _ in range(GOOD)]
    bad = {f"hanging{number}": f"redfish+http://127.0.0.1:{PORT + number}" for number in range(len(hanging))}
    bad.update({f"silent{number}": f"ipmi://127.0.0.1:{controller.port}" for number, controller in enumerate(silent)})
    addresses = {**bad, **{f"good{number}": f"ipmi://127.0.0.1:{controller.port}" for number, controller in enumerate(good)}}
    try:
        begin = time.monotonic()
        for number, (name, address) in enumerate(addresses.items()):
            made = server.ask("POST", HOSTS, host(name, number, bmc=bmc(address), online=True))
            assert made.code == 201, made
        added = time.monotonic()
        assert eventually(lambda: all(controller.power == "on" for controller in good), 120), (
            [number for number, controller in enumerate(good) if controller.power != "on"], server.tail())
        switched = time.monotonic()
        # Four in a second are switched on, whoever asks: 180 machines need 45 s.
        assert switched - begin < GOOD / 4 + 25, f"{GOOD} machines were on after {switched - begin:.0f} s (declared after {added - begin:.0f} s)"
        names = [f"good{number}" for number in range(GOOD)]
        hosts = lambda: {one["metadata"]["name"]: one["status"] for one in server.ask("GET", HOSTS).json["items"]}
        ended = lambda: all(hosts()[name].get("lastPowerTransition", {}).get("state") == "confirmed" for name in names)
        assert eventually(ended, 60), server.tail()
        for name in bad:
            found = eventually(lambda: condition(server, name, "PowerKnown")["status"] == "False" and condition(server, name, "PowerKnown"), 90)
            assert found and found["reason"] == "Unreachable", (name, read(server, name))
        assert all(condition(server, name, "PowerKnown")["status"] == "True" for name in names), "the others have no such condition"
        print(f"declared in {added - begin:.1f} s, {GOOD} machines on after {switched - begin:.1f} s; 20 of 200 BMCs hang")
        assert status(server, "good0")["power"] == "on"
    finally:
        for controller in hanging + silent + good:
            controller.close()
        for name in addresses:
            server.ask("DELETE", f"{HOSTS}/{name}")
