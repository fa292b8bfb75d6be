"""FIFOs, devices and a file system that stops answering, wherever files are read: nothing hangs, and SIGTERM ends the server."""

import contextlib
import os
import signal
import socket
import threading
import time

import pytest

from support.dead_mount import dead_mount
from support.objects import CONFIGS, HOSTS, IMAGES, config, delete_all, host, image
from support.tiny_iso import tiny_iso
from support.waiting import eventually, slowness

MANIFEST = b"apiVersion: v1\nkind: BootConfig\nmetadata: {name: good}\nspec: {format: script, data: {script: 'true'}}\n"


@pytest.fixture(scope="module")
def server(start_server, place):
    (place / "manifests").mkdir()
    server = start_server(f'manifests = "{place}/manifests"\n')
    yield server
    server.close()


@pytest.fixture(autouse=True)
def clean(server):
    yield
    for folder in (server.place.parent / "manifests", server.state / "isos", server.state / "files", server.place / "firmware"):
        for path in folder.iterdir() if folder.exists() else ():
            path.unlink()
    if server.process.poll() is not None:
        server.start()
    delete_all(server)


def plant(path, kind):
    """Makes what is no regular file at a path."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        # The memory of the null device: opening a node of another driver may act.
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))
    elif kind == "link to a fifo":
        os.mkfifo(path.with_name("pipe"))
        path.symlink_to("pipe")
    else:
        path.mkdir()


def stops(server, within=15):
    """Sends SIGTERM and returns how long the server takes to end; fails if it does not."""
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    code = server.process.wait(within * slowness())
    assert code == 0, f"the server ends in order: {code} {server.tail()}"
    return time.monotonic() - began


KINDS = ["fifo", "link to a fifo", "device"]


@pytest.mark.parametrize("kind", KINDS)
def test_manifests(server, kind):
    manifests = server.place.parent / "manifests"
    plant(manifests / "b.yaml", kind)
    (manifests / "c.yaml").write_bytes(MANIFEST)
    server.restart()
    assert "not a regular file" in server.log() and "b.yaml" in server.log(), f"the start names the file: {server.tail()}"
    assert server.ask("GET", f"{CONFIGS}/good").code == 200, "the other manifests are applied"
    assert "b.yaml" in server.ask("GET", "/readyz", token=None).text
    server.reload("manifests applied")
    assert "not a regular file" in server.recent_log()
    stops(server)


@pytest.mark.parametrize("kind", KINDS)
def test_iso_files(server, kind):
    path = server.state / "isos" / "x.iso"
    plant(path, kind)
    made = server.ask("POST", IMAGES, image("live"))
    assert made.code == 422 and "not a regular file" in made.text, f"an object of it is refused: {made}"
    for other in list(path.parent.iterdir()):
        other.unlink()
    server.iso()
    assert server.ask("POST", IMAGES, image("live")).code == 201
    assert server.ask("GET", "/iso/live", token=None).code == 200
    path.unlink()
    plant(path, kind)
    for ask in ("/iso/live", "/iso/live/a"):
        assert server.ask("GET", ask, token=None).code == 503, "the image that became one is not served"
    assert server.ask("GET", f"{IMAGES}/live/files").code == 422
    assert eventually(lambda: server.ask("GET", f"{IMAGES}/live").json["status"]["phase"] == "Broken", 30)
    stops(server)


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_partial_uploads(server, kind):
    key = "abcdef0123456789"
    for ending in ("part", "name"):
        path = server.state / "isos" / f".{key}.{ending}"
        plant(path, kind)
        listed = server.ask("GET", "/api/v1/uploads")
        assert listed.code == 200, listed
        sent = server.ask("POST", f"{IMAGES}/upload?name=up&resume={key}&offset=0", tiny_iso(), "application/octet-stream")
        assert sent.code in (201, 409, 500), f"an upload over .{ending} is answered: {sent}"
        path.unlink(missing_ok=True)
    stops(server)


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_boot_programs(server, kind):
    program = server.place / "firmware" / "ipxe-arm64.efi"
    program.unlink(missing_ok=True)
    plant(program, kind)
    server.stop()
    with pytest.raises(RuntimeError, match="not a regular file"):
        server.start()
    assert server.process.returncode == 1


def tftp_read(name, seconds=5):
    """Asks for a file over TFTP; returns the first packet of the answer, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(seconds * slowness())
        client.sendto(b"\0\1" + name.encode() + b"\0octet\0", ("127.0.0.1", 69))
        try:
            return client.recv(2048)
        except TimeoutError:
            return None


def others_are_served(server):
    """Asserts that the API, a file over TFTP and another ISO are served."""
    assert server.ask("GET", "/healthz", token=None).code == 200
    assert server.ask("GET", HOSTS).code == 200
    assert server.ask("GET", "/iso/good", token=None).code == 200, "an ISO on another file system is served"
    assert (tftp_read("plain") or b"")[:2] == b"\0\3", "files are served over TFTP"


