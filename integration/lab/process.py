"""Programs: run to the end, or kept going until the lab closes."""

import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time

STOP_LIMIT = 10.0  # seconds for a program to end after SIGTERM, before SIGKILL
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """Something of the world did not do what the lab asked; the text is for a person."""


def run(*command, limit=60, input=None):
    """Runs to the end and returns what was printed; a failure carries the program's own words."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, input=input,
                              stdin=subprocess.DEVNULL if input is None else None)
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(command)}: not done after {limit} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise LabError(f"{' '.join(command)}: exit code {done.returncode}: {said}")
    return done.stdout


def tool(name):
    """Finds a program, also in the sbin folders that a plain user's PATH lacks."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise LabError(f"{name} is not installed: run integration/install-packages")
    return path


def _die_with_parent():
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing outlives a killed harness


class Program:
    """A running program whose output is kept in a file and watched line by line."""

    def __init__(self, name, command, log, env=None):
        self.name = name
        self.log = log
        self.lines = []  # (time, text)
        self.changed = threading.Condition()
        self.watchers = []
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=env, start_new_session=True, preexec_fn=_die_with_parent)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self):
        return self.process.pid

    def _read(self):
        rest = b""
        with open(self.log, "ab", buffering=0) as log:
            while part := self.process.stdout.read1(65536):
                log.write(part)  # at once: a menu on a console is no line
                *lines, rest = (rest + part).split(b"\n")
                for raw in lines:
                    self.note(raw.decode("utf-8", "replace").rstrip())
        if rest:
            self.note(rest.decode("utf-8", "replace").rstrip())
        with self.changed:
            self.changed.notify_all()

    def note(self, text):
        with self.changed:
            self.lines.append((time.time(), text))
            self.changed.notify_all()
        for watcher in self.watchers:
            watcher(self.lines[-1][0], text)

    def wait_for(self, wanted, limit, since=0, meets=None):
        """Waits for a line with `wanted` in it, or that `meets` accepts; returns (index, time, text)."""
        meets = meets or (lambda text: wanted in text)
        deadline = time.monotonic() + limit
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
                    raise LabError(f"{self.name}: no '{wanted}' within {limit} s; last: {self.tail()}")
                self.changed.wait(min(left, 1.0))

    def tail(self, count=5):
        return " | ".join(text for _, text in self.lines[-count:]) or "(silent)"

    def running(self):
        return self.process.poll() is None

    def kill(self):
        self._signal(signal.SIGKILL)

    def stop(self):
        """Asks it to end, insists after STOP_LIMIT; returns its exit code."""
        self._signal(signal.SIGTERM)
        return self.process.returncode

    def _signal(self, number):
        if self.running():
            self.process.send_signal(number)
            try:
                self.process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(STOP_LIMIT)
