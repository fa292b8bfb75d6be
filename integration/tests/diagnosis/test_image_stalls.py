"""Boots that stall at their ISO: iSCSI, HTTP, and the kernel that comes from it."""

import os

from support import diagnosis_checks as check
from support.firmware import BIOS_ROM, SCRIPT_RETRY, UEFI_HTTP
from support.healthy_boots import boot_over_http, by_ipxe
from support.ipxe_script import CONNECTION_RESET, NOT_BOOTABLE, OUT_OF_MEMORY
from support.stage import CERTAIN, LIKELY, POSSIBLE, Rows
from support.staged_installer import IPXE, SECTOR, UEFI_HTTP_AGENT
from support.staged_lan import SERVER

ROWS = Rows()
IQN = "iqn.2026-11.org.bootlatch"
OTHER_ADDRESS, OTHER_CARD = "10.88.0.208", "52:54:00:88:aa:08"
HUGE = 2_600_000_000


@ROWS.stall("H06", "login_not_attempted", LIKELY, at=20, facts=[r"\b3260\b", SERVER.replace(".", r"\.")])
def port_3260_is_refused(machine):
    """iPXE runs its script again every 10 s, and cannot report why."""
    by_ipxe(machine)
    machine.block("output", "tcp dport 3260 reject with tcp reset")
    machine.wait(SCRIPT_RETRY)
    script = machine.script()
    yield
    machine.unblock()
    machine.wait(SCRIPT_RETRY)
    machine.read(machine.attach(script), 200)


@ROWS.stall("H06_reported", "script_failed", [CERTAIN, LIKELY], at=10, facts=[r"\b3260\b", "sanboot", f"{CONNECTION_RESET:08x}"])
def port_3260_is_refused_and_the_script_reports_it(machine):
    script = by_ipxe(machine)
    machine.block("output", "tcp dport 3260 reject with tcp reset")
    machine.follow(script, chains=1)
    yield
    machine.unblock()
    machine.wait(SCRIPT_RETRY)
    machine.read(machine.attach(machine.script()), 200)


@ROWS.stall("H07", "login_refused", CERTAIN, at=9, facts=["[:/ ]old", "[:/ ]live"])
def the_target_does_not_exist(machine):
    script = by_ipxe(machine)
    status = machine.try_login(f"{IQN}:old", script.initiator)
    assert status in ("0202", "0203"), f"the login fails: {status}"
    yield
    machine.read(machine.attach(machine.script()), 200)


@ROWS.stall("H08", "login_from_other_address", CERTAIN, at=9, facts=["<address>", OTHER_ADDRESS.replace(".", r"\."), OTHER_CARD.replace(":", "[:-]")])
def somebody_else_logs_in_in_its_name(machine):
    script = by_ipxe(machine)
    status = machine.other_card(OTHER_CARD, OTHER_ADDRESS, joined=True).try_login(script.target, script.initiator)
    assert status != "0000", "the login is refused"
    yield
    machine.read(machine.attach(script), 200)


def read_boot_catalogue(machine):
    """Reads the descriptors and the boot catalogue, finds nothing to boot, and leaves; returns the script."""
    script = by_ipxe(machine)
    session = machine.attach(script)
    for sector in (16, 17, 18, 19):
        machine.read_sectors(session, sector, 1)
    session.stream.close()
    return script


@ROWS.stall("D4", "nothing_to_boot", CERTAIN, at=20, facts=["BIOS", "UEFI"], firmware=BIOS_ROM, host={"image": "uefi"})
def the_iso_has_no_loader_for_the_firmware(machine):
    read_boot_catalogue(machine)
    machine.wait(SCRIPT_RETRY)
    machine.script()
    yield


@ROWS.stall("D4_reported", "nothing_to_boot", CERTAIN, at=12, facts=["BIOS", "UEFI"], firmware=BIOS_ROM, host={"image": "uefi"})
def the_iso_has_no_loader_and_the_script_reports_the_failure(machine):
    machine.follow(read_boot_catalogue(machine), fails=NOT_BOOTABLE)
    yield


@ROWS.stall("D17", "memory_too_small", CERTAIN, at=10, facts=["memory", "initrd|kernel|boot", f"{OUT_OF_MEMORY:08x}"], host={"image": "kernel"})
def its_memory_is_too_small_for_the_initrd(machine):
    script = by_ipxe(machine)
    machine.follow(script, fails=OUT_OF_MEMORY)
    yield
    with machine.downloads(IPXE) as downloads:
        for path in machine.script().files:
            downloads.load(path)
    machine.reset()
    machine.system_dhcp()


