"""Requests in a machine's name from addresses that nothing ties to it: they may be answered, and they move no lifecycle."""

import subprocess

import pytest

from support.attacker import Attacker, read_request
from support.lan import until
from support.objects import HOSTS, IMAGES
from support.provisioned_lan import FAR, MACS, NEAR, SECRET, SUBNETS, Machine, routed_network, token_of, udhcpc

EVIL, EVIL_NEAR = "10.89.0.66", "10.88.0.66"
AUTOEXEC = MACS["near"].replace(":", "-") + "/autoexec.ipxe"


def server_mac(box):
    return box.lan.ip(box.space, "link", "show", "dev", "lan0").split("link/ether ")[1].split()[0]


def boots(box, name="near"):
    return box.status(name).get("install", {}).get("bootCount", 0)


@pytest.mark.parametrize("completion", ["boot-complete", "script-fetched"])
def test_untied_scripts_use_up_no_boot_and_end_no_install(lan, completion):
    box, near, far, _ = routed_network(lan, f'[install]\nmax_boots = 2\ncompletion = "{completion}"\n', FAR)
    for _ in range(4):
        assert "sanboot iscsi" in far.script("near"), "an untied claim may get a script"
        assert "sanboot iscsi" in far.tftp("near"), "over TFTP too"
    status = box.status("near")
    assert status["phase"] == "Assigned" and boots(box) == 0, f"untied requests move no lifecycle: {status}"
    assert "sanboot iscsi" in near.script(), "the machine itself boots its image"
    ends = {"boot-complete": "Offered", "script-fetched": "Installed"}
    assert box.status("near")["phase"] == ends[completion] and boots(box) == 1, f"the machine's own boot counts: {box.status('near')}"


@pytest.mark.parametrize("completion", ["boot-complete", "script-fetched"])
@pytest.mark.parametrize("evidence", ["neighbour", "spec.ip", "lease"])
def test_a_spoofed_read_request_counts_for_nothing(lan, completion, evidence):
    """One datagram with the victim's own source address; the victim never acknowledges the transfer."""
    config = f'[install]\nmax_boots = 2\ncompletion = "{completion}"\n'
    box, near, _, _ = routed_network(lan, (SUBNETS if evidence == "lease" else "") + config, FAR)
    victim = NEAR
    if evidence == "lease":
        victim = udhcpc(lan, near)
        lan.ip(near.space, "link", "set", "lan0", "down")
        lan.ip(box.space, "neigh", "flush", "dev", "lan0")
    elif evidence == "spec.ip":
        box.change("near", ip=NEAR)
        lan.ip(near.space, "link", "set", "lan0", "down")
    else:
        assert near.ask("/healthz")[0] == 200, "the victim is a neighbour"
    attacker = Attacker(lan, "br0", EVIL_NEAR)
    mac = server_mac(box)
    for port in range(5000, 5006):
        attacker.spoof(victim, port, read_request(AUTOEXEC), mac)
        attacker.spoof(victim, port + 100, read_request(AUTOEXEC, "blksize", "1024", "tsize", "0"), mac)
    honest = Machine(lan, "other", "br0", "10.88.0.30")
    assert "sanboot iscsi" in honest.tftp("other"), "the server has read the requests before this one"
    status = box.status("near")
    assert status["phase"] == "Assigned" and boots(box) == 0, f"requests that nobody acknowledges move no lifecycle: {status}"


def test_an_acknowledged_transfer_counts_once_and_its_token_is_good(lan):
    box, near, _, _ = routed_network(lan, "", FAR)
    token = token_of(near.tftp("near"))
    until("the boot is counted", lambda: boots(box) == 1)
    status = box.status("near")
    assert status["phase"] == "Offered" and status["address"] == NEAR, f"the install has begun: {status}"
    assert token and near.ask(f"/nocloud/{token}/user-data") == (200, SECRET), "the token in the script is that of the install"
    scripts = box.events("near", "script")
    assert scripts == [{"action": "boot", "image": "live"}], f"the script is in the timeline once: {scripts}"
    assert token_of(near.script()) == token and boots(box) == 1, "iPXE's request over HTTP belongs to the same boot"


