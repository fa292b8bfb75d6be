"""A `bootlatch serve` process under test, and an HTTP client for it."""

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

from support.tiny_iso import tiny_iso
from support.waiting import eventually, slowness

PORT = 8080


class Answer:
    """An HTTP response that was read completely."""

    def __init__(self, code, headers, body):
        self.code, self.headers, self.body = code, headers, body

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.code} {self.text[:2000]}"


class Server:
    """One `bootlatch serve` on an interface of this process's network namespace (see network.private_network).

    Each start writes a log file of its own, so that no test reads what an earlier server logged.
    Without a `user` the server runs as its default user and makes its state directory itself.
    """

    running = []

    def __init__(self, place, config="", flags=(), interface="lo", address="127.0.0.1", environment=None,
                 user="root", api_port=None):
        self.place, self.config, self.flags = Path(place), config, list(flags)
        self.interface, self.address, self.environment, self.user = interface, address, environment or {}, user
        self.state, self.api_port = self.place / "state", api_port  # a port of its own for the object API, over TLS
        self.binary = os.environ["BOOTLATCH"]
        self.process = self.token = None
        self.starts = 0
        self.reloaded_at = 0
        self.closed = False

    @property
    def log_path(self):
        """The log file of the latest start."""
        return self.place / f"log.{self.starts}"

    def start(self):
        """Starts the server and waits until it answers."""
        if self.user:
            self.state.mkdir(exist_ok=True)
        (self.place / "firmware").mkdir(exist_ok=True)
        # Without any boot program the server is not ready.
        (self.place / "firmware/ipxe-arm64.efi").touch()
        file = self.place / "bootlatch.toml"
        file.write_text((f'user = "{self.user}"\n' if self.user else "") + self.config)
        self.starts += 1
        self.reloaded_at = 0
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--config", file, "--interface", self.interface, "--address", self.address,
                 "--state-dir", self.state, "--firmware-dir", self.place / "firmware", "--http-port", str(PORT), *self.flags],
                stdout=log, stderr=log, env={**os.environ, **self.environment})
        if self not in Server.running:
            Server.running.append(self)
        self.wait_until_it_answers()
        self.token = (self.state / "admin.token").read_text().strip()
        return self

    def wait_until_it_answers(self, wait=30):
        deadline = time.monotonic() + wait * slowness()
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server exited with {self.process.returncode}: {self.tail()}")
            with contextlib.suppress(OSError):
                if self.ask("GET", "/healthz", token=None).code == 200:
                    return
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {self.tail()}")
            time.sleep(0.02)

    def stop(self, how=signal.SIGTERM):
        """Stops the server with a signal and waits until it has exited."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(20 * slowness())

    def reload(self, logged):
        """Sends SIGHUP and waits until the server logs a text in answer to it."""
        self.reloaded_at = len(self.log())
        self.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: logged in self.recent_log(), 10), f"the server logs {logged!r} after SIGHUP: {self.tail()}"

    def restart(self, how=signal.SIGTERM):
        self.stop(how)
        return self.start()

    @contextlib.contextmanager
    def configured(self, config):
        """Runs the server with another configuration for a while, and with its own again afterwards."""
        before = self.config
        self.config = config
        try:
            yield self.restart()
        finally:
            self.config = before
            self.restart()

    def close(self):
        """Stops the server at the end of its tests; kills it if it does not stop."""
        self.closed = True
        try:
            self.stop()
        finally:
            if self.process and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self in Server.running:
                Server.running.remove(self)

    def log(self):
        """Returns what the server logged since its latest start."""
        return self.log_path.read_text(errors="replace") if self.starts else ""

    def recent_log(self):
        """Returns what the server logged since its latest start or reload."""
        return self.log()[self.reloaded_at:]

    def tail(self):
        return self.log()[-3000:]

    def all_logs(self):
        """Returns the logs of all starts."""
        return "".join((self.place / f"log.{number}").read_text(errors="replace") for number in range(1, self.starts + 1))

    def ask(self, method, path, body=None, kind=None, token=True, headers=None, source=None):
        """Sends one request over a new connection. A body that is not text is sent as JSON."""
        where = {"timeout": 30 * slowness(), "source_address": source and (source, 0)}
        if self.api_port and token:
            connection = http.client.HTTPSConnection(self.address, self.api_port, context=ssl._create_unverified_context(), **where)
        else:
            connection = http.client.HTTPConnection(self.address, PORT, **where)
        sent = dict(headers or {})
        if body is not None and not isinstance(body, (str, bytes)):
            body, kind = json.dumps(body), kind or "application/json"
        if kind:
            sent["Content-Type"] = kind
        if token:
            sent["Authorization"] = f"Bearer {self.token if token is True else token}"
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def run(self, *words, stdin=None, **environment):
        """Runs the command line against this server's unix socket."""
        words = [self.binary, *map(str, words)]
        return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=60 * slowness(), env={
            **os.environ, "BOOTLATCH_SERVER": f"unix:{self.state}/api.sock", **environment})

    def watch(self, path, headers=None):
        return Watch(path, self.token, headers)

    def iso(self, name="x.iso"):
        """Writes a small ISO to the directory that relative isoFile paths refer to."""
        (self.state / "isos").mkdir(exist_ok=True)
        (self.state / "isos" / name).write_bytes(tiny_iso())
        return name


class Watch:
    """An open watch, read line by line."""

    def __init__(self, path, token, headers=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30 * slowness())
        self.connection.request("GET", path, headers={"Authorization": f"Bearer {token}", **(headers or {})})
        self.answer = self.connection.getresponse()
        self.code = self.answer.status

    def next(self, wait=10):
        """Returns the next event; None at the end of the watch, or if no event comes in time."""
        return self.poll(wait * slowness())

    def poll(self, seconds):
        """Returns the next event; None at the end of the watch, or if no event comes in `seconds` on any machine."""
        if self.connection.sock:
            self.connection.sock.settimeout(seconds)
        try:
            line = self.answer.readline()
        except (TimeoutError, socket.timeout):
            return None
        return json.loads(line) if line.strip() else None

    def take(self, count, wait=10):
        return [self.next(wait) for _ in range(count)]

    def close(self):
        self.connection.close()
