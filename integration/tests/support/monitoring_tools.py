"""Software that reads what the server tells the outside, made by others: CloudEvents and Standard Webhooks libraries, and
Grafana's own types of a dashboard. Downloaded once into integration/.cache.
"""

import functools
import subprocess
import sys
from pathlib import Path

from support.downloads import downloading

PLACE = Path(__file__).resolve().parents[2] / ".cache" / f"monitoring-{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = ["cloudevents==2.2.0", "standardwebhooks==1.1.0", "grafana-foundation-sdk==1769699998!10.1.0"]


@functools.cache
def prepare():
    """Downloads the packages unless they are there, and makes them importable."""
    with downloading(PLACE):
        if not (PLACE / "ready").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", PLACE], check=True)
            subprocess.run([PLACE / "bin/pip", "-q", "install", *PACKAGES], check=True)
            (PLACE / "ready").touch()
    sys.path.extend(str(path) for path in PLACE.glob("lib/python*/site-packages"))


def differences(before, after, path=""):
    """Returns the paths at which two JSON values differ; a key of the second one alone does not count."""
    if isinstance(before, dict) and isinstance(after, dict):
        lost = [f"{path}/{key}" for key in before if key not in after]
        return lost + [found for key in before if key in after for found in differences(before[key], after[key], f"{path}/{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [found for number, pair in enumerate(zip(before, after)) for found in differences(*pair, f"{path}[{number}]")]
    return [] if before == after else [path]


def through_grafana(dashboard):
    """Returns a dashboard as Grafana's types read it and write it again: what they do not know is lost."""
    prepare()
    import json

    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    plugins.register_default_plugins()
    return json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(dashboard)))
