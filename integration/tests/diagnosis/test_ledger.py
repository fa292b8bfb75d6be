"""Where the time of boots went: what the server says of each stage, against what the machines themselves noted.

The machines boot at the same time. Each notes when it goes on to the next stage of its boot, by its own clock.
"""

import json
import threading
import time
import traceback
from datetime import datetime

import pytest

from support.bmc_hosts import bmc
from support.fake_redfish import FakeRedfish
from support.firmware import IPXE_ROM, UEFI_HTTP
from support.firmware_tftp import UEFI_OPTIONS
from support.ipxe_script import Script
from support.objects import HOSTS
from support.staged_bmc import BMC, add_bmc
from support.staged_lan import StagedLan
from support.staged_networks import live
from support.waiting import eventually, slowness

TOLERANCE = 1.0  # seconds between the machine's own time of a stage and the server's
TO_DISK = {"image": "localboot", "bootConfigRef": None}
LIMIT = 180


class Log:
    """The stages of one boot as the machine itself goes through them: (time, stage)."""

    def __init__(self):
        self.marks, self.end = [], None

    def enter(self, stage):
        self.marks.append((time.time(), stage))

    def over(self):
        self.end = time.time()

    def spent(self):
        """Returns the seconds of each stage."""
        ends = [at for at, _ in self.marks[1:]] + [self.end]
        return [(stage, end - at) for (at, stage), end in zip(self.marks, ends)]


def firmware(machine, log, options=UEFI_OPTIONS, pause=0.0):
    """Boots the firmware and its boot program, up to the start of iPXE."""
    log.enter("dhcp")
    file = machine.name_program()
    log.enter("program")
    machine.probe(file)
    machine.fetch(file, options=options, pause=pause)
    log.enter("program_start")


def ipxe(machine, log):
    """Boots iPXE up to its script over HTTP; returns it."""
    machine.start_ipxe()
    machine.ipxe_dhcp()
    log.enter("script")
    machine.wait(1.5)
    return machine.script()


def load(machine, log, script, kilobytes=2000):
    """Loads a kernel from the ISO, which then starts."""
    log.enter("loader")
    session = machine.attach(script)
    for _ in range(4):
        machine.wait(0.5)
        machine.read(session, kilobytes)
    log.enter("kernel")
    machine.wait(5)
    log.enter("install")
    machine.system_dhcp()


def finish(machine, log, script):
    """Installs, and reports that the install is complete."""
    machine.fetch_config(script)
    machine.wait(4)
    assert machine.complete(script) == 200, "the report is accepted"
    log.over()


def boot_disk(machine, log, boot):
    """Boots to the script that leaves for the disk, and starts the system there."""
    script = boot(machine, log)
    assert script.boots_disk, f"the machine boots its disk: {script}"
    log.enter("system")
    machine.reset()
    machine.wait(3)
    machine.system_dhcp("systemd")
    log.over()


def by_ipxe(machine, log):
    firmware(machine, log)
    return ipxe(machine, log)


def by_autoexec(machine, log):
    firmware(machine, log)
    machine.start_ipxe()
    log.enter("script")
    return machine.autoexec()


def install(machine, logs):
    """Switched on by its BMC, it installs over iPXE, and boots its disk."""
    log = logs[0]
    controller = FakeRedfish(machine.lan.dhcp_space, BMC, 8001)
    machine.lan.servers.append(controller)
    machine.lan.change(HOSTS, machine.name, bmc=bmc(f"redfish+http://{BMC}:8001"))
    log.enter("power")
    status, answer = machine.lan.api("POST", f"/redfish/v1/Systems/{machine.name}/Actions/ComputerSystem.Reset", {"ResetType": "On"}, "application/json")
    assert status in (200, 204), answer
    machine.lan.until("the BMC was asked", lambda: controller.resets)
    log.marks[-1] = (time.time(), "power")
    machine.wait(6)
    script = by_ipxe(machine, log)
    load(machine, log, script)
    finish(machine, log, script)
    machine.wait(3)
    boot_disk(machine, logs[1], by_ipxe)


def autoexec(machine, logs):
    """It installs with its script over TFTP, and boots its disk."""
    script = by_autoexec(machine, logs[0])
    load(machine, logs[0], script)
    finish(machine, logs[0], script)
    machine.wait(3)
    boot_disk(machine, logs[1], by_autoexec)


