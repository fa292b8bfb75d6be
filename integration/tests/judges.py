"""Those who say whether a config is one: Debian's ignition-validate and cloud-init, fetched once into integration/.cache and
not installed."""

import json
import subprocess
from pathlib import Path

import iso_images

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "ignition"
VALIDATE = CACHE / "root/usr/bin/ignition-validate"


def fetch():
    iso_images.fetch_material()
    if not VALIDATE.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        get = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", "ignition"]
        if subprocess.run(get, cwd=CACHE, capture_output=True).returncode:
            subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True)
            subprocess.run(get, cwd=CACHE, check=True, capture_output=True)
        subprocess.run(["dpkg-deb", "-x", next(CACHE.glob("ignition_*.deb")), CACHE / "root"], check=True)


def ignition(text):
    """Asks ignition-validate; it says nothing where it finds nothing."""
    done = subprocess.run([VALIDATE, "-"], input=text, capture_output=True, text=True)
    return done.returncode == 0, done.stdout + done.stderr


# What `cloud-init schema --config-file` asks, for many files in one process.
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


def cloud_init(program, told):
    """Runs a program with cloud-init's modules, which reads JSON and ends with a line of JSON."""
    done = subprocess.run(["/usr/bin/python3", "-c", program], input=json.dumps(told), capture_output=True, text=True, env=iso_images.Material.python)
    assert done.returncode == 0, done
    return json.loads(done.stdout.splitlines()[-1])


def cloud_config(texts):
    """Asks cloud-init's schema about user-data: what is wrong with each, or None."""
    return dict(cloud_init(SCHEMA, list(texts)))
