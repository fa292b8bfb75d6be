"""A LAN on which machines install while the server is killed and loses power at random instants."""

import collections
import json
import random
import signal
import threading

from support import crash_checker
from support.install_clients import Http, Machine, Operator
from support.iso_uploads import iso_of
from support.lan import Lan, enter, until
from support.lossy_files import LossyFiles
from support.objects import CONFIGS, HOSTS, IMAGES, config, host, image
from support.programs import bootlatch
from support.waiting import slowness

SERVER, OPERATOR = "10.88.0.2", "10.88.0.3"
MAC = "52:54:00:c0:00:{:02x}"
CONFIG = """
user = "root"
unknown_hosts = "ignore"
[install]
max_boots = 1000000
[dhcp]
mode = "server"
conflict_check = false
[[dhcp.subnets]]
subnet = "10.88.0.0/24"
pools = ["10.88.0.100-10.88.0.199"]
lease_time = "1h"
"""
POWER_LOSSES = 0.7  # share of the crashes that also lose what was not synced
LONGEST_LIFE = 2.5  # seconds from a start of the server to its end, on the reference machine
SLOWEST = 2.0  # maximum of the factor for `LONGEST_LIFE`: a busy machine makes the installs slower, not the crashes rarer
FINISH = 60  # seconds for all installs to end after the last crash, on the reference machine


