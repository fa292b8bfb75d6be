"""schemathesis reads the server's OpenAPI document and sends requests that it allows, and many that it does not.

No answer may be a 500, or one that the document does not list.
"""

import os
import subprocess
import sys
from pathlib import Path

from support.downloads import downloading
from support.objects import CONFIGS, HOSTS, IMAGES, config, host, image
from support.server import PORT

CACHE = Path(__file__).resolve().parents[2] / ".cache/schemathesis"
VERSION = "4.32.5"
# It generates the requests; another version would generate others.
MAKER = "hypothesis==6.170.15"
# Requests for each operation. The run takes half a minute on an idle machine.
EXAMPLES = "12"

# A watch has no end and is many documents in one response: test_watch.py tests it.
HOOKS = """\
import schemathesis

@schemathesis.hook
def before_call(context, case, kwargs):
    if case.query and "watch" in case.query:
        case.query = {name: value for name, value in case.query.items() if name != "watch"}
"""


def schemathesis():
    """Returns the path of schemathesis; the first call downloads it."""
    binary = CACHE / VERSION / "bin/schemathesis"
    with downloading(CACHE):
        if not binary.exists():
            subprocess.run([sys.executable, "-m", "venv", CACHE / VERSION], check=True)
            subprocess.run([CACHE / VERSION / "bin/pip", "-q", "install", f"schemathesis=={VERSION}", MAKER], check=True)
    return binary


def test_every_operation_answers_as_documented(server):
    server.iso()
    # Objects with the names that the requests use. Without them most answers would be 404.
    server.ask("POST", CONFIGS, config("0"))
    server.ask("POST", IMAGES, image("0", ["0"]))
    server.ask("POST", HOSTS.replace("default", "0"), {**host("0", 1), "metadata": {"name": "0"}})
    hooks = server.place / "hooks.py"
    hooks.write_text(HOOKS)
    done = subprocess.run(
        [schemathesis(), "run", f"http://127.0.0.1:{PORT}/openapi/v3/api/v1", "--url", f"http://127.0.0.1:{PORT}",
         "--header", f"Authorization: Bearer {server.token}", "--checks", "all",
         # A valid body can name objects that do not exist, and a patch can make an invalid object: both are 422.
         "--exclude-checks", "positive_data_acceptance", "--max-examples", EXAMPLES,
         "--seed", "1", "--generation-deterministic", "--request-timeout", "10",
         "--continue-on-failure", "--no-shrink", "--no-color"],
        cwd=server.place, env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(server.place)}, capture_output=True, text=True)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, f"schemathesis finds nothing: {printed}"
    reached = [line for line in printed.splitlines() if "Tested:" in line]
    assert reached and int(reached[0].split()[-1]) >= 50, f"schemathesis tested at least 50 operations: {reached}"
