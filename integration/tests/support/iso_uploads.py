"""ISOs to upload, and what a server has of them in its state directory."""

import hashlib
import subprocess

from support.objects import IMAGES
from support.server import PORT
from support.tiny_iso import tiny_iso


def iso_of(size, seed):
    """Returns an ISO of a size that can be served; the bytes after its volume depend on the seed."""
    image = bytearray(tiny_iso("ADDED"))
    sectors = size // 2048
    image[16 * 2048 + 80:16 * 2048 + 88] = sectors.to_bytes(4, "little") + sectors.to_bytes(4, "big")
    filler = hashlib.shake_128(seed.encode()).digest(sectors * 2048 - len(image))
    return bytes(image) + filler


def sha(data):
    return hashlib.sha256(data).hexdigest()


def iso_path(server, name):
    """Returns the path of an ISO in the server's state directory."""
    return server.state / "isos" / f"{name}.iso"


def stored(server, name):
    """Returns the bytes of an ISO in the server's state directory."""
    return iso_path(server, name).read_bytes()


def leftovers(server):
    """Returns the names of unfinished uploads in the server's state directory."""
    folder = server.state / "isos"
    return [path.name for path in folder.iterdir() if path.name.startswith(".")] if folder.exists() else []


def uploads(server):
    """Returns the unfinished uploads that the API lists."""
    return server.ask("GET", "/api/v1/uploads").json["items"]


def curl(server, *words, query="", **more):
    """Uploads with curl; returns the response's code and body."""
    done = subprocess.run(["curl", "-s", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {server.token}", *map(str, words),
                           f"http://127.0.0.1:{PORT}{IMAGES}/upload{query}"], capture_output=True, text=True, **more)
    body, _, code = done.stdout.rpartition("\n")
    return int(code), body
