"""Real management controllers beside a test: sushy-tools' Redfish emulator and pyghmi's IPMI one, fetched once into
integration/.cache with sushy, the client; and openipmi's ipmi_sim, which a script tells what becomes of its machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from api_world import eventually

HERE = Path(__file__).resolve().parent
PLACE = HERE.parent / ".cache" / "redfish"
PACKAGES = ["sushy==5.14.0", "pyghmi==1.6.19", "flask==3.1.3", "requests==2.34.2", "tenacity==9.2.1", "cachetools==8.0.0", "bcrypt==5.0.0",
            "webob==1.8.11"]


def prepare():
    if not (PLACE / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", PLACE], check=True)
        pip = [PLACE / "bin/pip", "-q", "install"]
        subprocess.run([*pip, *PACKAGES], check=True)
        # What it depends on beside these is for libvirt, which its fake driver does without.
        subprocess.run([*pip, "--no-deps", "sushy-tools==2.2.0"], check=True)
        (PLACE / "ready").touch()


def inside():
    """Goes on in the environment that has the packages."""
    if Path(sys.prefix) != PLACE:
        prepare()
        os.execv(PLACE / "bin/python", [PLACE / "bin/python", *sys.argv])


EMULATOR = """
SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'
SUSHY_EMULATOR_LISTEN_PORT = {port}
SUSHY_EMULATOR_FAKE_DRIVER = True
SUSHY_EMULATOR_STATE_DIR = '{state}'
SUSHY_EMULATOR_FAKE_SYSTEMS = [{{'uuid': '27946b59-9e44-4fa7-8e91-f3527a1ef09{port_end}', 'name': 'machine', 'power_state': 'Off', 'external_notifier': False,
    'nics': [{{'mac': '52:54:00:00:00:02', 'ip': '127.0.0.9'}}]}}]
"""
# The emulator takes some seconds for each change of power, by chance: not here.
EMULATE = "import random, sys; random.randint = lambda low, high: 0; from sushy_tools.emulator.main import main; sys.exit(main())"


class Beside:
    """A controller that runs beside the test."""

    def __init__(self, place, port, *words, udp=False, program=PLACE / "bin/python"):
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


def emulator(server, port, tls=False):
    state = server.place / f"emulator{port}"
    state.mkdir()
    text = EMULATOR.format(port=port, state=state, port_end=port % 10)
    if tls:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bmc",
                        "-keyout", state / "key", "-out", state / "crt"], check=True, capture_output=True)
        text += f"SUSHY_EMULATOR_SSL_CERT = '{state}/crt'\nSUSHY_EMULATOR_SSL_KEY = '{state}/key'\n"
    import bcrypt  # one of the packages, which are there once `inside` was called

    (state / "users").write_text("admin:" + bcrypt.hashpw(b"password", bcrypt.gensalt(4)).decode() + "\n")
    text += f"SUSHY_EMULATOR_AUTH_FILE = '{state}/users'\n"
    (state / "conf").write_text(text)
    return Beside(state, port, "-c", EMULATE, "--config", state / "conf")


def fake_bmc(server, port):
    """pyghmi's."""
    place = server.place / "ipmi"
    place.mkdir()
    return Beside(place, port, PLACE / "bin/fakebmc", "--port", str(port), udp=True)


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
# ipmi_sim asks it "MC get power" and tells it "MC set power 1", "MC set shutdown 1"...: what it is told is kept.
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


class Simulator(Beside):
    """openipmi's ipmi_sim, with a machine that its files say all of."""

    def __init__(self, server, port, password="password"):
        assert shutil.which("ipmi_sim"), "openipmi is missing: integration/install-packages"
        self.place, self.port = server.place / f"sim{port}", port
        if not self.place.exists():
            (self.place / "state").mkdir(parents=True)
            (self.place / "control").write_text(CONTROL.format(place=self.place))
            (self.place / "control").chmod(0o755)
            (self.place / "told").touch()
            self.power = "off"
        (self.place / "lan").write_text(LAN.format(port=port, place=self.place, password=password))
        (self.place / "bmc").write_text(BMC)
        super().__init__(self.place, port, "-c", "lan", "-f", "bmc", "-s", "state", "-n", "-d", udp=True, program="ipmi_sim")

    @property
    def power(self):
        return "on" if (self.place / "power").read_text().strip() == "1" else "off"

    @power.setter
    def power(self, state):
        (self.place / "power").write_text("1" if state == "on" else "0")

    @property
    def told(self):
        return (self.place / "told").read_text().splitlines()
