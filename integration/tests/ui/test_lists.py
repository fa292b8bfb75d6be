"""The pages of ISOs, configs, activity and the network."""

import hashlib
import json

import pytest
from support.browser import Window
from support.cutting_proxy import CuttingProxy
from support.objects import CONFIGS, HOSTS, IMAGES, TEMPLATES, config, host, image
from support.server import PORT
from support.tiny_iso import tiny_iso
from support.waiting import eventually


@pytest.fixture(scope="module")
def server(start_server):
    server = start_server()
    server.iso()
    assert server.ask("POST", CONFIGS, config("builder")).code == 201
    assert server.ask("POST", IMAGES, image("live", ["builder"])).code == 201
    assert server.ask("POST", HOSTS, host("one", 1, image="live", bootConfigRef="builder")).code == 201
    return server


def add(page, path):
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Add ISOs").click()
    chooser.value.set_files(path)


def test_an_iso_is_uploaded_and_checked(server, open_window, place):
    iso = place / "Fedora Server 42.iso"
    iso.write_bytes(tiny_iso())
    window = open_window()
    page = window.log_in(path="/ui/isos")
    add(page, iso)
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_label("Name").input_value() == "fedora-server-42"
    dialog.get_by_label("SHA-256").fill("0" * 64)
    dialog.get_by_role("button", name="Upload").click()
    failed = page.get_by_label("Uploads").get_by_role("listitem")
    failed.get_by_text("the SHA-256 of the ISO is").wait_for()
    failed.get_by_role("button", name="Dismiss").click()
    add(page, iso)
    dialog.get_by_label("SHA-256").fill(hashlib.sha256(iso.read_bytes()).hexdigest())
    dialog.get_by_role("button", name="Upload").click()
    line = page.locator("#iso-rows tr", has_text="fedora-server-42")
    line.wait_for()
    assert server.ask("GET", f"{IMAGES}/fedora-server-42").json["status"]["sha256"] == hashlib.sha256(iso.read_bytes()).hexdigest()
    line.get_by_label("Actions for fedora-server-42").click()
    page.get_by_role("menuitem", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    line.wait_for(state="detached")
    assert all("422" in error for error in window.errors), window.errors
    window.errors.clear()


def test_a_broken_upload_goes_on_where_it_was(server, browser, place):
    """The connection is cut in the middle of a transfer; the page asks how much arrived, and sends the rest.

    Chromium itself repeats a request whose connection it had used before, so that the page sees the second cut only.
    """
    iso = place / "large.iso"
    iso.write_bytes(tiny_iso() + bytes(6 << 20))
    proxy = CuttingProxy(PORT, limit=2 << 20, most=2)
    window = Window(browser, server, port=proxy.port)
    try:
        page = window.log_in(path="/ui/isos")
        add(page, iso)
        page.get_by_role("dialog").get_by_role("button", name="Upload").click()
        page.locator("#iso-rows tr", has_text="large").wait_for()
    finally:
        window.close()
        proxy.close()
    offsets = [int(path.split("offset=")[1].split("&")[0]) for method, path in window.requests if "/upload?" in path]
    assert proxy.cuts == 2
    assert offsets[0] == 0 and 1 << 20 < offsets[-1] <= 5 << 20, offsets
    digest = hashlib.sha256(iso.read_bytes()).hexdigest()
    assert server.ask("GET", f"{IMAGES}/large").json["status"]["sha256"] == digest
    server.ask("DELETE", f"{IMAGES}/large")


def test_configs_of_an_iso_are_chosen(server, open_window):
    assert server.ask("POST", CONFIGS, config("worker")).code == 201
    page = open_window().log_in(path="/ui/isos")
    line = page.locator("#iso-rows tr", has_text="live")
    assert line.get_by_role("link", name="1").get_attribute("href") == "/ui/hosts?q=live"
    line.get_by_label("Actions for live").click()
    page.get_by_role("menuitem", name="Configs").click()
    page.get_by_role("dialog").get_by_label("worker").check()
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    line.get_by_text("builder, worker").wait_for()


def test_a_config_is_checked_while_it_is_typed(server, open_window):
    window = open_window()
    page = window.log_in(path="/ui/configs#builder")
    text = page.get_by_label("Content of the file")
    page.get_by_text("A change concerns 1 host at the next install: one.").wait_for()
    save = page.get_by_role("button", name="Save")
    assert save.is_disabled()
    text.fill('{\n  "ignition": {"version": "3.4.0"},\n  "storage" {}\n}')
    verdict = page.locator("#verdict[data-state=bad]")
    verdict.wait_for()
    assert "line 3" in verdict.inner_text(), verdict.inner_text()
    page.get_by_role("button", name="Go to line 3").click()
    assert text.evaluate("(text) => text.value.slice(0, text.selectionStart).split('\\n').length") == 3
    save.click()
    verdict.wait_for()
    assert "storage" not in server.ask("GET", f"{CONFIGS}/builder").json["spec"]["data"]["config.ign"], "it is not saved"
    text.fill('{"ignition": {"version": "3.4.0"}, "storage": {}}')
    page.locator("#verdict[data-state=good], #verdict[data-state=warn]").wait_for()
    save.click()
    page.get_by_text("saved", exact=True).wait_for()
    assert "storage" in server.ask("GET", f"{CONFIGS}/builder").json["spec"]["data"]["config.ign"]
    # Half-typed text stays when somebody else changes the config; the save says so.
    text.fill('{"ignition": {"version": "3.4.0"}, "systemd": {}}')
    assert server.ask("PATCH", f"{CONFIGS}/builder", {"metadata": {"labels": {"a": "b"}}}).code == 200
    save.click()
    page.locator("#verdict[data-state=bad]").wait_for()
    assert "systemd" in text.input_value()
    assert all("422" in error or "409" in error for error in window.errors), window.errors
    window.errors.clear()


def test_a_config_is_written_and_deleted(server, open_window):
    window = open_window()
    page = window.log_in(path="/ui/configs")
    page.get_by_role("button", name="New config").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("kick")
    dialog.get_by_label("Format").select_option("kickstart")
    dialog.get_by_role("button", name="Write it").click()
    page.get_by_role("heading", name="kick").wait_for()
    page.get_by_label("Content of the file").fill("text\nreboot\n")
    page.get_by_role("button", name="Save").click()
    assert eventually(lambda: server.ask("GET", f"{CONFIGS}/kick").code == 200)
    page.locator("#list").get_by_text("kick", exact=True).wait_for()
    page.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    page.locator("#list").get_by_text("kick", exact=True).wait_for(state="detached")
    assert server.ask("GET", f"{CONFIGS}/kick").code == 404
    window.errors.clear()


def test_a_config_without_texts_has_nothing_to_type_into(server, open_window):
    template = {"apiVersion": "v1", "kind": "ConfigTemplate", "metadata": {"name": "t"}, "spec": {"format": "script", "data": {"script": "true\n"}}}
    assert server.ask("POST", TEMPLATES, template).code == 201
    rendered = {"apiVersion": "v1", "kind": "BootConfig", "metadata": {"name": "rendered"}, "spec": {"format": "script", "template": {"name": "t"}}}
    assert server.ask("POST", CONFIGS, rendered).code == 201
    window = open_window()
    page = window.log_in(path="/ui/configs")
    page.locator("#list a", has_text="rendered").click()
    page.get_by_role("heading", name="rendered").wait_for()
    assert eventually(lambda: page.locator("#text").is_disabled()), "a config of a template has no text to change"
    page.locator("#list a", has_text="builder").click()
    assert eventually(lambda: page.locator("#text").is_enabled()), "another config has one"
    assert window.errors == []


def test_activity_is_live_and_filtered(server, open_window):
    window = open_window()
    page = window.log_in(path="/ui/activity")
    page.locator("#activity").get_by_text("install of live requested").first.wait_for()
    before = len(window.requests)
    server.ask("POST", f"{HOSTS}/one/hold")
    page.locator("#activity li[data-event=held]").wait_for()
    page.get_by_label("Event", exact=True).select_option("held")
    assert page.url.endswith("?event=held")
    assert {line.get_attribute("data-event") for line in page.locator("#activity li").all()} == {"held"}
    page.get_by_label("Event", exact=True).select_option("")
    page.get_by_label("Search activity").fill("nobody at all")
    page.locator("#activity:empty").wait_for()
    assert window.requests[before:] == [], f"no request: {window.requests[before:]}"


def test_the_network_shows_the_interfaces(server, open_window):
    window = open_window()
    page = window.log_in(path="/ui/network")
    items = server.ask("GET", "/api/v1/interfaces").json["items"]
    assert items, "the server has an interface with DHCP"
    panel = page.get_by_role("region", name=f"Interface {items[0]['name']}")
    panel.wait_for()
    assert items[0]["address"] in panel.inner_text()
    panel.get_by_text("No other DHCP or boot server was heard lately.").wait_for()
    before = len(window.requests)
    server.ask("GET", "/ipxe", token=None)
    counters = page.get_by_role("region", name="Dropped and refused")
    counters.get_by_role("row").filter(has_text="dropped").filter(has_text="http").first.wait_for()
    assert window.requests[before:] == [], "the counters follow without a request"


def test_an_iso_is_dropped_on_any_page(server, open_window, place):
    """A file that is dropped on the page of the activity is uploaded there, and the page stays."""
    content = tiny_iso()
    page = open_window().log_in(path="/ui/activity")
    page.evaluate("""(bytes) => {
      const files = new DataTransfer();
      files.items.add(new File([new Uint8Array(bytes)], "Dropped 1.iso"));
      for (const kind of ["dragover", "drop"]) document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true }));
    }""", list(content))
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_label("Name").input_value() == "dropped-1"
    dialog.get_by_label("SHA-256").fill(hashlib.sha256(content).hexdigest())
    dialog.get_by_role("button", name="Upload").click()
    assert eventually(lambda: server.ask("GET", f"{IMAGES}/dropped-1").code == 200)
    assert page.url.endswith("/ui/activity")
    server.ask("DELETE", f"{IMAGES}/dropped-1")


def test_a_config_is_previewed_for_a_host(server, open_window):
    assert server.ask("POST", HOSTS, host("two", 2, image="live", bootConfigRef="builder")).code == 201
    assert server.ask("POST", f"{HOSTS}/one/hold").code == 200
    page = open_window().log_in(path="/ui/configs#builder")
    page.get_by_text("What a host gets").click()
    assert page.get_by_label("Host", exact=True).input_value() == "default/one"
    page.get_by_text("The host gets no config now.").wait_for()
    page.get_by_label("Host", exact=True).select_option("default/two")
    shown = page.locator("#preview-files pre")
    shown.wait_for()
    assert '"ignition"' in shown.inner_text(), shown.inner_text()
    viewer = open_window().log_in(token=(server.state / "viewer.token").read_text().strip(), path="/ui/configs#builder")
    viewer.get_by_text("What a host gets").click()
    viewer.get_by_label("Host", exact=True).select_option("default/two")
    viewer.locator("#preview-files pre", has_text="REDACTED").wait_for()


def test_the_settings_say_where_they_come_from(server, open_window):
    window = open_window()
    page = window.log_in(path="/ui/settings")
    page.get_by_label("Only those that were set").check()
    line = page.locator("#setting-rows tr", has_text="http_port")
    line.wait_for()
    assert [cell.inner_text() for cell in line.locator("td").all()] == [str(PORT), "--http-port"]
    assert page.url.endswith("?set=yes")
    page.get_by_label("Only those that were set").uncheck()
    page.get_by_label("Search settings").fill("unknown_hosts_per")
    page.get_by_text("2 of").wait_for()
    shown = server.run("settings", "-o", "json")
    items = {item["key"]: item for item in json.loads(shown.stdout)}
    assert items["limits.unknown_hosts_per_network"] == {"key": "limits.unknown_hosts_per_network", "value": "4096", "origin": "default"}
