"""Boots that stall at their address or their offers: a machine of its own on a LAN where all others are well."""

from support import diagnosis_checks as check
from support.firmware import ARM32, uefi_pxe
from support.healthy_boots import boot_to_image
from support.stage import CERTAIN, LIKELY, Rows
from support.staged_lan import DHCP, ELSEWHERE, SERVER

ROWS = Rows()
SECOND_CARD = "52:54:00:88:aa:16"


@ROWS.stall("H01", "offers_refused", LIKELY, at=12, facts=[DHCP, r"\b3\b", r"\b12 s", "4011"])
def two_offers_are_refused(machine):
    offers = machine.discover(tries=3)
    assert offers.address and offers.boot, f"it is offered an address and a boot file: {offers}"
    yield
    boot_to_image(machine)


@ROWS.stall("A2", "first_request_late", LIKELY, at=4, facts=[r"\b12 s", r"portfast|edge"])
def the_first_requests_are_lost(machine):
    """A switch port that learns for a while: two DISCOVERs were lost before this one."""
    offers = machine.discover(tries=1, first=2)
    yield
    machine.request(offers)
    machine.probe(offers.boot.file)
    machine.fetch(offers.boot.file)
    machine.read(machine.attach(machine.boot_ipxe()), 200)


@ROWS.stall("H13", "held", CERTAIN, at=1, facts=["held"])
def a_held_machine_asks(machine):
    machine.lan.command("host", "hold", machine.name)
    offers = machine.discover(tries=3)
    assert offers.address and not offers.boot, f"a held machine gets no boot file: {offers}"
    yield
    machine.lan.command("host", "assign", machine.name, "--image", "live", "--config", "cfg")
    boot_to_image(machine)


@ROWS.stall("H14", "no_boot_program", CERTAIN, at=1, facts=[r"\barm", r"\b10\b(?!\.)", "programs"], firmware=uefi_pxe(ARM32))
def no_program_for_its_architecture(machine):
    offers = machine.discover(tries=3)
    assert offers.address and not offers.boot, f"it gets no boot file: {offers}"
    yield


@ROWS.stall("A16", "second_interface", LIKELY, at=8, facts=[SECOND_CARD.replace(":", "[:-]"), "UUID|card|interface"])
def it_boots_from_its_other_card(machine):
    machine.discover()
    machine.other_card(SECOND_CARD, "10.88.0.16").discover(tries=3)
    yield
    boot_to_image(machine)


@ROWS.stall("A18", "other_boot_file", CERTAIN, at=9, facts=[ELSEWHERE.replace(".", r"\."), r"pxelinux\.0"])
def the_dhcp_server_names_another_boot_server(machine):
    machine.lan.treat(machine, file="pxelinux.0", next_server=ELSEWHERE)
    offers = machine.find_offers()
    assert (offers.address.file, offers.address.siaddr) == ("pxelinux.0", ELSEWHERE), f"the DHCP server names its own file: {offers.address}"
    machine.request(offers)
    machine.probe("pxelinux.0", tries=2, server=ELSEWHERE)
    yield
    machine.lan.treat(machine)
    boot_to_image(machine)


@ROWS.stall("A19", "ipv6_first", CERTAIN, at=7, facts=["IPv6", "IPv4"])
def it_tries_ipv6_first(machine):
    machine.solicit()
    yield
    boot_to_image(machine)


@ROWS.stall("B1", "boot_file_not_requested", LIKELY, at=12, facts=["boot file", "other form|4011"])
def it_takes_its_address_and_no_boot_file(machine):
    machine.request(machine.find_offers())
    yield
    boot_to_image(machine)


@ROWS.stall("B2", "proxy_replies_lost", [CERTAIN, LIKELY], at=14, facts=["4011", SERVER.replace(".", r"\."), "firewall"])
def replies_from_port_4011_are_lost(machine):
    machine.request(machine.find_offers())
    machine.block("input", "udp sport 4011 drop")
    assert machine.ask_4011() is None, "no reply arrives from port 4011"
    yield
    machine.unblock()
    reply = machine.ask_4011()
    machine.probe(reply.file)
    machine.fetch(reply.file)
    machine.read(machine.attach(machine.boot_ipxe()), 200)


@ROWS.stall("B3", "proxy_reply_unused", "possible", at=10, facts=["4011"])
def the_reply_from_port_4011_is_not_used(machine):
    machine.request(machine.find_offers())
    reply = machine.ask_4011()
    assert reply and reply.file.endswith("/snponly.efi"), f"port 4011 names the boot file: {reply}"
    yield
    boot_to_image(machine)


test_it_is_staged, test_it_is_diagnosed_in_time, test_all_voices_agree, test_it_is_taken_back = check.tests_of(ROWS)
