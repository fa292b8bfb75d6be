"""status.hardware as a BMC shows it without an operating system: sushy-tools' emulator, and a scripted BMC for odd answers."""

import shutil

import pytest

from support import management_controllers
from support.bmc_hosts import becomes, bmc, patch, read, status
from support.objects import HOSTS, host, make_example, timeline
from support.scripted_redfish import SYSTEM, Refusal, ScriptedRedfish
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_objects_left")
GIB = 1 << 30


@pytest.fixture(scope="module")
def server(start_server):
    return start_server('unknown_hosts = "install live builder"\n')


@pytest.fixture
def controllers():
    """A function that starts a scripted BMC on the next port."""
    running = []

    def start(**how):
        running.append(ScriptedRedfish(8040 + len(running), **how))
        return running[-1]

    yield start
    for one in running:
        one.close()


def add(server, name, number, port, **spec):
    made = server.ask("POST", HOSTS, host(name, number, bmc=bmc(f"redfish+http://127.0.0.1:{port}"), **spec))
    assert made.code == 201, made


def hardware(server, name, wait=20):
    found = eventually(lambda: status(server, name).get("bmc", {}).get("inventoryTime") and status(server, name)["hardware"], wait)
    assert found, (read(server, name), server.tail())
    return found


def collection(path, members):
    """Resources of a collection and its members."""
    links = [{"@odata.id": f"{path}/{number}"} for number in range(len(members))]
    return {path: {"Members": links}, **{link["@odata.id"]: member for link, member in zip(links, members)}}


def test_the_inventory_of_sushy_tools(server):
    emulator = management_controllers.emulator(server, 8005, hardware=True)
    try:
        add(server, "metal", 2, 8005)
        found = hardware(server, "metal")
        assert found["cpu"] == {"model": "Emulated CPU", "sockets": 2, "cores": 8, "count": 16}, found
        assert found["ramMebibytes"] == 96 << 10 and found["biosVersion"] == "1.0.0", found
        assert found["systemVendor"] == {"manufacturer": "Sushy Emulator"}, found
        assert [nic["mac"] for nic in found["nics"]] == ["52:54:00:00:00:02", "52:54:00:00:00:03"], found
        assert found["storage"] == [{"name": "Drive Sample", "model": "C123", "serialNumber": "1234570", "type": "HDD", "sizeBytes": 899527000000}], found
    finally:
        emulator.close()
        shutil.rmtree(emulator.place)


def test_another_interface_of_a_known_machine_is_not_installed(server, controllers):
    make_example(server)
    known, liar = controllers(), controllers()
    nics = lambda *macs: collection(f"{SYSTEM}/EthernetInterfaces", [{"Id": f"NIC{mac[-1]}", "MACAddress": mac} for mac in macs])
    for controller, macs in ((known, ("52:54:00:00:00:15", "52:54:00:00:0a:05")), (liar, ("52:54:00:00:00:16", "52:54:00:00:00:01"))):
        controller.properties = {"EthernetInterfaces": {"@odata.id": f"{SYSTEM}/EthernetInterfaces"}}
        controller.resources = nics(*macs)
    add(server, "known", 0x15, 8040)
    add(server, "liar", 0x16, 8041)
    assert len(hardware(server, "known")["nics"]) == len(hardware(server, "liar")["nics"]) == 2
    server.ask("GET", "/ipxe?mac=52:54:00:00:0a:05", token=None)
    second = eventually(lambda: read(server, "52-54-00-00-0a-05").get("status"))
    assert second["phase"] == "LocalBoot", f"the second interface of a known machine is not installed: {second}"
    assert [one["detail"] for one in timeline(server, "52-54-00-00-0a-05", "same_machine")] == [{"host": "known"}], timeline(server)
    server.ask("GET", "/ipxe?mac=52:54:00:00:0a:06", token=None)
    phase = lambda: read(server, "52-54-00-00-0a-06").get("status", {}).get("phase")
    assert eventually(lambda: phase() in ("Assigned", "Offered")), f"an interface that no BMC shows is installed: {phase()}"
    # The host "one" is declared with the interface that another host's BMC claims.
    script = server.ask("GET", "/ipxe?mac=52:54:00:00:00:01", token=None)
    assert "sanboot" in script.text or "sanhook" in script.text, f"a claim takes no interface from a declared host: {script}"
    assert status(server, "one")["phase"] in ("Assigned", "Offered"), status(server, "one")


