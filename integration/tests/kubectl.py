"""A stock kubectl (Debian trixie's, 1.32), fetched once into integration/.cache."""

import os
import subprocess
from pathlib import Path

from api_world import PORT

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".cache" / "kubectl"
FETCH = """
set -euo pipefail
. "$1/firmware/debian-suite.sh"
cd "$2"
suite_open "$2/apt" trixie
suite_fetch "$2/apt" kubectl
dpkg-deb -x kubectl_1.32*.deb root
rm -rf apt kubectl_*.deb
"""


def kubectl():
    binary = CACHE / "root/usr/bin/kubectl"
    if not binary.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["bash", "-c", FETCH, "fetch", str(HERE.parent.parent), str(CACHE)], check=True, stdout=subprocess.DEVNULL)
    return binary


BINARY = kubectl() if os.environ.get("BAPI_INSIDE") != str(os.getpid()) else CACHE / "root/usr/bin/kubectl"


class Kubectl:
    """Calls kubectl as an admin of a server; nothing of the caller's own configuration counts."""

    def __init__(self, server):
        self.words = [str(BINARY), f"--server=http://admin:{server.token}@127.0.0.1:{PORT}"]
        self.environment = {"HOME": str(server.place), "KUBECONFIG": "/dev/null", "PATH": os.environ["PATH"]}

    def __call__(self, *words, stdin=None, **environment):
        done = subprocess.run([*self.words, *words], input=stdin, capture_output=True, text=True, timeout=60,
                              env={**self.environment, **environment})
        return done

    def start(self, *words):
        return subprocess.Popen([*self.words, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment)
