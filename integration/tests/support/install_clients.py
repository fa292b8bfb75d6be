"""Scripted machines that install over real DHCP, TFTP, HTTP and iSCSI, and an operator who changes objects meanwhile.

Each writes what it sent and what was acknowledged to a log of its own, before it goes on. `crash_checker.py` reads the
logs.
"""

import http.client
import json
import re
import socket
import threading

from support import tftp_reader
from support.dhcp_wire import ACK, DISCOVER, OFFER, REQUEST, Client, pxe
from support.iscsi_initiator import Ended, Initiator, Refused
from support.iso_uploads import iso_of, sha
from support.lan import enter
from support.objects import HOSTS, IMAGES, host
from support.waiting import slowness

REPLY_WAIT = 0.5  # seconds until a lost DHCP message is sent again, on the reference machine
KEPT = 0.2  # share of an operator's objects that are not deleted
THINK_TIME = 0.1  # seconds between two objects of an operator
RETRY_INTERVAL = 0.05  # seconds between two attempts of a client whose server is down
REQUEST_LIMIT = 5  # seconds for an HTTP request, on the reference machine
MERGE = "application/merge-patch+json"


class Interrupted(Exception):
    """The server did not answer as it must; the machine starts again from its power-on."""


class RunEnded(Exception):
    """The test is over, and no server will answer any more."""


class Log:
    """What one client sent and what was acknowledged to it, a JSON object a line."""

    def __init__(self, path):
        self.path, self.events = path, []
        self.file = open(path, "ab", buffering=0)

    def write(self, event, **about):
        entry = {"event": event, **about}
        self.file.write(json.dumps(entry).encode() + b"\n")
        self.events.append(entry)


class Http:
    """HTTP requests to the server, each over a connection of its own."""

    def __init__(self, address):
        self.address = address

    def ask(self, method, path, body=None, token=None, kind="application/json"):
        """Returns the status code and the body."""
        headers = {"Content-Type": kind} if body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection(self.address, 80, timeout=REQUEST_LIMIT * slowness())
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Interrupted(f"{method} {path.split('?')[0]}: {error!r}") from None
        finally:
            connection.close()


class Actor(threading.Thread):
    """A thread in a network namespace that works until it is stopped, whatever the server does."""

    def __init__(self, testbed, name, space):
        super().__init__(name=name, daemon=True)
        self.testbed, self.space = testbed, space
        self.log = Log(testbed.folder / f"{name}.log")
        self.http = Http(testbed.address)
        self.error = None

    def run(self):
        try:
            enter(self.space)
            while not self.is_done():
                self.testbed.power.wait()
                try:
                    self.work()
                except Interrupted as why:
                    self.interrupted(why)
        except RunEnded:
            pass
        except Exception as error:  # reported by the test
            self.error = error

    def interrupted(self, why):
        """Logs a failed attempt, and waits for the next one."""
        self.log.write("interrupted", why=str(why))
        self.testbed.ended.wait(RETRY_INTERVAL)
        if self.testbed.ended.is_set():
            raise RunEnded

    def is_done(self):
        return self.testbed.stopping.is_set()


