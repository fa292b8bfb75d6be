"""Rules for unknown machines that name objects which do not exist."""

import pytest

from support.objects import IMAGES, image
from support.waiting import eventually

MAC = "52:54:00:00:0a:01"


@pytest.fixture(scope="module")
def server(start_server):
    return start_server('unknown_hosts = "install nothing none"\n')


def test_a_rule_without_its_objects_is_a_warning_and_an_event(server):
    log = server.log()
    assert "rule for unknown machines names an object that does not exist" in log and "kind=ISCSICdrom name=nothing" in log and "kind=BootConfig name=none" in log, (
        f"the start warns of both objects: {log}")
    server.ask("GET", f"/ipxe?mac={MAC}", token=None)
    events = lambda: [entry for entry in server.ask("GET", "/api/v1/timeline").json["items"] if entry["event"] == "warning" and entry["mac"] == MAC]
    assert eventually(events) and "nothing does not exist" in events()[0]["detail"]["message"], f"the machine has an event: {server.ask('GET', '/api/v1/timeline')}"


def test_a_rule_applies_once_its_objects_exist(server):
    server.iso()
    server.ask("POST", "/api/v1/bootconfigs", {"apiVersion": "v1", "kind": "BootConfig", "metadata": {"name": "none"}, "spec": {"format": "script", "data": {"script": "x"}}})
    assert server.ask("POST", IMAGES, image("nothing", ["none"])).code == 201
    server.ask("GET", f"/ipxe?mac={MAC}", token=None)
    hosts = server.ask("GET", "/api/v1/baremetalhosts").json["items"]
    assert [host["spec"]["image"] for host in hosts] == ["nothing"], f"the machine is enrolled by the rule: {hosts}"
    before = server.restart()
    assert "rule for unknown machines names" not in before.log(), "a start with all objects warns of none"
