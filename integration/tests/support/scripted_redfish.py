"""A BMC that speaks Redfish as a script says: it refuses for now, lies, hangs, compares entity tags, and keeps what it was asked."""

import base64
import http.server
import json
import ssl
import subprocess
import threading
import time

SYSTEM = "/redfish/v1/Systems/1"
RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"
INFO = f"{SYSTEM}/ResetActionInfo"
SESSIONS = "/redfish/v1/SessionService/Sessions"
RESETS = ["On", "ForceOff", "GracefulShutdown", "ForceRestart"]
OFF = ("ForceOff", "GracefulShutdown")


class Refusal:
    """An answer in place of the one that was asked for, `times` times; "hang" as the code answers nothing."""

    def __init__(self, code, message="no", times=1, headers=()):
        self.code, self.message, self.times, self.headers = code, message, times, dict(headers)


class ScriptedRedfish:
    """One machine's BMC on 127.0.0.1. `script` maps (method, end of the path or reset type) to a Refusal."""

    def __init__(self, port, power="Off", obeys=True, tags=False, resets=tuple(RESETS), action_info=False, modes=True, tls=None, handshake_delay=0, sessions=0):
        self.power, self.obeys, self.tags, self.resets = power, obeys, tags, list(resets)
        self.action_info, self.modes, self.handshake_delay = action_info, modes, handshake_delay
        self.script, self.asked, self.boot, self.version = {}, [], {}, 1
        # Further resources by their path, properties of the system, and what answers (method, path): a function of the body.
        self.resources, self.properties, self.actions = {}, {}, {}
        self.writes_by_others = 0
        self.sessions, self.open, self.opened, self.most = sessions, set(), 0, 0
        self.released = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                if outer.context:
                    time.sleep(outer.handshake_delay)
                    self.request = outer.context.wrap_socket(self.request, server_side=True)
                super().setup()

            def do_GET(self):
                outer.answer(self)

            do_POST = do_PATCH = do_DELETE = do_GET

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # A client that gives up closes its connection.

        self.context = None
        if tls:
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bmc",
                            "-keyout", tls / "key", "-out", tls / "crt"], check=True, capture_output=True)
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(tls / "crt", tls / "key")
        self.server = Server(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def sent(self, method):
        """The bodies that were sent by a method."""
        return [body for how, _, body, _ in self.asked if how == method]

    def types(self):
        """The reset types that were asked for, in order."""
        return [body["ResetType"] for body in self.sent("POST") if "ResetType" in body]

    def times(self):
        """The times of the resets."""
        return [when for how, _, body, when in self.asked if how == "POST" and "ResetType" in body]

    def refusal(self, request, body):
        for (method, what), refusal in self.script.items():
            hit = request.command == method and (request.path.rstrip("/").endswith(what) or body.get("ResetType") == what)
            if hit and refusal.times > 0:
                refusal.times -= 1
                return refusal
        return None

    def answer(self, request):
        length = int(request.headers.get("Content-Length", 0))
        body = json.loads(request.rfile.read(length) or b"{}")
        path = request.path.rstrip("/")
        if request.command == "GET" and path == "/redfish/v1":
            links = {"Links": {"Sessions": {"@odata.id": SESSIONS}}} if self.sessions else {}
            return self.send(request, 200, {"RedfishVersion": "1.6.0", "Systems": {"@odata.id": "/redfish/v1/Systems"}, **links})
        if path == SESSIONS and request.command == "POST":
            return self.log_in(request, body)
        self.asked.append((request.command, path, body, time.monotonic()))
        refusal = self.refusal(request, body)
        if refusal and refusal.code == "hang":
            self.released.wait(120)
            return request.connection.close()
        if refusal:
            return self.send(request, refusal.code, {"error": {"message": refusal.message}}, refusal.headers)
        expected = "Basic " + base64.b64encode(b"admin:password").decode()
        token = request.headers.get("X-Auth-Token")
        if path.startswith(SESSIONS) and request.command == "DELETE" and token in self.open:
            self.open.discard(path.rsplit("/", 1)[1])
            return self.send(request, 204, None)
        if token not in self.open if self.sessions else request.headers.get("Authorization") != expected:
            return self.send(request, 401, {"error": {"message": "the user name or password is wrong"}})
        if (request.command, path) in self.actions:
            return self.send(request, *self.actions[request.command, path](body, request.headers))
        if request.command == "GET" and path in self.resources:
            return self.send(request, 200, self.resources[path])
        if path == "/redfish/v1/Systems":
            return self.send(request, 200, {"Members": [{"@odata.id": SYSTEM}]})
        if path == INFO:
            return self.send(request, 200, {"Parameters": [{"Name": "ResetType", "AllowableValues": self.resets}]})
        if request.command == "GET":
            return self.send(request, 200, self.system(), {"ETag": f'"{self.version}"'} if self.tags else {})
        if request.command == "PATCH":
            return self.patch(request, body)
        if body.get("ResetType") not in self.resets:
            return self.send(request, 400, {"error": {"@Message.ExtendedInfo": [{"MessageId": "Base.1.8.ActionParameterNotSupported"}]}})
        if self.obeys:
            self.power = "Off" if body["ResetType"] in OFF else "On"
        return self.send(request, 204, None)

    def log_in(self, request, body):
        if body != {"UserName": "admin", "Password": "password"}:
            return self.send(request, 401, {"error": {"message": "the user name or password is wrong"}})
        if len(self.open) >= self.sessions:
            return self.send(request, 503, {"error": {"@Message.ExtendedInfo": [{"MessageId": "Base.1.8.SessionLimitExceeded"}]}})
        self.opened += 1
        self.open.add(str(self.opened))
        self.most = max(self.most, len(self.open))
        return self.send(request, 201, {}, {"X-Auth-Token": str(self.opened), "Location": f"http://other.example{SESSIONS}/{self.opened}"})

    def system(self):
        names = {"@Redfish.ActionInfo": INFO} if self.action_info else {"ResetType@Redfish.AllowableValues": self.resets}
        boot = {"BootSourceOverrideMode": "Legacy", **self.boot} if self.modes else self.boot
        return {"PowerState": self.power, "Boot": boot, "Actions": {"#ComputerSystem.Reset": {"target": RESET, **names}}, **self.properties}

    def patch(self, request, body):
        if self.writes_by_others > 0:
            self.writes_by_others -= 1
            self.version += 1
        if self.tags and request.headers.get("If-Match") is None:
            return self.send(request, 428, {"error": {"message": "If-Match is missing"}})
        if self.tags and request.headers["If-Match"] != f'"{self.version}"':
            return self.send(request, 412, {"error": {"message": "the resource has changed"}})
        if not self.modes and "BootSourceOverrideMode" in body["Boot"]:
            return self.send(request, 400, {"error": {"message": "BootSourceOverrideMode is unknown"}})
        self.boot.update(body["Boot"])
        self.version += 1
        return self.send(request, 200, {})

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
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