class Machine(Actor):
    """A machine that installs, boots its disk, has its install asked for again, and so on."""

    def __init__(self, testbed, number, space, mac):
        super().__init__(testbed, f"machine{number}", space)
        self.number, self.mac = number, mac
        self.address = None
        self.is_installed = self.is_checked = False

    def is_done(self):
        return self.testbed.stopping.is_set() and self.is_installed and self.is_checked

    def work(self):
        """Boots once from power-on."""
        file = self.take_address()
        if self.is_installed and self.is_checked:
            self.ask_for_install()
            return
        if file:
            self.load_program(file)
        script = self.read_script()
        if "sanboot iscsi:" in script:
            self.install(script)
        elif self.log.events[-1]["verdict"] == "disk":
            if not self.is_installed:
                # The report of the completed install was not answered, but it counted.
                self.is_installed = True
                self.log.write("complete_seen")
            self.is_checked = True

    def take_address(self):
        """Gets an address over DHCP; returns the boot file that the offer names."""
        with Client(self.space, self.mac) as client:
            for _ in range(8):
                client.send(DISCOVER, pxe(7))
                offer = client.replies(REPLY_WAIT, enough=len)
                if not offer or offer[0].kind != OFFER:
                    continue
                self.log.write("dhcp_offer", address=offer[0].yiaddr, file=offer[0].file)
                wanted = [(50, socket.inet_aton(offer[0].yiaddr)), (54, offer[0].options[54])]
                client.send(REQUEST, pxe(7) + wanted)
                ack = client.replies(REPLY_WAIT, enough=len)
                if ack and ack[0].kind == ACK:
                    self.log.write("dhcp_ack", address=ack[0].yiaddr, file=ack[0].file)
                    self.use_address(ack[0].yiaddr)
                    return ack[0].file
        raise Interrupted("DHCP: no answer")

    def use_address(self, address):
        if address != self.address:
            self.testbed.lan.ip(self.space, "address", "flush", "dev", "lan0")
            self.testbed.lan.ip(self.space, "address", "add", f"{address}/24", "dev", "lan0")
            self.address = address

    def load_program(self, file):
        try:
            data = tftp_reader.read(self.testbed.address, file, REPLY_WAIT)
        except (OSError, tftp_reader.TransferFailed) as error:
            raise Interrupted(f"TFTP: {error}") from None
        self.log.write("tftp", file=file, is_whole=data == self.testbed.program)

    def read_script(self):
        code, body = self.http.ask("GET", f"/ipxe?mac={self.mac}")
        script = body.decode()
        if code != 200:
            raise Interrupted(f"script: {code} {script}")
        verdict = "install" if "sanboot iscsi:" in script else "wait" if "Asking again" in script else "disk"
        self.log.write("script", verdict=verdict)
        return script

    def install(self, script):
        """Reads the ISO and the config, and reports that the install is complete."""
        self.read_iso(script)
        code, body = self.http.ask("GET", "/api/v1/bootconfig")
        if code != 200:
            raise Interrupted(f"config: {code} {body!r}")
        self.log.write("config", is_whole=body.decode() == self.testbed.config)
        self.log.write("complete_sent")
        code, body = self.http.ask("POST", "/api/v1/boot-complete", b"")
        if code != 200:
            raise Interrupted(f"boot-complete: {code} {body!r}")
        self.is_installed, self.is_checked = True, False
        self.log.write("complete_acked")

    def read_iso(self, script):
        port, target = re.search(r"sanboot iscsi:[^:]*::(\d*):[^:]*:(\S+)", script).groups()
        name = re.search(r"set initiator-iqn (\S+)", script)[1]
        try:
            session = Initiator(int(port or 3260), target, name=name, address=self.testbed.address, limit=REQUEST_LIMIT)
            data = b""
            for block in range(0, 24, 8):  # READ(10) of 8 blocks
                data += session.good(bytes([0x28, 0, 0, 0, 0, block, 0, 0, 8]))
            session.stream.close()
        except (OSError, Ended, Refused, AssertionError) as error:
            raise Interrupted(f"iSCSI: {error!r}") from None
        self.log.write("iscsi_read", is_whole=data == self.testbed.iso[:len(data)] and len(data) == 24 * 2048)

    def ask_for_install(self):
        """Has the operator ask for another install."""
        self.log.write("install_sent")
        self.is_checked = False
        while True:
            try:
                code, body = self.http.ask("POST", f"{HOSTS}/machine{self.number}/install", b"{}", self.testbed.token)
            except Interrupted as why:
                self.interrupted(why)
                continue
            if code != 200:
                self.interrupted(f"install: {code} {body!r}")
                continue
            self.is_installed = False
            self.log.write("install_acked")
            return


class Operator(Actor):
    """Creates, changes and deletes hosts and ISOs. Every request is sent again until it is answered."""

    def __init__(self, testbed, number, space, dice):
        super().__init__(testbed, f"operator{number}", space)
        self.number, self.dice, self.count = number, dice, 0

    def is_done(self):
        return self.testbed.stopping.is_set()

    def work(self):
        self.testbed.ended.wait(THINK_TIME)
        self.count += 1
        name = f"own{self.number}-{self.count}"
        if self.dice.random() < 0.5:
            self.host(name)
        else:
            self.iso(name)

    def host(self, name):
        number = 0x100000 * (self.number + 1) + self.count
        self.change("host", name, "localboot", "POST", HOSTS, host(name, number, image="localboot"), (201, 409))
        self.change("host", name, "live", "PATCH", f"{HOSTS}/{name}", {"spec": {"image": "live"}}, (200,))
        if self.dice.random() > KEPT:
            self.change("host", name, None, "DELETE", f"{HOSTS}/{name}", None, (200, 404))

    def iso(self, name):
        data = iso_of(self.dice.randrange(60_000, 200_000), name)
        query = f"name={name}&sha256={sha(data)}"
        if self.dice.random() < 0.5:
            query += f"&resume={sha(name.encode())[:32]}&offset=0"
        self.change("iso", name, sha(data), "POST", f"{IMAGES}/upload?{query}", data, (201, 409))
        if self.dice.random() > KEPT:
            self.change("iso", name, None, "DELETE", f"{IMAGES}/{name}", None, (200, 404))

    def change(self, kind, name, state, method, path, body, done):
        """Makes one change, and logs what it is to lead to before and after."""
        media = "application/octet-stream" if isinstance(body, bytes) else MERGE if method == "PATCH" else "application/json"
        body = json.dumps(body).encode() if isinstance(body, dict) else body
        self.log.write("sent", kind=kind, name=name, state=state)
        while True:
            try:
                code, text = self.http.ask(method, path, body, self.testbed.token, media)
            except Interrupted as why:
                self.interrupted(why)
                continue
            if code in done and (code != 409 or b"AlreadyExists" in text):
                self.log.write("acked", kind=kind, name=name, state=state)
                return
            self.log.write("refused", kind=kind, name=name, code=code, text=text.decode(errors="replace")[:300])
            if code == 422:
                raise Interrupted(f"{method} {path.split('?')[0]}: {code}")  # it would be refused for ever
