"""The command line: every noun and verb, every output format, and exit codes for scripts."""

import json
import os

import pytest

from support.following import Following
from support.objects import IGNITION
from support.server import PORT
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_objects_left")

MANIFEST = """\
apiVersion: v1
kind: BareMetalHost
metadata: {name: server1, labels: {rack: r1}}
spec: {bootMACAddress: "AC:1F:6B:8A:A7:9C", image: live, bootConfigRef: builder}
---
apiVersion: v1
kind: ISCSICdrom
metadata: {name: live}
spec: {isoFile: x.iso, bootConfigs: [builder]}
---
apiVersion: v1
kind: BootConfig
metadata: {name: builder}
spec: {format: ignition, data: {config.ign: '{"ignition":{"version":"3.4.0"}}'}}
"""


def test_apply_and_get(server):
    server.iso()
    run, file = server.run, server.place / "m.yaml"
    file.write_text(MANIFEST)
    dry = run("apply", "-f", file, "--dry-run")
    assert dry.returncode == 5, f"apply --dry-run fails at the first reference to an object that does not exist yet: {dry}"
    made = run("apply", "-f", file)
    assert made.returncode == 0 and made.stdout.count("created") == 3, f"apply creates referenced objects first: {made}"
    beside = [f"{{apiVersion: v1, kind: ISCSICdrom, metadata: {{name: {name}}}, spec: {{isoFile: x.iso, companions: [{companions}]}}}}" for name, companions in (("os", "drivers"), ("drivers", ""))]
    made = run("apply", "-f", "-", stdin="\n---\n".join(beside))
    assert made.returncode == 0 and [line.split()[1] for line in made.stdout.splitlines()] == ["drivers", "os"], f"apply creates a companion ISO first: {made}"
    assert run("apply", "-f", file).stdout.count("unchanged") == 3, "a second apply changes nothing"
    assert "configured" in run("apply", "-f", "-", stdin=MANIFEST.replace("rack: r1", "rack: r2")).stdout, "apply reads standard input"
    table = run("get", "hosts").stdout.splitlines()
    assert table[0].startswith("NAME") and "server1" in table[1], f"get prints a table: {table}"
    assert "FIRMWARE" in run("get", "host", "-o", "wide").stdout, "get -o wide prints more columns"
    assert json.loads(run("get", "iso", "live", "-o", "json").stdout)["kind"] == "ISCSICdrom", "get -o json prints the object"
    assert "kind: BootConfig" in run("get", "config", "builder", "-o", "yaml").stdout, "get -o yaml prints the object"
    assert run("get", "host", "-l", "rack=r2", "-o", "name").stdout == "baremetalhost/server1\n", "get -o name with a label selector prints kind and name"
    assert run("get", "host", "--field-selector", "status.phase=Failed", "-o", "name").stdout == "", (
        "get with a field selector that matches nothing prints nothing")
    assert "assigned" in run("describe", "host", "server1").stdout, "describe shows the timeline"
    rows = lambda text: [line.split()[1:3] for line in text.split("TIME ")[-1].splitlines()[1:]]
    of_iso = eventually(lambda: ["server1", "assigned"] in rows(run("describe", "iso", "live").stdout))
    assert of_iso, "describe of an ISO shows the timeline with the host's name: " + str(run("describe", "iso", "live"))
    of_config = run("describe", "config", "builder")
    assert of_config.returncode == 0 and rows(of_config.stdout) == [] and "TIME" in of_config.stdout, (
        f"describe of a config that nobody fetched shows an empty timeline: {of_config}")


SEVERAL = """\
apiVersion: v1
kind: BareMetalHost
metadata: {name: wrong}
spec: {bootMACAddress: "AC:1F:6B:8A:A7:01", image: none}
---
apiVersion: v1
kind: BootConfig
metadata: {name: shared}
spec: {format: kickstart, data: {ks.cfg: "# theirs"}}
---
apiVersion: v1
kind: BootConfig
metadata: {name: mine}
spec: {format: kickstart, data: {ks.cfg: "# mine"}}
---
apiVersion: v1
kind: BareMetalHost
metadata: {name: right}
spec: {bootMACAddress: "AC:1F:6B:8A:A7:02", image: localboot}
"""


