"""The command line changes objects: delete, apply, diff, edit, wait, and the actions on hosts."""

import json
import os
import subprocess

import pytest

from support.objects import CONFIGS, HOSTS, IMAGES, config, host, image
from support.terminals import answering
from support.waiting import eventually, slowness

pytestmark = pytest.mark.usefixtures("example_objects")

CONFIG = "apiVersion: v1\nkind: BootConfig\nmetadata: {name: %s}\nspec: {format: kickstart, data: {ks.cfg: '# %s'}}\n"


def names(server, *kinds):
    return server.run("get", ",".join(kinds or ("hosts", "isos", "configs")), "-o", "name").stdout.split()


def test_delete_by_name_and_by_manifest(server):
    run, file = server.run, server.place / "objects.yaml"
    file.write_text(run("get", "hosts,isos,configs", "-o", "yaml").stdout)
    dry = run("delete", "-f", file, "--dry-run")
    assert dry.returncode == 0 and dry.stdout.count("deleted (dry run)") == 3 and len(names(server)) == 3, f"a dry run says what is deleted, and deletes nothing: {dry}"
    alone = run("delete", "iso/live", "config/builder", "--dry-run")
    assert alone.returncode == 5 and alone.stdout == "" and alone.stderr.count("in use") == 2, f"what an object of no manifest uses stays in use: {alone}"
    done = run("delete", "-f", file)
    assert done.returncode == 0 and [line.split()[1] for line in done.stdout.splitlines()] == ["one", "live", "builder"], f"delete -f removes users first: {done}"
    assert run("delete", "-f", file).returncode == 4, "what does not exist is not found"
    assert run("delete", "-f", file, "--ignore-not-found").returncode == 0, "unless that is ignored"
    assert run("apply", "-f", file).returncode == 0
    wrong_order = run("delete", "config/builder", "iso/live", "host/one")
    assert wrong_order.returncode == 0 and wrong_order.stdout.count("deleted") == 3, f"delete KIND/NAME removes in any order what belongs together: {wrong_order}"


def test_delete_by_selector(server):
    for number, rack in ((2, "r1"), (3, "r1"), (4, "r2")):
        server.ask("POST", HOSTS, {**host(f"h{number}", number), "metadata": {"name": f"h{number}", "labels": {"rack": rack}}})
    run = server.run
    nothing = run("delete", "hosts")
    assert nothing.returncode == 2 and "--all" in nothing.stderr and len(names(server, "hosts")) == 4, f"a kind alone deletes nothing: {nothing}"
    done = run("delete", "hosts", "-l", "rack=r1")
    assert done.returncode == 0 and done.stdout == "BareMetalHost h2 deleted\nBareMetalHost h3 deleted\n", f"delete -l names what it deletes: {done}"
    assert "no objects found" in run("delete", "hosts", "-l", "rack=r9").stderr, "delete -l says that it found nothing"
    every = run("delete", "hosts", "--all")
    assert every.returncode == 0 and every.stdout.count("deleted") == 2 and names(server, "hosts") == [], f"delete --all asks nothing on a pipe: {every}"
    assert run("delete", "host", "one", "--all").returncode == 2, "names and --all exclude each other"
    assert run("delete", "--all").returncode == 2, "--all needs a kind"


