"""The container images: their form, and the image of this machine's architecture run by crun, with a client on its network."""

import hashlib
import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from lab.process import tool
from support.containers import Container, run, unpack
from support.dhcp_appliance import OURS
from support.lan import Lan
from support.packages import EPOCH, FIRMWARE, package, stand_in_program, static_program
from support.programs import ROOT, bootlatch
from support.served_boot import check_boot, is_ready
from support.waiting import eventually

SERVE = ("serve", "--interface", "lan0", "--unknown-hosts", "menu")


def build_images(out):
    """Builds an index of two architectures, and a docker-archive of each. A stand-in is the program of arm64."""
    other = stand_in_program(out / "arm64")
    return package(out, "oci", "--static-binary", f"amd64={static_program()}", "--static-binary", f"arm64={other}")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return build_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def bundle(images, tmp_path_factory):
    return unpack(f"docker-archive:{images[1]}", tmp_path_factory.mktemp("image"))


def test_two_builds_have_the_same_digest(images, tmp_path):
    again = build_images(tmp_path)
    assert [path.name for path in again] == ["bootlatch_0.1.0_oci.tar", "bootlatch_0.1.0_docker_amd64.tar", "bootlatch_0.1.0_docker_arm64.tar"]
    for one, other in zip(images, again, strict=True):
        assert hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest(), one.name


def test_an_index_has_every_architecture(images, tmp_path):
    for architecture in ("amd64", "arm64"):
        found = json.loads(run(tool("skopeo"), "--override-arch", architecture, "inspect", f"oci-archive:{images[0]}"))
        assert (found["Architecture"], found["Os"]) == (architecture, "linux") and found["Labels"]["org.opencontainers.image.version"] == "0.1.0"
        assert len(found["Layers"]) == 1
    config = json.loads(run(tool("skopeo"), "--override-arch", "amd64", "inspect", "--config", f"oci-archive:{images[0]}"))["config"]
    assert config["Entrypoint"] == ["/usr/bin/bootlatch"] and config["Cmd"] == ["serve"] and config["StopSignal"] == "SIGTERM"
    assert "/var/lib/bootlatch" in config["Volumes"] and {"67/udp", "69/udp", "80/tcp", "3260/tcp"} <= set(config["ExposedPorts"])


def test_an_archive_for_routeros_has_one_architecture_and_no_compression(images):
    with tarfile.open(images[2]) as tar:
        listing = json.load(tar.extractfile("manifest.json"))
        assert len(listing) == 1 and listing[0]["RepoTags"] == ["bootlatch:0.1.0"] and len(listing[0]["Layers"]) == 1
        assert json.load(tar.extractfile(listing[0]["Config"]))["architecture"] == "arm64"
        assert {entry.mtime for entry in tar.getmembers()} == {EPOCH}
        with tarfile.open(fileobj=tar.extractfile(listing[0]["Layers"][0]), mode="r:") as layer:
            names = layer.getnames()
            assert {entry.uid for entry in layer.getmembers()} == {0} and {entry.mtime for entry in layer.getmembers()} == {EPOCH}
    assert "usr/bin/bootlatch" in names and "usr/share/bootlatch/firmware/undionly.kpxe" in names and "tmp" in names
    assert "usr/share/doc/bootlatch/copyright" in names and "usr/share/doc/bootlatch-firmware/SOURCES" in names
    assert not [name for name in names if name.startswith(("bin/", "lib/", "usr/lib"))], "from scratch"


def test_a_machine_boots_from_the_container(bundle):
    with Lan("br0") as lan:
        container = Container(lan, lan.client("srv", address=f"{OURS}/24"), bundle, *SERVE)
        check_boot(lan, container.state, FIRMWARE / "snponly.efi")
        status = Path(f"/proc/{container.pid()}/status").read_text()
        assert re.search(r"^Uid:\s+991\b", status, re.M) and re.search(r"^CapEff:\s+0+$", status, re.M), status
        assert container.stop() == 0, container.program.text()
        assert "Permission denied" not in container.program.text()


def test_a_program_that_is_not_static_is_refused(tmp_path):
    done = subprocess.run([str(ROOT / "integration/package"), "oci", "--static-binary", f"amd64={bootlatch()}", "--firmware", str(FIRMWARE), "--out", str(tmp_path)],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "needs shared libraries (libgcc_s.so.1" in done.stderr, done.stderr
    other = stand_in_program(tmp_path / "arm64")
    done = subprocess.run([str(ROOT / "integration/package"), "oci", "--static-binary", f"amd64={other}", "--firmware", str(FIRMWARE), "--out", str(tmp_path)],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "a program of arm64; expected amd64" in done.stderr, done.stderr


def test_what_is_missing_without_capabilities_is_said(bundle):
    with Lan("br0") as lan:
        container = Container(lan, lan.client("srv", address=f"{OURS}/24"), bundle, *SERVE, capabilities=())
        assert eventually(lambda: container.program.process.poll() is not None, 20)
        assert container.program.process.returncode != 0 and "ermission denied" in container.program.text(), container.program.text()


def test_the_state_outlives_the_container(bundle):
    with Lan("br0") as lan:
        space = lan.client("srv", address=f"{OURS}/24")
        for _ in range(2):
            container = Container(lan, space, bundle, *SERVE)
            assert eventually(lambda: is_ready(container.state), 30), container.program.text()
            assert container.stop() == 0
        assert (container.state / "bootlatch.db").stat().st_size > 0


def test_a_stop_during_the_start_ends_with_zero(bundle):
    """Process 1 of a container has no default action for a signal: bootlatch handles it."""
    with Lan("br0") as lan:
        container = Container(lan, lan.client("srv", address=f"{OURS}/24"), bundle, *SERVE)
        assert eventually(lambda: is_ready(container.state), 30), container.program.text()
        assert Path(f"/proc/{container.pid()}/root/usr/bin/bootlatch").exists()
        done = subprocess.run(["grep", "-w", "NSpid", f"/proc/{container.pid()}/status"], capture_output=True, text=True).stdout.split()
        assert done[-1] == "1"
        assert container.stop() == 0
