"""The unit: its sandbox, its user and group, its watchdog, its secrets, the owners of its state, and conf.d."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.lan import tool, until
from support.programs import ROOT
from support.systemd_world import tree

UNIT = ROOT / "systemd/bootlatch.service"
# In tenths. 0.1 of it is for capset, by which capabilities are taken out of effect.
MAX_EXPOSURE = 17
STATE, GROUP_SOCKET = "/var/lib/bootlatch", "/run/bootlatch/api.sock"
KEY = "1f" * 32 + "\n"


def exposure(*command):
    offline = ["security", "--offline=true", "--no-pager", f"--threshold={MAX_EXPOSURE}", str(UNIT)]
    return subprocess.run([*command, *offline], capture_output=True, text=True)


@pytest.mark.parametrize("of", ["this machine", "the tree"])
def test_the_exposure_stays_low(of):
    libraries = f"{tree()}/usr/lib/x86_64-linux-gnu"
    of_tree = [f"{libraries}/ld-linux-x86-64.so.2", "--library-path", f"{libraries}:{libraries}/systemd", f"{tree()}/usr/bin/systemd-analyze"]
    done = exposure(*([tool("systemd-analyze")] if of == "this machine" else of_tree))
    assert done.returncode == 0 and "Overall exposure level" in done.stdout, done.stdout + done.stderr


def test_a_gate_that_is_too_low_fails():
    """The gate measures something: the same unit without its filter of system calls is over it."""
    loose = "\n".join(line for line in UNIT.read_text().splitlines() if not line.startswith("SystemCallFilter="))
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    try:
        (folder / "bootlatch.service").write_text(loose)
        done = subprocess.run([tool("systemd-analyze"), "security", "--offline=true", f"--threshold={MAX_EXPOSURE}", str(folder / "bootlatch.service")],
                              capture_output=True, text=True)
        assert done.returncode != 0, done.stdout
    finally:
        subprocess.run(["rm", "-r", str(folder)], check=True)


def test_it_runs_as_its_user(service):
    pid, user = service.show("MainPID")["MainPID"], service.run("id", "-u", "bootlatch").strip()
    status = service.run("cat", f"/proc/{pid}/status")
    uid = next(line for line in status.splitlines() if line.startswith("Uid:"))
    assert uid.split()[1:] == [user] * 4
    assert service.show("NRestarts")["NRestarts"] == "0" and service.ready()[0] == 200


def test_members_of_the_group_use_the_api(service):
    assert service.run("stat", "-c", "%a %U %G", GROUP_SOCKET).split() == ["660", "bootlatch", "bootlatch"]
    assert service.run("stat", "-c", "%a", f"{STATE}/api.sock").strip() == "600"
    service.run("sh", "-c", "id ops 2>/dev/null || useradd ops; id guest 2>/dev/null || useradd guest; usermod -aG bootlatch ops")
    asked = ("bootlatch", "get", "hosts")
    service.run("runuser", "-u", "ops", "--", *asked)
    said = service.run("runuser", "-u", "guest", "--", *asked, check=False)
    assert service.code != 0 and "adduser" in said and GROUP_SOCKET in said, said
    service.run(*asked)


# Stops one thread as a debugger does, until it is killed.
TRACER = """
import ctypes, os, sys
seize, interrupt = 0x4206, 0x4207
libc, thread = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
for request in (seize, interrupt):
    if libc.ptrace(request, ctypes.c_long(thread), None, None):
        sys.exit(os.strerror(ctypes.get_errno()))
stopped = os.WIFSTOPPED(os.waitpid(thread, 0x40000000)[1])
print("stopped" if stopped else "ended", flush=True)
while not (os.WIFSIGNALED(status := os.waitpid(thread, 0x40000000)[1]) or os.WIFEXITED(status)):
    pass