def test_delete_of_manifests_takes_no_selection(server):
    run, file = server.run, server.place / "hosts.yaml"
    run("host", "add", "a", "--mac", "52:54:00:00:02:01", "--namespace", "lab")
    run("host", "add", "a", "--mac", "52:54:00:00:02:02")
    every = lambda: run("get", "hosts", "-A", "-o", "name").stdout.count("\n")
    file.write_text("{apiVersion: v1, kind: BareMetalHost, metadata: {name: a}, spec: {bootMACAddress: '52:54:00:00:02:01'}}")
    for words in (("-l", "rack=r1"), ("--field-selector", "status.phase=Failed"), ("-A",)):
        refused = run("delete", "-f", file, *words)
        assert refused.returncode == 2 and "-f" in refused.stderr and every() == 3, f"{words} with -f is refused: {refused}"
    refused = run("delete", "host", "a", "-A")
    assert refused.returncode == 2 and "--all-namespaces" in refused.stderr and every() == 3, f"a name with -A is refused: {refused}"
    assert run("delete", "-f", file, "-n", "lab").returncode == 0, "-n is the namespace of manifests without one"
    assert server.ask("GET", f"{HOSTS}/a").code == 200 and every() == 2, "and the host of the other namespace stays"
    file.write_text(file.read_text().replace("name: a", "name: a, namespace: default"))
    refused = run("delete", "-f", file, "-n", "lab")
    assert refused.returncode == 2 and "namespace default, not lab" in refused.stderr and every() == 2, f"a manifest of another namespace is refused: {refused}"


def test_delete_by_an_empty_selector(server):
    for words in (("-l", " "), ("-l", ","), ("--field-selector", ","), ("--field-selector", " ,, ")):
        refused = server.run("delete", "hosts", *words)
        assert refused.returncode == 2 and "--all" in refused.stderr and names(server, "hosts") == ["baremetalhost/one"], f"{words} selects nothing: {refused}"


def test_a_kustomization_reads_nothing_outside(server):
    run, place = server.run, server.place / "closed"
    (place / "lab").mkdir(parents=True)
    (place / "out.yaml").write_text(CONFIG % ("out", "out"))
    (place / "lab/link.yaml").symlink_to(place / "out.yaml")
    os.mkfifo(place / "lab/pipe.yaml")
    for resource, word in ((f"{place}/out.yaml", "absolute"), ("../out.yaml", "not below"), ("link.yaml", "not below"), ("pipe.yaml", "regular file"), ("/dev/zero", "absolute")):
        (place / "lab/kustomization.yaml").write_text(f"resources: ['{resource}']\n")
        refused = run("apply", "-k", place / "lab")
        assert refused.returncode == 1 and word in refused.stderr and names(server, "configs") == ["bootconfig/builder"], f"{resource} is refused: {refused}"


def test_apply_of_folders_and_kustomizations(server):
    run, place = server.run, server.place / "site"
    for name in ("base/a.yaml", "base/more/b.yaml", "lab/c.yaml"):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CONFIG % (path.stem, path.stem))
    (place / "base/kustomization.yaml").write_text("resources: [a.yaml]\n")
    (place / "lab/kustomization.yaml").write_text("kind: Kustomization\nresources:\n- ../base\n- c.yaml\n")
    made = run("apply", "-k", place / "lab")
    assert made.returncode == 0 and made.stdout == "BootConfig a created\nBootConfig c created\n", f"apply -k reads the resources: {made}"
    made = run("apply", "-R", "-f", place)
    assert made.returncode == 0 and "BootConfig b created" in made.stdout and made.stdout.count("unchanged") == 2, f"apply -R reads folders in folders: {made}"
    (place / "lab/kustomization.yaml").write_text("resources: [c.yaml]\nnamePrefix: x-\n")
    refused = run("apply", "-k", place / "lab")
    assert refused.returncode == 1 and "namePrefix" in refused.stderr and f"kustomize build {place}/lab | bootlatch apply -f -" in refused.stderr, (
        f"what changes resources is refused with the advice to use kustomize: {refused}")
    assert run("apply").returncode == 2, "apply needs manifests"
    done = run("delete", "-R", "-f", place)
    assert done.returncode == 0 and done.stdout.count("deleted") == 3, f"delete reads the same folders: {done}"


