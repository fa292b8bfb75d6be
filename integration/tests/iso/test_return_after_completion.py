"""An installer that has reported completion loses its iSCSI connection: it may log in again until its machine boots."""

import pytest

from support.iscsi_initiator import Initiator, refusal
from support.objects import HOSTS
from support.served_iso import IQN, MAC, MINE, SCRIPT, boot_script

TARGET = f"{IQN}:live"
READ_FIRST_VOLUME_DESCRIPTOR = [0x28, 0, 0, 0, 0, 16, 0, 0, 1, 0]


def log_in():
    return Initiator(3260, TARGET, name=MINE)


def volume(session):
    """Returns the identifier of the ISO that a session reads."""
    return session.good(READ_FIRST_VOLUME_DESCRIPTOR)[1:6]


@pytest.fixture
def finished(live):
    """A host that has installed and reported completion, with its session."""
    started = live.ask("POST", f"{HOSTS}/node1/install")
    assert started.code in (200, 201, 202) and "sanboot" in boot_script(live), f"an install begins: {started}"
    session = log_in()
    done = live.ask("POST", "/api/v1/boot-complete", token=None)
    assert done.code == 200, f"the machine reports completion: {done}"
    return session


def test_the_session_goes_on_and_a_broken_one_comes_back(live, finished):
    assert volume(finished) == b"CD001", "the session that stands reads on"
    finished.stream.close()
    for _ in range(2):
        again = log_in()
        assert volume(again) == b"CD001", "the installer reads on after another login"
        again.stream.close()
    assert live.ask("GET", f"{HOSTS}/node1").json["status"]["phase"] == "Installed", "the install stays complete"


@pytest.mark.parametrize("boot", [SCRIPT, f"/boot/{MAC.replace(':', '-')}/snponly.efi"], ids=["script", "boot program"])
def test_the_next_boot_ends_it(live, finished, boot):
    finished.stream.close()
    log_in().logout()
    assert "sanboot iscsi" not in live.ask("GET", boot, token=None).text, "the machine boots its disk"
    refused = refusal(3260, TARGET, name=MINE)
    assert refused and refused.args[0] == "0202", f"its medium is not attached again: {refused}"
    again = live.ask("POST", "/api/v1/boot-complete", token=None)
    assert again.code == 200 and refusal(3260, TARGET, name=MINE), "the installed system reports too, and that changes nothing"


def test_a_machine_that_never_logged_in_does_not_come_back(live):
    live.ask("POST", f"{HOSTS}/node1/install")
    boot_script(live)
    live.ask("POST", "/api/v1/boot-complete", token=None)
    refused = refusal(3260, TARGET, name=MINE)
    assert refused and refused.args[0] == "0202", f"it has not read its medium: {refused}"


def test_an_operator_decides_before_the_installer(live, finished):
    held = live.ask("POST", f"{HOSTS}/node1/hold")
    refused = refusal(3260, TARGET, name=MINE)
    assert held.code == 200 and refused and refused.args[0] == "0202", f"a held host attaches nothing: {refused}"
