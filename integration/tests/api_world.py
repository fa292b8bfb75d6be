"""A server of its own for each test of the API, in a network namespace of its own; checks that count.

A test is a script that calls `main(run)`; `run(server, check)` gets a running server. Python's standard library only.
"""

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

PORT = 8080
IGNITION = '{"ignition":{"version":"3.4.0"}}'


class Check:
    """Counts what holds and what does not, one line each."""

    def __init__(self):
        self.passed = self.failed = 0

    def __call__(self, what, holds, seen=""):
        if holds:
            self.passed += 1
            print(f"ok       {what}", flush=True)
        else:
            self.failed += 1
            print(f"FAILED   {what}   {str(seen)[:2000]}", flush=True)
        return bool(holds)


def eventually(look, wait=5):
    """Waits until a look finds something, and gives it; the last look where it never does."""
    deadline = time.monotonic() + wait
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


class Answer:
    def __init__(self, code, headers, body):
        self.code, self.headers, self.body = code, headers, body

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.code} {self.text}"


class Server:
    """One `bootlatch serve` on the loopback of this process's own network namespace."""

    def __init__(self, place, config="", flags=(), interface="lo", address="127.0.0.1"):
        self.place, self.config, self.flags = Path(place), config, list(flags)
        self.interface, self.address = interface, address
        self.state = self.place / "state"
        self.binary = os.environ["BOOTLATCH"]
        self.process = self.token = None

    def start(self):
        self.state.mkdir(exist_ok=True)
        (self.place / "firmware").mkdir(exist_ok=True)
        file = self.place / "bootlatch.toml"
        file.write_text(f'user = "root"\n{self.config}')
        self.log = open(self.place / "log", "ab")
        self.process = subprocess.Popen(
            [self.binary, "serve", "--config", file, "--interface", self.interface, "--address", self.address,
             "--state-dir", self.state, "--firmware-dir", self.place / "firmware", "--http-port", str(PORT), *self.flags],
            stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 30
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended: {self.tail()}")
            with contextlib.suppress(OSError):
                if self.ask("GET", "/healthz", token=None).code == 200:
                    break
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {self.tail()}")
            time.sleep(0.02)
        self.token = (self.state / "admin.token").read_text().strip()
        return self

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(20)
        self.log.close()

    def restart(self, how=signal.SIGTERM):
        self.stop(how)
        return self.start()

    def tail(self):
        return (self.place / "log").read_text(errors="replace")[-3000:]

    def ask(self, method, path, body=None, kind=None, token=True, headers=None, source=None):
        """Asks once, over a connection of its own. A body that is no text is sent as JSON."""
        connection = http.client.HTTPConnection(self.address, PORT, timeout=30, source_address=source and (source, 0))
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
        return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=60, env={
            **os.environ, "BOOTLATCH_SERVER": f"unix:{self.state}/api.sock", **environment})

    def watch(self, path, headers=None):
        return Watch(path, self.token, headers)

    def iso(self, name="x.iso"):
        """Puts a small ISO where a relative isoFile is looked for."""
        (self.state / "isos").mkdir(exist_ok=True)
        (self.state / "isos" / name).write_bytes(tiny_iso())
        return name


