"""Requests of clients that were written for mkube."""

import subprocess

import pytest

from support.objects import HOSTS, IMAGES, image

pytestmark = pytest.mark.usefixtures("example_objects")


def test_requests_of_mkube_clients(server):
    ask = server.ask
    files = f"{IMAGES}/live/files"
    bare = ask("GET", files)
    assert bare.code == 200 and bare.json == [], f"the root directory of an ISO is listed: {bare}"
    assert ask("GET", f"{files}?path=/&list=true").json == [], "the root directory of an ISO is listed with list=true"
    assert ask("GET", f"{files}?path=/no/such").code == ask("GET", f"{files}?path=/no&list=true").code == 404, "a path that is not in the ISO is 404"
    (server.place / "tree/EFI/BOOT").mkdir(parents=True)
    (server.place / "tree/EFI/BOOT/grub.cfg").write_text("timeout=1")
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", server.state / "isos/f.iso", server.place / "tree"], check=True, capture_output=True)
    ask("POST", IMAGES, image("filled", file="f.iso"))
    listed = ask("GET", f"{IMAGES}/filled/files?path=/EFI/BOOT&list=true")
    assert listed.json == [{"name": "grub.cfg", "size": 9, "isDir": False}], f"a directory is listed with name, size and isDir: {listed}"
    roots = ask("GET", f"{IMAGES}/filled/files").json
    assert [(e["name"], e["isDir"]) for e in roots] == [("EFI", True)], f"a subdirectory is marked as a directory: {roots}"
    read = ask("GET", f"{IMAGES}/filled/files?path=/EFI/BOOT/grub.cfg")
    assert read.text == "timeout=1" and read.headers["Content-Type"].startswith("text/plain"), f"a file of an ISO is served: {read}"
    assert ask("GET", f"{IMAGES}/filled/files?path=/EFI/BOOT/grub.cfg", headers={"Range": "bytes=-1"}).text == "1", "a range of a file of an ISO is served"
    assert ask("GET", files, token=None).code == 401, "the files of an ISO need a token"
    plain = ask("PATCH", f"{HOSTS}/one", {"spec": {"online": True}}, "application/json")
    assert plain.code == 200 and plain.json["spec"]["online"] is True and plain.json["spec"]["bootMACAddress"], f"a plain JSON body is a merge patch: {plain}"
    watch = server.watch(f"{HOSTS}?watch=true")
    first = watch.next()
    assert first["type"] == "ADDED", f"a watch without a version starts with the existing objects: {first}"
    watch.close()
    boot = ask("GET", "/api/v1/ipxe/boot?mac=525400000001", token=None)
    assert boot.text == ask("GET", "/ipxe?mac=525400000001", token=None).text and boot.text.startswith("#!ipxe"), (
        "/api/v1/ipxe/boot serves the same script as /ipxe")
    away = ask("GET", "/api/v1/ipxe/localboot", token=None)
    assert away.code == 200 and "\nexit\n" in away.text and "sanboot iscsi" not in away.text, f"/api/v1/ipxe/localboot boots the local disk: {away}"
    assert (lambda a: (a.code, a.headers["Allow"]))(ask("PUT", HOSTS)) == (405, "GET, HEAD, POST, DELETE"), (
        "a method that is not allowed is 405 with an Allow header")
    assert ask("POST", IMAGES, image("upload")).code == 422, "no ISO can be named upload"
