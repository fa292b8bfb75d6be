"""Events, namespaces, collections and selectors, with a stock kubectl."""

import json

import pytest

from support.kubectl import Kubectl
from support.objects import CONFIGS, HOSTS, IMAGES, config, host, image

pytestmark = pytest.mark.usefixtures("example_objects")

LAB = HOSTS.replace("default", "lab")


@pytest.fixture
def k(server):
    return Kubectl(server)


def test_events(server, k):
    server.ask("GET", "/ipxe?mac=52-54-00-00-00-01", token=None)
    server.ask("POST", f"{HOSTS}/one/hold")
    server.ask("POST", LAB, {**host("one", 7), "metadata": {"name": "one"}})
    shown = k("get", "events")
    lines = shown.stdout.splitlines()
    assert lines[0].split() == "LAST SEEN TYPE REASON OBJECT MESSAGE".split(), f"get events prints kubectl's columns: {shown}"
    assert any("Held" in line and "baremetalhost/one" in line for line in lines) and any("Script" in line for line in lines), f"with the timeline: {shown}"
    described = k("describe", "bmh", "one").stdout
    events = described.split("Events:")[1]
    assert "Held" in events and "bootlatch" in events and "Assigned" in events, f"describe ends with the host's events: {described}"
    assert "Script" in k("describe", "cdrom", "live").stdout.split("Events:")[1], "describe of an ISO ends with the events that name it"
    assert "<none>" in k("describe", "bmh", "one", "-n", "lab").stdout.split("Events:")[1], "a host of the same name in another namespace has its own"
    mine = k("events", "--for", "baremetalhost/one", "-o", "json")
    reasons = [event["reason"] for event in json.loads(mine.stdout)["items"]]
    assert mine.returncode == 0 and "Held" in reasons, f"kubectl events --for shows the host's: {mine}"
    held = k("get", "events", "--field-selector", "reason=Held,involvedObject.name=one", "-o", "name").stdout.split()
    assert len(held) == 1, f"events are selected by their fields: {held}"
    assert "Held" not in k("get", "events", "-n", "lab").stdout and "Held" in k("get", "events", "-A").stdout, "events belong to their host's namespace"
    wrong = server.ask("GET", "/api/v1/events?fieldSelector=spec.x%3D1")
    assert wrong.code == 400 and "involvedObject.name" in wrong.text, f"a field that no event has is refused: {wrong}"


def test_namespaces(server, k):
    server.ask("POST", LAB, {**host("two", 2), "metadata": {"name": "two"}})
    listed = k("get", "namespaces", "-o", "name")
    assert listed.stdout.split() == ["namespace/default", "namespace/lab"], f"namespaces with hosts are listed: {listed}"
    assert "Active" in k("get", "ns", "lab").stdout, "a namespace is read"
    gone = k("get", "ns", "nowhere")
    assert gone.returncode == 1 and "NotFound" in gone.stderr, f"a namespace without hosts is not found: {gone}"
    assert k("create", "ns", "new").returncode == 1, "a namespace is not created"


def test_a_collection_is_deleted(server):
    for number in range(2, 6):
        server.ask("POST", HOSTS, {**host(f"h{number}", number), "metadata": {"name": f"h{number}", "labels": {"rack": f"r{number % 2}"}}})
    server.ask("POST", LAB, {**host("h2", 12), "metadata": {"name": "h2"}})
    names = lambda path: [item["metadata"]["name"] for item in server.ask("GET", path).json["items"]]
    dry = server.ask("DELETE", f"{HOSTS}?labelSelector=rack%3Dr0&dryRun=All")
    assert dry.code == 200 and len(dry.json["items"]) == 2 and len(names(HOSTS)) == 5, f"a dry run deletes nothing: {dry}"
    done = server.ask("DELETE", f"{HOSTS}?labelSelector=rack%3Dr0")
    assert done.json["kind"] == "BareMetalHostList" and sorted(item["metadata"]["name"] for item in done.json["items"]) == ["h2", "h4"], f"the selected hosts are deleted: {done}"
    assert names(HOSTS) == ["h3", "h5", "one"] and names(LAB) == ["h2"], "and no others"
    in_use = server.ask("DELETE", IMAGES)
    assert in_use.code == 409 and names(IMAGES) == ["live"], f"an ISO that a host boots is kept: {in_use}"
    assert server.ask("DELETE", HOSTS, token=(server.state / "viewer.token").read_text().strip()).code == 403, "a viewer deletes nothing"
    assert server.ask("DELETE", "/api/v1/baremetalhosts").code == 405, "the hosts of all namespaces are no collection to delete"
    for wrong in ("/", "//", "/%2F", "?limit=1"):
        assert server.ask("DELETE", f"{HOSTS}{wrong}").code == 400 and names(HOSTS) != [], f"an empty name and a limit delete nothing: {wrong}"
    assert server.ask("DELETE", HOSTS).code == 200 and names(HOSTS) == [], "all hosts of a namespace are deleted"
    server.ask("POST", IMAGES, {**image("outer"), "spec": {"isoFile": "x.iso", "companions": ["live"]}})
    server.ask("DELETE", LAB)
    assert server.ask("DELETE", IMAGES).code == 200 and names(IMAGES) == [], "an ISO and the one that refers to it are deleted in their order"
    server.ask("POST", CONFIGS, config("other"))
    assert server.ask("DELETE", f"{CONFIGS}?fieldSelector=metadata.name%3Dother").code == 200 and names(CONFIGS) == ["builder"], "a field selects as well"


def test_selectors_that_can_match_nothing(server, k):
    for selector in ("rack=a b", "ra ck=a", "-rack", "rack in ()", "a/b/c=d", "rack=r1,"):
        assert server.ask("GET", f"{HOSTS}?labelSelector={selector.replace(' ', '%20').replace('=', '%3D')}").code == 400, f"labelSelector {selector!r} is refused"
    refused = k("get", "bc", "--field-selector", "spec.ip=192.0.2.1")
    assert refused.returncode == 1 and "spec.format" in refused.stderr, f"a field that the kind does not have is refused with those that it has: {refused}"
    assert k("get", "bc", "--field-selector", "spec.format=ignition", "-o", "name").stdout == "bootconfig/builder\n", "a field of the kind is compared"


def test_impersonation_is_refused(server, k):
    for words in (("--as", "viewer"), ("--as", "x", "--as-group", "system:masters")):
        done = k(*words, "get", "bmh")
        assert done.returncode == 1 and "impersonation" in done.stderr, f"a request in another's name is refused in words: {done}"
    answer = server.ask("DELETE", f"{HOSTS}/one", headers={"Impersonate-Extra-scopes": "read"})
    assert answer.code == 403 and server.ask("GET", f"{HOSTS}/one").code == 200, f"and not carried out: {answer}"
