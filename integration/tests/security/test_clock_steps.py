"""The wall clock is set while machines install: tokens, config windows and leases last as long as without the step."""

import time
from datetime import datetime

import pytest

from support.faked_clock import FakedClock
from support.lan import until
from support.objects import HOSTS
from support.provisioned_lan import FAR, SECRET, SUBNETS, routed_network, token_of, udhcpc

HOUR, DAY = 3600, 24 * 3600
OFFSETS = {"+0": 0, "+1h": HOUR, "-1h": -HOUR, "-330d": -330 * DAY}  # libfaketime's words, in seconds
LEASE_TIME = 600


def wait_for_step(box, seconds):
    """Waits until the timeline of the installing machine tells a step."""
    def is_told():
        entries = box.api("GET", f"{HOSTS}/near/timeline")[1]["items"]
        steps = [entry["detail"]["seconds"] for entry in entries if entry["event"] == "clock_stepped"]
        return any(abs(step - seconds) <= 5 for step in steps)
    until(f"the timeline tells the step of {seconds} s", is_told)


def age(text, offset):
    """Returns the seconds from a time in the API to the server's present time."""
    return time.time() + OFFSETS[offset] - datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


@pytest.mark.parametrize(("mode", "before", "after"), [
    ("address", "-330d", "+0"), ("token", "-330d", "+0"), ("both", "-330d", "+0"),
    ("token", "+0", "+1h"), ("both", "+0", "-1h"), ("token", "+0", "-330d")])
def test_an_install_survives_a_step(lan, mode, before, after):
    clock = FakedClock(lan.folder, before)
    box, near, _, _ = routed_network(lan, f'[config_access]\nrequire = "{mode}"\n', FAR, environment=clock.environment)
    token = token_of(near.script())
    assert near.ask(f"/nocloud/{token}/user-data") == (200, SECRET), "the installer gets its config"
    clock.set(after)
    assert near.ask(f"/nocloud/{token}/user-data") == (200, SECRET), "right after the step too"
    wait_for_step(box, OFFSETS[after] - OFFSETS[before])
    assert near.ask(f"/nocloud/{token}/user-data") == (200, SECRET), "and when the stored times have followed it"
    status = box.status("near")
    assert status["phase"] == "Installing" and 0 <= age(status["lastBootTime"], after) < 600, f"the time of the boot has followed: {status}"
    assert near.ask(f"/api/v1/boot-complete?token={token}", "POST")[0] == 200
    assert box.status("near")["phase"] == "Installed"


def test_the_window_still_ends_after_a_step(lan):
    clock = FakedClock(lan.folder)
    box, near, _, _ = routed_network(lan, '[config_access]\ntoken_ttl = "6s"\n', FAR, environment=clock.environment)
    token = token_of(near.script())
    assert near.ask("/api/v1/bootconfig") == (200, SECRET)
    clock.set("-1h")
    until("the window ends by the time that has passed", lambda: near.ask("/api/v1/bootconfig")[0] == 403)
    assert near.ask(f"/nocloud/{token}/user-data")[0] == 403
    assert box.events("near", "refused", "config_window_closed")


def test_an_install_survives_a_restart_with_the_clock_of_long_ago(lan):
    """A power cut of a computer without a battery-backed clock, in the middle of an install."""
    clock = FakedClock(lan.folder)
    require = '[config_access]\nrequire = "both"\n'
    box, near, _, _ = routed_network(lan, require, FAR, environment=clock.environment)
    token = token_of(near.script())
    clock.set("-330d")
    box.start(require)
    assert near.ask(f"/nocloud/{token}/user-data") == (200, SECRET), "before NTP sets the clock"
    clock.set("+0")
    until("the step is told", lambda: any(entry["event"] == "clock_stepped" for entry in box.api("GET", "/api/v1/timeline")[1]["items"]))
    assert near.ask(f"/nocloud/{token}/user-data") == (200, SECRET), "and after it"


@pytest.mark.parametrize(("before", "after"), [("-330d", "+0"), ("+0", "-1h")])
def test_leases_survive_a_step(lan, before, after):
    clock = FakedClock(lan.folder, before)
    subnets = SUBNETS.replace('pools = ["10.88.0.100-10.88.0.119"]', f'pools = ["10.88.0.100-10.88.0.100"]\nlease_time = "{LEASE_TIME}s"')
    box, near, _, _ = routed_network(lan, subnets, FAR, environment=clock.environment)
    address = udhcpc(lan, near)
    near.script()
    rows = lambda: {row.split()[2]: int(row.split()[0]) for row in (box.state / "dhcp.leases").read_text().splitlines()}
    until("the lease is in the file", lambda: address in rows())
    clock.set(after)
    wait_for_step(box, OFFSETS[after] - OFFSETS[before])

    def is_moved():
        left = rows().get(address, 0) - time.time() - OFFSETS[after]
        return 0 < left <= LEASE_TIME
    until("the end of the lease has moved with the clock", is_moved)
    assert udhcpc(lan, near) == address, "the client renews its lease"
    until("the renewed lease ends by the new clock", is_moved)
