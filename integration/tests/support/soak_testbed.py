"""A LAN with one server that works for a long time, its clients, and what is checked meanwhile."""

import collections
import concurrent.futures
import contextlib
import http.client
import json
import random
import signal
import sqlite3
import threading
import time
from pathlib import Path

from support.faked_clock import FakedClock
from support.install_clients import MERGE, Http, Interrupted
from support.iso_uploads import iso_of
from support.lan import Lan, enter, until
from support.objects import CONFIGS, HOSTS, IMAGES, config, host, image
from support.programs import bootlatch
from support.soak_api_clients import Changer, Reader, Watcher
from support.soak_checks import Checks
from support.soak_clients import LeaseClient, SoakMachine, SoakOperator, TokenHolder
from support.soak_iso_clients import Replacer, SwapHttpReader, SwapIscsiReader
from support.soak_samples import Sampler, Slowest, open_files
from support.waiting import eventually, slowness

SERVER, OPERATOR, HOLDER, SWAP_HTTP, SWAP_ISCSI = (f"10.88.0.{number}" for number in (2, 3, 4, 5, 6))
CONFIG = """
user = "root"
unknown_hosts = "ignore"
manifests = "{manifests}"
[install]
max_boots = 1000000
[config_access]
require = "both"
[dhcp]
mode = "server"
[[dhcp.subnets]]
subnet = "10.88.0.0/24"
pools = ["10.88.0.10-10.88.0.249"]
lease_time = "1h"
"""
MACHINES, OPERATORS, CHANGERS = 8, 2, 2
LEASES = 150  # hosts of the fleet that get addresses
RELOADED = 100  # hosts of the manifest that changes before a reload
SWAP_SIZE, SWAPS = 2_000_000, 5
TIMELINE = 200_000  # maximum number of timeline entries (docs/reference/events.md)
HISTORY = 16_384  # changes that the server keeps for watches (docs/reference/api.md)
WARM_RELOADS = 8  # of 10,000 hosts: each of the first ones leaves some MiB more with the allocator, and the later ones none
WRITERS = 8  # connections that fill the history
OFFSETS = ("+1h", "+0", "-1h", "+0")  # of the clock, in turn


def mac_of(number):
    """Returns the MAC address that support.objects.host gives a host."""
    return host("any", number)["spec"]["bootMACAddress"]


