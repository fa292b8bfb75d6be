"""Configs are generated from short requests, served to their machines, and never show the pull secret."""

import base64
import json
import re
import subprocess

import pytest

from support.generated_configs import CLOUDINIT, GEHEIM, IGNITION, PULL, ROLES, SECRETS, leaks, node, okd, served
from support.objects import CONFIGS, HOSTS, IMAGES, config, host, image, timeline


@pytest.fixture(scope="module")
def server(start_server):
    """A server with an encrypted state and the most detailed log."""
    server = start_server(environment={"BOOTLATCH_LOG": "trace"})
    (server.place / "state.key").write_text("ab" * 32)
    server.config = f'[store]\nencryption_key_file = "{server.place}/state.key"\n'
    return server.restart()


def ignition_file(text, path):
    """Returns the content of a file in an Ignition config; False if there is none."""
    files = {file["path"]: file for file in json.loads(text).get("storage", {}).get("files", [])}
    return path in files and base64.b64decode(files[path]["contents"]["source"].split("base64,")[1]).decode()


def generate(server, key):
    """Generates configs into the built-in store, and fetches them as machines do."""
    ask = server.ask
    viewer = (server.state / "viewer.token").read_text().strip()
    codes = [ask("POST", IGNITION, okd(key), token=token).code for token in (None, "wrong", viewer)]
    assert codes == [401, 401, 403] and ask("GET", IGNITION).code == 405, f"generating needs an admin's token and POST: {codes}"
    tried = ask("POST", f"{IGNITION}?dryRun=All", okd(key))
    assert tried.code == 200 and not ask("GET", CONFIGS).json["items"], f"a dry run creates nothing: {tried}"
    made = ask("POST", IGNITION, okd(key))
    assert made.code == 200 and made.json["configs"] == {role: f"bootlatch:okd-prod-{role}.ign" for role in ROLES}, f"a cluster's configs are generated: {made}"
    assert made.json["servingUrl"] == "http://127.0.0.1:8080/configs/", f"the answer has the URL where the configs are served: {made}"
    assert len(made.json["warnings"]) == 2 and "openshift-install" in made.json["warnings"][0], (
        f"the answer warns that openshift-install makes the cluster's own configs: {made}")
    objects = {one["metadata"]["name"]: one for one in ask("GET", f"{CONFIGS}?labelSelector=bootlatch.org/generated=ignition").json["items"]}
    assert sorted(objects) == [f"okd-prod-{role}" for role in ROLES], f"the generated configs are BootConfigs: {objects}"
    assert [objects[f"okd-prod-{role}"]["spec"].get("confidential", False) for role in ROLES] == [True, False, False], (
        f"only the config with the pull secret is confidential: {objects}")
    again = ask("POST", IGNITION, okd(key))
    assert again.json == made.json and {name: ask("GET", f"{CONFIGS}/{name}").json for name in objects} == objects, "generating the same again changes nothing"
    master = served(server, made.json["configs"]["master"])
    assert (master.code == 200 and master.text == objects["okd-prod-master"]["spec"]["data"]["config.ign"]
          and master.headers["Content-Type"] == "application/vnd.coreos.ignition+json"), (
        f"a config without a secret is served to any client: {master}")
    source = json.loads(master.text)["ignition"]["config"]["merge"]
    assert source == [{"source": "https://api-int.prod.example.com:22623/config/master"}], f"the master's config points at the Machine Config Server: {source}"
    head = ask("HEAD", "/configs/okd-prod-master.ign", token=None)
    assert head.code == 200 and head.body == b"", f"HEAD has no body: {head}"
    assert [ask("GET", f"/configs/{name}", token=None).code for name in ("x.ign", "okd-prod-master", "..%2fadmin.token", "okd-prod-master-user.yaml")] == [404] * 4, (
        "a file that does not exist is 404")
    ask("POST", CONFIGS, config("by-hand"))
    assert ask("GET", "/configs/by-hand.ign", token=None).code == 404, "a config that was not generated is not served"

    ask("POST", HOSTS, host("boot", 40, ip="192.0.2.40", bootConfigRef="okd-prod-bootstrap"))
    ask("POST", HOSTS, host("other", 41, ip="192.0.2.41", bootConfigRef="okd-prod-master"))
    ask("POST", HOSTS, host("none", 42, ip="192.0.2.42"))
    codes = {source: served(server, "okd-prod-bootstrap.ign", source).code for source in (None, "192.0.2.41", "192.0.2.42", "192.0.2.40")}
    assert codes == {None: 404, "192.0.2.41": 403, "192.0.2.42": 404, "192.0.2.40": 200}, (
        f"a config with the pull secret is served to its own host only: {codes}")
    assert not leaks(ask("GET", "/configs/okd-prod-bootstrap.ign").text), "an admin's token does not reveal the pull secret"
    mine = served(server, "okd-prod-bootstrap.ign", "192.0.2.40").text
    assert ignition_file(mine, "/root/.docker/config.json") == PULL and ignition_file(mine, "/etc/hostname") == "prod-bootstrap\n", (
        f"the bootstrap config has the pull secret and the host name in its files: {mine}")
    assert ask("GET", "/api/v1/bootconfig", token=None, source="192.0.2.40").text == mine, "/api/v1/bootconfig serves the same config to its host"
    refused = timeline(server, "other", "refused")
    assert refused and refused[-1]["detail"]["reason"] == "other_config_assigned", f"a refusal is in the timeline: {refused}"
    server.iso()
    ask("POST", IMAGES, image("live", ["okd-prod-bootstrap"]))
    ask("POST", HOSTS, host("token", 43, ip="192.0.2.43", image="live", bootConfigRef="okd-prod-bootstrap"))
    script = ask("GET", "/ipxe?mac=52-54-00-00-00-2b", token=None, source="192.0.2.43").text
    token = re.search(r"set config-url \S+token=([0-9a-f]+)", script)
    by_token = token and ask("GET", f"/configs/okd-prod-bootstrap.ign?token={token[1]}", token=None)
    assert by_token and by_token.code == 200 and by_token.text == mine, f"the token of the host's script is accepted as proof: {(script, by_token)}"
    wrong = ask("GET", "/configs/okd-prod-bootstrap.ign?token=00", token=None, source="192.0.2.40")
    assert wrong.code == 403, f"a wrong token is refused: {wrong}"

    cloud = ask("POST", CLOUDINIT, node(key))
    names = {"userdata": "bootlatch:k8s-master-01-user.yaml", "metadata": "bootlatch:k8s-master-01-meta.yaml", "network": "bootlatch:k8s-master-01-network.yaml"}
    assert cloud.code == 200 and cloud.json["configs"] == names and cloud.json["userdata"] == names["userdata"], (
        f"the cloud-init files of a machine are generated: {cloud}")
    ask("POST", HOSTS, host("k8s", 44, ip="192.0.2.44", bootConfigRef="k8s-master-01"))
    user = ask("GET", "/api/v1/bootconfig", token=None, source="192.0.2.44").text
    assert user == served(server, names["userdata"]).text and user.startswith("#cloud-config\n"), f"the host receives its user-data: {user}"
    network = ask("GET", "/api/v1/bootconfig?file=network-config", token=None, source="192.0.2.44").text
    assert network == served(server, names["network"]).text and "10.1.107.11/24" in network, f"the host receives its network-config: {network}"
    seed = ask("GET", f"{HOSTS}/k8s/seed")
    assert seed.code == 200 and user.encode() in seed.body and network.encode() in seed.body, "the host's seed contains the files"

    taken = ask("POST", CLOUDINIT, node(key, hostname="by-hand"))
    assert taken.code == 409 and taken.json["reason"] == "AlreadyExists", f"a config that was created by hand is not replaced: {taken}"
    ask("POST", CONFIGS, config("okd-half-worker"))
    version = ask("GET", CONFIGS).json["metadata"]["resourceVersion"]
    half = ask("POST", IGNITION, okd(key, cluster={"name": "half", "baseDomain": "example.com"}))
    assert half.code == 409 and ask("GET", CONFIGS).json["metadata"]["resourceVersion"] == version, (
        f"a cluster is not generated in part if one of its names is taken: {half}")
    kept = ask("POST", IGNITION, okd(key, nodeRoles=["bootstrap"], pullSecret=None))
    assert kept.code == 200 and ask("GET", f"{CONFIGS}/okd-prod-bootstrap").json["spec"]["confidential"] is True, (
        f"a confidential config stays confidential when generated without its secret: {kept}")
    yaml = ask("POST", CLOUDINIT, f"hostname: by-yaml\nusers:\n- name: a\n  sshKeys: ['{key}']\n", "application/yaml")
    assert yaml.code == 200, f"a YAML body is accepted: {yaml}"
    file = server.place / "request.yaml"
    file.write_text(f"platform: fcos\nversion: '42'\ncluster: {{name: lab}}\nsshKey: {key}\nnodeRoles: [node]\n")
    told = server.run("config", "generate", "ignition", file, "-o", "json")
    assert told.returncode == 0 and json.loads(told.stdout)["configs"] == {"node": "bootlatch:fcos-lab-node.ign"}, (
        f"config generate prints the references: {told}")
    piped = server.run("config", "generate", "cloudinit", "-", stdin="hostname: A\n")
    assert piped.returncode == 5 and "hostname" in piped.stderr, f"config generate names the invalid field: {piped}"


