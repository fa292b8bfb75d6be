"""A state directory on a small disk: an ISO that does not fit, a disk that is full, and free space again."""

import shutil
import subprocess

import pytest

from support.iso_uploads import curl, iso_of, leftovers
from support.objects import HOSTS, host
from support.server import Server
from support.waiting import eventually


@pytest.fixture
def server(private_network, place):
    """A server whose state directory is a file system of 48 MiB."""
    folder = place / "small-disk"
    folder.mkdir()
    server = Server(folder)
    server.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", server.state], check=True)
    try:
        yield server.start()
    finally:
        server.close()
        subprocess.run(["umount", "-l", server.state], check=True)
        shutil.rmtree(folder)


def ready(server):
    return server.ask("GET", "/readyz", token=None)


def free(server):
    return shutil.disk_usage(server.state).free


def test_an_iso_that_does_not_fit_is_refused_and_leaves_nothing(server, place):
    small, large = place / "small.iso", place / "large.iso"
    small.write_bytes(iso_of(20 << 20, "small"))
    large.write_bytes(iso_of(30 << 20, "large"))
    assert server.run("iso", "add", "small", small).returncode == 0, "an ISO that fits is added"
    before = free(server)
    refused = server.run("iso", "add", "large", large)
    assert refused.returncode == 1 and "bytes are free" in refused.stderr and leftovers(server) == [], \
        f"an ISO that does not fit is refused: {refused}, {leftovers(server)}"
    count_sent = ["-w", "\n%{size_upload}\n%{http_code}", "-X", "POST"]
    code, body = curl(server, *count_sent, "-T", large, query="?name=large")
    assert code == 507 and body.endswith("\n0") and "InsufficientStorage" in body, f"it is refused before its first byte if its length is known: {code} {body}"
    with open(large, "rb") as data:
        code, body = curl(server, *count_sent, "-T", "-", query="?name=large", stdin=data)
    assert code == 507 and not body.endswith("\n0"), f"otherwise it is refused while it is written: {code} {body}"
    assert leftovers(server) == [] and free(server) > before - (1 << 20), f"no part of it remains: {leftovers(server)}, {before}, {free(server)}"
    assert ready(server).code == 200 and server.ask("POST", HOSTS, host("one", 1)).code == 201, "the state can be written as before"


def test_a_full_disk_is_not_ready_until_there_is_free_space(server):
    assert server.ask("POST", HOSTS, host("one-to-delete", 9)).code == 201
    filler = server.state / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
    full = ready(server)
    assert full.code == 503 and ("full" in full.text or "written" in full.text), f"a server with a full disk is not ready: {full}"
    assert server.ask("GET", "/healthz", token=None).code == 200, "it is alive"
    codes = {server.ask("POST", HOSTS, host("two", 2)).code for _ in range(200)}
    assert codes <= {201, 409, 503}, f"a change that cannot be made durable is not acknowledged: {codes}"
    assert eventually(lambda: 'event="disk_nearly_full"' in server.log(), 10), f"a warning is logged: {server.tail()}"
    deleted = server.ask("DELETE", f"{HOSTS}/one-to-delete")
    assert deleted.code == 200, f"a host can be deleted on a full disk: {deleted}"
    filler.unlink()
    now = ready(server)
    assert now.code == 200, f"with free space it is ready at once, and without help: {now}"
    assert server.ask("POST", HOSTS, host("three", 3)).code == 201, "it writes again"
    events = lambda: {entry["event"] for entry in server.ask("GET", "/api/v1/timeline").json["items"]}
    assert eventually(lambda: {"disk_nearly_full", "disk_space_recovered"} <= events(), 15), f"both are in the timeline: {events()}"
