"""Every page in both themes and at phone width: axe finds nothing serious, and a screenshot of each is kept.

The screenshots go into the folder that SCREENSHOTS names; by default into integration/.cache/screenshots.
"""

import os
from pathlib import Path

import pytest
from support.browser import THEMES, violations
from support.objects import CONFIGS, HOSTS, IMAGES, config, host, image
from support.waiting import eventually

FOLDER = Path(os.environ.get("SCREENSHOTS", Path(__file__).resolve().parents[2] / ".cache/screenshots"))
PAGES = {"hosts": ("/ui/hosts", "#rows tr[data-id]"), "host": ("/ui/hosts/default/rack1-node03", ".lane i"), "diagnosis": ("/ui/hosts/default/rack1-node04", ".advised :is(a, button)"), "isos": ("/ui/isos", "#iso-rows tr"),
         "configs": ("/ui/configs#builder", "#affects:not(:empty)"), "network": ("/ui/network", "#interfaces section"),
         "activity": ("/ui/activity", "#activity li"), "settings": ("/ui/settings", "#setting-rows tr"), "login": ("/ui/login", "input")}
NODE = "192.0.2.13"


@pytest.fixture(scope="module")
def server(start_server):
    """A server with hosts in many states."""
    server = start_server('unknown_hosts = "hold"\n')
    for name in ("coreos-live", "debian-12"):
        server.iso(f"{name}.iso")
    for name in ("builder", "worker"):
        assert server.ask("POST", CONFIGS, config(name)).code == 201
    assert server.ask("POST", IMAGES, image("coreos-live", ["builder", "worker"], "coreos-live.iso")).code == 201
    assert server.ask("POST", IMAGES, image("debian-12", [], "debian-12.iso")).code == 201
    for number in range(1, 41):
        spec = {"ip": f"192.0.2.{number + 10}"}
        if number % 3 == 0:
            spec |= {"image": "coreos-live", "bootConfigRef": "builder"}
        if number % 9 == 4:
            spec |= {"bmc": {"address": "ipmi://192.0.2.9", "username": "admin", "password": "x"}}
        assert server.ask("POST", HOSTS, host(f"rack1-node{number:02}", number, **spec)).code == 201
    for number in range(2):
        server.ask("GET", f"/ipxe?mac=52:54:00:aa:00:0{number}", token=None, source=f"192.0.2.{200 + number}")
    server.ask("GET", "/ipxe?mac=52:54:00:00:00:03", token=None, source=NODE)
    server.ask("GET", "/api/v1/bootconfig", token=None, source=NODE)
    for number in (6, 9):
        source = f"192.0.2.{number + 10}"
        server.ask("GET", f"/ipxe?mac=52:54:00:00:00:0{number}", token=None, source=source)
        server.ask("GET", f"/ipxe/failed?mac=52:54:00:00:00:0{number}&failed=sanboot&errno=0x2c0d603b", token=None, source=source)
    stalled = lambda: server.ask("GET", f"{HOSTS}/rack1-node09").json["status"].get("stall")
    assert eventually(stalled, 15), "a diagnosis stands"
    return server


def visit(window, name):
    path, ready = PAGES[name]
    page = window.page
    page.goto(path)
    if name != "login":
        window.wait_until_live()
    page.locator(ready).first.wait_for()
    return page


@pytest.mark.parametrize("theme", THEMES)
def test_every_page_is_accessible(server, open_window, theme):
    FOLDER.mkdir(parents=True, exist_ok=True)
    window = open_window(theme=theme)
    window.log_in()
    found = {}
    for name in PAGES:
        page = visit(window, name)
        page.screenshot(path=FOLDER / f"{name}-{theme}.png")
        found[name] = violations(page)
    page = visit(window, "hosts")
    page.get_by_label("Actions for rack1-node03").click()
    found["menu"] = violations(page)
    page.keyboard.press("Escape")
    page.locator("#needs-list button", has_text="new machines").click()
    page.get_by_role("toolbar", name="Selected hosts").get_by_role("button", name="Assign").click()
    page.screenshot(path=FOLDER / f"assign-{theme}.png")
    found["dialog"] = violations(page)
    assert not any(found.values()), found


def test_every_page_fits_a_phone(server, open_window):
    FOLDER.mkdir(parents=True, exist_ok=True)
    window = open_window(width=390, height=780)
    window.log_in()
    found = {}
    for name in PAGES:
        page = visit(window, name)
        page.screenshot(path=FOLDER / f"{name}-phone.png")
        found[name] = violations(page)
        wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} px wider than the window"
    assert not any(found.values()), found


def test_a_theme_that_was_chosen_stays(server, open_window):
    window = open_window(theme="light")
    page = window.log_in()
    page.get_by_role("button", name="Switch between dark and light").click()
    ground = lambda: page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    dark = ground()
    page.reload()
    window.wait_until_live()
    assert ground() == dark == "rgb(17, 20, 24)", dark
