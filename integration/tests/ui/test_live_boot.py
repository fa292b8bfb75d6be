"""The page of a host follows the install of a real machine: QEMU with SeaBIOS, over DHCP, HTTP and iSCSI."""

import contextlib
import ctypes
import os
import re

import pytest
from lab import kit
from lab.cycle import Cycle, host_name
from lab.lab import Lab
from lab.network import APPLIANCE_ADDRESS
from support.browser import Window, chromium
from support.network import CLONE_NEWNET
from support.waiting import eventually


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


class LabServer:
    """The server of a lab, as a window knows it. Its address is not the loopback: the browser sends no Sec-Fetch-Site."""

    address = APPLIANCE_ADDRESS

    def __init__(self, appliance):
        self.token = (appliance.state / "admin.token").read_text().strip()


@pytest.mark.parametrize("firmware", ["bios"])
def test_an_install_appears_live(firmware):
    missing = [name for name in ("LAB_FIRMWARE", "LAB_ISO") if name not in os.environ]
    assert not missing, f"{missing} must be set: integration/test does it"
    os.environ.setdefault("LAB_BINARY", os.environ["BOOTLATCH"])
    with Lab(kit.load(), f"page-{firmware}") as lab:
        # The machine is held first: the page approves it.
        lab.serve("hold")
        run = Cycle(lab, lab.machine(firmware))
        with inside(lab.network.appliance), chromium() as browser:
            window = Window(browser, LabServer(lab.appliance), port=80)
            page = window.log_in()
            run.power_on()
            name = host_name(run.machine)
            page.locator(f"tr[data-id='default/{name}'] .badge", has_text="new").wait_for()
            page.get_by_label(f"Actions for {name}").click()
            page.get_by_role("menuitem", name="Approve").click()
            dialog = page.get_by_role("dialog")
            dialog.get_by_label("ISO").select_option("lab")
            dialog.get_by_label("Config").select_option("lab-config")
            dialog.get_by_role("button", name="Approve").click()
            page.locator(f"tr[data-id='default/{name}'] [data-phase=Assigned]").wait_for()
            page.goto(f"/ui/hosts/default/{name}")
            window.wait_until_live()
            run.reset()
            before = len(window.requests)
            page.set_default_timeout(400_000)
            page.locator("#phase[data-phase=Offered]").wait_for()
            lane = lambda title: page.locator(".lane", has=page.get_by_role("rowheader", name=title, exact=True))
            lane("DHCP").locator(".bar").first.wait_for(state="attached")
            lane("iSCSI").locator(".bar").first.wait_for(state="attached")
            page.locator("#phase[data-phase=Installing]").wait_for()
            lane("Config").locator(".mark").first.wait_for(state="attached")
            page.locator("#phase[data-phase=Installed]").wait_for()
            page.locator("#boot").get_by_text("installed after").wait_for()
            assert window.requests[before:] == [], "the page follows the boot without a request"
            loaded = lambda title: lane(title).locator(".time").inner_text()
            assert re.search(r"· [\d.]+ MB", loaded("iSCSI")), loaded("iSCSI")
            run.install()
            stages = [cell.inner_text() for cell in page.locator("#ledgers tbody th").all()]
            assert {"DHCP", "boot script", "installer"} <= set(stages), stages
            assert eventually(lambda: page.locator("#history [data-event=boot_completed]").count() == 1)
            window.close()
            assert not window.errors, window.errors