def test_apply_of_several_objects(server):
    """A refused object is named and does not stop the others."""
    run, file = server.run, server.place / "several.yaml"
    file.write_text(SEVERAL)
    other = SEVERAL.split("---\n")[1].replace("# theirs", "# ours")
    owned = server.ask("PATCH", "/api/v1/bootconfigs/shared?fieldManager=kubectl", other, "application/apply-patch+yaml")
    assert owned.code == 201, owned
    done = run("apply", "-f", file)
    assert done.returncode == 5 and done.stdout.count("created") == 2, f"apply continues after a refused object and exits with 5: {done}"
    assert ("BootConfig shared: Apply failed with 1 conflict: " in done.stderr and "BareMetalHost wrong: " in done.stderr
          and "spec.image: " in done.stderr and "2 of 4 objects not applied" in done.stderr), (
        f"apply names each refused object: {done}")
    assert done.stderr.count("--force") == 1, f"apply suggests --force once: {done}"
    file.write_text(SEVERAL.replace("image: none", "image: localboot").replace("spec: {bootMACAddress", "status: {phase: Held}\nspec: {bootMACAddress"))
    done = run("apply", "--force", "-f", file)
    assert done.returncode == 0 and "BootConfig shared configured" in done.stdout, f"apply --force takes over fields of another manager: {done}"
    assert done.stderr.count("warning: status: ") == 1 and "wrong was Held" in done.stderr, f"a warning of the server is printed once: {done}"
    for kind, name in (("host", "right"), ("host", "wrong"), ("config", "shared"), ("config", "mine")):
        assert run("delete", kind, name).returncode == 0, name


def test_apply_without_an_object(server):
    run, empty = server.run, server.place / "empty"
    empty.mkdir()
    for words, stdin in ((("-f", empty), None), (("-f", "-"), "# nothing\n---\n")):
        done = run("apply", *words, stdin=stdin)
        assert done.returncode == 1 and str(words[1]) in done.stderr and "no objects" in done.stderr, (
            f"apply {words[1]} without an object fails and names the source: {done}")


SPELLED = """\
apiVersion: v1
kind: BootConfig
metadata: {name: pull}
spec: {format: ignition, confidential: true, data: {config.ign: '{"ignition":{"version":"3.4.0"}}'}}
---
apiVersion: v1
kind: BareMetalHost
metadata: {name: spelled}
spec:
  bootMACAddress: "AC-1F-6B-00-00-01"
  ip: "FD00:0::7"
  image: ""
  bootConfigRef: ""
  kernelArguments: []
  bmc: {address: 127.0.0.1:9, username: ADMIN, password: hunter2}
  chap: {username: me, secret: a-secret-of-mine}
"""


def test_other_spellings_are_no_change(server):
    """Another spelling of a value, or a secret that is read as REDACTED, is no change."""
    run, file = server.run, server.place / "s.yaml"
    file.write_text(SPELLED)
    generations = lambda: [json.loads(run("get", kind, name, "-o", "json").stdout)["metadata"]["generation"] for kind, name in (("config", "pull"), ("host", "spelled"))]
    made = run("apply", "-f", file)
    assert made.stdout.count("created") == 2, f"apply creates objects with other spellings and secrets: {made}"
    assert run("apply", "-f", file).stdout.count("unchanged") == 2 and generations() == [1, 1], "a second apply of other spellings and secrets changes nothing"
    assert run("apply", "--dry-run", "-f", file).stdout.count("unchanged (dry run)") == 2, "a second apply as a dry run reports no change"
    plain = SPELLED.replace("AC-1F-6B-00-00-01", "ac:1f:6b:00:00:01").replace("FD00:0::7", "fd00::7").replace('image: ""', "image: localboot")
    assert run("apply", "-f", "-", stdin=plain).stdout.count("unchanged") == 2, "a third spelling of the same values is no change"
    secret = run("apply", "-f", "-", stdin=SPELLED.replace("hunter2", "hunter3"))
    assert "BareMetalHost spelled configured" in secret.stdout and generations() == [1, 2], f"another password is a change: {secret}"
    run("delete", "host", "spelled")