def over_http(machine, logs):
    """It installs by UEFI HTTP Boot, and its firmware asks again and again before it boots the disk."""
    log = logs[0]
    log.enter("dhcp")
    path = machine.name_program().partition(machine.server)[2]
    log.enter("program")
    assert machine.http("HEAD", path, "UefiHttpBoot/1.0")[0] == 200
    machine.wait(1)
    assert machine.http("GET", path, "UefiHttpBoot/1.0")[0] == 200
    log.enter("program_start")
    machine.wait(1)
    status, body = machine.http("GET", f"/boot/{machine.dashed}/autoexec.ipxe", "iPXE/1.21.1")
    log.enter("script")
    script = Script(body.decode())
    load(machine, log, script)
    finish(machine, log, script)
    machine.wait(3)
    log = logs[1]
    machine.reset()
    log.enter("dhcp")
    assert not machine.discover(tries=4).boot, "HTTP Boot is not answered for a boot from the disk"
    log.marks.append((log.marks[0][0] + 28, "system"))
    machine.reset()
    machine.system_dhcp("systemd")
    log.over()


def bios_ipxe(machine, logs):
    """A BIOS machine whose ROM is iPXE."""
    for log in logs:
        log.enter("dhcp")
        machine.reset()
        machine.ipxe_dhcp()
        log.enter("script")
        machine.wait(1)
        script = machine.script()
        if log is logs[0]:
            load(machine, log, script)
            finish(machine, log, script)
            machine.wait(3)
            continue
        log.enter("system")
        machine.reset()
        machine.wait(3)
        machine.system_dhcp("systemd")
        log.over()


