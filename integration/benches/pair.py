"""What the benchmarks share: a server and a client on one CPU core each, joined by a veth pair; medians and verdicts.

The environment: LAB_BINARY is the release build of bootlatch (integration/bench sets it), RUNS the number of rounds,
SECONDS_EACH the length of one measurement.
"""

import itertools
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "integration"))
from lab.namespaces import Namespaces  # noqa: E402
from lab.process import LabError as Failure, Program, copied, run, tool  # noqa: E402, F401 (the benchmarks import them from here)

CACHE = Path(os.environ.get("BOOTLATCH_LAB_CACHE", ROOT / "integration/.cache"))
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = Path(os.environ.get("LAB_BINARY", TARGET / "release/bootlatch"))
SERVER, OWN = "10.64.0.1", "10.64.0.2"
FAR = "10.192.0.2"  # like all of 10.192.0.0/16 an address of the client that the server reaches through a router
RUNS, SECONDS = int(os.environ.get("RUNS", 5)), float(os.environ.get("SECONDS_EACH", 3))
WIRE = ROOT / "integration/tests/support/impaired_link.py"
TICK = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))[:2]


def load_program(name):
    """Returns the path of a load generator or test tool; builds it if it is missing."""
    program = TARGET / "release" / name
    if not program.exists():
        package = "bootlatch-tools" if name == "iscsi_target" else "bootlatch-loadgen"
        print(f"building {name}", flush=True)
        subprocess.run(["cargo", "build", "--quiet", "--locked", "--release", "-p", package, "--bin", name], cwd=ROOT, check=True)
    return str(program)


def cpu(pid):
    """Returns the CPU seconds that a process and its threads have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid, field="VmRSS"):
    """Returns the resident memory in bytes; the field `VmHWM` is its maximum so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def until(what, look, limit=15):
    """Waits until `look` returns a true value, and returns it."""
    deadline = time.monotonic() + limit
    while not (found := look()):
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {limit} s")
        time.sleep(0.02)
    return found


def host_body(number):
    """Returns the JSON of a host as the server stores it: a machine that boots its own disk."""
    mac = "52:54:%02x:%02x:%02x:%02x" % tuple(number.to_bytes(4, "big"))
    return json.dumps({
        "metadata": {"name": f"host{number:06}", "namespace": "default", "uid": str(uuid.UUID(int=number)), "resourceVersion": "1",
                     "generation": 1, "creationTimestamp": "2026-11-21T00:00:00Z", "labels": {"rack": f"r{number // 40}"}},
        "spec": {"bootMACAddress": mac, "image": "localboot", "bootMode": "once"},
        "status": {"phase": "LocalBoot", "phaseTransitionTime": "2026-11-21T00:00:00Z", "firmware": "x86_64-uefi"}}, separators=(",", ":"))


def write_hosts(state, count):
    """Replaces all objects in the database of a server that is stopped by this many hosts."""
    base = sqlite3.connect(state / "bootlatch.db")
    with base:
        base.execute("DELETE FROM objects")
        rows = ((f"host{number:06}", host_body(number)) for number in range(count))
        base.executemany("INSERT INTO objects VALUES ('BareMetalHost', 'default', ?, ?)", rows)
        base.execute("UPDATE version SET number = 1")
    base.close()


SYSTEM_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()


def allows_control(name):
    """Returns whether a network namespace may use this TCP congestion control."""
    allowed = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control").read_text().split()
    return name == SYSTEM_CONTROL or name in allowed


# All clients of a benchmark share one address and one interface.
LIMITS = """
[limits]
http_connections_per_source = 100000
tftp_transfers_per_source = 100000
iscsi_connections_per_source = 100000
unknown_hosts = 1000000
unknown_hosts_per_network = 1000000
unknown_hosts_per_minute = 1000000
"""


