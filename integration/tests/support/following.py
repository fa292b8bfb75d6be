"""A command that goes on printing lines, read with time limits."""

import queue
import subprocess
import threading

from support.waiting import slowness


class Following:
    """A command that runs until it is ended. Its lines are read in their order."""

    def __init__(self, words, env=None):
        self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, env=env)
        self.lines, self.seen, self.errors = queue.SimpleQueue(), [], []
        readers = (lambda: self._read(self.process.stdout, self.lines.put), lambda: self._read(self.process.stderr, self.errors.append))
        self.readers = [threading.Thread(target=reader, daemon=True) for reader in readers]
        for reader in self.readers:
            reader.start()

    def _read(self, stream, put):
        for line in stream:
            put(line)
        put("")

    def line(self, limit=30):
        """Returns the next line. The command must print one within `limit` seconds, on the reference machine."""
        try:
            line = self.lines.get(timeout=limit * slowness())
        except queue.Empty:
            line = ""
        assert line, f"no further line of {self.process.args} (ended: {self.process.poll()}); before: {self.seen[-5:]}; errors: {self.errors}"
        self.seen.append(line)
        return line

    def until(self, test, limit=30):
        """Returns the next line for which `test` is true."""
        while not test(line := self.line(limit)):
            pass
        return line

    def end(self):
        """Ends the command."""
        self.process.terminate()
        try:
            self.process.wait(10 * slowness())
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
