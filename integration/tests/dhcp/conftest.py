"""Fixtures of the DHCP tests: LANs of network namespaces."""

import pytest

from support.lan import Lan


@pytest.fixture(scope="module")
def lan():
    """A LAN with the bridges br0 and br1 for the tests of one module."""
    with Lan("br0", "br1") as lan:
        yield lan


@pytest.fixture
def own_lan():
    """A LAN with the bridges br0 and br1 for one test that sets up its own servers."""
    with Lan("br0", "br1") as lan:
        yield lan
