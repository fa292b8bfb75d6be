"""The clients of the soak test that install: machines, operators, and a holder of tokens.

Each pause is divided by the testbed's rate. A failure counts as a finding unless the server was down shortly before.
"""

import collections
import http.client
import json
import random
import re
import socket
import time

from support.dhcp_wire import ACK, DISCOVER, OFFER, REQUEST, Client, pxe
from support.install_clients import REQUEST_LIMIT, Actor, Http, Interrupted, Machine, Operator, RunEnded
from support.objects import HOSTS, IMAGES
from support.waiting import slowness

MAX_KEPT = 20  # objects of an operator that are not deleted
DOWN = 12  # seconds after a restart within which a client may still fail because of it, on the reference machine


class TimedHttp(Http):
    """HTTP requests whose durations are noted, unless the server was down meanwhile."""

    def __init__(self, testbed):
        super().__init__(testbed.address)
        self.testbed = testbed

    def ask(self, method, path, body=None, token=None, kind="application/json"):
        start = time.monotonic()
        answer = super().ask(method, path, body, token, kind)
        if not self.testbed.was_down(time.monotonic() - start):
            self.testbed.slowest.note(time.monotonic() - start, f"{method} {re.sub(r'[0-9a-f]{16,}', 'TOKEN', path)[:70]}")
        return answer

    def json(self, method, path, body=None, kind="application/json"):
        """Sends an operator's request that must succeed; returns the decoded reply."""
        body = body if body is None else json.dumps(body).encode()
        code, text = self.ask(method, path, body, self.testbed.token, kind)
        if code not in (200, 201):
            raise Interrupted(f"{method} {path}: {code} {text[:300]!r}")
        return json.loads(text)


class Paced:
    """An actor that pauses between its steps."""

    def __init__(self, testbed, *arguments):
        super().__init__(testbed, *arguments)
        self.http = TimedHttp(testbed)
        self.chance = random.Random(self.name)

    def pause(self, seconds):
        """Waits about that long, more or less by half, at the testbed's rate."""
        self.testbed.ended.wait(seconds * self.chance.uniform(0.5, 1.5) / self.testbed.rate)
        if self.testbed.ended.is_set():
            raise RunEnded

    def interrupted(self, why):
        if not self.testbed.was_down(DOWN * slowness()):
            self.testbed.findings.append(f"{self.name}: {why}, and the server was up")
        super().interrupted(why)


class SoakMachine(Paced, Machine):
    """A machine that pauses between its boots and within its installs, and shows its token to get its config."""

    def work(self):
        self.pause(1.5)
        start = time.monotonic()
        super().work()
        if not self.testbed.was_down(time.monotonic() - start):
            self.testbed.slowest_boot.note(time.monotonic() - start, f"boot of {self.name}, with its pauses")

    def install(self, script):
        token = token_of(script)
        self.pause(1)
        self.read_iso(script)
        self.pause(0.5)
        code, body = self.http.ask("GET", f"/api/v1/bootconfig?token={token}")
        if code != 200:
            raise Interrupted(f"config: {code} {body!r}")
        self.log.write("config", is_whole=body.decode() == self.testbed.config)
        self.pause(1)
        self.log.write("complete_sent")
        code, body = self.http.ask("POST", f"/api/v1/boot-complete?token={token}", b"")
        if code != 200:
            raise Interrupted(f"boot-complete: {code} {body!r}")
        self.is_installed, self.is_checked = True, False
        self.log.write("complete_acked")


class SoakOperator(Paced, Operator):
    """An operator that keeps at most `MAX_KEPT` of its objects."""

    def __init__(self, testbed, number, space, dice):
        super().__init__(testbed, number, space, dice)
        self.kept = collections.deque()

    def work(self):
        self.pause(0.5)
        super().work()
        last = self.log.events[-1]
        if last["event"] == "acked" and last["state"] is not None:
            self.kept.append((last["kind"], last["name"]))
        if len(self.kept) > MAX_KEPT:
            kind, name = self.kept.popleft()
            self.change(kind, name, None, "DELETE", f"{HOSTS if kind == 'host' else IMAGES}/{name}", None, (200, 404))


