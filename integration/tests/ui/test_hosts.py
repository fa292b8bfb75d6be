"""The page of all hosts: live rows, changes and refusals, new machines, many at a time, the keyboard."""

import pytest
from support.objects import CONFIGS, HOSTS, IMAGES, config, host, image
from support.waiting import eventually


@pytest.fixture(scope="module")
def server(start_server):
    server = start_server('unknown_hosts = "hold"\n')
    server.iso()
    server.iso("y.iso")
    for path, body in ((CONFIGS, config("builder")), (CONFIGS, config("worker")), (IMAGES, image("live", ["builder", "worker"])),
                       (IMAGES, image("rescue", [], "y.iso"))):
        assert server.ask("POST", path, body).code == 201
    return server


@pytest.fixture
def hosts(server):
    """Adds hosts, and deletes all at the end."""
    def add(*names, **spec):
        for name in names:
            number = len(server.ask("GET", HOSTS).json["items"]) + 1
            answer = server.ask("POST", HOSTS, host(name, number, ip=f"192.0.2.{number + 10}", **spec))
            assert answer.code == 201, answer

    yield add
    for item in server.ask("GET", HOSTS).json["items"]:
        server.ask("DELETE", f"{HOSTS}/{item['metadata']['name']}")


def row(page, name):
    return page.locator(f"tr[data-id='default/{name}']")


def spec(server, name):
    return server.ask("GET", f"{HOSTS}/{name}").json["spec"]


def phase(server, name):
    return server.ask("GET", f"{HOSTS}/{name}").json["status"]["phase"]


def choose(page, label, value):
    """Chooses in a drop-down as a person does: its options are there once it has the focus."""
    select = page.get_by_label(label, exact=True)
    select.focus()
    select.select_option(value)
    return select


def test_a_row_appears_changes_and_goes_without_a_request(server, hosts, open_window):
    window = open_window()
    page = window.log_in()
    before = len(window.requests)
    hosts("one")
    row(page, "one").wait_for()
    assert row(page, "one").locator(".phase").inner_text() == "LocalBoot"
    server.ask("PATCH", f"{HOSTS}/one", {"spec": {"image": "live"}})
    row(page, "one").locator("[data-phase=Assigned]").wait_for()
    server.ask("DELETE", f"{HOSTS}/one")
    row(page, "one").wait_for(state="detached")
    assert window.requests[before:] == [], "an open page makes no requests"


def test_an_iso_and_a_config_are_chosen_in_the_row(server, hosts, open_window):
    hosts("one")
    page = open_window().log_in()
    select = choose(page, "ISO of one", "live")
    assert [option.inner_text() for option in select.locator("option").all()] == ["localboot", "menu", "live", "rescue"]
    assert eventually(lambda: spec(server, "one")["image"] == "live")
    row(page, "one").locator("[data-phase=Assigned]").wait_for()
    select = choose(page, "Config of one", "worker")
    assert [option.inner_text() for option in select.locator("option").all()] == ["none", "builder", "worker"]
    assert eventually(lambda: spec(server, "one").get("bootConfigRef") == "worker")
    # An ISO that does not list the config takes none: both change in one request.
    choose(page, "ISO of one", "rescue")
    assert eventually(lambda: spec(server, "one")["image"] == "rescue")
    assert not spec(server, "one").get("bootConfigRef")


def test_a_refusal_is_shown_at_the_field_and_taken_back(server, hosts, open_window):
    hosts("one", image="live", bootConfigRef="builder")
    window = open_window()
    page = window.log_in()
    select = page.get_by_label("Config of one", exact=True)
    select.focus()
    # Somebody else takes the config off the ISO's list while the drop-down is open.
    page.evaluate("""() => window.held = document.querySelector("tr[data-id='default/one'] select[data-field=config]")""")
    answer = server.ask("PATCH", f"{IMAGES}/live", {"spec": {"bootConfigs": ["builder"]}})
    assert answer.code == 200, answer
    try:
        select.select_option("worker")
        alert = row(page, "one").get_by_role("alert")
        alert.wait_for()
        assert "worker" in alert.inner_text() and "bootConfigRef" in alert.inner_text()
        assert select.input_value() == "builder", "the value goes back"
        assert select.get_attribute("aria-invalid") == "true"
        assert page.evaluate("() => window.held.isConnected && document.activeElement === window.held"), "the field keeps the focus"
        alert.get_by_role("button", name="Close").click()
        alert.wait_for(state="hidden")
        assert spec(server, "one")["bootConfigRef"] == "builder"
    finally:
        server.ask("PATCH", f"{IMAGES}/live", {"spec": {"bootConfigs": ["builder", "worker"]}})
    assert all("422" in error for error in window.errors), window.errors
    window.errors.clear()