def test_diff(server):
    run = server.run
    kept = run("get", "hosts", "-o", "yaml").stdout
    same = run("diff", "-f", "-", stdin=kept)
    assert (same.returncode, same.stdout) == (0, ""), f"there is no difference: {same}"
    changed = run("diff", "--force", "-f", "-", stdin=kept.replace("bootMode: once", "bootMode: forever"))
    assert changed.returncode == 1 and "-  bootMode: once\n" in changed.stdout and "+  bootMode: forever\n" in changed.stdout, f"a difference is shown: {changed}"
    assert "not compared" not in changed.stderr and server.ask("GET", f"{HOSTS}/one").json["spec"]["bootMode"] == "once", f"and nothing is changed: {changed}"
    new = run("diff", "-f", "-", stdin=CONFIG % ("new", "new"))
    assert new.returncode == 1 and "@@ -0,0 +1," in new.stdout and names(server, "configs") == ["bootconfig/builder"], f"a new object is all added: {new}"
    assert run("diff", "-f", server.place / "missing.yaml").returncode == 2, "a failure has another exit code than a difference"


def test_edit(server):
    run, place = server.run, server.place
    editor = place / "editor"

    def edit(script, *words):
        editor.write_text(f"#!/bin/sh\n{script}\n")
        editor.chmod(0o755)
        return run("edit", *words, EDITOR=str(editor), KUBE_EDITOR="", TMPDIR=str(place))

    same = edit("true", "host/one")
    assert same.returncode == 0 and "unchanged" in same.stdout, f"nothing is written without a change: {same}"
    done = edit("sed -i 's/bootMode: once/bootMode: forever/' $1", "host", "one")
    assert done.returncode == 0 and server.ask("GET", f"{HOSTS}/one").json["spec"]["bootMode"] == "forever", f"a change is written: {done}"
    for script, word in (("sed -i 's/image: live/image: nothing/' $1", "nothing"), ("echo 'spec: [' > $1", "line"), ("sed -i 's/name: one/name: two/' $1", "metadata.name")):
        refused = edit(script, "host/one")
        path = refused.stderr.split("your text is in ")[1].split(": ")[0].strip()
        assert refused.returncode != 0 and word in refused.stderr, f"a wrong text is refused: {refused}"
        assert "bootMode" in open(path).read() or "spec: [" in open(path).read(), f"the text is kept: {refused}"
        assert os.stat(path).st_mode & 0o777 == 0o600, "only its owner reads the text"
    failed = edit("exit 3", "host/one")
    assert failed.returncode == 1 and "editor" in failed.stderr, f"an editor that fails changes nothing: {failed}"


def test_edit_keeps_what_others_changed_meanwhile(server):
    """Another client writes while the editor is open, and the server closes the connection in that time."""
    run, place = server.run, server.place
    editor, other = place / "slow-editor", place / "other.json"
    at = {"EDITOR": str(editor), "KUBE_EDITOR": "", "TMPDIR": str(place)}
    editor.write_text(f"#!/bin/sh\n{server.binary} host assign one --image live --forever >/dev/null || exit 9\nsed -i 's/^  image: live/  image: localboot/' $1\n")
    editor.chmod(0o755)
    lost = run("edit", "host/one", **at)
    assert lost.returncode == 5 and "your text is in" in lost.stderr and "changed" in lost.stderr, f"a change of others is not undone: {lost}"
    spec = server.ask("GET", f"{HOSTS}/one").json["spec"]
    assert (spec["bootMode"], spec["image"]) == ("forever", "live"), f"the object is that of the other client: {spec}"
    # Only the status changes: the text is written.
    editor.write_text(f"#!/bin/sh\n{server.binary} host hold one >/dev/null || exit 9\nsed -i 's/^  bootMode: forever/  bootMode: once/' $1\n")
    assert run("edit", "host/one", **at).returncode == 0 and server.ask("GET", f"{HOSTS}/one").json["spec"]["bootMode"] == "once", "a change of the status hinders nobody"
    # The connection ends while the editor is open.
    begun, go_on = place / "begun", place / "go-on"
    editor.write_text(f"#!/bin/sh\n: > {begun}\nuntil [ -e {go_on} ]; do sleep 0.05; done\nsed -i 's/^  bootMode: once/  bootMode: forever/' $1\n")
    words = [server.binary, "--server", f"unix:{server.state}/api.sock", "edit", "host/one"]
    editing = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **at})
    assert eventually(begun.exists), "the editor is open"
    server.restart()
    go_on.touch()
    said = editing.communicate(timeout=60 * slowness())[0]
    assert editing.returncode == 0 and server.ask("GET", f"{HOSTS}/one").json["spec"]["bootMode"] == "forever", f"the connection is made again: {said}"


