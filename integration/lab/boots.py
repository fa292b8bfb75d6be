"""Boots by other ways than the ISO over iSCSI. Each ends at the first line or event that proves the way."""

import json
import sys
import threading
import time

from . import speed
from .cycle import Cycle, host_name
from .lab import Lab
from .network import APPLIANCE_ADDRESS, DHCP_ADDRESS, Network
from .process import LabError, Program, run
from .scenarios import expect

ROM_LIMIT = 90.0     # seconds from power-on to the boot program's output, while a second machine boots
KERNEL_LIMIT = 120.0  # seconds from power-on to the kernel's output


def configure(lab, text):
    """Writes the server's configuration file and returns the options that name it."""
    file = lab.folder / "bootlatch.toml"
    file.write_text(text)
    return ["--config", str(file)]


def change_spec(lab, kind, name, **spec):
    """Changes fields of an object's spec."""
    thing = json.loads(lab.appliance.command("get", kind, name, "-o", "json"))
    manifest = {"apiVersion": thing["apiVersion"], "kind": thing["kind"], "metadata": {"name": name}, "spec": spec}
    if thing["metadata"].get("namespace"):
        manifest["metadata"]["namespace"] = thing["metadata"]["namespace"]
    file = lab.folder / f"{name}.yaml"
    file.write_text(json.dumps(manifest))
    lab.appliance.command("apply", "-f", str(file), "--force")


def override(machine, program, more=""):
    return f'[[overrides]]\nmac = "{machine.mac}"\nprogram = "{program}"\n{more}\n'


def events(lab, machine):
    return [(event, detail) for _, event, detail in lab.appliance.timeline(host_name(machine))]


def files(lab, machine):
    """Returns the files that the machine received by TFTP, in order."""
    return [detail.get("file") for event, detail in events(lab, machine) if event == "tftp_completed"]


def wait_event(lab, machine, wanted, limit=10.0):
    """Waits until the machine's timeline has an event; returns the event's detail."""
    deadline = speed.deadline(limit)
    while True:
        seen = events(lab, machine)
        for event, detail in seen:
            if event == wanted:
                return detail
        if time.monotonic() > deadline:
            raise LabError(f"no {wanted} of {machine.name} within {limit} s: {seen}")
        threading.Event().wait(0.2)


def wait_screen(machine, wanted, limit, since=0):
    """Waits for a text on the console that does not end a line, such as a menu."""
    deadline = speed.deadline(limit)
    while wanted.encode() not in machine.console.log.read_bytes()[since:]:
        if time.monotonic() > deadline or not machine.console.running():
            raise LabError(f"{machine.name}: no {wanted!r} on the screen within {limit} s: {machine.console.tail()}")
        threading.Event().wait(0.2)


def secure_boot(kit):
    """Secure Boot is on: shim, GRUB and Debian's kernel boot; the unsigned iPXE is refused."""
    with Lab(kit, "secure-boot") as lab:
        signed, unsigned = lab.machine("secure"), lab.machine("secure")
        lab.serve("install lab lab-config", *configure(lab, override(signed, "shimx64.efi")))
        change_spec(lab, "iso", "lab", method="kernel", removeArguments=["quiet"],
                kernelArguments=["bootlatch.server={server}"])
        signed.power_on(lab.network)
        signed.console.wait_for("Secure boot enabled", KERNEL_LIMIT)
        signed.wait_marker("kernel-up", KERNEL_LIMIT)
        signed.power_off()
        unsigned.power_on(lab.network)
        unsigned.console.wait_for("Access Denied", ROM_LIMIT)
        wait_event(lab, unsigned, "tftp_completed")
        seen = [event for event, _ in events(lab, unsigned)]
        expect("script" not in seen, f"the unsigned program ran: {seen}")


