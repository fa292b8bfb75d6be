"""NoCloud seeds, by the library and by `bootlatch seed build`, as cloud-init, blkid and others read them."""

import filecmp
import tempfile

import pytest

from support.iso_images import run, text, write
from support.iso_readers import differences, driver, extracted, grub_reads, isoinfo, refused
from support.programs import bootlatch

CLOUD_INIT = """
import subprocess, sys
from cloudinit import helpers, settings, util
from cloudinit.sources import DataSourceNoCloud as nocloud
cfg = {"datasource": {"NoCloud": {}}, "system_info": {"paths": {"cloud_dir": sys.argv[2], "run_dir": sys.argv[2]}}}
found = subprocess.run(["blkid", "-p", "-o", "export", sys.argv[1]], capture_output=True).stdout.decode().split("\\n")
util.find_devs_with = lambda criteria, *a, **k: [sys.argv[1]] if criteria in found else []
util.mount_cb = lambda device, callback, data: callback(sys.argv[3], data)  # there is no loop device here
nocloud.dmi.read_dmi_data = lambda *a: None
nocloud.util.get_cmdline = lambda: ""
source = nocloud.DataSourceNoCloud(cfg, None, helpers.Paths(cfg["system_info"]["paths"]))
assert source._get_data()
print(source.get_instance_id(), source.metadata["local-hostname"], source.network_config["version"])
print(source.userdata_raw.decode(), end="")
"""
META_DATA = b'instance-id: "i-abc"\nlocal-hostname: "server1"\n'


@pytest.fixture(scope="module")
def files(place):
    """The files of a seed."""
    return {"user-data": write(place / "user", "#cloud-config\nhostname: \"yes\"\npackages: [qemu-guest-agent]\n"),
            "network-config": write(place / "network", "version: 2\nethernets: {eth0: {dhcp4: true}}\n"),
            "vendor-data": write(place / "vendor", "#cloud-config\n" + "# what more than one sector takes\n" * 150 + "{}\n")}


@pytest.fixture(scope="module")
def build_seed(files):
    """A function that makes a seed with the library."""
    def build(out):
        driver("seed", out, "server1", "i-abc", *[f"{name}={path}" for name, path in files.items()])
        return out
    return build


@pytest.fixture(scope="module")
def seed(build_seed, place):
    return build_seed(place / "seed.iso")


def cloud_init_reads(here, seed, material):
    """Returns what cloud-init's own NoCloud data source finds on a medium: instance, host name and network version, and the user-data."""
    found = text("/usr/bin/python3", "-c", CLOUD_INIT, seed, tempfile.mkdtemp(dir=here), extracted(seed, here), env=material.python)
    return found.split("\n", 1)


def test_the_same_files_give_the_same_seed(build_seed, seed, here):
    assert filecmp.cmp(seed, build_seed(here / "again.iso"), shallow=False), "two seeds of the same files have the same bytes"


def test_a_seeds_files_are_read_by_every_name(seed, files, here):
    wanted = {name: path.read_bytes() for name, path in files.items()} | {"meta-data": META_DATA}
    for name, data in wanted.items():
        for how in ("-R", "-J"):
            assert isoinfo(seed, f"/{name}", how) == data, f"isoinfo {how} reads {name}"
        assert grub_reads(seed, f"/{name}") == data, f"GRUB reads {name}"
        assert run("7z", "x", "-so", seed, name) == data, f"7-Zip reads {name}"
    assert differences(here / "nothing", extracted(seed, here)) == wanted, "xorriso extracts these files, and no others"


def test_a_seed_is_labelled_cidata(seed):
    found = text("blkid", "-p", "-o", "export", seed)
    assert "LABEL=cidata\n" in found and "TYPE=iso9660\n" in found, f"blkid finds the label: {found}"
    found = text("isoinfo", "-d", "-i", seed)
    assert "Joliet with UCS level 3 found" in found and "Rock Ridge signatures" in found, f"isoinfo finds both name trees: {found}"


def test_cloud_init_reads_a_seed_of_the_library_and_of_the_command(seed, files, here, material):
    own = here / "own.iso"
    run(bootlatch(), "seed", "build", own, files["user-data"], *[f"{name}={files[name]}" for name in ("network-config", "vendor-data")],
        "--hostname", "server1", "--instance-id", "i-abc")
    for medium in (seed, own):
        names, data = cloud_init_reads(here, medium, material)
        assert (names, data) == ("i-abc server1 2", files["user-data"].read_text()), f"cloud-init reads {medium.name}: {names}, {data}"


def test_the_user_data_fits_cloud_inits_schema(files, material):
    run("/usr/bin/python3", "-m", "cloudinit.cmd.main", "schema", "--config-file", files["user-data"], env=material.python)


def test_a_file_that_no_seed_has_is_refused(files, here):
    message = refused("seed", here / "x.iso", "a", "b", f"other={files['user-data']}")
    assert "meta-data, user-data" in message, f"the possible names are given: {message}"
