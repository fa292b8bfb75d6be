"""Secrets are written in every way, and then searched for in everything that the server shows or stores."""

import json
import subprocess

import pytest

from support.bmc_hosts import condition
from support.objects import CONFIGS, HOSTS, IMAGES, basic, config, host, image
from support.waiting import eventually


PASSWORD, CHAP, TARGET_CHAP = "hunter2-bmc-geheim", "initiators-secret-geheim", "targets-secret-geheim"
SITE_CHAP = "sites-secret-geheim"
PULL = "pull-secret-geheim"
SECRETS = [PASSWORD, CHAP, TARGET_CHAP, SITE_CHAP, PULL]
STATUS = {"bmc": {"address": "192.0.2.9", "username": "ADMIN", "password": PASSWORD},
          "chap": {"username": "me", "secret": CHAP, "targetUsername": "it", "targetSecret": TARGET_CHAP}}


@pytest.fixture
def server(start_server):
    """A server with an encrypted state and the most detailed log."""
    server = start_server(environment={"BOOTLATCH_LOG": "trace"})
    (server.place / "state.key").write_text("ab" * 32)
    server.config = f'[store]\nencryption_key_file = "{server.place}/state.key"\n[iscsi.chap]\nusername = "site"\nsecret = "{SITE_CHAP}"\n'
    yield server.restart()
    server.close()


def found(text):
    """Returns the secrets that a text contains."""
    return [secret for secret in SECRETS if secret in str(text)]


def wait_until_the_bmc_was_asked(server, name):
    """Waits for the failure of a BMC that cannot be reached. It is a new version of the host."""
    asked = eventually(lambda: condition(server, name, "PowerKnown")["status"] == "False", 20)
    assert asked, f"the BMC was asked: {server.ask('GET', f'{HOSTS}/{name}')}"


def write(server):
    """Writes the secrets of a host in every way and returns the answers."""
    ask, answers = server.ask, []
    server.iso()
    ask("POST", CONFIGS, config("c"))
    ask("POST", IMAGES, image("live", ["c"]))
    answers.append(ask("POST", HOSTS, host("s", 1, image="live", bootConfigRef="c", **STATUS)))
    wait_until_the_bmc_was_asked(server, "s")
    read = ask("GET", f"{HOSTS}/s").json
    read["spec"].update(STATUS)
    answers.append(ask("PUT", f"{HOSTS}/s", read))
    for kind in ("application/merge-patch+json", "application/json", "application/strategic-merge-patch+json"):
        answers.append(ask("PATCH", f"{HOSTS}/s", {"spec": STATUS}, kind))
    answers.append(ask("PATCH", f"{HOSTS}/s", [{"op": "replace", "path": "/spec/bmc/password", "value": PASSWORD}], "application/json-patch+json"))
    whole = {"apiVersion": "v1", "kind": "BareMetalHost", "metadata": {"name": "s", "namespace": "default"}, "spec": STATUS}
    answers.append(ask("PATCH", f"{HOSTS}/s?fieldManager=test&force=true", json.dumps(whole), "application/apply-patch+yaml"))
    note = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"spec": STATUS})}
    answers.append(ask("PATCH", f"{HOSTS}/s", {"metadata": {"annotations": note}}))
    assert all(answer.code < 300 for answer in answers), f"every way of writing a secret is accepted: {answers}"
    # Operations that would copy a secret to a readable field.
    for step in ({"op": "copy", "from": "/spec/bmc/password", "path": "/metadata/labels/stolen"},
                 {"op": "copy", "from": "/spec/bmc/password", "path": "/spec/bmc/username"},
                 {"op": "copy", "from": "/spec/chap/secret", "path": "/spec/chap/username"},
                 {"op": "move", "from": "/spec/chap/targetSecret", "path": "/spec/bmc/username"}):
        answers.append(ask("PATCH", f"{HOSTS}/s", [step], "application/json-patch+json"))
        answers.append(ask("GET", f"{HOSTS}/s"))
    answers.append(ask("PUT", f"{HOSTS}/s", {**read, "metadata": {"name": "s"}}))
    guess = lambda text: ask("PATCH", f"{HOSTS}/s?dryRun=All", [{"op": "test", "path": "/spec/bmc/password", "value": text}], "application/json-patch+json")
    assert guess(PASSWORD).code == guess("wrong").code == 422, f"a JSON patch's test does not reveal whether a guess is right: {guess(PASSWORD)}"
    assert not found(answers), f"no operation of a JSON patch copies a secret to a readable field: {answers}"
    return answers


