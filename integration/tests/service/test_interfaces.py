"""Interfaces and addresses that come late, go, change or are made anew: what is there is served, and the rest is said."""

import socket
import subprocess
import time
from pathlib import Path

import pytest

from support import tftp_reader
from support.dhcp_appliance import OURS
from support.dhcp_wire import BROADCAST, DISCOVER, Client, pxe
from support.iscsi_initiator import Initiator
from support.lan import entered, tool, until
from support.waiting import slowness

CLIENT, MAC = "10.88.0.77", "52:54:00:88:00:77"
OTHER = "10.88.0.9"
MENU = 'unknown_hosts = "menu"\n[dhcp]\nother_server_check_interval = "1h"\n'
CONFIG = 'interface = "lan0"\n' + MENU


def offer(lan, space=None, mac=MAC, wait=1.5):
    """Returns the server that an OFFER names, or None without one."""
    with Client(space or lan.machine, mac) as client:
        client.send(DISCOVER, pxe(7), flags=BROADCAST)
        found = client.replies(wait=wait, enough=len)
    return found[0].siaddr if found else None


def script(lan, address, mac=MAC):
    """Returns the boot script that a machine is served at an address."""
    url = f"http://{address}/ipxe?mac={mac}"
    return subprocess.run(lan.inside(lan.machine, tool("curl"), "-s", "-m", "2", url), capture_output=True, text=True).stdout


def logs_in(lan, address):
    """Returns the portals that iSCSI discovery names at an address."""
    with entered(lan.machine):
        initiator = Initiator(3260, "", discovery=True, address=address, limit=2)
    try:
        return initiator.send_targets()
    finally:
        initiator.stream.close()


def connects(lan, address, port):
    """Returns whether a TCP port is open."""
    try:
        with entered(lan.machine):
            socket.create_connection((address, port), 0.5).close()
        return True
    except OSError:
        return False


def loads(lan, address, name="snponly.efi"):
    """Returns whether a program is served over TFTP."""
    try:
        with entered(lan.machine):
            return bool(tftp_reader.read(address, name, wait=0.3))
    except (tftp_reader.TransferFailed, OSError):
        return False


def serves(lan, address):
    """Returns whether all protocols answer at an address, and name no other one."""
    try:
        told = script(lan, address)
        return offer(lan) == address and f"http://{address}/" in told and loads(lan, address) and logs_in(lan, address) is not None
    except OSError:
        return False


@pytest.fixture(scope="module")
def lan(world):
    """The LAN of the unit, with a machine on it."""
    world.lan.machine = world.lan.client("machine", address=f"{CLIENT}/24", mac=MAC)
    yield world.lan


@pytest.fixture
def unit(world, lan):
    """The unit, ready to be started; its interface is as at first after the test."""
    world.configure(CONFIG)
    yield world
    world.systemctl("stop", "bootlatch")
    world.systemctl("reset-failed", "bootlatch", check=False)
    if "lan0" not in lan.ip(world.space, "-o", "link"):
        lan.join(world.space, "br0")
        # Another adapter has another MAC address, which the machine would notice after a while only.
        lan.ip(lan.machine, "neigh", "flush", "dev", "lan0")
    lan.ip(world.space, "address", "flush", "dev", "lan0")
    lan.ip(world.space, "link", "set", "lan0", "up")
    lan.ip(world.space, "address", "add", f"{OURS}/24", "dev", "lan0")


def start(unit):
    unit.systemctl("start", "bootlatch")
    return unit.show("MainPID")["MainPID"]


def is_one_process(unit, pid):
    found = unit.show("MainPID", "NRestarts", "ActiveState")
    assert found == {"MainPID": pid, "NRestarts": "0", "ActiveState": "active"}, found


def test_an_address_that_comes_late_is_served(unit, lan):
    lan.ip(unit.space, "address", "flush", "dev", "lan0")
    pid = start(unit)
    unit.says("waiting for an address on lan0")
    assert unit.status_text().startswith("Degraded")
    assert unit.ready() == (503, "waiting for an address on lan0\n")
    assert offer(lan) is None
    lan.ip(unit.space, "address", "add", f"{OURS}/24", "dev", "lan0")
    until("all protocols answer", lambda: serves(lan, OURS), 10)
    unit.says("Serving.")
    assert unit.ready() == (200, "ok")
    is_one_process(unit, pid)
    said = unit.journal()
    assert said.count("degraded: waiting for an address on lan0") == 1 and said.count("over: waiting for an address on lan0") == 1, said


def test_an_interface_that_is_plugged_in_later_is_served(unit, lan):
    lan.ip(unit.space, "link", "del", "lan0")
    pid = start(unit)
    unit.says("waiting for the interface lan0")
    assert unit.ready()[0] == 503
    lan.join(unit.space, "br0", f"{OURS}/24")
    lan.ip(lan.machine, "neigh", "flush", "dev", "lan0")
    until("all protocols answer", lambda: serves(lan, OURS), 10)
    unit.says("Serving.")
    is_one_process(unit, pid)


