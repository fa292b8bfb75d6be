"""Hours of mixed load against one server, in the long form; a minute of the same in the short one.

Memory stays flat, no file descriptor or thread leaks, nothing that was acknowledged is lost, tokens outlast clock steps and
restarts, and the log has no error. CONTRIBUTING.md describes the variables.
"""

import math
import os
import time
from dataclasses import dataclass

import pytest

from support.install_clients import Interrupted
from support.soak_samples import MIB, growth_findings, leak_findings, medians, shown
from support.soak_testbed import SoakTestbed

MINUTES = float(os.environ.get("SOAK_MINUTES", "120"))
RATE = float(os.environ.get("SOAK_RATE", "1"))
STEPS_CLOCK = os.environ.get("SOAK_CLOCK", "steps") != "steady"
FLEET, SHORT_FLEET = 10_000, 2_000  # hosts in the long form and in the short one
MOST_MEMORY = 1.05  # of a window, in sizes of the windows that it is compared with
MOST_MEMORY_SHORT = 1.5  # the same in the short form, in which the allocator does not settle
# File descriptors and threads that the server may have more in a window. A burst of work starts threads that later work
# keeps; what is left of them at rest is checked apart.
LEAK_SLACK = {"descriptors": 4, "threads": 50}


@dataclass(frozen=True)
class Plan:
    """When what happens, in seconds from the start. The last start of the server lasts longer than the others."""

    seconds: float
    restarts: tuple
    reload_every: float
    step_every: float
    check_every: float
    window: float
    warm_up: float
    settled: float

    def events(self):
        """Returns the events in their order, as pairs of second and name."""
        every = lambda interval, first: (first + number * interval for number in range(int((self.seconds - first) / interval) + 1))
        found = [(at, "restart") for at in self.restarts]
        found += [(at, "reload") for at in every(self.reload_every, self.reload_every * 0.4)]
        found += [(at, "step_clock") for at in every(self.step_every, self.step_every * 0.6)]
        found += [(at, "check") for at in every(self.check_every, self.check_every)]
        return sorted(found)


def long_plan(minutes):
    """Returns six short starts in the first half, and one start for the second half."""
    seconds = minutes * 60
    return Plan(seconds, tuple(number * seconds / 12 for number in range(1, 7)), seconds / 40, seconds / 24, 60, seconds / 24, seconds / 24, seconds / 6)


SHORT = Plan(60, (24,), 20, 14, 15, 10, 12, math.inf)


@pytest.fixture
def is_long(request):
    return request.config.getoption("long")


@pytest.fixture
def testbed(is_long):
    """A LAN with a server that has a fleet, and clients of every kind."""
    testbed = SoakTestbed(FLEET if is_long else SHORT_FLEET, RATE, STEPS_CLOCK, warms_up=is_long)
    yield testbed
    testbed.close()


@pytest.fixture
def say(capsys):
    """A function that prints a line at once, whatever pytest captures."""
    def say(text):
        with capsys.disabled():
            print(text, flush=True)
    return say


class Report:
    """The line of each minute, and the summary."""

    def __init__(self, testbed, say):
        self.testbed, self.say, self.begun = testbed, say, time.monotonic()
        self.before = self.now()

    def now(self):
        return time.monotonic(), self.testbed.sampler.cpu(), time.process_time(), self.testbed.slowest.count

    def line(self):
        """Prints what the server has now, and how busy it and the clients were since the last line."""
        before, self.before = self.before, self.now()
        elapsed, server, clients, requests = (new - old for new, old in zip(self.before, before))
        self.testbed.sampler.take()
        sample, loads = self.testbed.sampler.samples[-1], self.testbed.loads()
        self.say(f"soak {(time.monotonic() - self.begun) / 60:6.1f} min: {sample.resident / MIB:6.1f} MiB resident, {sample.descriptors} fds, "
                 f"{sample.threads} threads, database {self.testbed.database_size() / MIB:.1f} MiB, {loads['installs']} installs, "
                 f"{requests / elapsed:.0f} requests/s, slowest {self.testbed.slowest.take()}, CPU {100 * server / elapsed:.0f} % server "
                 f"+ {100 * clients / elapsed:.0f} % clients, {len(self.testbed.findings)} findings")

    def summary(self, plan):
        """Prints what was done, and the figures of the whole run."""
        testbed = self.testbed
        found = medians(testbed.sampler.samples, plan.window, plan.warm_up)
        values = [value for members in found.values() for _, value in sorted(members.items())]
        self.say("soak loads: " + ", ".join(f"{count} {kind}" for kind, count in testbed.loads().items()))
        for life, members in found.items():
            self.say(f"soak start {life}: " + " ".join(f"{value / MIB:.1f}" for _, value in sorted(members.items())) + " MiB in its windows")
        if values:
            middle = sorted(values)[len(values) // 2]
            self.say(f"soak memory: first window {values[0] / MIB:.1f} MiB, last {values[-1] / MIB:.1f}, median {middle / MIB:.1f}, "
                     f"most {max(values) / MIB:.1f}")
        rest, last = testbed.at_rest, testbed.sampler.samples[-1]
        self.say(f"soak at rest: {rest.descriptors} fds and {rest.threads} threads at first, {last.descriptors} and {last.threads} at the end")
        self.say(f"soak database: {testbed.first_size} octets with a full timeline, {testbed.database_size()} at the end; "
                 f"timeline {max(testbed.sizes, default=0)} entries")
        self.say(f"soak slowest: request {shown(testbed.slowest.ever)}; {shown(testbed.slowest_boot.ever)}; "
                 f"{shown(testbed.slowest_restart.ever)}")
        for message, count in testbed.messages.most_common():
            self.say(f"soak log: {count} {message}")
        for finding in testbed.findings:
            self.say(f"soak finding: {finding}")


def run(testbed, plan, report):
    """Lets the clients work while the plan's events happen. Ends early if something is found."""
    testbed.begin()
    begun = time.monotonic()
    for at, event in [*plan.events(), (plan.seconds, "check")]:
        testbed.ended.wait(max(0.0, begun + at - time.monotonic()))
        try:
            getattr(testbed, event)()
        except Interrupted as why:
            testbed.findings.append(f"{event}: {why}")
        if event == "check":
            report.line()
        if testbed.findings:
            return


def test_a_server_works_for_hours(testbed, is_long, say):
    plan = long_plan(MINUTES) if is_long else SHORT
    report = Report(testbed, say)
    run(testbed, plan, report)
    if not testbed.findings:
        testbed.finish()
    testbed.findings += growth_findings(testbed.sampler.samples, plan.window, plan.warm_up, plan.settled, MOST_MEMORY if is_long else MOST_MEMORY_SHORT)
    testbed.findings += leak_findings(testbed.sampler.samples, plan.window, plan.warm_up, LEAK_SLACK)
    report.summary(plan)
    assert testbed.findings == []
    loads = testbed.loads()
    for kind in ("installs", "tftp", "leases", "operator changes", "labels", "watch events", "replaced ISOs", "whole ISO reads", "reloads", "steps"):
        assert loads[kind], f"the clients got something done: {kind} in {loads}"
