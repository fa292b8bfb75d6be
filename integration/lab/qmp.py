"""A client of QEMU's machine protocol (QMP): one command at a time, and events."""

import json
import os
import socket
import threading
import time

from . import speed
from .process import LabError

REPLY_LIMIT = 20.0  # seconds


class Qmp:
    """A connection to one QEMU. Its reader thread calls `on_event(time, name, data)`."""

    def __init__(self, path, alive, on_event):
        self._on_event = on_event
        self._replies = []
        self._changed = threading.Condition()
        self._socket = self._connect(path, alive)
        self._file = self._socket.makefile("r", encoding="utf-8")
        self._file.readline()  # the greeting
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.do("qmp_capabilities")

    @staticmethod
    def _connect(path, alive):
        deadline = speed.deadline(REPLY_LIMIT)
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
                        self._replies.append(message)
                        self._changed.notify_all()
        except (OSError, ValueError):
            pass  # QEMU has ended; the waiting thread notices it

    def do(self, command, **arguments):
        """Runs one command; returns its result."""
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        with self._changed:
            self._replies.clear()
            self._socket.sendall(json.dumps(request).encode())
            if not self._changed.wait_for(lambda: self._replies, REPLY_LIMIT * speed.slowness()):
                raise LabError(f"no reply of QEMU to {command}")
            reply = self._replies[0]
        if "error" in reply:
            raise LabError(f"QEMU rejected {command}: {reply['error'].get('desc')}")
        return reply["return"]

    def close(self):
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()
