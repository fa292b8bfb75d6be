"""The steps of one machine from power-on to its installed OS, with their times."""

import threading
import time

from .lab import HOSTNAME
from .process import LabError

BOOT_LIMIT = 120.0     # seconds from power-on or reset to the installer's kernel
INSTALL_LIMIT = 90.0   # from there to the reboot
DISK_LIMIT = 120.0     # from the reboot to the installed OS
POLL = 0.5             # seconds between two looks at the timeline

# The steps of the first and of the second boot: (label, source, name in that source).
FIRST_BOOT = [("offer", "server", "offer"), ("TFTP done", "server", "tftp_completed"), ("script", "server", "script"),
              ("iSCSI login", "server", "iscsi_login"), ("kernel", "console", "kernel-up"),
              ("config", "server", "config_fetched"), ("disk written", "console", "disk-written"),
              ("complete", "server", "boot_completed"), ("reboot", "console", "reboot")]
SECOND_BOOT = [("offer again", "server", "offer"), ("local disk", "server", "local_disk"),
               ("disk's boot loader", "console", "disk-loader"), ("OS up", "console", "os-up")]


def host_name(machine):
    """Returns the name that bootlatch gives to an unknown machine."""
    return machine.mac.replace(":", "-")


class Cycle:
    """Watches one machine of a lab; calls `report(seconds, text)` at each step."""

    def __init__(self, lab, machine, report=lambda seconds, text: None):
        self.lab, self.machine, self.report = lab, machine, report
        self.power_on_at = None
        self.since = 0  # index of the console's line where the current boot began

    def power_on(self, hold=None, extra=()):
        self.since = 0
        self.power_on_at = self.machine.power_on(self.lab.network, hold=hold, extra=extra)
        self.report(0.0, "power-on")
        self.machine.console.watchers.append(self._console_line)

    def _console_line(self, when, text):
        if "BOOTLATCH-LAB: " in text:
            self.report(when - self.power_on_at, text.split("BOOTLATCH-LAB: ")[1].split(" at=")[0])

    def reset(self):
        """Presses the reset button; times count from here."""
        self.since = self.machine.reset()
        self.power_on_at = time.time()

    def install(self):
        """Waits until the installer reboots the machine."""
        index, _, _ = self.machine.wait_marker("kernel-up", BOOT_LIMIT, self.since)
        self.machine.wait_marker("reboot", INSTALL_LIMIT, index)

    def os_up(self):
        """Waits until the installed OS runs, and checks that it has the host name of the config."""
        _, _, details = self.machine.wait_marker("os-up", DISK_LIMIT, self.since)
        if details.get("host") != HOSTNAME:
            raise LabError(f"the host name of the installed OS is {details.get('host')!r}, not {HOSTNAME!r}")

    def server_events(self):
        return [(when, name) for when, name, _ in self.lab.appliance.timeline(host_name(self.machine))
                if when >= self.power_on_at - 0.001]

    def console_events(self):
        rows = []
        for when, text in list(self.machine.console.lines):
            if when >= self.power_on_at and "BOOTLATCH-LAB: " in text:
                rows.append((when, text.split("BOOTLATCH-LAB: ")[1].split()[0]))
        return rows

    def steps(self, first=tuple(FIRST_BOOT), second=tuple(SECOND_BOOT)):
        """Returns (seconds since power-on, label) of each step of an install and its disk boot; None if it was not seen.

        `first` and `second` name the steps of the two boots."""
        seen = {"server": self.server_events(), "console": self.console_events()}
        reboot = next((when for when, name in seen["console"] if name == "reboot"), None)
        rows = [(0.0, "power-on")]
        for after, steps in ((self.power_on_at, first), (reboot, second)):
            for label, source, name in steps:
                times = [when for when, event in seen[source]
                         if event == name and after is not None and when >= after - 0.001]
                rows.append((round(times[0] - self.power_on_at, 2) if times else None, label))
        return rows


class Follow:
    """Reports the server's events of a cycle as they happen, from a thread of its own. Use as a context manager."""

    def __init__(self, cycle):
        self._cycle = cycle
        self._stop = threading.Event()
        self._reported = 0
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def _follow(self):
        while not self._stop.wait(POLL):
            try:
                events = self._cycle.server_events()
            except LabError:
                continue  # the server restarts; the next look has the missed events
            for when, name in events[self._reported:]:
                self._cycle.report(when - self._cycle.power_on_at, f"bootlatch: {name}")
            self._reported = len(events)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
