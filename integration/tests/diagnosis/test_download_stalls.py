"""Boots that stall while a file is loaded over HTTP: a boot program, a kernel or an initrd."""

from support import diagnosis_checks as check
from support.firmware import UEFI_HTTP
from support.healthy_boots import boot_over_http, by_ipxe
from support.stage import CERTAIN, POSSIBLE, Rows
from support.staged_installer import IPXE, UEFI_HTTP_AGENT
from support.staged_lan import SERVER

ROWS = Rows()
PROGRAM_NAME = r"snponly\.efi"
AGENT = r"UefiHttpBoot/1\.0"
PART = r"\b(?:9[0-9]|1[0-3][0-9]) kB of 250 kB"  # what was read, and what the client's kernel holds


def program_path(machine):
    path = machine.name_program().partition(SERVER)[2]
    assert machine.http("HEAD", path, UEFI_HTTP_AGENT)[0] == 200, "the firmware looks at its boot program"
    return path


@ROWS.stall("D13", "transfer_aborted", CERTAIN, at=8, facts=[PROGRAM_NAME, AGENT, PART, "HTTP"], firmware=UEFI_HTTP)
def the_firmware_breaks_off_its_program(machine):
    path = program_path(machine)
    with machine.downloads(UEFI_HTTP_AGENT) as downloads:
        downloads.load(path, stop_after=100_000)
    yield
    machine.read(machine.attach(boot_over_http(machine)), 200)


@ROWS.stall("D13_second", "transfer_aborted", CERTAIN, at=8, facts=[r"grubx64\.efi", AGENT, PART], firmware=UEFI_HTTP)
def the_second_file_of_a_connection_is_broken_off(machine):
    path = program_path(machine)
    with machine.downloads(UEFI_HTTP_AGENT) as downloads:
        downloads.load(path)
        downloads.load(path.replace("snponly", "grubx64"), stop_after=100_000)
    yield
    machine.read(machine.attach(boot_over_http(machine)), 200)


@ROWS.stall("D14", "transfer_silent", CERTAIN, at=14, facts=[PROGRAM_NAME, AGENT, PART], firmware=UEFI_HTTP)
def the_power_is_lost_amid_the_program(machine):
    path = program_path(machine)
    downloads = machine.downloads(UEFI_HTTP_AGENT)
    downloads.load(path, stop_after=100_000)
    machine.switch_off()
    yield
    machine.switch_on()
    downloads.close()
    machine.read(machine.attach(boot_over_http(machine)), 200)


@ROWS.stall("D15", "transfer_aborted", CERTAIN, at=12, facts=[r"initrd\.gz", "iPXE", r"kB of 2\.0 MB", "memory"], host={"image": "kernel"})
def the_initrd_is_broken_off(machine):
    kernel, initrd = by_ipxe(machine).files
    with machine.downloads(IPXE) as downloads:
        downloads.load(kernel)
        downloads.load(initrd, stop_after=300_000)
    yield
    with machine.downloads(IPXE) as downloads:
        downloads.load(kernel)
        downloads.load(initrd)


@ROWS.stall("D15_files", "transfer_aborted", CERTAIN, at=12, facts=[r"initrd\.gz", "iPXE", r"kB of 2\.0 MB", "memory"], host={"image": "kernel"})
def a_file_of_the_configured_directory_is_broken_off(machine):
    """A kernel of the operator's own: /files."""
    folder = machine.lan.state / "files"
    folder.mkdir(exist_ok=True)
    for name in ("vmlinuz", "initrd.gz"):
        (folder / name).write_bytes(bytes(2_000_000))
    by_ipxe(machine)
    with machine.downloads(IPXE) as downloads:
        downloads.load("/files/vmlinuz")
        downloads.load("/files/initrd.gz", stop_after=300_000)
    yield
    with machine.downloads(IPXE) as downloads:
        downloads.load("/files/vmlinuz")
        downloads.load("/files/initrd.gz")


@ROWS.stall("D16", "kernel_silent", POSSIBLE, at=68, clock=60, facts=["vmlinuz and initrd", r"4\.0 MB", "driver"], host={"image": "kernel"})
def the_kernel_from_http_is_never_heard_of(machine):
    script = by_ipxe(machine)
    with machine.downloads(IPXE) as downloads:
        for path in script.files:
            downloads.load(path)
    machine.hang()
    yield
    machine.revive()
    machine.system_dhcp()


test_it_is_staged, test_it_is_diagnosed_in_time, test_all_voices_agree, test_it_is_taken_back = check.tests_of(ROWS)