def arm64(kit):
    """AAVMF (arm64) loads iPXE, runs the script and boots an ISO from the iSCSI target: GRUB, the kernel, its system."""
    with Lab(kit, "arm64") as lab:
        lab.serve("install arm")
        iso = run(str(kit.arm64_iso_builder)).strip()
        lab.appliance.command("iso", "add", "arm", iso)
        machine = lab.machine("arm64")
        machine.power_on(lab.network)
        _, _, details = machine.wait_marker("iso-up", KERNEL_LIMIT)
        expect(details == {"cpu": "arm64", "platform": "efi"}, f"GRUB runs on {details}")
        wait_event(lab, machine, "iscsi_login")
        machine.wait_marker("os-up", KERNEL_LIMIT)
        expect("ipxe-arm64.efi" in files(lab, machine), f"files: {files(lab, machine)}")


HTTP_BOOT_FIRST = ["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n",
                   "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n",
                   "-fw_cfg", "name=opt/org.tianocore/IPv6Support,string=n"]


def http_boot(kit):
    """UEFI HTTP Boot: the firmware fetches iPXE over HTTP, iPXE fetches its script, and TFTP is not used."""
    with Lab(kit, "http-boot") as lab:
        lab.serve()
        machine = lab.machine("uefi")
        machine.power_on(lab.network, extra=HTTP_BOOT_FIRST)
        machine.console.wait_for(">>Start HTTP Boot over IPv4", ROM_LIMIT)
        machine.console.wait_for(f"URI: http://{APPLIANCE_ADDRESS}/boot/{host_name(machine)}/snponly.efi", ROM_LIMIT)
        machine.console.wait_for("File Size: ", ROM_LIMIT)
        machine.wait_marker("kernel-up", KERNEL_LIMIT)
        detail = wait_event(lab, machine, "offer")
        expect(detail["file"].startswith(f"http://{APPLIANCE_ADDRESS}/boot/"), f"the offer: {detail}")
        expect(not files(lab, machine), f"files were fetched by TFTP: {files(lab, machine)}")
        reply = run(*lab.network.inside(lab.network.dhcp, "curl", "-sSI",
                    f"http://{APPLIANCE_ADDRESS}/boot/{host_name(machine)}/snponly.efi"))
        size = (kit.firmware / "snponly.efi").stat().st_size
        for line in ("HTTP/1.1 200", "Content-Type: application/efi", f"Content-Length: {size}"):
            expect(line in reply, f"no {line!r} in: {reply}")


IPV6_FIRST = ["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"]


def ipv6_first(kit):
    """UEFI tries PXE over IPv6 for a minute, which is diagnosed while it does, and then boots over IPv4; the ledger says what it cost."""
    with Lab(kit, "ipv6-first") as lab:
        lab.serve("ignore")
        machine = lab.machine("uefi")
        name = host_name(machine)
        lab.appliance.command("host", "add", name, "--mac", machine.mac, "--image", "lab", "--config", "lab-config")
        machine.power_on(lab.network, extra=IPV6_FIRST)
        stalled = wait_stall(lab, machine, "ipv6_first", 40)
        expect("IPv6" in stalled["message"] and stalled["certainty"] == "certain", f"the diagnosis: {stalled}")
        machine.console.wait_for("PXE-E16", KERNEL_LIMIT)
        machine.wait_marker("kernel-up", KERNEL_LIMIT)
        machine.wait_marker("reboot", KERNEL_LIMIT)
        boot = json.loads(lab.appliance.command("timeline", name, "--ledger", "-o", "json"))[0]
        spent = boot["stages"][0]
        expect(spent["stage"] == "ipv6" and 55_000 < spent["milliseconds"] < 80_000, f"the ledger: {boot}")
        expect(any("it tried IPv6 for" in advice for advice in boot["advice"]), f"the advice: {boot['advice']}")
        expect(json.loads(lab.appliance.command("why", name, "-o", "json"))["diagnosis"] is None, "the diagnosis is taken back")


