"""Boots that stall before their first packet: the BMC, and a machine that boots something else."""

from support import diagnosis_checks as check
from support.bmc_hosts import bmc
from support.healthy_boots import boot_to_image
from support.objects import HOSTS
from support.stage import CERTAIN, LIKELY, POSSIBLE, Rows
from support.staged_bmc import BMC, add_bmc, add_emulator

ROWS = Rows()


def redfish(machine, method, path, body):
    """Sends a request to the server's own Redfish service, as an operator's tool does."""
    status, answer = machine.lan.api(method, f"/redfish/v1/Systems/{machine.name}{path}", body, "application/json")
    assert status in (200, 204), f"{method} {path}: {status} {answer}"


@ROWS.stall("F2", "bmc_failed", CERTAIN, at=5, facts=["401|password|refused", BMC.replace(".", r"\.")])
def the_password_of_the_bmc_is_wrong(machine):
    machine.begin()
    add_bmc(machine, 8002, password="guess")
    machine.lan.change(HOSTS, machine.name, online=True)
    yield
    machine.lan.change(HOSTS, machine.name, bmc=bmc(f"redfish+http://{BMC}:8002"))
    machine.lan.until("the machine is switched on", lambda: machine.lan.host(machine.name)["status"].get("power") == "on")
    boot_to_image(machine)


def switch_on_until_it_is_refused(machine):
    machine.lan.until("the power is known", lambda: machine.lan.host(machine.name)["status"].get("power") == "off")
    machine.begin()
    machine.lan.change(HOSTS, machine.name, online=True)
    machine.lan.until("the BMC has refused", lambda: "in POST" in str(machine.lan.host(machine.name)["status"].get("powerTransition")))


def boot_once_it_obeys(machine, refusal):
    refusal.unlink()
    machine.lan.until("the machine is switched on", lambda: machine.lan.host(machine.name)["status"].get("power") == "on", 30)
    boot_to_image(machine)


@ROWS.stall("F3", "bmc_busy", CERTAIN, at=14, clock=10, facts=["in POST", "409", BMC.replace(".", r"\."), "wait"])
def the_bmc_is_busy_for_a_while(machine):
    """The machine is in its self-test, and sushy-tools' emulator refuses to switch it."""
    in_post = add_emulator(machine, 8007)
    in_post.touch()
    switch_on_until_it_is_refused(machine)
    yield
    boot_once_it_obeys(machine, in_post)


@ROWS.stall("F3_device", "bmc_busy", CERTAIN, at=14, clock=10, facts=["in POST", "409", BMC.replace(".", r"\."), "wait"])
def the_bmc_takes_no_boot_device_for_a_while(machine):
    """As many BMCs in the self-test: it is asked for the boot device first, and refuses that."""
    in_post = add_emulator(machine, 8008)
    no_device = in_post.with_name("no-boot-device")
    no_device.touch()
    switch_on_until_it_is_refused(machine)
    yield
    boot_once_it_obeys(machine, no_device)


@ROWS.stall("F4", "bmc_failed", CERTAIN, at=32, clock=30, facts=[r"\b3\d ?s\b|30 s", BMC.replace(".", r"\.")])
def the_bmc_says_yes_and_does_nothing(machine):
    controller = add_bmc(machine, 8003, obeys=False)
    machine.lan.until("the power is known", lambda: machine.lan.host(machine.name)["status"].get("power") == "off")
    machine.begin()
    machine.lan.change(HOSTS, machine.name, online=True)
    machine.lan.until("the BMC was asked", lambda: controller.resets)
    yield
    controller.power = "On"
    boot_to_image(machine)


@ROWS.stall("A1", "no_network_boot", POSSIBLE, at=302, clock=300, facts=["5 min", "lan0"], is_long=True)
def nothing_is_heard_of_it(machine):
    controller = add_bmc(machine, 8004, has_override=False)
    machine.lan.until("the power is known", lambda: machine.lan.host(machine.name)["status"].get("power") == "off")
    machine.begin()
    machine.lan.change(HOSTS, machine.name, online=True)
    machine.lan.until("the BMC was asked", lambda: controller.resets)
    yield
    boot_to_image(machine)


@ROWS.stall("A1_wake", "no_network_boot", POSSIBLE, at=302, clock=300, facts=["Wake-on-LAN packets 5 min ago", "lan0", "by hand"], is_long=True)
def it_was_sent_wake_on_lan_packets(machine):
    machine.begin()
    machine.lan.command("host", "on", machine.name)
    machine.lan.until("the packets are sent", lambda: "wake_on_lan_sent" in [entry["event"] for entry in machine.lan.timeline(machine.name)])
    yield
    boot_to_image(machine)


@ROWS.stall("F1", "boot_override_ignored", LIKELY, at=303, clock=300, facts=["5 min", BMC.replace(".", r"\."), "booted something else"], is_long=True)
def the_bmc_accepts_network_boot_and_the_machine_boots_something_else(machine):
    controller = add_bmc(machine, 8005)
    machine.lan.until("the power is known", lambda: machine.lan.host(machine.name)["status"].get("power") == "off")
    machine.begin()
    redfish(machine, "PATCH", "", {"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}})
    assert controller.overrides, "the BMC accepts the override"
    redfish(machine, "POST", "/Actions/ComputerSystem.Reset", {"ResetType": "On"})
    yield
    boot_to_image(machine)


@ROWS.stall("A11", "no_request_relayed", POSSIBLE, at=302, clock=300, facts=["5 min", r"10\.9\.3\.7", r"10\.88\.0\.2"], is_long=True, host={"ip": "10.9.3.7"})
def the_router_forwards_no_requests(machine):
    controller = add_bmc(machine, 8006)
    machine.lan.until("the power is known", lambda: machine.lan.host(machine.name)["status"].get("power") == "off")
    machine.begin()
    machine.lan.change(HOSTS, machine.name, online=True)
    machine.lan.until("the BMC was asked", lambda: controller.resets)
    yield
    machine.lan.change(HOSTS, machine.name, ip=None)
    boot_to_image(machine)


test_it_is_staged, test_it_is_diagnosed_in_time, test_all_voices_agree, test_it_is_taken_back = check.tests_of(ROWS)
