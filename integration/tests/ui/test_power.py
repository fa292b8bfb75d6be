"""Power from the page, with openipmi's ipmi_sim and sushy-tools' Redfish emulator as the BMCs."""

import shutil

import pytest
from support import management_controllers
from support.bmc_hosts import becomes, bmc, events, status
from support.objects import HOSTS, host
from support.waiting import eventually

PAGE = "/ui/hosts/default/node"


@pytest.fixture(scope="module")
def server(start_server):
    return start_server()


@pytest.fixture
def sim(server):
    """ipmi_sim with a machine that is off, and the host "node" of it."""
    sim = management_controllers.Simulator(server, 6231)
    assert server.ask("POST", HOSTS, host("node", 1, bmc=bmc("ipmi://127.0.0.1:6231"))).code == 201
    assert becomes(server, "node", "off"), server.tail()
    yield sim
    server.ask("DELETE", f"{HOSTS}/node")
    sim.close()
    shutil.rmtree(sim.place)


def toolbar(page):
    return page.get_by_role("toolbar", name="Actions")


def names(page):
    return [button.inner_text() for button in toolbar(page).get_by_role("button").all()]


def test_a_machine_is_switched_on_and_off(server, sim, open_window):
    window = open_window()
    page = window.log_in(path=PAGE)
    page.locator("#power[data-power=off]").wait_for()
    assert names(page)[:3] == ["Power on", "Restart", "Next boot from …"], "nothing cuts the power of a machine that is off"
    toolbar(page).get_by_role("button", name="Power on").click()
    page.locator("#power", has_text="off → on").wait_for()
    page.get_by_text("switching on: ").wait_for()
    page.locator("#power[data-power=on]").wait_for()
    assert sim.power == "on" and sim.told == ["power 1"]
    # What cuts power asks first, and cancelling does nothing.
    dialog = page.get_by_role("dialog")
    toolbar(page).get_by_role("button", name="Cut the power").click()
    dialog.get_by_text("What the system has not written is lost.").wait_for()
    dialog.get_by_role("button", name="Cancel").click()
    (sim.place / "obeys").touch()
    toolbar(page).get_by_role("button", name="Power off").click()
    dialog.get_by_text("The system is asked to shut down.").wait_for()
    dialog.get_by_role("button", name="Power off").click()
    page.locator("#power[data-power=off]").wait_for()
    assert sim.power == "off" and sim.told == ["power 1", "shutdown 1"], sim.told
    page.get_by_role("button", name="Power", exact=True).click()
    page.locator("#history").get_by_text("its BMC was asked to shut it down").wait_for()
    assert not any(word in page.locator("#history").inner_text() for word in ("GracefulShutdown", "ForceOff", "ResetType"))


def test_a_restart_starts_a_machine_that_is_off(server, sim, open_window):
    page = open_window().log_in(path=PAGE)
    page.locator("#power[data-power=off]").wait_for()
    toolbar(page).get_by_role("button", name="Restart").click()
    page.locator("#power[data-power=on]").wait_for()
    assert sim.told == ["power 1"], "it is switched on, without a question"


def test_a_running_machine_is_reset_and_restarted(server, sim, open_window):
    sim.power = "on"
    assert becomes(server, "node", "on"), server.tail()
    page = open_window().log_in(path=PAGE)
    page.locator("#power[data-power=on]").wait_for()
    dialog = page.get_by_role("dialog")
    toolbar(page).get_by_role("button", name="Reset").click()
    dialog.get_by_text("as by its reset button").wait_for()
    dialog.get_by_role("button", name="Reset").click()
    assert eventually(lambda: {"reset": "reset"} in events(server, "node", "power_switched"), 20), server.tail()
    page.locator("#power[data-power=on]").wait_for()
    assert eventually(lambda: "powerTransition" not in status(server, "node"), 60), status(server, "node")
    (sim.place / "obeys").touch()
    toolbar(page).get_by_role("button", name="Restart").click()
    dialog.get_by_role("button", name="Restart").click()
    page.locator("#power[data-power=changing]").wait_for()
    assert eventually(lambda: sim.told[-2:] == ["shutdown 1", "power 1"], 60), sim.told
    page.locator("#power[data-power=on]").wait_for()


def test_a_bmc_that_is_gone_shows_its_own_words(server, sim, open_window):
    sim.process.terminate()
    sim.process.wait(10)
    page = open_window().log_in(path=PAGE)
    toolbar(page).get_by_role("button", name="Power on").click()
    page.get_by_text("switching on: ").wait_for()
    assert eventually(lambda: status(server, "node").get("powerError"), 60), server.tail()
    page.locator("#target .hint", has_text=status(server, "node")["powerError"]["message"]).wait_for()


def test_many_hosts_over_redfish_and_the_next_boot(server, open_window):
    """sushy-tools is told by Redfish's words, and the page shows none of them."""
    sushy = management_controllers.sushy()
    emulator = management_controllers.emulator(server, 8003)
    system = sushy.Sushy("http://127.0.0.1:8003/redfish/v1", auth=sushy.auth.BasicAuth("admin", "password")).get_system_collection().get_members()[0]
    try:
        for number, name in ((2, "redfish"), (3, "bare")):
            spec = {"bmc": bmc("redfish+http://127.0.0.1:8003")} if name == "redfish" else {}
            assert server.ask("POST", HOSTS, host(name, number, **spec)).code == 201
        assert becomes(server, "redfish", "off"), server.tail()
        window = open_window()
        page = window.log_in()
        page.get_by_label("Select redfish").check()
        page.get_by_role("toolbar", name="Selected hosts").get_by_role("button", name="Power").click()
        page.get_by_role("menuitem", name="Power on").click()
        page.locator("tr[data-id='default/redfish'] .power[data-power=on]").wait_for()
        system.refresh(force=True)
        assert system.power_state.value == "On"
        page.get_by_label("Actions for redfish").click()
        assert not any("Force" in item.inner_text() or "Graceful" in item.inner_text() for item in page.get_by_role("menuitem").all())
        page.get_by_role("menuitem", name="Next boot from").click()
        page.get_by_role("dialog").get_by_label("Boot from").select_option("network")
        page.get_by_role("dialog").get_by_role("button", name="Set").click()
        page.get_by_role("dialog").wait_for(state="hidden")
        assert eventually(lambda: system.refresh(force=True) or system.boot["target"].value == "Pxe"), system.boot
        # A machine without a BMC can be woken, and nothing else.
        page.get_by_label("Actions for bare").click()
        assert "Wake by network" in [item.inner_text() for item in page.get_by_role("menuitem").all()]
        page.keyboard.press("Escape")
        page.get_by_label("Select bare").check()
        page.get_by_role("toolbar", name="Selected hosts").get_by_role("button", name="Power").click()
        page.get_by_role("menuitem", name="Cut the power").click()
        page.get_by_role("dialog").get_by_role("button", name="Cut the power").click()
        page.locator("#dialog-title", has_text="1 asked, 1 refused").wait_for()
        assert "the host has no BMC" in page.locator(".refusals").inner_text()
        assert all("422" in error for error in window.errors), window.errors
        window.errors.clear()
        page.get_by_role("dialog").get_by_role("button", name="Close").click()
        page.locator("tr[data-id='default/redfish'] .power[data-power=off]").wait_for()
    finally:
        for name in ("redfish", "bare"):
            server.ask("DELETE", f"{HOSTS}/{name}")
        emulator.close()
