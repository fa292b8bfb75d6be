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


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Attaches the end of the log of every program in the test's LANs to the report of a failed test."""
    report = (yield).get_result()
    if report.failed:
        for lan in [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Lan)]:
            for program in lan.programs:
                report.sections.append((str(program.log), program.text()[-3000:]))