def write_confidential_configs(server):
    """Writes a config that contains a secret in every way and returns the answers; only its machine may read it."""
    ask, at, answers = server.ask, f"{CONFIGS}/pull", []
    text = json.dumps({"ignition": {"version": "3.4.0"}, "storage": {"files": [{"path": "/p", "contents": {"source": f"data:,{PULL}"}}]}})
    declared = {**config("pull", text)}
    declared["spec"]["confidential"] = True
    declared["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(declared)}
    answers.append(ask("POST", CONFIGS, declared))
    read = ask("GET", at).json
    assert read["spec"]["data"] == {"config.ign": "REDACTED"}, f"a confidential config is read as REDACTED: {read}"
    back = ask("PUT", at, read)
    assert back.code == 200 and back.json["metadata"]["resourceVersion"] == read["metadata"]["resourceVersion"], f"a PUT of what was read is no change: {back}"
    merged = ask("PATCH", at, {"metadata": {"labels": {"a": "b"}}})
    whole = {"apiVersion": "v1", "kind": "BootConfig", "metadata": {"name": "pull"}, "spec": declared["spec"]}
    applied = [ask("PATCH", f"{at}?fieldManager=m&force=true", json.dumps(whole), "application/apply-patch+yaml") for _ in range(2)]
    assert merged.code == 200 and all(one.code == 200 for one in applied), f"a confidential config can be merged and applied: {(merged, applied)}"
    assert applied[0].json["metadata"]["resourceVersion"] == applied[1].json["metadata"]["resourceVersion"], f"a second apply makes no new version: {applied}"
    steps = lambda *steps: ask("PATCH", at, list(steps), "application/json-patch+json")
    uncovered = [ask("PATCH", at, {"spec": {"confidential": False}}), steps({"op": "remove", "path": "/spec/confidential"}), ask("PUT", at, config("pull")),
                 steps({"op": "copy", "from": "/spec/data/config.ign", "path": "/spec/data/copy"})]
    assert all(one.code == 422 for one in uncovered), f"a confidential config cannot be made readable: {uncovered}"
    answers += [back, merged, *applied, *uncovered, steps({"op": "copy", "from": "/spec/data/config.ign", "path": "/metadata/labels/a"})]
    wrong = [ask("PATCH", at, {"spec": {"data": {"config.ign": bad}}}) for bad in (
        PULL, json.dumps({"ignition": {"version": PULL}}), json.dumps({"ignition": {"version": "3.4.0"}, "storage": PULL}))]
    assert all(one.code == 422 and one.json["details"]["causes"][0]["field"] == "spec.data.config.ign" for one in wrong), (
        f"a refused confidential config is named by its field only: {wrong}")
    ask("POST", HOSTS, host("puller", 40, ip="192.0.2.40", bootConfigRef="pull"))
    given = ask("GET", "/api/v1/bootconfig", token=None, source="192.0.2.40")
    assert given.code == 200 and given.text == text, f"the host receives its confidential config: {given}"
    user_data = f"#cloud-config\nwrite_files:\n- path: /p\n  content: {PULL}\n"
    seed = {"metadata": {"name": "seed"}, "spec": {"format": "cloud-init", "confidential": True, "data": {"user-data": user_data}}}
    answers.append(ask("POST", CONFIGS, seed))
    ask("POST", HOSTS, host("seeded", 41, bootConfigRef="seed"))
    assert ask("GET", f"{HOSTS}/seeded/seed").code == 403, "the seed of a confidential config cannot be read"
    plain = {"metadata": {"name": "bad"}, "spec": {"format": "cloud-init", "data": {"user-data": f"#cloud-config\na: {{b: {PULL}\n"}}}
    answers += [*wrong, ask("POST", CONFIGS, plain)]
    return answers


def write_without_the_secret(server):
    """Sends REDACTED where no secret is stored, or where a stored secret would go to another machine; returns the answers."""
    ask, at, answers = server.ask, f"{HOSTS}/s", []
    patched = lambda body, kind="application/merge-patch+json": ask("PATCH", at, body, kind)

    def refused(what, answer, field="spec.bmc.password"):
        answers.append(answer)
        causes = answer.json.get("details", {}).get("causes", [{}])
        assert answer.code == 422 and causes[0].get("field") == field, f"{what}: {answer}"

    wait_until_the_bmc_was_asked(server, "s")
    read = ask("GET", at).json
    backup = {**read, "metadata": {"name": "copy"}, "spec": {"bootMACAddress": "52:54:00:00:00:63", "bmc": read["spec"]["bmc"]}}
    refused("a backup's REDACTED is refused as a password", ask("POST", HOSTS, backup))
    chap = {**backup, "spec": {"bootMACAddress": "52:54:00:00:00:63", "chap": read["spec"]["chap"]}}
    refused("a backup's REDACTED is refused as a CHAP secret", ask("POST", HOSTS, chap), "spec.chap.secret")
    applied = lambda name, body, query="fieldManager=other": ask("PATCH", f"{HOSTS}/{name}?{query}", json.dumps({**body, "metadata": {"name": name}}), "application/apply-patch+yaml")
    refused("a server-side apply refuses REDACTED as a password", applied("copy", backup))
    ask("POST", HOSTS, host("copy", 99, bmc={"address": "192.0.2.9"}))
    refused("REDACTED is refused for a BMC without a stored password", ask("PATCH", f"{HOSTS}/copy", {"spec": {"bmc": {"password": "REDACTED"}}}))
    ask("DELETE", f"{HOSTS}/copy")
    elsewhere = {"address": "redfish+http://192.0.2.66", **{field: read["spec"]["bmc"][field] for field in ("username", "password")}}
    refused("PUT of another BMC address asks for the password", ask("PUT", at, {**read, "spec": {**read["spec"], "bmc": elsewhere}}))
    refused("a merge patch of another BMC address asks for the password", patched({"spec": {"bmc": {"address": "192.0.2.66"}}}))
    refused("a JSON patch of another BMC address asks for the password", patched([{"op": "replace", "path": "/spec/bmc/address", "value": "192.0.2.66"}], "application/json-patch+json"))
    refused("a server-side apply of another BMC address by another manager asks for the password", applied("s", {"spec": {"bmc": {"address": "192.0.2.66"}}}, "fieldManager=other&force=true"))
    refused("a server-side apply of another BMC address with REDACTED asks for the password", applied("s", {"spec": {"bmc": elsewhere}}, "fieldManager=other&force=true"))
    refused("a dry run of another BMC address asks for the password", ask("PATCH", f"{at}?dryRun=All", {"spec": {"bmc": {"address": "192.0.2.66"}}}))
    refused("another MAC address asks for the CHAP secret", patched({"spec": {"bootMACAddress": "52:54:00:00:00:63"}}), "spec.chap.secret")
    assert ask("GET", at).json["spec"] == read["spec"], f'no refused write changed the host: {ask("GET", at)}'
    spelled = patched({"spec": {"bmc": {"address": "ipmi://192.0.2.9:623"}}})
    assert spelled.code == 200, f"another spelling of the BMC's address keeps the password: {spelled}"
    moved = patched({"spec": {"bmc": {"address": "192.0.2.66", "password": PASSWORD}}})
    back = applied("s", {"spec": STATUS}, "fieldManager=test&force=true")
    answers += [spelled, moved, back]
    assert moved.code == 200 and back.code == 200 and back.json["spec"]["bmc"]["address"] == "192.0.2.9", (
        f"another BMC address with the password is accepted: {(moved, back)}")
    return answers


def errors(server):
    """Yields the answers to invalid requests that contain a secret."""
    ask, at = server.ask, f"{HOSTS}/s"
    yield ask("PATCH", at, {"spec": {"bmc": {"password": [PASSWORD]}}})
    yield ask("PATCH", at, {"spec": {"bmc": {"password": {"value": PASSWORD}}}})
    yield ask("PATCH", at, {"spec": {"chap": {"secret": {CHAP: 1}}}})
    yield ask("PATCH", at, {"spec": {"chap": {"secret": 5, "targetSecret": [TARGET_CHAP]}}})
    yield ask("PATCH", at, {"spec": {**STATUS, "image": "none"}})
    yield ask("POST", HOSTS, host("s", 1, **STATUS))
    yield ask("POST", HOSTS, host("t", 1, **STATUS))
    yield ask("POST", HOSTS, {**host("t", 9, **STATUS), "kind": "BootConfig"})
    yield ask("PUT", at, {**host("s", 1, **STATUS), "metadata": {"name": "s", "resourceVersion": "1"}})
    yield ask("PATCH", at, [{"op": "test", "path": "/spec/bmc/address", "value": PASSWORD}], "application/json-patch+json")
    yield ask("PATCH", at, [{"op": "replace", "path": "/spec/bmc", "value": PASSWORD}], "application/json-patch+json")
    yield ask("PATCH", at, [{"op": "add", "path": "/spec/bmc/password/x", "value": PASSWORD}], "application/json-patch+json")
    yield ask("POST", HOSTS, '{"spec": {"bmc": {"password": "%s"' % PASSWORD, "application/json")
    yield ask("POST", HOSTS, "spec: {bmc: {password: %s" % PASSWORD, "application/yaml")
    yield ask("PATCH", at, {"spec": {"chap": {"username": "me", "secret": "short-" + CHAP[:0]}}})
    yield ask("GET", HOSTS, token=PASSWORD)


def reads(server):
    """Yields the answer to every kind of read."""
    ask = server.ask
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    for plural in (HOSTS, "/api/v1/baremetalhosts", IMAGES, CONFIGS):
        yield ask("GET", plural)
        yield ask("GET", f"{plural}?includeObject=Object", headers=table)
        watch = server.watch(f"{plural}?watch=true")
        yield watch.take(len(ask("GET", plural).json["items"]))
        watch.close()
    for path in (f"{HOSTS}/s", f"{HOSTS}/s/timeline", f"{HOSTS}/s/seed", "/api/v1/timeline", "/metrics", "/version", "/openapi/v3/api/v1", "/openapi/v2", "/", "/ui", "/ui/rows", "/ui/hosts/default/s",
                 "/redfish/v1/Systems/s", "/redfish/v1/Systems", "/redfish/v1/Managers", "/redfish/v1/Managers/s"):
        yield ask("GET", path)
        yield ask("GET", path, token=(server.state / "viewer.token").read_text().strip())
    yield ask("GET", f"{HOSTS}/s", headers=table)
    yield ask("POST", f"{HOSTS}/s/install")
    yield ask("POST", "/redfish/v1/Systems/s/Actions/ComputerSystem.Reset", {"ResetType": "On"}, token=None, headers={"Authorization": basic("a", server.token)})
    # The script's secrets are for the machine; this address is not known to belong to it.
    yield ask("GET", "/ipxe?mac=52-54-00-00-00-01", token=None)
    for words in (("get", "host", "-o", "wide"), ("get", "host", "s", "-o", "yaml"), ("describe", "host", "s"), ("host", "show", "s"), ("host", "timeline", "s", "-o", "json"),
                  ("host", "list", "-o", "json"), ("get", "iso", "-o", "yaml"), ("get", "config", "-o", "json")):
        yield server.run(*words)


def test_secrets_are_never_shown(server):
    before = server.watch(f"{HOSTS}?watch=true&allowWatchBookmarks=true")
    answers = write(server) + write_confidential_configs(server) + write_without_the_secret(server)
    events = []
    while (event := before.next(1)) is not None:
        events.append(event)
    before.close()
    assert not found(answers), f"no answer to a write contains a secret: {answers}"
    assert events and not found(events), f"no watch contains a secret: {events}"
    refused = list(errors(server))
    assert all(answer.code >= 400 for answer in refused), f"each invalid request is refused: {[answer for answer in refused if answer.code < 400]}"
    assert not any(found(answer) for answer in refused), f"no error contains a secret: {[answer for answer in refused if found(answer)]}"
    seen = list(reads(server))
    assert not any(found(answer) for answer in seen), f"no read contains a secret: {[answer for answer in seen if found(answer)]}"
    assert "REDACTED" in server.ask("GET", f"{HOSTS}/s").text, "the host still has its secrets"
    log = server.all_logs()
    assert not found(log) and ("TRACE" in log or "DEBUG" in log), "the trace log contains no secret: " + str((found(log), log[-500:]))
    server.stop()
    grep = lambda: [secret for secret in SECRETS if subprocess.run(["grep", "-rqF", secret, server.state]).returncode == 0]
    assert not grep(), f"no file of the encrypted state contains a secret: {grep()}"
    server.start()


def test_the_state_needs_its_key(server):
    made = server.ask("POST", HOSTS, host("s", 1, **STATUS))
    assert made.code == 201, f"a host with secrets is created: {made}"
    server.stop()
    key = server.place / "state.key"
    for content in ("cd" * 32, None):
        key.write_text(content) if content else key.unlink()
        with pytest.raises(RuntimeError) as ended:
            server.start()
        said = str(ended.value).splitlines()[-1]
        assert ("could not be read" if content else "state.key") in said and "written" not in said, (
            f"without its key the state is not read, and the error says so: {ended.value}")
    key.write_text("ab" * 32)
    server.start()


def test_a_password_is_never_read(server):
    ask = server.ask
    secret = "hunter2-geheim"
    bmc = {"address": "10.0.0.9", "username": "ADMIN", "password": secret}
    made = ask("POST", HOSTS, host("bmc", 20, bmc=bmc))
    note = {"kubectl.kubernetes.io/last-applied-configuration": '{"spec":{"bmc":{"address":"10.0.0.9","password":"%s"}}}' % secret}
    noted = ask("PATCH", f"{HOSTS}/bmc", {"metadata": {"annotations": note}})
    wrong = ask("PATCH", f"{HOSTS}/bmc", {"spec": {"bmc": {"password": 4711004711}}})
    table = ask("GET", f"{HOSTS}?includeObject=Object", headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"})
    watch = server.watch(f"{HOSTS}?watch=true")
    events = watch.take(len(ask("GET", HOSTS).json["items"]))
    watch.close()
    seen = [made, noted, ask("GET", f"{HOSTS}/bmc"), ask("GET", HOSTS), table, events, ask("GET", "/api/v1/timeline")]
    assert all(secret not in str(one) for one in seen), f"no read contains the password: {seen}"
    assert wrong.code == 422 and "4711004711" not in wrong.text, f"an error does not contain the password: {wrong}"
    wait_until_the_bmc_was_asked(server, "bmc")
    back = ask("GET", f"{HOSTS}/bmc").json
    assert ask("PUT", f"{HOSTS}/bmc", back).json["metadata"]["resourceVersion"] == back["metadata"]["resourceVersion"], "a PUT of what was read is no change"
    inline = ask("PATCH", f"{HOSTS}/bmc", {"spec": {"bmc": {"address": f"redfish://ADMIN:{secret}@10.0.0.9"}}})
    assert inline.code == 422 and secret not in inline.text and "spec.bmc.address" in inline.text, (
        f"the refusal of an address does not contain its password: {inline}")
    assert secret not in server.tail(), "the log does not contain the password"
