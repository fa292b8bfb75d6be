"""Configs are checked as their readers check them: the answers of the server and of ignition-validate and `cloud-init schema`."""

import contextlib
import json
import re
import sqlite3

from support import config_validators as validators
from support.ignition_corpus import Corpus
from support.objects import CONFIGS, HOSTS, delete_all, make_example


def ign(version="3.3.0", **rest):
    return json.dumps({"ignition": {"version": version}, **rest})


def files(*all):
    return {"storage": {"files": list(all)}}


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBootlatch a@b"
IGNITION = [
    *(ign(version) for version in ("3.0.0", "3.1.0", "3.2.0", "3.3.0", "3.4.0-experimental")),
    ign(**files({"path": "/etc/hostname", "mode": 420, "contents": {"source": "data:,x"}})),
    ign(**files({"path": "/a", "user": {"name": "core"}, "append": [{"source": "data:,x"}]})),
    ign(passwd={"users": [{"name": "core", "sshAuthorizedKeys": [KEY], "groups": ["wheel"]}]}),
    ign(systemd={"units": [{"name": "x.service", "enabled": True, "contents": "[Unit]\nDescription=x\n[Install]\nWantedBy=multi-user.target\n"}]}),
    ign(storage={"disks": [{"device": "/dev/sda", "wipeTable": True, "partitions": [{"number": 1, "label": "root", "sizeMiB": 0}]}],
                 "filesystems": [{"device": "/dev/disk/by-partlabel/root", "format": "xfs", "path": "/", "mountOptions": ["ro"]}],
                 "directories": [{"path": "/opt/x", "mode": 493}], "links": [{"path": "/opt/y", "target": "/opt/x", "hard": False}]}),
    ign(storage={"raid": [{"name": "md", "level": "raid1", "devices": ["/dev/sda", "/dev/sdb"]}],
                 "luks": [{"name": "l", "device": "/dev/sdc", "clevis": {"tpm2": True}}]}),
    ign(kernelArguments={"shouldExist": ["quiet"]}), ign("3.2.0", kernelArguments={"shouldExist": ["quiet"]}), ign(no="such key"),
    '{"ignition":{"version":"3.2.0","config":{"merge":[{"source":"http://x/y.ign"}]},"timeouts":{"httpTotal":5},"proxy":{"noProxy":["a"]}}}',
    '{"ignition":{"version":"3.1.0","security":{"tls":{"certificateAuthorities":[{"source":"http://x/ca"}]}}}}',
    # Invalid ones.
    "", "{", "[]", "{}", '{"ignition":{}}', '{"ignition":{"version":3}}', ign("1.0.0"), ign("2.9.0"), ign("4.0.0"), ign("3.8.0-experimental"), ign("3"), ign("x"),
    ign(**files({"path": 1})), ign(**files({"mode": 420})), ign(**files({"path": "/a", "mode": "0644"})), ign(**files({"path": "/a", "mode": 1.5})),
    ign(**files({"path": "/a", "contents": "x"})), ign(**files({"path": "/a", "append": {"source": "data:,x"}})), ign(storage={"files": {"path": "/a"}}), ign(storage=[]),
    ign(passwd={"users": [{"name": "core", "sshAuthorizedKeys": KEY}]}),
    ign(passwd={"users": {"name": "core"}}), ign(passwd={"users": [{"name": "core", "uid": "5"}]}),
    ign(systemd={"units": [{"enabled": True}]}), ign(systemd={"units": [{"name": "x.service", "enabled": "yes"}]}), ign(systemd={"units": "x"}),
    ign(storage={"disks": [{"device": "/dev/sda", "partitions": [{"number": "1"}]}]}), ign(storage={"disks": [{"wipeTable": True}]}),
    ign(storage={"filesystems": [{"format": "xfs"}]}), ign(storage={"links": [{"path": "/a", "target": 5}]}), ign(kernelArguments=["quiet"]),
    '{"ignition":{"version":"3.3.0","config":{"merge":{"source":"http://x"}}}}', '{"ignition":{"version":"3.3.0","timeouts":{"httpTotal":"5"}}}',
    ign() + "x", "# a comment\n" + ign(), ign()[:-1] + ",}",
]
# Systemd and the server refuse a section's name in two lines; Ignition accepts it.
TWO_LINES = ign(systemd={"units": [{"name": "x.service", "contents": "[A\nB]\nC=d"}]})
# Ignition accepts this one, although its specification requires a name.
NAMELESS = ign(passwd={"users": [{"sshAuthorizedKeys": [KEY]}]})
# This version of ignition-validate does not know these.
NEWER = [ign("3.3.0-experimental"), ign("3.6.0-experimental"), ign("3.7.0-experimental"), ign("3.4.0"), ign("3.5.0"), ign("3.6.0"), ign("3.4.0", **files({"path": "/a", "mode": 3565}))]

