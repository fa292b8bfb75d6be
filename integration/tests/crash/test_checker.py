"""The checker of the crash tests: which contradictions it finds, and which states it accepts."""

import random

import pytest

from support.crash_checker import State, address_findings, machine_findings, operator_findings, orphan_findings
from support.lossy_files import File

MAC = "52:54:00:c0:00:00"
OFFER = {"event": "script", "verdict": "install"}
DISK = {"event": "script", "verdict": "disk"}
CONFIG = {"event": "config", "is_whole": True}
SENT, ACKED, SEEN = ({"event": f"complete_{how}"} for how in ("sent", "acked", "seen"))
AGAIN, GRANTED = {"event": "install_sent"}, {"event": "install_acked"}
LEASE = {"event": "dhcp_ack", "address": "10.88.0.100"}
DONE = [OFFER, CONFIG, SENT, ACKED]


def state(phase, **install):
    install = {"bootCount": 1, "configFetchTime": "2026-11-28T00:00:00Z", **install}
    return State(hosts={"machine0": {"status": {"phase": phase, "install": install}}}, leases={MAC: "10.88.0.100"})


@pytest.mark.parametrize("events, phase", [
    ([], "Assigned"), ([], "Offered"), ([OFFER], "Offered"), ([OFFER, CONFIG], "Installing"), ([OFFER, CONFIG, OFFER], "Offered"),
    ([OFFER, CONFIG, SENT], "Installing"), ([OFFER, CONFIG, SENT], "Installed"), (DONE, "Installed"), ([*DONE, DISK], "Installed"),
    ([OFFER, CONFIG, SENT, DISK, SEEN], "Installed"), ([*DONE, AGAIN], "Installed"), ([*DONE, AGAIN], "Assigned"),
    ([*DONE, AGAIN, GRANTED], "Assigned"), ([*DONE, AGAIN, GRANTED, OFFER], "Offered"), ([LEASE], "Assigned")])
def test_a_state_that_keeps_what_was_acknowledged_is_accepted(events, phase):
    assert machine_findings("machine0", MAC, events, state(phase)) == []


@pytest.mark.parametrize("events, found", [
    (DONE, state("Installing")), ([OFFER], state("Assigned")), ([*DONE, AGAIN, GRANTED], state("Installed")),
    ([OFFER, CONFIG, SENT, DISK, SEEN], state("Offered")), ([OFFER], state("Offered", bootCount=0)),
    ([OFFER, CONFIG], state("Installing", configFetchTime=None)), ([OFFER], state("Failed")), ([], State()),
    ([{"event": "dhcp_ack", "address": "10.88.0.101"}], state("Assigned"))],
    ids=["completion", "offer", "request", "seen-completion", "boot", "config", "failed", "host", "lease"])
def test_a_loss_is_found(events, found):
    assert len(machine_findings("machine0", MAC, events, found)) == 1


@pytest.mark.parametrize("events, phase", [
    ([*DONE, OFFER], "Installed"), ([*DONE, {"event": "iscsi_read", "is_whole": True}], "Installed"), ([*DONE, CONFIG], "Installed"),
    ([OFFER, DISK], "Offered"), ([{"event": "tftp", "is_whole": False}], "Assigned")],
    ids=["second-script", "second-login", "second-config", "not-offered-again", "damaged-file"])
def test_a_contradiction_within_a_log_is_found(events, phase):
    assert len(machine_findings("machine0", MAC, events, state(phase))) == 1


def change(event, kind, state, **more):
    return {"event": event, "kind": kind, "name": "one", "state": state, **more}


@pytest.mark.parametrize("events, image, is_kept", [
    ([change("sent", "host", "live")], None, True), ([change("sent", "host", "live")], "live", True),
    ([change("sent", "host", "live"), change("acked", "host", "live")], None, False),
    ([change("acked", "host", "localboot"), change("sent", "host", "live")], "live", True),
    ([change("acked", "host", "localboot"), change("acked", "host", "live")], "localboot", False),
    ([change("acked", "host", "live"), change("acked", "host", None)], "live", False)],
    ids=["unanswered", "unanswered-but-done", "lost", "unanswered-change", "lost-change", "lost-deletion"])
def test_the_objects_of_an_operator(events, image, is_kept):
    hosts = {"one": {"spec": {"image": image}}} if image else {}
    assert (operator_findings(events, State(hosts=hosts)) == []) == is_kept


def test_an_iso_is_lost_with_its_file():
    events = [change("acked", "iso", "aa")]
    isos = {"one": {"spec": {"isoFile": "one.iso"}, "status": {"sha256": "aa"}}}
    assert operator_findings(events, State(isos=isos, files={"one.iso": "aa"})) == []
    assert len(operator_findings(events, State(isos=isos, files={"one.iso": "bb"}))) == 1
    assert len(operator_findings(events, State(isos=isos))) == 1


def test_two_machines_with_one_address_are_found():
    assert address_findings({"a": [LEASE], "b": [LEASE]}) == ["10.88.0.100 was given to a, b"]


def test_what_belongs_to_nothing_is_found():
    isos = {"one": {"spec": {"isoFile": "one.iso"}}}
    clean = State(isos=isos, files={"one.iso": "aa", "live.iso": "bb"})
    assert orphan_findings(clean, ["live.iso"], {("iso", "one")}) == []
    assert len(orphan_findings(clean, ["live.iso"], set())) == 1, "an object that nobody created"
    assert len(orphan_findings(clean, [], {("iso", "one")})) == 1, "a file without an object"
    assert len(orphan_findings(State(isos=isos), [], {("iso", "one")})) == 1, "an object without its file"


def test_a_loss_of_power_undoes_only_what_no_sync_covered():
    file = File(b"a" * 1024)
    file.change(1, "data", 0, b"b" * 1024)
    file.sync(2)
    file.change(3, "data", 512, b"c" * 1024)
    found = {file.after_loss(random.Random(seed), 0.5) for seed in range(200)}
    sectors = {b"b": b"b" * 512, b"c": b"c" * 512}
    whole, nothing = sectors[b"b"] + sectors[b"c"] * 2, sectors[b"b"] * 2
    torn = {nothing[:512] + sectors[b"c"], nothing + sectors[b"c"]}
    assert found == {whole, nothing} | torn, "each sector is old or new"
