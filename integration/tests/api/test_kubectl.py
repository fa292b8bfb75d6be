"""A stock kubectl (Debian trixie's, 1.32) against the object API."""

import re
import subprocess

import pytest

from support.bmc_hosts import condition
from support.following import Following
from support.kubectl import Kubectl, kubectl
from support.objects import HOSTS
from support.server import PORT
from support.waiting import eventually, slowness

pytestmark = pytest.mark.usefixtures("no_objects_left")

MANIFEST = """\
apiVersion: v1
kind: BootConfig
metadata: {name: builder}
spec: {format: ignition, data: {config.ign: '{"ignition":{"version":"3.4.0"}}'}}
---
apiVersion: v1
kind: ISCSICdrom
metadata: {name: live}
spec: {isoFile: x.iso, bootConfigs: [builder]}
---
apiVersion: v1
kind: BareMetalHost
metadata: {name: server1, namespace: default, labels: {rack: RACK}}
spec:
  bootMACAddress: "ac:1f:6b:8a:a7:9c"
  ip: 192.0.2.7
  image: live
  bootConfigRef: builder
  bmc: {address: 192.168.11.10, username: ADMIN, password: hunter2}
"""


@pytest.fixture
def bare(server):
    """kubectl as an admin of a server without objects."""
    server.iso()
    return Kubectl(server)


@pytest.fixture
def k(server, bare):
    """kubectl as an admin of a server with the objects of MANIFEST."""
    made = bare("apply", "-f", "-", stdin=MANIFEST.replace("RACK", "r1"))
    assert made.stdout.count("created") == 3, f"kubectl applies the objects of the tests: {made}"
    # The failure of the BMC, which cannot be reached, is a new version of the host.
    assert eventually(lambda: condition(server, "server1", "PowerKnown")["status"] == "False"), "the BMC was asked"
    return bare


def test_create(server, bare):
    k = bare
    file = server.place / "m.yaml"
    file.write_text(MANIFEST.replace("RACK", "r1"))
    made = k("create", "-f", str(file))
    assert made.stdout.count(" created") == 3, f"create -f creates three objects: {made}"
    assert "AlreadyExists" in k("create", "-f", str(file)).stderr, "a second create is AlreadyExists"
    wrong = k("create", "-f", "-", stdin=MANIFEST.replace("image: live", "picture: live"))
    assert "picture" in wrong.stderr, f"an unknown field is refused by name: {wrong}"


def test_validation(k):
    """--validate is strict by default, warn drops fields with a warning, false drops them silently."""
    odd = "apiVersion: v1\nkind: BareMetalHost\nmetadata: {generateName: odd-}\nspec: {bootMACAddress: '52:54:00:00:00:0NUMBER', picture: x}\n"
    create = lambda number, *words: k("create", *words, "-f", "-", stdin=odd.replace("NUMBER", str(number)))
    strict = create(1)
    assert strict.returncode == 1 and "picture" in strict.stderr, f"create refuses an unknown field: {strict}"
    warned, silent = create(2, "--validate=warn"), create(3, "--validate=false")
    assert "created" in warned.stdout and 'Warning: unknown field "spec.picture"' in warned.stderr, (
        f"create --validate=warn drops an unknown field with a warning: {warned}")
    assert "created" in silent.stdout and silent.stderr == "", f"create --validate=false drops an unknown field without a warning: {silent}"
    names = k("get", "bmh", "-o", "name").stdout.split()
    made = [name for name in names if name.startswith("baremetalhost/odd-")]
    assert len(made) == 2, f"generateName makes a name for each object: {names}"
    dry = k("delete", *made, "--dry-run=server")
    assert dry.stdout.count("server dry run") == 2 and k("get", "bmh", "-o", "name").stdout.split() == names, f"delete --dry-run=server deletes nothing: {dry}"
    dry = k("delete", "bmh", "--all", "--dry-run=server")
    assert dry.returncode == 0 and k("get", "bmh", "-o", "name").stdout.split() == names, f"delete --all --dry-run=server deletes nothing: {dry}"
    wrong = k("label", made[0], "a b=c")
    assert wrong.returncode == 1, f"an invalid label is refused: {wrong}"
    assert k("delete", *made).stdout.count("deleted") == 2, "delete deletes two objects"


