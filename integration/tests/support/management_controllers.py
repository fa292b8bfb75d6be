"""Real management controllers for tests: sushy-tools' Redfish emulator, pyghmi's IPMI one, and openipmi's ipmi_sim.

The first two and sushy, a Redfish client, are downloaded once into integration/.cache and are importable after `sushy()`.
"""

import functools
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

from support.downloads import downloading
from support.waiting import eventually

PLACE = Path(__file__).resolve().parents[2] / ".cache" / f"redfish-{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = ["sushy==5.14.0", "pyghmi==1.6.19", "flask==3.1.3", "requests==2.34.2", "tenacity==9.2.1", "cachetools==8.0.0", "bcrypt==5.0.0",
            "webob==1.8.11"]


def prepare():
    """Downloads the packages unless they are there."""
    with downloading(PLACE):
        if not (PLACE / "ready").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", PLACE], check=True)
            pip = [PLACE / "bin/pip", "-q", "install"]
            subprocess.run([*pip, *PACKAGES], check=True)
            # Its other dependencies are for libvirt, which the fake driver does not use.
            subprocess.run([*pip, "--no-deps", "sushy-tools==2.2.0"], check=True)
            (PLACE / "ready").touch()


@functools.cache
def sushy():
    """Returns the module sushy."""
    prepare()
    sys.path.extend(str(path) for path in PLACE.glob("lib/python*/site-packages"))
    return importlib.import_module("sushy")


EMULATOR = """
SUSHY_EMULATOR_LISTEN_IP = '{address}'
SUSHY_EMULATOR_LISTEN_PORT = {port}
SUSHY_EMULATOR_FAKE_DRIVER = True
SUSHY_EMULATOR_STATE_DIR = '{state}'
SUSHY_EMULATOR_FAKE_SYSTEMS = [{{'uuid': '27946b59-9e44-4fa7-8e91-f3527a1ef09{port_end}', 'name': 'machine', 'power_state': 'Off', 'external_notifier': False,
    'nics': [{{'mac': '52:54:00:00:00:02', 'ip': '127.0.0.9'}}]}}]
"""
# The emulator delays each change of power by a random time; the tests do not.
EMULATE = "import random, sys; random.randint = lambda low, high: 0; from sushy_tools.emulator.main import main; sys.exit(main())"


class Controller:
    """A management controller that runs during a test."""

    def __init__(self, place, port, *words, udp=False, program=PLACE / "bin/python"):
        self.place = place
        self.log = open(place / "log", "wb")
        self.process = subprocess.Popen([program, *words], stdout=self.log, stderr=self.log, cwd=place)

        def listens():
            held = subprocess.run(["ss", "-Hlnu" if udp else "-Hlnt", f"sport = :{port}"], capture_output=True, text=True)
            return held.stdout.strip()

        assert eventually(listens, 20), (place / "log").read_text()

    def close(self):
        self.process.terminate()
        self.process.wait(10)
        self.log.close()


# What the fake driver does not have; the resources are the emulator's own.
HARDWARE = """
import sushy_tools.emulator.resources.systems.fakedriver as fake
fake.FakeDriver.get_total_memory = lambda self, identity: 96
fake.FakeDriver.get_total_cpus = lambda self, identity: 2
cpu = lambda number: dict(id=number, socket=number, vendor='Acme', model='Emulated CPU', cores='4', threads='8')
fake.FakeDriver.get_processors = lambda self, identity: [cpu('CPU0'), cpu('CPU1')]
fake.FakeDriver.get_versions = lambda self, identity: {'BiosVersion': '1.0.0'}
"""
DISKS = """
UUID = SUSHY_EMULATOR_FAKE_SYSTEMS[0]['uuid']
SUSHY_EMULATOR_FAKE_SYSTEMS[0]['nics'].append({'mac': '52:54:00:00:00:03', 'ip': '127.0.0.10'})
SUSHY_EMULATOR_STORAGE = {UUID: [{'Id': '1', 'Name': 'Local Storage Controller', 'StorageControllers': [], 'Drives': ['32ADF365C6C1B7BD']}]}
SUSHY_EMULATOR_DRIVES = {(UUID, '1'): [{'Id': '32ADF365C6C1B7BD', 'Name': 'Drive Sample', 'CapacityBytes': 899527000000, 'Protocol': 'SAS'}]}
"""


