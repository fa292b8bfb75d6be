"""The report of completion by the system that is to be replaced, while others ask for scripts and disks in the machine's name."""

import pytest

from support.objects import HOSTS
from support.provisioned_lan import FAR, routed_network
from support.waiting import eventually


def report(box, machine):
    """Reports completion from the machine's own address, and returns its phase."""
    code, said = machine.ask("/api/v1/boot-complete", "POST")
    assert code == 200, f"the report is answered: {said}"
    return box.status(machine.name)["phase"]


def diagnosed(box, certainty):
    """Returns the diagnosis of "near", as soon as it is as sure as expected."""
    look = lambda: box.api("GET", f"{HOSTS}/near/diagnosis")[1]["diagnosis"]
    found = eventually(lambda: (now := look()) and now["certainty"] == certainty and now)
    assert found and found["reason"] == "old_system_running", f"{certainty}: {found or look()}"
    return found


@pytest.fixture
def waiting(lan):
    """The old system of "near" runs while its install is due, and "far" is a machine behind a router."""
    box, near, far, _ = routed_network(lan, "", FAR)
    box.change("near", bootConfigRef="")
    box.reinstall()
    return box, near, far


def test_requests_of_another_client_begin_no_install(waiting):
    box, near, far = waiting
    assert report(box, near) == "Assigned", "the old system's report ends no install"
    assert "sanboot iscsi" in far.script("near"), "another client is served the script"
    assert report(box, near) == "Assigned", "its request for the script begins none"
    assert far.units("near") == ["0"], "it attaches the disk"
    assert report(box, near) == "Assigned", "nor does its login"
    assert "sanboot iscsi" in far.tftp("near"), "it is served the script over TFTP"
    assert report(box, near) == "Assigned", "nor does its transfer"
    phases = box.events("near", "boot_complete_ignored")
    assert phases and {entry["phase"] for entry in phases} == {"Assigned"}, f"the timeline has the ignored reports: {phases}"
    assert "sanboot iscsi" in near.script(), "the machine itself boots"
    assert report(box, near) == "Installed", "and completes its install"


def test_the_diagnosis_names_an_address_that_may_be_the_machines(waiting):
    box, near, far = waiting
    assert report(box, near) == "Assigned"
    assert FAR not in diagnosed(box, "certain")["message"], "nobody asked for its script"
    assert "sanboot iscsi" in far.script("near") and report(box, near) == "Assigned"
    found = diagnosed(box, "possible")
    assert FAR in found["message"] and f"spec.ip of the host to {FAR}" in found["remedy"], found


def test_the_first_address_that_asks_keeps_its_place(waiting):
    """Others ask in the machine's name from many addresses after it, before the operator declares its address."""
    box, _, far = waiting
    box.change("far", bootConfigRef="")
    assert "sanboot iscsi" in far.script()
    others = [f"10.89.0.{last}" for last in range(101, 109)]
    for other in others:
        far.lan.ip(far.space, "address", "add", f"{other}/24", "dev", "lan0")
        assert "sanboot iscsi" in far.script(source=other), "they are served its script"
    box.change("far", ip=FAR)
    assert report(box, far) == "Installed"


def test_a_login_of_the_machine_begins_its_install(waiting):
    """A boot program of the site's own attaches the image without a script of ours."""
    box, near, _ = waiting
    assert near.units() == ["0"] and box.status("near")["phase"] == "Assigned"
    assert report(box, near) == "Installed"


def test_a_claim_counts_once_its_address_is_declared(waiting):
    """The operator sets spec.ip while the machine installs behind a router."""
    box, _, far = waiting
    box.change("far", bootConfigRef="")
    assert "sanboot iscsi" in far.script() and box.status("far")["phase"] == "Assigned", "nothing ties its address to it yet"
    box.change("far", ip=FAR)
    assert report(box, far) == "Installed", "the address that it booted from is its own"
