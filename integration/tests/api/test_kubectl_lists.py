"""A stock kubectl reads a List: the backup of the guide is restored, and a wrong field in it is found."""

import re

import pytest

from support.kubectl import Kubectl
from support.objects import delete_all, make_example

pytestmark = pytest.mark.usefixtures("no_objects_left")

PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
HOST = """\
- apiVersion: v1
  kind: BareMetalHost
  metadata: {name: nNUMBER, namespace: default, labels: {rack: r1}}
  spec: {bootMACAddress: '52:54:00:00:01:0NUMBER', image: localboot, kernelArguments: [quiet]}
"""
LIST = "apiVersion: v1\nkind: List\nitems:\n" + "".join(HOST.replace("NUMBER", str(number)) for number in (3, 4))
DUMP = ("get", "bc,cdrom,bmh", "-A", "-o", "yaml")


@pytest.fixture
def k(server):
    return Kubectl(server)


@pytest.fixture
def backup(server, k):
    """The dump of the example objects and a host with every kind of field, which are there."""
    make_example(server)
    server.ask("POST", "/api/v1/iscsi-cdroms", {"metadata": {"name": "other"}, "spec": {
        "isoFile": "x.iso", "method": "kernel", "kernelArguments": ["a=b"], "companions": ["live"]}})
    server.ask("POST", "/api/v1/baremetalhosts", {"metadata": {"name": "full", "annotations": {"note": "x"}}, "spec": {
        "bootMACAddress": "52:54:00:00:00:09", "ip": "192.0.2.9", "bootMode": "forever", "localDisk": {"drive": 129}}})
    server.ask("GET", "/ipxe?mac=52-54-00-00-00-01&platform=efi", token=None)
    dump = k(*DUMP)
    assert dump.returncode == 0 and "kind: List" in dump.stdout, f"the objects are dumped: {dump}"
    return dump.stdout


def names(k):
    return sorted(k("get", "bc,cdrom,bmh", "-A", "-o", "name").stdout.split())


@pytest.mark.parametrize("way", [("create",), ("apply",)], ids=" ".join)
def test_the_backup_restores_into_an_empty_server(server, k, backup, way):
    before = names(k)
    delete_all(server)
    done = k(*way, "-f", "-", stdin=backup)
    assert done.returncode == 0 and "alidat" not in done.stderr, f"{way} restores the backup: {done}"
    assert names(k) == before and len(before) == 5, f"every object is there again: {names(k)}"
    again = re.findall(r"(?ms)^  spec:.*?^  status:", k(*DUMP).stdout)
    assert again == re.findall(r"(?ms)^  spec:.*?^  status:", backup), "with the same specs"


def test_the_backup_replaces_what_exists(server, k, backup):
    k("label", "bmh", "full", "rack=r2")
    conflict = k("replace", "-f", "-", stdin=backup)
    assert conflict.returncode == 1 and conflict.stdout.count("replaced") == 4 and "onflict" in conflict.stderr, (
        f"replace takes what has not changed since, and refuses what has: {conflict}")
    done = k("replace", "-f", "-", stdin=k(*DUMP).stdout)
    assert done.returncode == 0 and done.stdout.count("replaced") == 5, f"replace of a fresh dump: {done}"
    forced = k("replace", "--force", "-f", "-", stdin=LIST)
    assert forced.returncode == 0, f"replace --force creates what does not exist: {forced}"


def test_a_list_is_checked(k):
    for way in (("create",), ("apply",), ("apply", "--server-side")):
        for wrong, word in ((LIST.replace("image:", "picture:"), "picture"), (LIST.replace("image: localboot", "online: maybe"), "online"),
                            (LIST.replace("kernelArguments: [quiet]", "kernelArguments: quiet"), "kernelArguments")):
            refused = k(*way, "-f", "-", stdin=wrong)
            assert refused.returncode == 1 and word in refused.stderr, f"{way} refuses a list with a wrong {word}: {refused}"
    assert "No resources" in k("get", "bmh").stderr, "nothing of a refused list is written"
    made = k("create", "-f", "-", stdin=LIST)
    assert made.returncode == 0 and made.stdout.count("created") == 2, f"a list is created: {made}"
    assert k("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=LIST).stdout.count("serverside-applied") == 2, "and applied"
    assert k("diff", "-f", "-", stdin=LIST).returncode in (0, 1), "and compared"
    assert k("delete", "-f", "-", stdin=LIST).stdout.count("deleted") == 2, "and deleted"


def test_the_swagger_document(server, k):
    answer = server.ask("GET", "/openapi/v2", headers={"Accept": PROTOBUF.replace(".v1.0", "@v1.0")})
    assert answer.code == 200 and answer.headers["Content-Type"] == PROTOBUF, f"kubectl's request is answered in protobuf: {answer.code} {answer.headers}"
    document = server.ask("GET", "/openapi/v2", headers={"Accept": "application/json"}).json
    assert document["swagger"] == "2.0" and len(document["paths"]) > 40, "and others in JSON"
    assert server.ask("GET", "/openapi/v2", headers={"Accept": "text/html"}).code == 406, "a client that takes neither is told so"
    explained = k("explain", "bmh.spec.bootMACAddress", "--output=plaintext-openapiv2")
    assert explained.returncode == 0 and "bootMACAddress" in explained.stdout, f"kubectl explains a field by the protobuf document: {explained}"
