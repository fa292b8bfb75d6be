"""Conditions of hosts, with a stock kubectl that waits for them."""

import pytest

from support import management_controllers
from support.kubectl import Kubectl
from support.objects import CONFIGS, HOSTS, IMAGES, config, delete_all, host, image
from support.waiting import eventually

PASSWORD = "password"


def bmc(address, **more):
    """Returns a spec.bmc with the password of the emulators."""
    return {"address": address, "username": "admin", "password": PASSWORD, **more}


def read(server, name):
    return server.ask("GET", f"{HOSTS}/{name}").json


def status(server, name):
    return read(server, name)["status"]


def condition(server, name, topic):
    """Returns the condition of a type, or None."""
    found = [one for one in status(server, name)["conditions"] if one["type"] == topic]
    return found[0] if found else None


def becomes(server, name, power, wait=20):
    """Waits until the power of a host is read as `power`."""
    return eventually(lambda: status(server, name).get("power") == power, wait)


@pytest.fixture(autouse=True)
def no_objects(server):
    """Deletes every object afterwards."""
    yield
    delete_all(server)


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
    waiting = k.start("wait", "--for=condition=Installed", "bmh/box", "--timeout=20s")
    server.ask("GET", "/api/v1/bootconfig", token=None, source="192.0.2.7")
    assert k("wait", "--for=condition=ConfigDelivered", "bmh/box", "--timeout=10s").returncode == 0, "kubectl wait returns when the config was delivered"
    still = condition(server, "box", "Installed")
    assert (still["lastTransitionTime"], still["reason"]) == (first["lastTransitionTime"], "Installing"), (
        f"a phase change alone does not change the condition's transition time: {still}")
    assert waiting.poll() is None, "kubectl wait waits while the host installs"
    server.ask("POST", "/api/v1/boot-complete", token=None, source="192.0.2.7")
    out, _ = waiting.communicate(timeout=20)
    assert waiting.returncode == 0 and "condition met" in out, f"kubectl wait returns when the host is Installed: {out}"
    done = condition(server, "box", "Installed")
    assert done["status"] == "True" and done["lastTransitionTime"] == status(server, "box")["since"], f"the condition turned when the phase changed: {done}"
    server.restart()
    assert condition(server, "box", "Installed") == done, "the condition survives a restart"
    assert "Type:" in k("describe", "bmh", "box").stdout, "kubectl describe shows the conditions"


def test_the_condition_and_column_of_the_power_state(server):
    k = Kubectl(server)
    sim = management_controllers.Simulator(server, 6231)
    server.ask("POST", HOSTS, host("ipmi", 1, bmc=bmc("ipmi://127.0.0.1:6231")))
    server.ask("POST", HOSTS, host("box", 7))
    assert becomes(server, "ipmi", "off"), f"IPMI: the power is read as off: {server.tail()}"
    assert k("wait", "--for=condition=PowerKnown", "bmh/ipmi", "--timeout=10s").returncode == 0, "kubectl wait returns for PowerKnown"
    rows = {row.split()[0]: row.split() for row in k("get", "bmh").stdout.splitlines()}
    assert rows["ipmi"][6] == "off" and rows["box"][6] == "<none>", f"kubectl's table shows the power state: {rows}"
    assert "POWER" in server.run("host", "list").stdout and "off" in server.run("host", "list").stdout, "host list shows the power state"
    server.ask("DELETE", f"{HOSTS}/ipmi")
    server.ask("POST", HOSTS, host("ipmi", 1))
    assert "power" not in status(server, "ipmi"), "a host that was deleted and created again without a BMC has no power state"
    sim.close()
