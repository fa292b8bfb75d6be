"""Fixtures of all integration tests. Needs root and BOOTLATCH, the path of the binary under test.

    sudo BOOTLATCH=$PWD/target/debug/bootlatch /usr/bin/python3 -m pytest integration/tests [-k WORD]
"""

import os
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # the packages `support` and `lab`
sys.dont_write_bytecode = True

from support import management_controllers, network  # noqa: E402
from support.objects import delete_all, make_example  # noqa: E402
from support.server import Server  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run the tests that repeat themselves for minutes, not for seconds")


def pytest_configure(config):
    if config.option.collectonly or config.option.help:
        return
    if os.geteuid() != 0:
        pytest.exit("network namespaces need root: sudo BOOTLATCH=... python3 -m pytest integration/tests", 4)
    binary = os.environ.get("BOOTLATCH")
    if not binary:
        pytest.exit("set BOOTLATCH to the path of the binary under test", 4)
    if not os.access(binary, os.X_OK):
        pytest.exit(f"BOOTLATCH={binary}: no such program", 4)
    os.environ["BOOTLATCH"] = os.path.abspath(binary)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Attaches the end of each running program's log to the report of a failed test."""
    report = (yield).get_result()
    if report.failed:
        for server in Server.running:
            report.sections.append((f"log of the server in {server.place}", server.tail()))
        for lan in [value for value in getattr(item, "funcargs", {}).values() if hasattr(value, "programs")]:
            for program in lan.programs:
                report.sections.append((f"log {program.log}", program.text()[-3000:]))


@pytest.fixture(scope="module")
def private_network():
    """A new network namespace for the tests of one module: loopback with 127.0.0.1 and 192.0.2.1/24."""
    with network.private_network():
        yield


@pytest.fixture(scope="module")
def place():
    """A temporary directory for the tests of one module, readable by servers that have dropped root."""
    with tempfile.TemporaryDirectory(prefix="bootlatch-", dir="/var/tmp") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture(scope="module")
def start_server(private_network, place):
    """A function that starts a server in the module's network; PLACE in its configuration is its directory.

    At the end of the module each server that no test closed must still run, and none may have panicked.
    """
    servers = []

    def start(config="", flags=(), **options):
        folder = place / f"server{len(servers)}"
        folder.mkdir()
        server = Server(folder, config.replace("PLACE", str(folder)), flags, **options)
        servers.append(server)
        return server.start()

    yield start
    ended = [server.tail() for server in servers if not server.closed and server.process.poll() is not None]
    panicked = [server.tail() for server in servers if "panicked" in server.all_logs()]
    for server in servers:
        server.close()
    assert not ended, f"the server is still running: {ended}"
    assert not panicked, f"the server did not panic: {panicked}"


@pytest.fixture(scope="module")
def server(start_server):
    """A running server with the default configuration. Modules define their own to configure it."""
    return start_server()


@pytest.fixture(autouse=True)
def no_server_panics():
    """Fails the test during which a running server panicked."""
    before = {id(server): server.all_logs().count("panicked") for server in Server.running}
    yield
    for server in Server.running:
        now = server.all_logs().count("panicked")
        assert now == before.get(id(server), 0), f"the server panicked during this test: {server.tail()}"


@pytest.fixture
def no_objects_left(server):
    """Deletes every object of the server after a test."""
    yield
    delete_all(server)


@pytest.fixture
def example_objects(server):
    """The objects of make_example during a test; every object is deleted afterwards."""
    make_example(server)
    yield
    delete_all(server)


@pytest.fixture(scope="module")
def sushy():
    """The module sushy, the Redfish client of Metal3."""
    return management_controllers.sushy()