V2_FILE = {"filesystem": "root", "path": "/etc/hostname", "mode": 420, "contents": {"source": "data:,a"}}
# Flatcar's Ignition alone reads these.
V2 = [ign(version, **files(V2_FILE)) for version in ("2.0.0", "2.1.0", "2.2.0", "2.3.0", "2.4.0")]
V2_WRONG = [ign("2.3.0", storage=[]), ign("2.3.0", **files({"path": "/a"})), ign("2.2.0", systemd={"units": [{"enabled": True}]}), ign("2.5.0")]

CLOUD = [
    "packages: [vim, [git, '2']]\n", "package_update: true\npackage_upgrade: false\n", "users:\n- default\n- name: a\n  ssh_authorized_keys: ['x']\n",
    f"ssh_authorized_keys: ['{KEY}']\n", "write_files:\n- path: /etc/x\n  content: |\n    a\n  permissions: '0644'\n", "runcmd: [ls, [sh, -c, ls]]\nbootcmd: [ls]\n",
    "hostname: a\nfqdn: a.b\nmanage_etc_hosts: localhost\n", "timezone: Europe/Berlin\nlocale: de_DE.UTF-8\n", "ntp: {servers: [a]}\n",
    "power_state: {mode: reboot, delay: now}\n", "phone_home: {url: 'http://x', post: all}\n", "mounts: [[sda1, /mnt]]\n", "disable_root: true\n",
    "growpart: {mode: auto, devices: [/]}\n", "apt: {primary: [{arches: [default], uri: 'http://x'}]}\n", "final_message: done\n", "keyboard: {layout: de}\n",
    "packages: vim\n", "package_update: maybe\n", "package_upgrade: [1]\n", "users: 5\n", "users: [{gecos: x}]\n", "ssh_authorized_keys: x\n", "ssh_authorized_keys: [5]\n",
    "write_files: {path: /a}\n", "write_files: [{content: x}]\n", "write_files: [{path: 5}]\n", "runcmd: ls\n", "bootcmd: {a: b}\n", "hostname: [a]\n", "fqdn: {a: b}\n",
    "timezone: 5\n", "locale: [a]\n", "ntp: [a]\n", "ntp: x\n", "power_state: reboot\n", "phone_home: 'http://x'\n", "mounts: /mnt\n", "disable_root: [true]\n",
    "growpart: auto\n", "apt: x\n", "final_message: [a]\n", "keyboard: de\n", "manage_etc_hosts: [a]\n", "preserve_hostname: 5\n", "swap: 1G\n", "snap: [a]\n",
    "write_files:\n- path: /usr/bin/hello\n  encoding: gzip\n  content: !!binary |\n    H4sIAIDb/U8C/1NW1E/KzNMvzuBKTc7IV8hIzcnJVyjPL8pJ4QIA6N+MVxsAAAA=\n",
    "write_files:\n- path: /etc/motd\n  content: !!binary |\n    aGVsbG8K\n", "final_message: !!binary /w==\n", "runcmd: !!binary /w==\n", "random_seed: {data: !!binary AP8=}\n",
    "write_files: [{path: /a, content: !!binary 1}]\n",
    "disk_setup: [a]\n", "fs_setup: {a: b}\n", "ca_certs: x\n", "chpasswd: x\n", "random_seed: x\n",
]

