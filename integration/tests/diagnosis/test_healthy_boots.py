"""Boots that are well, some of them odd: nothing is ever said of them."""

import re
import types
import uuid

import pytest

from support import diagnosis_checks as check
from support.firmware import BIOS_ROM, IPXE_LINK, IPXE_ROM, TFTP_WAIT, UEFI_HTTP
from support.firmware_tftp import TransferError
from support.healthy_boots import (boot_by_4011, boot_by_autoexec, boot_disk, boot_over_http, boot_to_image, by_ipxe, install,
                                   install_by_kernel, read_slowly)
from support.objects import HOSTS
from support.stage import Rows
from support.staged_bmc import add_bmc
from support.staged_installer import CURL

ROWS = Rows()
SECOND_ADDRESS, SECOND_CARD = "10.88.0.211", "52:54:00:88:aa:11"
IMAGE = "live"
TO_DISK = {"image": "localboot", "bootConfigRef": None}


@ROWS.healthy("Q01")
def a_uefi_machine_installs_and_boots_its_disk(machine):
    install(machine, by_ipxe)


@ROWS.healthy("Q02", may_be_said=True)
def the_dhcp_server_is_slow(machine):
    """The firmware asks a second time until it has an address, and then all is well."""
    machine.lan.treat(machine, delay=5)
    boot_to_image(machine)


@ROWS.healthy("Q_autoexec")
def uefi_with_its_script_over_tftp(machine):
    install(machine, boot_by_autoexec)


@ROWS.healthy("Q_bios", firmware=BIOS_ROM)
def a_bios_rom(machine):
    install(machine, by_ipxe)


@ROWS.healthy("Q_http", firmware=UEFI_HTTP)
def uefi_http_boot(machine):
    install(machine, boot_over_http)


@ROWS.healthy("Q_ipxe", firmware=IPXE_ROM)
def a_rom_that_is_ipxe(machine):
    install(machine, by_ipxe)


@ROWS.healthy("Q_4011")
def firmware_that_asks_on_port_4011(machine):
    install(machine, boot_by_4011)


@ROWS.healthy("Q_slow_tftp")
def a_slow_transfer_below_the_limit(machine):
    read_slowly(machine, 12)


@ROWS.healthy("Q_lost_offers")
def the_first_offers_are_lost(machine):
    """It asks again after 4 s, as firmware does, and takes what it is offered then."""
    machine.lan.treat(machine, is_mute=True)
    machine.discover()
    machine.lan.treat(machine)
    offers = machine.discover(first=1)
    machine.request(offers)
    machine.probe(offers.boot.file)
    machine.fetch(offers.boot.file)
    machine.read(machine.attach(machine.boot_ipxe()), 200)


@ROWS.healthy("Q_lost_oack")
def the_first_answer_over_tftp_is_lost(machine):
    file = machine.name_program()
    machine.block("input", "udp sport 1024-65535 drop")
    machine.probe(file, tries=1)
    machine.unblock()
    machine.probe(file)
    machine.fetch(file)
    machine.read(machine.attach(machine.boot_ipxe()), 200)


@ROWS.healthy("Q_disk", host=TO_DISK)
def a_uefi_machine_boots_its_disk(machine):
    boot_disk(machine, by_ipxe)
    machine.wait(20)
    machine.system_dhcp("systemd")


@ROWS.healthy("Q_bios_exit", firmware=BIOS_ROM, host=TO_DISK)
def a_bios_leaves_by_exit(machine):
    script = by_ipxe(machine)
    machine.follow(script)
    machine.reset()
    machine.wait(2)
    machine.system_dhcp()


@ROWS.healthy("Q_reboots", firmware=IPXE_ROM, host=TO_DISK)
def an_administrator_restarts_it_twice(machine):
    """Each time its system runs for a while."""
    for _ in range(2):
        boot_disk(machine, by_ipxe)
        machine.wait(20)


@ROWS.healthy("Q_ranges")
def an_installer_that_reads_its_iso_by_ranges(machine):
    """It leaves the connection amid a range, as a reader that seeks does."""
    script = by_ipxe(machine)
    machine.read(machine.attach(script), 2000)
    machine.system_dhcp()
    machine.fetch_config(script)
    for first in range(0, 900_000, 300_000):
        with machine.downloads(CURL) as downloads:
            downloads.load(f"/iso/{IMAGE}", stop_after=50_000, part=(first, first + 299_999))
        machine.wait(3)
    machine.wait(15)
    assert machine.complete(script) == 200, "the report is accepted"