def test_wait(server):
    run = server.run
    met = run("wait", "host/one", "--for=phase=Assigned")
    assert met.returncode == 0 and met.stdout == "baremetalhost/one phase=Assigned met\n", f"a state that is there is met: {met}"
    assert run("wait", "iso", "live", "--for=condition=Ready").returncode == 0, "an ISO is ready"
    late = run("wait", "host/one", "--for=condition=Installed", "--timeout=1s")
    assert late.returncode == 1 and "1s (--timeout)" in late.stderr and "Assigned" in late.stderr, f"the end of the time is said, with the state: {late}"
    assert run("wait", "host/nobody", "--for=phase=Held").returncode == 4, "a host that does not exist is not waited for"
    assert run("wait", "host/one", "--for=ready").returncode == 2, "a state that is none is wrong usage"
    several = run("wait", "host/nobody", "host/one", "--for=phase=Assigned")
    assert several.returncode == 4 and "baremetalhost/one phase=Assigned met" in several.stdout, f"wait goes on after a host that does not exist: {several}"
    assert run("wait", "host/one", "--for=phase=Assigned", f"--timeout={2**64 - 1}").returncode == 0, "a huge time is no limit"
    words = [server.binary, "--server", f"unix:{server.state}/api.sock", "wait", "host/one", "--for=delete", "--timeout=60s"]
    waiting = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert run("host", "remove", "one").returncode == 0
    assert waiting.wait(60) == 0 and waiting.stdout.read() == "baremetalhost/one deleted\n", "wait --for=delete ends with the object"


def test_host_add_and_remove(server):
    run = server.run
    made = run("host", "add", "node1", "--mac", "52:54:00:00:01:01", "--label", "rack=r1")
    assert made.returncode == 0 and made.stdout.splitlines()[1].split()[0] == "node1", f"host add shows the host: {made}"
    node = server.ask("GET", f"{HOSTS}/node1").json
    assert node["metadata"]["labels"] == {"rack": "r1"} and node["spec"]["image"] == "localboot", f"host add declares a host: {node}"
    made = run("host", "add", "node2", "--mac", "52:54:00:00:01:02", "--image", "live", "-o", "json")
    assert json.loads(made.stdout)["spec"]["bootConfigRef"] == "builder" and "config builder: the only one" in made.stderr, f"the only config is taken: {made}"
    assert run("host", "add", "node3", "--mac", "52:54:00:00:01:02").returncode == 5, "a MAC address belongs to one host"
    assert run("host", "add", "node3", "--mac", "nonsense").returncode == 2, "a MAC address that is none is wrong usage"
    gone = run("host", "remove", "node1", "52:54:00:00:01:02", "nobody")
    assert gone.returncode == 4 and gone.stdout == "removed node1\nremoved node2\n", f"host remove removes the others: {gone}"