def pxelinux(kit):
    """PXELINUX installs an unknown machine, and then boots its disk."""
    with Lab(kit, "pxelinux") as lab:
        run = Cycle(lab, lab.machine("bios"))
        lab.serve("install lab lab-config", *configure(lab, override(run.machine, "pxelinux.0", "also_for_ipxe = true")))
        change_spec(lab, "iso", "lab", kernelArguments=["bootlatch.server={server}"])
        run.power_on()
        run.machine.console.wait_for("PXELINUX 6", ROM_LIMIT)
        run.install()
        run.os_up()
        kinds = [event for event, _ in events(lab, run.machine)]
        expect(files(lab, run.machine).count("pxelinux.0") == 2, f"loaded: {files(lab, run.machine)}")
        expect("local_disk" in kinds and "iscsi_login" not in kinds, f"the timeline: {kinds}")


def kernel_by_ipxe(kit):
    """iPXE loads the ISO's kernel and initrd over HTTP, with the host's arguments, and attaches nothing."""
    with Lab(kit, "kernel") as lab:
        lab.serve()
        change_spec(lab, "iso", "lab", method="kernel", kernelArguments=["bootlatch.server={server}"])
        machine = lab.machine("uefi")
        machine.power_on(lab.network)
        machine.wait_marker("config-fetched", KERNEL_LIMIT)
        kinds = [event for event, _ in events(lab, machine)]
        expect("iscsi_login" not in kinds and "config_fetched" in kinds, f"the timeline: {kinds}")


def sanhook(kit):
    """iPXE attaches the ISO and loads its kernel over HTTP; the kernel finds the target in the iBFT."""
    with Lab(kit, "sanhook") as lab:
        lab.serve()
        change_spec(lab, "iso", "lab", method="sanhook")
        machine = lab.machine("bios")
        machine.power_on(lab.network)
        _, _, details = machine.wait_marker("network", KERNEL_LIMIT)
        expect(details.get("server") == APPLIANCE_ADDRESS, f"the iBFT's portal is not ours: {details}")
        machine.wait_marker("config-fetched", KERNEL_LIMIT)
        wait_event(lab, machine, "iscsi_login")


def by_token(kit):
    """The configuration requires a script's token. iPXE sends it to the target in its initiator name; the name without the
    token is not enough."""
    with Lab(kit, "token") as lab:
        lab.serve("install lab lab-config", *configure(lab, '[config_access]\nrequire = "both"\n'))
        for firmware in ("bios", "uefi"):
            machine = lab.machine(firmware)
            machine.power_on(lab.network)
            machine.wait_marker("kernel-up", KERNEL_LIMIT)
            login = wait_event(lab, machine, "iscsi_login")
            expect(login["initiator"].endswith(f":{host_name(machine)}"), f"the login event: {login}")
            refused = [detail for event, detail in events(lab, machine) if event == "refused"]
            expect(all(detail["protocol"] == "http" for detail in refused), f"refused: {refused}")
            machine.power_off()


def chained(kit):
    """An image with the method `chain` continues at its URL."""
    with Lab(kit, "chain") as lab:
        (lab.folder / "site.ipxe").write_text("#!ipxe\necho BOOTLATCH-LAB: chained platform=${platform}\nshell\n")
        site = Program("site", lab.network.inside(
            lab.network.dhcp, sys.executable, "-um", "http.server", "8080", "--directory", str(lab.folder)),
            lab.folder / "site.log")
        lab.programs.append(site)
        lab.serve()
        change_spec(lab, "iso", "lab", method="chain", url=f"http://{DHCP_ADDRESS}:8080/site.ipxe")
        for firmware, platform in (("bios", "pcbios"), ("uefi", "efi")):
            machine = lab.machine(firmware)
            machine.power_on(lab.network)
            _, _, details = machine.wait_marker("chained", ROM_LIMIT)
            expect(details["platform"] == platform, f"chained on {details}")
            machine.power_off()


