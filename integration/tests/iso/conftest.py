"""Fixtures of the ISO tests: images, and scratch folders that do not outlive the test."""

import os
import tempfile
from pathlib import Path

import pytest

from support import iso_images, network, served_iso


@pytest.fixture(scope="session")
def material():
    """Debian's installer, memtest86+, GRUB's rescue CD and cloud-init."""
    iso_images.fetch_material()
    return iso_images.Material


@pytest.fixture(scope="session")
def session_place():
    """A scratch folder for the images that all tests read."""
    with tempfile.TemporaryDirectory(prefix="biso-", dir="/var/tmp") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture(scope="session")
def debian(material, session_place):
    """An ISO laid out as Debian's netinst image. Tests must not change it."""
    return iso_images.debian_iso(session_place)


@pytest.fixture(scope="session")
def fedora(session_place):
    """An ISO laid out as Fedora's. Tests must not change it."""
    return iso_images.fedora_iso(session_place)


@pytest.fixture
def here():
    """A scratch folder for one test."""
    with tempfile.TemporaryDirectory(prefix="biso-", dir="/var/tmp") as path:
        yield Path(path)


@pytest.fixture
def view(here):
    """The path of the view that a test makes."""
    return here / "view.iso"


@pytest.fixture(scope="session")
def bootable(session_place):
    """A bootable ISO with menus, a kernel and an EFI partition. Tests must not change it."""
    return served_iso.bootable_iso(session_place)


@pytest.fixture(scope="session")
def bare(session_place):
    """An ISO without a kernel. Tests must not change it."""
    return served_iso.bare_iso(session_place)


@pytest.fixture(scope="module")
def live(start_server, bootable):
    """A server with the ISO "live" and the host node1, which boots it with two arguments.

    Connections that bind no address come from the host's.
    """
    network.connect_from_host_address()
    return served_iso.serve_live(start_server(), bootable)