def test_a_script_over_tftp_without_options_counts_too(lan):
    box, near, _, _ = routed_network(lan, "", FAR)
    done = subprocess.run(lan.inside(near.space, "busybox", "tftp", "-g", "-r", AUTOEXEC, "-l", "-", "10.88.0.2"), capture_output=True, text=True)
    assert "sanboot iscsi" in done.stdout, f"the script is served: {done}"
    until("the boot is counted", lambda: boots(box) == 1)


def test_a_claim_chooses_nothing_from_a_menu(lan):
    box, near, far, _ = routed_network(lan, "", FAR)
    box.change("near", image="menu", bootConfigRef="")
    far.ask(f"/ipxe?mac={MACS['near']}&choose=live")
    spec = box.api("GET", f"{HOSTS}/near")[1]["spec"]
    assert spec["image"] == "menu" and box.status("near")["phase"] == "LocalBoot", f"an untied claim assigns no image: {spec}"
    assert "sanboot iscsi" in near.ask(f"/ipxe?mac={MACS['near']}&choose=live")[1], "somebody at the machine picks an image"


def test_kernel_arguments_of_a_host_are_told_to_the_machine_only(lan):
    box, near, far, _ = routed_network(lan, "", FAR)
    tree = lan.folder / "tree"
    (tree / "isolinux").mkdir(parents=True)
    (tree / "isolinux/isolinux.cfg").write_text("default l\nlabel l\n kernel /vmlinuz\n append quiet\n")
    (tree / "vmlinuz").write_bytes(b"\0" * 4096)
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", box.state / "isos/k.iso", tree], check=True, capture_output=True)
    box.make(IMAGES, "ISCSICdrom", "kernels", {"isoFile": "k.iso", "method": "kernel"})
    box.change("near", image="kernels", bootConfigRef="", kernelArguments=["psk=open-sesame"])
    until("the kernel of the image is known", lambda: "vmlinuz" in str(box.api("GET", f"{IMAGES}/kernels")[1]["status"]))
    pxelinux = f"tftp://10.88.0.2/pxelinux.cfg/01-{MACS['near'].replace(':', '-')}"
    fetch = lambda machine: subprocess.run(lan.inside(machine.space, "curl", "-s", "-m", "10", pxelinux), capture_output=True, text=True).stdout
    for what, said in (("iPXE", far.script("near")), ("TFTP", far.tftp("near")), ("PXELINUX", fetch(far))):
        assert "vmlinuz" in said and "sesame" not in said, f"{what}: an untied claim is not told a host's own arguments: {said}"
    assert b"/vmlinuz" in (view := read_unit(lan, far, "kernels")) and b"sesame" not in view, "nor by the view over iSCSI"
    for what, said in (("iPXE", near.script()), ("TFTP", near.tftp("near")), ("PXELINUX", fetch(near))):
        assert "psk=open-sesame" in said, f"{what}: the machine itself is: {said}"
    assert b"psk=open-sesame" in read_unit(lan, near, "kernels"), "iSCSI: the machine itself is"


def read_unit(lan, machine, image):
    """Returns the bytes of an image that are attached in the name of "near"."""
    copy = lan.folder / "unit"
    copy.unlink(missing_ok=True)
    iqn = "iqn.2026-11.org.bootlatch"
    options = (f"driver=raw,file.driver=iscsi,file.transport=tcp,file.portal=10.88.0.2:3260,file.target={iqn}:{image},file.lun=0,"
               f"file.initiator-name={iqn}:{MACS['near'].replace(':', '-')}")
    subprocess.run(lan.inside(machine.space, "qemu-img", "convert", "--image-opts", options, "-O", "raw", str(copy)), capture_output=True)
    return copy.read_bytes()
