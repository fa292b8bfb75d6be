"""Uploads: `bootlatch iso add` from a file, and curl's forms."""

import pytest

from support.iso_uploads import curl, iso_of, iso_path, leftovers, sha, stored


@pytest.fixture(scope="module")
def data():
    return iso_of(9 << 20, "upload")


@pytest.fixture(scope="module")
def file(place, data):
    (place / "file.iso").write_bytes(data)
    return place / "file.iso"


def test_a_file_is_added_and_its_digest_checked(server, file, data):
    wrong = server.run("iso", "add", "f", file, "--sha256", "0" * 64)
    assert sha(data) in wrong.stderr, f"a wrong sha256 is refused: {wrong}"
    assert leftovers(server) == [] and not iso_path(server, "f").exists(), f"no part of the refused upload remains: {leftovers(server)}"
    added = server.run("iso", "add", "f", file, "--sha256", sha(data).upper())
    assert added.returncode == 0, f"a file is added, its sha256 checked: {added}"
    assert stored(server, "f") == data, "every byte of the file is stored"
    again = server.run("iso", "add", "f", file)
    assert again.returncode == 5 and "already" in again.stderr, f"a name that is taken is refused before anything is sent: {again}"


def test_a_missing_file_is_named(server, place):
    missing = server.run("iso", "add", "g", place / "none.iso")
    assert "none.iso" in missing.stderr and missing.returncode == 1, f"a missing file is named: {missing}"


@pytest.mark.parametrize("words, reason", [
    (["f2", "FILE", "--sha256", "xyz"], "64 hexadecimal digits"), (["Ünïcode Name", "FILE"], "is not a name"),
    (["f2", "ftp://127.0.0.1/x.iso"], "https://")], ids=["digest", "name", "url"])
def test_wrong_usage_is_refused_before_anything_is_sent(server, file, words, reason):
    wrong = server.run("iso", "add", *[file if word == "FILE" else word for word in words])
    sent = any(mark in wrong.stderr for mark in ("not an ISO", "%", "at byte"))
    assert wrong.returncode == 2 and reason in wrong.stderr and not sent, f"this is wrong usage: {wrong}"


def test_a_name_too_long_for_a_target_is_refused_by_its_field(server, file):
    longest = "a" * (223 - len("iqn.2026-11.org.bootlatch:"))
    wrong = server.run("iso", "add", longest + "a", file)
    assert wrong.returncode == 5 and "metadata.name" in wrong.stderr and "223" in wrong.stderr, f"a name too long for a target is refused: {wrong}"
    added, removed = server.run("iso", "add", longest, file), server.run("iso", "remove", longest)
    assert added.returncode == 0 and removed.returncode == 0, f"the longest possible name is accepted: {added}, {removed}"


def test_the_api_refuses_a_malformed_digest(server, file):
    code, body = curl(server, "-T", file, "-X", "POST", query="?name=f2&sha256=xyz")
    assert code == 400 and '"code":400' in body and "sha256" in body, f"the API refuses such a digest: {code} {body}"


def test_a_file_that_is_not_an_iso_is_refused(server, place):
    (place / "text.iso").write_text("no ISO" * 9000)
    refused = server.run("iso", "add", "g", place / "text.iso")
    assert "not an ISO 9660 image" in refused.stderr and leftovers(server) == [], f"a file that is not an ISO is refused with a reason: {refused}"


def test_a_form_uploads_an_iso(server, file, data):
    code, body = curl(server, "-F", "name=form", "-F", f"sha256={sha(data)}", "-F", f"file=@{file}", "-F", "description=a form")
    assert code == 201 and stored(server, "form") == data and '"a form"' in body, f"curl -F uploads an ISO: {code} {body}"
    code, body = curl(server, "-F", f"file=@{file}", "-F", "name=late")
    assert code == 201 and stored(server, "late") == data, f"the fields may follow the file: {code} {body}"


@pytest.mark.parametrize("wanted, reason, fields", [
    (400, "name", ["file=@FILE"]), (400, "file", ["name=x"]),
    (400, "file", ["name=x", "file=@FILE", "again=@FILE"]),
    (409, "taken", ["name=taken", "file=@FILE"]),
    (422, "SHA-256", ["name=x", f"sha256={'1' * 64}", "file=@FILE"]),
    (422, "BootConfig none", ["name=x", "bootConfig=none", "file=@FILE"])],
    ids=["no-name", "no-file", "two-files", "taken-name", "wrong-sha256", "missing-config"])
def test_a_form_is_refused(server, file, wanted, reason, fields):
    if "name=taken" in fields:
        assert server.run("iso", "add", "taken", file).returncode == 0, "the name is taken"
    code, body = curl(server, *[word for field in fields for word in ("-F", field.replace("FILE", str(file)))])
    assert code == wanted and reason in body, f"the form is refused with {wanted}: {code} {body}"
    assert leftovers(server) == [] and not iso_path(server, "x").exists(), f"no part of the refused upload remains: {leftovers(server)}"
