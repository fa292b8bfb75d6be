"""What a machine gets of an appliance that serves: an offer, a boot program, a script, and a disk."""

import json
import subprocess
from pathlib import Path

from support import tftp_reader
from support.dhcp_appliance import OURS
from support.dhcp_wire import BROADCAST, DISCOVER, Client, pxe
from support.iscsi_initiator import Initiator
from support.lan import entered, tool, until
from support.programs import bootlatch
from support.tiny_iso import tiny_iso

ADDRESS = "10.88.0.60"
MAC = "52:54:00:88:00:60"
READ_10 = 0x28


def curl(lan, space, *words):
    return subprocess.run(lan.inside(space, tool("curl"), "-s", "-m", "20", *words), capture_output=True, text=True).stdout


def is_ready(state):
    """Returns whether the server of a state directory, which may be on another root, says that it is ready."""
    done = subprocess.run([tool("curl"), "-s", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", f"{state}/api.sock", "http://x/readyz"],
                          capture_output=True, text=True)
    return done.stdout == "200"


def command(state, *words, text=None):
    """Runs the command line against the server of a state directory."""
    done = subprocess.run([str(bootlatch()), "--server", f"unix:{state}/api.sock", *map(str, words)], input=text, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def assign_iso(lan, state):
    """Adds an ISO, and a host that installs it; the host's address is fixed."""
    image = Path(lan.folder) / "tiny.iso"
    image.write_bytes(tiny_iso())
    command(state, "iso", "add", "tiny", image)
    host = {"apiVersion": "v1", "kind": "BareMetalHost", "metadata": {"name": "node1", "namespace": "default"},
            "spec": {"bootMACAddress": MAC, "ip": ADDRESS, "image": "tiny"}}
    command(state, "apply", "-f", "-", text=json.dumps(host))


def check_boot(lan, state, program):
    """Boots as a machine does: asserts that DHCP, TFTP, HTTP and iSCSI answer. `program`: the file of snponly.efi."""
    until("the server is ready", lambda: is_ready(state), 60)
    assign_iso(lan, state)
    space = lan.client("machine", mac=MAC, address=f"{ADDRESS}/24")
    with Client(space, MAC) as client:
        client.send(DISCOVER, pxe(7), flags=BROADCAST)
        offer = client.reply(wait=10)
    assert offer and offer.file.endswith("snponly.efi"), offer
    with entered(space):
        assert tftp_reader.read(OURS, "snponly.efi", wait=2) == program.read_bytes()
    assert "#!ipxe" in curl(lan, space, f"http://{OURS}/ipxe?mac={MAC}")
    with entered(space):
        session = Initiator(3260, "iqn.2026-11.org.bootlatch:tiny", address=OURS, limit=20)
    read = session.good(bytes([READ_10, 0, *(16).to_bytes(4, "big"), 0, 0, 1, 0]), room=2048)
    assert read[:6] == b"\x01CD001"
    session.logout()
    hosts = json.loads(command(state, "get", "hosts", "-A", "-o", "json"))["items"]
    assert [host["status"]["phase"] for host in hosts] == ["Offered"], hosts
