"""Stalled and healthy boots that are staged at the same time, each by a machine of its own, and what the server said of them.

A test module has `Rows`. Each row has a story: a function of the machine. The story of a stall is a generator: what comes before its
`yield` is the stall, and what comes after it is how the machine goes on once the diagnosis stands.
"""

import contextlib
import inspect
import re
import threading
import time
import traceback
from dataclasses import dataclass, field

from support.firmware import UEFI
from support.objects import HOSTS
from support.staged_machine import Ended
from support.waiting import eventually, slowness

CERTAIN, LIKELY, POSSIBLE = "certain", "likely", "possible"
PATIENCE = 10  # seconds within which a diagnosis is due once its evidence is complete, and is taken back once the machine goes on
MARGIN = 3  # seconds after a longer silence that is evidence itself: the machine is looked at every second, after a pause
LOOK_INTERVAL = 0.4  # seconds between two looks at a diagnosis
FIRST = 3.0  # seconds from the start of a LAN's server to the power-on of its first machine
STAGGER = 0.15  # seconds between the power-on of two machines of a LAN
QUIET = 20  # seconds after its end for which a healthy boot is watched at least


@dataclass(frozen=True, eq=False)
class Row:
    """A boot. `reason` is None for a healthy one.

    `at`: seconds from the first DISCOVER at which the evidence is complete. `facts`: patterns that the sentence or the remedy contains;
    <address>, <mac> and <name> stand for those of the machine. `hints`: other reasons that may be said before. `host`: fields of the
    host's spec. `clock`: seconds of silence after the last step of the story that are evidence themselves, if they are so many that
    PATIENCE does not do; docs/reference/stalls.md names them. `program`: the boot program of this machine alone. `goes_on`: whether the story has an end after its stall.
    `is_shared`: whether the log and the timeline have it for the segment, and not for this host."""

    id: str
    story: object
    reason: str = None
    certainty: tuple = ()
    at: float = 0
    clock: float = 0
    facts: tuple = ()
    hints: tuple = ()
    network: str = "main"
    firmware: object = UEFI
    program: str = None
    host: dict = field(default_factory=dict)
    goes_on: bool = False
    may_be_said: bool = False  # of a healthy boot: a diagnosis that is taken back
    is_shared: bool = False
    is_long: bool = False  # takes minutes

    def __str__(self):
        return f"{self.id}-{self.reason or 'healthy'}"

    @property
    def name(self):
        return self.id.lower().replace("_", "-")

    @property
    def limit(self):
        """Seconds from the last step of the story until the diagnosis stands, on a quiet machine."""
        return max(PATIENCE, self.clock + MARGIN if self.clock else 0)


class Rows(list):
    """The rows of one test module."""

    def stall(self, id, reason, certainty, at, facts=(), **more):
        """Adds the decorated function as the story of a stall."""
        def add(story):
            sure = (certainty,) if isinstance(certainty, str) else tuple(certainty)
            self.append(Row(id, story, reason, sure, at, facts=tuple(facts), goes_on=has_more_after_yield(story), **more))
            return story
        return add

    def healthy(self, id, **more):
        """Adds the decorated function as the story of a boot of which nothing is to be said."""
        def add(story):
            self.append(Row(id, story, **more))
            return story
        return add

    @property
    def that_go_on(self):
        return [row for row in self if row.goes_on]


def has_more_after_yield(story):
    """Returns whether a story has steps after its `yield`."""
    lines = [line.split("#")[0].strip() for line in inspect.getsource(story).splitlines()]
    return any(lines[lines.index("yield") + 1:])


@dataclass
class Account:
    """What the server says of a host at one time."""

    diagnosis: dict
    steps: list
    host: dict
    timeline: list
    why: str = ""
    why_json: str = ""
    hosts_by_reason: dict = field(default_factory=dict)
    gauges: dict = field(default_factory=dict)
    totals: dict = field(default_factory=dict)
    log: list = field(default_factory=list)

    @property
    def condition(self):
        return condition(self.host)

    def events(self, kind):
        """Returns the details of the host's events of a kind, oldest first."""
        found = sorted((entry for entry in self.timeline if entry["event"] == kind), key=lambda entry: entry["time"])
        return [entry["detail"] for entry in found]

    def count(self, kind):
        """Returns how often an event of a kind happened."""
        return sum(entry.get("count", 1) for entry in self.timeline if entry["event"] == kind)


def condition(host):
    """Returns the condition Stalled of a host, or None."""
    return next((one for one in host["status"].get("conditions", []) if one["type"] == "Stalled"), None)


