"""Boots of machines whose DHCP is not read: another DHCP server sends them here, and their first step is a request for a file."""

from support import diagnosis_checks as check
from support.firmware import SCRIPT_RETRY
from support.objects import HOSTS
from support.stage import CERTAIN, LIKELY, Rows
from support.staged_lan import PROGRAM

ROWS = Rows()
FAR = "10.77.5.5"


@ROWS.stall("D1_unheard", "login_not_attempted", LIKELY, at=15, facts=[r"\b3260\b", "probably refused"], network="unheard")
def port_3260_is_closed_and_its_next_boot_begins_over_tftp(machine):
    """Only the request for the program shows that the machine was restarted."""
    load_program(machine)
    machine.script()
    machine.block("output", "tcp dport 3260 reject with tcp reset")
    machine.wait(SCRIPT_RETRY)
    machine.script()
    yield
    machine.unblock()
    load_program(machine)


@ROWS.stall("withheld", "config_withheld", CERTAIN, at=2, facts=[FAR.replace(".", r"\."), "no config", r"spec\.ip", "trusted_subnets"], network="unheard")
def nothing_ties_its_address_to_it(machine):
    """As behind a router that the server hears no DHCP of."""
    machine.begin()
    far = machine.from_afar(FAR)
    script = far.script()
    assert script.target and not script.token, f"it boots without its config: {script}"
    yield
    machine.lan.change(HOSTS, machine.name, ip=FAR)
    assert far.script().token, "a declared address ties it"


def load_program(machine):
    machine.reset()
    offers = machine.find_offers(needs_boot=False)
    assert offers.address.file == PROGRAM and offers.boot is None, f"the DHCP server alone names a boot file: {offers}"
    machine.request(offers)
    machine.probe(PROGRAM)
    machine.fetch(PROGRAM)


test_it_is_staged, test_it_is_diagnosed_in_time, test_all_voices_agree, test_it_is_taken_back = check.tests_of(ROWS)