def test_an_address_that_is_taken_away_is_not_offered(unit, lan):
    pid = start(unit)
    until("all protocols answer", lambda: serves(lan, OURS), 10)
    lan.ip(unit.space, "address", "del", f"{OURS}/24", "dev", "lan0")
    unit.says("waiting for an address on lan0", 5)
    assert offer(lan) is None and unit.ready()[0] == 503
    lan.ip(unit.space, "address", "add", f"{OURS}/24", "dev", "lan0")
    until("all protocols answer", lambda: serves(lan, OURS), 5)
    is_one_process(unit, pid)


def test_another_address_is_told_everywhere(unit, lan):
    pid = start(unit)
    until("all protocols answer", lambda: serves(lan, OURS), 10)
    lan.ip(unit.space, "address", "add", f"{OTHER}/24", "dev", "lan0")
    lan.ip(unit.space, "address", "del", f"{OURS}/24", "dev", "lan0")
    lan.ip(unit.space, "address", "replace", f"{OTHER}/24", "dev", "lan0")
    until("all protocols answer", lambda: serves(lan, OTHER), 10)
    assert OURS not in script(lan, OTHER)
    unit.says("Serving.")
    is_one_process(unit, pid)


def test_an_interface_that_is_made_anew_is_served_within_two_seconds(unit, lan):
    pid = start(unit)
    until("all protocols answer", lambda: serves(lan, OURS), 10)
    took = []
    lan.ip(unit.space, "link", "set", "lan0", "address", "52:54:00:88:00:02")
    lan.ip(lan.machine, "neigh", "flush", "dev", "lan0")
    until("all protocols answer", lambda: serves(lan, OURS), 30)
    for _ in range(3):
        lan.ip(unit.space, "link", "del", "lan0")
        unit.says("waiting for the interface lan0", 5)
        assert unit.ready()[0] == 503
        # An adapter keeps its MAC address: the machine's neighbour table stays right.
        lan.join(unit.space, "br0", f"{OURS}/24", mac="52:54:00:88:00:02")
        came = time.monotonic()
        until("DHCP answers", lambda: offer(lan, wait=0.3) == OURS, 10)
        until("TFTP answers", lambda: loads(lan, OURS), 10)
        until("iSCSI answers", lambda: connects(lan, OURS, 3260), 10)
        until("HTTP answers", lambda: connects(lan, OURS, 80), 10)
        took.append(time.monotonic() - came)
    print(f"all protocols answer after {', '.join(f'{one:.2f}' for one in took)} s")
    assert max(took) < 2 * slowness(), took
    until("all protocols answer", lambda: serves(lan, OURS), 10)
    until("the server is ready", lambda: unit.ready() == (200, "ok"))
    is_one_process(unit, pid)


def test_a_link_that_goes_down_and_up_is_served_again(unit, lan):
    pid = start(unit)
    until("all protocols answer", lambda: serves(lan, OURS), 10)
    lan.ip(unit.space, "link", "set", "lan0", "down")
    unit.says("lan0 is switched off", 5)
    assert unit.ready() == (503, "lan0 is switched off\n")
    lan.ip(unit.space, "link", "set", "lan0", "up")
    until("all protocols answer", lambda: serves(lan, OURS), 5)
    until("the server is ready", lambda: unit.ready() == (200, "ok"))
    is_one_process(unit, pid)


def test_a_wrong_configuration_is_not_tried_again(unit):
    for text in (CONFIG + "nonsense = 1\n", 'interface = "lan0"\ntcp_congestion_control = "nosuch"\n'):
        unit.configure(text)
        unit.systemctl("start", "bootlatch", check=False)
        found = unit.show("ActiveState", "ExecMainStatus", "NRestarts")
        assert found == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}, found
        unit.systemctl("reset-failed", "bootlatch")


def test_a_busy_port_is_bound_when_it_is_free(unit, lan):
    other = lan.start(unit.space, "other", "python3", "-c",
                      f"import socket, time; s = socket.create_server(('{OURS}', 80)); print('listens', flush=True); time.sleep(600)")
    other.says("listens")
    pid = start(unit)
    unit.says("TCP 10.88.0.2:80 (http_port): Address already in use")
    code, text = unit.ready()
    assert code == 503 and "http_port" in text, text
    assert offer(lan) == OURS, "what is free is served"
    other.stop()
    until("all protocols answer", lambda: serves(lan, OURS), 15)
    unit.says("Serving.")
    is_one_process(unit, pid)


