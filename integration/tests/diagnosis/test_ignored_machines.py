"""Machines that a rule ignores: no object is made of them, and the server tells all the same why they do not boot."""

import json
import re
import time

import pytest

from support.healthy_boots import boot_to_image
from support.objects import HOSTS
from support.stage import PATIENCE
from support.staged_lan import StagedLan
from support.staged_networks import live
from support.waiting import slowness


@pytest.fixture
def ignored():
    """A machine that a rule ignores, and one beside it that is declared."""
    lan = StagedLan(isos={"live": live()})
    try:
        machine, beside = lan.add_machine("ignored"), lan.add_machine("beside")
        lan.config += f'[[rules]]\nmac = "{machine.mac}"\naction = "ignore"\n'
        lan.start()
        lan.declare(beside)
        yield machine, beside
    finally:
        lan.close()
    assert "panicked" not in lan.log()


def why(machine):
    """Returns the diagnosis of a machine, as an operator asks for it by its MAC address."""
    return json.loads(machine.lan.command("host", "why", machine.dashed, "-o", "json"))["diagnosis"]


def test_an_ignored_machine_is_explained(ignored):
    machine, beside = ignored
    lan, metric = machine.lan, 'bootlatch_stalls_total{reason="host_ignored"}'
    offers = machine.discover(tries=2)
    assert offers.address and not offers.boot, f"an ignored machine gets no boot file: {offers}"
    asked = time.monotonic()
    lan.until("the machine is diagnosed", lambda: lan.metrics().get(metric), PATIENCE)
    took, found = time.monotonic() - asked, why(machine)
    assert took <= PATIENCE * slowness(), f"it is diagnosed {took:.1f} s after its last request"
    assert (found["reason"], found["stage"], found["certainty"]) == ("host_ignored", "dhcp", "certain"), found
    assert re.search(r"asks to boot over DHCP \(2 times in [45] s\).*ignore", found["message"]), found
    assert lan.api("GET", f"{HOSTS.replace('/default/', '/elsewhere/')}/{machine.dashed}/diagnosis")[0] == 404, "in another namespace"
    assert "declare the host" in found["remedy"], found
    boot_to_image(beside)
    assert lan.api("GET", f"{HOSTS}/beside/diagnosis")[1]["diagnosis"] is None, "the machine beside it boots"
    assert not lan.host("beside")["status"].get("stall")
    # Strangers make no entries and no objects.
    assert [host["metadata"]["name"] for host in lan.api("GET", HOSTS)[1]["items"]] == ["beside"]
    assert not [entry for entry in lan.api("GET", "/api/v1/timeline")[1]["items"] if entry["event"] == "stalled"]
    assert 'bootlatch_hosts_stalled{reason="host_ignored"} 1' not in lan.api("GET", "/metrics")[1], "it has no host"
    # It is declared, and boots.
    lan.declare(machine)
    lan.until("the diagnosis is taken back", lambda: not lan.api("GET", f"{HOSTS}/ignored/diagnosis")[1]["diagnosis"], PATIENCE)
    boot_to_image(machine)
    assert lan.api("GET", f"{HOSTS}/ignored/diagnosis")[1]["diagnosis"] is None and lan.metrics()[metric] == 1
