"""Chromium for tests, driven by Playwright. Playwright and axe are downloaded once into integration/.cache.

The browser is Debian's (package chromium); Playwright's own is not used.
"""

import contextlib
import functools
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

from support.downloads import downloading
from support.server import PORT
from support.waiting import slowness

PLACE = Path(__file__).resolve().parents[2] / ".cache" / f"browser-{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = ["playwright==1.61.0", "axe-playwright-python==0.1.8"]
PROGRAM = "/usr/bin/chromium"
# A browser of a test looks nothing up and loads nothing of its own.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--force-color-profile=srgb"]
THEMES = ("light", "dark")


def prepare():
    """Downloads the packages unless they are there."""
    with downloading(PLACE):
        if not (PLACE / "ready").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", PLACE], check=True)
            subprocess.run([PLACE / "bin/pip", "-q", "install", *PACKAGES], check=True)
            (PLACE / "ready").touch()


@functools.cache
def module(name):
    """Returns a module of the downloaded packages."""
    prepare()
    found = [str(path) for path in PLACE.glob("lib/python*/site-packages")]
    sys.path.extend(path for path in found if path not in sys.path)
    return importlib.import_module(name)


@contextlib.contextmanager
def chromium():
    """Starts Chromium in the network namespace of the calling thread, with an empty profile."""
    api = module("playwright.sync_api")
    with tempfile.TemporaryDirectory(prefix="bootlatch-browser-", dir="/var/tmp") as profile, api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS, env={"HOME": profile, "TMPDIR": profile})
        try:
            yield browser
        finally:
            browser.close()


class Window:
    """A browser window with cookies of its own. It records what the page logs as errors, and each request."""

    def __init__(self, browser, server, theme="light", width=1366, height=820, port=PORT, scheme="http", address=None):
        self.server = server
        self.base = f"{scheme}://{address or server.address}" + ("" if port == 80 else f":{port}")
        # The certificates of tests are signed by nobody.
        self.context = browser.new_context(base_url=self.base, color_scheme=theme, viewport={"width": width, "height": height},
                                           reduced_motion="reduce", ignore_https_errors=True)
        self.context.set_default_timeout(15000 * slowness())
        self.page = self.context.new_page()
        self.errors, self.requests = [], []
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._note)

    def _note(self, request):
        # Chromium looks up a page's icon again, in its cache, whenever the address changes.
        if not request.url.endswith("/icon.svg"):
            self.requests.append((request.method, request.url.removeprefix(self.base)))

    def log_in(self, token=None, path="/ui/hosts"):
        """Logs in through the form, and waits until the rows are there."""
        self.page.goto(path)
        self.page.get_by_label("Token").fill(token or self.server.token)
        self.page.get_by_role("button", name="Log in").click()
        self.wait_until_live()
        return self.page

    def wait_until_live(self):
        self.page.wait_for_selector("#live[data-state=live]")

    def close(self):
        self.context.close()


def violations(page):
    """Returns what axe finds serious or critical on a page, one line for each element."""
    axe = module("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]]