class Outcome:
    """What came of a row."""

    def __init__(self, row):
        self.row, self.machine = row, None
        self.done = threading.Event()
        self.fault = None  # of the staging
        self.api_fault = None
        self.verdicts = []  # (seconds, diagnosis) as they changed
        self.stands = False  # whether the expected diagnosis stands now
        self.stood_at = self.due_at = self.staged_at = None
        self.told = self.after = None

    def is_expected(self, diagnosis):
        """Returns whether a diagnosis is the one of the row."""
        row = self.row
        return bool(diagnosis) and diagnosis["reason"] == row.reason and diagnosis["certainty"] in row.certainty and not self.missing_facts(diagnosis)

    def missing_facts(self, diagnosis):
        """Returns the facts that neither sentence nor remedy has."""
        text = f"{diagnosis['message']}\n{diagnosis['remedy']}"
        return [fact for fact in self.row.facts if not re.search(self.pattern(fact), text, re.I)]

    def pattern(self, fact):
        for name in ("address", "mac", "name"):
            value = re.escape(getattr(self.machine, name)).replace(":", "[:-]")
            fact = fact.replace(f"<{name}>", value)
        return fact

    def note(self, diagnosis):
        """Notes a diagnosis, or that there is none, with the time if it has changed."""
        seconds = time.monotonic() - self.machine.started
        if (self.verdicts[-1][1] if self.verdicts else None) != diagnosis:
            self.verdicts.append((seconds, diagnosis))
        self.stands = self.is_expected(diagnosis)
        if self.stands and self.stood_at is None:
            self.stood_at = seconds

    def story(self):
        """Returns what the machine did and what the server said, for the message of a failed test."""
        row = self.row
        lines = [f"{row} of {self.machine and self.machine.name}: {' or '.join(row.certainty) or 'nothing'} is expected at {row.at} s + {PATIENCE} s; "
                 f"staged at {self.staged_at}, stood at {self.stood_at}; {row.limit} s are allowed"]
        if self.machine:
            lines += ["the machine:", *(f"  {note}" for note in self.machine.notes)]
        lines += ["the diagnoses:", *(f"  {at:6.1f} s {brief(diagnosis)}" for at, diagnosis in self.verdicts)]
        for title, account in (("when it was due", self.told), ("at the end", self.after)):
            if account:
                lines += [f"{title}: phase {account.host['status']['phase']}, the steps:", *(f"  {step}" for step in account.steps), "the timeline:"]
                lines += [f"  {entry['time'][11:23]} {entry['event']} x{entry.get('count', 1)} {entry['detail']}" for entry in reversed(account.timeline)]
        return "\n".join(lines)


def brief(diagnosis):
    if not diagnosis:
        return "none"
    return f"{diagnosis['reason']} ({diagnosis['certainty']}, since {diagnosis['since'][11:19]}): {diagnosis['message']} | {diagnosis['remedy']}"


class Stage:
    """The LANs of some rows, and their machines. `networks` makes a LAN by its name, which is not started yet."""

    def __init__(self, rows, networks):
        self.outcomes = {row: Outcome(row) for row in rows}
        self.lans, self.ended = {}, threading.Event()
        self.threads = []
        for name in dict.fromkeys(row.network for row in rows):
            chosen = [row for row in rows if row.network == name]
            thread = threading.Thread(target=self._play_network, args=(name, networks, chosen), name=f"network {name}", daemon=True)
            self.threads.append(thread)
            thread.start()

    def outcome(self, row, limit=400):
        """Waits for the end of a row and returns its outcome."""
        outcome = self.outcomes[row]
        assert outcome.done.wait(limit * slowness()), f"{row} ends within {limit} s"
        return outcome

    def _play_network(self, name, networks, rows):
        try:
            lan = self.lans[name] = networks[name]()
            for row in rows:
                self.outcomes[row].machine = lan.add_machine(row.name, row.firmware, row.program)
            lan.start()
            for row in rows:
                lan.declare(self.outcomes[row].machine, **row.host)
        except Exception:  # reported by the test of each row
            for row in rows:
                self.outcomes[row].fault = f"network {name}: {traceback.format_exc()}"
                self.outcomes[row].done.set()
            return
        threading.Thread(target=self._observe, args=(lan, [self.outcomes[row] for row in rows]), name=f"observer of {name}", daemon=True).start()
        self.ended.wait(FIRST)
        stalls, stalls_done = [], threading.Event()
        for row in sorted(rows, key=lambda row: -row.at):
            if self.ended.wait(STAGGER):
                return
            thread = threading.Thread(target=self._play_row, args=(lan, row, stalls_done), name=str(row), daemon=True)
            stalls += [thread] if row.reason else []
            thread.start()
        for thread in stalls:
            thread.join()
        stalls_done.set()
        self.ended.wait()  # the kernel kills the LAN's programs when the thread that started them ends

    def _observe(self, lan, outcomes):
        """Notes what the hosts' status says of their boots, whenever it changes."""
        while not self.ended.wait(LOOK_INTERVAL):
            try:
                hosts = {host["metadata"]["name"]: host for host in lan.api("GET", HOSTS)[1]["items"]}
            except OSError:
                continue  # a server that is stopped, or ends
            for outcome in outcomes:
                if outcome.machine.started and outcome.machine.name in hosts:
                    outcome.note(hosts[outcome.machine.name]["status"].get("stall"))

    def _play_row(self, lan, row, stalls_done):
        outcome = self.outcomes[row]
        play = Play(lan, outcome)
        try:
            play.run(stalls_done)
        except Ended:
            outcome.fault = "the test was over"
        except Exception:  # reported by the test of this row
            outcome.fault = traceback.format_exc()
            with contextlib.suppress(Exception):
                outcome.after = play.account(with_command=False)
        finally:
            outcome.done.set()

    def close(self):
        """Ends all machines and networks; returns the logs of servers that panicked."""
        self.ended.set()
        for lan in self.lans.values():
            lan.ended.set()
        for thread in self.threads:
            thread.join(30 * slowness())
        panicked = [lan.log()[-3000:] for lan in self.lans.values() if hasattr(lan, "program") and "panicked" in lan.log()]
        for lan in self.lans.values():
            lan.close()
        return panicked


