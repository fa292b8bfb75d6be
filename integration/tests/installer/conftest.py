"""Fixtures of the tests of what installers say."""

import pytest

from support.lan import Lan


@pytest.fixture(scope="module")
def lan():
    """A LAN with the bridges br0 and br1; no server on it may panic."""
    with Lan("br0", "br1") as lan:
        yield lan
        panicked = [program.text()[-2000:] for program in lan.programs if "panicked" in program.text()]
        assert not panicked, f"the server did not panic: {panicked}"
