"""Fixtures of the TFTP tests: files to serve, and a server with its clients."""

import os
import tempfile
from pathlib import Path

import pytest

from support.tftp_testbed import SIZES, TftpTestbed


@pytest.fixture(scope="session")
def files():
    """A folder of files to serve; a secret lies outside of it, with links that lead there."""
    with tempfile.TemporaryDirectory(prefix="btftp-") as place:
        Path(place).chmod(0o755)
        files = Path(place, "files")
        files.mkdir()
        for name, size in SIZES.items():
            (files / name).write_bytes(os.urandom(size))
        (files / "text").write_bytes(b"a line\nanother\r\nand \r alone\n" * 200)
        Path(place, "secret").write_text("secret")
        (files / "out").symlink_to("../secret")
        (files / "absolute").symlink_to(Path(place, "secret"))
        yield files


@pytest.fixture(scope="module", params=[False, True], ids=["own-ports", "one-port"])
def testbed(request, files):
    """A server that uses a port for each transfer, and one that uses port 69 for all."""
    with TftpTestbed(files, f"single_port = {str(request.param).lower()}") as testbed:
        testbed.single_port = request.param
        yield testbed
