"""What must hold while the soak test runs: the server's log, its objects and its files against its clients' logs."""

import contextlib
import json
import re

from support import crash_checker
from support.install_clients import Interrupted
from support.iso_uploads import sha
from support.lan import until
from support.objects import HOSTS, IMAGES
from support.soak_samples import open_files
from support.waiting import eventually

# Maximum size of the database, in sizes after the first start with a full timeline. Its indexes lose some density, because
# the displaced entries belong to other hosts than the new ones.
DATABASE_GROWTH = 1.25
FINISH_RATE = 10  # rate of the clients once the test is to end
IDLE_FILES = 6  # file descriptors that the server may have more at the end than before its first load: it opens some at need
IDLE_THREADS = 50  # the same for threads: those of a burst stay while the checks of many ISO files use them
LATE = 5  # seconds after which the files that the server writes must follow, on the reference machine
EXPECTED_ERRORS = ()  # words of the log's ERROR lines that are no finding
LEVEL = re.compile(r"^\S+ +(ERROR|WARN) +(.*?)(?= \w+=|$)")


class Checks:
    """The checks of a soak testbed, which inherits them."""

    def read_log(self):
        """Reads what the server logged lately: counts warnings, and adds findings for errors and panics."""
        path = self.process.log
        with open(path, "rb") as log:
            log.seek(self.log_end.get(path, 0))
            text = log.read()
        text = text[:text.rfind(b"\n") + 1]
        self.log_end[path] = self.log_end.get(path, 0) + len(text)
        for line in text.decode(errors="replace").splitlines():
            found = LEVEL.match(line)
            if found:
                self.messages[f"{found[1]} {found[2]}"] += 1
            is_error = found and found[1] == "ERROR" and not any(words in line for words in EXPECTED_ERRORS)
            if is_error or "panicked" in line:
                self.findings.append(f"log: {line[:500]}")

    def logs(self):
        return {actor.name: list(actor.log.events) for actor in self.actors}

    def check_disk(self):
        """Compares the state of the stopped server with the clients' logs."""
        state, logs = crash_checker.read_state(self.state), self.logs()
        self.findings += crash_checker.client_findings(state, logs, self.machines, self.operators)
        labels = {name: state.hosts[name]["metadata"]["labels"].get("soak") if name in state.hosts else "lost" for name in self.labels}
        self.findings += [f"{name}: the label is {label}, and {self.labels[name]} was acknowledged"
                          for name, label in labels.items() if label not in self.labels[name]]
        lost = self.fleet - sum(name.startswith(("fleet", "reloaded")) for name in state.hosts)
        if lost:
            self.findings.append(f"{lost} hosts of the fleet are lost")
        return state, logs

    def check_running(self):
        """Compares what the running server shows with what its clients were acknowledged."""
        found = self.running_findings()
        if found and not eventually(lambda: not self.running_findings(), LATE):
            self.findings += self.running_findings() or found
        for watcher in self.watchers:
            watcher.check()
        self.findings += [f"{actor.name}: {actor.error!r}" for actor in self.actors if actor.error]

    def running_findings(self):
        """Returns what is wrong with the objects whose clients' logs say the same before and after the look at them."""
        before = self.logs()
        state = self.shown_state()
        after = self.logs()
        findings = []
        for machine in self.machines:
            if len(before[machine.name]) == len(after[machine.name]):
                findings += crash_checker.machine_findings(machine.name, machine.mac, before[machine.name], state)
        for operator in self.operators:
            events = before[operator.name]
            last = {(entry["kind"], entry["name"]): entry["event"] for entry in events if "kind" in entry}
            changed = {(entry["kind"], entry["name"]) for entry in after[operator.name][len(events):] if "kind" in entry}
            settled = {key for key, event in last.items() if event == "acked"} - changed
            mine = [entry for entry in events if (entry.get("kind"), entry.get("name")) in settled]
            findings += crash_checker.operator_findings(mine, state)
        return findings

    def shown_state(self):
        """Returns what the API shows of all objects but the fleet, and the files that the server writes."""
        state = crash_checker.State()
        for path, objects in ((f"{HOSTS}?labelSelector=fleet%21%3Dyes", state.hosts), (IMAGES, state.isos)):
            code, body = self.ask("GET", path)
            assert code == 200, f"{path}: {code} {body[:300]!r}"
            objects.update({item["metadata"]["name"]: item for item in json.loads(body)["items"]})
        rows = (row.split() for row in (self.state / "dhcp.leases").read_text().splitlines())
        state.leases = {row[1]: row[2] for row in rows}
        for path in (self.state / "isos").iterdir():
            with contextlib.suppress(FileNotFoundError):
                state.files[path.name] = sha(path.read_bytes())
        return state

    def check(self):
        """Checks what must hold at any time."""
        self.read_log()
        if self.process.process.poll() is not None:
            self.findings.append(f"the server ended by itself: {self.process.text()[-1000:]}")
            return
        try:
            self.check_running()
        except Interrupted as why:
            self.findings.append(f"check: {why}")
        if self.database_size() > self.first_size * DATABASE_GROWTH:
            self.findings.append(f"the database has {self.database_size()} octets, and had {self.first_size} at the start")

    def finish(self):
        """Lets all installs end, waits for the server to rest, stops it, and checks that nothing is lost or left over."""
        self.rate *= FINISH_RATE
        self.stopping.set()
        for watcher in self.watchers:
            watcher.close()
        until("all clients end", lambda: not any(actor.is_alive() for actor in self.actors), 120)
        self.check()

        def rests():
            now = self.sampler.take()
            return now.descriptors <= self.at_rest.descriptors + IDLE_FILES and now.threads <= self.at_rest.threads + IDLE_THREADS
        if not eventually(rests, 60):
            more = open_files(self.process.process.pid) - self.files_at_rest
            self.findings.append(f"at rest the server has {self.sampler.samples[-1]}, and had {self.at_rest}; more files: {dict(more)}")
        self.stop()
        state, logs = self.check_disk()
        known = {("iso", "live"), ("iso", "swap")} | {("host", name) for name in state.hosts if name.startswith(("fleet", "reloaded"))}
        known |= {("host", name) for name in ("holder", "medium", "swaphttp", "swapiscsi", *(machine.name for machine in self.machines))}
        for operator in self.operators:
            known |= set(crash_checker.expected_objects(logs[operator.name]))
        uploads = {name for name in state.files if name.startswith(".")}
        self.findings += crash_checker.orphan_findings(state, ["live.iso", "swap.iso", *uploads], known)
