"""Manifests at start and on SIGHUP, and the effects of an invalid one."""

import hashlib
import itertools
import json
import os
import re
import socket
import subprocess
import threading

import pytest

from support.network import Peer
from support.waiting import eventually

CONFIG = """
manifests = "{manifests}"
[dhcp]
mode = "server"
[[dhcp.subnets]]
subnet = "10.99.0.0/24"
pools = ["10.99.0.100-10.99.0.119"]
"""
HOST_AND_ISO = """\
apiVersion: v1
kind: BareMetalHost
metadata: {{name: server1}}
spec: {{bootMACAddress: "52:54:00:00:00:09", image: {image}}}
---
apiVersion: v1
kind: ISCSICdrom
metadata: {{name: one}}
spec: {{isoFile: {iso}}}
"""
COMPANIONS = """\
{{apiVersion: v1, kind: ISCSICdrom, metadata: {{name: installer}}, spec: {{isoFile: {iso}, companions: [tools, one]}}}}
---
{{apiVersion: v1, kind: ISCSICdrom, metadata: {{name: tools}}, spec: {{isoFile: {iso}, companions: [drivers]}}}}
---
{{apiVersion: v1, kind: ISCSICdrom, metadata: {{name: drivers}}, spec: {{isoFile: {iso}}}}}
"""
CYCLE = """\
{{apiVersion: v1, kind: ISCSICdrom, metadata: {{name: d}}, spec: {{isoFile: {iso}, companions: [e]}}}}
---
{{apiVersion: v1, kind: ISCSICdrom, metadata: {{name: e}}, spec: {{isoFile: {iso}, companions: [d]}}}}
"""
INVALID_HOST = "apiVersion: v1\nkind: BareMetalHost\nmetadata: {name: b}\nspec: {bootMACAddress: nonsense}\n"
VALID_HOST = INVALID_HOST.replace("nonsense", '"52:54:00:00:00:0b"')
TWO_HOSTS = """\
{apiVersion: v1, kind: BareMetalHost, metadata: {name: later}, spec: {bootMACAddress: "52:54:00:00:00:0a", bootConfigRef: gone, image: localboot}}
---
{apiVersion: v1, kind: BareMetalHost, metadata: {name: server3}, spec: {bootMACAddress: "52:54:00:00:00:0c"}}
"""
BROKEN_CONFIG = "apiVersion: v1\nkind: BootConfig\nmetadata: {name: gone}\nspec: {format: script, password: hunter2hunter2\n"
VALID_CONFIG = 'apiVersion: v1\nkind: BootConfig\nmetadata: {name: gone}\nspec: {format: script, data: {script: "true"}}\n'


class Notifications:
    """The socket of systemd's notifications, and what was sent to it."""

    def __init__(self, path):
        self.path, self.messages = path, []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        os.chmod(path, 0o666)
        threading.Thread(target=self.receive, daemon=True).start()

    def receive(self):
        while message := self.socket.recv(4096):
            self.messages.append(message.decode())

    @property
    def lines(self):
        return "\n".join(self.messages).splitlines()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Appliance:
    """A server as its default user, with a directory of manifests and an ISO."""

    def __init__(self, start_server, folder):
        self.folder, self.manifests = folder, folder / "manifests"
        self.manifests.mkdir(parents=True)
        (folder / "files").mkdir()
        (folder / "files/file").write_text("content\n")
        self.iso = folder / "a.iso"
        subprocess.run(["genisoimage", "-quiet", "-V", "MANIFEST", "-o", self.iso, folder / "files"], check=True)
        self.notifications = Notifications(folder / "notify")
        self.start_server, self.server = start_server, None

    def start(self):
        """Starts the server, or starts it again, and waits until it reports that it is ready."""
        self.notifications.messages.clear()
        if self.server:
            self.server.restart()
        else:
            self.server = self.start_server(CONFIG.format(manifests=self.manifests), interface="lan0", address="10.99.0.2", user=None,
                                            environment={"NOTIFY_SOCKET": str(self.notifications.path)})
        assert eventually(lambda: "READY=1" in self.notifications.lines, 30), f"the server reports READY=1: {self.server.tail()}"

    def reload(self):
        self.server.reload("manifests applied directory=")

    def write(self, name, text):
        (self.manifests / name).write_text(text)

    def logged(self, pattern):
        """Returns whether a line matches that was logged since the latest start or reload."""
        return re.search(pattern, self.server.recent_log())

    def lists(self, pattern, noun="host"):
        """Returns whether a line of `host list` or of another noun's list matches."""
        return re.search(pattern, self.server.run(noun, "list").stdout, re.M)

    def problems(self):
        """Returns the lines of /readyz while it is 503; nothing while it is 200."""
        answer = self.server.ask("GET", "/readyz", token=None)
        assert answer.code in (200, 503), f"/readyz is 200 or 503: {answer}"
        return answer.text.splitlines() if answer.code == 503 else []

    def is_not_applied(self, place):
        return any(line.endswith(f"manifest not applied: {place}") for line in self.problems())

    def events(self, event):
        return [entry for entry in self.server.ask("GET", "/api/v1/timeline").json["items"] if entry["event"] == event]

    def status(self, pattern):
        """Returns whether systemd was sent a matching status."""
        return any(re.search(f"^STATUS={pattern}", line) for line in list(self.notifications.lines))


