"""Boots that stall at their boot program: TFTP, and what the firmware makes of the program."""

from support import diagnosis_checks as check
from support.firmware import ARM64, BIOS_ROM, TFTP_WAIT, uefi_pxe
from support.firmware_tftp import TransferError
from support.healthy_boots import REBOOT, boot_to_image
from support.stage import CERTAIN, LIKELY, POSSIBLE, Rows
from support.staged_lan import PROGRAM, PROGRAM_SIZE, SERVER

ROWS = Rows()
PROGRAM_NAME = r"snponly\.efi"
LOST = 2  # requests until the third proves that no answer arrives


def finish(machine, file):
    """Loads the program that was asked for before, and boots the ISO."""
    machine.probe(file)
    machine.fetch(file)
    machine.read(machine.attach(machine.boot_ipxe()), 200)


@ROWS.stall("H02", "tftp_replies_lost", [CERTAIN, LIKELY], at=13, facts=[PROGRAM_NAME, "single_port", SERVER.replace(".", r"\.")])
def answers_over_tftp_are_lost(machine):
    """A firewall that drops what comes from a new port of ours."""
    file = machine.name_program()
    machine.block("input", "udp sport 1024-65535 drop")
    assert machine.probe(file, tries=LOST + 1) is None, "no answer arrives"
    yield
    machine.unblock()
    finish(machine, file)


@ROWS.stall("B4", "boot_file_not_requested", LIKELY, at=12, facts=[r"UDP.{0,10}\b69\b|\b69\b.{0,10}UDP|TFTP"])
def requests_over_tftp_are_lost(machine):
    file = machine.name_program()
    machine.block("output", "udp dport 69 drop")
    assert machine.probe(file, tries=LOST + 1) is None, "no answer arrives"
    yield
    machine.unblock()
    finish(machine, file)


@ROWS.stall("B6", "tftp_port_unreachable", CERTAIN, at=9, facts=["<address>", "unreachable"])
def its_port_is_closed(machine):
    """The firmware has given the port up: its network stack answers with ICMP."""
    file = machine.name_program()
    machine.ask_and_close(file)
    yield
    finish(machine, file)


@ROWS.stall("B6_firewall", "tftp_port_unreachable", CERTAIN, at=9, facts=["<address>", "firewall"])
def a_firewall_rejects_our_answers(machine):
    file = machine.name_program()
    machine.block("input", "udp sport 1024-65535 reject with icmp type admin-prohibited")
    assert machine.probe(file, tries=LOST) is None, "no answer arrives"
    yield
    machine.unblock()
    finish(machine, file)


@ROWS.stall("H03", "program_not_fetched", POSSIBLE, at=11, facts=[PROGRAM_NAME, r"\b250\b|\b244\b"])
def the_size_is_asked_and_the_program_never(machine):
    file = machine.name_program()
    assert machine.probe(file) == PROGRAM_SIZE, "the server names the size"
    yield
    finish(machine, file)


@ROWS.stall("B9", "transfer_aborted", CERTAIN, at=6, facts=["Disk full or allocation exceeded", r"\b(?:39|40) ?%|\b(?:9[6-9]|10[0-2])\b", PROGRAM_NAME])
def the_firmware_breaks_off(machine):
    file = machine.name_program()
    machine.probe(file)
    machine.fetch(file, stop_after=100_000, error=(3, "Disk full or allocation exceeded"))
    yield
    boot_to_image(machine)


@ROWS.stall("H20", "transfer_silent", CERTAIN, at=14, clock=13, facts=[PROGRAM_NAME, r"\b(?:9[6-9]|10[0-2])\b", r"\b250\b|\b244\b"])
def the_power_is_lost_amid_the_program(machine):
    file = machine.name_program()
    machine.probe(file)
    machine.fetch(file, stop_after=100_000)
    machine.switch_off()
    yield
    machine.switch_on()
    boot_to_image(machine)


@ROWS.stall("B11", "transfer_slow", CERTAIN, at=25, facts=[PROGRAM_NAME, r"\b512\b|one block"])
def the_transfer_is_slow(machine):
    """A shim, which asks for blocks of 512 octets, one a round trip, far away."""
    file = machine.name_program()
    pause = 27 / (PROGRAM_SIZE / 512)
    machine.fetch(file, options=(), pause=pause)
    yield
    machine.read(machine.attach(machine.boot_ipxe()), 200)


