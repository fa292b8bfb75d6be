"""What benchmarks share: a server and a client on a core each with a veth pair between, medians, and verdicts."""

import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "integration/tests/dhcp.d"))
from lan import Failure, Lan, copied, run, tool  # noqa: E402

BINARY = pathlib.Path(os.environ.get("LAB_BINARY", ROOT / "target/release/bootlatch"))
SERVER, OWN = "10.64.0.1", "10.64.0.2"
FAR = "10.192.0.2"  # as all of 10.192.0.0/16 of the client too, behind a router for the server: nobody's neighbour
RUNS, SECONDS = int(os.environ.get("RUNS", 5)), float(os.environ.get("SECONDS_EACH", 3))
TICK = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))[:2]


def load_program(name):
    """The path of a load client, built where it is not yet."""
    program = BINARY.parent / "examples" / name
    if not program.exists():
        subprocess.run(["cargo", "build", "--release", "--example", name], cwd=ROOT, check=True)
    return str(program)


def cpu(pid):
    """Seconds of CPU that a process and its threads have used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid, what="VmRSS"):
    """Resident memory in bytes, now or at most."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024


SYSTEM_CONTROL = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()


class Pair:
    """Two namespaces and a wire."""

    def __init__(self):
        self.lan = Lan()
        self.count = itertools.count()
        self.server, self.client = self.lan.space("srv"), self.lan.space("load")
        self.lan.ip(self.server, "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", self.client)
        for space, address in ((self.server, SERVER), (self.client, OWN)):
            self.lan.ip(space, "address", "add", f"{address}/10", "dev", "lan0")
            self.lan.ip(space, "link", "set", "lan0", "up")
        self.lan.ip(self.client, "route", "add", "local", "10.192.0.0/16", "dev", "lo")
        self.lan.ip(self.server, "route", "add", "10.192.0.0/16", "via", OWN)
        # The server is to learn the address from nobody's question.
        run(*self.lan.inside(self.client, "sysctl", "-qw", "net.ipv4.conf.all.arp_announce=2"))

    def folder(self, name):
        folder = self.lan.folder / f"{name}-{next(self.count)}"
        folder.mkdir()
        return folder

    def serve(self, name, command, ready):
        """Starts a server on its core."""
        program = self.lan.start(self.server, name, "taskset", "-c", str(CORES[0]), *map(str, command))
        program.says(ready, 60)
        return program

    def load(self, *command):
        """Runs a load client on its core; gives what it printed."""
        command = self.lan.inside(self.client, "taskset", "-c", str(CORES[-1]), *map(str, command))
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        if done.returncode:
            raise Failure(f"{' '.join(command)}: {done.stderr.strip()} {done.stdout.strip()}")
        return json.loads(done.stdout)

    def bootlatch(self, config="", state=None, firmware=None):
        """Starts bootlatch, with fresh state where none is given; `config` is the rest of its file."""
        state = state or self.folder("state")
        file = self.folder("config") / "bootlatch.toml"
        file.write_text(f'interface = "lan0"\nuser = "root"\n{config}')
        command = ["env", "BOOTLATCH_LOG=error,bootlatch::appliance=info", BINARY, "serve", "--config", file,
                   "--state-dir", state, "--firmware-dir", firmware or self.lan.folder]
        return self.serve("bootlatch", command, "ready")

    def nginx(self, root, port=80, remembers=True, control=SYSTEM_CONTROL):
        """Starts nginx as one process: sendfile, no log, and where it is to be tuned further, open files remembered.

        TCP's congestion control is the system's, for nginx has no word for it; another stands for a system tuned for it."""
        run(*self.lan.inside(self.server, "sysctl", "-qw", f"net.ipv4.tcp_congestion_control={control}"))
        config = self.folder("nginx") / "nginx.conf"
        memory = "open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s;" if remembers else ""
        config.write_text(f"""daemon off; master_process off; user root; worker_processes 1; pid {config.parent}/pid;
error_log {config.parent}/error.log;
events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000; default_type text/plain;
{memory}
server {{ listen {SERVER}:{port} backlog=4096; root {root}; }} }}
""")
        program = self.lan.start(self.server, "nginx", "taskset", "-c", str(CORES[0]), tool("nginx"), "-c", config)
        from lan import until
        until("nginx listens", lambda: f":{port} " in run(*self.lan.inside(self.server, "ss", "-Hltn")))
        return program


def median(rows, name):
    return statistics.median(row[name] for row in rows)


def verdict(what, is_met):
    print(f"  {'met   ' if is_met else 'MISSED'} {what}", flush=True)
    return is_met
