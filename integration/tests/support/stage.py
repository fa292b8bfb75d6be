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
LOOK_INTERVAL = 0.4  # seconds between two looks at a diagnosis
STAGGER = 0.15  # seconds between the power-on of two machines of a LAN
QUIET = 20  # seconds after its end for which a healthy boot is watched at least


@dataclass(frozen=True, eq=False)
class Row:
    """A boot. `reason` is None for a healthy one.

    `at`: seconds from the first DISCOVER at which the evidence is complete. `facts`: patterns that the sentence or the remedy contains;
    <address>, <mac> and <name> stand for those of the machine. `hints`: earlier reasons that are true as well. `is_said_once`: whether
    nothing may be said of the host before the machine goes on but this."""

    id: str
    story: object
    reason: str = None
    certainty: tuple = ()
    at: float = 0
    facts: tuple = ()
    hints: tuple = ()
    network: str = "main"
    firmware: object = UEFI
    program: str = None
    host: dict = field(default_factory=dict)
    goes_on: bool = False
    may_be_said: bool = False  # of a healthy boot: a diagnosis that is taken back
    is_long: bool = False

    def __str__(self):
        return f"{self.id}-{self.reason or 'healthy'}"

    @property
    def name(self):
        return self.id.lower().replace("_", "-")


class Rows(list):
    """The rows of one test module."""

    def stall(self, id, reason, certainty, at, facts=(), **more):
        """Adds the decorated function as the story of a stall."""
        def add(story):
            sure = (certainty,) if isinstance(certainty, str) else tuple(certainty)
            self.append(Row(id, story, reason, sure, at, tuple(facts), goes_on=has_more_after_yield(story), **more))
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
        self.stood_at = self.due_at = self.cleared_after = None
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

    def note(self, seconds, diagnosis):
        if not self.verdicts or self.verdicts[-1][1] != diagnosis:
            self.verdicts.append((seconds, diagnosis))

    def story(self):
        """Returns what the machine did and what the server said, for the message of a failed test."""
        lines = [f"{self.row} of {self.machine and self.machine.name}"]
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
        """Returns the diagnosis of the host and the steps; notes it if it has changed."""
        code, answer = self.lan.api("GET", f"{HOSTS}/{self.machine.name}/diagnosis")
        if code != 200:
            self.outcome.api_fault = f"the diagnosis of {self.machine.name}: {code} {answer}"
            return None, []
        self.outcome.note(self.seconds(), answer["diagnosis"])
        return answer["diagnosis"], answer["steps"]

    def await_diagnosis(self):
        """Waits for the diagnosis of the row, and takes an account while it stands."""
        outcome = self.outcome
        outcome.due_at = (self.row.at + PATIENCE) * slowness()
        while not outcome.is_expected(self.diagnosis()[0]):
            if self.seconds() > outcome.due_at or outcome.api_fault:
                break
            self.machine.wait(LOOK_INTERVAL)
        else:
            outcome.stood_at = self.seconds()
        outcome.told = self.account()

    def await_end(self):
        """Waits until the diagnosis is taken back."""
        went_on = time.monotonic()
        while (self.diagnosis()[0] or {}).get("reason") == self.row.reason and time.monotonic() - went_on < PATIENCE * slowness():
            self.machine.wait(LOOK_INTERVAL)
        self.outcome.cleared_after = time.monotonic() - went_on
        self.outcome.after = self.account(with_command=False)

    def account(self, with_command=True):
        """Returns what the server says now, by all of its voices."""
        name = self.machine.name
        account = Account(*self.diagnosis(), self.lan.host(name), self.lan.timeline(name))
        if with_command:
            account.why_json = self.command("host", "why", name, "-o", "json")
            account.why = self.command("host", "why", name)
            account.log = [line for line in self.lan.log().splitlines() if "boot stalled" in line and name in line]
        eventually(lambda: self.count(account), 5)
        return account

    def command(self, *words):
        try:
            return self.lan.command(*words)
        except Exception as error:  # the check of the command line shows it
            return f"FAILED: {error}"

    def count(self, account):
        """Counts the stalled hosts, and reads the metrics; returns whether both agree: a host may change between the two."""
        hosts = self.lan.api("GET", HOSTS)[1]["items"]
        stalled = [condition(host) for host in hosts]
        account.hosts_by_reason = tally(one["reason"] for one in stalled if one and one["status"] == "True")
        metrics = self.lan.metrics()
        account.gauges, account.totals = ({key[len(prefix):-2]: int(value) for key, value in metrics.items() if key.startswith(prefix)}
                                          for prefix in ('bootlatch_hosts_stalled{reason="', 'bootlatch_stalls_total{reason="'))
        shown = {camel_case(reason): count for reason, count in account.gauges.items() if count}
        return shown == account.hosts_by_reason


def tally(values):
    """Returns how often each value occurs."""
    found = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found


def camel_case(code):
    return "".join(word.capitalize() for word in code.split("_"))
