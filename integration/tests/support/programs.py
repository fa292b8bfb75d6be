"""Paths of the programs under test and of the programs that help to test them."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def bootlatch():
    """Returns the binary under test."""
    return Path(os.environ["BOOTLATCH"])


def helper(name):
    """Returns a helper program of this repository that the test command has built, such as `iscsi_target`.

    It is looked for in BOOTLATCH_TOOLS, then in the Cargo target directory of the binary under test.
    """
    built = bootlatch().resolve().parent
    folders = [Path(os.environ["BOOTLATCH_TOOLS"])] if "BOOTLATCH_TOOLS" in os.environ else [built, built / "examples"]
    found = [folder / name for folder in folders if (folder / name).is_file()]
    assert found, f"{name} is in none of {', '.join(map(str, folders))}: build it, or name its folder in BOOTLATCH_TOOLS"
    return found[0]
