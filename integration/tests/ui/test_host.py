"""The page of one host: its diagnosis, its boot as it happens, its history, its object."""

import json

import pytest
from support.objects import CONFIGS, HOSTS, IMAGES, config, host, image
from support.waiting import eventually

MAC, ADDRESS = "52:54:00:00:00:07", "192.0.2.7"
PAGE = "/ui/hosts/default/node"


@pytest.fixture(scope="module")
def server(start_server):
    server = start_server()
    server.iso()
    server.ask("POST", CONFIGS, config("builder"))
    server.ask("POST", IMAGES, image("live", ["builder"]))
    return server


@pytest.fixture(autouse=True)
def node(server):
    """The host "node", whose machine asks from ADDRESS."""
    answer = server.ask("POST", HOSTS, host("node", 7, ip=ADDRESS, image="live", bootConfigRef="builder"))
    assert answer.code == 201, answer
    yield
    server.ask("DELETE", f"{HOSTS}/node")


def machine(server, path, source=ADDRESS):
    return server.ask("GET", path, token=None, source=source)


@pytest.fixture
def fresh(server, request):
    """A host whose machine was never seen before: its name, MAC address, address and page."""
    number = 100 + sum(request.node.name.encode()) % 100
    name, address = f"fresh{number}", f"192.0.2.{number}"
    answer = server.ask("POST", HOSTS, host(name, number, ip=address, image="live", bootConfigRef="builder"))
    assert answer.code == 201, answer
    yield name, answer.json["spec"]["bootMACAddress"], address, f"/ui/hosts/default/{name}"
    server.ask("DELETE", f"{HOSTS}/{name}")


def test_a_boot_appears_step_by_step(server, open_window):
    window = open_window()
    page = window.log_in(path=PAGE)
    page.get_by_text("No boot was seen since the server started.").wait_for()
    before = len(window.requests)
    assert machine(server, f"/ipxe?mac={MAC}").code == 200
    lanes = page.get_by_role("table", name="Stages of the last boot")
    lanes.get_by_role("row").filter(has_text="HTTP").locator("i").first.wait_for(state="attached")
    page.get_by_text("Next: it attaches its image.").wait_for()
    page.locator("[data-due]", has_text="due in").wait_for()
    history = page.locator("#history")
    history.get_by_text("got its boot script: boot live").wait_for()
    assert machine(server, "/api/v1/bootconfig").code == 200
    history.get_by_text("fetched its config builder").wait_for()
    page.locator("#phase[data-phase=Installing]").wait_for()
    assert server.ask("POST", "/api/v1/boot-complete", token=None, source=ADDRESS).code == 200
    page.locator("#phase[data-phase=Installed]").wait_for()
    page.locator("#boot").get_by_text("installed after").wait_for()
    page.locator("#ledgers").get_by_text("installed after").wait_for()
    assert window.requests[before:] == [], "the page follows the boot without a request"


def test_a_diagnosis_appears_and_goes(server, open_window):
    page = open_window().log_in(path=PAGE)
    assert machine(server, f"/ipxe?mac={MAC}").code == 200
    assert machine(server, f"/ipxe/failed?mac={MAC}&failed=sanboot&errno=0x2c0d603b").code == 200
    box = page.get_by_role("status", name="Diagnosis")
    box.get_by_role("heading").wait_for()
    assert "since" in box.locator(".certainty").inner_text()
    assert box.locator(".remedy").inner_text().strip()
    assert machine(server, f"/ipxe?mac={MAC}").code == 200
    assert machine(server, "/api/v1/bootconfig").code == 200
    box.wait_for(state="hidden")


def test_the_lanes_show_what_came_over_each_protocol(server, open_window, fresh):
    name, mac, address, path = fresh
    page = open_window().log_in(path=path)
    assert machine(server, f"/ipxe?mac={mac}", address).code == 200
    image_bytes = len(machine(server, "/iso/live", address).body)
    config_bytes = len(machine(server, "/api/v1/bootconfig", address).body)
    assert image_bytes > 10_000 and 0 < config_bytes < 1000, (image_bytes, config_bytes)
    time = lambda lane: page.locator(".lane", has=page.get_by_role("rowheader", name=lane, exact=True)).locator(".time")
    time("HTTP").filter(has_text=f"· {round(image_bytes / 1000)} kB").wait_for()
    time("Config").filter(has_text=f"{config_bytes} B").wait_for()
    [ledger] = server.ask("GET", f"{HOSTS}/{name}/diagnosis").json["ledger"]
    assert ledger["traffic"] == {"tftp": 0, "http": image_bytes, "iscsi": 0, "config": config_bytes}