def test_without_boot_programs_it_is_said(unit, lan):
    unit.run("mv", "/usr/share/bootlatch/firmware", "/usr/share/bootlatch/away")
    try:
        start(unit)
        unit.says("no boot programs in /usr/share/bootlatch/firmware")
        code, text = unit.ready()
        assert code == 503 and "no boot programs" in text, text
        unit.logged("degraded: no boot programs")
    finally:
        unit.run("mv", "/usr/share/bootlatch/away", "/usr/share/bootlatch/firmware")
    unit.systemctl("restart", "bootlatch")
    unit.says("Serving.")


def test_the_only_interface_is_taken_and_nobody_is_answered_unasked(unit, lan):
    unit.configure(MENU)
    start(unit)
    unit.says("Serving.")
    unit.logged("no interface configured")
    until("HTTP answers", lambda: script(lan, OURS, "52:54:00:88:00:78"), 10)
    assert offer(lan, mac="52:54:00:88:00:79") is None, "unknown machines are held"
    assert unit.ready() == (200, "ok")


def test_of_two_interfaces_none_is_chosen(unit, lan):
    lan.ip(unit.space, "link", "add", "lan7", "type", "veth", "peer", "name", "lan8")
    try:
        unit.configure(MENU)
        start(unit)
        unit.says("no interface chosen: set `interface` to one of lan0, lan7, lan8")
        assert unit.ready()[0] == 503 and offer(lan) is None
    finally:
        lan.ip(unit.space, "link", "del", "lan7")


def test_a_disk_that_is_nearly_full_is_said(unit, lan):
    unit.run("sh", "-c", "mkdir -p /var/lib/bootlatch && mount -t tmpfs -o size=20m,mode=750 none /var/lib/bootlatch")
    try:
        start(unit)
        unit.says("Serving.")
        free = int(unit.run("df", "--output=avail", "-B1", "/var/lib/bootlatch").split()[-1])
        unit.run("dd", "if=/dev/zero", "of=/var/lib/bootlatch/fill", "bs=1024", f"count={(free - 700_000) // 1024}")
        unit.says("the disk of the state directory is nearly full")
        assert unit.ready()[0] == 503
        unit.logged("degraded: the disk of the state directory is nearly full")
        metrics = subprocess.run([tool("curl"), "-s", "--unix-socket", f"/proc/{unit.pid}/root/var/lib/bootlatch/api.sock", "http://x/metrics"],
                                 capture_output=True, text=True).stdout
        assert 'bootlatch_degradations{reason="disk_nearly_full",severity="fault"} 1' in metrics, metrics
    finally:
        unit.systemctl("stop", "bootlatch")
        unit.run("umount", "/var/lib/bootlatch")


def test_storms_cost_little_and_leak_nothing(unit, lan):
    pid = start(unit)
    until("all protocols answer", lambda: serves(lan, OURS), 10)
    inside = f"/proc/{unit.pid}/root/proc/{pid}"
    files = lambda: len(unit.run("ls", f"/proc/{pid}/fd").split())
    ticks = lambda: sum(int(word) for word in unit.run("cat", f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[11:13])
    before, worked = files(), ticks()
    began = time.monotonic()
    batch = lan.folder / "flap"
    batch.write_text("".join(f"address del {OURS}/24 dev lan0\naddress add {OURS}/24 dev lan0\n" for _ in range(25)))
    while time.monotonic() < began + 5:
        lan.ip(unit.space, "-batch", str(batch))
        time.sleep(0.5)
    spent, took = (ticks() - worked) / 100, time.monotonic() - began
    until("all protocols answer", lambda: serves(lan, OURS), 10)
    unit.says("Serving.")
    until("no descriptor is left over", lambda: files() <= before + 2, 20)
    assert spent < 0.5 * took, f"{spent:.2f} s of CPU in {took:.1f} s {inside}"
    print(f"storm: {spent:.2f} s of CPU in {took:.1f} s, {before} -> {files()} descriptors")
    is_one_process(unit, pid)


def test_idle_the_interfaces_are_not_polled(unit, lan):
    pid = start(unit)
    until("all protocols answer", lambda: serves(lan, OURS), 10)
    trace = lan.folder / "idle.trace"
    subprocess.run(["timeout", "8", "strace", "-f", "-o", str(trace), "-e", "trace=socket,bind,sendto", "-p", host_pid(unit, pid)], capture_output=True)
    calls = [line for line in trace.read_text().splitlines() if "socket(" in line or "bind(" in line or "sendto(" in line]
    # Reading the interfaces opens a socket of rtnetlink and asks it.
    assert not [line for line in calls if "NETLINK" in line or "bind(" in line], calls


def host_pid(unit, pid):
    """Returns the number of a process of the world in this namespace."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        if "Name:\tbootlatch\n" in text and f"\t{pid}\n" in text.split("NSpid:")[1].split("\n")[0] + "\n":
            return status.parent.name
    raise AssertionError(f"no process {pid}")
