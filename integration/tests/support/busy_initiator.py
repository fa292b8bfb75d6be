"""An iSCSI initiator that keeps the target busy, and a look at the socket between them."""

import array
import fcntl
import termios
import threading
import time

from support.iscsi_initiator import Ended
from support.waiting import eventually


def read_request(initiator, tag, blocks):
    """Sends a read of the disk's first blocks, and does not wait for its data."""
    cdb = bytes([0x28, 0, 0, 0, 0, 0, 0, *blocks.to_bytes(2, "big"), 0])
    initiator.send(0x01, 0xC1, tag=tag, words=[(20, (blocks * 512).to_bytes(4, "big")), (32, cdb)])
    initiator.command += 1


class BusyInitiator(threading.Thread):
    """An initiator that keeps its queue full until the target ends the session."""

    def __init__(self, initiator, blocks=512, depth=32):
        super().__init__(daemon=True)
        self.initiator, self.blocks, self.depth = initiator, blocks, depth
        self.logout_requested, self.reads, self.error = threading.Event(), 0, None

    def read(self):
        self.initiator.tag += 1
        read_request(self.initiator, self.initiator.tag, self.blocks)

    def run(self):
        try:
            for _ in range(self.depth):
                self.read()
            while True:
                header, _ = self.initiator.receive()
                if header[0] == 0x32 and header[36] == 1:
                    self.logout_requested.set()
                if header[1] & 1 and header[0] == 0x25:
                    self.reads += 1
                    self.read()
        except (Ended, OSError) as error:
            self.error = error

    def start_and_wait(self):
        """Starts, and waits until a hundred reads are done."""
        self.start()
        assert eventually(lambda: self.reads >= 100 or not self.is_alive(), 30) and self.reads >= 100, f"reads are answered: {self.error}"
        return self


def wait_until_stuck(stream):
    """Waits until no more data arrives: what the target sends fills the sockets."""
    held, steady = -1, 0
    while steady < 5:
        time.sleep(0.02)
        now = array.array("i", [0])
        fcntl.ioctl(stream, termios.FIONREAD, now)
        steady = steady + 1 if now[0] == held and held > 0 else 0
        held = now[0]
