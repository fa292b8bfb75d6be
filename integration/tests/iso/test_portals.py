"""An image at an external portal: logins here are redirected there, its secrets are its own, and options without effect are refused."""

import os

import pytest

from support.iscsi_initiator import refusal
from support.iscsi_target import Target
from support.iso_uploads import sha
from support.objects import HOSTS, IMAGES, timeline
from support.served_iso import ARGUMENTS, IQN, MERGE, MINE, boot_script, causes, change_host, portal_url, read_by_qemu, run
from support.waiting import eventually

TARGET = f"{IQN}:away"
PORTAL = "127.0.0.1:3270"
PORTAL_SECRETS = {"username": "rose", "secret": "a-secret-of-theirs", "targetUsername": "routeros", "targetSecret": "another-of-theirs"}
PORTAL_LOGIN = "set username rose\nset password a-secret-of-theirs\nset reverse-username routeros\nset reverse-password another-of-theirs\n"


@pytest.fixture(scope="module")
def medium(place):
    """The file that the other target serves."""
    (place / "away.img").write_bytes(os.urandom(1 << 20))
    return place / "away.img"


@pytest.fixture(scope="module")
def away(live, medium):
    """The server with an ISCSICdrom "away" at another target, which node1 boots."""
    with Target(f"{TARGET}=disk:{medium}", address=PORTAL):
        portal = {"address": "127.0.0.1", "port": 3270, "targetIqn": TARGET}
        created = live.ask("POST", IMAGES, {"apiVersion": "v1", "kind": "ISCSICdrom", "metadata": {"name": "away"}, "spec": {"portal": portal}})
        assert created.code == 201, f"an ISCSICdrom is at another portal: {created}"
        changed = change_host(live, image="away", kernelArguments=None)
        assert changed.code == 200, f"the host boots it: {changed}"
        yield live
        change_host(live, image="live", kernelArguments=ARGUMENTS)


@pytest.fixture
def portal_secrets(away):
    """The response to setting the portal's own CHAP secrets, which are removed after the test."""
    yield away.ask("PATCH", f"{IMAGES}/away", {"spec": {"portal": {"chap": PORTAL_SECRETS}}}, MERGE)
    away.ask("PATCH", f"{IMAGES}/away", {"spec": {"portal": {"chap": None}}}, MERGE)


def test_a_login_here_is_redirected_and_recorded(away):
    refused = refusal(3260, TARGET, name=MINE)
    assert refused and refused.args == ("0101", f"TargetAddress={PORTAL}\0".encode()), f"a login here is redirected temporarily: {refused}"
    recorded = lambda: [entry["detail"] for entry in timeline(away, "node1", "iscsi_redirect")]
    assert eventually(recorded) == [{"initiator": MINE, "target": TARGET, "image": "away", "portal": PORTAL}], f"the redirection is in the timeline: {recorded()}"


def test_libiscsi_and_qemu_follow_the_redirection(away, medium, here):
    assert "DIRECT_ACCESS" in run("iscsi-inq", "-i", MINE, portal_url("away")), "libiscsi follows"
    assert sha(read_by_qemu(here, "away")) == sha(medium.read_bytes()), "QEMU follows, and reads all of it"


def test_the_boot_script_goes_to_the_portal_directly(away):
    script = boot_script(away)
    assert f"iscsi:127.0.0.1::3270::{TARGET}" in script, f"the script names the other portal: {script}"


def test_a_secret_for_our_target_is_not_given_to_another_portal(away):
    change_host(away, chap={"username": "node1", "secret": "a-secret-of-node1"})
    script = boot_script(away)
    change_host(away, chap=None)
    assert "sanboot iscsi:127.0.0.1" in script and "a-secret" not in script and "set username" not in script, f"the script has no secret: {script}"


def test_a_portals_own_secrets_are_in_the_script_only(away, portal_secrets):
    change_host(away, chap={"username": "node1", "secret": "a-secret-of-node1"})
    script = boot_script(away)
    change_host(away, chap=None)
    seen = portal_secrets.text + away.ask("GET", IMAGES).text + away.run("get", "iso", "away", "-o", "yaml").stdout
    assert portal_secrets.code == 200 and "of-theirs" not in seen and seen.count("REDACTED") == 6, f"a portal's secrets cannot be read: {seen}"
    assert PORTAL_LOGIN in script and "node1\nset password" not in script, f"the script has the portal's secrets, and none of ours: {script}"


def test_a_portal_is_written_back_with_its_secrets_to_itself_only(away, portal_secrets):
    read = away.ask("GET", f"{IMAGES}/away").json
    written = away.ask("PUT", f"{IMAGES}/away", read)
    assert written.code == 200 and PORTAL_LOGIN in boot_script(away), f"what was read can be written back: {written}"
    read["spec"]["portal"]["address"] = "127.0.0.2"
    moved = away.ask("PUT", f"{IMAGES}/away", {**read, "metadata": {"name": "away"}})
    assert moved.code == 422 and causes(moved)[0]["field"] == "spec.portal.chap.secret", f"the secrets are not given to another portal: {moved}"


def test_a_short_secret_of_a_portal_is_refused_by_its_field(away, portal_secrets):
    short = away.ask("PATCH", f"{IMAGES}/away", {"spec": {"portal": {"chap": {"secret": "short"}}}}, MERGE)
    assert short.code == 422 and causes(short)[0]["field"] == "spec.portal.chap.secret" and "short" not in short.text.replace("shorter", ""), \
        f"a short secret is refused by its field, and not repeated: {short}"


@pytest.mark.parametrize("field, value", [("kernelArguments", ["quiet"]), ("removeArguments", ["quiet"]), ("configDelivery", "seed"),
                                          ("attachAs", "disk"), ("companions", ["live"]), ("method", "kernel")])
def test_an_option_without_effect_at_a_portal_is_refused(away, field, value):
    refused = away.ask("PATCH", f"{IMAGES}/away", {"spec": {field: value}}, MERGE)
    assert refused.code == 422 and causes(refused)[0].get("field") == f"spec.{field}" and PORTAL in causes(refused)[0]["message"], \
        f"{field} of an ISO at a portal is refused by its field: {refused}"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/iso/away", "/iso/away/boot/vmlinuz", "/iso/away?host=52-54-00-00-00-01"])
def test_an_iso_at_a_portal_is_not_served_over_http(away, method, path):
    answer = away.ask(method, path, token=None)
    assert answer.code == 404 and (method == "HEAD" or f"{PORTAL}, target {TARGET}" in answer.text), f"{method} {path} is 404, and names the portal: {answer}"


def test_an_iso_at_a_portal_is_not_given_to_a_bmc(away):
    medium = away.ask("POST", f"{HOSTS}/node1/virtualmedia")
    assert medium.code == 422 and PORTAL in medium.text, f"no BMC gets it: {medium}"


def test_kernel_arguments_without_effect_are_a_warning(away):
    changed = change_host(away, kernelArguments=["quiet"])
    warns = any("spec.kernelArguments" in line and PORTAL in line for line in changed.json["status"].get("warnings", []))
    assert changed.code == 200 and warns, f"the host's status warns that its arguments have no effect: {changed}"
    boot_script(away)
    recorded = lambda: [entry for entry in timeline(away, "node1", "warning")
                        if entry["detail"]["image"] == "away" and "spec.kernelArguments" in entry["detail"]["message"]]
    assert eventually(recorded), f"each boot's timeline warns too: {timeline(away, 'node1')}"
    changed = change_host(away, kernelArguments=None)
    assert "warnings" not in changed.json["status"], f"without arguments there is no warning: {changed}"