class CrashTestbed:
    """The server, `machines` machines and two operators. Close it at the end."""

    def __init__(self, seed, machines=8, ignore_syncs=False):
        self.dice = random.Random(seed)
        self.address = SERVER
        self.power, self.stopping, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.lan = Lan("br0")
        self.folder = self.lan.folder
        self.actors, self.machines, self.operators, self.findings = [], [], [], []
        self.crashes = collections.Counter()
        self.tokens = {}
        self.program, self.config, self.iso = self.dice.randbytes(60_000), None, iso_of(400_000, "live")
        try:
            self.server = self.lan.client("server", address=f"{SERVER}/24")
            self.operator = self.lan.client("operator", address=f"{OPERATOR}/24")
            self._write_files(ignore_syncs)
            self.start()
            self._wait_until_ready()
            self._create_objects(machines)
        except BaseException:
            self.close()
            raise

    def _write_files(self, ignore_syncs):
        self.state = self.folder / "state"
        (self.state / "isos").mkdir(parents=True)
        (self.state / "isos/live.iso").write_bytes(self.iso)
        (self.folder / "firmware").mkdir()
        (self.folder / "firmware/snponly.efi").write_bytes(self.program)
        (self.folder / "bootlatch.toml").write_text(CONFIG)
        self.files = LossyFiles(self.folder, self.state, ignore_syncs)

    def start(self):
        """Starts the server and lets the clients go on; does not wait until it is ready."""
        variables = [f"{name}={value}" for name, value in self.files.environment().items()]
        self.process = self.lan.start(
            self.server, "bootlatch", "env", *variables, str(bootlatch()), "serve", "--config", str(self.folder / "bootlatch.toml"),
            "--interface", "lan0", "--state-dir", str(self.state), "--firmware-dir", str(self.folder / "firmware"))
        self.power.set()

    def _wait_until_ready(self):
        self.process.says("ready", 30)
        self.token = (self.state / "admin.token").read_text().strip()
        self.tokens = crash_checker.read_state(self.state).tokens

    def in_namespace(self, work):
        """Runs a function in the operator's namespace and returns its result."""
        found = []

        def enter_and_work():
            enter(self.operator)
            found.append(work())

        thread = threading.Thread(target=enter_and_work)
        thread.start()
        thread.join()
        assert found, "the work in the namespace ended"
        return found[0]

    def ask(self, method, path, body=None):
        """Sends one request of the operator; returns its code and body."""
        return self.in_namespace(lambda: Http(SERVER).ask(method, path, body, self.token))

    def _create_objects(self, machines):
        boot_config = config("builder")
        self.config = boot_config["spec"]["data"]["config.ign"]
        bodies = [(CONFIGS, boot_config), (IMAGES, image("live", ["builder"], "live.iso"))]
        for number in range(machines):
            body = host(f"machine{number}", 0xC00000 + number, image="live", bootConfigRef="builder")
            bodies.append((HOSTS, body))
        for path, body in bodies:
            code, text = self.ask("POST", path, json.dumps(body).encode())
            assert code == 201, f"{path}: {code} {text}"
        for number in range(machines):
            mac = MAC.format(number)
            self.machines.append(Machine(self, number, self.lan.client(f"m{number}", mac=mac), mac))
        self.operators = [Operator(self, number, self.operator, random.Random(self.dice.random())) for number in range(2)]
        self.actors = [*self.machines, *self.operators]

    def run(self, rounds, is_power_loss=None):
        """Lets the clients work through that many crashes. Ends early if something is found.

        `is_power_loss` makes each crash a loss of power, or none; by default chance decides."""
        for actor in self.actors:
            actor.start()
        for _ in range(rounds):
            self.ended.wait(self.dice.uniform(0.02, LONGEST_LIFE) * min(SLOWEST, slowness()))
            chance = self.dice.random() < POWER_LOSSES
            self.crash(chance if is_power_loss is None else is_power_loss)
            if self.findings:
                return
            self.start()

    def crash(self, is_power_loss):
        """Kills the server, checks what is on its disk, and leaves it off."""
        assert self.process.process.poll() is None, f"the server ended by itself: {self.process.text()[-3000:]}"
        assert "panicked" not in self.process.text(), self.process.text()[-3000:]
        self.power.clear()
        self.process.stop(signal.SIGKILL)
        self.files.program_ended()
        if is_power_loss:
            self.files.lose_power(self.dice)
        self.crashes["power losses" if is_power_loss else "kills"] += 1
        self.check()

    def logs(self):
        return {actor.name: list(actor.log.events) for actor in self.actors}

    def check(self):
        """Compares the disk with the logs."""
        state, logs = crash_checker.read_state(self.state), self.logs()
        self.findings += crash_checker.client_findings(state, logs, self.machines, self.operators)
        self.findings += [f"{name} has changed or is lost" for name, text in self.tokens.items() if state.tokens.get(name) != text]
        self.findings += [f"{actor.name}: {actor.error!r}" for actor in self.actors if actor.error]
        return state, logs

    def finish(self):
        """Lets all installs end, cleans up as an operator would, and checks that nothing is left over."""
        self.stopping.set()
        self.process.says("ready", 30)
        until("all installs end", lambda: not any(actor.is_alive() for actor in self.actors), FINISH)
        self.crash(is_power_loss=True)
        self.start()
        self.process.says("ready", 30)
        self.remove_uploads()
        self.process.stop()
        assert self.process.process.returncode == 0, f"the server stops cleanly: {self.process.text()[-2000:]}"
        state, logs = self.check()
        known = {("host", machine.name) for machine in self.machines} | {("iso", "live")}
        for operator in self.operators:
            known |= set(crash_checker.expected_objects(logs[operator.name]))
        self.findings += crash_checker.orphan_findings(state, ["live.iso"], known)

    def remove_uploads(self):
        """Removes the uploads that the API lists as unfinished."""
        code, body = self.ask("GET", "/api/v1/uploads")
        assert code == 200, body
        for upload in json.loads(body)["items"]:
            code, body = self.ask("DELETE", f"/api/v1/uploads/{upload['key']}")
            assert code == 200, body

    def figures(self):
        """Returns how often what was acknowledged."""
        counts = collections.Counter(self.crashes)
        for events in self.logs().values():
            for entry in events:
                kind = f" {entry['kind']}" if "kind" in entry else f" {entry['verdict']}" if "verdict" in entry else ""
                counts[entry["event"] + kind] += 1
        return dict(sorted(counts.items()))

    def close(self):
        self.stopping.set()
        self.ended.set()
        self.power.set()
        for program in self.lan.programs:
            program.stop(signal.SIGKILL)
        for actor in self.actors:
            if actor.ident:
                actor.join(10 * slowness())
        self.lan.close()
