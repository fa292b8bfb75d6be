"""Power in whole: a machine under QEMU behind sushy-tools' Redfish service is assigned an image, and all else follows from that."""

import json
import os
import time

from lab import kit
from lab.boots import change_spec, configure
from lab.cycle import Cycle, host_name
from lab.lab import Lab
from support.qemu_redfish import QemuRedfish
from support.waiting import eventually

PORT = 8000


def test_an_assignment_powers_on_installs_and_comes_back_from_the_disk():
    missing = [name for name in ("LAB_FIRMWARE", "LAB_ISO") if name not in os.environ]
    assert not missing, f"{missing} must be set: integration/test does it"
    os.environ.setdefault("LAB_BINARY", os.environ["BOOTLATCH"])
    with Lab(kit.load(), "powered") as lab:
        machine = lab.machine("bios")
        bmc = QemuRedfish(lab, machine, PORT)
        try:
            # A machine that no rule knows does nothing by itself.
            lab.serve("ignore", *configure(lab, "[install]\npower_on = true\n"))
            name, run = host_name(machine), Cycle(lab, machine)
            host = lambda: json.loads(lab.appliance.command("get", "host", name, "-o", "json"))
            status = lambda: host()["status"]
            lab.appliance.command("host", "add", name, "--mac", machine.mac)
            change_spec(lab, "host", name, bmc={"address": f"redfish+http://127.0.0.1:{PORT}", "username": "admin", "password": "password"})
            assert eventually(lambda: status().get("power") == "off", 20), status()
            found = eventually(lambda: status().get("hardware", {}).get("nics") and status()["hardware"], 20)
            assert found["ramMebibytes"] == 768 and [nic["mac"] for nic in found["nics"]] == [machine.mac], found
            assert bmc.resets == [], f"nothing is assigned: {bmc.resets}"
            run.power_on_at = time.time()
            lab.appliance.command("host", "assign", name, "--image", "lab", "--config", "lab-config")
            assert eventually(lambda: machine.console and machine.qmp, 30), (bmc.resets, status())
            assert bmc.devices[-1] == "Pxe" and bmc.resets == ["On"], f"it boots from the network, and is switched on: {bmc.devices} {bmc.resets}"
            run.install()
            run.os_up()
            assert eventually(lambda: status()["phase"] == "Installed", 10), status()
            assert eventually(lambda: bmc.devices[-1] == "Hdd", 20), f"its disk is next: {bmc.devices}"
            assert status()["power"] == "on" and status()["bootDevice"]["device"] == "disk", status()
            assert status()["lastPowerTransition"]["state"] == "confirmed" and bmc.resets == ["On"], (status(), bmc.resets)
            # From now on it boots its disk without the network's help.
            since = machine.reset()
            machine.wait_marker("os-up", 120, since)
            lab.appliance.command("host", "off", "--force", name)
            assert eventually(lambda: status()["power"] == "off", 30) and not bmc.is_on(), (status(), bmc.resets)
            assert bmc.resets == ["On", "ForceOff"], bmc.resets
        finally:
            bmc.close()
