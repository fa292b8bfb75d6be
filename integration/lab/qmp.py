"""QEMU's machine protocol: commands one at a time, events as they come."""

import json
import os
import socket
import threading
import time

from .process import LabError

ANSWER_LIMIT = 20.0


class Qmp:
    """A connection to one QEMU. `on_event(time, name, data)` is called from its reader thread."""

    def __init__(self, path, alive, on_event):
        self._on_event = on_event
        self._answers = []
        self._changed = threading.Condition()
        self._socket = self._connect(path, alive)
        self._file = self._socket.makefile("r", encoding="utf-8")
        self._file.readline()  # the greeting
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.do("qmp_capabilities")

    @staticmethod
    def _connect(path, alive):
        deadline = time.monotonic() + ANSWER_LIMIT
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(os.fspath(path))
                return connection
            except OSError as why:
                connection.close()
                if not alive() or time.monotonic() > deadline:
                    raise LabError(f"QEMU's control socket {path}: {why}") from None
                threading.Event().wait(0.01)

    def _read(self):
        try:
            for line in self._file:
                message = json.loads(line)
                if "event" in message:
                    self._on_event(time.time(), message["event"], message.get("data", {}))
                else:
                    with self._changed:
                        self._answers.append(message)
                        self._changed.notify_all()
        except (OSError, ValueError):
            pass  # QEMU is gone; whoever waits sees that it ended

    def do(self, command, **arguments):
        """Runs one command and returns its result."""
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        with self._changed:
            self._answers.clear()
            self._socket.sendall(json.dumps(request).encode())
            if not self._changed.wait_for(lambda: self._answers, ANSWER_LIMIT):
                raise LabError(f"QEMU did not answer {command}")
            answer = self._answers[0]
        if "error" in answer:
            raise LabError(f"QEMU refused {command}: {answer['error'].get('desc')}")
        return answer["return"]

    def close(self):
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()
