"""The serial console of a host over IPMI (Serial over LAN), with openipmi's ipmi_sim."""

import shutil
import socket
import subprocess
import threading

import pytest

from support import management_controllers
from support.bmc_hosts import becomes, bmc, patch, status
from support.objects import HOSTS, host
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_objects_left")
PORT, SERIAL = 6240, 6241


class SerialPort:
    """The serial port of a machine: what it says reaches each simulator that connects."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", port))
        self.clients = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                self.clients.append(self.listener.accept()[0])
            except OSError:
                return

    def say(self, text):
        for client in self.clients:
            client.sendall(text)

    def close(self):
        # The thread that accepts holds the socket until its call returns.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def serial():
    serial = SerialPort(SERIAL)
    yield serial
    serial.close()


@pytest.fixture
def sim(server, serial):
    sim = management_controllers.Simulator(server, PORT, console=SERIAL)
    assert eventually(lambda: serial.clients, 20), (sim.place / "log").read_text()
    yield sim
    sim.close()
    shutil.rmtree(sim.place)


def console(server, name, query=""):
    return server.ask("GET", f"{HOSTS}/{name}/console{query}")


def is_active():
    """Returns whether some session has the console (Get Payload Activation Status)."""
    words = ["ipmitool", "-I", "lanplus", "-C", "3", "-H", "127.0.0.1", "-p", str(PORT), "-U", "admin", "-P", "password", "raw", "6", "0x4a", "1"]
    said = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert said.returncode == 0, said
    return int(said.stdout.split()[1], 16) & 1 == 1


def is_followed(server, serial, name, wait=30):
    """Waits until what the machine says is captured."""
    def heard():
        serial.say(b".")
        return b"." in console(server, name).body

    return eventually(heard, wait)


def test_the_console_is_captured_and_each_boot_has_its_own(server, sim, serial):
    server.ask("POST", HOSTS, host("serial", 1, bmc=bmc(f"ipmi://127.0.0.1:{PORT}", console=True)))
    assert is_followed(server, serial, "serial"), server.tail()
    serial.say(b"\r\nPOST \x1b[31mok\x1b[0m\r\n" + b"x" * 5000 + b"\r\nGRUB\r\n")
    assert eventually(lambda: console(server, "serial").body.rstrip(b".").endswith(b"\r\nGRUB\r\n"), 20), console(server, "serial").body[-300:]
    text = console(server, "serial")
    assert text.body.count(b"x") == 5000 and text.headers["Content-Type"] == "text/plain; charset=utf-8", (text.headers, text.body.count(b"x"))
    assert console(server, "serial", "?from=3").body == text.body[3:], "from an offset on"
    assert console(server, "serial", "?from=99999").code == 400 and console(server, "serial", "?from=x").code == 400
    assert console(server, "serial").code == 200 and server.ask("GET", f"{HOSTS}/serial/console", token=None).code == 401
    shown = server.run("host", "console", "serial")
    assert "POST [31mok[0m\n" in shown.stdout and "\x1b" not in shown.stdout and "GRUB\n" in shown.stdout, shown.stdout[-200:]
    # The next boot has a file of its own; the one before is kept.
    followed = server.place / "followed"
    with open(followed, "wb") as output:
        follower = subprocess.Popen([server.binary, "host", "console", "-f", "serial"], stdout=output, env={"BOOTLATCH_SERVER": f"unix:{server.state}/api.sock"})
    try:
        assert eventually(lambda: b"GRUB" in followed.read_bytes()), followed.read_bytes()[-300:]
        patch(server, "serial", online=True)
        assert becomes(server, "serial", "on"), status(server, "serial")
        assert eventually(lambda: console(server, "serial").body.strip(b".") == b"", 20), console(server, "serial").body
        serial.say(b"Linux version 6\r\n")
        assert eventually(lambda: b"Linux version 6" in console(server, "serial").body, 20), console(server, "serial")
        assert b"GRUB" in console(server, "serial", "?previous=true").body
        before = server.run("host", "console", "--previous", "serial").stdout
        assert "GRUB" in before and "Linux" not in before, before[-200:]
        assert eventually(lambda: b"Linux version 6" in followed.read_bytes()), f"-f goes on with the next boot: {followed.read_bytes()[-300:]}"
    finally:
        follower.terminate()
        follower.wait(10)


def test_a_console_is_off_unless_asked_for_and_its_file_ends_with_the_host(server, sim, serial):
    server.ask("POST", HOSTS, host("plain", 2, bmc=bmc(f"ipmi://127.0.0.1:{PORT}")))
    assert becomes(server, "plain", "off"), server.tail()
    serial.say(b"nobody listens")
    assert console(server, "plain").body == b"" and not list((server.state / "consoles").glob("52-54-00-00-00-02.*"))
    patch(server, "plain", bmc={"console": True})
    assert is_followed(server, serial, "plain"), server.tail()
    files = lambda: list((server.state / "consoles").glob("52-54-00-00-00-02.*"))
    assert is_active(), "the BMC says that the console is in use"
    assert [file.stat().st_mode & 0o777 for file in files()] == [0o600], files()
    # After a restart of the server, and after one of the BMC, it goes on in the same file.
    server.restart()
    length = len(console(server, "plain").body)
    def grows():
        serial.say(b".")
        return len(console(server, "plain").body) > length
    assert eventually(grows, 90), server.tail()
    patch(server, "plain", bmc={"console": False})
    assert eventually(lambda: not files(), 10), f"what was captured is removed: {files()}"
    assert eventually(lambda: not is_active(), 20), "the console is given back"
