"""A stock kubectl (Debian trixie's, 1.32), downloaded once into integration/.cache."""

import functools
import os
import subprocess
from pathlib import Path

from support.downloads import downloading
from support.server import PORT
from support.waiting import slowness

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / "integration/.cache/kubectl"
FETCH = """
set -euo pipefail
. "$1/firmware/debian-suite.sh"
cd "$2"
suite_open "$2/apt" trixie
suite_fetch "$2/apt" kubectl
dpkg-deb -x kubectl_1.32*.deb root
rm -rf apt kubectl_*.deb
"""


@functools.cache
def kubectl():
    """Returns the path of kubectl; the first call downloads it."""
    binary = CACHE / "root/usr/bin/kubectl"
    with downloading(CACHE):
        if not binary.exists():
            CACHE.mkdir(exist_ok=True)
            subprocess.run(["bash", "-c", FETCH, "fetch", str(ROOT), str(CACHE)], check=True, stdout=subprocess.DEVNULL)
    return binary


class Kubectl:
    """Runs kubectl as an admin of a server, without the caller's own configuration."""

    def __init__(self, server, token=None):
        self.words = [str(kubectl()), f"--server=http://admin:{token or server.token}@{server.address}:{PORT}"]
        self.environment = {"HOME": str(server.place), "KUBECONFIG": "/dev/null", "PATH": os.environ["PATH"]}

    def __call__(self, *words, stdin=None, **environment):
        return subprocess.run([*self.words, *words], input=stdin, capture_output=True, text=True, timeout=60 * slowness(),
                              env={**self.environment, **environment})

    def timeout(self, seconds):
        """Returns the option --timeout for a number of seconds on the reference machine."""
        return f"--timeout={round(seconds * slowness())}s"

    def start(self, *words):
        """Starts kubectl without waiting for its end."""
        return subprocess.Popen([*self.words, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment)
