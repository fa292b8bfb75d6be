"""What iPXE's settings tell of a machine's hardware, and an image that does not fit into its memory."""

import pytest

from support.objects import HOSTS, IMAGES
from support.staged_lan import StagedLan
from support.staged_networks import live
from support.waiting import eventually

SETTINGS = "&memsize={}&manufacturer=Acme%20Inc.&product=Rack%1b%5b31m&serial=S-1&asset="


@pytest.fixture(scope="module")
def lan():
    lan = StagedLan(isos={"live": live(), "kernel": live()})
    try:
        lan.vm, lan.other = lan.add_machine("vm"), lan.add_machine("other")
        lan.start()
        lan.change(IMAGES, "kernel", method="kernel")
        for machine in (lan.vm, lan.other):
            lan.declare(machine, image="kernel")
            machine.boot_firmware()
            machine.ipxe_dhcp()
        yield lan
        assert "panicked" not in lan.log()
    finally:
        lan.close()


def status(lan):
    return lan.host("vm")["status"]


def readiness(lan):
    return next(one for one in status(lan)["conditions"] if one["type"] == "BootReady")


def test_the_machine_reports_its_hardware_and_what_does_not_fit(lan):
    assert "hardware" not in status(lan) and readiness(lan)["status"] == "True"
    script = lan.vm.script()
    assert "&memsize=${memsize}&manufacturer=${manufacturer:uristring}&" in script.text, script.text
    assert lan.other.http("GET", f"/ipxe/failed?mac={lan.vm.dashed}" + SETTINGS.format(1))[0] == 200
    assert "hardware" not in status(lan), "another machine cannot say it"
    lan.vm.follow(script, fails=0)  # its build knows none of the settings
    assert "hardware" not in status(lan)
    assert lan.vm.http("GET", f"/ipxe/failed?mac={lan.vm.dashed}" + SETTINGS.format(4))[0] == 200
    found = status(lan)["hardware"]
    assert found["ramMebibytes"] == 4 and found["systemVendor"]["manufacturer"] == "Acme Inc.", found
    assert found["systemVendor"]["serialNumber"] == "S-1" and "assetTag" not in found["systemVendor"], found
    assert "\x1b" not in found["systemVendor"]["productName"], found
    ready = readiness(lan)
    assert (ready["status"], ready["reason"]) == ("False", "MemoryTooSmall") and "4 MiB" in ready["message"], ready


def test_a_report_that_is_known_writes_nothing(lan):
    version = lambda: lan.host("vm")["metadata"]["resourceVersion"]
    ask = lambda memory: lan.vm.http("GET", f"/ipxe/failed?mac={lan.vm.dashed}" + SETTINGS.format(memory))
    ask(4)
    before = version()
    for _ in range(5):
        ask(4)
    assert version() == before
    ask(64)
    assert eventually(lambda: readiness(lan)["status"] == "True", 5), readiness(lan)


def test_a_write_warns_of_the_memory(lan):
    lan.change(HOSTS, "vm", image="live")
    lan.vm.http("GET", f"/ipxe/failed?mac={lan.vm.dashed}" + SETTINGS.format(3))
    text = lan.command("host", "assign", "vm", "--image", "kernel", "--config", "cfg", "-o", "json")
    assert readiness(lan)["reason"] == "MemoryTooSmall", text