def test_reads(k):
    rows = k("get", "bmh").stdout.splitlines()
    assert rows[0].split() == "NAME MAC IP IMAGE CONFIG PHASE POWER AGE".split() and "server1" in rows[1], f"get prints a table with the usual columns: {rows}"
    wide = k("get", "baremetalhosts", "-o", "wide").stdout.splitlines()
    assert {"MODE", "FIRMWARE", "MESSAGE"} <= set(wide[0].split()), f"get -o wide prints more columns: {wide}"
    text = k("get", "host", "server1", "-o", "yaml").stdout
    assert "bootMACAddress: ac:1f:6b:8a:a7:9c" in text and "hunter2" not in text, f"get -o yaml prints the object without the password: {text}"
    assert all(k("get", word).returncode == 0 for word in ("cdrom", "iscsi-cdroms", "ISCSICdrom", "bc", "bootconfigs.v1.")), "get accepts every name of a kind"
    assert "baremetalhost/server1" in k("get", "all").stdout, "get all lists the hosts"
    assert "default" in k("get", "bmh", "-A").stdout, "get -A shows the namespace"
    assert "server1" in k("get", "bmh", "-l", "rack in (r1)").stdout and "No resources" in k("get", "bmh", "-l", "rack!=r1").stderr, "get -l selects by label"
    assert k("get", "bmh", "--field-selector", "spec.ip=::ffff:192.0.2.7", "-o", "name").stdout == "baremetalhost/server1\n", (
        "--field-selector accepts any spelling of an address")
    assert k("get", "bmh", "--field-selector", "spec.bootMACAddress=AC-1F-6B-8A-A7-9C", "-o", "name").stdout == "baremetalhost/server1\n", (
        "--field-selector selects by MAC address")
    described = k("describe", "bmh", "server1").stdout
    assert "Boot MAC Address:  ac:1f:6b:8a:a7:9c" in described and "hunter2" not in described, f"describe prints the host without the password: {described}"
    assert re.search(r"DESCRIPTION:\s+\w", k("explain", "bmh.spec.bootMACAddress").stdout), "explain prints a field's description"
    assert "targetIqn" in k("explain", "cdrom", "--recursive").stdout, "explain --recursive prints nested fields"
    assert "iscsi-cdroms" in k("api-resources").stdout, "api-resources lists the kinds"
    assert "bootlatch" in k("version").stdout, "version prints the server's version"
    assert k("get", "bmh", "nobody").stderr.startswith("Error from server (NotFound)"), "an object that does not exist is NotFound"


def test_tokens_over_plain_http(server, k):
    """Over plain HTTP kubectl never sends a bearer token, and sends the password of the URL."""
    words = lambda url, *more: subprocess.run([str(kubectl()), f"--server={url}", *more, "get", "bmh", "-o", "name"], capture_output=True, text=True,
                                              stdin=subprocess.DEVNULL, env=k.environment)
    silent = words(f"http://127.0.0.1:{PORT}", f"--token={server.token}")
    assert silent.returncode == 1, f"kubectl does not send --token over plain HTTP: {silent}"
    given = words(f"http://any:{server.token}@127.0.0.1:{PORT}")
    assert given.stdout == "baremetalhost/server1\n", f"kubectl sends the password of the URL over plain HTTP: {given}"


