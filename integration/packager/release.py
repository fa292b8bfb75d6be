"""What a build is of: version, time and maintainer, taken from the tree and its last commit."""

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAINTAINER = "The bootlatch authors <maintainers@bootlatch.org>"


def git(*arguments):
    done = subprocess.run(["git", "-c", f"safe.directory={ROOT}", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


@dataclass(frozen=True)
class Release:
    """A version and its time, in seconds since 1970. Every file of a package has that time."""

    version: str
    epoch: int
    maintainer: str = MAINTAINER

    @classmethod
    def of_tree(cls, version=None, epoch=None, maintainer=None):
        """The tag of the last commit is the version; without one, that of Cargo.toml with the commit, older than its release."""
        if epoch is None:
            epoch = int(git("log", "-1", "--format=%ct") or (ROOT / "Cargo.toml").stat().st_mtime)
        if version is None:
            released = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
            commit = git("log", "-1", "--format=%h")
            tagged = f"v{released}" in git("tag", "--points-at", "HEAD").split()
            stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(epoch))
            version = released if tagged or not commit else f"{released}~git{stamp}.{commit}"
        return cls(version, epoch, maintainer or MAINTAINER)

    def day(self):
        return time.strftime("%Y-%m-%d", time.gmtime(self.epoch))

    def rfc2822(self):
        return time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(self.epoch))

    def rfc3339(self):
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.epoch))