class LeaseClient(Paced, Actor):
    """Hosts of the fleet, simulated by one interface, that get their addresses and renew them."""

    def __init__(self, testbed, space, macs):
        super().__init__(testbed, "leases", space)
        self.macs, self.leases = macs, 0

    def work(self):
        self.pause(0.15)
        with Client(self.space, self.chance.choice(self.macs)) as client:
            for _ in range(8):
                client.send(DISCOVER, pxe(7))
                offer = client.reply(2)
                if offer is None or offer.kind != OFFER:
                    continue
                client.send(REQUEST, pxe(7) + [(50, socket.inet_aton(offer.yiaddr)), (54, offer.options[54])])
                ack = client.reply(2)
                if ack is not None and ack.kind == ACK:
                    self.leases += 1
                    return
        raise Interrupted("DHCP: no answer")


class TokenHolder:
    """A machine, a virtual medium and a Redfish session whose tokens are used after a clock step or a restart.

    Its methods run in the namespace of the host "holder"."""

    def __init__(self, testbed, mac):
        self.http, self.testbed, self.mac = TimedHttp(testbed), testbed, mac
        self.token = self.medium = self.session = None

    def take(self):
        """Starts an install, and takes its token, a virtual medium and a Redfish session."""
        self.http.json("POST", f"{HOSTS}/holder/install", {})
        _, body = self.http.ask("GET", f"/ipxe?mac={self.mac}")
        self.token = token_of(body.decode())
        self.http.json("POST", f"{HOSTS}/medium/install", {})
        self.medium = self.http.json("POST", f"{HOSTS}/medium/virtualmedia")["url"].removeprefix(f"http://{self.testbed.address}")
        login = {"UserName": "soak", "Password": self.testbed.token}
        code, headers, text = self.redfish("POST", "/redfish/v1/SessionService/Sessions", json.dumps(login))
        if code != 201:
            raise Interrupted(f"Redfish session: {code} {text[:200]!r}")
        self.session = {"X-Auth-Token": headers["X-Auth-Token"]}, headers["Location"]

    def redfish(self, method, path, body=None, headers=()):
        """Returns the code, the headers and the body of a response of the Redfish service."""
        connection = http.client.HTTPConnection(self.testbed.address, 80, timeout=REQUEST_LIMIT * slowness())
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **dict(headers)})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Interrupted(f"{method} {path}: {error!r}") from None
        finally:
            connection.close()

    def check(self, when, with_session=True):
        """Adds a finding for each token that does not work."""
        uses = [("config", f"/api/v1/bootconfig?token={self.token}", None), ("virtual medium", self.medium, None),
                ("API", f"{HOSTS}/holder", self.testbed.token)]
        codes = {what: self.http.ask("GET", path, token=token) for what, path, token in uses}
        if with_session:
            code, _, text = self.redfish("GET", "/redfish/v1/SessionService", headers=self.session[0])
            codes["Redfish session"] = code, text
        self.testbed.findings += [f"{when}: {what}: {code} {text[:200]!r}" for what, (code, text) in codes.items() if code != 200]

    def finish(self, when, with_session=True):
        """Reports that the install is complete, and ends the session."""
        code, body = self.http.ask("POST", f"/api/v1/boot-complete?token={self.token}", b"")
        phase = self.http.json("GET", f"{HOSTS}/holder")["status"]["phase"]
        if (code, phase) != (200, "Installed"):
            self.testbed.findings.append(f"{when}: the report of the install: {code} {body[:200]!r}, and the phase is {phase}")
        if with_session:
            self.redfish("DELETE", self.session[1], headers=self.session[0])

    def steps(self):
        """Returns how many steps of the clock the timeline of the host names."""
        items = self.http.json("GET", f"{HOSTS}/holder/timeline")["items"]
        return sum(entry.get("count", 1) for entry in items if entry["event"] == "clock_stepped")


def token_of(script):
    """Returns the token that a script names the config with."""
    found = re.search(r"set config-url \S+?[?&]token=([0-9a-f]+)", script)
    if not found:
        raise Interrupted(f"no token in the script: {script[:300]}")
    return found[1]
