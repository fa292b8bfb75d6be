"""The clients of the soak test: machines and operators that pause, and clients that watch, list, read and replace.

Each pause is divided by the world's rate. A failure counts as a finding unless the server was down shortly before.
"""

import collections
import contextlib
import http.client
import json
import random
import re
import socket
import time

from support.dhcp_wire import ACK, DISCOVER, OFFER, REQUEST, Client, pxe
from support.install_clients import MERGE, REQUEST_LIMIT, Actor, Http, Interrupted, Machine, Operator, WorldEnded
from support.iscsi_initiator import Ended, Initiator, Refused
from support.iso_uploads import sha
from support.objects import HOSTS, IMAGES
from support.waiting import slowness

MAX_KEPT = 20  # objects of an operator that are not deleted
DOWN = 12  # seconds after a restart within which a client may still fail because of it, on the reference machine
PIECE = 65536  # octets that a reader of an ISO takes at a time
BLOCKS = 16  # blocks of 2048 octets that a READ(10) asks for
ABSENCE = 30  # seconds until a replaced ISO must be served again, on the reference machine


class TimedHttp(Http):
    """HTTP requests whose durations are noted, unless the server was down meanwhile."""

    def __init__(self, world):
        super().__init__(world.address)
        self.world = world

    def ask(self, method, path, body=None, token=None, kind="application/json"):
        start = time.monotonic()
        answer = super().ask(method, path, body, token, kind)
        if not self.world.was_down(time.monotonic() - start):
            self.world.slowest.note(time.monotonic() - start, f"{method} {re.sub(r'[0-9a-f]{16,}', 'TOKEN', path)[:70]}")
        return answer

    def json(self, method, path, body=None, kind="application/json"):
        """Sends an operator's request that must succeed; returns the decoded reply."""
        body = body if body is None else json.dumps(body).encode()
        code, text = self.ask(method, path, body, self.world.token, kind)
        if code not in (200, 201):
            raise Interrupted(f"{method} {path}: {code} {text[:300]!r}")
        return json.loads(text)


class Paced:
    """An actor that pauses between its steps."""

    def __init__(self, world, *arguments):
        super().__init__(world, *arguments)
        self.http = TimedHttp(world)
        self.chance = random.Random(self.name)

    def pause(self, seconds):
        """Waits about that long, more or less by half, at the world's rate."""
        self.world.ended.wait(seconds * self.chance.uniform(0.5, 1.5) / self.world.rate)
        if self.world.ended.is_set():
            raise WorldEnded

    def interrupted(self, why):
        if not self.world.was_down(DOWN * slowness()):
            self.world.findings.append(f"{self.name}: {why}, and the server was up")
        super().interrupted(why)


class SoakMachine(Paced, Machine):
    """A machine that pauses between its boots and within its installs, and shows its token to get its config."""

    def work(self):
        self.pause(3)
        start = time.monotonic()
        super().work()
        if not self.world.was_down(time.monotonic() - start):
            self.world.slowest_boot.note(time.monotonic() - start, f"boot of {self.name}, with its pauses")

    def install(self, script):
        token = token_of(script)
        self.pause(2)
        self.read_iso(script)
        self.pause(1)
        code, body = self.http.ask("GET", f"/api/v1/bootconfig?token={token}")
        if code != 200:
            raise Interrupted(f"config: {code} {body!r}")
        self.log.write("config", is_whole=body.decode() == self.world.config)
        self.pause(2)
        self.log.write("complete_sent")
        code, body = self.http.ask("POST", f"/api/v1/boot-complete?token={token}", b"")
        if code != 200:
            raise Interrupted(f"boot-complete: {code} {body!r}")
        self.is_installed, self.is_checked = True, False
        self.log.write("complete_acked")


class SoakOperator(Paced, Operator):
    """An operator that keeps at most `MAX_KEPT` of its objects."""

    def __init__(self, world, number, space, dice):
        super().__init__(world, number, space, dice)
        self.kept = collections.deque()

    def work(self):
        self.pause(1)
        super().work()
        last = self.log.events[-1]
        if last["event"] == "acked" and last["state"] is not None:
            self.kept.append((last["kind"], last["name"]))
        if len(self.kept) > MAX_KEPT:
            kind, name = self.kept.popleft()
            self.change(kind, name, None, "DELETE", f"{HOSTS if kind == 'host' else IMAGES}/{name}", None, (200, 404))