PART = "--B\nContent-Type: text/cloud-config\n\n#cloud-config\nhostname: a\n--B--\n"
MULTIPART = 'multipart/mixed; boundary="B"\n'
# User data, and whether cloud-init finds anything in it.
USER_DATA = {
    f"Content-Type: {MULTIPART}MIME-Version: 1.0\n\n{PART}": True,
    f"From nobody Sat Jan  1 00:00:00 2022\nContent-Type: {MULTIPART}MIME-Version: 1.0\n\n{PART}": True,
    f"Subject: node7\nMIME-Version: 1.0\nContent-Type: {MULTIPART}\n{PART}": True,
    f"Mime-Version: 1.0\nContent-type: {MULTIPART}\n{PART}": True,
    f"content-type: {MULTIPART}mime-version: 1.0\n\n{PART}": True,
    "MIME-Version: 1.0\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n": True,
    f"Content-Type: {MULTIPART}\n{PART}": False,
    f"Subject: {'x' * 4096}\nContent-Type: {MULTIPART}MIME-Version: 1.0\n\n{PART}": False,
    "\n\n#cloud-config\nhostname: a\n": True, "#Cloud-Config\nhostname: a\n": True, "#!/bin/sh\n": True, "#include\nhttp://192.0.2.1/x\n": False,
    "#cloud-config-archive\n- content: '#!/bin/sh'\n": True, "#cloud-boothook\n#!/bin/sh\n": True, "#part-handler\n": True,
    "## template: jinja\n#cloud-config\nhostname: a\n": True, "hostname: a\n": False, "# cloud-config\nhostname: a\n": False,
}
# cloud-init's own reading of user data: the types of the parts that it would use.
PARTS = """
import json, sys, tempfile
from cloudinit import helpers, user_data
paths = helpers.Paths({"cloud_dir": tempfile.mkdtemp(), "run_dir": tempfile.mkdtemp()})
types = []
for text in json.load(sys.stdin):
    message = user_data.UserDataProcessor(paths).process(text.encode())
    found = [part.get_content_type() for part in message.walk() if not user_data.is_skippable(part)]
    types.append((text, [kind for kind in found if kind not in ("text/plain", "text/x-not-multipart")]))
print()
print(json.dumps(types))
"""


def dry_run(server, form, name, text):
    """Returns the server's answer to a config with one file, without writing it."""
    body = {"metadata": {"name": "c"}, "spec": {"format": form, "data": {name: text}}}
    return server.ask("POST", f"{CONFIGS}?dryRun=All", body)


def test_the_server_agrees_with_the_reference_validators(server):
    verdicts = validators.cloud_config("#cloud-config\n" + text for text in CLOUD)

    def real_cloud(text):
        return verdicts[text] is None, verdicts[text] or ""

    for what, form, name, rows, real, head in (("ignition-validate", "ignition", "config.ign", IGNITION, validators.ignition, ""),
                                               ("cloud-init schema", "cloud-init", "user-data", CLOUD, real_cloud, "#cloud-config\n")):
        differ, good, bad = [], 0, 0
        for text in rows:
            ours, (is_good, said) = dry_run(server, form, name, head + text), real(head + text)
            good, bad = good + is_good, bad + (not is_good)
            if (ours.code == 201) != is_good:
                differ.append((text, ours.code, ours.json.get("message"), said))
            elif ours.code != 201:
                cause = ours.json["details"]["causes"][0]
                if cause["field"] != f"spec.data.{name}" or not cause["message"]:
                    differ.append((text, cause))
        assert not differ and good > 10 and bad > 10, f"{what} and the server agree on {good} valid and {bad} invalid configs: {differ}"


def test_the_server_agrees_with_ignition_on_what_values_mean(server):
    """Of 600 configs; and each place that Ignition calls wrong is in the answer."""
    corpus, differ, good = Corpus(seed=18), [], 0
    for _ in range(600):
        text = json.dumps(corpus.config())
        ours, (is_good, said) = dry_run(server, "ignition", "config.ign", text), validators.ignition(text)
        good += is_good
        found = [] if ours.code == 201 else [cause["message"].split(": ")[0] for cause in ours.json["details"]["causes"]]
        real = [path.replace(".", "/") for path in re.findall(r"^error at \$([^,]*),", said, re.MULTILINE)]
        # Ignition says some faults of one object at two of its keys.
        missed = [path for path in real if not any(one.startswith(path) or path.startswith(one.rpartition("/")[0]) for one in found)]
        if (ours.code == 201) != is_good or missed:
            differ.append((text, ours.code, missed, found, said))
    assert not differ and 150 < good < 450, f"{good} valid; {len(differ)} differ: {differ[:5]}"


def test_all_errors_are_named_with_their_places(server):
    text = json.dumps({"ignition": {"version": "3.4.0"}, "storage": {"files": [{"path": "a"}, {"path": "/b", "mode": "0644"}]}, "systemd": {"units": [{"name": "x"}]}}, indent=1)
    causes = dry_run(server, "ignition", "config.ign", text).json["details"]["causes"]
    found = [cause["message"].split(": ")[0] for cause in causes]
    assert found == ["/storage/files/0/path", "/storage/files/1/mode", "/systemd/units/0/name"], causes
    for cause, value in zip(causes, ('"a"', '"0644"', '"x"')):
        line, column = re.search(r"at line (\d+) column (\d+)$", cause["message"]).groups()
        assert cause["field"] == "spec.data.config.ign" and text.splitlines()[int(line) - 1][int(column) - 1:].startswith(value), cause


