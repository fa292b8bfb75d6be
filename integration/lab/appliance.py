"""The bootlatch server of a lab: the built binary in a network namespace of its own."""

import json
import os
import socket
import time
from datetime import datetime

from . import speed
from .network import APPLIANCE_ADDRESS
from .process import LabError, Program, run

READY_LIMIT = 30.0  # seconds


class Appliance:
    """One state directory, and at most one running server that uses it."""

    def __init__(self, network, folder, binary, firmware):
        self.network, self.folder, self.binary, self.firmware = network, folder, binary, firmware
        self.state = folder / "state"
        # The options for one interface. A boot with several interfaces clears them and lists all in its configuration.
        self.interface = ["--interface", "lan0", "--address", APPLIANCE_ADDRESS]
        self.server = None
        self._starts = 0

    def start(self, rule="ignore", *options):
        """Starts the server and waits until it reports that it is ready."""
        self._starts += 1
        path = self.folder / "notify"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(os.fspath(path))
            path.chmod(0o666)
            command = [str(self.binary), "serve", *self.interface, "--state-dir", str(self.state),
                       "--firmware-dir", str(self.firmware), "--unknown-hosts", rule, *options]
            environment = dict(os.environ, NOTIFY_SOCKET=os.fspath(path))
            self.server = Program("bootlatch", self.network.inside(self.network.appliance, *command),
                                  self.folder / f"bootlatch-{self._starts}.log", env=environment)
            self._wait_ready(ready)

    def _wait_ready(self, ready):
        ready.settimeout(0.2)
        deadline = speed.deadline(READY_LIMIT)
        while time.monotonic() < deadline:
            try:
                if b"READY=1" in ready.recv(4096):
                    return
            except TimeoutError:
                if not self.server.running():
                    raise LabError(f"bootlatch did not start: {self.server.tail()}") from None
        raise LabError(f"bootlatch was not ready within {READY_LIMIT} s: {self.server.tail()}")

    def command(self, *arguments):
        """Runs a client command of bootlatch against this server, over its Unix socket."""
        return run(str(self.binary), *arguments, "--server", f"unix:{self.state}/api.sock")

    def timeline(self, name):
        """Returns a host's timeline as [(time, event, detail)], oldest first; empty for an unknown host.

        An entry with a count becomes as many rows; all but the first have the time of the last repetition."""
        try:
            entries = json.loads(self.command("host", "timeline", name, "-o", "json"))
        except LabError:
            if not self.server.running():
                raise
            return []
        parse_time = lambda text: datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
        rows = []
        for entry in entries:
            repeated = [entry["last"]] * (entry["count"] - 1) if "last" in entry else []
            rows += [(parse_time(text), entry["event"], entry.get("detail") or {}) for text in (entry["time"], *repeated)]
        return sorted(rows, key=lambda row: row[0])

    def host(self, name):
        return json.loads(self.command("host", "show", name, "-o", "json"))

    def kill(self):
        """Kills the server with SIGKILL, so that it cannot flush anything."""
        self.server.kill()

    def stop(self):
        """Stops the server with SIGTERM, as systemd does; its exit code must be 0."""
        code = self.server.stop()
        if code:
            raise LabError(f"bootlatch ended with exit code {code} on SIGTERM: {self.server.tail()}")
