"""A wire between two network namespaces that loses, repeats and reorders frames.

It works on kernels without netem too, and counts what it does. Each end is a tap that this program creates in its
namespace. On SIGTERM it prints the counts as JSON.

    impaired_link.py SPACE SPACE --interface lan0 [--loss PERCENT] [--duplicate PERCENT] [--reorder PERCENT] [--seed N]
"""

import argparse
import collections
import fcntl
import heapq
import itertools
import json
import os
import random
import select
import signal
import struct
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]
from support.lan import enter  # noqa: E402

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
FRAME = 65536
LATE = 0.005  # seconds that a frame waits to be overtaken


def tap(space, interface):
    """Creates a tap in a namespace; it exists as long as its descriptor is open."""
    enter(space)
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", interface.encode(), IFF_TAP | IFF_NO_PI))
    return end


class Link:
    """Frames on their way between two ends."""

    def __init__(self, ends, options):
        self.ends, self.options, self.dice = ends, options, random.Random(options.seed)
        self.counts, self.late, self.order = collections.Counter(), [], itertools.count()

    def is_struck(self, percent):
        return self.dice.random() * 100 < percent

    def receive(self, source):
        """Takes the frames that wait at an end."""
        to = self.ends[1 - self.ends.index(source)]
        while True:
            try:
                frame = os.read(source, FRAME)
            except BlockingIOError:
                return
            self.counts["frames"] += 1
            if self.is_struck(self.options.loss):
                self.counts["lost"] += 1
                continue
            if self.is_struck(self.options.duplicate):
                self.counts["repeated"] += 1
                self.send(to, frame)
            if self.is_struck(self.options.reorder):
                self.counts["late"] += 1
                heapq.heappush(self.late, (time.monotonic() + LATE, next(self.order), to, frame))
            else:
                self.send(to, frame)

    def send(self, to, frame):
        try:
            os.write(to, frame)
        except OSError:
            self.counts["not sent"] += 1  # the interface is down, or its queue is full

    def run(self):
        while True:
            wait = max(0.0, self.late[0][0] - time.monotonic()) if self.late else None
            for source in select.select(self.ends, [], [], wait)[0]:
                self.receive(source)
            while self.late and self.late[0][0] <= time.monotonic():
                _, _, to, frame = heapq.heappop(self.late)
                self.send(to, frame)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("spaces", nargs=2)
    parser.add_argument("--interface", required=True)
    for name in ("loss", "duplicate", "reorder"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    link = Link([tap(space, options.interface) for space in options.spaces], options)

    def stop(*_):
        print(json.dumps(link.counts), flush=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    link.run()


if __name__ == "__main__":
    main()
