"""Boots that are well, of all kinds: stories of machines that go on to their ISO, their install or their disk."""

from support.firmware import UEFI_HTTP
from support.ipxe_script import Script
from support.staged_firmware import PROGRAM_PAUSE
from support.staged_installer import IPXE, UEFI_HTTP_AGENT

REBOOT = 3.0  # seconds of a machine's own test until its firmware asks for an address


def boot_to_image(machine):
    """Boots to the ISO, and reads its begin; returns the session."""
    machine.boot_firmware()
    session = machine.attach(machine.boot_ipxe())
    machine.read(session, 200)
    return session


def boot_by_autoexec(machine):
    """Boots UEFI's iPXE, which finds its script next to itself over TFTP; returns the script."""
    machine.boot_firmware()
    machine.start_ipxe()
    return machine.autoexec()


def boot_over_http(machine):
    """Boots by UEFI HTTP Boot, whose iPXE finds its script next to itself over HTTP; returns the script."""
    path = machine.name_program().partition(machine.server)[2]
    assert machine.firmware is UEFI_HTTP and path.startswith("/boot/"), f"the offer names a URL: {path}"
    assert machine.http("HEAD", path, UEFI_HTTP_AGENT)[0] == 200, "the firmware looks at its boot program"
    machine.wait(0.1)
    assert len(machine.http("GET", path, UEFI_HTTP_AGENT)[1]) > 0, "it loads its boot program"
    machine.start_ipxe()
    status, body = machine.http("GET", f"/boot/{machine.dashed}/autoexec.ipxe", IPXE)
    assert status == 200, f"iPXE's script over HTTP: {status}"
    return Script(body.decode())


def install(machine, boot, reads=1600, pause=1.0):
    """Installs, and boots the new system from the disk. `boot` boots to the script."""
    install_only(machine, boot, reads, pause)
    machine.wait(REBOOT)
    boot_disk(machine, boot)


def install_only(machine, boot, reads=1600, pause=1.0):
    """Installs, up to the report that the install is complete."""
    script = boot(machine)
    session = machine.install(script, reads)
    machine.system_dhcp()
    machine.wait(pause)
    assert machine.complete(script) == 200, "the report is accepted"
    session.stream.close()


def install_by_kernel(machine, boot):
    """Installs by a kernel that iPXE loads over HTTP; the system finds its ISO and its config there."""
    script = boot(machine)
    paths = script.files
    assert len(paths) > 1, f"the script loads a kernel and an initrd: {script}"
    for path in paths:
        assert machine.http("GET", path, IPXE)[0] == 200, f"iPXE loads {path}"
    machine.reset()
    machine.wait(2)
    machine.system_dhcp()
    machine.fetch_config(script)
    assert machine.complete(script) == 200, "the report is accepted"
    machine.wait(REBOOT)
    boot_disk(machine, boot)


def boot_disk(machine, boot):
    """Boots to the script that leaves for the disk, and starts the system on it. HTTP Boot gets no offer then (boot-facts 16)."""
    if machine.firmware is UEFI_HTTP:
        machine.reset()
        offers = machine.discover(tries=4)
        assert not offers.boot, f"HTTP Boot is not answered for a boot from the disk: {offers}"
    else:
        script = boot(machine)
        assert script.boots_disk, f"the machine boots its disk: {script}"
    machine.reset()
    machine.wait(1)
    machine.system_dhcp("systemd")


def boot_by_4011(machine):
    """Boots UEFI firmware that takes no file from an offer, and asks on port 4011; returns the script over HTTP."""
    machine.reset()
    machine.request(machine.find_offers())
    reply = machine.ask_4011()
    assert reply and reply.file, f"port 4011 names the boot file: {reply}"
    machine.wait(PROGRAM_PAUSE)
    machine.probe(reply.file)
    machine.fetch(reply.file)
    return machine.boot_ipxe()


def read_slowly(machine, seconds):
    """Loads the boot program in about that time: blocks of 512 octets, one at a time, over a line with a long way. Boots to the ISO."""
    file = machine.name_program()
    blocks = machine.probe(file) // 512 + 1
    machine.fetch(file, options=(), pause=seconds / blocks)
    machine.read(machine.attach(machine.boot_ipxe()), 200)


def by_ipxe(machine):
    """Boots firmware, iPXE, and its script over HTTP."""
    machine.boot_firmware()
    return machine.boot_ipxe()

