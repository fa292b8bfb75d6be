"""The wall clock of a server under test: libfaketime shows it another time, and a test sets it while it runs."""

from pathlib import Path

LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


class FakedClock:
    """A wall clock at an offset from the real one, such as "-330d" or "+1h". The monotonic clocks stay real."""

    def __init__(self, folder, offset="+0"):
        self.file = Path(folder) / "clock"
        self.set(offset)

    def set(self, offset):
        """Sets the clock, in one step for the server."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.rename(self.file)

    @property
    def environment(self):
        """The server's variables, as NAME=VALUE."""
        return (f"LD_PRELOAD={LIBRARY}", f"FAKETIME_TIMESTAMP_FILE={self.file}", "FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1")
