"""Installs from the ISO over iSCSI. Each scenario gets the kit, and raises LabError if a check fails."""

import json
from datetime import datetime

from .cycle import BOOT_LIMIT, Cycle, host_name
from .lab import Lab
from .process import LabError

CONSOLE_DELAY = 0.5  # seconds that a line of the serial console may be later than the server's time of the next step


def expect(held, what):
    if not held:
        raise LabError(what)


def event_names(run):
    return [name for _, name in run.server_events()]


def check_install(run):
    """Checks that every step of an install was seen, in the right order."""
    steps = [step for step in run.steps()
             if not (step[1] == "TFTP done" and run.machine.firmware == "bios")]
    unseen = [label for seconds, label in steps if seconds is None]
    expect(not unseen, f"not seen: {', '.join(unseen)}; steps: {run.steps()}")
    install = [seconds for seconds, label in steps if label not in ("offer again", "local disk")]
    early = [here for here, later in zip(install, install[1:]) if here > later + CONSOLE_DELAY]
    expect(not early, f"out of order: {run.steps()}")


def check_disk_boot(run, loads):
    """Checks that the boot went to the disk: no installer, no iSCSI login, at most `loads` boot programs loaded."""
    console = [name for _, name in run.console_events()]
    expect("kernel-up" not in console, f"the installer ran again: {console}")
    seen = event_names(run)
    expect("iscsi_login" not in seen, f"an installed machine logged in to the ISO: {seen}")
    expect("local_disk" in seen, f"no local-disk decision: {seen}")
    expect(seen.count("tftp_completed") <= loads, f"iPXE was loaded more than once: {seen}")


def ledgers(run):
    """Returns the ledgers of the machine's boots, oldest first."""
    return json.loads(run.lab.appliance.command("host", "timeline", host_name(run.machine), "--ledger", "-o", "json"))


def check_ledger(run):
    """Checks the ledger of an install: its stages add up, and agree with the machine's console and the timeline."""
    seconds = lambda text: datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    boots = ledgers(run)
    expect([boot["outcome"] for boot in boots] == ["installed", "local_disk"], f"the ledgers: {boots}")
    boot = boots[0]
    lengths = [stage["milliseconds"] for stage in boot["stages"]]
    expect(sum(lengths) == boot["milliseconds"], f"the stages do not add up: {boot}")
    starts = {stage["stage"]: seconds(stage["start"]) for stage in boot["stages"]}
    expect(all(name in starts for name in ("dhcp", "script", "loader", "kernel", "install")), f"stages are missing: {boot}")
    console = {name: when for when, name in reversed(run.console_events())}
    server = {name: when for when, name in reversed(run.server_events())}
    pairs = [("the begin", starts["dhcp"], server["offer"]), ("the script", starts["loader"], server["script"]),
             ("the end", seconds(boot["end"]), console["complete"])]
    wrong = [f"{what}: {there - here:+.2f} s" for what, here, there in pairs if abs(there - here) > CONSOLE_DELAY]
    expect(not wrong, f"the ledger differs from the machine's log: {wrong}; {boot}")
    expect(starts["kernel"] - 1 <= console["kernel-up"] <= starts["install"] + CONSOLE_DELAY, f"the kernel came up at {console['kernel-up']}: {boot}")
    expect(starts["install"] <= console["config-fetched"] <= seconds(boot["end"]) + CONSOLE_DELAY, f"config at {console['config-fetched']}: {boot}")


def install_and_return(kit, firmware, dhcp_server):
    """A blank machine installs, boots its disk, and a later PXE boot goes to the disk again."""
    with Lab(kit, f"install-{firmware}-{dhcp_server}", dhcp_server) as lab:
        lab.serve()
        run = Cycle(lab, lab.machine(firmware))
        run.power_on()
        run.install()
        run.os_up()
        check_install(run)
        check_ledger(run)
        run.reset()
        run.os_up()
        check_disk_boot(run, loads=2)
        lab.appliance.stop()
        lab.serve()
        kept = [(boot["outcome"], boot.get("count", 1)) for boot in ledgers(run)]
        expect(kept == [("installed", 1), ("local_disk", 2)], f"the ledgers after a restart of the server: {kept}")
        lab.appliance.stop()


def killed_install(kit, firmware):
    """An install that is interrupted is offered again, and then succeeds."""
    with Lab(kit, f"killed-install-{firmware}") as lab:
        lab.serve()
        run = Cycle(lab, lab.machine(firmware))
        run.power_on(hold="disk-half")
        run.machine.wait_marker("held", BOOT_LIMIT + 60)
        run.machine.power_off()
        expect("boot_completed" not in event_names(run), "complete before the disk was written")
        run.power_on()
        run.install()
        run.os_up()
        check_install(run)


def killed_server(kit, firmware):
    """The server is killed between the offer and the completion: nothing is lost, and the install succeeds."""
    with Lab(kit, f"killed-server-{firmware}") as lab:
        lab.serve()
        run = Cycle(lab, lab.machine(firmware))
        run.power_on()
        run.machine.wait_marker("config-fetched", BOOT_LIMIT)
        before = lab.appliance.timeline(host_name(run.machine))
        shown = lab.appliance.host(host_name(run.machine))
        expect("config_fetched" in [row[1] for row in before], f"the config's fetch is not in the timeline: {before}")
        lab.appliance.kill()
        lab.serve()
        after = lab.appliance.timeline(host_name(run.machine))
        expect([row[1] for row in after[:len(before)]] == [row[1] for row in before],
               f"the timeline lost entries: before {before}, after {after}")
        restarted = lab.appliance.host(host_name(run.machine))
        for part in ("spec", "status"):
            expect(restarted[part] == shown[part], f"the host's {part} was {shown[part]}, is {restarted[part]}")
        run.install()
        run.os_up()
        check_install(run)
        lab.appliance.kill()  # a completed install must stay completed
        lab.serve()
        run.reset()
        run.os_up()
        check_disk_boot(run, loads=2)


SCENARIOS = {
    "a blank BIOS machine installs and boots its disk (dnsmasq's LAN)":
        lambda kit: install_and_return(kit, "bios", "dnsmasq"),
    "a blank UEFI machine installs and boots its disk (Kea's LAN)":
        lambda kit: install_and_return(kit, "uefi", "kea"),
    "a BIOS install killed half-way is offered again": lambda kit: killed_install(kit, "bios"),
    "a UEFI install killed half-way is offered again": lambda kit: killed_install(kit, "uefi"),
    "kill -9 of the server during a UEFI install loses nothing": lambda kit: killed_server(kit, "uefi"),
    "kill -9 of the server during a BIOS install loses nothing": lambda kit: killed_server(kit, "bios"),
}
