"""Conditions of hosts, with a stock kubectl that waits for them."""

import pytest

from support import management_controllers
from support.bmc_hosts import becomes, bmc, condition, status
from support.kubectl import Kubectl
from support.objects import CONFIGS, HOSTS, IMAGES, config, host, image
from support.waiting import slowness

pytestmark = pytest.mark.usefixtures("no_objects_left")


def test_conditions_of_an_install(server):
    server.iso()
    server.ask("POST", CONFIGS, config("c"))
    server.ask("POST", IMAGES, image("live", ["c"]))
    server.ask("POST", HOSTS, host("box", 7, image="live", bootConfigRef="c", ip="192.0.2.7"))
    k = Kubectl(server)
    first = condition(server, "box", "Installed")
    assert (first["status"], first["reason"]) == ("False", "Assigned"), f"a requested install is not Installed: {first}"
    assert condition(server, "box", "ConfigDelivered")["status"] == "False", "a requested install is not ConfigDelivered"
    server.ask("GET", "/ipxe?mac=52-54-00-00-00-07", token=None, source="192.0.2.7")
    waiting = k.start("wait", "--for=condition=Installed", "bmh/box", k.timeout(20))
    server.ask("GET", "/api/v1/bootconfig", token=None, source="192.0.2.7")
    assert k("wait", "--for=condition=ConfigDelivered", "bmh/box", k.timeout(10)).returncode == 0, "kubectl wait returns when the config was delivered"
    still = condition(server, "box", "Installed")
    assert (still["lastTransitionTime"], still["reason"]) == (first["lastTransitionTime"], "Installing"), (
        f"a phase change alone does not change the condition's transition time: {still}")
    assert waiting.poll() is None, "kubectl wait waits while the host installs"
    server.ask("POST", "/api/v1/boot-complete", token=None, source="192.0.2.7")
    out, _ = waiting.communicate(timeout=30 * slowness())
    assert waiting.returncode == 0 and "condition met" in out, f"kubectl wait returns when the host is Installed: {out}"
    done = condition(server, "box", "Installed")
    assert done["status"] == "True" and done["lastTransitionTime"] == status(server, "box")["phaseTransitionTime"], f"the condition turned when the phase changed: {done}"
    server.restart()
    assert condition(server, "box", "Installed") == done, "the condition survives a restart"
    assert "Type:" in k("describe", "bmh", "box").stdout, "kubectl describe shows the conditions"


def test_the_condition_and_column_of_the_power_state(server):
    k = Kubectl(server)
    sim = management_controllers.Simulator(server, 6231)
    server.ask("POST", HOSTS, host("ipmi", 1, bmc=bmc("ipmi://127.0.0.1:6231")))
    server.ask("POST", HOSTS, host("box", 7))
    assert becomes(server, "ipmi", "off"), f"IPMI: the power is read as off: {server.tail()}"
    assert k("wait", "--for=condition=PowerKnown", "bmh/ipmi", k.timeout(10)).returncode == 0, "kubectl wait returns for PowerKnown"
    rows = {row.split()[0]: row.split() for row in k("get", "bmh").stdout.splitlines()}
    assert rows["ipmi"][6] == "off" and rows["box"][6] == "<none>", f"kubectl's table shows the power state: {rows}"
    assert "POWER" in server.run("host", "list").stdout and "off" in server.run("host", "list").stdout, "host list shows the power state"
    server.ask("DELETE", f"{HOSTS}/ipmi")
    server.ask("POST", HOSTS, host("ipmi", 1))
    assert "power" not in status(server, "ipmi"), "a host that was deleted and created again without a BMC has no power state"
    sim.close()