class Changer(Paced, Actor):
    """A controller that labels the hosts of its share of the fleet, and notes the version of each acknowledged change."""

    def __init__(self, world, number, space):
        super().__init__(world, f"changer{number}", space)
        self.number, self.acknowledged = number, []

    def work(self):
        self.pause(0.15)
        name = self.world.fleet_host(self.chance, self.number)
        label = f"{self.chance.randrange(1 << 30):08x}"
        self.world.labels.setdefault(name, {None}).add(label)
        found = self.http.json("PATCH", f"{HOSTS}/{name}", {"metadata": {"labels": {"soak": label}}}, MERGE)
        self.acknowledged.append(int(found["metadata"]["resourceVersion"]))
        self.world.labels[name] = {label}


class Watcher(Paced, Actor):
    """A client that watches the hosts for `stays` seconds at a time. It must see each change of the changers.

    One with `cuts` closes its connection after some events; one with a `query` sees a part of the hosts."""

    def __init__(self, world, number, space, stays=600, cuts=False, query=""):
        super().__init__(world, f"watcher{number}", space)
        self.stays, self.cuts, self.query = stays, cuts, query
        self.start_version = self.version = self.connection = None
        self.seen, self.events, self.expired = set(), 0, 0

    def work(self):
        if self.version is None:
            found = self.http.json("GET", f"{HOSTS}?limit=1{self.query}")
            self.seen.clear()
            self.start_version = self.version = int(found["metadata"]["resourceVersion"])
        path = f"{HOSTS}?watch=true&allowWatchBookmarks=true&resourceVersion={self.version}&timeoutSeconds={self.stays}{self.query}"
        self.connection = http.client.HTTPConnection(self.world.address, 80, timeout=self.stays + REQUEST_LIMIT * slowness())
        try:
            self.connection.request("GET", path, headers={"Authorization": f"Bearer {self.world.token}"})
            answer = self.connection.getresponse()
            if answer.status != 200:
                raise Interrupted(f"watch: {answer.status} {answer.read(300)!r}")
            self.follow(answer)
        except (OSError, http.client.HTTPException) as error:
            if not self.is_done():
                raise Interrupted(f"watch: {error!r}") from None
        finally:
            self.connection.close()

    def follow(self, answer):
        """Reads events until the watch ends or is cut."""
        most = self.chance.randrange(1, 200) if self.cuts else float("inf")
        count = 0
        while count < most and not self.is_done() and (line := answer.readline()):
            count += 1
            if not self.take(json.loads(line)):
                return

    def take(self, event):
        """Notes one event; returns whether the watch goes on."""
        if event["type"] == "ERROR":
            if event["object"]["code"] != 410:
                raise Interrupted(f"watch: {event}")
            if not self.world.was_down(DOWN * slowness()):
                self.world.findings.append(f"{self.name}: version {self.version} expired, and the server was up")
            self.check()
            self.version, self.expired = None, self.expired + 1
            return False
        version = int(event["object"]["metadata"]["resourceVersion"])
        if event["type"] != "BOOKMARK":
            if version <= self.version:
                self.world.findings.append(f"{self.name}: version {version} came after {self.version}")
            self.seen.add(version)
            self.events += 1
        self.version = max(self.version, version)
        return True

    def check(self):
        """Adds a finding if the watch has passed an acknowledged change without an event."""
        start, end, seen = self.start_version, self.version, set(self.seen)
        if self.query or end is None:
            return
        lost = {version for changer in self.world.changers for version in list(changer.acknowledged)
                if start < version <= end} - seen
        if lost:
            self.world.findings.append(f"{self.name}: no event for the versions {sorted(lost)[:10]} ({len(lost)} in all)")

    def close(self):
        """Cuts the connection, from another thread."""
        with contextlib.suppress(AttributeError, OSError):
            self.connection.sock.shutdown(socket.SHUT_RDWR)


