"""A LAN for rehearsals: a server, and one machine that sends what real firmware was captured sending."""

import hashlib
import json
import re
import socket
import struct
from pathlib import Path

from support import tftp_reader
from support.dhcp_appliance import Appliance
from support.dhcp_wire import Client, Message, captured_requests, checksum
from support.iscsi_initiator import Initiator, Refused
from support.lan import entered, run, tool, until
from support.objects import HOSTS
from support.tiny_iso import tiny_iso

CAPTURES = Path(__file__).resolve().parents[2] / "fixtures/captures"
# The addresses of the captures.
SERVER, MACHINE, ROUTER = "10.77.0.2", "10.77.0.185", "10.77.0.1"
MAC, FOLDER = "52:54:00:aa:00:01", "52-54-00-aa-00-01"
UUID = "11111111-2222-4333-8444-525400aa0001"
IQN = "iqn.2026-11.org.bootlatch"
TOKEN = re.compile(FOLDER.replace("-", "") + r"[0-9a-f]{32}")
PROGRAMS = ("snponly.efi", "undionly.kpxe", "ipxe-arm64.efi", "shimx64.efi", "grubx64.efi", "pxelinux.0")

OBJECTS = """
apiVersion: v1
kind: BootConfig
metadata: {name: ks}
spec: {format: kickstart, data: {ks.cfg: "rootpw very-secret\\n"}}
---
apiVersion: v1
kind: BootConfig
metadata: {name: cloud}
spec: {format: cloud-init, data: {user-data: "#cloud-config\\npassword: very-secret\\n"}}
---
apiVersion: v1
kind: ISCSICdrom
metadata: {name: live}
spec: {isoFile: x.iso, bootConfigs: [ks, cloud], kernelArguments: ["from={server}", quiet]}
---
apiVersion: v1
kind: ISCSICdrom
metadata: {name: drivers}
spec: {isoFile: y.iso}
---
apiVersion: v1
kind: ISCSICdrom
metadata: {name: seeded}
spec: {isoFile: x.iso, bootConfigs: [cloud], configDelivery: seed, companions: [drivers]}
---
apiVersion: v1
kind: ISCSICdrom
metadata: {name: overhttp}
spec: {isoFile: x.iso, bootConfigs: [ks], method: http}
"""