@pytest.fixture(scope="module")
def peer(private_network):
    """A machine at the other end of the wire lan0."""
    peer = Peer("lan0", "far0", "10.99.0.2/24")
    yield peer
    peer.close()


@pytest.fixture
def appliance(start_server, peer, place, count=itertools.count()):
    appliance = Appliance(start_server, place / f"appliance{next(count)}")
    yield appliance
    if appliance.server:
        appliance.server.close()
    appliance.notifications.close()


def test_manifests_at_start_and_on_sighup(appliance):
    appliance.write("a.yaml", HOST_AND_ISO.format(image="one", iso=appliance.iso))
    appliance.start()
    server = appliance.server
    assert eventually(lambda: appliance.lists("Assigned")), "a host before its ISO in the file: both are created"
    # A viewer must not be able to guess a password in the manifest from a digest of its text, whole or in part.
    mark = json.loads(server.run("get", "host", "server1", "-o", "json").stdout)["metadata"]["annotations"]["bootlatch.org/manifest"]
    text = (appliance.manifests / "a.yaml").read_text().split("---\n")[0].rstrip("\n")
    assert mark and hashlib.sha256(text.encode()).hexdigest()[:16] not in mark, f"the annotation of the manifest is not a digest of its text: {mark}"
    mode = oct((server.state / "manifest.key").stat().st_mode & 0o777)
    assert mode == "0o600", f"the annotation is made with a key that only its owner can read: {mode}"
    assert not appliance.problems(), "the server is ready"
    appliance.write("a.yaml", HOST_AND_ISO.format(image="localboot", iso=appliance.iso))
    appliance.reload()
    assert eventually(lambda: appliance.lists("localboot")), "SIGHUP applies a changed manifest"
    server.run("host", "assign", "server1", "--image", "one")
    appliance.reload()
    assert eventually(lambda: appliance.logged("written=0")) and appliance.lists("Assigned"), "an unchanged manifest does not undo a later change"
    appliance.write("0.yaml", COMPANIONS.format(iso=appliance.iso))
    appliance.reload()
    assert eventually(lambda: appliance.lists("installer", "iso")), "companion ISOs are created before the ISOs that name them"
    appliance.write("d.yaml", COMPANIONS.split("---\n")[2].format(iso=appliance.iso).replace("drivers", "d").replace("}}\n", ", companions: [nobody]}}\n"))
    appliance.reload()
    assert eventually(lambda: appliance.logged("d.yaml: line 1: spec.companions: .*nobody")), (
        "a companion that does not exist is refused by its field")
    appliance.write("d.yaml", CYCLE.format(iso=appliance.iso))
    appliance.reload()
    assert eventually(lambda: appliance.logged("d.yaml: line [13]: spec.companions: .* cycle")), "companions in a cycle are refused by their field"


