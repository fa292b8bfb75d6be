"""A NoCloud seed of the host's config: as an iSCSI unit behind its ISO, as a download, and as a file."""

import os
import re
import subprocess

import pytest

from support.iso_uploads import iso_path
from support.objects import IMAGES, image
from support.served_iso import MERGE, boot_script, change_host, read_by_qemu, run

FILES = {"user-data": "#cloud-config\nhostname: node1\n", "network-config": "version: 2\nethernets: {eth0: {dhcp4: true}}\n"}


@pytest.fixture(scope="module")
def seeded(live, place):
    """The server with a cloud-init config that node1 gets as a seed."""
    for name, text in FILES.items():
        (place / name).write_text(text)
    added = live.run("config", "add", "cloud", place / "user-data", f"network-config={place / 'network-config'}", "--format", "cloud-init")
    assert added.returncode == 0, f"a cloud-init config is added: {added}"
    live.ask("PATCH", f"{IMAGES}/live", {"spec": {"bootConfigs": ["cloud"], "configDelivery": "seed"}}, MERGE)
    changed = change_host(live, bootConfigRef="cloud")
    assert changed.code == 200, f"the host gets the config: {changed}"
    return live


@pytest.fixture(scope="module")
def token(seeded):
    """The token in the host's boot script."""
    return re.search(r"/nocloud/([0-9a-f]{44})/", boot_script(seeded))[1]


@pytest.fixture(scope="module")
def seed(seeded, token, place):
    """The downloaded seed."""
    downloaded = seeded.ask("GET", f"/nocloud/{token}/seed.iso", token=None)
    assert downloaded.code == 200 and downloaded.body[32769:32774] == b"CD001", f"the seed can be downloaded with its token: {downloaded.code}"
    (place / "seed.iso").write_bytes(downloaded.body)
    return place / "seed.iso"


@pytest.fixture
def drivers(seeded, bare):
    """A second ISO that goes with the first, for one test."""
    iso_path(seeded, "drivers").write_bytes(bare.read_bytes() + os.urandom(300) * 2048)
    seeded.ask("POST", IMAGES, image("drivers", file="drivers.iso"))
    changed = seeded.ask("PATCH", f"{IMAGES}/live", {"spec": {"companions": ["drivers"]}}, MERGE)
    assert changed.code == 200, f"a second ISO goes with the first: {changed}"
    yield iso_path(seeded, "drivers")
    seeded.ask("PATCH", f"{IMAGES}/live", {"spec": {"companions": None}}, MERGE)


def isoinfo(iso, name, how="-R"):
    return subprocess.run(["isoinfo", how, "-i", iso, "-x", f"/{name}"], capture_output=True, text=True).stdout


def test_another_token_downloads_no_seed(seeded, token, seed):
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    assert seeded.ask("GET", f"/nocloud/{wrong}/seed.iso", token=None).code == 403, "another token downloads no seed"


def test_nocloud_build_writes_the_same_files_but_for_the_machines_token(seeded, token, seed, here):
    built = seeded.run("seed", "build", here / "seed.iso", "--host", "node1")
    assert built.returncode == 0, built
    for name in (*FILES, "meta-data"):
        assert isoinfo(here / "seed.iso", name) == isoinfo(seed, name) != "", f"bootlatch seed build writes the same {name}"
    assert f"/api/v1/report/{token}" in isoinfo(seed, "vendor-data"), "the machine's own seed has cloud-init report"
    assert token.encode() not in (here / "seed.iso").read_bytes(), "whoever reads the API has no token of the machine"


def test_the_seed_is_the_unit_behind_the_iso(seeded, seed, here):
    assert read_by_qemu(here, "live", lun=1) == seed.read_bytes(), "unit 1 is the seed"


def test_the_seed_is_the_unit_behind_a_second_iso(seeded, drivers, seed, here):
    assert read_by_qemu(here, "live", lun=1) == drivers.read_bytes(), "unit 1 is the second ISO"
    assert read_by_qemu(here, "live", lun=2) == seed.read_bytes(), "unit 2 is the seed"


def test_the_seed_is_read_by_blkid_and_isoinfo(seeded, token, seed):
    found = run("blkid", "-p", "-o", "export", seed)
    assert "LABEL=cidata" in found and "TYPE=iso9660" in found, f"blkid finds the label cidata: {found}"
    for name, text in FILES.items():
        assert isoinfo(seed, name, "-J") == text, f"isoinfo reads {name}"
    meta = isoinfo(seed, "meta-data")
    served = seeded.ask("GET", f"/nocloud/{token}/meta-data", token=None).text
    assert meta == served and 'local-hostname: "node1"' in meta, f"its meta-data is that of NoCloud over HTTP: {meta}"


def test_a_seed_of_files_needs_no_server(seeded, place, here):
    built = seeded.run("seed", "build", here / "own.iso", place / "user-data", "--hostname", "box", "--instance-id", "i-1")
    meta = isoinfo(here / "own.iso", "meta-data")
    assert built.returncode == 0 and 'instance-id: "i-1"' in meta and '"box"' in meta, f"a seed is built from files: {built}, {meta}"


def test_a_file_that_no_seed_has_is_refused(seeded, place, here):
    wrong = seeded.run("seed", "build", here / "no.iso", place / "user-data", f"other={place / 'user-data'}")
    assert wrong.returncode == 1 and "network-config" in wrong.stderr and not (here / "no.iso").exists(), f"an unknown file is refused: {wrong}"