def test_new_machines_are_approved_or_ignored(server, open_window, hosts):
    macs = [f"52-54-00-aa-00-0{number}" for number in (1, 2)]
    for number, mac in enumerate(macs):
        server.ask("GET", f"/ipxe?mac={mac}", token=None, source=f"192.0.2.{100 + number}")
    page = open_window().log_in()
    group = page.locator("#needs-list").get_by_role("button", name="new machines")
    group.wait_for()
    row(page, macs[1]).wait_for()
    # By key: the first row, a.
    page.keyboard.press("j")
    page.keyboard.press("a")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("ISO").select_option("live")
    dialog.get_by_label("Config").select_option("builder")
    dialog.get_by_role("button", name="Approve").click()
    row(page, macs[0]).locator("[data-phase=Assigned]").wait_for()
    assert spec(server, macs[0])["bootConfigRef"] == "builder"
    # By mouse.
    page.get_by_label(f"Actions for {macs[1]}").click()
    page.get_by_role("menuitem", name="Ignore").click()
    group.wait_for(state="detached")
    assert phase(server, macs[1]) == "Held"


def test_a_host_is_added_and_a_new_machine_ignored_by_key(server, open_window, hosts):
    window = open_window()
    page = window.log_in()
    page.get_by_role("button", name="Add host").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("declared")
    dialog.get_by_label("MAC", exact=True).fill("52:54:00")
    dialog.get_by_label("ISO").select_option("live")
    dialog.get_by_label("Config").select_option("builder")
    dialog.get_by_label("Boot it at every boot").check()
    dialog.get_by_role("button", name="Add").click()
    dialog.get_by_role("alert").filter(has_text="bootMACAddress").wait_for()
    dialog.get_by_label("MAC", exact=True).fill("52-54-00-00-77-01")
    dialog.get_by_role("button", name="Add").click()
    row(page, "declared").locator(".badge", has_text="every boot").wait_for()
    found = spec(server, "declared")
    assert (found["image"], found["bootConfigRef"], found["bootMode"]) == ("live", "builder", "forever")
    mac = "52-54-00-aa-00-09"
    server.ask("GET", f"/ipxe?mac={mac}", token=None, source="192.0.2.109")
    row(page, mac).wait_for()
    page.keyboard.press("j")
    page.keyboard.press("i")
    row(page, mac).locator("[data-phase=Held]").wait_for()
    row(page, mac).locator(".badge:empty").wait_for(state="attached")
    assert all("422" in error or "400" in error for error in window.errors), window.errors
    window.errors.clear()


def test_many_hosts_are_changed_and_refusals_summed_up(server, hosts, open_window):
    hosts("rack-1", "rack-2", "rack-3", "other")
    hosts("rack-4", image="rescue")
    window = open_window()
    page = window.log_in()
    page.get_by_label("Search hosts").fill("rack")
    page.get_by_text("4 of 5 hosts").wait_for()
    assert "q=rack" in page.url
    page.get_by_label("Select all hosts that are shown").check()
    bar = page.get_by_role("toolbar", name="Selected hosts")
    assert bar.locator("strong").inner_text() == "4 selected"
    bar.get_by_role("button", name="Assign").click()
    page.get_by_role("dialog").get_by_label("ISO").select_option("live")
    page.get_by_role("dialog").get_by_role("button", name="Assign").click()
    page.get_by_text("4 hosts assigned").wait_for()
    assert {spec(server, f"rack-{number}")["image"] for number in (1, 2, 3, 4)} == {"live"}
    assert spec(server, "other").get("image", "localboot") in ("", "localboot")
    # Three of four have no BMC: the power of none can be switched, and each reason is said once.
    server.ask("PATCH", f"{HOSTS}/rack-4", {"spec": {"image": "localboot"}})
    row(page, "rack-4").locator("[data-phase=LocalBoot]").wait_for()
    bar.get_by_role("button", name="Reinstall").click()
    page.get_by_role("dialog").get_by_role("button", name="Reinstall").click()
    summary = page.locator("#dialog-title", has_text="3 reinstalled, 1 refused")
    summary.wait_for()
    assert page.locator(".refusals li").count() == 1
    assert "rack-4" in page.locator(".refusals").inner_text()
    assert all("422" in error for error in window.errors), window.errors
    window.errors.clear()