"""


def stop_thread(thread):
    """Stops one thread. The tracer ends with it."""
    tracer = subprocess.Popen([sys.executable, "-c", TRACER, str(thread)], stdout=subprocess.PIPE, text=True)
    assert tracer.stdout.readline() == "stopped\n"
    return tracer


@pytest.mark.parametrize("hung", ["process", "dhcp", "store"])
def test_a_service_that_hangs_is_started_again(world, hung):
    world.configure()
    world.drop_in("WatchdogSec=3s\nTimeoutAbortSec=5s\n")
    world.systemctl("start", "bootlatch")
    try:
        before = world.show("MainPID")["MainPID"]
        threads, tracer = world.threads(), None
        if hung == "process":
            os.kill(threads["bootlatch"], signal.SIGSTOP)
        else:
            # Only this thread: the others go on, and a bare timer would go on feeding.
            tracer = stop_thread(threads[next(name for name in threads if name.startswith(hung))])
        until("the service was started again", lambda: world.show("NRestarts")["NRestarts"] == "1", 60)
        until("it serves", lambda: world.show("ActiveState")["ActiveState"] == "active" and world.ready()[0] == 200, 60)
        assert world.show("MainPID")["MainPID"] != before
        if tracer:
            assert tracer.wait(10) == 0
            assert {"dhcp": "the DHCP thread", "store": "the store's writer"}[hung] in world.journal()
    finally:
        world.systemctl("stop", "bootlatch")
        world.drop_in(None)


def test_a_service_that_is_well_is_left_alone(world):
    world.configure()
    world.drop_in("WatchdogSec=1s\n")
    world.systemctl("start", "bootlatch")
    try:
        fed = world.show("WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]
        until("the watchdog was fed again", lambda: int(world.show("WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]) > int(fed) + 3_000_000, 30)
        assert world.show("NRestarts", "ActiveState") == {"NRestarts": "0", "ActiveState": "active"}
    finally:
        world.systemctl("stop", "bootlatch")
        world.drop_in(None)


def test_secrets_come_as_credentials(world):
    """Root's own files: the server's user cannot read them."""
    world.run("rm", "-rf", STATE)
    world.write("/etc/bootlatch/state.key", KEY, "600")
    world.write("/etc/bootlatch/chap.secret", "twelve-octets-or-more\n", "600")
    world.configure('interface = "lan0"\n[store]\nencryption_key_file = "state.key"\n[iscsi.chap]\nusername = "u"\nsecret_file = "chap.secret"\n')
    world.drop_in("LoadCredential=state.key:/etc/bootlatch/state.key\nLoadCredential=chap.secret:/etc/bootlatch/chap.secret\n")
    assert "valid" in world.run("bootlatch", "serve", "--check")
    world.systemctl("start", "bootlatch")
    try:
        assert world.ready()[0] == 200
        settings = world.run("bootlatch", "settings")
        world.write("/tmp/ks.cfg", "text\n")
        world.run("bootlatch", "config", "add", "ks", "/tmp/ks.cfg", "--format", "kickstart")
        assert "set (not shown)" in settings and "twelve-octets" not in settings, settings
        world.systemctl("stop", "bootlatch")
        # The state is encrypted with it: without the key it does not open.
        world.configure()
        world.systemctl("start", "bootlatch", check=False)
        assert world.show("ExecMainStatus")["ExecMainStatus"] == "78", world.journal()
        # Without LoadCredential= the error names the file that was looked for.
        world.drop_in(None)
        world.configure('interface = "lan0"\n[store]\nencryption_key_file = "state.key"\n')
        world.systemctl("start", "bootlatch", check=False)
        assert "/run/credentials/bootlatch.service/state.key" in world.journal()
    finally:
        world.systemctl("stop", "bootlatch")
        world.systemctl("reset-failed", "bootlatch", check=False)
        world.drop_in(None)
        world.run("rm", "-rf", STATE)


def owners(world):
    return set(world.run("find", STATE, "-printf", "%U\n").split())


@pytest.mark.parametrize("owner", ["root", "bootlatch"])
def test_the_state_of_an_older_version_is_taken_over(world, owner):
    """Of a service that ran as root throughout, or that gave its state to bootlatch."""
    world.configure()
    world.run("rm", "-rf", STATE)
    world.systemctl("start", "bootlatch")
    world.run("bootlatch", "settings")
    world.systemctl("stop", "bootlatch")
    token = world.run("cat", f"{STATE}/admin.token")
    world.run("chown", "-R", f"{owner}:{owner}", STATE)
    world.systemctl("start", "bootlatch")
    try:
        assert world.ready()[0] == 200
        assert owners(world) == {world.run("id", "-u", "bootlatch").strip()}
        assert world.run("cat", f"{STATE}/admin.token") == token, "the state is that of before"
    finally:
        world.systemctl("stop", "bootlatch")


def test_a_start_changes_no_owners(service):
    """A file of the site's own keeps its owner, and its time of the last change of the inode."""
    service.run("sh", "-c", f"echo own > {STATE}/files/own.txt && chown root:root {STATE}/files/own.txt && chmod 644 {STATE}/files/own.txt")
    before = service.run("stat", "-c", "%U %z", f"{STATE}/files/own.txt", f"{STATE}/admin.token")
    service.systemctl("restart", "bootlatch")
    assert service.ready()[0] == 200
    assert service.run("stat", "-c", "%U %z", f"{STATE}/files/own.txt", f"{STATE}/admin.token") == before
    service.run("rm", f"{STATE}/files/own.txt")