def menu(kit):
    """Two unknown machines get the menu: the ISO is selected on one; the other boots its disk after the timeout."""
    with Lab(kit, "menu") as lab:
        lab.serve("menu")
        selecting, idle = lab.machine("uefi"), lab.machine("bios")
        idle.power_on(lab.network)
        wait_screen(idle, "iPXE shell", ROM_LIMIT)
        selecting.power_on(lab.network)
        wait_screen(selecting, "iPXE shell", ROM_LIMIT)
        selecting.press("down", "ret")
        wait_screen(selecting, "iPXE>", ROM_LIMIT)
        drawn = selecting.console.log.stat().st_size
        selecting.press("e", "x", "i", "t", "ret")
        wait_screen(selecting, "iPXE shell", ROM_LIMIT, drawn)
        selecting.press("up", "ret")
        selecting.wait_marker("kernel-up", KERNEL_LIMIT)
        shown = lab.appliance.host(host_name(selecting))
        expect(shown["spec"]["image"] == "lab", f"the selected image: {shown['spec']}")
        wait_screen(idle, "Booting from Hard Disk", ROM_LIMIT)
        left = lab.appliance.host(host_name(idle))
        expect(left["spec"]["image"] == "menu", f"nothing was selected, but the host is: {left['spec']}")


def by_grub(kit):
    """GRUB without Secure Boot installs an unknown machine, and then boots its disk."""
    with Lab(kit, "grub") as lab:
        run = Cycle(lab, lab.machine("uefi"))
        lab.serve("install lab lab-config", *configure(lab, override(run.machine, "shimx64.efi")))
        change_spec(lab, "iso", "lab", kernelArguments=["bootlatch.server={server}"])
        run.power_on()
        run.machine.console.wait_for("bootlatch: ", ROM_LIMIT)
        run.install()
        run.os_up()
        kinds = [event for event, _ in events(lab, run.machine)]
        expect("local_disk" in kinds and "iscsi_login" not in kinds, f"the timeline: {kinds}")


def by_syslinux(kit):
    """SYSLINUX under UEFI boots an installer's kernel. Its LOCALBOOT is not tested: it tries the rest of the firmware's boot
    order, which takes minutes on OVMF."""
    with Lab(kit, "syslinux") as lab:
        machine = lab.machine("uefi")
        lab.serve("install lab lab-config", *configure(lab, override(machine, "syslinux.efi")))
        change_spec(lab, "iso", "lab", kernelArguments=["bootlatch.server={server}"])
        machine.power_on(lab.network)
        machine.wait_marker("config-fetched", KERNEL_LIMIT)
        expect("ldlinux.e64" in files(lab, machine), f"received: {files(lab, machine)}")


def wait_stall(lab, machine, reason, limit):
    """Waits until a machine's diagnosis has a reason; returns the diagnosis."""
    deadline = speed.deadline(limit)
    while True:
        report = json.loads(lab.appliance.command("why", host_name(machine), "-o", "json"))
        if report["diagnosis"] and report["diagnosis"]["reason"] == reason:
            return report["diagnosis"]
        if time.monotonic() > deadline:
            raise LabError(f"{machine.name} is not {reason} within {limit} s: {report}")
        threading.Event().wait(0.5)


def script_reports(kit):
    """iPXE's script reports the command that failed, with iPXE's own error; the diagnosis is taken back when it works."""
    with Lab(kit, "script-reports") as lab:
        lab.serve()
        closed = {"address": APPLIANCE_ADDRESS, "port": 3999, "targetIqn": "iqn.2026-11.org.bootlatch:lab"}
        change_spec(lab, "iso", "lab", portal=closed)
        for firmware in ("bios", "uefi"):
            machine = lab.machine(firmware)
            machine.power_on(lab.network)
            machine.console.wait_for("Could not boot lab", ROM_LIMIT)
            diagnosis = wait_stall(lab, machine, "script_failed", ROM_LIMIT)
            expect("sanboot failed" in diagnosis["message"] and "refused or reset" in diagnosis["message"],
                   f"the diagnosis: {diagnosis}")
            if firmware == "bios":
                machine.power_off()
        change_spec(lab, "iso", "lab", portal=None)
        machine.wait_marker("kernel-up", KERNEL_LIMIT)
        cleared = wait_event(lab, machine, "stall_cleared", ROM_LIMIT)
        expect(cleared["reason"] == "script_failed", f"taken back: {cleared}")
        machine.power_off()
        blank = lab.machine("uefi")
        lab.appliance.command("host", "add", "blank", "--mac", blank.mac)
        blank.power_on(lab.network)
        deadline = speed.deadline(ROM_LIMIT)
        while True:
            report = json.loads(lab.appliance.command("why", "blank", "-o", "json"))
            if any("disk failed" in step["text"] for step in report["steps"]):
                break
            expect(time.monotonic() < deadline, f"no report of the disk: {report}")
            threading.Event().wait(0.5)


