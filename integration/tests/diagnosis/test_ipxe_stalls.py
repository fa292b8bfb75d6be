"""Boots that stall in iPXE, before its script or by it."""

from support import diagnosis_checks as check
from support.firmware import IPXE_LINK, ipxe_of
from support.ipxe_script import CERTIFICATE_REFUSED
from support.healthy_boots import boot_to_image
from support.stage import CERTAIN, LIKELY, Rows
from support.staged_installer import IPXE
from support.staged_lan import SERVER
from support.staged_networks import FOREIGN_URL

ROWS = Rows()
SECOND_CARD, FAR = "52:54:00:88:aa:c4", "10.77.5.6"


@ROWS.stall("C1", "ipxe_no_address", LIKELY, at=17, facts=["portfast|edge|spanning|LACP"])
def ipxe_gets_no_address(machine):
    """The link learns again: the firmware got an address before."""
    machine.boot_firmware()
    machine.start_ipxe()
    machine.lan.treat(machine, is_mute=True)
    machine.wait(IPXE_LINK)
    offers = machine.discover(tries=4, identity=ipxe_of(machine.firmware))
    assert offers.address is None, f"no address is offered: {offers}"
    yield
    machine.lan.treat(machine)
    boot_to_image(machine)


@ROWS.stall("H05", "script_not_requested", LIKELY, at=14, clock=10, facts=[SERVER.replace(".", r"\."), r"\b80\b"])
def port_80_is_closed(machine):
    machine.boot_firmware()
    machine.block("output", "tcp dport 80 drop")
    machine.start_ipxe()
    machine.wait(IPXE_LINK)
    assert f"http://{SERVER}/" in machine.ipxe_dhcp(), "iPXE is told the URL of its script"
    assert machine.try_http("GET", f"/ipxe?mac={machine.dashed}") is None, "nothing arrives at port 80"
    yield
    machine.unblock()
    machine.read(machine.attach(machine.script()), 200)


@ROWS.stall("refused", "script_refused", CERTAIN, at=8, facts=["over HTTP", "at another address", r"spec\.ip"])
def its_script_is_refused(machine):
    """It asks from an address of its own that is behind a router, and is seen on the LAN."""
    machine.boot_firmware()
    machine.start_ipxe()
    machine.wait(IPXE_LINK)
    machine.ipxe_dhcp()
    status, text = machine.from_afar(FAR).http("GET", f"/ipxe?mac={machine.dashed}", IPXE)
    assert status == 200 and b"at another address" in text, f"the script says that it was refused: {status} {text}"
    yield
    machine.read(machine.attach(machine.script()), 200)


@ROWS.stall("C4", "ipxe_other_interface", LIKELY, at=11, facts=[SECOND_CARD.replace(":", "[:-]")])
def ipxe_asks_over_another_card(machine):
    machine.boot_firmware()
    machine.start_ipxe()
    machine.wait(IPXE_LINK)
    machine.other_card(SECOND_CARD, "10.88.0.14").discover(tries=4, identity=ipxe_of(machine.firmware))
    yield
    boot_to_image(machine)


@ROWS.stall("C7", "script_failed", CERTAIN, at=10, facts=["certificate", f"{CERTIFICATE_REFUSED:08x}|clock"], host={"image": "foreign"})
def the_certificate_of_a_foreign_url_is_refused(machine):
    machine.boot_firmware()
    script = machine.boot_ipxe()
    assert FOREIGN_URL in script.text, f"the script chains the URL: {script}"
    machine.follow(script, fails=CERTIFICATE_REFUSED)
    yield


test_it_is_staged, test_it_is_diagnosed_in_time, test_all_voices_agree, test_it_is_taken_back = check.tests_of(ROWS)
