"""A storm: hundreds of healthy boots of all kinds on one LAN, by several processes."""

import collections
import itertools
import json
import subprocess
import sys
import threading
from pathlib import Path

from support.objects import HOSTS, IMAGES
from support.staged_lan import StagedLan
from support.staged_networks import live
from support.storm_worker import KINDS
from support.waiting import slowness

PROCESSES = 4
SLOTS = 150  # machines that boot at the same time
POWER_ON = 8.0  # seconds over which the first machines are switched on
PROGRAM_SIZE = 60_000
WORKER = Path(__file__).with_name("storm_worker.py")

Machine = collections.namedtuple("Machine", "name mac address kind")


class StormLan(StagedLan):
    """A LAN for more machines than a /24 has addresses."""

    netmask, prefix = "255.255.0.0", 16

    def __init__(self):
        super().__init__(isos={"live": live(), "kernel": live()}, program_size=PROGRAM_SIZE)

    def start(self):
        super().start()
        self.change(IMAGES, "kernel", method="kernel")


class Storm:
    """`boots` boots, declared and run. `run` returns what the machines report."""

    def __init__(self, boots):
        self.lan = StormLan()
        try:
            self.slots = [{"space": self.lan.lan.client(f"s{number}"), "delay": POWER_ON * number / SLOTS, "machines": []} for number in range(SLOTS)]
            self.machines = list(machines(boots))
            for machine in self.machines:
                self.lan.dhcp.leases[machine.mac] = machine.address
            self.lan.start()
            for machine in self.machines:
                self.lan.declare(machine, bootMACAddress=machine.mac, **KINDS[machine.kind].host)
        except BaseException:
            self.lan.close()
            raise
        self._share_out()

    def _share_out(self):
        """Gives each slot about as much to do as the others."""
        for machine in sorted(self.machines, key=lambda machine: -KINDS[machine.kind].seconds):
            slot = min(self.slots, key=lambda slot: slot["delay"] + sum(KINDS[one["kind"]].seconds for one in slot["machines"]))
            slot["machines"].append(machine._asdict())

    def run(self, limit):
        """Boots all machines within `limit` seconds of the reference machine; returns the reports of all."""
        reports, threads = [], []
        for number in range(PROCESSES):
            told = {"server": self.lan.server, "netmask": self.lan.netmask, "slots": self.slots[number::PROCESSES]}
            thread = threading.Thread(target=self._work, args=(told, reports, limit * slowness()), daemon=True)
            threads.append(thread)
            thread.start()
        for thread in threads:
            thread.join()
        return reports

    @staticmethod
    def _work(told, reports, limit):
        worker = subprocess.Popen([sys.executable, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            output, _ = worker.communicate(json.dumps(told), limit)
        except subprocess.TimeoutExpired:
            worker.kill()
            output, _ = worker.communicate()
        reports += [json.loads(line) for line in output.splitlines()]

    def diagnosed(self):
        """Returns what was ever said of the hosts: the stalls of the timelines by host, and the lines of the log."""
        counted = {name: value for name, value in self.lan.metrics().items() if name.startswith("bootlatch_stalls_total")}
        lines = [line for line in self.lan.log().splitlines() if "boot stalled" in line]
        hosts = self.lan.api("GET", HOSTS)[1]["items"]
        held = [host["metadata"]["name"] for host in hosts
                if any(one["type"] == "Stalled" and one["status"] == "True" for one in host["status"].get("conditions", []))]
        return counted, lines, held

    def close(self):
        self.lan.close()


def machines(boots):
    """Yields machines of all kinds in turn, until their boots are enough."""
    numbers = itertools.count(1)
    for kind in itertools.cycle(KINDS):
        if boots <= 0:
            return
        number = next(numbers)
        boots -= KINDS[kind].boots
        yield Machine(f"{kind.replace('_', '-')}-{number}", f"52:54:00:8a:{number >> 8:02x}:{number & 255:02x}",
                      f"10.88.{1 + number // 200}.{1 + number % 200}", kind)
