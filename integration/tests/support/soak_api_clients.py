"""The clients of the soak test that use the API: controllers that change hosts, watches, and a dashboard."""

import contextlib
import http.client
import json
import socket

from support.install_clients import MERGE, REQUEST_LIMIT, Actor, Interrupted
from support.objects import HOSTS
from support.soak_clients import DOWN, Paced
from support.waiting import slowness


class Changer(Paced, Actor):
    """A controller that labels the hosts of its share of the fleet, and notes the version of each acknowledged change."""

    def __init__(self, testbed, number, space):
        super().__init__(testbed, f"changer{number}", space)
        self.number, self.acknowledged = number, []

    def work(self):
        self.pause(0.08)
        name = self.testbed.fleet_host(self.chance, self.number)
        label = f"{self.chance.randrange(1 << 30):08x}"
        self.testbed.labels.setdefault(name, {None}).add(label)
        found = self.http.json("PATCH", f"{HOSTS}/{name}", {"metadata": {"labels": {"soak": label}}}, MERGE)
        self.acknowledged.append(int(found["metadata"]["resourceVersion"]))
        self.testbed.labels[name] = {label}


class Watcher(Paced, Actor):
    """A client that watches the hosts for `stays` seconds at a time. It must see each change of the changers.

    One with `cuts` closes its connection after some events; one with a `query` sees a part of the hosts."""

    def __init__(self, testbed, number, space, stays=600, cuts=False, query=""):
        super().__init__(testbed, f"watcher{number}", space)
        self.stays, self.cuts, self.query = stays, cuts, query
        self.start_version = self.version = self.connection = None
        self.seen, self.events, self.expired = set(), 0, 0

    def work(self):
        if self.version is None:
            found = self.http.json("GET", f"{HOSTS}?limit=1{self.query}")
            self.seen.clear()
            self.start_version = self.version = int(found["metadata"]["resourceVersion"])
        path = f"{HOSTS}?watch=true&allowWatchBookmarks=true&resourceVersion={self.version}&timeoutSeconds={self.stays}{self.query}"
        self.connection = http.client.HTTPConnection(self.testbed.address, 80, timeout=self.stays + REQUEST_LIMIT * slowness())
        try:
            self.connection.request("GET", path, headers={"Authorization": f"Bearer {self.testbed.token}"})
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
            if not self.testbed.was_down(DOWN * slowness()):
                self.testbed.findings.append(f"{self.name}: version {self.version} expired, and the server was up")
            self.check()
            self.version, self.expired = None, self.expired + 1
            return False
        version = int(event["object"]["metadata"]["resourceVersion"])
        if event["type"] != "BOOKMARK":
            if version <= self.version:
                self.testbed.findings.append(f"{self.name}: version {version} came after {self.version}")
            self.seen.add(version)
            self.events += 1
        self.version = max(self.version, version)
        return True

    def check(self):
        """Adds a finding if the watch has passed an acknowledged change without an event."""
        start, end, seen = self.start_version, self.version, set(self.seen)
        if self.query or end is None:
            return
        lost = {version for changer in self.testbed.changers for version in list(changer.acknowledged)
                if start < version <= end} - seen
        if lost:
            self.testbed.findings.append(f"{self.name}: no event for the versions {sorted(lost)[:10]} ({len(lost)} in all)")

    def close(self):
        """Cuts the connection, from another thread."""
        with contextlib.suppress(AttributeError, OSError):
            self.connection.sock.shutdown(socket.SHUT_RDWR)


class Reader(Paced, Actor):
    """A dashboard: lists by pages, timelines, metrics and pages of the web interface."""

    def __init__(self, testbed, space):
        super().__init__(testbed, "reader", space)
        self.reads = 0

    def work(self):
        self.pause(1)
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
        if len(names) < self.testbed.fleet or len(versions) != 1:
            self.testbed.findings.append(f"{self.name}: {len(names)} hosts of the versions {versions}")

    def host(self):
        """Reads a host, which must have the label that was acknowledged last or is being set."""
        name = self.testbed.fleet_host(self.chance)
        allowed = self.testbed.labels.get(name, {None})
        found = self.http.json("GET", f"{HOSTS}/{name}")["metadata"]["labels"].get("soak")
        if found not in allowed | self.testbed.labels.get(name, {None}):
            self.testbed.findings.append(f"{self.name}: {name} has the label {found}, and {allowed} was acknowledged")

    def timeline(self):
        name = self.chance.choice(("machine0", "machine1", self.testbed.fleet_host(self.chance)))
        self.http.json("GET", f"{HOSTS}/{name}/timeline")

    def metrics(self):
        code, _ = self.http.ask("GET", "/metrics")
        if code != 200:
            raise Interrupted(f"metrics: {code}")

    def refused(self):
        """Asks what is refused: without a token, with a wrong one, and for what does not exist."""
        codes = [self.http.ask("GET", HOSTS)[0], self.http.ask("GET", HOSTS, token="wrong")[0],
                 self.http.ask("GET", f"{HOSTS}/none", token=self.testbed.token)[0]]
        if codes != [401, 401, 404]:
            raise Interrupted(f"refusals: {codes}")