@ROWS.healthy("Q_busy_bmc")
def its_bmc_is_busy_at_first(machine):
    """Refusals for now are waited out, and are no failure."""
    controller = add_bmc(machine, 8010, busy=3)
    machine.lan.until("the power is known", lambda: machine.lan.host(machine.name)["status"].get("power") == "off")
    machine.begin()
    machine.lan.change(HOSTS, machine.name, online=True)
    machine.lan.until("the BMC accepts it in the end", lambda: controller.resets, 30)
    boot_to_image(machine)


@ROWS.healthy("Q_long_install")
def an_install_that_takes_long_and_reads_on(machine):
    script = by_ipxe(machine)
    session = machine.attach(script)
    machine.read(session, 2000)
    machine.fetch_config(script)
    for number in range(17):
        machine.wait(2)
        machine.read(session, 40, first=1000 + number)
    assert machine.complete(script) == 200


@ROWS.healthy("Q_kernel", host={"image": "kernel"})
def the_kernel_is_loaded_over_http(machine):
    install_by_kernel(machine, by_ipxe)


@ROWS.healthy("Q_pxelinux", network="pxelinux", firmware=BIOS_ROM, program="pxelinux.0", host={"image": "kernel"})
def pxelinux_finds_its_config_by_each_of_its_names(machine):
    """The DHCP server's option 209 names a config first, which does not exist."""
    for name in ("pxelinux.0", "ldlinux.c32"):
        (machine.lan.firmware_dir / name).write_bytes(bytes(40_000))
    file = machine.name_program()
    machine.probe(file)
    machine.fetch(file)
    folder = file.removesuffix("pxelinux.0")
    machine.fetch(f"{folder}ldlinux.c32")
    with pytest.raises(TransferError):
        machine.fetch(f"{folder}pxelinux.cfg/site")
    address = machine.address.split(".")
    names = [str(uuid.UUID(bytes=machine.uuid)), f"01-{machine.dashed}", "".join(f"{int(octet):02X}" for octet in address), "0A58", "default"]
    [config] = {machine.fetch(f"{folder}pxelinux.cfg/{name}").decode() for name in names}
    files = re.findall(r"(?:KERNEL|INITRD) (\S+)", config)
    assert len(files) == 2, f"the config boots a kernel: {config}"
    for path in files:
        assert machine.fetch(folder + path), f"{path} is served over TFTP"
    machine.reset()
    machine.system_dhcp()
    script = types.SimpleNamespace(token=re.search(r"/nocloud/([0-9a-f]+)/", config).group(1))
    machine.fetch_config(script)
    assert machine.complete(script) == 200, "the report is accepted"


@ROWS.healthy("Q_waits_for_router")
def ipxe_waits_for_a_router(machine):
    """iPXE configures IPv6 for some seconds between its address and its script (boot-facts 13)."""
    machine.boot_firmware()
    machine.start_ipxe()
    machine.wait(IPXE_LINK)
    machine.ipxe_dhcp()
    machine.wait(5)
    machine.read(machine.attach(machine.script()), 200)


@ROWS.healthy("Q_second_card")
def its_second_card_fetches_the_config_with_the_token(machine):
    """The server accepts that, with config_access.require = "address"."""
    script = by_ipxe(machine)
    machine.read(machine.attach(script), 1600)
    second = machine.other_card(SECOND_CARD, SECOND_ADDRESS, joined=True)
    second.fetch_config(script)
    assert second.complete(script) == 200


@ROWS.healthy("Q_patient_tftp")
def the_second_request_comes_late(machine):
    """A ROM on a slow processor takes some seconds between the size and the program."""
    file = machine.name_program()
    machine.probe(file)
    machine.wait(TFTP_WAIT / 2)
    machine.fetch(file)
    machine.read(machine.attach(machine.boot_ipxe()), 200)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_it_goes_well(row, stage):
    check.is_staged(stage.outcome(row))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_nothing_is_diagnosed(row, stage):
    check.nothing_was_said(stage.outcome(row))
