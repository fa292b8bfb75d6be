"""Reference validators for configs: Debian's ignition-validate, cloud-init and netplan, downloaded once into integration/.cache and
not installed."""

import functools
import json
import os
import subprocess
from pathlib import Path

from support import iso_images
from support.downloads import downloading

CACHE = Path(__file__).resolve().parents[2] / ".cache/ignition"
VALIDATE = CACHE / "root/usr/bin/ignition-validate"
NETPLAN = CACHE.with_name("netplan")
# The packages with netplan's generator, by the version of Debian.
NETPLAN_PACKAGES = {"12": ("netplan.io", "libnetplan0"), "13": ("netplan-generator", "libnetplan1")}


@functools.cache
def fetch():
    """Downloads both validators unless they are there."""
    with downloading(CACHE):
        download()


def download():
    iso_images.fetch_material()
    if not VALIDATE.exists():
        unpack(CACHE, "ignition")


def unpack(cache, *packages):
    """Downloads packages, and unpacks them into the folder `root` of a cache."""
    cache.mkdir(parents=True, exist_ok=True)
    get = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *packages]
    if subprocess.run(get, cwd=cache, capture_output=True).returncode:
        subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True)
        subprocess.run(get, cwd=cache, check=True, capture_output=True)
    for package in packages:
        subprocess.run(["dpkg-deb", "-x", next(cache.glob(f"{package}_*.deb")), cache / "root"], check=True)


def netplan(place, text):
    """Returns the files for systemd-networkd that netplan generates of a network-config."""
    with downloading(NETPLAN):
        if not (NETPLAN / "root/usr/libexec/netplan/generate").exists():
            unpack(NETPLAN, *NETPLAN_PACKAGES[iso_images.debian()])
    file = place / "netplan/etc/netplan/50.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("network:\n" + "".join(f"  {line}\n" for line in text.splitlines()))
    file.chmod(0o600)
    library = next((NETPLAN / "root").glob("usr/lib/*/libnetplan.so.*")).parent
    done = subprocess.run([NETPLAN / "root/usr/libexec/netplan/generate", "--root-dir", place / "netplan"],
                          capture_output=True, text=True, env={**os.environ, "LD_LIBRARY_PATH": str(library)})
    assert done.returncode == 0, done
    return "".join(file.read_text() for file in sorted((place / "netplan/run/systemd/network").iterdir()))


def ignition(text):
    """Returns whether ignition-validate accepts a config, and what it prints. It prints nothing if it finds nothing."""
    fetch()
    done = subprocess.run([VALIDATE, "-"], input=text, capture_output=True, text=True)
    return done.returncode == 0, done.stdout + done.stderr


# The check of `cloud-init schema --config-file`, for many files in one process.
SCHEMA = """
import json, sys, tempfile
from cloudinit.config.schema import SchemaValidationError, get_schema, validate_cloudconfig_file
schema, verdicts = get_schema(), []
for text in json.load(sys.stdin):
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        try:
            validate_cloudconfig_file(file.name, schema)
            verdicts.append((text, None))
        except (SchemaValidationError, RuntimeError) as error:
            verdicts.append((text, str(error)))
print()
print(json.dumps(verdicts))
"""


def cloud_init(program, values):
    """Runs a Python program with cloud-init's modules. It reads `values` as JSON and prints JSON in its last line."""
    fetch()
    done = subprocess.run(["/usr/bin/python3", "-c", program], input=json.dumps(values), capture_output=True, text=True, env=iso_images.Material.python)
    assert done.returncode == 0, done
    return json.loads(done.stdout.splitlines()[-1])


def cloud_config(texts):
    """Returns what cloud-init's schema finds wrong with each text of user-data, or None."""
    return dict(cloud_init(SCHEMA, list(texts)))