def test_host_assign_takes_the_only_config_or_asks(server):
    run = server.run
    server.ask("POST", IMAGES, image("bare"))
    server.ask("POST", CONFIGS, config("other"))
    server.ask("POST", IMAGES, image("several", ["builder", "other"]))
    assert json.loads(run("host", "assign", "one", "--image", "bare", "-o", "json").stdout)["spec"].get("bootConfigRef", "") == "", "an ISO without configs needs none"
    taken = run("host", "assign", "one", "--image", "live", "-o", "json")
    assert json.loads(taken.stdout)["spec"]["bootConfigRef"] == "builder" and "config builder" in taken.stderr, f"the only config is taken, which is said: {taken}"
    asked = run("host", "assign", "one", "--image", "several")
    assert asked.returncode == 2 and "builder, other" in asked.stderr and "--no-config" in asked.stderr, f"one of several must be named: {asked}"
    assert server.ask("GET", f"{HOSTS}/one").json["spec"]["image"] == "live", "and nothing is changed until then"
    none = run("host", "assign", "one", "--image", "several", "--no-config", "-o", "json")
    assert none.returncode == 0 and json.loads(none.stdout)["spec"].get("bootConfigRef", "") == "", f"--no-config boots the ISO without: {none}"
    again = run("host", "assign", "one", "--image", "several", "--config", "other", "-o", "json")
    kept = run("host", "assign", "one", "--image", "several", "-o", "json")
    assert again.returncode == 0 and json.loads(kept.stdout)["spec"]["bootConfigRef"] == "other", f"the present config stays for the same ISO: {kept}"


def test_questions_on_a_terminal(server):
    server.ask("POST", CONFIGS, config("other"))
    server.ask("POST", IMAGES, image("several", ["builder", "other"]))
    at = {"BOOTLATCH_SERVER": f"unix:{server.state}/api.sock"}
    chosen = answering([server.binary, "host", "assign", "one", "--image", "several", "-o", "json"], "other\n", at)
    assert json.loads(chosen.stdout)["spec"]["bootConfigRef"] == "other" and "builder, other" in chosen.stderr, f"somebody picks one of several configs: {chosen}"
    kept = answering([server.binary, "delete", "hosts", "--all"], "n\n", at)
    assert kept.returncode == 1 and "delete 1 objects (one)?" in kept.stderr and names(server, "hosts") == ["baremetalhost/one"], f"delete --all asks: {kept}"
    assert answering([server.binary, "delete", "hosts", "--all"], "y\n", at).returncode == 0 and names(server, "hosts") == [], "and deletes after a yes"
    file = server.place / "asked.toml"
    made = answering([server.binary, "init", file], "lo\n\nlocalboot\n", at)
    text = file.read_text()
    assert made.returncode == 0 and 'interface = "lo"' in text and 'mode = "proxy"' in text and 'unknown_hosts = "localboot"' in text, f"init asks: {made}"


def test_host_assign_of_nothing(server):
    unknown = server.run("host", "assign", "one", "--image", "nothing")
    assert unknown.returncode == 5 and "nothing does not exist" in unknown.stderr and "iso list" in unknown.stderr, f"an unknown ISO is named, with the next step: {unknown}"
    local = server.run("host", "assign", "one", "--image", "localboot", "-o", "json")
    assert local.returncode == 0 and json.loads(local.stdout)["status"]["phase"] == "LocalBoot", f"localboot is no ISO, and is understood: {local}"


def test_host_power_without_a_bmc(server):
    done = server.run("host", "off", "one")
    assert done.returncode == 5 and "the host has no BMC" in done.stderr and "spec.bmc" in done.stderr, f"a host without a BMC is refused: {done}"
    assert server.run("host", "boot-device", "sideways", "one").returncode == 2, "a device that is none is wrong usage"


def test_configs_of_another_format_are_refused(server):
    run, file = server.run, server.place / "config"
    for text, given, found in (('{"ignition": {"version": "3.4.0"}}', "kickstart", "ignition"), ("#cloud-config\n", "preseed", "cloud-init")):
        file.write_text(text)
        refused = run("config", "add", "wrong", file, "--format", given)
        assert refused.returncode == 5 and f"expected {given}" in refused.stderr and found in refused.stderr, f"a {found} file is no {given}: {refused}"
