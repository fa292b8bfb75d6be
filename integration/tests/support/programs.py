"""Paths of the programs under test and of the programs that help to test them."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def bootlatch():
    """Returns the binary under test."""
    return Path(os.environ["BOOTLATCH"])


def helper(name):
    """Returns a program of integration/tools, such as `iscsi_target`, from BOOTLATCH_TOOLS or next to the binary under test."""
    folder = Path(os.environ.get("BOOTLATCH_TOOLS", bootlatch().resolve().parent))
    assert (folder / name).is_file(), f"{folder} has no {name}: build bootlatch-tools, or set BOOTLATCH_TOOLS to its folder"
    return folder / name