class Reader(Paced, Actor):
    """A dashboard: lists by pages, timelines, metrics and pages of the web interface."""

    def __init__(self, world, space):
        super().__init__(world, "reader", space)
        self.reads = 0

    def work(self):
        self.pause(2)
        getattr(self, self.chance.choice(("pages", "host", "timeline", "metrics", "refused")))()
        self.reads += 1

    def pages(self):
        """Lists all hosts by pages of 500, which must be of one version."""
        names, token, versions = set(), "", set()
        while True:
            found = self.http.json("GET", f"{HOSTS}?limit=500&continue={token}")
            names |= {item["metadata"]["name"] for item in found["items"]}
            versions.add(found["metadata"]["resourceVersion"])
            token = found["metadata"].get("continue")
            if not token:
                break
            self.pause(0.2)
        if len(names) < self.world.fleet or len(versions) != 1:
            self.world.findings.append(f"{self.name}: {len(names)} hosts of the versions {versions}")

    def host(self):
        """Reads a host, which must have the label that was acknowledged last or is being set."""
        name = self.world.fleet_host(self.chance)
        allowed = self.world.labels.get(name, {None})
        found = self.http.json("GET", f"{HOSTS}/{name}")["metadata"]["labels"].get("soak")
        if found not in allowed | self.world.labels.get(name, {None}):
            self.world.findings.append(f"{self.name}: {name} has the label {found}, and {allowed} was acknowledged")

    def timeline(self):
        name = self.chance.choice(("machine0", "machine1", self.world.fleet_host(self.chance)))
        self.http.json("GET", f"{HOSTS}/{name}/timeline")

    def metrics(self):
        code, _ = self.http.ask("GET", "/metrics")
        if code != 200:
            raise Interrupted(f"metrics: {code}")

    def refused(self):
        """Asks what is refused: without a token, with a wrong one, and for what does not exist."""
        codes = [self.http.ask("GET", HOSTS)[0], self.http.ask("GET", HOSTS, token="wrong")[0],
                 self.http.ask("GET", f"{HOSTS}/none", token=self.world.token)[0]]
        if codes != [401, 401, 404]:
            raise Interrupted(f"refusals: {codes}")


class LeaseClient(Paced, Actor):
    """Hosts of the fleet, simulated by one interface, that get their addresses and renew them."""

    def __init__(self, world, space, macs):
        super().__init__(world, "leases", space)
        self.macs, self.leases = macs, 0

    def work(self):
        self.pause(0.3)
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


class Replacer(Paced, Actor):
    """An operator that replaces the ISO "swap" by another one, in one step, while it is read."""

    def __init__(self, world, space):
        super().__init__(world, "replacer", space)
        self.replaced = 0

    def work(self):
        self.pause(20 * self.world.rate)  # as long at any rate: the server serves a file again some seconds after its last write
        self.replaced += 1
        self.world.place_swap(self.replaced)


class SwapReader(Paced, Actor):
    """A machine that boots the ISO "swap" for ever. What it reads must be one version of the ISO, whole or in part."""

    def __init__(self, world, name, space, mac):
        super().__init__(world, name, space)
        self.mac = mac
        self.whole = self.cut = self.absent = 0
        self.last = time.monotonic()

    def work(self):
        self.pause(1)
        code, body = self.http.ask("GET", f"/ipxe?mac={self.mac}")
        script = body.decode()
        if code != 200:
            raise Interrupted(f"script: {code} {script}")
        data = self.read(script) if "sanboot iscsi:" in script else None
        if data is None:
            self.absent += 1
            if time.monotonic() - self.last > ABSENCE * slowness() and not self.world.was_down(ABSENCE * slowness()):
                self.world.findings.append(f"{self.name}: the ISO was not served for {ABSENCE} s: {script[:200]}")
                self.last = time.monotonic()
            return
        is_whole = len(data) == len(self.world.swaps[0])
        if not any(version.startswith(data) for version in self.world.swaps):
            self.world.findings.append(f"{self.name}: {len(data)} octets that are of no version of the ISO ({sha(data)[:16]})")
        self.whole, self.cut = self.whole + is_whole, self.cut + (not is_whole)
        if is_whole:
            self.last = time.monotonic()

    def piece(self, data):
        """Waits as a slow reader does."""
        self.pause(0.02)
        return data