class SoakTestbed(Checks):
    """The server with `fleet` hosts, and its clients. Close it at the end.

    `steps_clock`: whether the server has a clock that `step_clock` sets. `warms_up`: whether the server's memory is brought to
    where it stays after each start."""

    def __init__(self, fleet, rate, steps_clock=True, warms_up=False, seed=0):
        self.fleet, self.rate, self.warms_up, self.dice = fleet, rate, warms_up, random.Random(seed)
        self.address = SERVER
        self.power, self.stopping, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.findings, self.actors, self.labels, self.counts = [], [], {}, collections.Counter()
        self.slowest, self.slowest_boot, self.slowest_restart, self.sampler = Slowest(), Slowest(), Slowest(), Sampler()
        self.last_down = time.monotonic()
        self.log_end, self.messages = {}, collections.Counter()
        self.program, self.iso = self.dice.randbytes(60_000), iso_of(400_000, "live")
        self.swaps = [iso_of(SWAP_SIZE, f"swap{number}") for number in range(SWAPS)]
        self.lan = Lan("br0")
        self.folder = self.lan.folder
        self.clock = FakedClock(self.folder) if steps_clock else None
        self.sizes = []
        try:
            self.server = self.lan.client("server", address=f"{SERVER}/24")
            self.operator = self.lan.client("operator", address=f"{OPERATOR}/24")
            self._write_files()
            self.start()
            self._create_objects()
            self._fill_timeline()
            self._make_clients()
        except BaseException:
            self.close()
            raise

    # The server.

    def start(self):
        """Starts the server, waits until it is ready, and lets the clients go on."""
        variables = self.clock.environment if self.clock else ()
        self.process = self.lan.start(
            self.server, "bootlatch", "env", *variables, str(bootlatch()), "serve", "--config", str(self.folder / "bootlatch.toml"),
            "--interface", "lan0", "--state-dir", str(self.state), "--firmware-dir", str(self.folder / "firmware"))
        self.process.says("ready", 60)
        self.token = (self.state / "admin.token").read_text().strip()
        self.sampler.watch(self.process.process.pid)
        self.last_down = time.monotonic()
        self.power.set()
        self.counts["starts"] += 1

    def stop(self):
        """Stops the server as its service manager does, and checks the state that it leaves."""
        self.read_log()
        self.last_down = time.monotonic()
        self.power.clear()
        self.sampler.rest()
        self.process.stop(signal.SIGTERM)
        self.last_down = time.monotonic()
        self.read_log()
        if self.process.process.returncode != 0:
            self.findings.append(f"the server ended with {self.process.process.returncode}: {self.process.text()[-500:]}")
        self.sizes.append(self.timeline_size())
        if self.sizes[-1] > TIMELINE:
            self.findings.append(f"the timeline has {self.sizes[-1]} entries")

    def restart(self):
        """Restarts the server while its clients work. Tokens outlast it."""
        self.with_holder(lambda holder: holder.take())
        begun = time.monotonic()
        self.stop()
        self.check_disk()
        self.start()
        self.slowest_restart.note(time.monotonic() - begun, "restart of the server, with the check of its disk")
        self.with_holder(lambda holder: (holder.check("after a restart", False), holder.finish("after a restart", False)))
        if self.warms_up:
            self.warm_up()

    def reload(self):
        """Changes a manifest and has the server load it."""
        self.counts["reloads"] += 1
        text = str(self.counts["reloads"])
        self.write_reloaded(text)
        self.process.process.send_signal(signal.SIGHUP)

        def is_loaded():
            _, body = self.ask("GET", f"{HOSTS}/reloaded0")
            return json.loads(body)["metadata"]["labels"].get("round") == text
        if not eventually(is_loaded, 60):  # a commit for each host, on a disk that others use
            self.findings.append(f"reload {text}: the manifest is not applied")

    def step_clock(self):
        """Sets the server's clock by an hour. Tokens that were given before work during the step and after it."""
        self.with_holder(lambda holder: holder.take())
        offset = OFFSETS[self.counts["steps"] % len(OFFSETS)]
        self.counts["steps"] += 1
        when = f"clock step {self.counts['steps']} to {offset}"
        if self.clock:
            told = self.with_holder(lambda holder: holder.steps())
            self.clock.set(offset)
            self.with_holder(lambda holder: holder.check(f"at {when}"))
            if not eventually(lambda: (self.with_holder(lambda holder: holder.steps()) or 0) > (told or 0), 15):
                self.findings.append(f"{when}: the timeline of an install does not name it")
        self.with_holder(lambda holder: (holder.check(f"after {when}"), holder.finish(f"after {when}")))

    def was_down(self, seconds):
        """Returns whether the server was down within so many seconds."""
        return not self.power.is_set() or time.monotonic() - self.last_down < seconds

    # Files and objects.

    def _write_files(self):
        self.state, self.manifests = self.folder / "state", self.folder / "manifests"
        (self.state / "isos").mkdir(parents=True)
        self.manifests.mkdir()
        (self.state / "isos/live.iso").write_bytes(self.iso)
        self.place_swap(0)
        (self.folder / "firmware").mkdir()
        (self.folder / "firmware/snponly.efi").write_bytes(self.program)
        (self.folder / "bootlatch.toml").write_text(CONFIG.format(manifests=self.manifests))
        fleet = [host(f"fleet{number}", 0x800000 + number, image="localboot") for number in range(self.fleet - RELOADED)]
        for body in fleet:
            body["metadata"]["labels"] = {"fleet": "yes"}
        for at in range(0, len(fleet), 1000):
            self.write_manifest(f"fleet{at}", fleet[at:at + 1000])
        self.write_reloaded("0")

    def write_manifest(self, name, objects):
        """Writes a manifest, in one step. JSON is YAML."""
        (self.manifests / f".{name}.new").write_text("\n---\n".join(map(json.dumps, objects)) + "\n")
        (self.manifests / f".{name}.new").rename(self.manifests / f"{name}.yaml")

    def write_reloaded(self, text):
        hosts = [host(f"reloaded{number}", 0x700000 + number, image="localboot") for number in range(RELOADED)]
        for body in hosts:
            body["metadata"]["labels"] = {"fleet": "yes", "round": text}
        self.write_manifest("reloaded", hosts)

    def place_swap(self, number):
        """Replaces the file of the ISO "swap", in one step."""
        new = self.folder / "swap.new"
        new.write_bytes(self.swaps[number % SWAPS])
        new.rename(self.state / "isos/swap.iso")

    def fleet_host(self, chance, share=None):
        """Returns the name of a host of the fleet, or of a changer's share of it."""
        number = chance.randrange(self.fleet - RELOADED)
        return f"fleet{number if share is None else number - number % CHANGERS + share}"

    def _create_objects(self):
        boot_config = config("builder")
        self.config = boot_config["spec"]["data"]["config.ign"]
        bodies = [(CONFIGS, boot_config), (IMAGES, image("live", ["builder"], "live.iso")), (IMAGES, image("swap", [], "swap.iso"))]
        hosts = [(f"machine{number}", 0xC00000 + number, {}) for number in range(MACHINES)]
        hosts += [("holder", 0xD00000, {"ip": HOLDER}), ("medium", 0xD00001, {})]
        bodies += [(HOSTS, host(name, number, image="live", bootConfigRef="builder", **more)) for name, number, more in hosts]
        bodies += [(HOSTS, host(name, number, image="swap", bootMode="forever", ip=address))
                   for name, number, address in (("swaphttp", 0xE00000, SWAP_HTTP), ("swapiscsi", 0xE00001, SWAP_ISCSI))]
        for path, body in bodies:
            code, text = self.ask("POST", path, json.dumps(body).encode())
            assert code == 201, f"{path}: {code} {text}"
        self.declared = self.fleet + sum(path == HOSTS for path, _ in bodies)

    def _fill_timeline(self):
        """Fills the timeline, so that each further entry displaces another one, and restarts the server."""
        self.power.clear()
        self.process.stop(signal.SIGTERM)
        with contextlib.closing(sqlite3.connect(self.state / "bootlatch.db")) as base:
            hosts, = base.execute("SELECT count(*) FROM objects WHERE kind = 'BareMetalHost'").fetchone()
            assert hosts == self.declared, f"the manifests are applied: {hosts} of {self.declared} hosts"
            present, = base.execute("SELECT count(*) FROM timeline").fetchone()
            rows = (self.old_entry(number % (self.fleet - RELOADED)) for number in range(TIMELINE - present))
            base.executemany("INSERT INTO timeline (mac, body) VALUES (?, ?)", rows)
            base.commit()
        self.start()
        if self.warms_up:
            self.warm_up()
        self.first_size = self.database_size()

    @staticmethod
    def old_entry(number):
        """Returns the MAC address and the text of an entry about a host of the fleet: longer than most that the test causes."""
        mac = mac_of(0x800000 + number)
        detail = {"architecture": "x86_64-uefi", "file": f"{mac.replace(':', '-')}/snponly.efi"}
        times = {"time": "2026-11-01T00:00:00.123Z", "last": "2026-11-01T00:01:00.123Z", "count": 2}
        return mac, json.dumps({**times, "mac": mac, "host": f"fleet{number}", "event": "offer", "detail": detail}, separators=(",", ":"))

    def timeline_size(self):
        """Returns the number of timeline entries of a server that does not run."""
        with contextlib.closing(sqlite3.connect(f"file:{self.state}/bootlatch.db?mode=ro", uri=True)) as base:
            return base.execute("SELECT count(*) FROM timeline").fetchone()[0]

    def database_size(self):
        """Returns the bytes of the database and of its log."""
        found = 0
        for path in self.state.glob("bootlatch.db*"):
            with contextlib.suppress(FileNotFoundError):
                found += path.stat().st_size
        return found

    # The clients.

    def _make_clients(self):
        self.holder_space = self.lan.client("holder", mac=mac_of(0xD00000), address=f"{HOLDER}/24")
        self.holder = TokenHolder(self, mac_of(0xD00000))
        self.machines = [SoakMachine(self, number, self.lan.client(f"m{number}", mac=mac_of(0xC00000 + number)), mac_of(0xC00000 + number))
                         for number in range(MACHINES)]
        self.operators = [SoakOperator(self, number, self.operator, random.Random(self.dice.random())) for number in range(OPERATORS)]
        self.changers = [Changer(self, number, self.operator) for number in range(CHANGERS)]
        self.watchers = [Watcher(self, 0, self.operator), Watcher(self, 1, self.operator, stays=60), Watcher(self, 2, self.operator, cuts=True),
                         Watcher(self, 3, self.operator, query="&labelSelector=fleet%21%3Dyes")]
        self.reader = Reader(self, self.operator)
        self.replacer = Replacer(self, self.operator)
        self.lease_client = LeaseClient(self, self.lan.client("leases"), [mac_of(0x800000 + number) for number in range(LEASES)])
        self.swap_readers = [
            SwapHttpReader(self, "swaphttp", self.lan.client("swaphttp", mac=mac_of(0xE00000), address=f"{SWAP_HTTP}/24"), mac_of(0xE00000)),
            SwapIscsiReader(self, "swapiscsi", self.lan.client("swapiscsi", mac=mac_of(0xE00001), address=f"{SWAP_ISCSI}/24"), mac_of(0xE00001))]
        self.actors = [*self.machines, *self.operators, *self.changers, *self.watchers, self.reader, self.replacer, self.lease_client,
                       *self.swap_readers]
        self.sampler.start()

    def begin(self):
        """Notes what the server holds at rest, and starts the clients."""
        until("samples of the server at rest", lambda: len(self.sampler.samples) >= 3, 30)
        self.at_rest, self.files_at_rest = self.sampler.take(), open_files(self.process.process.pid)
        for actor in self.actors:
            actor.start()

    def in_namespace(self, space, work):
        """Runs a function in a namespace and returns its result."""
        results = []

        def enter_and_work():
            enter(space)
            try:
                results.append((work(), None))
            except Exception as error:  # raised again below
                results.append((None, error))

        thread = threading.Thread(target=enter_and_work)
        thread.start()
        thread.join()
        (found, error), = results
        if error:
            raise error
        return found

    def ask(self, method, path, body=None):
        """Sends one request of the operator; returns its code and body."""
        return self.in_namespace(self.operator, lambda: Http(SERVER).ask(method, path, body, self.token))

    def with_holder(self, work):
        """Has the holder of tokens do something; a failure is a finding."""
        try:
            return self.in_namespace(self.holder_space, lambda: work(self.holder))
        except Interrupted as why:
            self.findings.append(f"holder: {why}")
            return None

    def warm_up(self):
        """Fills the history of changes, and reloads until the allocator has what reloads need."""
        self.fill_history()
        for _ in range(WARM_RELOADS):
            self.reload()

    def fill_history(self):
        """Makes as many changes as the server keeps for watches, over a few connections."""
        def fill(number):
            connection = http.client.HTTPConnection(SERVER, 80, timeout=30 * slowness())
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": MERGE}
            for count in range(HISTORY // WRITERS):
                name = f"fleet{(count * WRITERS + number) % (self.fleet - RELOADED)}"
                body = json.dumps({"metadata": {"labels": {"fill": f"{self.counts['starts']}-{count}"}}})
                connection.request("PATCH", f"{HOSTS}/{name}", body, headers)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200:
                    self.findings.append(f"fill: {name}: {answer.status} {text[:200]!r}")
            connection.close()

        with concurrent.futures.ThreadPoolExecutor(WRITERS, initializer=enter, initargs=(self.operator,)) as pool:
            list(pool.map(fill, range(WRITERS)))

    def loads(self):
        """Returns how much was done, by kind."""
        events = collections.Counter(entry["event"] for log in self.logs().values() for entry in log)
        return {
            "installs": events["complete_acked"] + events["complete_seen"], "scripts": events["script"], "tftp": events["tftp"],
            "iscsi": events["iscsi_read"], "leases": events["dhcp_ack"] + self.lease_client.leases,
            "operator changes": events["acked"], "labels": sum(len(changer.acknowledged) for changer in self.changers),
            "watch events": sum(watcher.events for watcher in self.watchers), "reads": self.reader.reads,
            "replaced ISOs": self.replacer.replaced, "whole ISO reads": sum(reader.whole for reader in self.swap_readers),
            "ISO reads cut": sum(reader.cut for reader in self.swap_readers), "absent ISOs": sum(reader.absent for reader in self.swap_readers),
            "http requests": self.slowest.count, "failed attempts": events["interrupted"], **self.counts}

    def close(self):
        self.stopping.set()
        self.ended.set()
        self.power.set()
        self.sampler.ended.set()
        for program in self.lan.programs:
            program.stop(signal.SIGKILL)
        for actor in self.actors:
            if isinstance(actor, Watcher):
                actor.close()
            if actor.ident:
                actor.join(10 * slowness())
        for program in self.lan.programs:  # libfaketime leaves these behind when its process is killed
            for name in (f"faketime_shm_{program.process.pid}", f"sem.faketime_sem_{program.process.pid}"):
                Path("/dev/shm", name).unlink(missing_ok=True)
        self.lan.close()
