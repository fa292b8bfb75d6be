"""Which client set which field: updates and server-side applies of a stock kubectl and other clients."""

import json

import pytest

from support.kubectl import Kubectl
from support.objects import HOSTS

pytestmark = pytest.mark.usefixtures("no_objects_left")

HOST = """\
apiVersion: v1
kind: BareMetalHost
metadata: {name: one, labels: {rack: RACK}}
spec: {bootMACAddress: "52:54:00:00:00:01", image: localboot, bootMode: MODE}
"""


@pytest.fixture
def k(server):
    return Kubectl(server)


def manifest(rack="r1", mode="once"):
    return HOST.replace("RACK", rack).replace("MODE", mode)


@pytest.fixture
def managers(server):
    """A function that returns the managers of the host's fields, by field."""

    def walk(fields, path=""):
        for key, below in fields.items():
            yield from walk(below, f"{path}.{key.removeprefix('f:')}") if below else [f"{path}.{key.removeprefix('f:')}"]

    def read():
        entries = server.ask("GET", f"{HOSTS}/one").json["metadata"].get("managedFields", [])
        found = {}
        for entry in entries:
            for field in walk(entry["fieldsV1"]):
                found.setdefault(field, []).append((entry["manager"], entry["operation"]))
        return found

    return read


def test_an_update_conflicts_with_an_apply(server, k, managers):
    k("create", "-f", "-", stdin=manifest())
    assert managers()[".spec.bootMode"] == [("kubectl-create", "Update")], f"a create is recorded: {managers()}"
    same = k("apply", "--server-side", "-f", "-", stdin=manifest())
    assert same.returncode == 0, f"an apply of the same values shares the fields: {same}"
    refused = k("apply", "--server-side", "-f", "-", stdin=manifest(mode="forever"))
    assert refused.returncode == 1 and '"kubectl-create"' in refused.stderr and ".spec.bootMode" in refused.stderr, (
        f"an apply of another value conflicts with who created it: {refused}")
    forced = k("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest(mode="forever"))
    assert forced.returncode == 0 and managers()[".spec.bootMode"] == [("kubectl", "Apply")], f"force takes the field over: {managers()}"
    k("patch", "bmh", "one", "--type", "merge", "-p", '{"spec":{"bootMode":"once"}}')
    assert managers()[".spec.bootMode"] == [("kubectl-patch", "Update")], f"a patch takes the field over: {managers()}"
    refused = k("apply", "--server-side", "-f", "-", stdin=manifest(mode="forever"))
    assert refused.returncode == 1 and '"kubectl-patch"' in refused.stderr, f"two owners conflict: {refused}"
    body = server.ask("GET", f"{HOSTS}/one").json
    body["spec"]["bootMode"] = "forever"
    put = server.ask("PUT", f"{HOSTS}/one", body, headers={"User-Agent": "curl/8.14.1"})
    assert put.code == 200 and managers()[".spec.bootMode"] == [("curl", "Update")], f"a PUT is recorded under the client's program: {managers()}"
    before = server.ask("GET", f"{HOSTS}/one").json
    server.ask("PUT", f"{HOSTS}/one", before, headers={"User-Agent": "other/1"})
    assert server.ask("GET", f"{HOSTS}/one").json == before, "a PUT that changes nothing records nothing"


def test_a_removed_field_has_no_manager(server, k, managers):
    k("apply", "--server-side", "-f", "-", stdin=manifest())
    k("label", "bmh", "one", "row=7")
    assert managers()[".metadata.labels.row"] == [("kubectl-label", "Update")], f"a label has its manager: {managers()}"
    k("label", "bmh", "one", "row-", "rack-")
    assert not [field for field in managers() if ".labels" in field], f"removed labels have none: {managers()}"
    again = k("apply", "--server-side", "-f", "-", stdin=manifest(rack="r2"))
    assert again.returncode == 0 and managers()[".metadata.labels.rack"] == [("kubectl", "Apply")], f"and can be applied again: {again}"


def test_an_upgrade_from_client_side_apply(server, k, managers):
    k("apply", "-f", "-", stdin=manifest())
    assert managers()[".spec.bootMode"] == [("kubectl-client-side-apply", "Update")], f"a client-side apply is an update: {managers()}"
    upgraded = k("apply", "--server-side", "-f", "-", stdin=manifest(rack="r2", mode="forever"))
    assert upgraded.returncode == 0, f"kubectl's first server-side apply does not conflict with its own client-side one: {upgraded}"
    own = {who for field, owners in managers().items() for who in owners if ".annotations." not in field}
    assert own == {("kubectl", "Apply")}, f"kubectl then owns all by server-side apply: {managers()}"
    gone = k("apply", "--server-side", "-f", "-", stdin=manifest().replace(", labels: {rack: r1}", "").replace(", bootMode: once", ""))
    host = server.ask("GET", f"{HOSTS}/one").json
    assert gone.returncode == 0 and "rack" not in host["metadata"].get("labels", {}), f"and removes what it no longer applies: {host}"


def test_what_another_changed_since_a_client_side_apply_conflicts(server, k):
    k("apply", "-f", "-", stdin=manifest())
    k("patch", "bmh", "one", "--type", "merge", "-p", '{"spec":{"bootMode":"forever"}}')
    refused = k("apply", "--server-side", "-f", "-", stdin=manifest(rack="r2"))
    assert refused.returncode == 1 and '"kubectl-patch"' in refused.stderr and ".metadata.labels" not in refused.stderr, (
        f"a value that another set is a conflict, its own values are not: {refused}")


def test_the_managers_can_be_removed(server, k, managers):
    k("create", "-f", "-", stdin=manifest())
    done = server.ask("PATCH", f"{HOSTS}/one", json.dumps({"metadata": {"managedFields": [{}]}}), "application/merge-patch+json")
    assert done.code == 200 and managers() == {}, f"one empty entry removes the managers, as in Kubernetes: {done}"
    assert k("apply", "--server-side", "-f", "-", stdin=manifest(mode="forever")).returncode == 0, "fields without a manager do not conflict"


def test_the_command_line_does_not_conflict_with_itself(server, managers):
    server.ask("POST", "/api/v1/bootconfigs", {"metadata": {"name": "c"}, "spec": {"format": "script", "data": {"script": "a"}}}, headers={"User-Agent": "bootlatch/1"})
    applied = server.run("apply", "-f", "-", stdin="apiVersion: v1\nkind: BootConfig\nmetadata: {name: c}\nspec: {format: script, data: {script: b}}\n")
    assert applied.returncode == 0, f"what bootlatch wrote by other means it may apply: {applied}"