def test_a_diagnosis_has_buttons_for_what_helps(server, open_window, fresh):
    name, mac, address, path = fresh
    assert server.ask("POST", f"{HOSTS}/{name}/hold").code == 200
    machine(server, f"/ipxe?mac={mac}", address)
    page = open_window().log_in(path=path)
    box = page.get_by_role("status", name="Diagnosis")
    box.get_by_role("heading", name="It asks to boot, and is held").wait_for()
    viewer = open_window().log_in(token=(server.state / "viewer.token").read_text().strip(), path=path)
    viewer.get_by_role("status", name="Diagnosis").get_by_role("heading").wait_for()
    assert viewer.get_by_role("status", name="Diagnosis").get_by_role("button").count() == 0, "a viewer has no buttons"
    assert [one.inner_text() for one in box.get_by_role("button").all()] == ["Approve …", "Release to its disk"]
    box.get_by_role("button", name="Release to its disk").click()
    page.locator("#phase[data-phase=LocalBoot]").wait_for()
    box.wait_for(state="hidden")
    # An ISO that cannot be read leads to the ISOs, for everybody.
    assert server.ask("POST", f"{HOSTS}/{name}/install", {"image": "live"}).code == 200
    (server.state / "isos/x.iso").rename(server.state / "isos/away.iso")
    try:
        assert eventually(lambda: server.ask("GET", f"{IMAGES}/live").json["status"]["phase"] == "Broken", 30)
        machine(server, f"/ipxe?mac={mac}", address)
        link = viewer.get_by_role("status", name="Diagnosis").get_by_role("link", name="ISOs")
        link.wait_for()
        assert link.get_attribute("href") == "/ui/isos"
    finally:
        (server.state / "isos/away.iso").rename(server.state / "isos/x.iso")
    assert eventually(lambda: server.ask("GET", f"{IMAGES}/live").json["status"]["phase"] == "Ready", 30)


def test_the_object_is_edited_and_the_host_deleted(server, open_window):
    window = open_window()
    page = window.log_in(path=PAGE)
    page.get_by_text("JSON, and the commands that do the same").click()
    page.get_by_role("button", name="Edit").click()
    text = page.get_by_role("textbox", name="Object")
    edited = json.loads(text.input_value())
    text.fill(json.dumps(edited | {"spec": edited["spec"] | {"image": "nothing"}}))
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    page.get_by_role("dialog").get_by_role("alert").filter(has_text="spec.image").wait_for()
    text.fill(json.dumps(edited | {"spec": edited["spec"] | {"bootMode": "forever"}}))
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    page.locator("#facts", has_text="every boot").wait_for()
    page.get_by_role("toolbar", name="Actions").get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("This host was deleted.").wait_for()
    assert all("422" in error for error in window.errors), window.errors
    window.errors.clear()


def test_an_install_is_repeated_and_the_host_released(server, open_window):
    page = open_window().log_in(path=PAGE)
    machine(server, f"/ipxe?mac={MAC}")
    page.locator("#phase[data-phase=Offered]").wait_for()
    actions = page.get_by_role("toolbar", name="Actions")
    actions.get_by_role("button", name="Reinstall").click()
    page.get_by_role("dialog").get_by_role("button", name="Reinstall").click()
    page.locator("#phase[data-phase=Assigned]").wait_for()
    actions.get_by_role("button", name="Release to its disk").click()
    page.locator("#phase[data-phase=LocalBoot]").wait_for()
    page.get_by_role("button", name="Installs").click()
    assert page.url.endswith("?show=install")
    kinds = {line.get_attribute("data-event") for line in page.locator("#history li").all()}
    assert {"assigned", "script", "local_boot_requested"} <= kinds and not {"warning", "refused", "stalled"} & kinds, kinds


def test_a_rehearsal_and_the_object_with_its_commands(server, open_window):
    page = open_window().log_in(path=PAGE)
    page.get_by_role("button", name="Rehearse the next boot").click()
    page.locator("#rehearsal").get_by_text("the machine boots live").first.wait_for()
    page.get_by_text("JSON, and the commands that do the same").click()
    shown = page.get_by_label("Object as JSON")
    shown.wait_for()
    assert json.loads(shown.inner_text())["spec"]["bootMACAddress"] == MAC
    assert page.get_by_text("bootlatch host assign node --image live --config builder").is_visible()
    page.get_by_label("Config of node", exact=True).focus()
    page.get_by_label("Config of node", exact=True).select_option("")
    page.get_by_text("bootlatch host assign node --image live --no-config").wait_for()


def test_a_deleted_host_says_so(server, open_window):
    window = open_window()
    page = window.log_in(path=PAGE)
    page.locator("#phase[data-phase=Assigned]").wait_for()
    server.ask("DELETE", f"{HOSTS}/node")
    page.get_by_text("This host was deleted.").wait_for()
    page.goto("/ui/hosts/default/nobody")
    page.get_by_role("heading", name="No host nobody").wait_for()
    assert all("404" in error for error in window.errors), window.errors
    window.errors.clear()
