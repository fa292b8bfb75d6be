"""Hosts with a BMC over Redfish, by sushy: their BMCs are sushy-tools' Redfish emulator and pyghmi's IPMI one."""

import hashlib
import ssl

import pytest

from support import management_controllers
from support.objects import HOSTS, host
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("redfish_hosts")


def spec(server, name):
    """Returns the host."""
    return server.ask("GET", f"{HOSTS}/{name}").json


def power(server, sushy, redfish_client, name, what, graceful):
    """Switches a host with a BMC on and off."""
    system = redfish_client.get_system(f"/redfish/v1/Systems/{name}")
    assert system.power_state == sushy.PowerState.OFF, f"{what}: the machine is off: {system.power_state}"

    def is_now(state):
        def look():
            system.refresh()
            return system.power_state == state
        return eventually(look, 60)  # a request that a busy BMC does not answer is made again

    system.set_system_boot_options(sushy.BootSource.PXE, enabled=sushy.BootSourceOverrideEnabled.ONCE)
    system.reset_system(sushy.ResetType.ON)
    assert is_now(sushy.PowerState.ON), f"{what}: On switches the machine on"
    system.reset_system(sushy.ResetType.FORCE_RESTART)
    assert is_now(sushy.PowerState.ON), f"{what}: ForceRestart leaves the machine on"
    system.reset_system(graceful)
    assert is_now(sushy.PowerState.OFF), f"{what}: the machine is switched off"


def test_power_over_redfish(server, redfish_client, sushy):
    running = [management_controllers.emulator(server, 8001), management_controllers.emulator(server, 8002, tls=True),
               management_controllers.fake_bmc(server, 6230)]
    try:
        given = [("redfish", {"address": "redfish+http://127.0.0.1:8001"}),
                 ("redfish over TLS", {"address": "redfish://127.0.0.1:8002/redfish/v1/Systems/27946b59-9e44-4fa7-8e91-f3527a1ef092", "disableCertificateVerification": True}),
                 ("IPMI", {"address": "ipmi://127.0.0.1:6230"})]
        for number, (what, bmc) in enumerate(given):
            name = f"m{number}"
            made = server.ask("POST", HOSTS, host(name, 10 + number, image="live", bmc={**bmc, "username": "admin", "password": "password"}))
            assert made.code == 201, made
            power(server, sushy, redfish_client, name, what, sushy.ResetType.FORCE_OFF)
            assert spec(server, name)["status"]["phase"] == "Assigned", f"{what}: Pxe requested an install"
        there = sushy.Sushy("http://127.0.0.1:8001/redfish/v1", auth=sushy.auth.BasicAuth("admin", "password"))
        real = there.get_system_collection().get_members()[0]
        assert real.boot.target == sushy.BootSource.PXE, f"the BMC was told to boot from the network: {real.boot.target}"
        server.ask("PATCH", f"{HOSTS}/m1", {"spec": {"bmc": {"disableCertificateVerification": False}}}, "application/merge-patch+json")
        pinned = lambda: spec(server, "m1")["status"].get("bmc", {}).get("certificate")
        shown = ssl.PEM_cert_to_DER_cert((running[1].place / "crt").read_text())
        assert eventually(pinned, 15) == hashlib.sha256(shown).hexdigest(), f"the certificate of a BMC is pinned at its first use: {pinned()}"
        on = {"ResetType": "On"}
        same = server.ask("POST", "/redfish/v1/Systems/m1/Actions/ComputerSystem.Reset", on)
        assert same.code == 204, f"the pinned certificate is accepted: {same}"
        running[1].close()
        running[1] = management_controllers.emulator(server, 8002, tls=True)
        other = server.ask("POST", "/redfish/v1/Systems/m1/Actions/ComputerSystem.Reset", on)
        assert other.code == 502 and "certificate fingerprint" in other.text, f"another certificate of a BMC is refused: {other}"
        for number, what in ((0, "Redfish"), (2, "IPMI")):
            server.ask("PATCH", f"{HOSTS}/m{number}", {"spec": {"bmc": {"password": "sesame"}}}, "application/merge-patch+json")
            wrong = server.ask("POST", f"/redfish/v1/Systems/m{number}/Actions/ComputerSystem.Reset", {"ResetType": "On"})
            assert wrong.code == 502 and "sesame" not in wrong.text, f"{what}: a wrong password is reported and not shown: {wrong}"
    finally:
        for one in running:
            one.close()
    away = server.ask("PATCH", "/redfish/v1/Systems/m0", {"Boot": {"BootSourceOverrideTarget": "Hdd"}})
    assert away.code == 502 and spec(server, "m0")["status"]["phase"] == "Assigned", f"an unreachable BMC leaves the host unchanged: {away}"
    bad = server.ask("POST", HOSTS, host("bad", 99, bmc={"address": "ftp://b"}))
    assert bad.code == 422 and bad.json["details"]["causes"][0]["field"] == "spec.bmc.address", f"an invalid BMC address is refused by its field: {bad}"
