"""Clients that ask for metadata only."""

import urllib.parse

import pytest

from support.objects import HOSTS, host

pytestmark = pytest.mark.usefixtures("example_objects")


def test_metadata_only(server):
    """One object, a list and its pages, the answer to a write, and a watch."""
    ask = server.ask
    ask("POST", HOSTS, host("two", 2))
    wanted = lambda form: {"Accept": f"application/vnd.kubernetes.protobuf;as={form};g=meta.k8s.io;v=v1,application/json;as={form};g=meta.k8s.io;v=v1,application/json"}
    whole = ask("GET", HOSTS).json
    is_partial = lambda item: set(item) == {"kind", "apiVersion", "metadata"} and (item["kind"], item["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1")
    listed = ask("GET", HOSTS, headers=wanted("PartialObjectMetadataList")).json
    assert (listed["kind"], listed["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1"), (
        f"a list of metadata has the kind PartialObjectMetadataList: {listed}")
    same = [item["metadata"] for item in listed["items"]] == [item["metadata"] for item in whole["items"]]
    assert same and len(whole["items"]) > 1 and all(map(is_partial, listed["items"])) and listed["metadata"] == whole["metadata"], (
        f"a list of metadata has the metadata of every object: {listed}")
    page = ask("GET", f"{HOSTS}?limit=1", headers=wanted("PartialObjectMetadataList")).json
    rest = ask("GET", f"{HOSTS}?continue={urllib.parse.quote(page['metadata']['continue'])}", headers=wanted("PartialObjectMetadataList")).json
    assert page["items"] + rest["items"] == listed["items"], f"a list of metadata can be read by pages: {(page, rest)}"
    name = whole["items"][0]["metadata"]["name"]
    one = ask("GET", f"{HOSTS}/{name}", headers=wanted("PartialObjectMetadata")).json
    assert is_partial(one) and one["metadata"] == whole["items"][0]["metadata"], f"one object's metadata can be read: {one}"
    patched = ask("PATCH", f"{HOSTS}/{name}", {"metadata": {"labels": {"partial": "1"}}}, headers=wanted("PartialObjectMetadata")).json
    assert is_partial(patched) and patched["metadata"]["labels"]["partial"] == "1", f"a write answers with metadata only: {patched}"
    version = listed["metadata"]["resourceVersion"]
    watch = server.watch(f"{HOSTS}?watch=true&resourceVersion={version}", headers=wanted("PartialObjectMetadata"))
    event = watch.next()
    watch.close()
    assert event["type"] == "MODIFIED" and event["object"] == patched, f"a watch reports metadata only: {event}"
