"""Hosts that are created from a backup are not installed again by accident."""

import pytest

from support.objects import HOSTS, host
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("example_objects")


def test_hosts_from_a_backup(server):
    ask = server.ask
    ask("POST", HOSTS, host("saved", 60, image="live", bootConfigRef="builder", ip="192.0.2.60"))
    ask("GET", "/ipxe?mac=52540000003c", token=None, source="192.0.2.60")
    ask("POST", "/api/v1/boot-complete", token=None, source="192.0.2.60")
    saved = ask("GET", f"{HOSTS}/saved").json
    assert saved["status"]["phase"] == "Installed", saved
    del saved["metadata"]["resourceVersion"]
    for phase, after in (("Installed", "LocalBoot"), ("Held", "Held"), ("Assigned", "Assigned")):
        ask("DELETE", f"{HOSTS}/saved")
        saved["status"]["phase"] = phase
        dry = ask("POST", f"{HOSTS}?dryRun=All", saved)
        made = ask("POST", HOSTS, saved)
        assert made.code == 201 and made.json["status"]["phase"] == dry.json["status"]["phase"] == after, (
            f"a restored host that was {phase} is {after}: {(made, dry)}")
        told = made.headers.get("Warning", "")
        assert (f"saved was {phase}" in told and "no install" in told) == (phase != after or phase == "Held"), (
            f"the client is warned if no install starts: {told}")
        assert "install" not in made.json["status"] or phase == "Assigned", f"nothing else of the status is restored: {made}"
    ask("POST", f"{HOSTS}/saved/hold")
    done = ask("POST", "/api/v1/boot-complete", token=None, source="192.0.2.60")
    events = lambda: [(entry["event"], entry["detail"]) for entry in ask("GET", f"{HOSTS}/saved/timeline").json["items"]]
    told = eventually(lambda: events()[-1] == ("boot_complete_ignored", {"phase": "Held"}))
    assert done.code == 200 and told, f"a boot-complete without effect is in the timeline: {events()}"
    ask("DELETE", f"{HOSTS}/saved")
