"""Fixtures of the tests of what installers say."""

import pytest

from support.lan import Lan, until
from support.objects import HOSTS


@pytest.fixture(scope="module")
def lan():
    """A LAN with the bridges br0 and br1; no server on it may panic."""
    with Lan("br0", "br1") as lan:
        yield lan
        panicked = [program.text()[-2000:] for program in lan.programs if "panicked" in program.text()]
        assert not panicked, f"the server did not panic: {panicked}"


@pytest.fixture
def box(network):
    return network[0]


@pytest.fixture
def near(network):
    """The machine `near` at the start of an install: no line of an earlier test counts."""
    box, near, _ = network
    box.api("POST", f"{HOSTS}/near/install")
    # The time of a boot has seconds: another boot has another one.
    before = box.status("near").get("lastBootTime")
    until("a boot of its own", lambda: near.script() and box.status("near")["lastBootTime"] != before)
    return near
