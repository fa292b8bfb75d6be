"""A web server that misbehaves as a test asks: it breaks off, ignores ranges, changes the file, redirects."""

import http.server
import re
import socketserver
import threading

from support.iso_uploads import sha


class WebServer:
    """Serves one file at every path, on a free port of the loopback."""

    def __init__(self, data, *, ranges=True, tags=True, cut=None, context=None, redirect=None):
        self.data, self.ranges, self.tags, self.cut, self.redirect = data, ranges, tags, cut, redirect
        self.requested_ranges, self.on_cut, outer = [], lambda: None, self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.respond(self)

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            allow_reuse_address, daemon_threads = True, True

        self.server = Server(("127.0.0.1", 0), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    @property
    def tag(self):
        return f'"{sha(self.data)[:16]}"'

    def respond(self, request):
        if self.redirect and request.path != "/there/x.iso":
            request.send_response(302)
            request.send_header("Location", self.redirect)
            request.send_header("Content-Length", "0")
            return request.end_headers()
        start, wanted = 0, request.headers.get("Range")
        if_range = request.headers.get("If-Range")
        self.requested_ranges.append(wanted)
        if wanted and self.ranges and if_range in (None, self.tag):
            start = int(re.match(r"bytes=(\d+)-", wanted)[1])
        request.send_response(206 if start else 200)
        if self.tags:
            request.send_header("ETag", self.tag)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.data) - 1}/{len(self.data)}")
        request.send_header("Content-Length", str(len(self.data) - start))
        request.end_headers()
        return self.send(request, start)

    def send(self, request, start):
        # The first request only looks at the file; its client may receive much before it closes the connection.
        cut, data = self.cut if len(self.requested_ranges) > 1 else None, memoryview(self.data)
        for at in range(start, len(data), 65536):
            if cut is not None and at - start >= cut:
                self.on_cut()
                request.close_connection = True
                return request.connection.shutdown(2)
            try:
                request.wfile.write(data[at:at + 65536])
            except OSError:
                return None
        return None