def test_known_differences_to_the_reference_validators(server):
    assert dry_run(server, "ignition", "config.ign", TWO_LINES).code == 422 and validators.ignition(TWO_LINES)[0], "known difference: the name of a section in two lines"
    assert dry_run(server, "ignition", "config.ign", NAMELESS).code == 422 and validators.ignition(NAMELESS)[0], "known difference: the server refuses a user without a name"
    for text in NEWER:
        assert dry_run(server, "ignition", "config.ign", text).code == 201, "the server accepts Ignition versions that Debian's ignition-validate does not know"


def test_user_data_is_recognized_as_cloud_init_does(server):
    included = [text for text in USER_DATA if text.startswith("#include")]
    types = dict(validators.cloud_init(PARTS, [text for text in USER_DATA if text not in included]))
    for text, expected in USER_DATA.items():
        answer = dry_run(server, "cloud-init", "user-data", text)
        if text in included:
            assert answer.code == 201, f"what includes URLs is accepted: {answer}"
            continue
        assert bool(types[text]) == expected, f"cloud-init finds parts in {text!r}: {types[text]}"
        assert (answer.code == 201) == expected, f"the server agrees on {text!r}: {answer}"


def test_versions_that_not_every_ignition_reads(server):
    for text in V2:
        answer = dry_run(server, "ignition", "config.ign", text)
        assert answer.code == 201 and not validators.ignition(text)[0], f"specification 2 is accepted, which Debian's Ignition does not read: {answer}"
        assert "Flatcar" in answer.json["status"]["warnings"][0] and "Flatcar" in answer.headers["Warning"], f"with a warning: {answer} {answer.headers}"
    for text in V2_WRONG:
        assert dry_run(server, "ignition", "config.ign", text).code == 422, f"what no Ignition reads is refused: {text}"
    warned = dry_run(server, "ignition", "config.ign", ign("3.4.0-experimental")).json["status"]["warnings"]
    assert len(warned) == 1 and "3.4.0-experimental" in warned[0], f"an experimental version is a warning: {warned}"


def test_a_machine_gets_its_name_in_a_config_of_specification_2(server):
    make_example(server)
    server.ask("PATCH", f"{CONFIGS}/builder", {"spec": {"data": {"config.ign": V2[3]}}})
    server.ask("PATCH", f"{HOSTS}/one", {"spec": {"ip": "192.0.2.7"}})
    server.ask("GET", "/ipxe?mac=52-54-00-00-00-01", token=None, source="192.0.2.7")
    given = server.ask("GET", "/get_ignition", token=None, source="192.0.2.7").json
    assert given["storage"]["files"] == [{**V2_FILE, "contents": {"source": "data:,one"}}], f"the file of the host name is one of the version: {given}"
    delete_all(server)


def test_places_of_errors_and_warnings(server):
    answer = dry_run(server, "ignition", "config.ign", ign("3.4.0", **files({"path": "/a"}, {"path": "/b", "mode": "x"}))).json
    assert "/storage/files/1/mode: found the string" in answer["message"], f"an error names the place by its JSON pointer: {answer}"
    unused = dry_run(server, "ignition", "config.ign", ign("3.2.0", kernelArguments={})).json
    assert unused["status"]["warnings"] == ["config.ign: unused key: $.kernelArguments, in Ignition 3.2.0"], (
        f"a key of another version is a warning in the status: {unused}")