class SwapHttpReader(SwapReader):
    """A reader of the ISO over HTTP."""

    def read(self, _script):
        connection = http.client.HTTPConnection(self.world.address, 80, timeout=REQUEST_LIMIT * slowness())
        data = b""
        try:
            connection.request("GET", "/iso/swap")
            answer = connection.getresponse()
            if answer.status == 503:
                return None
            if answer.status != 200:
                raise Interrupted(f"ISO: {answer.status}")
            while part := answer.read(PIECE):
                data += self.piece(part)
        except http.client.IncompleteRead as error:
            data += error.partial
        except (OSError, http.client.HTTPException) as error:
            raise Interrupted(f"ISO: {error!r}") from None
        finally:
            connection.close()
        return data


class SwapIscsiReader(SwapReader):
    """A reader of the ISO over iSCSI, as iPXE is."""

    def read(self, script):
        port, target = re.search(r"sanboot iscsi:[^:]*::(\d*):[^:]*:(\S+)", script).groups()
        name = re.search(r"set initiator-iqn (\S+)", script)[1]
        data, session = b"", None
        try:
            session = Initiator(int(port or 3260), target, name=name, address=self.world.address, limit=REQUEST_LIMIT)
            for block in range(0, len(self.world.swaps[0]) // 2048, BLOCKS):
                part, sense = session.scsi([0x28, 0, *block.to_bytes(4, "big"), 0, 0, BLOCKS, 0])
                if sense:
                    return data
                data += self.piece(part)
            session.logout()
            return data
        except Refused:
            return None
        except (OSError, Ended, AssertionError) as error:
            raise Interrupted(f"iSCSI: {error!r}") from None
        finally:
            if session:
                session.stream.close()


class TokenHolder:
    """A machine, a virtual medium and a Redfish session whose tokens are used after a clock step or a restart.

    Its methods run in the namespace of the host "holder"."""

    def __init__(self, world, mac):
        self.http, self.world, self.mac = TimedHttp(world), world, mac
        self.token = self.medium = self.session = None

    def take(self):
        """Starts an install, and takes its token, a virtual medium and a Redfish session."""
        self.http.json("POST", f"{HOSTS}/holder/install", {})
        _, body = self.http.ask("GET", f"/ipxe?mac={self.mac}")
        self.token = token_of(body.decode())
        self.http.json("POST", f"{HOSTS}/medium/install", {})
        self.medium = self.http.json("POST", f"{HOSTS}/medium/virtualmedia")["url"].removeprefix(f"http://{self.world.address}")
        login = {"UserName": "soak", "Password": self.world.token}
        code, headers, text = self.redfish("POST", "/redfish/v1/SessionService/Sessions", json.dumps(login))
        if code != 201:
            raise Interrupted(f"Redfish session: {code} {text[:200]!r}")
        self.session = {"X-Auth-Token": headers["X-Auth-Token"]}, headers["Location"]

    def redfish(self, method, path, body=None, headers=()):
        """Returns the code, the headers and the body of a response of the Redfish service."""
        connection = http.client.HTTPConnection(self.world.address, 80, timeout=REQUEST_LIMIT * slowness())
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
                ("API", f"{HOSTS}/holder", self.world.token)]
        codes = {what: self.http.ask("GET", path, token=token) for what, path, token in uses}
        if with_session:
            code, _, text = self.redfish("GET", "/redfish/v1/SessionService", headers=self.session[0])
            codes["Redfish session"] = code, text
        self.world.findings += [f"{when}: {what}: {code} {text[:200]!r}" for what, (code, text) in codes.items() if code != 200]

    def finish(self, when, with_session=True):
        """Reports that the install is complete, and ends the session."""
        code, body = self.http.ask("POST", f"/api/v1/boot-complete?token={self.token}", b"")
        phase = self.http.json("GET", f"{HOSTS}/holder")["status"]["phase"]
        if (code, phase) != (200, "Installed"):
            self.world.findings.append(f"{when}: the report of the install: {code} {body[:200]!r}, and the phase is {phase}")
        if with_session:
            self.redfish("DELETE", self.session[1], headers=self.session[0])

    def steps(self):
        """Returns the steps of the clock that the timeline of the install names, in seconds."""
        items = self.http.json("GET", f"{HOSTS}/holder/timeline")["items"]
        return [entry["detail"]["seconds"] for entry in items if entry["event"] == "clock_stepped"]


def token_of(script):
    """Returns the token that a script names the config with."""
    found = re.search(r"set config-url \S+?[?&]token=([0-9a-f]+)", script)
    if not found:
        raise Interrupted(f"no token in the script: {script[:300]}")
    return found[1]