@ROWS.stall("D5", "kernel_silent", POSSIBLE, at=70, clock=60, facts=[r"\b[12](?:\.\d+)? ?(?:MB|MiB)|\b[12][,.]?\d{3}", "driver"])
def the_kernel_is_never_heard_of(machine):
    session = machine.attach(by_ipxe(machine))
    machine.read(session, 2000)
    machine.hang()
    yield


@ROWS.stall("D6", "medium_not_found", POSSIBLE, at=70, clock=60, facts=["ISO|image", "sanhook|kernel|iBFT"])
def the_system_does_not_find_its_medium(machine):
    script = by_ipxe(machine)
    session = machine.attach(script)
    machine.read(session, 2000)
    machine.wait(3)
    session.stream.close()
    machine.reset()
    assert machine.system_dhcp("anaconda-Linux"), "a kernel with a driver runs"
    yield
    machine.fetch_config(script)


@ROWS.stall("D7", "medium_unreadable", CERTAIN, at=10, facts=["shrunk"], host={"image": "shrunk"})
def the_file_has_shrunk(machine):
    session = machine.attach(by_ipxe(machine))
    path = machine.lan.iso_path("shrunk")
    last = path.stat().st_size // SECTOR - 20
    os.truncate(path, 300_000)
    senses = [machine.read_sectors(session, last, 1) for _ in range(3)]
    assert all(senses), f"each read fails: {senses}"
    yield


@ROWS.stall("H18", "bad_range", CERTAIN, at=10, facts=["bytes=u-u"], host={"image": "web"})
def ipxe_asks_for_a_range_that_is_none(machine):
    """A build that prints 64-bit numbers as the letter u."""
    script = by_ipxe(machine)
    assert script.medium, f"the script boots the ISO over HTTP: {script}"
    assert machine.http("HEAD", script.medium, IPXE)[0] == 200
    status, _ = machine.http("GET", script.medium, IPXE, headers={"Range": "bytes=u-u"})
    machine.note(f"Range bytes=u-u: {status}")
    yield
    machine.reset()
    script = by_ipxe(machine)
    for at in range(0, 400_000, 40_000):
        assert machine.http("GET", script.medium, IPXE, headers={"Range": f"bytes={at}-{at + 39_999}"})[0] == 206, "iPXE reads the ISO"


@ROWS.stall("D10", "http_boot_not_requested", LIKELY, at=14, facts=[f"http://{SERVER}/".replace(".", r"\."), "https"], firmware=UEFI_HTTP)
def the_url_is_not_asked_for(machine):
    assert machine.name_program().startswith(f"http://{SERVER}/boot/"), "the offer names a URL"
    yield
    script = boot_over_http(machine)
    machine.read(machine.attach(script), 200)


@ROWS.stall("D11", "http_boot_too_large", LIKELY, at=14, facts=[r"\b2\.[46] ?G", "memory|RAM"], firmware=UEFI_HTTP, program="huge.iso")
def the_file_is_too_large_for_the_memory(machine):
    with open(machine.lan.firmware_dir / "huge.iso", "wb") as file:
        file.truncate(HUGE)
    path = machine.name_program().partition(SERVER)[2]
    status, _ = machine.http("HEAD", path, UEFI_HTTP_AGENT)
    assert status == 200 and path.endswith("/huge.iso"), f"the firmware looks at the file: {status}"
    yield


@ROWS.stall("H19", "image_unavailable", CERTAIN, at=10, facts=["gone"], host={"image": "gone"})
def the_file_of_the_iso_is_gone(machine):
    path = machine.lan.iso_path("gone")
    kept = path.with_suffix(".kept")
    path.rename(kept)
    script = by_ipxe(machine)
    assert script.target is None, f"the script waits for the ISO: {script}"
    yield
    kept.rename(path)
    machine.lan.until("the ISO is served again", lambda: machine.script().target)
    machine.read(machine.attach(machine.script()), 200)


test_it_is_staged, test_it_is_diagnosed_in_time, test_all_voices_agree, test_it_is_taken_back = check.tests_of(ROWS)
