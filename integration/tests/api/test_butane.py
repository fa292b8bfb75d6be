"""Butane configs are compiled by the command line: what comes out is accepted by ignition-validate, and by the server."""

import json

import pytest

from support import config_validators as validators
from support.objects import CONFIGS

USERS = """passwd:
  users:
    - name: core
      ssh_authorized_keys: [key1]
      ssh_authorized_keys_local: [keys/admin.pub]
      home_dir: /home/core
"""
FILES = """storage:
  files:
    - path: /opt/file
      contents: {inline: "Hello, world!"}
      mode: 0644
      user: {id: 500}
    - path: /opt/local
      contents: {local: local-file}
  trees: [{local: tree, path: /etc/files}]
"""
DISKS = """storage:
  disks:
    - device: /dev/sdb
      wipe_table: true
      partitions: [{number: 1, label: var}]
  filesystems:
    - {path: /var, device: /dev/disk/by-partlabel/var, format: btrfs, wipe_filesystem: true, label: var, with_mount_unit: true}
"""
LUKS = """boot_device:
  luks: {tpm2: true, tang: [{url: "https://tang.example.com", thumbprint: REPLACE}]}
  mirror: {devices: [/dev/sda, /dev/sdb]}
"""
UNITS = """systemd:
  units:
    - name: hello.service
      enabled: true
      contents: |
        [Service]
        ExecStart=/usr/bin/echo "Hello, World!"
        [Install]
        WantedBy=multi-user.target
    - {name: local.service, contents_local: local.service}
"""


@pytest.fixture(scope="module")
def folder(server):
    """A directory with local files."""
    place = server.place / "butane"
    for name, text in {"keys/admin.pub": "ssh-ed25519 AAAA admin\n", "local-file": "local\n", "local.service": "[Service]\nExecStart=/bin/true\n",
                       "tree/file": "plain", "tree/bin/run": "#!/bin/sh\n"}.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    (place / "tree/bin/run").chmod(0o755)
    (place / "tree/bin/link").symlink_to("../file")
    return place


@pytest.mark.parametrize("body", [USERS, FILES, DISKS, LUKS, UNITS], ids=["users", "files", "disks", "boot_device", "units"])
@pytest.mark.parametrize("version", ["fcos 1.3.0", "fcos 1.4.0", "fcos 1.5.0", "openshift 4.12.0"])
def test_what_comes_out_is_valid_ignition(server, folder, version, body):
    variant, number = version.split()
    config = folder / "node.bu"
    config.write_text(f"variant: {variant}\nversion: {number}\n{body}")
    done = server.run("config", "compile", config)
    assert done.returncode == 0 and not done.stderr, done
    compiled = json.loads(done.stdout)
    # ignition-validate of Debian 12 knows the versions up to 3.3.0.
    if compiled["ignition"]["version"] < "3.4":
        is_good, said = validators.ignition(done.stdout)
        assert is_good and "error" not in said, f"{said}\n{done.stdout}"
    assert server.ask("POST", f"{CONFIGS}?dryRun=All", {"metadata": {"name": "b"}, "spec": {"format": "ignition", "data": {"config.ign": done.stdout}}}).code == 201


def test_local_files_and_trees(server, folder):
    (folder / "node.bu").write_text(f"variant: fcos\nversion: 1.5.0\n{FILES}")
    files = json.loads(server.run("config", "compile", folder / "node.bu").stdout)["storage"]
    found = {file["path"]: (file["contents"]["source"], file.get("mode")) for file in files["files"]}
    assert found == {"/opt/file": ("data:,Hello%2C%20world!", 0o644), "/opt/local": ("data:,local%0A", None),
                     "/etc/files/file": ("data:,plain", 0o644), "/etc/files/bin/run": ("data:,%23!%2Fbin%2Fsh%0A", 0o755)}
    assert files["links"] == [{"path": "/etc/files/bin/link", "target": "../file"}]


def test_a_butane_config_is_added_as_ignition(server, folder):
    (folder / "live.bu").write_text(f"variant: fcos\nversion: 1.5.0\n{UNITS}")
    (folder / "target.bu").write_text("variant: fcos\nversion: 1.5.0\nstorage: {files: [{path: /a, contents: {local: local-file}}]}\n")
    added = server.run("config", "add", "node", folder / "live.bu", f"target.bu={folder / 'target.bu'}", "--format", "ignition")
    assert added.returncode == 0, added
    data = server.ask("GET", f"{CONFIGS}/node").json["spec"]["data"]
    assert sorted(data) == ["config.ign", "target.ign"] and all(json.loads(text)["ignition"] == {"version": "3.4.0"} for text in data.values())
    assert server.ask("DELETE", f"{CONFIGS}/node").code == 200


def test_errors_name_the_file_and_the_place(server, folder):
    for body, words in {"storage: {files: [{path: a, mode: 99999}]}": ["/storage/files/0/path: is relative", "/storage/files/0/mode: found 99999"],
                        "storage: {files: [{path: /a, contents: {local: ../outside}}]}": ["storage.files.0.contents.local"],
                        "storage: [": ["invalid YAML"]}.items():
        (folder / "bad.bu").write_text(f"variant: fcos\nversion: 1.5.0\n{body}\n")
        done = server.run("config", "compile", folder / "bad.bu")
        assert done.returncode != 0 and all(word in done.stderr and "bad.bu" in done.stderr for word in words), done
    (folder / "bad.bu").write_text("variant: fcos\nversion: 1.5.0\nfiles: []\n")
    said = server.run("config", "compile", folder / "bad.bu").stderr
    assert "files: unused key" in said and "bad.bu: line " in said, said