@pytest.mark.parametrize("closed", ["entered", "written"])
def test_a_state_directory_out_of_reach_is_named_with_the_user(world, closed):
    world.run("sh", "-c", "rm -rf /srv/closed && mkdir -p /srv/closed/state && chmod 755 /srv /srv/closed /srv/closed/state")
    if closed == "entered":
        world.run("chmod", "700", "/srv/closed")
    world.configure('interface = "lan0"\nstate_dir = "/srv/closed/state"\n')
    world.drop_in("ReadWritePaths=/srv/closed\n")
    world.systemctl("start", "bootlatch", check=False)
    try:
        said = world.journal()
        if closed == "entered":
            assert "state_dir: /srv/closed/state: the user bootlatch may not enter /srv/closed:" in said, said
        else:
            assert "state_dir: /srv/closed/state: the user bootlatch may not write in /srv/closed/state, which belongs to root" in said, said
    finally:
        world.systemctl("stop", "bootlatch")
        world.systemctl("reset-failed", "bootlatch", check=False)
        world.drop_in(None)


def test_drop_ins_of_the_configuration(service):
    folder = "/etc/bootlatch/conf.d"
    try:
        service.write(f"{folder}/20-site.toml", 'unknown_hosts = "menu"\n')
        service.write(f"{folder}/10-package.toml", 'unknown_hosts = "ignore"\n\n[[rules]]\nmac = "52:54:00"\naction = "hold"\n')
        assert f"{folder}/10-package.toml, {folder}/20-site.toml" in service.run("bootlatch", "serve", "--check")
        service.systemctl("reload", "bootlatch")
        service.logged("configuration loaded")
        shown = {line.split()[0]: line for line in service.run("bootlatch", "settings").splitlines() if line.strip()}
        rows = [("unknown_hosts", '"menu"', f"{folder}/20-site.toml:1"), ("rules", "1 in the file", f"{folder}/10-package.toml:3"),
                ("interfaces", "lan0", "/etc/bootlatch/bootlatch.toml:1")]
        for key, value, origin in rows:
            assert value in shown[key] and origin in shown[key], shown[key]
        service.write(f"{folder}/10-package.toml", '\n[dhcp]\nmode = "prox"\n')
        said = service.run("bootlatch", "serve", "--check", check=False)
        assert service.code == 78 and f"{folder}/10-package.toml: line 3: dhcp.mode" in said, said
        service.systemctl("reload", "bootlatch")
        service.says(f"configuration not loaded: {folder}/10-package.toml: line 3")
    finally:
        service.run("rm", "-r", folder)


def test_an_address_that_the_interface_does_not_have(world):
    world.configure('interface = "lan0"\naddress = "192.0.2.5"\n')
    said = world.run("bootlatch", "serve", "--check")
    assert "valid" in said and "note: interface lan0 does not have the address 192.0.2.5 now" in said and "`advertise`" in said, said
    world.configure('interface = "lan9"\nadvertise = "192.0.2.9"\n[tftp]\nsingle_port = false\n')
    said = world.run("bootlatch", "serve", "--check")
    assert "valid" in said and "note: interface lan9 does not exist now" in said and "note: tftp.single_port = false" in said, said
    world.configure('interface = "lan0"\naddress = "192.0.2.5"\n')