class Watch:
    """An open watch, read line by line."""

    def __init__(self, path, token, headers=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
        self.connection.request("GET", path, headers={"Authorization": f"Bearer {token}", **(headers or {})})
        self.answer = self.connection.getresponse()
        self.code = self.answer.status

    def next(self, wait=10):
        """Gives the next event; None at the watch's end, or where nothing comes in time."""
        if self.connection.sock:
            self.connection.sock.settimeout(wait)
        try:
            line = self.answer.readline()
        except (TimeoutError, socket.timeout):
            return None
        return json.loads(line) if line.strip() else None

    def take(self, count, wait=10):
        return [self.next(wait) for _ in range(count)]

    def close(self):
        self.connection.close()


def tiny_iso(volume="TINY"):
    """The smallest ISO 9660 volume that holds a root directory (ECMA-119)."""
    both = lambda number, size: number.to_bytes(size, "little") + number.to_bytes(size, "big")
    sectors = 24
    image = bytearray(sectors * 2048)
    record = lambda name: bytes([34, 0]) + both(20, 4) + both(2048, 4) + bytes(7) + bytes([2, 0, 0]) + both(1, 2) + bytes([1, name])
    descriptor = bytearray(2048)
    descriptor[0:7] = b"\x01CD001\x01"
    descriptor[40:72] = volume.ljust(32).encode()
    descriptor[80:88] = both(sectors, 4)
    descriptor[120:124], descriptor[124:128], descriptor[128:132] = both(1, 2), both(1, 2), both(2048, 2)
    descriptor[132:140] = both(10, 4)
    descriptor[140:144], descriptor[148:152] = (18).to_bytes(4, "little"), (19).to_bytes(4, "big")
    descriptor[156:190] = record(0)
    descriptor[881] = 1
    image[16 * 2048:17 * 2048] = descriptor
    image[17 * 2048:17 * 2048 + 7] = b"\xffCD001\x01"
    image[18 * 2048:18 * 2048 + 10] = bytes([1, 0]) + (20).to_bytes(4, "little") + (1).to_bytes(2, "little") + b"\0\0"
    image[19 * 2048:19 * 2048 + 10] = bytes([1, 0]) + (20).to_bytes(4, "big") + (1).to_bytes(2, "big") + b"\0\0"
    image[20 * 2048:20 * 2048 + 68] = record(0) + record(1)
    return bytes(image)


def host(name, number, **spec):
    mac = "52:54:00:%02x:%02x:%02x" % (number >> 16 & 255, number >> 8 & 255, number & 255)
    return {"apiVersion": "v1", "kind": "BareMetalHost", "metadata": {"name": name, "namespace": "default"},
            "spec": {"bootMACAddress": mac, **spec}}


def config(name, text=IGNITION):
    return {"apiVersion": "v1", "kind": "BootConfig", "metadata": {"name": name},
            "spec": {"format": "ignition", "data": {"config.ign": text}}}


def image(name, configs=(), file="x.iso"):
    return {"apiVersion": "v1", "kind": "ISCSICdrom", "metadata": {"name": name},
            "spec": {"isoFile": file, "bootConfigs": list(configs)}}


HOSTS = "/api/v1/namespaces/default/baremetalhosts"
IMAGES = "/api/v1/iscsi-cdroms"
CONFIGS = "/api/v1/bootconfigs"


def as_machine():
    """Lets who connects to the server and names no address of its own come from 192.0.2.1, which a host may have."""
    subprocess.run("ip route replace local 127.0.0.1 dev lo table local proto kernel scope host src 192.0.2.1".split(), check=True)


def timeline(server, name="", *kinds):
    """Gives a host's timeline, or the whole one without a name; only events of some kinds where any is named."""
    path = f"{HOSTS}/{name}/timeline" if name else "/api/v1/timeline"
    items = server.ask("GET", path).json["items"]
    return [entry for entry in items if not kinds or entry["event"] in kinds]


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def main(run, config="", flags=(), prepare=None, **place_of_server):
    """Runs a test in a network namespace without a name, which goes with it, and says how many checks held."""
    if os.environ.get("BAPI_INSIDE") != str(os.getpid()):
        if "BOOTLATCH" not in os.environ:
            sys.exit("set BOOTLATCH to the path of the binary under test")
        # exec keeps the pid, so the mark is only good for this very process.
        os.environ["BAPI_INSIDE"] = str(os.getpid())
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # On the loopback every address of the net is this machine's, so each may be a machine's that asks (RFC 5737).
    subprocess.run(["ip", "address", "add", "192.0.2.1/24", "dev", "lo"], check=True)
    if prepare:
        prepare()
    check = Check()
    with tempfile.TemporaryDirectory(prefix="bapi-") as place:
        server = Server(place, config.replace("PLACE", place), flags, **place_of_server)
        try:
            run(server.start(), check)
            check("the server is still there", server.process.poll() is None, server.tail())
            check("the server did not panic", "panicked" not in server.tail(), server.tail())
        except Exception:
            traceback.print_exc()
            print(server.tail())
            check.failed += 1
        finally:
            server.stop()
    print(f"{check.passed} passed, {check.failed} failed")
    sys.exit(1 if check.failed else 0)
