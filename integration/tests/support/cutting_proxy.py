"""A TCP proxy that cuts the first connections that send more than a number of bytes, and no others."""

import contextlib
import socket
import threading


class CuttingProxy:
    """Listens on 127.0.0.1 and connects each client to a port there."""

    def __init__(self, target, limit, most):
        self.target, self.limit, self.most = target, limit, most
        self.cuts = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._connect, args=[client], daemon=True).start()

    def _connect(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        threading.Thread(target=self._forward, args=[server, client, None], daemon=True).start()
        self._forward(client, server, self.limit)

    def _forward(self, source, sink, limit):
        """Forwards until one end closes, or more than `limit` bytes were forwarded while fewer than `most` connections were cut."""
        count = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                count += len(data)
                if limit and count > limit and self.cuts < self.most:
                    self.cuts += 1
                    break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.close()
