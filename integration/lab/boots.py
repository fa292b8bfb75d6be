"""Every other way to boot than the ISO over iSCSI: each up to the line that proves it."""

import json
import threading
import time

from .cycle import host_name
from .lab import Lab
from .network import APPLIANCE_ADDRESS
from .process import LabError, run
from .scenarios import expect

ROM_LIMIT = 90.0     # seconds from power-on to what the boot program prints, with a second boot beside it
KERNEL_LIMIT = 120.0


def configure(lab, text):
    """Writes the appliance's configuration file and returns the option that names it."""
    file = lab.folder / "bootlatch.toml"
    file.write_text(text)
    return ["--config", str(file)]


def reshape(lab, kind, name, **spec):
    """Changes fields of an object's spec."""
    thing = json.loads(lab.appliance.command("get", kind, name, "-o", "json"))
    manifest = {"apiVersion": thing["apiVersion"], "kind": thing["kind"], "metadata": {"name": name}, "spec": spec}
    if thing["metadata"].get("namespace"):
        manifest["metadata"]["namespace"] = thing["metadata"]["namespace"]
    file = lab.folder / f"{name}.yaml"
    file.write_text(json.dumps(manifest))
    lab.appliance.command("apply", "-f", str(file), "--force")


def override(machine, program):
    return f'[[overrides]]\nmac = "{machine.mac}"\nprogram = "{program}"\n'


def events(lab, machine):
    return [(event, detail) for _, event, detail in lab.appliance.timeline(host_name(machine))]


def files(lab, machine):
    """What the machine was sent by TFTP, in order."""
    return [detail.get("file") for event, detail in events(lab, machine) if event == "tftp-done"]


def wait_event(lab, machine, wanted, limit=10.0):
    """Waits until the machine's timeline has an event; returns its detail."""
    deadline = time.monotonic() + limit
    while True:
        seen = events(lab, machine)
        for event, detail in seen:
            if event == wanted:
                return detail
        if time.monotonic() > deadline:
            raise LabError(f"no {wanted} of {machine.name} within {limit} s: {seen}")
        threading.Event().wait(0.2)


def secure_boot(kit):
    """Secure Boot enforcing: shim, GRUB and Debian's kernel boot; iPXE, which nobody signed, is refused."""
    with Lab(kit, "secure-boot") as lab:
        signed, unsigned = lab.machine("secure"), lab.machine("secure")
        lab.serve("install lab lab-config", *configure(lab, override(signed, "shimx64.efi")))
        reshape(lab, "iso", "lab", method="kernel", removeArguments=["quiet"],
                kernelArguments=[f"bootlatch.server={APPLIANCE_ADDRESS}"])
        signed.power_on(lab.network)
        signed.console.wait_for("Secure boot enabled", KERNEL_LIMIT)
        signed.wait_marker("kernel-up", KERNEL_LIMIT)
        signed.power_off()
        unsigned.power_on(lab.network)
        unsigned.console.wait_for("Access Denied", ROM_LIMIT)
        wait_event(lab, unsigned, "tftp-done")
        seen = [event for event, _ in events(lab, unsigned)]
        expect("script" not in seen, f"the unsigned program ran: {seen}")


def arm64(kit):
    """AAVMF loads our iPXE, runs the script and boots an ISO from our target."""
    with Lab(kit, "arm64") as lab:
        lab.serve("install arm")
        iso = run(str(kit.arm64_iso_builder)).strip()
        lab.appliance.command("iso", "add", "arm", iso)
        machine = lab.machine("arm64")
        machine.power_on(lab.network)
        _, _, details = machine.wait_marker("iso-up", KERNEL_LIMIT)
        expect(details == {"cpu": "arm64", "platform": "efi"}, f"GRUB runs on {details}")
        wait_event(lab, machine, "iscsi-login")
        expect("ipxe-arm64.efi" in files(lab, machine), f"files: {files(lab, machine)}")


HTTP_BOOT_FIRST = ["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n",
                   "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n",
                   "-fw_cfg", "name=opt/org.tianocore/IPv6Support,string=n"]


def http_boot(kit):
    """UEFI HTTP Boot: the firmware fetches iPXE over HTTP, iPXE its script, and no TFTP is spoken."""
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


SCENARIOS = {
    "UEFI HTTP Boot fetches iPXE over HTTP and boots the ISO": http_boot,
    "arm64: AAVMF boots to the script and the ISO": arm64,
    "Secure Boot: shim and GRUB boot Debian's kernel, an unsigned program is refused": secure_boot,
}
