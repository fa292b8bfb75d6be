"""The privileges of the running service: it may bind a socket again, and has nothing in effect meanwhile."""

import pytest

NET_BIND_SERVICE, NET_RAW = 1 << 10, 1 << 13
# As before the unit had User=. Leaving root needs more system calls and capabilities.
AS_ROOT = """[Service]
User=
Group=
AmbientCapabilities=
CapabilityBoundingSet=
CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_NET_ADMIN CAP_SETUID CAP_SETGID CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER
SystemCallFilter=
"""


def threads(world):
    """Returns what the kernel says of each thread of the service."""
    pid = world.show("MainPID")["MainPID"]
    found = world.run("sh", "-c", f"for task in /proc/{pid}/task/*; do cat $task/status; echo; done").split("\n\n")
    fields = (dict(line.split(":", 1) for line in one.splitlines() if ":" in line) for one in found)
    # A thread may end while it is read.
    return [thread for thread in fields if "CapAmb" in thread]


@pytest.mark.parametrize("started_as", ["root", "user"])
def test_only_the_capabilities_to_bind_are_kept_and_none_is_in_effect(world, started_as):
    folder = "/etc/systemd/system/bootlatch.service.d"
    world.run("mkdir", "-p", folder)
    world.run("sh", "-c", f"cat > {folder}/user.conf", text=AS_ROOT if started_as == "root" else "[Service]\n")
    world.systemctl("daemon-reload")
    world.configure()
    world.systemctl("restart", "bootlatch")
    try:
        assert world.ready() == (200, "ok")
        user = world.run("id", "-u", "bootlatch").strip()
        found = threads(world)
        assert len(found) > 3, "the threads of the runtime, of DHCP and of TFTP"
        for thread in found:
            sets = {name: int(thread[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
            assert sets == {"CapInh": 0, "CapPrm": NET_BIND_SERVICE | NET_RAW, "CapEff": 0, "CapAmb": 0}, thread["Name"]
            assert thread["Uid"].split() == [user] * 4 and thread["NoNewPrivs"].strip() == "1"
    finally:
        world.systemctl("stop", "bootlatch")
        world.run("rm", "-r", folder)
        world.systemctl("daemon-reload")