class Pair(Namespaces):
    """Two network namespaces joined by a veth pair, and the programs that run in them. Close it at the end.

    With `loss`, that percentage of all frames is lost on the wire between them, which is a program then."""

    def __init__(self, loss=0):
        super().__init__(f"bbench-{os.getpid()}")
        self.count = itertools.count()
        self.programs = []
        self.place = Path(tempfile.mkdtemp(prefix="bbench-"))
        self.place.chmod(0o755)
        self.server, self.client = self.space("server"), self.space("client")
        if loss:
            words = [sys.executable, str(WIRE), self.server, self.client, "--interface", "lan0", "--loss", str(loss)]
            wire = Program("wire", words, self.place / "wire.log")
            self.programs.append(wire)
            wire.wait_for("ready", 15)
        else:
            self.ip(self.server, "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", self.client)
        for space, address in ((self.server, SERVER), (self.client, OWN)):
            self.ip(space, "address", "add", f"{address}/10", "dev", "lan0")
            self.ip(space, "link", "set", "lan0", "up")
        self.ip(self.client, "route", "add", "local", "10.192.0.0/16", "dev", "lo")
        self.ip(self.server, "route", "add", "10.192.0.0/16", "via", OWN)
        # The server must not learn a far address from an ARP request.
        run(*self.inside(self.client, "sysctl", "-qw", "net.ipv4.conf.all.arp_announce=2"))

    def folder(self, name):
        folder = self.place / f"{name}-{next(self.count)}"
        folder.mkdir()
        return folder

    def start(self, name, command, env=None, wrap=list):
        """Starts a program on the server's core. `wrap` makes the command that is started of the one in the namespace."""
        words = wrap([str(word) for word in self.inside(self.server, "taskset", "-c", CORES[0], *command)])
        program = Program(name, words, self.place / f"{name}-{next(self.count)}.log", env=env)
        self.programs.append(program)
        return program

    def serve(self, name, command, ready, wrap=list):
        """Starts a server and waits for the line of its log that says it is ready."""
        program = self.start(name, command, wrap=wrap)
        program.wait_for(ready, 60)
        return program

    def load(self, *command):
        """Runs a load generator on the client's core; returns the JSON object that it printed."""
        command = self.inside(self.client, "taskset", "-c", CORES[-1], *command)
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        if done.returncode:
            raise Failure(f"{' '.join(command)}: {done.stderr.strip()} {done.stdout.strip()}")
        return json.loads(done.stdout)

    def bootlatch(self, config="", state=None, firmware=None, variables=(), wrap=list):
        """Starts bootlatch. `config` is the rest of its configuration file; the default state is empty.

        `variables` are set in its environment, as NAME=VALUE. `wrap` is that of `start`."""
        state = state or self.folder("state")
        file = self.folder("config") / "bootlatch.toml"
        file.write_text(f'interface = "lan0"\nuser = "root"\n{config}\n{LIMITS}')
        command = ["env", "BOOTLATCH_LOG=error,bootlatch::appliance=info", *variables, BINARY, "serve", "--config", file,
                   "--state-dir", state, "--firmware-dir", firmware or self.place]
        return self.serve("bootlatch", command, "ready", wrap)

    def nginx(self, root, port=80, open_file_cache=True, congestion_control=SYSTEM_CONTROL):
        """Starts nginx as one process with sendfile and without a log.

        nginx cannot choose TCP's congestion control; another value stands for a system that is configured for it."""
        run(*self.inside(self.server, "sysctl", "-qw", f"net.ipv4.tcp_congestion_control={congestion_control}"))
        config = self.folder("nginx") / "nginx.conf"
        cache = "open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s;" if open_file_cache else ""
        config.write_text(f"""daemon off; master_process off; user root; worker_processes 1; pid {config.parent}/pid;
error_log {config.parent}/error.log;
events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000; default_type text/plain;
{cache}
server {{ listen {SERVER}:{port} backlog=4096; root {root}; }} }}
""")
        program = self.start("nginx", [tool("nginx"), "-c", config])
        until("nginx listens", lambda: f":{port} " in run(*self.inside(self.server, "ss", "-Hltn")))
        return program

    def close(self):
        for program in reversed(self.programs):
            program.kill()
        super().close()
        shutil.rmtree(self.place, ignore_errors=True)


def median(rows, name):
    return statistics.median(row[name] for row in rows)


def verdict(what, is_met):
    """Prints whether a requirement is met, and returns it."""
    print(f"  {'met   ' if is_met else 'MISSED'} {what}", flush=True)
    return is_met
