"""A database that is missing or damaged beside a state directory in use is no empty fleet."""

import subprocess

import pytest

from support.objects import HOSTS, host
from support.server import PORT
from support.waiting import slowness

EX_CONFIG = 78


@pytest.fixture
def stopped(start_server):
    """A server that had a host and was stopped."""
    server = start_server()
    assert server.ask("POST", HOSTS, host("one", 1, image="")).code == 201
    server.stop()
    server.closed = True
    yield server
    server.close()


def attempt(server, *flags):
    """Starts the server; returns its exit status and what it printed."""
    done = subprocess.run(
        [server.binary, "serve", "--config", server.place / "bootlatch.toml", "--interface", "lo", "--address", "127.0.0.1", "--state-dir", server.state,
         "--firmware-dir", server.place / "firmware", "--http-port", str(PORT), *flags], capture_output=True, text=True, timeout=60 * slowness())
    return done.returncode, done.stderr


def remove(server):
    for path in server.state.glob("bootlatch.db*"):
        path.unlink()


def truncate(server):
    (server.state / "bootlatch.db").write_bytes(b"")


def link_to_nothing(server):
    remove(server)
    (server.state / "bootlatch.db").symlink_to(server.place / "unmounted" / "bootlatch.db")


@pytest.mark.parametrize("lose", [remove, truncate, link_to_nothing])
def test_a_lost_database(stopped, lose):
    lose(stopped)
    before = sorted(path.name for path in stopped.state.iterdir())
    for _ in range(2):
        code, said = attempt(stopped)
        assert code == EX_CONFIG, f"the server does not start: {code} {said}"
        assert str(stopped.state / "bootlatch.db") in said and "--start-empty" in said and "backup" in said, f"file and remedy are named: {said}"
    assert sorted(path.name for path in stopped.state.iterdir()) == before, "nothing was made in its place"


def test_an_operator_may_start_empty(stopped):
    remove(stopped)
    stopped.flags.append("--start-empty")
    stopped.start()
    assert "started with an empty database" in stopped.log(), stopped.tail()
    assert stopped.ask("GET", HOSTS).json["items"] == []
    stopped.flags.remove("--start-empty")
    stopped.restart()
    assert "empty database" not in stopped.log(), "the next start needs no flag and says nothing"


def test_the_flag_harms_no_database_that_is_there(stopped):
    stopped.flags.append("--start-empty")
    stopped.start()
    assert [item["metadata"]["name"] for item in stopped.ask("GET", HOSTS).json["items"]] == ["one"]


@pytest.mark.parametrize("what", ["other bytes", "half of it", "a zeroed page", "a directory"])
def test_a_damaged_database(stopped, what):
    path = stopped.state / "bootlatch.db"
    whole = path.read_bytes()
    assert len(whole) > 3 * 4096 and not list(stopped.state.glob("bootlatch.db-wal")), "the server ended in order"
    if what == "a directory":
        path.unlink()
        path.mkdir()
    else:
        # Page 2 holds the objects: the first table of the schema.
        path.write_bytes({"other bytes": b"not a database" * 1000, "half of it": whole[:len(whole) // 2],
                          "a zeroed page": whole[:4096] + bytes(4096) + whole[8192:]}[what])
    for flags in ((), ("--start-empty",)):
        code, said = attempt(stopped, *flags)
        assert code == EX_CONFIG and "bootlatch.db" in said, f"a database with {what} is refused: {code} {said}"


def test_a_first_start_needs_no_flag(start_server):
    server = start_server()
    (server.state / "isos").mkdir(exist_ok=True)
    assert server.ask("GET", HOSTS).json["items"] == []