def slow_program(machine, logs):
    """It loads its boot program by small blocks from far away."""
    firmware(machine, logs[0], options=(), pause=26 / (250_000 // 512 + 1))
    script = ipxe(machine, logs[0])
    load(machine, logs[0], script)
    finish(machine, logs[0], script)


def slow_address(machine, logs):
    """The DHCP server answers late."""
    machine.lan.treat(machine, delay=5)
    log = logs[0]
    log.enter("dhcp")
    file = machine.name_program()
    machine.lan.treat(machine)
    log.enter("program")
    machine.probe(file)
    machine.fetch(file)
    log.enter("program_start")
    script = ipxe(machine, log)
    load(machine, log, script)
    finish(machine, log, script)


def waiting_ipxe(machine, logs):
    """iPXE gets its address after some seconds, and then waits for a router."""
    log = logs[0]
    firmware(machine, log)
    machine.start_ipxe()
    machine.lan.treat(machine, is_mute=True)
    threading.Timer(5, machine.lan.treat, (machine,)).start()
    machine.ipxe_dhcp()
    log.enter("script")
    machine.wait(5)
    script = machine.script()
    load(machine, log, script)
    finish(machine, log, script)


def learning_port(machine, logs):
    """Its first two messages are lost in a switch port that learns."""
    log = logs[0]
    machine.wait(14)  # it does not begin before its server
    log.marks.append((time.time() - 12, "unheard"))
    log.enter("dhcp")
    offers = machine.discover(first=2)
    machine.request(offers)
    file = offers.boot.file if 43 in offers.boot.options else machine.ask_4011().file
    log.enter("program")
    machine.fetch(file)
    log.enter("program_start")
    script = ipxe(machine, log)
    load(machine, log, script)
    finish(machine, log, script)


def failing_script(machine, logs):
    """Its ISO cannot be attached at first: the script is asked for again every 10 s."""
    log = logs[0]
    script = by_ipxe(machine, log)
    log.enter("loader")
    for _ in range(3):
        machine.wait(10)
        script = machine.script()
    session = machine.attach(script)
    for _ in range(4):
        machine.wait(0.5)
        machine.read(session, 2000)
    log.enter("kernel")
    machine.wait(5)
    log.enter("install")
    machine.system_dhcp()
    finish(machine, log, script)


def other_card(machine, logs):
    """Its firmware tries the other card first, which nobody knows."""
    by_ipxe(machine, logs[0])
    machine.reset()
    logs[0].enter("system")
    machine.wait(1)
    machine.system_dhcp("systemd")
    logs[0].over()
    other = machine.other_card("52:54:00:88:aa:77", "10.88.0.212")
    machine.wait(3)
    logs[1].enter("other_interface")
    other.discover(tries=2)
    machine.wait(4)
    machine.dhcp = None
    boot_disk(machine, logs[1], by_ipxe)


def ipv6(machine, logs):
    """Its firmware tries IPv6 first."""
    logs[0].enter("ipv6")
    machine.solicit()
    machine.wait(8)
    machine.reset()
    script = by_ipxe(machine, logs[0])
    load(machine, logs[0], script)
    finish(machine, logs[0], script)


def restarted(machine, logs):
    """It is restarted in the middle of its install, and installs again."""
    log = logs[0]
    script = by_ipxe(machine, log)
    load(machine, log, script)
    machine.fetch_config(script)
    log.over()
    machine.wait(12)
    log = logs[1]
    script = by_ipxe(machine, log)
    load(machine, log, script)
    finish(machine, log, script)


def switched_off(machine, logs):
    """It is switched on, switched off amid its boot, and reset amid the next one, by its BMC."""
    add_bmc(machine, 8011)
    power = lambda state: machine.lan.until(f"the power is {state}", lambda: machine.lan.host(machine.name)["status"].get("power") == state, 30)
    power("off")
    log = logs[0]
    machine.lan.command("host", "on", machine.name)
    power("on")
    log.marks.append((power_time(machine, "on"), "power"))
    by_ipxe(machine, log)
    log.enter("loader")
    machine.wait(3)
    machine.lan.command("host", "off", machine.name, "--force")
    power("off")
    log.end = power_time(machine, "forceOff")
    machine.reset()
    machine.lan.command("host", "on", machine.name)
    power("on")
    logs[1].marks.append((power_time(machine, "on"), "power"))
    by_ipxe(machine, logs[1])
    logs[1].enter("loader")
    machine.wait(3)
    machine.lan.command("host", "reset", machine.name)
    machine.lan.until("it is reset", lambda: power_time(machine, "reset"), 30)
    logs[1].end = power_time(machine, "reset")
    logs[2].marks.append((logs[1].end, "power"))
    script = by_ipxe(machine, logs[2])
    load(machine, logs[2], script)
    finish(machine, logs[2], script)


def power_time(machine, reset):
    """Returns when the BMC last accepted an operation, or None."""
    entries = [entry for entry in machine.lan.timeline(machine.name) if entry["event"] == "power_switched" and entry["detail"]["reset"] == reset]
    return max((seconds(entry["time"]) for entry in entries), default=None)


# Story, firmware, host; then for each boot its outcome and what of its time can be saved.
BOOTS = {
    "install": (install, None, {}, [("installed", []), ("local_disk", [])]),
    "autoexec": (autoexec, None, {}, [("installed", []), ("local_disk", [])]),
    "http": (over_http, UEFI_HTTP, {}, [("installed", []), ("local_disk", ["asked the network for 28 s before its disk"])]),
    "rom": (bios_ipxe, IPXE_ROM, {}, [("installed", []), ("local_disk", [])]),
    "slow": (slow_program, None, {}, [("installed", ["one block of 512 octets a round trip"])]),
    "dhcp": (slow_address, None, {}, [("installed", ["10.88.0.1 answered 5 s after it was asked"])]),
    "waits": (waiting_ipxe, None, {}, [("installed", ["iPXE waited", "5 s after it had its address"])]),
    "port": (learning_port, None, {}, [("installed", ["arrived 12 s after it began to ask"])]),
    "again": (failing_script, None, {}, [("installed", ["the script was asked for again 3 times"])]),
    "card": (other_card, None, TO_DISK, [("local_disk", []), ("local_disk", ["52:54:00:88:aa:77 for"])]),
    "ipv6": (ipv6, None, {}, [("installed", ["it tried IPv6 for 15 s first"])]),
    "power": (switched_off, None, {}, [("powered_off", []), ("restarted", []), ("installed", [])]),
    "restart": (restarted, None, {}, [("restarted", []), ("installed", [])]),
}


class Boots:
    """The boots of all machines, and what the server says of them."""

    def __init__(self):
        self.lan = StagedLan(isos={"live": live()})
        self.lan.ip(self.lan.dhcp_space, "address", "add", f"{BMC}/{self.lan.prefix}", "dev", "lan0")
        self.machines, self.logs, self.faults = {}, {}, {}
        for name, (_, kind, _, boots) in BOOTS.items():
            self.machines[name] = self.lan.add_machine(name, **({"firmware": kind} if kind else {}))
            self.logs[name] = [Log() for _ in boots]
        self.lan.start()
        for name, (_, _, spec, _) in BOOTS.items():
            self.lan.declare(self.machines[name], **spec)

    def play(self):
        threads = [threading.Thread(target=self.play_one, args=(name,), daemon=True) for name in BOOTS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT * slowness())

    def play_one(self, name):
        try:
            BOOTS[name][0](self.machines[name], self.logs[name])
        except Exception:
            self.faults[name] = traceback.format_exc() + "\n".join(self.machines[name].notes)

    def ledgers(self, name):
        return self.lan.api("GET", f"{HOSTS}/{name}/diagnosis")[1]["ledger"]

    def recorded(self, name):
        return [entry["detail"] for entry in self.lan.timeline(name) if entry["event"] == "boot_finished"]


@pytest.fixture(scope="module")
def boots():
    staged = Boots()
    try:
        staged.play()
        yield staged
        assert "panicked" not in staged.lan.log()
    finally:
        staged.lan.close()


def seconds(time_text):
    return datetime.fromisoformat(time_text.replace("Z", "+00:00")).timestamp()


@pytest.mark.parametrize("name", BOOTS)
def test_the_stages_agree_with_the_machines_own_log(boots, name):
    assert name not in boots.faults, boots.faults[name]
    expected = BOOTS[name][3]
    ledgers = boots.ledgers(name)
    assert [ledger["outcome"] for ledger in ledgers] == [outcome for outcome, _ in expected], ledgers
    for log, ledger, (_, advice) in zip(boots.logs[name], ledgers, expected):
        stages = ledger["stages"]
        own = log.spent()
        story = f"{own}\n{json.dumps(ledger, indent=1)}"
        assert [stage["stage"] for stage in stages] == [stage for stage, _ in own], story
        assert sum(stage["milliseconds"] for stage in stages) == ledger["milliseconds"], story
        whole = seconds(ledger["end"]) - seconds(ledger["begin"])
        assert abs(whole - ledger["milliseconds"] / 1000) < 0.02, story
        assert abs(whole - (log.end - log.marks[0][0])) < TOLERANCE * slowness(), story
        for stage, (at, _), (_, spent) in zip(stages, log.marks, own):
            assert abs(seconds(stage["start"]) - at) < TOLERANCE * slowness(), f"{stage} began at {at}: {story}"
            assert abs(stage["milliseconds"] / 1000 - spent) < 1.3 * TOLERANCE * slowness(), f"{stage} took {spent} s: {story}"
        assert len(ledger["advice"]) == len(advice), story
        for said, words in zip(ledger["advice"], advice):
            assert words in said, story


@pytest.mark.parametrize("name", BOOTS)
def test_each_boot_is_in_the_timeline_once_and_on_the_command_line(boots, name):
    ledgers = boots.ledgers(name)
    recorded = eventually(lambda: [one for one in [boots.recorded(name)] if len(one) == len(ledgers)], 10)
    assert recorded, f"{boots.recorded(name)} are the records of {ledgers}"
    for ledger in ledgers:
        spent = {}
        for stage in ledger["stages"]:
            spent[stage["stage"]] = spent.get(stage["stage"], 0) + stage["milliseconds"]
        detail = {"outcome": ledger["outcome"], "milliseconds": ledger["milliseconds"], "stages": spent}
        detail |= {"advice": ledger["advice"]} if ledger["advice"] else {}
        assert detail in recorded[0], f"{detail} is in {recorded}"
    shown = json.loads(boots.lan.command("host", "timeline", name, "--ledger", "-o", "json"))
    assert [one["milliseconds"] for one in shown] == [ledger["milliseconds"] for ledger in ledgers]
    text = boots.lan.command("timeline", name, "--ledger")
    for ledger in ledgers:
        assert all(stage["stage"] in text for stage in ledger["stages"]) and all(advice in text for advice in ledger["advice"]), text


def test_each_stage_is_counted_once(boots):
    recorded = [detail for name in BOOTS for detail in boots.recorded(name)]
    metrics = boots.lan.metrics()
    for stage in ("power", "unheard", "other_interface", "ipv6", "dhcp", "program", "script", "loader", "kernel", "install", "system"):
        spent = [detail["stages"][stage] for detail in recorded if stage in detail["stages"]]
        label = f'{{stage="{stage}"}}'
        assert metrics[f"bootlatch_boot_stage_duration_seconds_count{label}"] == len(spent) > 0, stage
        assert abs(metrics[f"bootlatch_boot_stage_duration_seconds_sum{label}"] - sum(spent) / 1000) < 0.001, stage
    assert metrics['bootlatch_boot_stage_duration_seconds_count{stage="wait"}'] == 0


def test_a_power_on_is_counted_once(boots):
    steps = boots.lan.api("GET", f"{HOSTS}/power/diagnosis")[1]["steps"]
    counts = [(step["text"], step["count"]) for step in steps if step["text"].startswith("switched")]
    assert [text for text, _ in counts] == ["switched on, or restarted", "switched off", "switched on, or restarted", "switched on, or restarted"], steps
    assert all(count == 1 for text, count in counts if text != "switched off"), counts


def test_a_boot_that_goes_on_says_what_is_due(boots):
    machine = boots.machines["restart"]
    machine.reset()
    offers = machine.find_offers()
    ledger = eventually(lambda: next((one for one in boots.ledgers("restart") if not one["outcome"]), None), 5)
    assert ledger["next"]["stage"] == "dhcp" and "address" in ledger["next"]["text"], ledger
    assert 0 < seconds(ledger["next"]["due"]) - seconds(ledger["end"]) <= 6, ledger
    machine.request(offers)
    text = eventually(lambda: next((text for text in [boots.lan.command("timeline", "restart", "--ledger")] if "boot file" in text), None), 5)
    assert text and "Next: it asks for its boot file, by " in text, text
