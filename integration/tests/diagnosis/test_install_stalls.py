"""Boots that stall in their installer or after it: the config, the report of completion, the disk."""

from support import diagnosis_checks as check
from support.firmware import IPXE_ROM
from support.healthy_boots import REBOOT, boot_disk, boot_to_image, by_ipxe
from support.stage import CERTAIN, LIKELY, POSSIBLE, Rows
from support.staged_installer import CLOUD_INIT
from support.staged_networks import INSTALL_TIMEOUT, MAX_BOOTS, TOKEN_TTL

ROWS = Rows()
SECOND_ADDRESS, SECOND_CARD = "10.88.0.201", "52:54:00:88:aa:01"
LATE_ADDRESS, LATE_CARD = "10.88.0.202", "52:54:00:88:aa:02"
WAITS = range(20)  # cloud-init's requests, 2 s apart


@ROWS.stall("H09", "config_from_other_address", [LIKELY, CERTAIN], at=10, network="strict",
            facts=[SECOND_ADDRESS.replace(".", r"\."), SECOND_CARD.replace(":", "[:-]"), "second card|second interface|another card|other card"])
def its_second_card_asks_for_its_config(machine):
    script = by_ipxe(machine)
    machine.attach(script)
    second = machine.other_card(SECOND_CARD, SECOND_ADDRESS, joined=True)
    status, _ = second.http("GET", f"/nocloud/{script.token}/user-data", CLOUD_INIT)
    assert status == 403, f"the config is refused: {status}"
    yield
    machine.fetch_config(script)


@ROWS.stall("H10", "installer_silent", POSSIBLE, at=INSTALL_TIMEOUT + 10, clock=INSTALL_TIMEOUT, network="strict", facts=[r"\b\d\d:\d\d(?::\d\d)?\b|ago|for \d+ s", "config"])
def the_installer_is_silent(machine):
    script = by_ipxe(machine)
    machine.install(script, kilobytes=200)
    yield
    assert machine.complete(script) == 200, "it is done at last"


@ROWS.stall("E7", "completion_refused", CERTAIN, at=TOKEN_TTL + 12, network="strict", facts=[r"token", rf"\b{TOKEN_TTL} ?s"])
def the_report_comes_after_the_token_has_expired(machine):
    """From the installed system's other card, which only the token could vouch for."""
    script = by_ipxe(machine)
    machine.install(script, kilobytes=200)
    machine.wait(TOKEN_TTL + 2)
    status = machine.other_card(LATE_CARD, LATE_ADDRESS, joined=True).complete(script)
    assert status in (403, 404), f"the report is refused: {status}"
    yield
    assert machine.complete(script) == 200, "it is accepted from the machine's own address"


@ROWS.stall("E4", "file_missing", LIKELY, at=68, clock=60, facts=["ks.cfg", "user-data"])
def its_config_has_no_such_file(machine):
    script = by_ipxe(machine)
    machine.read(machine.attach(script), 200)
    status, _ = machine.http("GET", f"/api/v1/bootconfig?token={script.token}&file=ks.cfg")
    assert status == 404, f"the config has no such file: {status}"
    yield
    machine.fetch_config(script)


@ROWS.stall("E8", "old_system_running", CERTAIN, at=2, facts=["present system", "install stays due"])
def the_system_that_is_to_be_replaced_starts(machine):
    machine.begin()
    machine.system_dhcp("systemd")
    status, text = machine.http("POST", "/api/v1/boot-complete", body=b"")
    assert status == 200 and machine.lan.phase(machine.name) == "Assigned", f"the report does not end the install: {status} {text}"
    yield
    boot_to_image(machine)


@ROWS.stall("E11", "boots_used_up", CERTAIN, at=21, network="strict", facts=[rf"\b{MAX_BOOTS}\b"], firmware=IPXE_ROM,
            hints=("completion_not_reported",))
def all_boots_are_used_up(machine):
    """Its installer crashes early, and its last boot ends at once."""
    for boot in range(MAX_BOOTS):
        script = by_ipxe(machine)
        if boot + 1 < MAX_BOOTS:
            session = machine.attach(script)
            machine.read(session, 100)
            session.stream.close()
        machine.wait(REBOOT)
    assert by_ipxe(machine).boots_disk, "it gets no more installs"
    yield