def test_a_machine_that_was_never_heard_is_explained(server):
    done = server.run("why", "52:54:00:99:99:99")
    assert done.returncode == 4 and "nothing was heard of its machine" in done.stderr and "rehearse --mac 52:54:00:99:99:99" in done.stderr, done


def test_seed_build(server):
    bad, seed = server.place / "bad.yml", server.place / "seed.iso"
    bad.write_text("#cloud-config\nusers: [\n")
    done = server.run("seed", "build", seed, f"user-data={bad}")
    assert done.returncode == 1 and "bad.yml: " in done.stderr and not seed.exists(), (
        f"seed build refuses an invalid cloud-config and names the file: {done}")
    bad.write_text("#cloud-config\nhostname: a\n")
    done = server.run("seed", "build", seed, f"user-data={bad}")
    assert done.returncode == 0 and seed.exists(), f"seed build accepts a valid cloud-config: {done}"


def test_a_broken_manifest(server):
    """The error must not quote lines of the manifest: they may contain a password."""
    broken = 'apiVersion: v1\nkind: BareMetalHost\nmetadata: {name: h}\nspec:\n  bmc: {address: b, password: hunter2-geheim}\n  ip: [\n'
    done = server.run("apply", "-f", "-", stdin=broken)
    assert done.returncode == 1 and "line" in done.stderr and "geheim" not in done.stderr, (
        f"a broken manifest is refused with its line and without the password: {done}")


def test_warnings_about_configs(server):
    """A config that is valid but odd is accepted with a warning."""
    run, file = server.run, server.place / "odd.ign"
    file.write_text('{"ignition":{"version":"3.4.0"},"storag":{}}')
    said = "bootlatch: warning: config.ign: unused key: $.storag, in Ignition 3.4.0\n"
    added = run("config", "add", "odd", file, "--format", "ignition")
    assert added.returncode == 0 and added.stderr == said and "odd" in added.stdout, f"config add prints the warnings of a config: {added}"
    applied = run("apply", "--force", "-f", "-", stdin="apiVersion: v1\nkind: BootConfig\nmetadata: {name: odd}\nspec: {format: ignition, data: {config.ign: '%s'}}\n" % file.read_text())
    assert applied.returncode == 0 and applied.stderr == said, f"apply prints the warnings of a config: {applied}"
    assert run("config", "show", "odd").stderr == "", "a read prints no warnings"
    run("config", "remove", "odd")
    twice = run("apply", "-f", "-", stdin="apiVersion: v1\nkind: BootConfig\nmetadata: {name: odd}\nmetadata: {name: even}\n")
    assert twice.returncode == 1 and '"metadata"' in twice.stderr and "line 4" in twice.stderr, (
        f"a duplicate key is reported with its line: {twice}")


def test_nouns_and_verbs(server):
    server.iso()
    run = server.run
    assert run("apply", "-f", "-", stdin=MANIFEST).returncode == 0
    file = server.place / "c.ign"
    file.write_text(IGNITION)
    assert run("config", "add", "other", file, "--format", "ignition").returncode == 0, "config add creates a config"
    assert run("config", "add", "other", file, "--format", "ignition").returncode == 5, "config add refuses an existing name"
    assert run("config", "add", "other", file, "--format", "ignition", "--replace").returncode == 0, "config add --replace replaces a config"
    iso = server.state / "isos" / "x.iso"
    added = run("iso", "add", "up", iso, "--config", "other", "-o", "json")
    assert added.returncode == 0 and json.loads(added.stdout)["status"]["volumeID"] == "TINY", f"iso add uploads an ISO: {added}"
    assert {"live", "up"} <= set(run("iso", "list").stdout.split()), "iso list shows the ISOs"
    assigned = run("host", "assign", "server1", "--image", "up", "--config", "other", "--forever", "-o", "json")
    assert json.loads(assigned.stdout)["spec"]["bootMode"] == "forever", f"host assign sets the boot mode: {assigned}"
    assert json.loads(run("host", "localboot", "server1", "-o", "json").stdout)["status"]["phase"] == "LocalBoot", "host localboot makes the host boot its disk"
    assert "Held" in run("host", "hold", "server1").stdout, "host hold holds the host"
    events = json.loads(run("host", "timeline", "server1", "-o", "json").stdout)
    assert [e["event"] for e in events][-2:] == ["local_boot_requested", "held"] and {"time", "mac", "host", "detail"} <= set(events[0]), (
        f"host timeline -o json prints an array of events: {events}")
    assert run("iso", "remove", "up").returncode == 5, "iso remove refuses an ISO that a host uses"
    every = run("host", "list", "-A").stdout.splitlines()
    assert every[0].split()[0] == "NAMESPACE" and every[1].split()[:2] == ["default", "server1"], f"host list -A shows the namespaces: {every}"
    run("apply", "-f", "-", stdin=MANIFEST.split("---")[0].replace("server1", "server2").replace("9C", "9D"))
    some = run("delete", "host", "zz", "server2", "yy")
    assert some.returncode == 4 and "server2 deleted" in some.stdout and "zz" in some.stderr and "yy" in some.stderr, (
        f"delete continues after an object that does not exist, and exits with 4: {some}")
    assert run("delete", "host", "server1").returncode == 0 and run("iso", "remove", "up").returncode == 0, "delete and iso remove succeed"