class Play:
    """The performance of one row."""

    def __init__(self, lan, outcome):
        self.lan, self.outcome, self.row, self.machine = lan, outcome, outcome.row, outcome.machine

    def run(self, stalls_done):
        story = self.row.story(self.machine)
        if not self.row.reason:
            self.machine.note("the boot is over")
            self.machine.wait(QUIET)
            while not stalls_done.wait(0.5):
                self.machine.wait(0)
            self.outcome.after = self.account(with_command=False)
            return
        if not inspect.isgenerator(story):
            raise AssertionError(f"the story of {self.row} has a yield")
        with contextlib.suppress(StopIteration):
            next(story)
        self.outcome.staged_at = self.seconds()
        self.machine.note("the stall is staged")
        self.await_diagnosis()
        with contextlib.suppress(StopIteration):
            next(story)
        if self.row.goes_on:
            self.machine.note("the machine has gone on")
            self.await_end()

    def seconds(self):
        return time.monotonic() - self.machine.started

    def diagnosis(self):
        """Returns the diagnosis of the host and the steps."""
        code, answer = self.lan.api("GET", f"{HOSTS}/{self.machine.name}/diagnosis")
        if code != 200:
            self.outcome.api_fault = f"the diagnosis of {self.machine.name}: {code} {answer}"
            return None, []
        return answer["diagnosis"], answer["steps"]

    def await_diagnosis(self):
        """Waits for the diagnosis of the row, and takes an account while it stands."""
        outcome = self.outcome
        outcome.due_at = (self.row.at + PATIENCE) * slowness()
        self.diagnosis()
        while not outcome.stands and self.seconds() < outcome.due_at + LOOK_INTERVAL and not outcome.api_fault:
            self.machine.wait(LOOK_INTERVAL / 2)
        outcome.told = self.account()

    def await_end(self):
        """Waits until the diagnosis is taken back."""
        due = time.monotonic() + PATIENCE * slowness()
        is_over = lambda: not self.diagnosis()[0] and not self.lan.host(self.machine.name)["status"].get("stall")
        while not is_over() and time.monotonic() < due:
            self.machine.wait(LOOK_INTERVAL)
        self.outcome.after = self.account(with_command=False)

    def account(self, with_command=True):
        """Returns what the server says now, by all of its voices."""
        name = self.machine.name
        account = Account(*self.diagnosis(), self.lan.host(name), self.lan.timeline(name))
        if with_command:
            account.why_json = self.command("host", "why", name, "-o", "json")
            account.why = self.command("host", "why", name)
            account.log = [line for line in self.lan.log().splitlines() if "boot stalled" in line and name in line]
        eventually(lambda: self.count(account), 2)
        return account

    def command(self, *words):
        try:
            return self.lan.command(*words)
        except Exception as error:  # the check of the command line shows it
            return f"FAILED: {error}"

    def count(self, account):
        """Counts the stalled hosts, and reads the metrics; returns whether both agree on the row: a host may change between the two."""
        hosts = self.lan.api("GET", HOSTS)[1]["items"]
        stalled = [condition(host) for host in hosts]
        account.hosts_by_reason = tally(one["reason"] for one in stalled if one and one["status"] == "True")
        metrics = self.lan.metrics()
        account.gauges, account.totals = ({key[len(prefix):-2]: int(value) for key, value in metrics.items() if key.startswith(prefix)}
                                          for prefix in ('bootlatch_hosts_stalled{reason="', 'bootlatch_stalls_total{reason="'))
        return account.gauges.get(self.row.reason, 0) == account.hosts_by_reason.get(camel_case(self.row.reason or ""), 0)


def tally(values):
    """Returns how often each value occurs."""
    found = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found


def camel_case(code):
    return "".join(word.capitalize() for word in code.split("_"))