def emulator_command(state, address, port, before="", more=""):
    """Writes the files of sushy-tools' Redfish emulator, with one machine, and returns its command. `before` is run first, and `more`
    is added to its configuration."""
    sushy()
    import bcrypt

    (state / "users").write_text("admin:" + bcrypt.hashpw(b"password", bcrypt.gensalt(4)).decode() + "\n")
    text = EMULATOR.format(address=address, port=port, state=state, port_end=port % 10) + f"SUSHY_EMULATOR_AUTH_FILE = '{state}/users'\n"
    (state / "conf").write_text(text + more)
    return [str(PLACE / "bin/python"), "-c", before + EMULATE, "--config", str(state / "conf")]


def emulator(server, port, tls=False, hardware=False):
    """Starts sushy-tools' Redfish emulator with one machine; with `tls`, it has a new certificate each time; with `hardware`,
    its machine has processors, memory, a disk and two interfaces."""
    state = server.place / f"emulator{port}"
    state.mkdir(exist_ok=True)
    more = DISKS if hardware else ""
    if tls:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bmc",
                        "-keyout", state / "key", "-out", state / "crt"], check=True, capture_output=True)
        more += f"SUSHY_EMULATOR_SSL_CERT = '{state}/crt'\nSUSHY_EMULATOR_SSL_KEY = '{state}/key'\n"
    program, *words = emulator_command(state, "127.0.0.1", port, HARDWARE if hardware else "", more)
    return Controller(state, port, *words, program=program)


def fake_bmc(server, port):
    """Starts pyghmi's IPMI emulator."""
    prepare()
    place = server.place / "ipmi"
    place.mkdir()
    return Controller(place, port, PLACE / "bin/fakebmc", "--port", str(port), udp=True)


LAN = """
name "machine"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "{place}/control 0x20"
  user 2 true "admin" "{password}" admin 10 none md2 md5 straight
"""
# The machine's serial port is a server of the test, to which the simulator connects.
CONSOLE = '  sol "tcp:127.0.0.1:{console}" 115200\n'
# ipmi_sim calls it with "MC get power", "MC set power 1", "MC set shutdown 1"...; the commands are kept in the file told.
CONTROL = """#!/bin/sh
cd {place}
[ "$2" = get ] || echo "$3 $4" >>told
case "$2 $3" in
  "get power") echo "power:$(cat power)" ;;
  "set power") echo "$4" >power ;;
  "set shutdown") [ ! -e obeys ] || echo 0 >power ;;
esac
"""
BMC = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n"


class Simulator(Controller):
    """openipmi's ipmi_sim, with a machine whose state is in files."""

    def __init__(self, server, port, password="password", console=None):
        assert shutil.which("ipmi_sim"), "openipmi is missing: integration/setup/install-packages"
        self.place, self.port = server.place / f"sim{port}", port
        if not self.place.exists():
            (self.place / "state").mkdir(parents=True)
            (self.place / "control").write_text(CONTROL.format(place=self.place))
            (self.place / "control").chmod(0o755)
            (self.place / "told").touch()
            self.power = "off"
        lan = LAN + CONSOLE if console else LAN
        (self.place / "lan").write_text(lan.format(port=port, place=self.place, password=password, console=console))
        (self.place / "bmc").write_text(BMC)
        super().__init__(self.place, port, "-c", "lan", "-f", "bmc", "-s", "state", "-n", "-d", udp=True, program="ipmi_sim")

    @property
    def power(self):
        """Power of the machine: "on" or "off"."""
        return "on" if (self.place / "power").read_text().strip() == "1" else "off"

    @power.setter
    def power(self, state):
        (self.place / "power").write_text("1" if state == "on" else "0")

    @property
    def told(self):
        """The commands that the machine received."""
        return (self.place / "told").read_text().splitlines()
