"""Figures of a server that runs for hours: samples of its process, and the growth that they show.

Memory is compared between windows of equal length. Windows are counted from each start of the server, after a warm-up, and
each has the median of its samples. A window is compared with the window of the same age of the first start, and with the
first one of the same start at which the allocator has settled.
"""

import collections
import contextlib
import os
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 2  # seconds between two samples
MIN_SAMPLES = 3  # in a window that counts
WHOLE = 0.8  # share of a window's length that a window that counts has at least
MIB = 1 << 20
TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """A process at one time: the number of its start, the seconds since then, and what it holds."""

    life: int
    age: float
    resident: int
    descriptors: int
    threads: int
    cpu: float = 0.0


def read_process(pid, life, age):
    """Returns a sample of a process; None once it has ended."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return Sample(life, age, int(status["VmRSS"].split()[0]) * 1024, len(os.listdir(f"/proc/{pid}/fd")),
                      int(status["Threads"]), (int(stat[11]) + int(stat[12])) * TICK)
    except (OSError, KeyError):  # a process that ends has no memory any more
        return None


def open_files(pid):
    """Returns what the file descriptors of a process are, as {name: how many}. Sockets and pipes have no numbers."""
    found = collections.Counter()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found[os.readlink(descriptor).split(":[")[0]] += 1
    return found


def windows(samples, length, warm_up):
    """Returns the whole windows after the warm-up, as {start of the server: {number of the window: its samples}}."""
    found = {}
    for sample in samples:
        if sample.age >= warm_up:
            found.setdefault(sample.life, {}).setdefault(int((sample.age - warm_up) // length), []).append(sample)
    for life, members in found.items():
        oldest = max(sample.age for sample in samples if sample.life == life)
        found[life] = {number: inside for number, inside in members.items()
                       if len(inside) >= MIN_SAMPLES and warm_up + (number + WHOLE) * length <= oldest + INTERVAL}
    return {life: members for life, members in found.items() if members}


def medians(samples, length, warm_up):
    """Returns the median resident memory of each window, as {start: {window: bytes}}."""
    return {life: {number: statistics.median(sample.resident for sample in inside) for number, inside in members.items()}
            for life, members in windows(samples, length, warm_up).items()}


def growth_findings(samples, length, warm_up, settled, most):
    """Returns the windows with more resident memory than `most` times that of the windows that they are compared with.

    Those of one start are compared with the first one after `settled` seconds, the age from which on memory does not grow by
    what the allocator keeps. Those of the last start are compared with the same age of the earlier starts, of which the first
    is left out if there are others: it was seen to take a fifth less than all later ones, for a cause that is not known."""
    found, findings = medians(samples, length, warm_up), []
    earlier = list(found.values())[:-1]
    earlier = earlier[1:] or earlier
    for life, members in found.items():
        base = min((number for number in members if warm_up + number * length >= settled), default=None)
        for number, used in members.items():
            compared = []
            of_same_age = [other[number] for other in earlier if number in other]
            if life == max(found) and of_same_age:
                compared.append(("the windows of the same age of earlier starts", statistics.median(of_same_age)))
            if base is not None and number > base:
                compared.append((f"window {base} of this start", members[base]))
            findings += [f"start {life}, window {number}: {used / MIB:.1f} MiB, and {what} had {before / MIB:.1f}"
                         for what, before in compared if used > before * most]
    return findings


def leak_findings(samples, length, warm_up, slack):
    """Returns the windows whose fewest file descriptors or threads exceed those of the first window of the same start.

    The fewest count: connections come and go, and what leaks stays. `slack` has how many more of each are no finding."""
    findings = []
    for life, members in windows(samples, length, warm_up).items():
        for kind, more in slack.items():
            fewest = {number: min(getattr(sample, kind) for sample in inside) for number, inside in members.items()}
            first = fewest[min(fewest)]
            findings += [f"start {life}, window {number}: at least {count} {kind}, and {first} in the first window"
                         for number, count in fewest.items() if count > first + more]
    return findings


class Sampler(threading.Thread):
    """A thread that samples the server's process every few seconds."""

    def __init__(self):
        super().__init__(name="sampler", daemon=True)
        self.samples, self.cpu_of_ended = [], 0.0
        self.pid, self.life, self.started = None, 0, 0.0
        self.lock, self.ended = threading.Lock(), threading.Event()

    def watch(self, pid):
        """Begins with another process."""
        with self.lock:
            self.pid, self.life, self.started = pid, self.life + 1, time.monotonic()

    def rest(self):
        """Leaves the process alone: it is about to be stopped."""
        self.take()
        with self.lock:
            if self.pid and self.samples and self.samples[-1].life == self.life:
                self.cpu_of_ended += self.samples[-1].cpu
            self.pid = None

    def take(self):
        """Takes a sample; returns it, or None where no process is watched."""
        with self.lock:
            sample = self.pid and read_process(self.pid, self.life, time.monotonic() - self.started)
            if sample:
                self.samples.append(sample)
            return sample

    def cpu(self):
        """Returns the CPU seconds of all processes that were watched."""
        sample = self.take()
        return self.cpu_of_ended + (sample.cpu if sample else 0.0)

    def run(self):
        while not self.ended.wait(INTERVAL):
            self.take()


class Slowest:
    """The slowest request of each minute and of all."""

    def __init__(self):
        self.lock, self.count = threading.Lock(), 0
        self.lately = self.ever = (0.0, "none")

    def note(self, seconds, what):
        with self.lock:
            self.count += 1
            self.lately = max(self.lately, (seconds, what))
            self.ever = max(self.ever, self.lately)

    def take(self):
        """Returns the slowest request since the last call, as text."""
        with self.lock:
            slowest, self.lately = self.lately, (0.0, "none")
        return shown(slowest)


def shown(slowest):
    """Returns the time and the request as text."""
    return f"{slowest[0] * 1000:.0f} ms {slowest[1]}"
