"""Links that the service's user, taken over, plants in the state directory: the next start as root follows none."""

import contextlib
import os
import pwd
import signal
import socket
import subprocess

import pytest

from support.server import PORT
from support.waiting import eventually, slowness

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def server(start_server):
    """A stopped server that runs as nobody, with a state directory of that user."""
    server = start_server('[api]\nlisten = "127.0.0.1:6443"\ntls = true\n', user="nobody")
    server.stop()
    server.closed = True
    yield server
    server.close()


@pytest.fixture
def treasure(server):
    """A file and a directory of root's, outside of the state directory."""
    place = server.place / "treasure"
    place.mkdir(mode=0o755)
    (place / "file").write_text("root's own\n")
    (place / "file").chmod(0o600)
    (place / "directory").mkdir(mode=0o700)
    return place


def look(place):
    """Returns the owner, mode and content of what must not change."""
    return [(str(path), path.lstat().st_uid, path.lstat().st_gid, path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
            for path in [place, *sorted(place.rglob("*"))]]


def as_nobody(*command):
    """Runs a command as the service's user, which is what an attacker in the service can do."""
    done = subprocess.run(command, capture_output=True, text=True, user=NOBODY.pw_uid, group=NOBODY.pw_gid, extra_groups=[])
    assert done.returncode == 0, done


def attempt(server):
    """Starts the server; returns its exit status and its log, or stops it once it answers."""
    try:
        server.start()
    except RuntimeError:
        return server.process.returncode, server.log()
    server.stop()
    return server.process.returncode, server.log()


OWN = ["lock", "api.sock", "tls.crt", "tls.key", "admin.token", "viewer.token", "token.key", "manifest.key"]


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("target", ["file", "directory", "new"])
def test_a_link_in_place_of_an_own_file(server, treasure, name, target):
    before = look(treasure)
    path = server.state / name
    path.unlink(missing_ok=True)
    as_nobody("ln", "-s", treasure / target, path)
    code, log = attempt(server)
    assert code == 78 and str(path) in log and "remove it" in log, f"the start names the link: {code} {log}"
    assert look(treasure) == before, "nothing of root's has changed"
    path.unlink()
    code, log = attempt(server)
    assert code == 0, f"without the link the server starts: {log}"


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_what_is_no_file_in_place_of_the_lock(server, kind):
    path = server.state / "lock"
    path.unlink()
    as_nobody(*(["mkfifo", path] if kind == "fifo" else ["mkdir", path]))
    code, log = attempt(server)
    assert code == 78 and str(path) in log, f"{code} {log}"


def test_other_links_and_names_keep_their_owners(server, treasure):
    before = look(treasure)
    as_nobody("ln", "-s", treasure / "file", server.state / "more.iso")
    as_nobody("ln", "-s", treasure / "directory", server.state / "isos" / "deep")
    as_nobody("ln", "-s", treasure, server.state / "files" / "all")
    # fs.protected_hardlinks forbids it to the user of the service; not every system has it set.
    os.link(treasure / "file", server.state / "isos" / "second.iso")
    (server.state / "isos" / "copied.iso").write_bytes(b"copied by root")
    code, log = attempt(server)
    assert code == 0, log
    assert "another name" in log, f"the second name is reported: {log}"
    (server.state / "isos" / "second.iso").unlink()
    assert look(treasure) == before, "nothing of root's has changed"
    for path in (server.state, server.state / "isos", server.state / "isos" / "copied.iso", server.state / "lock"):
        assert path.stat().st_uid == NOBODY.pw_uid, f"{path} belongs to the service"
    assert os.stat(server.state / "isos" / "deep", follow_symlinks=False).st_uid == NOBODY.pw_uid, "the link stays the attacker's"


def test_an_attacker_who_swaps_files_during_the_start(server, treasure):
    """A process of the service's user that is left over replaces each file by a link again and again."""
    before = look(treasure)
    script = f"""
import os, contextlib
while True:
    for name in {OWN + ['isos/a.iso', 'isos/b']!r}:
        path = os.path.join({str(server.state)!r}, name)
        with contextlib.suppress(OSError):
            os.unlink(path) if not os.path.isdir(path) else os.rmdir(path)
        with contextlib.suppress(OSError):
            os.symlink({str(treasure / 'file')!r}, path)
        with contextlib.suppress(OSError):
            os.unlink(path)
        with contextlib.suppress(OSError):
            open(path, 'x').close() if not name.endswith('b') else os.mkdir(path)
"""
    attacker = subprocess.Popen(["python3", "-c", script], user=NOBODY.pw_uid, group=NOBODY.pw_gid, extra_groups=[])
    try:
        for _ in range(8):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process = subprocess.Popen(
                    [server.binary, "serve", "--config", server.place / "bootlatch.toml", "--interface", "lo", "--address", "127.0.0.1", "--state-dir", server.state,
                     "--firmware-dir", server.place / "firmware", "--http-port", str(PORT)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                eventually(lambda: process.poll() is not None or answers(), 5)
                process.send_signal(signal.SIGTERM)
                process.wait(30 * slowness())
            assert look(treasure) == before, "nothing of root's has changed"
    finally:
        attacker.kill()
        attacker.wait()
        process.kill()
        process.wait()


def answers():
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", PORT), 1):
        return True
    return False


def test_a_directory_that_the_user_cannot_enter(server):
    closed = server.place / "closed"
    closed.mkdir(mode=0o700)
    done = subprocess.run([server.binary, "serve", "--config", server.place / "bootlatch.toml", "--interface", "lo", "--address", "127.0.0.1", "--http-port", str(PORT),
                           "--state-dir", closed / "state"], capture_output=True, text=True, timeout=60 * slowness())
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "the user nobody may not enter" in said and str(closed) in said, f"the directory and the user are named: {done}"
