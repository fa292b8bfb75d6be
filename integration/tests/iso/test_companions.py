"""ISOs that go with another one: references are checked, and a missing file refuses the login with its reason."""

import json

import pytest

from support.iscsi_initiator import refusal
from support.iso_uploads import iso_path
from support.objects import IMAGES, image, timeline
from support.served_iso import IQN, MERGE, MINE, causes, portal_url, run
from support.waiting import eventually

PORTAL = {"address": "127.0.0.1", "port": 3270, "targetIqn": f"{IQN}:away"}


@pytest.fixture(scope="module")
def server(live, bare):
    """The server with "drivers", which goes with "live", and "away", which is at another portal."""
    iso_path(live, "drivers").write_bytes(bare.read_bytes())
    live.ask("POST", IMAGES, image("drivers", file="drivers.iso"))
    live.ask("POST", IMAGES, {"apiVersion": "v1", "kind": "ISCSICdrom", "metadata": {"name": "away"}, "spec": {"portal": PORTAL}})
    changed = live.ask("PATCH", f"{IMAGES}/live", {"spec": {"companions": ["drivers"]}}, MERGE)
    assert changed.code == 200, f"a second ISO goes with the first: {changed}"
    return live


def new_iso(companion):
    """Returns an ISCSICdrom with a companion."""
    created = image("new", file="live.iso")
    created["spec"]["companions"] = [companion]
    return created


@pytest.mark.parametrize("name, spec, field, reason", [
    ("live", {"companions": ["drivers", "nobody"]}, "spec.companions", "nobody"),
    ("live", {"companions": ["live"]}, "spec.companions", "live"),
    ("drivers", {"companions": ["live"]}, "spec.companions", "live"),
    ("drivers", {"portal": PORTAL}, "spec.portal", "live"),
    ("live", {"companions": ["away"]}, "spec.companions", "away")],
    ids=["missing", "itself", "each-other", "companion-at-a-portal", "iso-at-a-portal"])
def test_a_change_to_companions_that_cannot_be_is_refused(server, name, spec, field, reason):
    refused = server.ask("PATCH", f"{IMAGES}/{name}", {"spec": spec}, MERGE)
    assert refused.code == 422 and causes(refused)[0].get("field") == field and reason in causes(refused)[0].get("message", ""), \
        f"the change is refused by its field: {refused}"


def test_an_iso_with_a_missing_companion_is_not_created(server, here):
    refused = server.ask("POST", IMAGES, new_iso("nobody"))
    assert refused.code == 422 and causes(refused)[0].get("field") == "spec.companions" and "ISCSICdrom nobody" in causes(refused)[0].get("message", ""), \
        f"the object is refused by its field: {refused}"
    manifest = here / "new.json"
    manifest.write_text(json.dumps(new_iso("nobody")))
    applied = server.run("apply", "-f", manifest)
    assert applied.returncode == 5 and "spec.companions" in applied.stderr and "nobody" in applied.stderr, f"`apply` refuses it too: {applied}"


def test_a_companion_is_not_deleted(server):
    kept = server.ask("DELETE", f"{IMAGES}/drivers")
    assert kept.code == 409 and "ISCSICdrom live" in kept.text, f"a companion of another ISO is not deleted: {kept}"
    kept = server.run("iso", "remove", "drivers")
    assert kept.returncode == 5 and "ISCSICdrom live" in kept.stderr, f"`iso remove` refuses it too: {kept}"


def test_a_login_without_the_companions_file_is_refused(server, here):
    file = iso_path(server, "drivers")
    file.rename(here / "drivers.iso")
    try:
        run("iscsi-inq", "-i", MINE, portal_url("live"), good=False)
        reasons = lambda: [entry for entry in timeline(server, "node1", "refused") if "drivers" in entry["detail"]["message"]]
        assert eventually(reasons), f"the timeline has the reason: {timeline(server, 'node1')}"
    finally:
        (here / "drivers.iso").rename(file)
    # The file may have been noticed as missing; it is looked at again after some seconds.
    assert eventually(lambda: refusal(3260, f"{IQN}:live", name=MINE) is None, 20), "a login succeeds when the file is back"