def test_every_way_of_writing_refuses_an_invalid_config(server):
    bad = {"metadata": {"name": "w"}, "spec": {"format": "ignition", "data": {"config.ign": ign(storage=[])}}}
    fine = {"metadata": {"name": "w"}, "spec": {"format": "ignition", "data": {"config.ign": ign()}}}
    server.ask("POST", CONFIGS, fine)
    wrong = json.dumps({"spec": bad["spec"]})
    ways = {
        "POST": server.ask("POST", CONFIGS, {**bad, "metadata": {"name": "v"}}),
        "PUT": server.ask("PUT", f"{CONFIGS}/w", bad),
        "merge patch": server.ask("PATCH", f"{CONFIGS}/w", wrong, "application/merge-patch+json"),
        "plain JSON patch": server.ask("PATCH", f"{CONFIGS}/w", wrong, "application/json"),
        "JSON patch": server.ask("PATCH", f"{CONFIGS}/w", json.dumps([{"op": "replace", "path": "/spec/data/config.ign", "value": ign(storage=[])}]), "application/json-patch+json"),
        "server-side apply": server.ask("PATCH", f"{CONFIGS}/w?fieldManager=t&force=true", wrong, "application/apply-patch+yaml"),
    }
    for way, answer in ways.items():
        assert answer.code == 422 and "/storage: found a list" in answer.text, f"{way}: an invalid config is refused with the place: {answer}"
    file = server.place / "bad.ign"
    file.write_text(ign(storage=[]))
    added = server.run("config", "add", "u", file, "--format", "ignition")
    assert added.returncode == 5 and "/storage: found a list" in added.stderr, f"config add: an invalid config is refused with the place: {added}"
    applied = server.run("apply", "--force", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "BootConfig", **bad}))
    assert applied.returncode == 5 and "/storage: found a list" in applied.stderr, f"apply -f: an invalid config is refused with the place: {applied}"
    assert server.ask("GET", f"{CONFIGS}/w").json["spec"] == fine["spec"], "a refused write changes nothing"
    manifests = server.place / "manifests"
    manifests.mkdir()
    (manifests / "bad.yaml").write_text(json.dumps({"apiVersion": "v1", "kind": "BootConfig", **bad}))
    server.stop()
    server.flags = ["--manifests", str(manifests)]
    server.start()
    assert "/storage: found a list" in server.tail(), f"manifests: an invalid config is refused with the place: {server.tail()}"


def test_the_main_file_of_a_config(server):
    """A config must have the file that an installer asks for first, and every file a name.

    A stored config without its main file stays, and can be corrected or removed.
    """
    server.ask("POST", CONFIGS, {"metadata": {"name": "w"}, "spec": {"format": "ignition", "data": {"config.ign": ign()}}})
    patched = lambda spec: server.ask("PATCH", f"{CONFIGS}/w", {"spec": spec})
    refused = lambda answer, words: answer.code == 422 and answer.json["details"]["causes"][0]["field"] == "spec.data" and words in answer.text
    other = patched({"format": "kickstart"})
    assert refused(other, "ks.cfg") and "config.ign" in other.text, (
        f"a config without its format's main file is refused, and the file is named: {other}")
    gone = patched({"data": {"config.ign": None, "other.ign": ign()}})
    assert refused(gone, "config.ign"), f"the main file cannot be removed: {gone}"
    nameless = patched({"data": {"": "x"}})
    assert refused(nameless, "empty"), f"a file with an empty name is refused: {nameless}"
    lone = server.place / "lone.ign"
    lone.write_text(ign())
    added = server.run("config", "add", "lone", f"lone.ign={lone}", "--format", "ignition")
    assert added.returncode == 5 and "config.ign" in added.stderr, f"config add refuses a config without its main file: {added}"
    seed = server.run("seed", "build", server.place / "seed.iso", f"meta-data={lone}")
    assert seed.returncode != 0 and "user-data" in seed.stderr, f"seed build refuses a seed without its main file: {seed}"
    server.stop()
    with contextlib.closing(sqlite3.connect(server.state / "bootlatch.db")) as state:
        (body,) = state.execute("SELECT body FROM objects WHERE kind = 'BootConfig' AND name = 'w'").fetchone()
        old = json.loads(body)
        old["spec"]["data"] = {"a.ign": ign(), "b": "x"}
        for name in ("w", "old"):
            old["metadata"]["name"] = name
            state.execute("REPLACE INTO objects SELECT kind, namespace, ?, ? FROM objects WHERE kind = 'BootConfig' AND name = 'w'", (name, json.dumps(old)))
        state.commit()
    server.start()
    assert sorted(server.ask("GET", f"{CONFIGS}/old").json["spec"]["data"]) == ["a.ign", "b"], "a stored config without its main file survives a start"
    mended = patched({"data": {"config.ign": ign()}})
    assert mended.code == 200 and "config.ign" in mended.json["spec"]["data"], f"a stored config without its main file can be corrected: {mended}"
    assert server.ask("DELETE", f"{CONFIGS}/old").code == 200 and server.ask("GET", f"{CONFIGS}/old").code == 404, (
        "a stored config without its main file can be removed")
