"""The static archive: unpacked into a Linux without libraries, it runs."""

import hashlib
import subprocess
import tarfile

from support.packages import EPOCH, package, static_program
from support.programs import ROOT

NAME = "bootlatch-0.1.0-linux-amd64"


def build(out):
    (path,) = package(out, "static", "--static-binary", f"amd64={static_program()}")
    assert path.name == f"{NAME}.tar.gz"
    return path


def test_the_archive_is_the_same_each_time_and_runs_alone(tmp_path):
    first, second = build(tmp_path / "first"), build(tmp_path / "second")
    assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(second.read_bytes()).digest()
    root = tmp_path / "root"
    root.mkdir()
    # The line of the README, into an empty root instead of /.
    subprocess.run(["tar", "-xzf", str(first), "--strip-components=1", "-C", str(root)], check=True)
    said = subprocess.run(["chroot", str(root), "/usr/bin/bootlatch", "--version"], capture_output=True, text=True)
    assert said.returncode == 0 and said.stdout.startswith("bootlatch "), said
    with tarfile.open(first) as tar:
        assert {entry.mtime for entry in tar.getmembers()} == {EPOCH} and {entry.uid for entry in tar.getmembers()} == {0}
        names = tar.getnames()
    for name in ("usr/lib/systemd/system/bootlatch.service", "usr/lib/sysusers.d/bootlatch.conf", "usr/share/bootlatch/firmware/undionly.kpxe", "usr/share/doc/bootlatch/LICENSE-MIT",
                 "usr/share/doc/bootlatch/changelog.gz", "usr/share/doc/bootlatch-firmware/copyright"):
        assert f"{NAME}/{name}" in names, name
    assert not [name for name in names if name.startswith(f"{NAME}/etc")], "it replaces no configuration"
    copyright_file = (root / "usr/share/doc/bootlatch/copyright").read_text()
    assert "Files: glibc/*" in copyright_file and "LGPL-2.1+" in copyright_file


def test_the_configuration_of_the_packages_is_valid():
    done = subprocess.run([str(static_program()), "serve", "--check", "--config", str(ROOT / "packaging/bootlatch.toml")], capture_output=True, text=True)
    assert done.returncode == 0 and "is valid" in done.stdout, done
