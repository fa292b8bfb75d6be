"""A BMC that speaks Redfish and misbehaves as a test asks."""

import base64
import http.server
import json
import socket
import threading

from support.lan import socket_in

SYSTEM = "/redfish/v1/Systems/1"
RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"
USER, PASSWORD = "admin", "password"


class FakeRedfish:
    """One machine's BMC on a port in a namespace.

    `obeys`: whether a reset changes the power that it reports. `has_override`: whether its boot device can be set. `busy`: the
    number of resets that it refuses for now."""

    def __init__(self, space, address, port, obeys=True, power="Off", password=PASSWORD, has_override=True, busy=0):
        self.obeys, self.power, self.password, self.has_override = obeys, power, password, has_override
        self.overrides, self.resets, self.busy = [], [], busy
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.answer(self)

            do_POST = do_PATCH = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((address, port), Handler, bind_and_activate=False)
        self.server.daemon_threads = True
        self.server.socket.close()
        self.server.socket = socket_in(space, socket.AF_INET, socket.SOCK_STREAM)
        self.server.allow_reuse_address = True
        self.server.server_bind()
        self.server.server_activate()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request):
        length = int(request.headers.get("Content-Length", 0))
        body = json.loads(request.rfile.read(length) or b"{}")
        expected = "Basic " + base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        if request.headers.get("Authorization") != expected:
            return self.send(request, 401, {"error": {"message": "the user name or password is wrong"}})
        if request.command == "GET" and request.path.rstrip("/") == "/redfish/v1/Systems":
            return self.send(request, 200, {"Members": [{"@odata.id": SYSTEM}]})
        if request.command == "GET":
            action = {"target": RESET, "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "GracefulShutdown", "ForceRestart"]}
            return self.send(request, 200, {"PowerState": self.power, "Boot": {}, "Actions": {"#ComputerSystem.Reset": action}})
        if request.command == "PATCH" and not self.has_override:
            return self.send(request, 405, {"error": {"message": "the boot device cannot be set"}})
        if request.command == "PATCH":
            self.overrides.append(body.get("Boot"))
            return self.send(request, 200, {})
        if self.busy > 0:
            self.busy -= 1
            return self.send(request, 503, {"error": {"message": "in POST"}}, {"Retry-After": "2"})
        self.resets.append(body.get("ResetType"))
        if self.obeys:
            self.power = "Off" if body.get("ResetType") in ("ForceOff", "GracefulShutdown") else "On"
        return self.send(request, 204, None)

    def send(self, request, code, value, headers=()):
        body = b"" if value is None else json.dumps(value).encode()
        request.send_response(code)
        for name, text in dict(headers).items():
            request.send_header(name, text)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def close(self):
        self.server.shutdown()
        self.server.server_close()
