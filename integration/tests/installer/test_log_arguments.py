"""The kernel arguments that have installers log to the receiver."""

import re

import pytest

from support import iso_images
from support.objects import HOSTS, IMAGES, host, image

RECEIVER = "127.0.0.1:5514"


@pytest.fixture(scope="module")
def server(start_server):
    return start_server("[syslog]\nenabled = true\nport = 5514\n")


def kernel_lines(server, name, path):
    """Returns the kernel lines of a menu in the view of the host of an ISO."""
    text = server.ask("GET", f"/iso/{name}/{path}?host={name}", token=None, source="192.0.2.7").text
    return re.findall(r"^\s*(?:linux\S*|append)\s.*$", text, re.MULTILINE | re.IGNORECASE)


def serve(server, name, iso, number, **spec):
    (server.state / "isos").mkdir(exist_ok=True)
    (server.state / "isos" / f"{name}.iso").write_bytes(iso.read_bytes())
    assert server.ask("POST", IMAGES, {**image(name, file=f"{name}.iso")}).code == 201
    assert server.ask("POST", HOSTS, host(name, number, image=name, **spec)).code == 201


def test_anaconda_gets_the_receivers_address(server, place):
    serve(server, "fedora", iso_images.fedora_iso(place), 7, ip="192.0.2.7")
    lines = kernel_lines(server, "fedora", "EFI/BOOT/grub.cfg")
    assert lines and all(f"inst.syslog={RECEIVER}" in line for line in lines), lines
    server.ask("PATCH", f"{HOSTS}/fedora", {"spec": {"kernelArguments": ["inst.syslog=192.0.2.99"]}}, "application/merge-patch+json")
    lines = kernel_lines(server, "fedora", "EFI/BOOT/grub.cfg")
    assert lines and all("inst.syslog=192.0.2.99" in line and RECEIVER not in line for line in lines), f"the operator's own receiver: {lines}"


def test_without_the_receiver_nothing_is_added(server):
    with server.configured(""):
        lines = kernel_lines(server, "fedora", "EFI/BOOT/grub.cfg")
        assert lines and not any(RECEIVER in line for line in lines), lines
