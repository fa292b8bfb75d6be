"""The iSCSI target of this project by itself, without the appliance, on a free port of the loopback."""

import subprocess
import threading

from support.programs import helper
from support.waiting import eventually, slowness

TARGET = "iqn.2026-11.org.bootlatch:test"
OTHER = "iqn.2026-11.org.bootlatch:other"
# An initiator that accepts long segments is sent the file's pages without a copy in the target's own buffers.
LONG = ["MaxRecvDataSegmentLength=65536"]


def run(*command, good=True, **more):
    """Runs a client, which must succeed unless `good` is false; returns all its output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, timeout=300 * slowness(), **more)
    text = (done.stdout + done.stderr).decode(errors="replace")
    assert (done.returncode == 0) == good, f"{command}: code {done.returncode}\n{text[-1500:]}"
    return text


class Target:
    """A running target; it must stop cleanly at the end."""

    def __init__(self, *arguments, address="127.0.0.1:0"):
        self.arguments, self.address = arguments, address

    def __enter__(self):
        self.process = subprocess.Popen([helper("iscsi_target"), self.address, *map(str, self.arguments)],
                                        stdout=subprocess.PIPE, text=True)
        first = self.process.stdout.readline().split()
        assert first[:1] == ["listening"], f"the target starts: {first}"
        self.port = int(first[1].rsplit(":", 1)[1])
        self.lines = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)
        self.reader.start()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            assert self.exit_code() == 0, f"the target stops cleanly: {self.lines[-5:]}"
        finally:
            self.process.kill()
            self.reader.join(5)

    def exit_code(self):
        """Waits until the target has ended."""
        return self.process.wait(10 * slowness())

    def url(self, lun="", target=TARGET, user="", query=""):
        return f"iscsi://{user}127.0.0.1:{self.port}/{target}/{lun}{query}"

    def wait_for(self, word):
        """Waits until the target has printed an outcome."""
        assert eventually(lambda: any(word in line for line in self.lines), 10), f"the target prints {word}: {self.lines[-5:]}"


class Media:
    """The files that the target serves."""

    def __init__(self, folder):
        self.disk, self.cd, self.dvd = folder / "disk.img", folder / "cd.iso", folder / "dvd.iso"

    def target(self):
        """Returns the target that most tests use: a disk with a CD-ROM, and another target with a DVD."""
        return Target(f"{TARGET}=disk:{self.disk},cdrom:{self.cd}", f"{OTHER}=cdrom:{self.dvd}")
