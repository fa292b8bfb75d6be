"""Uploads of ISOs."""

import os

import pytest

from support.objects import IMAGES

pytestmark = pytest.mark.usefixtures("example_objects")


def test_an_unknown_field_is_refused(server):
    """A misspelled digest would leave the upload unchecked."""
    iso = (server.state / "isos" / "x.iso").read_bytes()
    form = lambda field: (f'--B\r\nContent-Disposition: form-data; name="name"\r\n\r\nform\r\n--B\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{"0" * 64}\r\n'
                          '--B\r\nContent-Disposition: form-data; name="file"; filename="x.iso"\r\n\r\n').encode() + iso + b"\r\n--B--\r\n"
    before = sorted(os.listdir(server.state / "isos"))
    for answer in (server.ask("POST", f"{IMAGES}/upload", form("sha265"), "multipart/form-data; boundary=B"), server.ask("POST", f"{IMAGES}/upload?name=up&sha265=0", iso)):
        assert answer.code == 400 and "sha265" in answer.text and "sha256" in answer.text, f"an unknown field is named, with those that are known: {answer}"
    assert sorted(os.listdir(server.state / "isos")) == before, "nothing of it is left"
    assert server.ask("POST", f"{IMAGES}/upload", form("sha256"), "multipart/form-data; boundary=B").code == 422, "the known field is checked"


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
