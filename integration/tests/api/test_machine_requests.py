"""Requests of machines over HTTP, from the first script to the finished install."""

import pytest

from support.objects import HOSTS, timeline

pytestmark = pytest.mark.usefixtures("example_objects")


def test_an_install_from_script_to_boot_complete(server):
    ask = server.ask
    script = ask("GET", "/ipxe?mac=52-54-00-00-00-01&platform=efi&buildarch=x86_64", token=None)
    assert script.code == 200 and "sanboot iscsi:" in script.text, f"the script of an assigned host boots its image: {script}"
    assert script.headers["Content-Type"].startswith("text/plain"), "a script has the type text/plain"
    assert ask("HEAD", "/ipxe?mac=52-54-00-00-00-01", token=None).code == 200, "HEAD answers 200 for a script"
    assert "sanboot iscsi:" in ask("GET", "/api/v1/ipxe/boot?mac=525400000001", token=None).text, "/api/v1/ipxe/boot serves the same script"
    assert [ask("GET", f"/ipxe{q}", token=None).code for q in ("", "?mac=", "?mac=zz")] == [400] * 3, "a missing or invalid MAC address is 400"
    assert "sanboot --no-describe" in ask("GET", "/ipxe?mac=52:54:00:ff:ff:ff", token=None).text, "the script of an unknown host boots its local disk"
    assert ask("GET", f"{HOSTS}/52-54-00-ff-ff-ff").json["status"]["phase"] == "Held", "an unknown host is enrolled as Held"
    assert ask("GET", "/api/v1/bootconfig", token=None).code == 404, "an address of no host gets no config"
    ask("PATCH", f"{HOSTS}/one", {"spec": {"ip": "192.0.2.7"}})
    given = ask("GET", "/api/v1/bootconfig", token=None, source="192.0.2.7")
    assert given.code == 200 and given.headers["Content-Type"] == "application/vnd.coreos.ignition+json", f"the host's address gets its config: {given}"
    assert ask("GET", f"{HOSTS}/one").json["status"]["phase"] == "Installing", "the host is Installing after it fetched its config"
    assert ask("GET", "/api/v1/bootconfig?file=x", token=None, source="192.0.2.7").code == 404, "an unknown file of a config is 404"
    done = ask("POST", "/api/v1/boot-complete", token=None, source="192.0.2.7")
    assert done.json == {"status": "ok", "host": "one", "image": "localboot"}, f"boot-complete answers with the host and its next image: {done}"
    assert ask("GET", f"{HOSTS}/one").json["status"]["phase"] == "Installed", "the host is Installed after boot-complete"
    assert "sanboot iscsi:" not in ask("GET", "/ipxe?mac=525400000001", token=None).text, "an installed host boots its local disk"
    again = ask("PATCH", f"{HOSTS}/one", {"spec": {"image": "live"}})
    assert again.json["status"]["phase"] == "Assigned", f"setting the image again starts a new install: {again}"
    merged = ask("PATCH", f"{HOSTS}/one", {"spec": {"image": "live"}}, "application/merge-patch+json")
    assert merged.json["metadata"]["resourceVersion"] == again.json["metadata"]["resourceVersion"], "a merge patch of the same image is no change"
    events = [entry["event"] for entry in timeline(server, "one")]
    assert {"assigned", "script", "config_fetched", "boot_completed", "local_disk"} <= set(events) and events[-1] == "assigned", (
        f"the timeline shows the install: {events}")
    for action, phase in (("hold", "Held"), ("localboot", "LocalBoot"), ("install", "Assigned")):
        answer = ask("POST", f"{HOSTS}/one/{action}")
        assert answer.json["status"]["phase"] == phase, f"{action} changes the phase to {phase}: {answer}"
