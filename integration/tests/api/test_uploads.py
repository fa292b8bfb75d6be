"""Uploads of ISOs."""

import os

import pytest

from support.objects import IMAGES

pytestmark = pytest.mark.usefixtures("example_objects")


def test_uploads(server):
    iso = (server.state / "isos" / "x.iso").read_bytes()
    ask = server.ask
    made = ask("POST", f"{IMAGES}/upload?name=up&bootConfig=builder", iso, "application/octet-stream")
    assert made.code == 201 and made.json["status"]["sizeBytes"] == len(iso) and len(made.json["status"]["sha256"]) == 64, f"an ISO is uploaded: {made}"
    assert ask("POST", f"{IMAGES}/upload?name=up", iso).code == 409, "a second upload of the same name is a conflict"
    before = sorted(os.listdir(server.state / "isos"))
    assert ask("POST", f"{IMAGES}/upload?name=bad", b"x" * 99999).code == 422, "an upload that is not an ISO is refused"
    assert ask("POST", f"{IMAGES}/upload?name=bad&sha256={'0' * 64}", iso).code == 422, "an upload with a wrong digest is refused"
    assert sorted(os.listdir(server.state / "isos")) == before, "a refused upload leaves no file"
