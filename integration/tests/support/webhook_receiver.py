"""A receiver of webhooks for tests. What arrives is checked by the libraries of Standard Webhooks and CloudEvents."""

import http.server
import ssl
import threading

from support import monitoring_tools
from support.waiting import eventually


class Receiver:
    """An HTTP server that keeps each request, and answers as it is told."""

    def __init__(self, port, certificate=None, address="127.0.0.1"):
        self.requests, self.status, self.headers = [], 204, {}
        self.answering = threading.Event()
        self.answering.set()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                status, extra = receiver.status, dict(receiver.headers)
                receiver.requests.append(Request(self.path, dict(self.headers.items()), body, status))
                receiver.answering.wait()
                self.send_response(status)
                for name, value in extra.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *words):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # a client that does not wait for the end of the answer

        self.server = Server((address, port), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def taken(self):
        """Returns the requests that were answered with a success."""
        return [request for request in self.requests if request.status < 300]

    def wait_for(self, test, wait=15):
        """Returns the first request that a test admits, once there is one."""
        found = eventually(lambda: next(filter(test, list(self.requests)), None), wait)
        assert found, f"the webhook is told: {[(request.status, request.body) for request in self.requests]}"
        return found

    def close(self):
        self.answering.set()
        self.server.shutdown()
        self.server.server_close()


class Request:
    """A request that arrived, and the status that it was answered with."""

    def __init__(self, path, headers, body, status):
        self.path, self.headers, self.body, self.status = path, {name.lower(): value for name, value in headers.items()}, body, status

    @property
    def id(self):
        return self.headers["webhook-id"]

    def verify(self, secret):
        """Checks the signature by the library; raises WebhookVerificationError."""
        monitoring_tools.prepare()
        from standardwebhooks import Webhook

        return Webhook(secret).verify(self.body, self.headers)

    def event(self):
        """Returns the CloudEvent that the library reads."""
        monitoring_tools.prepare()
        from cloudevents.core.bindings.http import HTTPMessage, from_http_event

        return from_http_event(HTTPMessage(headers=self.headers, body=self.body))

    def told(self):
        """Returns the type of the event without its prefix, and its data."""
        event = self.event()
        kind = event.get_type()
        assert kind.startswith("org.bootlatch.host."), kind
        return kind.removeprefix("org.bootlatch.host."), event.get_data()
