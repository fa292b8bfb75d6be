"""Packages of two versions, in the folder of a LAN."""

import pytest

from support.packages import debs


@pytest.fixture(scope="session")
def versions(tmp_path_factory):
    """The packages of versions 0.1.0 and 0.2.0, by version: the program's and that of the boot programs."""
    folder = tmp_path_factory.mktemp("packages")
    return {version: debs(folder, version) for version in ("0.1.0", "0.2.0")}