@ROWS.stall("H16", "disk_not_bootable", [CERTAIN, LIKELY], at=18, facts=[r"\b3\b|three", "disk"], firmware=IPXE_ROM, host={"image": "localboot", "bootConfigRef": None})
def it_comes_back_from_its_disk(machine):
    for number in range(3):
        machine.wait(REBOOT if number else 0)
        assert by_ipxe(machine).boots_disk, "it is sent to its disk"
        machine.reset()
    yield


@ROWS.stall("H17", "completion_not_reported", [LIKELY, CERTAIN], at=22, host={"bootConfigRef": "silent"},
            facts=["boot-complete", r"\b1[.,]6 ?M|\b1[,.]?6\d\d ?[kK]", "silent"])
def it_is_installed_and_never_says_so(machine):
    script = by_ipxe(machine)
    session = machine.attach(script)
    machine.read(session, 1600)
    assert machine.http("GET", f"/api/v1/bootconfig?token={script.token}", "Ignition/2.19.0")[0] == 200
    session.stream.close()
    machine.wait(REBOOT)
    script = by_ipxe(machine)
    assert script.target, "it is being installed again"
    yield
    assert machine.complete(script) == 200


@ROWS.stall("E10", "installed_system_waits", CERTAIN, at=TOKEN_TTL + 40, network="strict", facts=["cloud-init|config|metadata|seed"])
def the_installed_system_still_asks_for_its_metadata(machine):
    """cloud-init's datasource still names us, and the token has expired."""
    script = by_ipxe(machine)
    session = machine.install(script, kilobytes=200)
    assert machine.complete(script) == 200
    session.stream.close()
    machine.wait(REBOOT)
    boot_disk(machine, by_ipxe)
    machine.wait(TOKEN_TTL)
    for _ in WAITS:
        status = machine.try_http("GET", f"/nocloud/{script.token}/meta-data", CLOUD_INIT)
        assert status != 200, f"the metadata is refused: {status}"
        machine.wait(2)
    yield


DECISION = 3  # seconds by which an operator's decision is clearly later than the machine's last step


def install_and_lose_its_session(machine, decide):
    """Installs until an operator decides otherwise; then the session breaks, and the installer logs in again."""
    script = by_ipxe(machine)
    session = machine.install(script, kilobytes=200)
    machine.wait(DECISION)
    decide()
    session.stream.close()
    status = machine.try_login(script.target, script.initiator)
    assert status in ("0202", "0203"), f"the login is refused: {status}"


@ROWS.stall("E12", "login_refused", CERTAIN, at=12, facts=["held until an operator decides", "<address>"])
def an_operator_holds_it_amid_its_install(machine):
    install_and_lose_its_session(machine, lambda: machine.lan.command("host", "hold", machine.name))
    yield
    machine.lan.command("host", "assign", machine.name, "--image", "live", "--config", "cfg")
    boot_to_image(machine)


@ROWS.stall("E12_release", "login_refused", CERTAIN, at=12, facts=["<address>", "request an install"])
def an_operator_releases_it_amid_its_install(machine):
    install_and_lose_its_session(machine, lambda: machine.lan.command("host", "localboot", machine.name))
    yield
    machine.reset()
    boot_disk(machine, by_ipxe)


@ROWS.stall("installer_failed", "installer_failed", CERTAIN, at=10, facts=["No usable disk was found"])
def the_installer_reports_an_error(machine):
    script = by_ipxe(machine)
    machine.install(script)
    status = machine.report(script, name="curtin/block-meta", event_type="finish", result="FAIL", description="No usable disk was found")
    machine.note(f"the report: {status}")
    yield
    machine.report(script, name="curtin/block-meta", event_type="start", description="partitioning the disk")
    machine.report(script, name="curtin/block-meta", event_type="finish", result="SUCCESS", description="partitioning the disk")
    assert machine.complete(script) == 200
    machine.reset()
    boot_disk(machine, by_ipxe)


test_it_is_staged, test_it_is_diagnosed_in_time, test_all_voices_agree, test_it_is_taken_back = check.tests_of(ROWS)