@ROWS.stall("H15", "program_missing", CERTAIN, at=4, facts=[r"missing\.efi", "firmware/stage|firmware_dir"], program="missing.efi")
def the_program_is_not_staged(machine):
    file = machine.name_program()
    try:
        machine.probe(file)
        raise AssertionError("the program is not there")
    except TransferError as error:
        machine.note(error)
    yield
    (machine.lan.firmware_dir / "missing.efi").write_bytes(bytes(PROGRAM_SIZE))
    boot_to_image(machine)


@ROWS.stall("B19", "program_missing", CERTAIN, at=9, facts=[r"pxelinux\.0 runs", r"ldlinux\.c32", "firmware_dir"], firmware=BIOS_ROM, program="pxelinux.0")
def pxelinux_lacks_its_second_stage(machine):
    (machine.lan.firmware_dir / "pxelinux.0").write_bytes(bytes(40_000))
    file = machine.name_program()
    machine.probe(file)
    machine.fetch(file)
    for folder in ("", "isolinux/", "boot/isolinux/"):
        try:
            machine.fetch(f"{machine.dashed}/{folder}ldlinux.c32")
            raise AssertionError("the file is not there")
        except TransferError as error:
            machine.note(error)
    yield
    (machine.lan.firmware_dir / "ldlinux.c32").write_bytes(bytes(PROGRAM_SIZE))
    machine.fetch(f"{machine.dashed}/ldlinux.c32")


@ROWS.stall("B14", "wrong_program", CERTAIN, at=6, facts=["arm64", PROGRAM_NAME], firmware=uefi_pxe(ARM64))
def the_dhcp_server_names_the_program_of_another_architecture(machine):
    machine.lan.treat(machine, file=PROGRAM, next_server=SERVER)
    offers = machine.find_offers()
    machine.request(offers)
    machine.probe(offers.address.file)
    machine.fetch(offers.address.file)
    yield
    machine.lan.treat(machine)
    machine.wait(2 * REBOOT)
    boot_to_image(machine)


@ROWS.stall("H04", "program_refused", CERTAIN, at=12, facts=[PROGRAM_NAME, "Secure Boot", r"twice|\b2\b", "shimx64"])
def secure_boot_refuses_the_program(machine):
    """The program is loaded twice, and each time the firmware goes on to its next boot entry."""
    for _ in range(2):
        machine.boot_firmware()
        machine.wait(1)
    machine.reset()
    machine.discover()
    yield
    boot_to_image(machine)


@ROWS.stall("B16", "program_silent", LIKELY, at=25, clock=20, facts=[PROGRAM_NAME])
def the_program_hangs(machine):
    machine.boot_firmware()
    machine.hang()
    yield
    machine.revive()
    boot_to_image(machine)


@ROWS.stall("B17", "script_unused", LIKELY, at=26, clock=20, facts=[r"autoexec\.ipxe|script"])
def ipxe_does_nothing_with_its_script(machine):
    machine.boot_firmware()
    machine.start_ipxe()
    assert machine.autoexec().target, "the script over TFTP boots the ISO"
    machine.hang()
    yield
    machine.revive()
    boot_to_image(machine)


@ROWS.stall("B18", "grub_refused", LIKELY, at=17, facts=[r"grubx64\.efi", "shim"], program="shimx64.efi")
def shim_refuses_grub(machine):
    """Shim asks for its revocations, loads GRUB, and refuses to run it: no grub.cfg is asked for."""
    machine.boot_firmware()
    folder = f"{machine.dashed}/"
    try:
        machine.fetch(f"{folder}revocations.efi")
    except TransferError as error:
        machine.note(error)
    machine.wait(TFTP_WAIT / 10)
    machine.fetch(f"{folder}grubx64.efi", options=())
    yield
    boot_to_image(machine)


test_it_is_staged, test_it_is_diagnosed_in_time, test_all_voices_agree, test_it_is_taken_back = check.tests_of(ROWS)
