"""Programs: run to the end, or run until the lab closes."""

import os
import shutil
import signal
import subprocess
import threading
import time

from . import speed

STOP_LIMIT = 10.0  # seconds from SIGTERM to SIGKILL
# Makes the kernel kill a program when the thread that started it ends. A function that runs between fork and exec would
# do the same, and can hang in a process with several threads.
WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")


class LabError(Exception):
    """A step of the lab failed; the text describes it for a person."""


def run(*command, limit=60, input=None, check=True):
    """Runs a command to its end and returns its standard output.

    The error of a failure has the command's output; without `check` only the time limit is an error. `limit` is in
    seconds of the reference machine."""
    limit *= speed.slowness()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, input=input,
                              stdin=subprocess.DEVNULL if input is None else None)
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(command)}: not done after {limit:.0f} s") from None
    if check and done.returncode:
        output = (done.stderr or done.stdout).strip()
        raise LabError(f"{' '.join(command)}: exit code {done.returncode}: {output}")
    return done.stdout


def tool(name):
    """Returns the path of a program; also searches the sbin folders that the PATH of a plain user lacks."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise LabError(f"{name} is not installed: run integration/setup/install-packages")
    return path


def copied(folder, name):
    """Copies a program and returns the copy's path. Debian's AppArmor profiles go by path, and forbid the original to read our files."""
    copy = folder / "bin" / name
    if not copy.exists():
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(tool(name), copy)
    return str(copy)


class Program:
    """A running program. Its output is written to a file and read line by line."""

    def __init__(self, name, command, log, env=None):
        self.name = name
        self.log = log
        self.lines = []  # (time, text)
        self.changed = threading.Condition()
        self.watchers = []  # called with (time, text) of each line
        self.process = subprocess.Popen(
            [*WITH_PARENT, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=env, start_new_session=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self):
        return self.process.pid

    def _read(self):
        rest = b""
        with open(self.log, "ab", buffering=0) as log:
            while part := self.process.stdout.read1(65536):
                log.write(part)  # unbuffered: a menu on a console does not end its lines
                *lines, rest = (rest + part).split(b"\n")
                for raw in lines:
                    self.note(raw.decode("utf-8", "replace").rstrip())
        if rest:
            self.note(rest.decode("utf-8", "replace").rstrip())
        with self.changed:
            self.changed.notify_all()

    def note(self, text):
        """Adds a line to the output."""
        with self.changed:
            self.lines.append((time.time(), text))
            self.changed.notify_all()
        for watcher in self.watchers:
            watcher(self.lines[-1][0], text)

    def wait_for(self, wanted, limit, since=0, meets=None):
        """Waits for a line that contains `wanted`, or that `meets` accepts; returns (index, time, text).

        `limit` is in seconds of the reference machine."""
        meets = meets or (lambda text: wanted in text)
        deadline = speed.deadline(limit)
        index = since
        with self.changed:
            while True:
                while index < len(self.lines):
                    when, text = self.lines[index]
                    if meets(text):
                        return index, when, text
                    index += 1
                left = deadline - time.monotonic()
                if not self._reader.is_alive():
                    raise LabError(f"{self.name} ended before '{wanted}': {self.tail()}")
                if left <= 0:
                    raise LabError(f"{self.name}: no '{wanted}' within {limit} s; last lines: {self.tail()}")
                self.changed.wait(min(left, 1.0))

    def tail(self, count=5):
        return " | ".join(text for _, text in self.lines[-count:]) or "(no output)"

    def running(self):
        return self.process.poll() is None

    def kill(self):
        self._signal(signal.SIGKILL)

    def stop(self):
        """Sends SIGTERM, and SIGKILL after STOP_LIMIT; returns the exit code."""
        self._signal(signal.SIGTERM)
        return self.process.returncode

    def _signal(self, number):
        if self.running():
            self.process.send_signal(number)
            try:
                self.process.wait(STOP_LIMIT * speed.slowness())
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(STOP_LIMIT)