def test_an_invalid_manifest_on_sighup(appliance):
    appliance.write("a.yaml", HOST_AND_ISO.format(image="one", iso=appliance.iso))
    appliance.start()
    server = appliance.server
    appliance.write("b.yaml", INVALID_HOST)
    appliance.reload()
    assert eventually(lambda: appliance.logged("b.yaml: line 4")), "an invalid manifest is named with its file and line"
    assert appliance.lists("Assigned"), "the server continues"
    assert eventually(lambda: appliance.is_not_applied("b.yaml: line 4")), f"the server is not ready, and /readyz names the place: {appliance.problems()}"
    assert not any("nonsense" in line for line in appliance.problems()), f"/readyz does not show the value: {appliance.problems()}"
    assert server.ask("GET", "/healthz", token=None).code == 200, "the server is healthy"
    assert eventually(lambda: any("b.yaml: line 4" in json.dumps(entry) for entry in appliance.events("manifest_invalid"))), (
        f"the timeline names the place: {appliance.events('manifest_invalid')}")
    assert appliance.logged("ERROR.*b.yaml: line 4"), "the log has an error with the place"
    assert eventually(lambda: appliance.status("Serving; manifest not applied: b.yaml: line 4")), (
        f"systemd's status names the place: {appliance.notifications.lines}")


def test_invalid_manifests_at_start(appliance, peer):
    # Files that are not manifests: hidden ones, an editor's lock that leads nowhere, and its copies.
    for name in (".h.yaml", "a.yaml~", "#a.yaml#", "a.yaml.bak"):
        appliance.write(name, "nonsense: [\n")
    (appliance.manifests / ".#a.yaml").symlink_to("somebody@somewhere.1234")
    appliance.write("b.yaml", INVALID_HOST)
    appliance.write("c.yaml", TWO_HOSTS)
    appliance.write("gone.yml", BROKEN_CONFIG)
    appliance.start()
    server = appliance.server
    assert appliance.lists("server3"), "the server applies the valid manifests"
    assert appliance.logged("ERROR.*b.yaml: line 4.*nonsense"), "an invalid value is logged with its line"
    assert appliance.logged("ERROR.*gone.yml: line"), "broken YAML is logged with its line"
    assert not appliance.logged("hunter2"), "the log does not quote broken YAML"
    assert appliance.logged("ERROR.*c.yaml: line 1: spec.bootConfigRef"), "a reference to a missing object is logged with its line"
    assert len(appliance.problems()) == 3, f"the server is not ready because of these three manifests: {appliance.problems()}"
    assert eventually(lambda: appliance.status("Serving; .*b.yaml: line 4, and 2 more")), f"systemd's status counts them: {appliance.notifications.lines}"
    lease = peer.run("busybox", "udhcpc", "-q", "-n", "-t", "5", "-T", "1", "-i", "far0", "-s", "/bin/true")
    assert re.search(r"lease of 10\.99\.0\.1[01]", lease.stdout + lease.stderr), f"a DHCP client gets its lease: {lease}"
    script = server.ask("GET", "/ipxe?mac=52:54:00:00:00:0c", token=None)
    assert "#!ipxe" in script.text, f"a machine gets its script: {script}"
    applied = server.run("apply", "-f", appliance.manifests, "--dry-run")
    assert re.search("gone.yml: .*line 4", applied.stdout + applied.stderr), f"apply of the directory reads the same files and names the broken one: {applied}"

    appliance.write("b.yaml", VALID_HOST)
    appliance.write("gone.yml", VALID_CONFIG)
    appliance.start()
    assert appliance.lists("^b ") and appliance.lists("^later .*gone") and not appliance.problems(), "a restart applies the corrected manifests"
    assert eventually(lambda: appliance.status(r"Serving\.$")), f"systemd's status names no manifest: {appliance.notifications.lines}"