def refuse(server, key, place):
    """Sends requests that are refused by their field, without a secret in the answer."""
    private = (place / "ed25519None").read_text()
    without = lambda body, field: {name: value for name, value in body.items() if name != field}
    many = [
        (IGNITION, okd(key, platform="talos"), "platform"), (IGNITION, okd(key, version="4.7"), "version"), (IGNITION, okd(key, version="9.9"), "version"),
        (IGNITION, okd(key, version=4.19), "version"), (IGNITION, without(okd(key), "cluster"), "cluster"), (IGNITION, okd(key, cluster={"name": "a"}), "cluster.baseDomain"),
        (IGNITION, okd(key, cluster={"name": "../../etc/x", "baseDomain": "b"}), "cluster.name"), (IGNITION, okd(key, cluster={"name": "a", "baseDomain": "b/../c"}), "cluster.baseDomain"),
        (IGNITION, okd(key, cluster={"name": "a", "baseDomain": "b", "network": "10.0.0.300/8"}), "cluster.network"), (IGNITION, okd(key, cluster={"name": "a", "baseDomain": "b", "dns": "x"}), "cluster.dns"),
        (IGNITION, okd(private), "sshKey"), (IGNITION, okd(PULL), "sshKey"), (IGNITION, without(okd(key), "sshKey"), "sshKey"), (IGNITION, okd(key, pullSecret=GEHEIM), "pullSecret"),
        (IGNITION, okd(key, pullSecret=PULL[:-1]), "pullSecret"), (IGNITION, okd(key, pullSecret={"auths": {"a": {"auth": GEHEIM}}}), "pullSecret"), (IGNITION, okd(key, pullSecret=[PULL]), "pullSecret"),
        (IGNITION, okd(key, nodeRoles=["master", "infra"]), "nodeRoles[1]"), (IGNITION, okd(key, nodeRoles=PULL), "nodeRoles"), (IGNITION, okd(key, cluster=PULL), "cluster"),
        (IGNITION, okd(key, platform=PULL), "platform"), (IGNITION, okd(key, certificateAuthority=private), "certificateAuthority"), (IGNITION, okd(key, volume="../x"), "volume"),
        (IGNITION, okd(key, pullsecret=PULL), "pullsecret"), (CLOUDINIT, node(key, hostname="a/b"), "hostname"), (CLOUDINIT, node(key, hostname=".."), "hostname"), (CLOUDINIT, without(node(key), "hostname"), "hostname"),
        (CLOUDINIT, node(key, template="../x"), "template"), (CLOUDINIT, node(key, packages=["-o", "x"]), "packages[0]"), (CLOUDINIT, node(key, users=[{"name": "a b"}]), "users[0].name"),
        (CLOUDINIT, node(key, users=[{"name": "a", "sshKeys": [private]}]), "users[0].sshKeys[0]"), (CLOUDINIT, node(key, users=[{"name": "a", "password": GEHEIM}]), "users[0].password"),
        (CLOUDINIT, node(key, network={"interfaces": [{"name": "e", "addresses": ["10.0.0.1"]}]}), "network.interfaces[0].addresses[0]"),
        (CLOUDINIT, node(key, network={"interfaces": [{"name": "e", "addresses": ["10.0.0.2/24"], "gateway": "10.0.1.1"}]}), "network.interfaces[0].gateway"),
        (CLOUDINIT, node(key, volume="nowhere"), "volume"), (CLOUDINIT, okd(key), "platform"),
    ]
    version = server.ask("GET", CONFIGS).json["metadata"]["resourceVersion"]
    answers = [(server.ask("POST", path, body), field) for path, body, field in many]
    wrong = [(answer, field) for answer, field in answers if answer.code != 422 or answer.json["details"]["causes"][0]["field"] != field or field not in answer.json["message"]]
    assert not wrong, f"each of {len(many)} invalid bodies is refused by its field: {wrong}"
    answers += [(server.ask("POST", IGNITION, json.dumps(okd(key))[:-1], "application/json"), ""), (server.ask("POST", IGNITION, f"pullSecret: {{{PULL}", "application/yaml"), ""),
                (server.ask("POST", IGNITION, [PULL]), ""), (server.ask("POST", IGNITION, PULL, "text/html"), ""), (server.ask("POST", IGNITION, json.dumps(PULL), "application/json"), "")]
    assert [answer.code for answer, _ in answers[-5:]] == [400, 400, 422, 415, 422], "an unreadable body is refused: " + str(answers[-5:])
    told = [answer for answer, _ in answers if leaks(answer) or private.splitlines()[2] in answer.text]
    assert not told, f"no refusal contains a secret: {told}"
    assert server.ask("GET", CONFIGS).json["metadata"]["resourceVersion"] == version, "a refused request writes nothing"


def test_configs_are_generated_and_keep_their_secret(server, key, place):
    watch = server.watch(f"{CONFIGS}?watch=true")
    generate(server, key)
    refuse(server, key, place)
    events = []
    while (event := watch.next(1)) is not None:
        events.append(event)
    watch.close()
    reads = [server.ask("GET", path) for path in (CONFIGS, f"{CONFIGS}/okd-prod-bootstrap", "/api/v1/timeline", "/metrics", HOSTS)]
    assert events and not leaks(events) and not any(leaks(answer.text) for answer in reads), (
        f"no read, watch or table contains the pull secret: {leaks(events)}")
    log = server.all_logs()
    assert not leaks(log) and key not in log and ("TRACE" in log or "DEBUG" in log), (
        "the trace log contains no secret and no key: " + str([line for line in log.splitlines() if key in line or leaks(line)] or log[-500:]))
    found = [secret for secret in SECRETS if subprocess.run(["grep", "-rqF", secret, server.state]).returncode == 0]
    assert not found, f"no file of the encrypted state contains the pull secret: {found}"