def test_watch(server):
    server.iso()
    words = [server.binary, "watch", "hosts", "-o", "json"]
    environment = {**os.environ, "BOOTLATCH_SERVER": f"unix:{server.state}/api.sock"}
    watching = Following(words, environment)
    try:
        server.run("apply", "-f", "-", stdin=MANIFEST)
        first = json.loads(watching.line())
        assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "server1"), f"watch prints a new object: {first}"
        server.restart()
        server.run("apply", "-f", "-", stdin=MANIFEST.replace("rack: r1", "rack: r9"))
        # The watch may report earlier objects first.
        watching.until(lambda line: json.loads(line)["object"]["metadata"].get("labels") == {"rack": "r9"})
        assert watching.process.poll() is None, "watch continues after a restart of the server"
    finally:
        watching.end()


def test_exit_codes(server):
    run = server.run
    assert run("host", "show", "nobody").returncode == 4 and run("get", "host", "nobody").returncode == 4, "not found exits with 4"
    assert run("host", "frobnicate").returncode == 2, "wrong usage exits with 2"
    url = f"http://127.0.0.1:{PORT}"
    assert run("get", "hosts", BOOTLATCH_SERVER=url).returncode == 6, "a missing token exits with 6"
    token = server.state / "admin.token"
    assert run("--token-file", token, "get", "hosts", BOOTLATCH_SERVER=url).returncode == 0, "--token-file is accepted"
    empty = server.place / "empty.token"
    empty.write_text("\n")
    done = run("--token-file", empty, "get", "hosts", BOOTLATCH_SERVER=url)
    assert done.returncode == 1 and str(empty) in done.stderr, f"an empty token file is named: {done}"
    gone = run("get", "hosts", BOOTLATCH_SERVER="http://127.0.0.1:9")
    assert gone.returncode == 3 and "http://127.0.0.1:9" in gone.stderr, f"a server that does not answer exits with 3 and is named: {gone}"
    serve = run("serve", "--help").stdout
    assert "menu" in serve and "--token-file" not in serve and "--server" not in serve, f"serve --help lists only the options that apply: {serve}"
    assert "3 the server does not answer" in " ".join(run("--help").stdout.split()), "--help lists the exit codes"


def test_completions_and_man_pages(server):
    for shell in ("bash", "zsh", "fish"):
        assert "_BOOTLATCH_COMPLETE" in server.run("completions", shell).stdout, f"completions of {shell} are printed"
    server.run("man", server.place / "man")
    written = {page.name for page in (server.place / "man").iterdir()}
    assert {"bootlatch.1", "bootlatch-serve.1", "bootlatch-host-assign.1"} <= written, f"man pages are written: {written}"
    page = (server.place / "man" / "bootlatch-get.1").read_text()
    headings = [line[4:].strip('"') for line in page.splitlines() if line.startswith(".SH")]
    assert headings[:2] == ["NAME", "SYNOPSIS"] and {"DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS"} <= set(headings), f"a man page has the usual headings: {headings}"