def test_filters_and_order_are_in_the_address(server, hosts, open_window):
    hosts("alpha", "beta")
    hosts("gamma", image="live")
    window = open_window()
    page = window.log_in()
    page.get_by_label("Phase", exact=True).select_option("Assigned")
    page.get_by_text("1 of 3 hosts").wait_for()
    page.get_by_label("Phase", exact=True).select_option("")
    page.get_by_role("columnheader", name="Host").get_by_role("button").click()
    page.wait_for_url("**sort=-id")
    shown = [name.inner_text() for name in page.locator("#rows th a").all()]
    assert shown == ["gamma", "beta", "alpha"]
    page.goto("/ui/hosts?sort=-id&q=a&phase=LocalBoot")
    page.get_by_text("2 of 3 hosts").wait_for()
    assert [name.inner_text() for name in page.locator("#rows th a").all()] == ["beta", "alpha"]


def test_typed_text_an_open_field_and_the_selection_survive_changes(server, hosts, open_window):
    hosts("one", "two")
    page = open_window().log_in()
    page.get_by_label("Select two").check()
    page.get_by_label("ISO of one", exact=True).focus()
    page.evaluate("""() => {
      window.held = document.activeElement;
      window.lost = 0;
      window.held.addEventListener("blur", () => window.lost++);
    }""")
    for number in range(10):
        target = "live" if number % 2 else "rescue"
        server.ask("PATCH", f"{HOSTS}/two", {"spec": {"image": target}})
        server.ask("PATCH", f"{HOSTS}/one", {"metadata": {"labels": {"a": str(number)}}})
    row(page, "two").locator("select[data-field=image]").and_(page.locator("select")).wait_for()
    assert eventually(lambda: page.get_by_label("ISO of two", exact=True).input_value() == "live")
    assert page.evaluate("() => [window.held.isConnected, document.activeElement === window.held, window.lost]") == [True, True, 0]
    assert page.get_by_label("Select two").is_checked()
    search = page.get_by_label("Search hosts")
    search.focus()
    page.keyboard.type("tw")
    server.ask("PATCH", f"{HOSTS}/two", {"spec": {"image": "rescue"}})
    assert eventually(lambda: page.get_by_label("ISO of two", exact=True).input_value() == "rescue")
    page.keyboard.type("o")
    assert search.input_value() == "two"


def test_the_keyboard_moves_selects_and_opens(server, hosts, open_window):
    hosts("alpha", "beta", "gamma")
    page = open_window().log_in()
    row(page, "gamma").wait_for()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("x")
    assert page.get_by_label("Select beta").is_checked()
    page.keyboard.press("k")
    assert "cursor" in row(page, "alpha").get_attribute("class")
    page.keyboard.press("/")
    assert page.evaluate("() => document.activeElement.id") == "search"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.get_by_role("heading", name="Keyboard").wait_for()
    page.keyboard.press("Escape")
    row(page, "beta").locator("a").click()
    page.wait_for_url("**/ui/hosts/default/beta")


def test_a_page_too_far_behind_loads_anew(server, hosts, open_window):
    """410: the history no longer reaches back. The page gets all rows again, and goes on."""
    hosts("one")
    window = open_window()
    page = window.page
    gone = []

    def answer(route):
        if gone:
            return route.continue_()
        gone.append(route.request.url)
        return route.fulfill(status=410, content_type="application/json", body="{}")

    page.route("**/ui/events?*", answer)
    window.log_in()
    assert len(gone) == 1
    hosts("two")
    row(page, "two").wait_for()
    loads = [path for method, path in window.requests if path.startswith("/ui/rows")]
    assert len(loads) == 2, window.requests
    assert all("410" in error for error in window.errors), window.errors
    window.errors.clear()
