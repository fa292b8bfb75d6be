"""A bootable ISO that a server serves to hosts, and the clients that read it: QEMU's initiator, HTTP ranges, xorriso."""

import http.client
import os
import re
import subprocess
import tempfile
from pathlib import Path

from support.objects import HOSTS, host
from support.server import PORT
from support.waiting import slowness

IQN = "iqn.2026-11.org.bootlatch"
MAC = "52:54:00:00:00:01"
MINE = f"{IQN}:52-54-00-00-00-01"
VIEW = "/iso/live?host=52-54-00-00-00-01"
SCRIPT = f"/ipxe?mac={MAC}"
MERGE = "application/merge-patch+json"
ARGUMENTS = ["console=ttyS0,115200", "hello=from-bootlatch"]
ISOLINUX = "default install\nlabel install\n  kernel /boot/vmlinuz\n  append initrd=/boot/initrd.gz quiet\n"
GRUB = "set timeout=30\nmenuentry 'Install' {\n  linux /boot/vmlinuz quiet\n  initrd /boot/initrd.gz\n}\n"


def run(*command, good=True, **more):
    """Runs a client, which must succeed unless `good` is false; returns all its output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, timeout=120 * slowness(), **more)
    text = (done.stdout + done.stderr).decode(errors="replace")
    assert (done.returncode == 0) == good, f"{command}: code {done.returncode}\n{text[-1500:]}"
    return text


def bootable_iso(place):
    """Makes a bootable ISO with menus, files that are read in many pieces, and an EFI partition."""
    tree = place / "tree"
    for name, data in (("isolinux/isolinux.cfg", ISOLINUX.encode()), ("boot/grub/grub.cfg", GRUB.encode()),
                       ("boot/vmlinuz", os.urandom(3_000_001)), ("boot/initrd.gz", os.urandom(5_000_007))):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
    (tree / "isolinux/isolinux.bin").write_bytes(Path("/usr/lib/ISOLINUX/isolinux.bin").read_bytes())
    run("mkfs.fat", "-C", "-n", "ESP", tree / "efi.img", 1440)
    (place / "grub.cfg").write_text(GRUB)
    run("mmd", "-i", tree / "efi.img", "::EFI", "::EFI/BOOT")
    run("mcopy", "-i", tree / "efi.img", place / "grub.cfg", "::EFI/BOOT/grub.cfg")
    run("xorriso", "-as", "mkisofs", "-quiet", "-r", "-J", "-V", "SERVED", "-o", place / "served.iso", "-b", "isolinux/isolinux.bin",
        "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-eltorito-alt-boot", "-e", "efi.img",
        "-no-emul-boot", tree)
    return place / "served.iso"


def bare_iso(place):
    """Makes an ISO without a kernel."""
    (place / "bare").mkdir()
    (place / "bare/readme").write_text("no kernel here")
    run("xorriso", "-as", "mkisofs", "-quiet", "-r", "-o", place / "bare.iso", place / "bare")
    return place / "bare.iso"


def serve_live(server, iso):
    """Adds an ISO as "live", and the host node1 that boots it with `ARGUMENTS`."""
    added = server.run("iso", "add", "live", iso)
    assert added.returncode == 0, f"bootlatch iso add: {added}"
    created = server.ask("POST", HOSTS, host("node1", 1, ip="192.0.2.1", image="live", kernelArguments=ARGUMENTS))
    assert created.code == 201, f"the host is created: {created}"
    return server


def change_host(server, **spec):
    """Changes node1; returns the response."""
    return server.ask("PATCH", f"{HOSTS}/node1", {"spec": spec}, MERGE)


def boot_script(server, **options):
    """Returns node1's iPXE script."""
    return server.ask("GET", SCRIPT, token=None, **options).text


def portal_url(name, user="", lun=0, query=""):
    return f"iscsi://{user}127.0.0.1:3260/{IQN}:{name}/{lun}{query}"


def read_by_qemu(place, name, initiator=MINE, lun=0, **chap):
    """Reads a unit whole with QEMU's own initiator, which is libiscsi."""
    copy, secret = place / "copy", []
    options = (f"driver=raw,file.driver=iscsi,file.transport=tcp,file.portal=127.0.0.1:3260,file.target={IQN}:{name},"
               f"file.lun={lun},file.initiator-name={initiator}")
    if chap:
        options += f",file.user={chap['user']},file.password-secret=secret"
        secret = ["--object", f"secret,id=secret,data={chap['secret']}"]
    run("qemu-img", "convert", *secret, "--image-opts", options, "-O", "raw", copy)
    return copy.read_bytes()


def read_by_ranges(url, size, tag, pieces=7):
    """Reads a URL in ranges over one connection, as iPXE and BMCs do; every response must have the same tag."""
    address, path = re.fullmatch(r"http://([^/]+)(/.*)", url).groups()
    connection, whole, step = http.client.HTTPConnection(address, timeout=30 * slowness()), b"", size // pieces + 1
    while len(whole) < size:
        connection.request("GET", path, headers={"Range": f"bytes={len(whole)}-{min(len(whole) + step, size) - 1}", "If-Range": tag})
        answer = connection.getresponse()
        assert answer.status == 206 and answer.headers["ETag"] == tag, f"each part has the tag {tag}: {answer.status}, {answer.headers['ETag']}"
        whole += answer.read()
    connection.close()
    return whole


def local_url(path):
    return f"http://127.0.0.1:{PORT}{path}"


def kernel_lines(iso, path):
    """Returns the lines of a menu in an ISO that name a kernel or its arguments, by xorriso."""
    with tempfile.TemporaryDirectory() as scratch:
        run("xorriso", "-osirrox", "on", "-indev", iso, "-extract", path, Path(scratch, "file"))
        return [line for line in Path(scratch, "file").read_text().splitlines() if re.match(r"\s*(linux|append)\s", line)]


def refusals(server, reason):
    """Returns how many iSCSI logins were refused for a reason, by its code."""
    found = re.search(rf'bootlatch_requests_refused_total\{{protocol="iscsi",reason="{reason}"\}} (\d+)', server.ask("GET", "/metrics", token=None).text)
    return int(found[1]) if found else 0


def causes(answer):
    """Returns the causes in an error response of the API; one empty cause if there are none."""
    return (answer.json.get("details") or {}).get("causes", [{}])
