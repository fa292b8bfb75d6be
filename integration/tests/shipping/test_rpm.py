"""The RPM packages: what they say of themselves, and their installation into an empty root by rpm."""

import hashlib
import os
import subprocess

import pytest

from lab.process import tool
from support.packages import EPOCH, package
from support.programs import ROOT, bootlatch


def rpm(*words, check=True):
    done = subprocess.run([tool("rpm"), *map(str, words)], capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def rpms(tmp_path_factory):
    """The packages of the program and of the boot programs, twice."""
    first, second = (package(tmp_path_factory.mktemp("rpm"), "rpm", "--binary", f"amd64={bootlatch()}") for _ in range(2))
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in first] == [hashlib.sha256(path.read_bytes()).hexdigest() for path in second]
    return first


def test_names_and_needs(rpms):
    assert [path.name for path in rpms] == ["bootlatch-0.1.0-1.x86_64.rpm", "bootlatch-firmware-0.1.0-1.noarch.rpm"]
    needs = rpm("-qp", "--requires", rpms[0]).split("\n")
    assert {"systemd", "libc.so.6(GLIBC_2.34)(64bit)", "libc.so.6(GLIBC_ABI_DT_RELR)(64bit)", "libgcc_s.so.1()(64bit)"} <= set(needs), needs
    assert rpm("-qp", "--recommends", rpms[0]).strip() == "bootlatch-firmware"
    assert rpm("-qp", "--qf", "%{BUILDTIME} %{BUILDHOST} %{LICENSE}", rpms[0]) == f"{EPOCH} localhost MIT OR Apache-2.0"


def test_files(rpms):
    files = rpm("-qpl", rpms[0]).split()
    for name in ("/usr/bin/bootlatch", "/usr/lib/systemd/system/bootlatch.service", "/usr/lib/sysusers.d/bootlatch.conf", "/usr/share/man/man5/bootlatch.toml.5.gz",
                 "/usr/share/zsh/site-functions/_bootlatch", "/etc/bootlatch/conf.d", "/usr/share/doc/bootlatch/changelog.gz"):
        assert name in files, name
    assert not [name for name in files if name.endswith("Debian.gz") or "vendor-completions" in name or "lintian" in name]
    assert rpm("-qpc", rpms[0]).split() == ["/etc/bootlatch/bootlatch.toml"]
    licences = rpm("-qp", "--licensefiles", rpms[0]).split()
    assert licences == [f"/usr/share/doc/bootlatch/{name}" for name in ("LICENSE-APACHE", "LICENSE-MIT", "copyright")]
    assert "/usr/share/bootlatch/firmware/undionly.kpxe" in rpm("-qpl", rpms[1]).split()


def test_installation_into_an_empty_root(rpms, tmp_path):
    """Without the scripts, which want a systemd: their text is checked instead."""
    root = tmp_path / "root"
    root.mkdir()
    where = ("--root", root, "--dbpath", "/var/lib/rpm")
    rpm(*where, "--initdb")
    rpm(*where, "-i", "--nodeps", "--noscripts", *rpms)
    assert sorted(rpm(*where, "-qa", "--qf", "%{NAME}\\n").split()) == ["bootlatch", "bootlatch-firmware"]
    assert rpm(*where, "-V", "--nodeps", "bootlatch", "bootlatch-firmware") == ""
    assert "bootlatch 0" in subprocess.run([root / "usr/bin/bootlatch", "--version"], capture_output=True, text=True).stdout
    edited = root / "etc/bootlatch/bootlatch.toml"
    edited.write_text('interface = "eth1"\n')
    rpm(*where, "-U", "--force", "--nodeps", "--noscripts", *rpms)
    assert edited.read_text() == 'interface = "eth1"\n', "an edited configuration is kept"
    rpm(*where, "-e", "--noscripts", "bootlatch", "bootlatch-firmware")
    assert not (root / "usr/bin/bootlatch").exists()
    left = [str(path.relative_to(root)) for path in (root / "etc").rglob("*") if path.is_file()]
    assert left == ["etc/bootlatch/bootlatch.toml.rpmsave"], left


def test_the_scripts_are_valid(rpms, tmp_path):
    text = rpm("-qp", "--scripts", rpms[0])
    assert "systemd-sysusers bootlatch.conf" in text and "systemctl --no-reload preset bootlatch.service" in text and "try-restart" in text
    for kind in ("PREIN", "POSTIN", "PREUN", "POSTUN"):
        script = tmp_path / kind
        script.write_text(rpm("-qp", "--qf", f"%{{{kind}}}", rpms[0]).replace("(none)", ""))
        assert subprocess.run(["sh", "-n", str(script)], env=os.environ).returncode == 0, kind


def test_the_scripts_of_debian_are_valid():
    for path in sorted((ROOT / "packaging/debian").iterdir()):
        assert subprocess.run(["sh", "-n", str(path)]).returncode == 0, path
