"""Which initiators may attach an ISO: by the name that the boot script sets, or by address. Every refusal has its reason."""

import pytest

from support.iscsi_initiator import Initiator, refusal
from support.objects import HOSTS, host
from support.served_iso import IQN, MINE, refusals
from support.waiting import eventually
from support.watched_isos import details

TARGET = f"{IQN}:live"
SECOND, THIRD, FOURTH = (f"{IQN}:52-54-00-00-00-0{number}" for number in (2, 3, 4))


@pytest.fixture(scope="module")
def hosts(live, bare):
    """node2 boots another ISO, node3 is held, node4 has no address."""
    live.run("iso", "add", "bare", bare)
    live.ask("POST", HOSTS, host("node2", 2, ip="192.0.2.2", image="bare"))
    live.ask("POST", HOSTS, host("node3", 3, ip="192.0.2.3", image="live"))
    held = live.ask("POST", f"{HOSTS}/node3/hold")
    assert held.code == 200, f"a host is held: {held}"
    live.ask("POST", HOSTS, host("node4", 4, image="live"))
    return live


@pytest.mark.parametrize("name, source", [(FOURTH, "192.0.2.99"), (MINE, "192.0.2.1"), ("iqn.2010-04.org.ipxe:x", "192.0.2.1")],
                         ids=["by-name-without-a-known-address", "by-name-and-address", "by-address"])
def test_a_host_attaches_its_iso(hosts, name, source):
    Initiator(3260, TARGET, name=name, source=source).logout()


@pytest.mark.parametrize("name, source, reason", [
    ("iqn.x:stranger", "192.0.2.99", "unknown_host"), (SECOND, "192.0.2.2", "other_image_assigned"),
    (MINE, "192.0.2.2", "address_of_other_machine"), (THIRD, "192.0.2.3", "held"), (MINE, "192.0.2.99", "not_spec_ip")],
    ids=["stranger", "other-image", "another-hosts-address", "held", "not-its-spec-ip"])
def test_an_initiator_is_refused_and_counted_by_its_reason(hosts, name, source, reason):
    before = refusals(hosts, reason)
    refused = refusal(3260, TARGET, name=name, source=source)
    assert refused and refused.args[0] == "0202", f"the initiator is refused as not authorised: {refused}"
    assert refusals(hosts, reason) == before + 1, f"it is counted by its reason: {hosts.ask('GET', '/metrics', token=None)}"


def test_a_discovery_session_from_another_hosts_address_lists_no_target(hosts):
    session = Initiator(3260, None, name=MINE, discovery=True, source="192.0.2.2")
    seen = session.send_targets()
    session.stream.close()
    assert seen == [""], f"no target is listed: {seen}"


def test_a_login_in_a_hosts_name_is_in_that_hosts_timeline(hosts):
    assert refusal(3260, TARGET, name=MINE, source="192.0.2.2"), "an initiator with another host's address is refused"
    reasons = lambda: [detail["reason"] for detail in details(hosts, "node1", "refused")]
    assert eventually(lambda: "address_of_other_machine" in reasons()), f"the refusal is in the timeline of the host that was named: {reasons()}"
