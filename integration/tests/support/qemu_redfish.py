"""sushy-tools' Redfish service for a machine of the lab: a driver of ours between its resources and QEMU's monitor."""

import concurrent.futures
import contextlib
import ctypes
import os
import threading

from support import management_controllers
from support.network import CLONE_NEWNET

SYSTEM = "27946b59-9e44-4fa7-8e91-f3527a1ef0aa"
NIC = "/machine/peripheral/nic"


@contextlib.contextmanager
def inside(space):
    """Moves the calling thread into a named network namespace, and back at the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    before, there = (os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in ("/proc/thread-self/ns/net", f"/run/netns/{space}"))
    assert libc.setns(there, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        libc.setns(before, CLONE_NEWNET)
        os.close(before)
        os.close(there)


class QemuRedfish:
    """The BMC of a machine, on a port of 127.0.0.1 in the server's namespace. `resets` has what it was asked for, `devices` the
    boot devices that it was told."""

    def __init__(self, lab, machine, port):
        management_controllers.sushy()
        from sushy_tools.emulator import main
        from sushy_tools.emulator.resources.systems import fakedriver
        from werkzeug.serving import make_server

        self.lab, self.machine = lab, machine
        self.resets, self.devices = [], []
        self.starter = concurrent.futures.ThreadPoolExecutor(1)
        bridge = self

        class Driver(fakedriver.FakeDriver):
            def get_power_state(self, identity):
                return "On" if bridge.is_on() else "Off"

            def set_power_state(self, identity, state):
                bridge.set_power(state)

            def set_boot_device(self, identity, boot_source):
                super().set_boot_device(identity, boot_source)
                bridge.set_device(boot_source)

            def get_total_memory(self, identity):
                return 0.75

        system = {"uuid": SYSTEM, "name": machine.name, "power_state": "Off", "external_notifier": False, "nics": [{"mac": machine.mac, "ip": ""}]}
        main.app.configure(extra_config={
            "SUSHY_EMULATOR_FAKE_DRIVER": True, "SUSHY_EMULATOR_FAKE_SYSTEMS": [system], "SUSHY_EMULATOR_STATE_DIR": str(lab.folder)})
        self.original, fakedriver.FakeDriver = fakedriver.FakeDriver, Driver
        self.module = fakedriver
        with inside(lab.network.appliance):
            self.server = make_server("127.0.0.1", port, main.app, threaded=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def is_on(self):
        console = self.machine.console
        return bool(self.machine.qmp and console and console.running())

    def set_power(self, state):
        self.resets.append(state)
        if state in ("On", "ForceOn") and not self.is_on():
            # QEMU ends with the thread that started it, and a thread of the web server ends with its request.
            self.starter.submit(self.machine.power_on, self.lab.network).result()
        elif state == "ForceOff":
            self.machine.power_off()
        elif state == "GracefulShutdown" and self.is_on():
            self.machine.qmp.do("system_powerdown")
        elif state == "ForceRestart" and self.is_on():
            self.machine.reset()

    def set_device(self, device):
        """The disk is tried before the network, or after it, from the next reset on. A machine that is switched on tries the network first."""
        self.devices.append(device)
        if self.is_on():
            self.machine.qmp.do("qom-set", path=NIC, property="bootindex", value=5 if device == "Hdd" else 1)

    def close(self):
        self.module.FakeDriver = self.original
        self.server.shutdown()
        self.server.server_close()
        self.machine.power_off()
        self.starter.shutdown()