def test_isos_on_a_file_system_that_dies(server):
    server.iso("good.iso")
    (server.state / "files" / "plain").write_text("plain")
    assert server.ask("POST", IMAGES, image("good", file="good.iso")).code == 201
    with dead_mount(server.place / "dead", {"live.iso": tiny_iso(), "more.iso": tiny_iso()}) as mount:
        assert server.ask("POST", IMAGES, image("live", file=str(mount.place / "live.iso"))).code == 201
        assert server.ask("GET", "/iso/live", token=None).body == tiny_iso(), "the ISO is served while its file system answers"
        mount.die()
        # Many machines ask at once, as after a power cut; nobody waits for their answers here.
        clients = [threading.Thread(target=lambda: ask_in_vain(server, "/iso/live"), daemon=True) for _ in range(60)]
        for client in clients:
            client.start()
        assert mount.asked.wait(20), "a request waits for the file system"
        others_are_served(server)
        tftp_read("iso/live/isolinux/isolinux.cfg", 0.2)
        others_are_served(server)
        made = server.ask("POST", IMAGES, image("more", file=str(mount.place / "more.iso")))
        assert made.code == 503 and "has not answered" in made.text, f"an object of a file there is refused in time: {made}"
        broken = lambda: server.ask("GET", f"{IMAGES}/live").json["status"]["phase"] == "Broken"
        assert eventually(broken, 60), "the image is reported as broken"
        assert server.ask("GET", "/iso/live", token=None).code == 503, "further requests are refused at once"
        others_are_served(server)
        took = stops(server, 20)
        assert took < 15 * slowness(), f"SIGTERM ends the server although threads wait: {took}"


def test_site_files_on_a_file_system_that_dies(server):
    server.iso("good.iso")
    (server.state / "files" / "plain").write_text("plain")
    assert server.ask("POST", IMAGES, image("good", file="good.iso")).code == 201
    # A mount below the directory: no file there is opened by the threads that serve the others.
    with dead_mount(server.state / "files" / "far", {"a": b"far away"}) as mount:
        for _ in range(2):
            assert server.ask("GET", "/files/far/a", token=None).body == b"far away", "a file there is served while its file system answers"
            assert server.ask("GET", "/files/plain", token=None).body == b"plain"
        mount.die()
        clients = [threading.Thread(target=lambda: ask_in_vain(server, "/files/far/a"), daemon=True) for _ in range(80)]
        for client in clients:
            client.start()
        assert mount.asked.wait(20), "a request waits for the file system"
        for _ in range(20):
            assert server.ask("GET", "/files/plain", token=None).body == b"plain", "the directory's own files are served at once"
        # What the kernel does not have in memory is opened by threads that wait, but not for the other file system.
        for number in range(5):
            (server.state / "files" / f"new{number}").write_text("new")
            began = time.monotonic()
            assert server.ask("GET", f"/files/new{number}", token=None).body == b"new", "a new file of the directory is served"
            assert server.ask("GET", f"/files/none{number}", token=None).code == 404
            assert time.monotonic() - began < 2 * slowness(), "neither waits for the file system that died"
        others_are_served(server)
        assert server.ask("GET", "/files/far/a", token=None).code == 503, "a request is given up in time"
        assert server.ask("GET", "/files/new0", token=None).body == b"new", "the directory is not given up with it"
        others_are_served(server)
        took = stops(server, 20)
        assert took < 15 * slowness(), f"SIGTERM ends the server although threads wait: {took}"
    mount.place.rmdir()


def ask_in_vain(server, path):
    try:
        server.ask("GET", path, token=None)
    except OSError:
        pass


def test_manifests_on_a_file_system_that_dies(server):
    (server.place.parent / "manifests" / "z.yaml").write_bytes(MANIFEST)
    with dead_mount(server.place / "dead2", {"a.yaml": MANIFEST.replace(b"good", b"other")}) as mount:
        (server.place.parent / "manifests" / "a.yaml").symlink_to(mount.place / "a.yaml")
        server.restart()
        assert server.ask("GET", f"{CONFIGS}/other").code == 200, "a manifest there is applied while its file system answers"
        mount.die()
        began = time.monotonic()
        server.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "has not answered" in server.log(), 30), f"the reload goes on without it: {server.tail()}"
        assert time.monotonic() - began < 20 * slowness()
        assert server.ask("GET", "/healthz", token=None).code == 200
        server.process.send_signal(signal.SIGHUP)
        stops(server)
        # A start with the dead mount: in time, and with the other manifests.
        server.start()
        assert "a.yaml" in server.log() and "has not answered" in server.log()
        assert server.ask("GET", f"{CONFIGS}/good").code == 200
        stops(server)


def test_sigterm_during_a_start_that_waits(server):
    server.stop()
    with dead_mount(server.place / "dead3", {f"{n}.yaml": MANIFEST for n in range(3)}) as mount:
        for name in range(3):
            (server.place.parent / "manifests" / f"{name}.yaml").symlink_to(mount.place / f"{name}.yaml")
        mount.die()

        def start():
            with contextlib.suppress(RuntimeError):  # it ends before it answers, unless it was quicker
                server.start()

        starting = threading.Thread(target=start)
        starting.start()
        assert mount.asked.wait(30), "the start waits for the file system"
        took = stops(server, 10)
        starting.join(30 * slowness())
        assert took < 5 * slowness(), f"SIGTERM ends a start that waits: {took}"