def test_a_bmc_that_lies_or_hangs_costs_its_own_inventory(server, controllers):
    liar, hanging, good = controllers(), controllers(), controllers()
    link = lambda name: {"@odata.id": f"{SYSTEM}/{name}"}
    liar.properties = {
        "Manufacturer": ["x"], "Model": "Evil\x1b[2J\u202e" + "y" * 5000, "BiosVersion": {"a": 1}, "MemorySummary": {"TotalSystemMemoryGiB": 1e300},
        "ProcessorSummary": {"Count": -1, "Model": 5}, "EthernetInterfaces": link("EthernetInterfaces"), "Storage": link("Storage"), "Processors": link("Nowhere"),
        "SimpleStorage": {"@odata.id": 7}}
    macs = [f"52:54:01:00:00:{number:02x}" for number in range(90)]
    liar.resources = {**collection(f"{SYSTEM}/EthernetInterfaces", [{"MACAddress": "00:00:00:00:00:00"}, {"MACAddress": "x" * 9999}, *({"MACAddress": mac} for mac in macs)]),
                      f"{SYSTEM}/Storage": {"Members": [{"@odata.id": f"{SYSTEM}/Loop"}] * 900},
                      f"{SYSTEM}/Loop": {"Drives": [{"@odata.id": f"{SYSTEM}/Disk"}] * 900}, f"{SYSTEM}/Disk": {"Model": "z" * 999, "CapacityBytes": -1}}
    hanging.properties = {"EthernetInterfaces": link("EthernetInterfaces")}
    hanging.script = {("GET", "/EthernetInterfaces"): Refusal("hang", times=10**6)}
    good.properties = {"Manufacturer": "Acme", "SerialNumber": "S-7"}
    for number, name in enumerate(("liar", "hanging", "good")):
        add(server, name, 0x20 + number, 8040 + number)
    found = hardware(server, "liar")
    assert found["systemVendor"]["productName"].startswith("Evil") and len(found["systemVendor"]["productName"]) == 64, found
    assert "\x1b" not in str(found) and "\u202e" not in str(found) and not {"cpu", "ramMebibytes", "biosVersion"} & set(found), found
    assert len(found["nics"]) == 30 and len(found["storage"]) == 32 and "sizeBytes" not in found["storage"][0], found
    assert sum(how == "GET" for how, *_ in liar.asked) < 200, "the number of requests is bounded"
    assert hardware(server, "good")["systemVendor"] == {"manufacturer": "Acme", "serialNumber": "S-7"}
    assert eventually(lambda: any(path.endswith("/EthernetInterfaces") for _, path, *_ in hanging.asked)), hanging.asked
    assert becomes(server, "hanging", "off"), status(server, "hanging")
    patch(server, "hanging", online=True)
    assert becomes(server, "hanging", "on") and "inventoryTime" not in status(server, "hanging").get("bmc", {}), (
        f"a BMC whose inventory hangs is switched meanwhile: {status(server, 'hanging')}")


def test_an_inventory_is_read_once(server, controllers):
    controller = controllers()
    controller.properties = {"Manufacturer": "Acme", "EthernetInterfaces": {"@odata.id": f"{SYSTEM}/EthernetInterfaces"}}
    add(server, "once", 0x30, 8040)
    assert hardware(server, "once")["systemVendor"]["manufacturer"] == "Acme"
    patch(server, "once", online=True)
    assert becomes(server, "once", "on")
    patch(server, "once", bmc={"disableCertificateVerification": True})  # It is a new BMC, and is asked at once.
    reads = lambda: [path for _, path, *_ in controller.asked].count(f"{SYSTEM}/EthernetInterfaces")
    assert hardware(server, "once") and reads() == 2, controller.asked
    server.restart()
    assert becomes(server, "once", "on") and hardware(server, "once") and reads() == 2, "a restart of the server reads nothing again"