def test_other_spellings_are_no_change(server, k):
    """Another spelling of a value, or a secret that is read as REDACTED, is no change and no conflict between managers."""
    text = MANIFEST.replace("RACK", "r1").split("---\n")[2].replace("server1", "other1").replace("192.0.2.7", "FD00:0::9").replace("ac:1f:6b:8a:a7:9c", "AC-1F-6B-8A-A7-9D")
    generation = lambda: server.ask("GET", f"{HOSTS}/other1").json["metadata"]["generation"]
    k("apply", "-f", "-", stdin=text)
    again = k("apply", "-f", "-", stdin=text)
    assert again.returncode == 0 and generation() == 1, f"apply of another spelling and a password is no change: {again}"
    first = k("apply", "--server-side", "--field-manager=one", "--force-conflicts", "-f", "-", stdin=text)
    managed = lambda: server.ask("GET", f"{HOSTS}/other1").json["metadata"]["managedFields"]
    second = k("apply", "--server-side", "--field-manager=two", "-f", "-", stdin=text)
    assert (first.returncode, second.returncode) == (0, 0), f"two managers that apply the same values do not conflict: {(first, second)}"
    before = managed()
    for manager in ("one", "two", "one"):
        k("apply", "--server-side", f"--field-manager={manager}", "-f", "-", stdin=text)
    assert managed() == before and generation() == 1, f"alternating applies of the same values by two managers change nothing: {managed()}"
    k("delete", "bmh", "other1")


def test_changes(server, k):
    file = server.place / "m.yaml"
    file.write_text(MANIFEST.replace("RACK", "r1"))
    assert k("apply", "-f", str(file)).returncode == 0, "a second apply is accepted"
    file.write_text(MANIFEST.replace("RACK", "r2"))
    shown = k("diff", "-f", str(file))
    assert shown.returncode == 1 and "+    rack: r2" in shown.stdout and "hunter2" not in shown.stdout, (
        f"diff shows a label change and no password: {shown.stdout}")
    assert "r1" in k("get", "bmh", "server1", "-L", "rack").stdout, "diff changes nothing"
    assert "configured" in k("apply", "-f", str(file)).stdout, "apply changes the objects"
    assert "serverside-applied" in k("apply", "--server-side", "-f", str(file)).stdout, "apply --server-side is accepted"
    assert k("diff", "--server-side", "-f", str(file)).returncode == 0, "diff --server-side finds no difference after it"
    file.write_text(MANIFEST.replace(", labels: {rack: RACK}", "").replace("  ip: 192.0.2.7\n", ""))
    k("apply", "--server-side", "-f", str(file))
    assert k("get", "bmh", "server1", "-o", "jsonpath={.spec.ip}{.metadata.labels.rack}").stdout == "", "fields left out of a server-side apply are removed"
    other = k("apply", "--server-side", "--field-manager=other", "-f", "-", stdin=MANIFEST.replace("RACK", "r1").replace("image: live", "image: localboot").split("---\n")[2])
    assert other.returncode == 1 and ".spec.image" in other.stderr, f"a conflict with another manager names the field: {other.stderr}"
    for kind, patch in (("merge", '{"spec":{"ip":"192.0.2.7"}}'), ("json", '[{"op":"add","path":"/spec/online","value":true}]'), ("strategic", '{"spec":{"online":false}}')):
        assert "patched" in k("patch", "bmh", "server1", "--type", kind, "-p", patch).stdout, f"patch --type {kind} is accepted"
    assert "labeled" in k("label", "bmh", "server1", "row=7").stdout, "label adds a label"
    assert k("label", "bmh", "server1", "row=8").returncode == 1, "label does not overwrite a label"
    assert "annotated" in k("annotate", "bmh", "server1", "note=x").stdout, "annotate adds an annotation"
    edited = k("edit", "bmh", "server1", EDITOR="sed -i s/192.0.2.7/192.0.2.8/")
    assert "edited" in edited.stdout and k("get", "bmh", "server1", "-o", "jsonpath={.spec.ip}").stdout == "192.0.2.8", f"edit changes the object: {edited}"
    replaced = k("replace", "-f", "-", stdin=k("get", "bmh", "server1", "-o", "yaml").stdout)
    assert "replaced" in replaced.stdout, f"replace accepts what was read: {replaced}"
    wrong = k("patch", "bmh", "server1", "--type", "merge", "-p", '{"spec":{"image":"none"}}')
    assert re.search(r"is invalid: spec\.image: .*ISCSICdrom none\b.*add it first", wrong.stderr), f"a refusal names the field and the next step: {wrong.stderr}"
    assert k("scale", "bmh", "server1", "--replicas=2").returncode == 1, "scale is refused"


