"""Reference validators for configs: Debian's ignition-validate and cloud-init, downloaded once into integration/.cache and
not installed."""

import functools
import json
import subprocess
from pathlib import Path

from support import iso_images
from support.downloads import downloading

CACHE = Path(__file__).resolve().parents[2] / ".cache/ignition"
VALIDATE = CACHE / "root/usr/bin/ignition-validate"


@functools.cache
def fetch():
    """Downloads both validators unless they are there."""
    with downloading(CACHE):
        download()


def download():
    iso_images.fetch_material()
    if not VALIDATE.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        get = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", "ignition"]
        if subprocess.run(get, cwd=CACHE, capture_output=True).returncode:
            subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True)
            subprocess.run(get, cwd=CACHE, check=True, capture_output=True)
        subprocess.run(["dpkg-deb", "-x", next(CACHE.glob("ignition_*.deb")), CACHE / "root"], check=True)


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
