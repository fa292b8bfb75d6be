"""Helpers of the security tests."""

import socket

import pytest

from support.lan import Lan
from support.server import PORT


class RawClient:
    """A connection on which a test writes each byte of its requests itself."""

    def __init__(self, source="127.0.0.1", port=PORT):
        self.socket = socket.create_connection(("127.0.0.1", port), 20, (source, 0))
        self.rest = b""

    def ask(self, text, body=True):
        """Sends bytes; returns status, headers by lower-case name, and body of one response. `None`: the connection ended."""
        self.socket.sendall(text.encode())
        while b"\r\n\r\n" not in self.rest:
            got = self.socket.recv(1 << 16)
            if not got:
                return None
            self.rest += got
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        length = int(headers.get("content-length", 0)) if body else 0
        while len(self.rest) < length:
            self.rest += self.socket.recv(1 << 16)
        content, self.rest = self.rest[:length], self.rest[length:]
        return int(lines[0].split()[1]), headers, content

    def close(self):
        self.socket.close()


@pytest.fixture
def raw_client():
    """A function that opens a raw connection from a source address; all are closed after the test."""
    clients = []

    def connect(source="127.0.0.1"):
        clients.append(RawClient(source))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def lan():
    """A LAN with the bridges br0 and br1; no server on it may panic."""
    with Lan("br0", "br1") as lan:
        yield lan
        panicked = [program.text()[-2000:] for program in lan.programs if "panicked" in program.text()]
        assert not panicked, f"the server did not panic: {panicked}"
