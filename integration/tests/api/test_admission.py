"""What an object must fulfil, on every way of writing it; a refused write changes nothing."""

import pytest

from support.objects import CONFIGS, HOSTS, IMAGES, config, host, image, timeline

pytestmark = pytest.mark.usefixtures("example_objects")


def test_rules(server):
    ask = server.ask
    ask("PATCH", f"{HOSTS}/one", {"spec": {"ip": "10.9.9.9"}})
    ask("POST", CONFIGS, config("other"))
    ask("POST", IMAGES, image("bare"))

    def refused(what, answer, field):
        causes = answer.json.get("details", {}).get("causes", [{}])
        assert answer.code == 422 and causes[0].get("field") == field and causes[0].get("message"), f"{what}: {answer}"

    refused("rule 1: a config that the image does not list is refused", ask("POST", HOSTS, host("r", 7, image="live", bootConfigRef="other")), "spec.bootConfigRef")
    refused("rule 1: a config that does not exist is refused", ask("POST", HOSTS, host("r", 7, bootConfigRef="none")), "spec.bootConfigRef")
    refused("rule 2: a config is refused if the image takes none", ask("POST", HOSTS, host("r", 7, image="bare", bootConfigRef="other")), "spec.bootConfigRef")
    assert ask("POST", HOSTS, host("disk", 8, image="localboot", bootConfigRef="other")).code == 201, (
        "rule 2: a host that boots its local disk may keep a config")
    refused("rule 3: an image that does not exist is refused", ask("POST", HOSTS, host("r", 7, image="none")), "spec.image")
    refused("rule 4: a MAC address of another host is refused", ask("POST", HOSTS, host("r", 8)), "spec.bootMACAddress")
    refused("rule 4: an invalid MAC address is refused", ask("POST", HOSTS, {"metadata": {"name": "r"}, "spec": {"bootMACAddress": "x"}}), "spec.bootMACAddress")
    refused("rule 4: an invalid IP address is refused", ask("POST", HOSTS, host("r", 7, ip="300.1.1.1")), "spec.ip")
    refused("rule 4: an IP address of another host is refused", ask("POST", HOSTS, host("r", 7, ip="10.9.9.9")), "spec.ip")
    refused("rule 4: an IP address of another host is refused in any spelling", ask("POST", HOSTS, host("r", 7, ip="::ffff:10.9.9.9")), "spec.ip")
    for mac in ("ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00"):
        refused(f"{mac} is refused as a machine's MAC address", ask("POST", HOSTS, {"metadata": {"name": "r"}, "spec": {"bootMACAddress": mac}}), "spec.bootMACAddress")
        assert ask("GET", f"/ipxe?mac={mac}", token=None).code == 400, f"/ipxe?mac={mac} is refused"
    for ip in ("0.0.0.0", "127.0.0.9", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1", "::ffff:127.0.0.1"):
        refused(f"{ip} is refused as a machine's IP address", ask("POST", HOSTS, host("r", 7, ip=ip)), "spec.ip")
    for name in ("localboot", "menu", "upload"):
        refused(f"{name} is refused as the name of an ISO", ask("POST", IMAGES, image(name)), "metadata.name")
    kept = ask("PATCH", f"{HOSTS}/disk", {"spec": {"bootMode": "forever"}}).json
    dry = [ask("POST", f"{HOSTS}/disk/{action}?dryRun=All") for action in ("hold", "localboot", "install")]
    assert all(one.code == 400 and "dryRun" in one.text for one in dry) and ask("GET", f"{HOSTS}/disk").json == kept, (
        f"an action does not accept a dry run and changes nothing: {dry}")
    dry = ask("POST", f"{IMAGES}/upload?name=dry&dryRun=All")
    assert dry.code == 200 and ask("GET", f"{IMAGES}/dry").code == 404, f"an upload accepts a dry run: {dry}"
    refused("rule 5: an invalid Ignition config is refused", ask("POST", CONFIGS, config("r", "{")), "spec.data.config.ign")
    refused("rule 5: a file that is not an ISO is refused", ask("POST", IMAGES, image("r", file="/etc/passwd")), "spec.isoFile")
    refused("rule 5: a file that does not exist is refused", ask("POST", IMAGES, image("r", file="none.iso")), "spec.isoFile")
    refused("rule 5: a path out of the directory is refused", ask("POST", IMAGES, image("r", file="../bootlatch.db")), "spec.isoFile")
    for words in (["x\ny"], [""], ["a" * 1025]):
        refused("kernel arguments that are empty, too long or of several lines are refused", ask("POST", HOSTS, host("r", 7, kernelArguments=words)), "spec.kernelArguments")
    refused("a file name of several lines for the local disk is refused", ask("POST", HOSTS, host("r", 7, localDisk={"filename": "a\nshell"})), "spec.localDisk.filename")
    for portal, field in (({"targetIqn": "iqn.2000-02.com.mikrotik:file4\nshell"}, "targetIqn"), ({"targetIqn": "not an iqn"}, "targetIqn"), ({"targetIqn": "iqn.2000-02.com.mikrotik:file4", "port": 0}, "port")):
        away = {"metadata": {"name": "r"}, "spec": {"portal": {"address": "192.0.2.1", **portal}}}
        refused("an invalid IQN or port of a remote target is refused", ask("POST", IMAGES, away), f"spec.portal.{field}")
    refused("rule 5: an image without a file is refused", ask("POST", IMAGES, {"metadata": {"name": "r"}, "spec": {}}), "spec.isoFile")
    for path, field in ((HOSTS, "spec"), (IMAGES, "spec"), (CONFIGS, "spec")):
        refused("a missing spec is named", ask("POST", path, {"metadata": {"name": "r"}}), field)
    two = ask("POST", CONFIGS, "a: 1\n---\nb: 2\n", "application/yaml")
    assert two.code == 400 and "more than one YAML document" in two.text, f"two YAML documents in one body are refused: {two}"
    refused("an unknown field is named", ask("POST", HOSTS, host("r", 7, colour="red")), "spec.colour")
    refused("PUT refuses an image that does not exist", ask("PUT", f"{HOSTS}/disk", host("disk", 8, image="none")), "spec.image")
    refused("PATCH refuses an image that does not exist", ask("PATCH", f"{HOSTS}/disk", {"spec": {"image": "none"}}), "spec.image")
    refused("an install refuses an image that does not exist", ask("POST", f"{HOSTS}/disk/install", {"image": "none"}), "spec.image")
    by_hand = server.run("host", "assign", "disk", "--image", "none")
    assert by_hand.returncode == 5 and "--image: ISO none does not exist" in by_hand.stderr, f"host assign refuses an unknown image by its option: {by_hand}"


def test_a_refused_install_changes_nothing(server):
    ask = server.ask
    ask("POST", CONFIGS, config("other"))
    ask("POST", IMAGES, image("bare"))
    (server.state / "isos/frail.iso").write_bytes((server.state / "isos/x.iso").read_bytes())
    ask("POST", IMAGES, image("frail", ["builder", "other"], file="frail.iso"))
    made = ask("POST", HOSTS, host("whole", 30, image="frail", bootConfigRef="builder"))
    assert made.code == 201 and made.json["status"]["phase"] == "Assigned", f"a host is created in phase Assigned: {made}"
    for request in ({"image": "localboot"}, {"image": "", "bootConfigRef": "other"}, {"image": "bare", "bootConfigRef": "other"}, {"bootMode": "twice"}):
        refused = ask("POST", f"{HOSTS}/whole/install", request)
        now = ask("GET", f"{HOSTS}/whole").json
        assert refused.code == 422 and now == made.json, f"a refused install of {request} changes nothing: {(refused, now)}"
    by_hand = server.run("host", "assign", "whole", "--image", "localboot", "--config", "other")
    assert by_hand.returncode == 2 and ask("GET", f"{HOSTS}/whole").json == made.json, f"a refused host assign changes nothing: {by_hand}"
    again = ask("POST", f"{HOSTS}/whole/install", {"bootConfigRef": "other"})
    kinds = lambda: [e["event"] for e in timeline(server, "whole")]
    assert again.code == 200 and again.json["spec"]["bootConfigRef"] == "other" and kinds() == ["assigned"] * 2, (
        f"an accepted install is started once: {(again, kinds())}")
    (server.state / "isos/frail.iso").unlink()
    medium = ask("POST", f"{HOSTS}/whole/virtualmedia")
    assert medium.code == 422 and "frail.iso" in medium.text, f"a virtual medium of a missing ISO is refused: {medium}"
    now = ask("GET", f"{HOSTS}/whole").json["status"]
    assert now["phase"] == "Assigned" and not now.get("lastBootTime") and kinds() == ["assigned"] * 2, (
        f"a refused virtual medium is not counted as a boot: {(now, kinds())}")
    assert [ask("DELETE", what).code for what in (f"{HOSTS}/whole", f"{IMAGES}/frail")] == [200] * 2, "the host and the ISO can be deleted"


def test_metadata(server):
    """Labels, annotations, owners and generated names follow the rules of Kubernetes."""
    ask = server.ask
    lone = lambda number, **meta: {"metadata": meta, "spec": host("x", number)["spec"]}

    def refused(what, meta, field):
        answer = ask("POST", HOSTS, lone(30, **{"name": "r", **meta}))
        assert answer.code == 422 and answer.json["details"]["causes"][0]["field"] == field, f"{what}: {answer}"

    refused("an invalid label key is refused", {"labels": {"bad key!": "x"}}, "metadata.labels")
    refused("an invalid label value is refused", {"labels": {"rack": "x y"}}, "metadata.labels")
    refused("an invalid annotation key is refused", {"annotations": {"bad key!": "x y"}}, "metadata.annotations")
    refused("finalizers are refused", {"finalizers": ["example.org/wait"]}, "metadata.finalizers")
    refused("an incomplete owner reference is refused", {"ownerReferences": [{"apiVersion": "v1", "kind": "Rack", "name": "a", "uid": ""}]}, "metadata.ownerReferences")
    refused("an invalid generateName is refused", {"name": "", "generateName": "Node_"}, "metadata.generateName")
    for method, body, kind in (("PATCH", {"metadata": {"labels": {"a b": "c"}}}, "application/merge-patch+json"),
                               ("PATCH", {"metadata": {"finalizers": ["a/b"]}}, "application/apply-patch+yaml")):
        answer = ask(method, f"{HOSTS}/one?fieldManager=x", body, kind)
        assert answer.code == 422, f"{kind} refuses the same metadata: {answer}"
    owner = {"apiVersion": "v1", "kind": "Rack", "name": "a", "uid": "u", "controller": True}
    made = [ask("POST", HOSTS, lone(30 + n, generateName="node-", finalizers=[], ownerReferences=[owner])) for n in range(3)]
    names = [answer.json["metadata"]["name"] for answer in made]
    assert all(answer.code == 201 for answer in made) and len(set(names)) == 3 and all(name[:5] == "node-" and len(name) == 10 for name in names), (
        f"generateName makes a unique name for each object: {made}")
    kept = ask("GET", f"{HOSTS}/{names[0]}").json
    assert kept["metadata"]["ownerReferences"] == [owner] and kept["metadata"]["generateName"] == "node-", (
        f"ownerReferences and generateName are stored: {kept}")
    assert ask("PUT", f"{HOSTS}/{names[0]}", kept).code == 200, "a PUT of what was read is accepted"
    applied = ask("PATCH", f"{HOSTS}/{names[0]}?fieldManager=x&force=true", {"metadata": {"ownerReferences": [dict(owner, name="b")]}}, "application/apply-patch+yaml")
    assert applied.code == 200 and applied.json["metadata"]["ownerReferences"][0]["name"] == "b", f"ownerReferences can be applied: {applied}"
    for name in names:
        ask("DELETE", f"{HOSTS}/{name}")


def test_the_size_of_annotations(server):
    """The limit of Kubernetes for all annotations, on every way of writing."""
    ask, at, half = server.ask, f"{HOSTS}/wide", "x" * (128 << 10)
    annotated = lambda **notes: {**host("wide", 60), "metadata": {"name": "wide", "annotations": notes}}
    assert ask("POST", HOSTS, annotated(a=half, b=half[2:])).code == 201, "annotations of 256 KiB are accepted"
    for answer in (ask("PUT", at, annotated(a=half, b=half)), ask("PATCH", at, {"metadata": {"annotations": {"c": "x"}}}),
                   ask("PATCH", f"{at}?fieldManager=x", {"metadata": {"annotations": {"c": "x"}}}, "application/apply-patch+yaml")):
        assert answer.code == 422 and answer.json["details"]["causes"][0]["field"] == "metadata.annotations", (
            f"annotations of more than 256 KiB are refused: {answer.code}")
    ask("DELETE", at)