class RehearsalBed:
    """The server at 10.77.0.2, and the machine `vm` at 10.77.0.185. `host` holds more fields of the host, as YAML."""

    def __init__(self, lan, config="", unknown="hold", host=""):
        self.lan = lan
        for number, name in enumerate(PROGRAMS):
            (lan.folder / name).write_bytes(name.encode() * (3000 + number))
        self.space = lan.client("vm", mac=MAC)
        self.server = lan.client("srv", address=f"{SERVER}/24")
        self.box = Appliance(lan, self.server, config, unknown)
        (self.box.state / "isos").mkdir(exist_ok=True)
        (self.box.state / "isos/x.iso").write_bytes(tiny_iso())
        (self.box.state / "isos/y.iso").write_bytes(tiny_iso("OTHER"))
        self.apply(OBJECTS)
        if host:
            self.declare(host)

    def apply(self, text):
        path = self.lan.folder / "objects.yaml"
        path.write_text(text)
        return self.box.command("apply", "-f", str(path))

    def host_names(self):
        return [item["metadata"]["name"] for item in json.loads(self.box.get("/api/v1/baremetalhosts"))["items"]]

    def replace(self, spec):
        """Removes every host, and declares the host `vm`."""
        for name in self.host_names():
            self.box.command("host", "remove", name)
        self.declare(spec)

    def declare(self, spec):
        """Declares the host `vm`."""
        self.apply(f"apiVersion: v1\nkind: BareMetalHost\nmetadata: {{name: vm, namespace: default}}\nspec: {{bootMACAddress: '{MAC}', {spec}}}\n")

    def address(self):
        """Gives the machine its address."""
        if MACHINE not in self.lan.ip(self.space, "address", "show", "dev", "lan0"):
            self.lan.ip(self.space, "address", "add", f"{MACHINE}/24", "dev", "lan0")

    def host(self):
        return json.loads(self.box.get(f"{HOSTS}/vm"))

    def rehearse(self, arch, *words, secrets=True):
        """Returns the rehearsed boot of one firmware, by the command line."""
        target = words if "--mac" in words else ("vm", *words)
        secret = ("--secrets",) if secrets else ()
        text = self.box.command("rehearse", *target, "--arch", str(arch), "--uuid", UUID, "--address", MACHINE, *secret, "-o", "json")
        rehearsal = json.loads(text)
        assert rehearsal["kind"] == "Rehearsal" and rehearsal["isRedacted"] != secrets, rehearsal
        (boot,) = rehearsal["boots"]
        return Boot(boot)

    def everything(self):
        """Returns what a rehearsal must not change: every object, the timeline, the leases, and what the protocols counted."""
        kinds = ("baremetalhosts", "iscsi-cdroms", "bootconfigs")
        objects = {kind: json.loads(self.box.get(f"/api/v1/{kind}")) for kind in kinds}
        counted = ("bootlatch_requests", "bootlatch_packets", "bootlatch_hosts", "bootlatch_timeline", "bootlatch_tftp", "bootlatch_iscsi")
        metrics = {name: value for name, value in self.box.metrics().items() if name.startswith(counted) and 'protocol="http"' not in name}
        return {"objects": objects, "timeline": self.box.timeline(), "leases": self.box.leases(), "metrics": metrics}

    def stalls(self):
        """Returns the diagnosis of each host, and what is in the timeline of diagnoses and ended boots."""
        hosts = json.loads(self.box.get("/api/v1/baremetalhosts"))["items"]
        entries = [entry for entry in self.box.timeline() if entry["event"] in ("stalled", "stall_cleared", "boot_finished")]
        return [host["status"].get("stall") for host in hosts], entries

    def settled(self):
        """Returns everything once what happened so far is in the timeline, which is written behind."""
        seen = [self.everything()]

        def is_settled():
            seen.append(self.everything())
            return seen[-1] == seen[-2]
        self.box.command("host", "assign", "vm", "--image", "live")
        until("the timeline is written", is_settled)
        return seen[-1]

    def fetch(self, url):
        """Fetches a URL as the machine, with curl or the TFTP client; returns the status and the bytes."""
        self.address()
        if url.startswith("tftp://"):
            with entered(self.space):
                try:
                    return 200, tftp_reader.read(SERVER, url.split("/", 3)[3])
                except tftp_reader.TransferFailed as why:
                    return 403, str(why).rstrip("\0").encode()
        out = self.lan.folder / "fetched"
        code = run(*self.lan.inside(self.space, tool("curl"), "-s", "-m", "10", "-o", str(out), "-w", "%{http_code}", url))
        return int(code), out.read_bytes()

    def login(self, initiator, target):
        """Logs in to a target as the machine; returns the size of each unit by its number, or the code of the refusal."""
        self.address()
        with entered(self.space):
            try:
                session = Initiator(3260, target, name=initiator, address=SERVER)
            except Refused as why:
                return why.args[0]
        try:
            # REPORT LUNS, then READ CAPACITY(10) of each.
            listed = session.good(bytes([0xA0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0]))
            count = struct.unpack("!I", listed[:4])[0] // 8
            units = {}
            for lun in [listed[8 + 8 * number + 1] for number in range(count)]:
                last, size = struct.unpack("!II", session.good(bytes([0x25]) + bytes(9), lun=lun))
                units[lun] = (last + 1) * size, size, self.serial(session, lun)
            return units
        finally:
            session.stream.close()

    def serial(self, session, lun):
        """Reads the serial number of a unit (VPD page 0x80)."""
        page = session.good(bytes([0x12, 1, 0x80, 0, 255, 0]), lun=lun)
        return page[4:4 + page[3]].decode()


class Boot:
    """A rehearsed boot."""

    def __init__(self, boot):
        self.all = boot
        self.steps = {step["step"]: step for step in boot["steps"]}

    def __getitem__(self, name):
        assert name in self.steps, f"{name} is not in {list(self.steps)}"
        return self.steps[name]

    def verdict(self, name):
        decision = self[name]["decision"]
        return decision["verdict"], decision.get("reason")

    def reply(self, name):
        """Returns the octets of a rehearsed reply, or None."""
        reply = self[name]["dhcp"].get("reply")
        return reply and bytes.fromhex(reply["hex"])

    def request(self, name):
        return bytes.fromhex(self[name]["dhcp"]["request"]["hex"])


class Firmware(Client):
    """The machine's interface. It sends messages that real firmware was captured sending, octet by octet."""

    def send_captured(self, payload, port=67, source=("0.0.0.0", 68), to=("255.255.255.255", 67), to_mac=b"\xff" * 6):
        self.xid = int.from_bytes(payload[4:8], "big")
        udp = struct.pack("!HHHH", source[1], port, 8 + len(payload), 0) + payload
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + socket.inet_aton(source[0]) + socket.inet_aton(to[0])
        ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
        self.socket.send(to_mac + self.mac + b"\x08\x00" + ip + udp)

    def ours(self, wait=3):
        """Returns the octets of the server's reply to the last message, or None."""
        of_server = lambda found: [reply for reply in found if reply.source == SERVER]
        replies = of_server(self.replies(wait, enough=of_server))
        return replies[0].data if replies else None


def captured(file, index, port=67):
    """Returns the `index`th captured request of a client on a port, without padding."""
    requests = [payload for at, payload in captured_requests(CAPTURES / file) if at == port and payload[0] == 1]
    payload = requests[index]
    return payload[:payload.rindex(b"\xff") + 1]


def without_choices(payload):
    """Returns a message without what only the client chooses: xid, and secs of a request."""
    return payload[:4] + bytes(4) + (bytes(2) if payload[0] == 1 else payload[8:10]) + payload[10:]


def without_tokens(text):
    """Returns a script without its tokens: one is made at the first script of an install."""
    return TOKEN.sub("TOKEN", text)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def options(octets):
    return Message(octets).options