def test_a_host_that_is_declared_twice(appliance):
    """One text gives the host an image, the other does not: each would undo the other at every start."""
    appliance.write("a.yaml", HOST_AND_ISO.format(image="one", iso=appliance.iso))
    appliance.write("b.yaml", VALID_HOST)
    appliance.write("c.yaml", TWO_HOSTS)
    appliance.write("gone.yml", VALID_CONFIG)
    appliance.start()
    server = appliance.server
    version = lambda: json.loads(server.run("get", "host", "server3", "-o", "json").stdout)["metadata"]["resourceVersion"]
    before = version()
    appliance.write("z.yaml", '{apiVersion: v1, kind: BareMetalHost, metadata: {name: server3}, spec: {bootMACAddress: "52:54:00:00:00:0c", image: one}}\n')
    error = "ERROR.*c.yaml: line 3: BareMetalHost default/server3 is declared more than once, also in .*z.yaml line 1"
    for how, load in (("SIGHUP", appliance.reload), ("a restart", appliance.start), ("a second restart", appliance.start)):
        load()
        assert eventually(lambda: appliance.logged(error)), f"declared twice, {how}: an error names both places: {server.tail()}"
        assert before and version() == before and not [entry for entry in appliance.events("assigned") if entry["host"] == "server3"], (
            f"declared twice, {how}: nothing changes and no install starts")
        assert eventually(lambda: appliance.is_not_applied("c.yaml: line 3")), f"declared twice, {how}: the server is not ready: {appliance.problems()}"
    refused = server.run("apply", "-f", appliance.manifests)
    assert re.search(r"z\.yaml: .*server3: already declared in .*c\.yaml", refused.stdout + refused.stderr), f"apply of the directory refuses it: {refused}"
    (appliance.manifests / "z.yaml").unlink()
    appliance.write("b.yaml", VALID_HOST + "---\n" + VALID_HOST)
    appliance.reload()
    assert eventually(lambda: appliance.logged("ERROR.*b.yaml: line 1: BareMetalHost default/b is declared more than once, also in .*b.yaml line 6")), (
        f"a host that is declared twice in one file is an error: {server.tail()}")
    appliance.write("b.yaml", VALID_HOST)
    appliance.reload()
    assert eventually(lambda: not appliance.problems()), f"the server is ready after SIGHUP with a corrected manifest: {appliance.problems()}"


def test_a_missing_directory_on_sighup(appliance):
    appliance.start()
    appliance.manifests.rename(appliance.folder / "elsewhere")
    appliance.server.reload("No such file or directory")
    gone = lambda: any("manifest directory unreadable" in line for line in appliance.problems())
    assert eventually(gone), f"a missing directory is reported, and the server continues: {appliance.problems()}"
    (appliance.folder / "elsewhere").rename(appliance.manifests)
    appliance.reload()
    assert eventually(lambda: not appliance.problems()), f"the server is ready once the directory is back: {appliance.problems()}"


def test_a_wrong_document_among_others(appliance):
    """A document of another program, or a wrong one, does not hinder the others of its file; a List is read as its items."""
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"
    numbered = VALID_HOST + "---\n" + VALID_HOST.replace("name: b", "name: d, labels: {rack: 1}").replace(":0b", ":0d")
    appliance.write("a.yaml", f"{pod}---\n{HOST_AND_ISO.format(image='one', iso=appliance.iso)}---\n{numbered}")
    items = "".join(f"- {json.dumps({'apiVersion': 'v1', 'kind': 'BareMetalHost', 'metadata': {'name': name}, 'spec': {'bootMACAddress': f'52:54:00:00:01:0{number}'}})}\n"
                    for number, name in enumerate(("item1", "item2")))
    appliance.write("list.yaml", f"apiVersion: v1\nkind: List\nmetadata: {{}}\nitems:\n{items}- {{apiVersion: v1, kind: Secret}}\n")
    appliance.start()
    for name in ("server1", "b", "item1", "item2"):
        assert eventually(lambda: appliance.lists(f"^{name} ")), f"{name} is created: {appliance.server.tail()}"
    assert not appliance.lists("^d "), "a label that is no string is refused, as in the API"
    for place in ("a.yaml: line 2", "a.yaml: line 21", "list.yaml: line 1"):
        assert eventually(lambda: any(place.rsplit(" ", 1)[0] in line for line in appliance.problems())), f"/readyz names {place}: {appliance.problems()}"
    assert appliance.logged("ERROR.*a.yaml: line .*Pod") and appliance.logged("ERROR.*metadata.labels.rack") and appliance.logged(r"ERROR.*items\[2\].kind"), (
        f"the log names what is wrong: {appliance.server.tail()}")
