"""Every verb of the object API on every kind, and a crash."""

import signal

import pytest

from support.objects import CONFIGS, HOSTS, IMAGES, config, host, image, make_example

pytestmark = pytest.mark.usefixtures("no_objects_left")


def test_verbs(server):
    ask = server.ask
    assert ask("POST", CONFIGS, config("builder")).code == 201, "a config is created"
    assert ask("POST", CONFIGS, config("builder")).json["reason"] == "AlreadyExists", "a second config of the same name is refused"
    server.iso()
    made = ask("POST", IMAGES, image("live", ["builder"]))
    assert made.code == 201 and made.json["status"]["volumeID"] == "TINY", f"an image is created with its volume name in the status: {made}"
    made = ask("POST", HOSTS, host("one", 1, image="live", bootConfigRef="builder"))
    assert made.code == 201 and made.json["status"]["phase"] == "Assigned", f"a host with an image is created in phase Assigned: {made}"
    read = ask("GET", f"{HOSTS}/one").json
    assert read["metadata"]["uid"] and read["metadata"]["resourceVersion"] and read["metadata"]["creationTimestamp"], (
        "a host has uid, resourceVersion and creationTimestamp")
    assert len(ask("GET", "/api/v1/baremetalhosts").json["items"]) == 1, "a host is listed across all namespaces"
    assert ask("GET", "/api/v1/namespaces/other/baremetalhosts").json["items"] == [], "a host is not listed in another namespace"
    stale = dict(read, metadata=dict(read["metadata"], resourceVersion="1"))
    assert ask("PUT", f"{HOSTS}/one", stale).json["reason"] == "Conflict", "a stale PUT is a conflict"
    read["metadata"]["labels"] = {"rack": "r1"}
    taken = ask("PATCH", f"{HOSTS}/one", {"metadata": {"resourceVersion": None, "uid": None, "generation": None, "creationTimestamp": None}, "status": None})
    assert taken.code == 200 and taken.json["metadata"]["uid"] == read["metadata"]["uid"] and taken.json["status"]["phase"], (
        f"a PATCH that nulls metadata and status changes neither: {taken}")
    assert ask("PUT", f"{HOSTS}/one", read).json["metadata"]["labels"] == {"rack": "r1"}, "a PUT with the current version is accepted"
    assert ask("PUT", f"{HOSTS}/gone", host("gone", 9)).code == 404, "a PUT of an object that does not exist is 404"
    merged = ask("PATCH", f"{HOSTS}/one", {"metadata": {"labels": {"rack": None, "row": "2"}}}, "application/merge-patch+json")
    assert merged.json["metadata"]["labels"] == {"row": "2"}, f"a merge patch deletes by null: {merged}"
    stepped = ask("PATCH", f"{HOSTS}/one", [{"op": "test", "path": "/spec/image", "value": "live"},
                                           {"op": "add", "path": "/spec/ip", "value": "10.9.9.9"}], "application/json-patch+json")
    assert stepped.json["spec"]["ip"] == "10.9.9.9", f"a JSON patch applies its operations in order: {stepped}"
    missed = ask("PATCH", f"{HOSTS}/one", [{"op": "test", "path": "/spec/ip", "value": "x"}], "application/json-patch+json")
    assert missed.code == 422, f"a JSON patch with a failed test is refused: {missed}"
    stale = ask("PATCH", f"{HOSTS}/one", {"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}}, "application/merge-patch+json")
    assert stale.code == 409, f"a PATCH with a stale version is a conflict: {stale}"
    assert ask("PATCH", f"{HOSTS}/one", "x", "text/html").code == 415, "a PATCH of an unknown content type is refused"
    yaml = "kind: BareMetalHost\nmetadata:\n  name: two\nspec:\n  bootMACAddress: 5254.0000.0002\n"
    assert ask("POST", HOSTS, yaml, "application/yaml").json["spec"]["bootMACAddress"] == "52:54:00:00:00:02", "a YAML body is accepted"
    assert ask("DELETE", f"{IMAGES}/live").code == 409 and ask("DELETE", f"{CONFIGS}/builder").code == 409, "an object in use is not deleted"
    gone = ask("DELETE", f"{HOSTS}/two")
    assert gone.json["status"] == "Success" and gone.json["details"]["uid"], f"a delete answers with a Status: {gone}"
    assert ask("DELETE", f"{HOSTS}/two").code == 404, "a second delete is 404"
    dry = ask("DELETE", f"{HOSTS}/one?dryRun=All")
    assert dry.code == 200 and ask("GET", f"{HOSTS}/one").code == 200, f"a DELETE with dryRun=All deletes nothing: {dry}"
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"], "propagationPolicy": "Background"}
    dry = ask("DELETE", f"{HOSTS}/one", options)
    assert dry.code == 200 and ask("GET", f"{HOSTS}/one").code == 200, f"a DELETE with dryRun in its body deletes nothing: {dry}"
    wrong = ask("DELETE", f"{HOSTS}/one", {"dryRun": ["Some"]})
    assert wrong.code == 400 and "dryRun" in wrong.text, f"an invalid dryRun is refused: {wrong}"
    other = ask("DELETE", f"{HOSTS}/one", {"preconditions": {"uid": "another"}})
    assert other.code == 409 and ask("GET", f"{HOSTS}/one").code == 200, f"a DELETE with another uid is a conflict: {other}"
    assert ask("GET", "/api/v1/pods").code == 404 and ask("PUT", CONFIGS, {}).code == 405, "an unknown route is 404, and a method that is not allowed 405"


def test_preconditions_of_writes(server):
    """Writes that name the uid or the version of the object that they change."""
    make_example(server)
    ask = server.ask
    read = ask("GET", f"{HOSTS}/one").json
    other = dict(read, metadata={**read["metadata"], "uid": "another", "resourceVersion": ""})
    applied = lambda name, meta: ask("PATCH", f"{HOSTS}/{name}?fieldManager=m&force=true", {"metadata": meta, "spec": {"bootMACAddress": "52:54:00:00:09:01"}}, "application/apply-patch+yaml")
    refused = {"a PUT": ask("PUT", f"{HOSTS}/one", other), "a PATCH": ask("PATCH", f"{HOSTS}/one", {"metadata": {"uid": "another"}}),
               "an apply": applied("one", {"uid": "another"}), "an apply of what is gone": applied("gone", {"uid": "another"}), "by version": applied("gone", {"resourceVersion": "7"})}
    for what, answer in refused.items():
        assert answer.code == 409 and answer.json["reason"] == "Conflict" and "metadata." in answer.json["message"], (
            f"{what} with another's uid is a conflict: {answer}")
    assert ask("PATCH", f"{HOSTS}/one", {"metadata": {"uid": read["metadata"]["uid"]}}).code == 200, "a PATCH with the object's own uid is accepted"
    versioned = host("new", 90)
    versioned["metadata"]["resourceVersion"] = "7"
    answer = ask("POST", HOSTS, versioned)
    assert answer.code == 400 and "resourceVersion" in answer.json["message"], f"a POST with a resourceVersion is refused: {answer}"
    for accept in ("application/yaml", "application/vnd.kubernetes.protobuf"):
        assert ask("GET", HOSTS, headers={"Accept": accept}).json["reason"] == "NotAcceptable" and ask("GET", f"{HOSTS}/one", headers={"Accept": accept}).code == 406, (
            f"Accept: {accept} alone is not acceptable")


def test_a_crash_loses_nothing(server):
    make_example(server)
    before = server.ask("GET", "/api/v1/baremetalhosts").json
    server.restart(signal.SIGKILL)
    after = server.ask("GET", "/api/v1/baremetalhosts").json
    assert after["items"] == before["items"], "kill -9 loses no acknowledged write"
