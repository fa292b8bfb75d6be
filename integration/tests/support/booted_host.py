"""A machine of the lab that boots an ISO through the running server, and what its console and screen show."""

import sys
import time

from lab import lab, process
from support.waiting import slowness

BOOT = 150.0  # seconds from power-on under plain emulation, with other machines running
ARM_BOOT = 240.0  # seconds for the same on an emulated arm64
SCREEN = 0xB8000  # VGA's text memory: a character and its colour, 80 by 25


class BootedHost:
    """A lab with one machine, whose host exists before it is switched on.

    `image` and `host` hold fields of the two objects as YAML; `objects` holds further objects.
    """

    def __init__(self, parts, name, firmware, iso, image="", host="", limit=BOOT, objects=""):
        self.testbed, self.limit = lab.Lab(parts, name), limit * slowness()
        self.firmware, self.iso, self.image, self.host, self.objects = firmware, iso, image, host, objects

    def __enter__(self):
        self.testbed.__enter__()
        try:
            self.start()
        except BaseException:
            self.testbed.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *why):
        self.testbed.__exit__(*why)

    def start(self):
        appliance = self.testbed.appliance
        appliance.start("ignore")
        appliance.command("iso", "add", "real", str(self.iso))
        self.machine = self.testbed.machine(self.firmware)
        manifest = self.testbed.folder / "host.yaml"
        manifest.write_text(
            f"{self.objects}apiVersion: v1\nkind: ISCSICdrom\nmetadata: {{name: real}}\nspec: {{isoFile: real.iso, {self.image}}}\n---\n"
            f"apiVersion: v1\nkind: BareMetalHost\nmetadata: {{name: node1, namespace: default}}\n"
            f"spec: {{bootMACAddress: '{self.machine.mac}', image: real, {self.host}}}\n")
        appliance.command("apply", "-f", str(manifest))
        self.machine.power_on(self.testbed.network)

    def wait_for_console(self, text):
        """Waits for a line with this text on the serial console; returns the line."""
        return self.machine.console.wait_for(text, self.limit)[2]

    def wait_for_marker(self, name, since=0):
        """Waits for a line of the lab's own on the console; returns its index, its time and its fields."""
        return self.machine.wait_marker(name, self.limit, since)

    def screen(self):
        """Returns the text on the screen."""
        file = self.testbed.folder / "screen"
        self.machine.qmp.do("pmemsave", val=SCREEN, size=4000, filename=str(file))
        cells = file.read_bytes()[::2].decode("latin-1")
        return "\n".join(cells[at:at + 80].rstrip() for at in range(0, 2000, 80))

    def wait_for_screen(self, *texts):
        """Waits until the screen shows all texts."""
        end = time.monotonic() + self.limit
        while time.monotonic() < end:
            screen = self.screen()
            if all(text in screen for text in texts):
                return screen
            time.sleep(0.3)  # no event reports that the screen has changed
        raise process.LabError(f"the screen shows {texts}:\n{screen}\n{self.machine.console.tail(8)}")

    def wait_for_blue_screen(self):
        """Waits until most of the screen has the blue of memtest86+."""
        file, end, blue = self.testbed.folder / "screen.ppm", time.monotonic() + self.limit, 0.0
        while time.monotonic() < end:
            self.machine.qmp.do("screendump", filename=str(file))
            pixels = file.read_bytes().split(b"\n", 3)[3]
            blue = pixels.count(b"\0\0\xaa") / (len(pixels) / 3)
            if blue > 0.5:
                return
            time.sleep(0.5)  # no event reports that the screen has changed
        raise process.LabError(f"most of the screen is blue: {blue:.0%} of it: {self.machine.console.tail(8)}")

    def press(self, key):
        self.machine.qmp.do("send-key", keys=[{"type": "qcode", "data": key}])

    def events(self):
        """Returns the names of the events in the host's timeline."""
        return [name for _, name, _ in self.testbed.appliance.timeline("node1")]