def test_a_second_apply_changes_nothing(k):
    """A second apply makes no new version, and kubectl reports "unchanged" for objects without a secret."""
    version = lambda name: k("get", "bmh", name, "-o", "jsonpath={.metadata.resourceVersion}").stdout
    plain = "apiVersion: v1\nkind: BareMetalHost\nmetadata: {name: plain}\nspec: {bootMACAddress: '52:54:00:00:00:09', image: localboot, bootMode: once}\n"
    assert "created" in k("apply", "-f", "-", stdin=plain).stdout, "apply creates a host"
    assert "unchanged" in k("apply", "-f", "-", stdin=plain).stdout, "a second apply is unchanged"
    # A password is read as REDACTED, and an address in one spelling: kubectl sends both again, which is no change.
    spelled = MANIFEST.replace("RACK", "r1").replace("ac:1f:6b:8a:a7:9c", "AC-1F-6B-8A-A7-9C")
    k("apply", "-f", "-", stdin=spelled)

    def changes_nothing(*flags):
        """The host's BMC does not exist: what is found out about it makes a version of its own, at times."""
        for _ in range(5):
            before = version("server1")
            applied = k("apply", *flags, "-f", "-", stdin=spelled)
            if applied.returncode or version("server1") == before:
                break
        return applied.returncode == 0 and version("server1") == before, applied

    is_unchanged, applied = changes_nothing()
    assert is_unchanged, f"a second apply with a password and another spelling of the MAC address makes no new version: {applied}"
    assert applied.stdout.count("unchanged") == 2, f"the objects without a secret are unchanged: {applied.stdout}"
    assert k("diff", "-f", "-", stdin=spelled).returncode == 0, "diff finds no difference"
    served = k("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=spelled)
    assert changes_nothing("--server-side")[0], f"a second server-side apply makes no new version: {served}"
    assert k("diff", "--server-side", "-f", "-", stdin=spelled).returncode == 0, "diff --server-side finds no difference"
    kept = k("get", "bmh", "server1", "-o", "yaml", "--show-managed-fields").stdout
    assert "hunter2" not in kept, f"no output contains the password: {kept}"
    k("delete", "bmh", "plain")


def test_a_backup_has_no_password(server, k):
    """A backup without the password is refused before a BMC is asked with a wrong one."""
    saved = k("get", "bmh", "server1", "-o", "yaml").stdout
    other = saved.replace("name: server1", "name: server9").replace("ac:1f:6b:8a:a7:9c", "ac:1f:6b:8a:a7:99").replace("192.0.2.7", "192.0.2.99")
    made = k("create", "-f", "-", stdin=other)
    assert made.returncode == 1 and "spec.bmc.password: REDACTED" in made.stderr, (
        f"create from get -o yaml asks for the password: {made}")
    assert "created" in k("create", "-f", "-", stdin=other.replace("REDACTED", "hunter2")).stdout, "create from get -o yaml with the password is accepted"
    moved = k("replace", "-f", "-", stdin=saved.replace("192.168.11.10", "192.168.11.66"))
    assert moved.returncode == 1 and "spec.bmc.password: " in moved.stderr and "write the password again" in moved.stderr, (
        f"replace with another BMC address asks for the password: {moved}")
    k("delete", "bmh", "server9")


def test_warnings_about_configs(k):
    odd = "apiVersion: v1\nkind: BootConfig\nmetadata: {name: odd}\nspec: {format: ignition, data: {config.ign: '{\"ignition\":{\"version\":\"3.4.0\"},\"storag\":{}}'}}\n"
    for words in (("create",), ("apply", "--server-side", "--force-conflicts"), ("replace",)):
        done = k(*words, "-f", "-", stdin=odd)
        assert done.returncode == 0 and done.stderr == "Warning: config.ign: unused key: $.storag, in Ignition 3.4.0\n", (
            f"{' '.join(words)} prints the warning for an unused key: {done}")
    k("delete", "bc", "odd")


def test_permissions(server, k):
    viewer = Kubectl(server, (server.state / "viewer.token").read_text().strip())
    for name, one, writes in (("admin", k, "yes"), ("viewer", viewer, "no")):
        who = one("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
        assert who.stdout == name, f"auth whoami of the {name} prints its name: {who}"
        for words, expected in ((("get", "bmh"), "yes"), (("watch", "bc"), "yes"), (("delete", "cdrom/live"), writes), (("patch", "bmh"), writes), (("*", "*"), writes),
                                (("create", "bmh", "--subresource=install"), writes), (("get", "/metrics"), "yes"), (("get", "pods"), "no")):
            can = one("auth", "can-i", *words)
            assert can.stdout.split()[:1] == [expected] and can.returncode == (expected == "no"), (
                f"auth can-i {' '.join(words)} of the {name} prints {expected}: {can}")
        listed = one("auth", "can-i", "--list").stdout
        assert "baremetalhosts" in listed and ("delete" in listed) == (writes == "yes"), f"auth can-i --list of the {name} lists its permissions: {listed}"
    assert viewer("delete", "cdrom", "live").returncode == 1 and k("get", "cdrom", "live").returncode == 0, "the viewer cannot delete what can-i denies"
    plain = k("explain", "bmh", "--output=plaintext-openapiv2")
    assert plain.returncode == 0 and "spec" in plain.stdout, f"explain reads the OpenAPI v2 document: {plain}"


def test_wait_and_watch_follow_an_install(server, k):
    server.ask("PATCH", f"{HOSTS}/server1", {"spec": {"ip": "192.0.2.7"}})
    waiting = k.start("wait", "--for=jsonpath={.status.phase}=Installed", "bmh/server1", k.timeout(30))
    watching = Following([*k.words, "get", "bmh", "-w"], k.environment)
    watching.line(), watching.line()
    server.ask("GET", "/ipxe?mac=ac1f6b8aa79c", token=None, source="192.0.2.7")
    server.ask("GET", "/api/v1/bootconfig", token=None, source="192.0.2.7")
    assert waiting.poll() is None, "wait waits while the host installs"
    server.ask("POST", "/api/v1/boot-complete", token=None, source="192.0.2.7")
    assert "condition met" in waiting.communicate(timeout=40 * slowness())[0] and waiting.returncode == 0, "wait returns when the phase is Installed"
    phases = []
    while phases[-1:] != ["Installed"]:
        phase = watching.line().split()[5]
        phases += [phase] if phases[-1:] != [phase] else []
    watching.end()
    assert phases == ["Offered", "Installing", "Installed"], f"get -w shows each phase: {phases}"


def test_restoring_an_installed_host_starts_no_install(server, k):
    server.ask("GET", "/ipxe?mac=ac1f6b8aa79c", token=None, source="192.0.2.7")
    done = server.ask("POST", "/api/v1/boot-complete", token=None, source="192.0.2.7")
    assert done.code == 200, f"the host is installed: {done}"
    saved = k("get", "bmh", "server1", "-o", "yaml").stdout.replace("password: REDACTED", "password: hunter2")
    forced = k("replace", "--force", "-f", "-", stdin=saved)
    assert ("replaced" in forced.stdout and "Warning: status: " in forced.stderr and "server1 was Installed" in forced.stderr
          and k("get", "bmh", "server1", "-o", "jsonpath={.status.phase}").stdout == "LocalBoot"), (
        f"replace --force of an installed host starts no install, with a warning: {forced}")
    k("delete", "bmh", "server1")
    restored = k("create", "-f", "-", stdin=saved)
    assert "created" in restored.stdout and "server1 was Installed" in restored.stderr and k("get", "bmh", "server1", "-o", "jsonpath={.status.phase}").stdout == "LocalBoot", (
        f"create from a backup of an installed host starts no install, with a warning: {restored}")


def test_delete(k):
    assert "is in use by" in k("delete", "cdrom", "live").stderr, "delete refuses an image that is in use"
    gone = k("delete", "bmh/server1", "cdrom/live", "bc/builder")
    assert gone.stdout.count("deleted") == 3 and gone.returncode == 0, f"delete deletes three objects: {gone}"