SECOND_ADDRESS = "10.78.0.2"
BOTH = f"""[[interfaces]]
name = "lan0"
[[interfaces]]
name = "lan1"
mode = "server"
address = "{SECOND_ADDRESS}"
[[dhcp.subnets]]
subnet = "10.78.0.0/24"
pools = ["10.78.0.100-10.78.0.120"]
"""


def two_networks(kit):
    """A proxy on one network, the DHCP server on another: each machine gets the server's address on its own network."""
    second = Network()
    try:
        with Lab(kit, "two-networks") as lab:
            second.ip(second.dhcp, "address", "add", "10.78.0.1/24", "dev", "lan0")
            second.join(lab.network.appliance, SECOND_ADDRESS, interface="lan1")
            lab.appliance.interface = []
            there, here = lab.machine("uefi"), lab.machine("bios", rom="own")
            lab.serve("install lab lab-config",
                      *configure(lab, BOTH + override(here, "pxelinux.0", "also_for_ipxe = true")))
            there.power_on(second)
            here.power_on(lab.network)
            there.console.wait_for("Station IP address is 10.78.0.1", ROM_LIMIT)
            there.console.wait_for(f"Server IP address is {SECOND_ADDRESS}", ROM_LIMIT)
            _, _, details = there.wait_marker("network", KERNEL_LIMIT)  # found in the iBFT
            expect(details["server"] == SECOND_ADDRESS, f"the script named {details}")
            expect(details["address"].startswith("10.78.0.1"), f"the installer's lease: {details}")
            there.wait_marker("config-fetched", KERNEL_LIMIT)
            there.power_off()
            script = run(*lab.network.inside(second.dhcp, "curl", "-sS", "--max-time", "10", "--interface", "lan0",
                                             f"http://{SECOND_ADDRESS}/boot.ipxe"))
            expect(f"http://{SECOND_ADDRESS}/ipxe?" in script, f"the script names another address: {script}")
            here.wait_marker("kernel-up", KERNEL_LIMIT)
            expect("pxelinux.0" in files(lab, here), f"the ROM received: {files(lab, here)}")
    finally:
        second.close()


SCENARIOS = {
    "iPXE's script reports its error, BIOS and UEFI, and the diagnosis is taken back": script_reports,
    "GRUB installs an unknown UEFI machine, and boots its disk": by_grub,
    "SYSLINUX under UEFI boots an installer": by_syslinux,
    "two networks, proxy on one and server on the other, each with its own address": two_networks,
    "iPXE boots a kernel and its initrd over HTTP": kernel_by_ipxe,
    "iPXE attaches an ISO and boots a kernel over HTTP (sanhook)": sanhook,
    "a configuration that requires tokens: iPXE sends its own to the target, BIOS and UEFI": by_token,
    "iPXE continues at a URL (chain), BIOS and UEFI": chained,
    "a menu: an ISO is selected by keyboard, and the timeout boots the disk": menu,
    "UEFI tries IPv6 first, which is diagnosed and accounted for, and boots over IPv4": ipv6_first,
    "PXELINUX installs an unknown machine, and LOCALBOOT boots its disk": pxelinux,
    "UEFI HTTP Boot fetches iPXE over HTTP and boots the ISO": http_boot,
    "arm64: AAVMF boots to the script and the ISO": arm64,
    "Secure Boot: shim and GRUB boot Debian's kernel, an unsigned program is refused": secure_boot,
}
