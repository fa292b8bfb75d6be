"""CHAP of a host and of the whole server, one way and mutual. Only the machine of the host gets the secret."""

import pytest

from support.iscsi_initiator import refusal
from support.iso_uploads import sha
from support.objects import HOSTS
from support.served_iso import IQN, MINE, VIEW, boot_script, change_host, portal_url, read_by_qemu, refusals, run
from support.waiting import eventually
from support.watched_isos import details

SECRET, OURS = "a-secret-of-node1", "a-secret-of-ours"
LOGIN = f"set username node1\nset password {SECRET}\nset reverse-username target\nset reverse-password {OURS}\n"
SERVER_SECRET = '[iscsi.chap]\nusername = "site"\nsecret = "a-secret-of-site"\n'


@pytest.fixture
def secrets(live):
    """The response to setting the host's secrets, which are removed after the test."""
    yield change_host(live, chap={"username": "node1", "secret": SECRET, "targetUsername": "target", "targetSecret": OURS})
    change_host(live, chap=None, ip="192.0.2.1")


def test_a_short_secret_is_refused(live):
    short = change_host(live, chap={"username": "node1", "secret": "short"})
    assert short.code == 422 and "spec.chap.secret" in short.text and "12 to 128 octets" in short.text, f"a short secret is refused: {short}"


def test_secrets_cannot_be_read_and_can_be_written_back(live, secrets):
    seen = secrets.text + live.ask("GET", HOSTS).text + live.run("get", "host", "node1", "-o", "yaml").stdout
    assert secrets.code == 200 and SECRET not in seen and OURS not in seen and seen.count("REDACTED") >= 6, f"the secrets cannot be read: {seen}"
    read = live.ask("GET", f"{HOSTS}/node1").json
    written = live.ask("PUT", f"{HOSTS}/node1", read)
    assert written.code == 200, f"what was read can be written back: {written}"


def test_libiscsi_attaches_with_the_secret_one_way_and_mutual(live, secrets):
    user = f"node1%{SECRET}@"
    run("iscsi-inq", "-i", MINE, portal_url("live", user))
    run("iscsi-inq", "-i", MINE, portal_url("live", user, query=f"?target_user=target&target_password={OURS}"))
    failed = run("iscsi-inq", "-i", MINE, portal_url("live", user, query="?target_user=target&target_password=not-ours-at-all"), good=False)
    assert "ailed" in failed, f"libiscsi does not accept the target with another secret: {failed}"


def test_qemu_reads_the_view_with_the_secret(live, secrets, here):
    assert sha(read_by_qemu(here, "live", user="node1", secret=SECRET)) == sha(live.ask("GET", VIEW, token=None).body), "QEMU reads the host's view"


def test_wrong_secrets_are_refused_counted_and_recorded(live, secrets):
    before = refusals(live, "chap_failed")
    for user in ("node1%a-guess-of-mine@", f"node2%{SECRET}@", ""):
        run("iscsi-inq", "-i", MINE, portal_url("live", user), good=False)
    refused = refusal(3260, f"{IQN}:live", name=MINE, keys=["AuthMethod=None"])
    assert refused and refused.args[0] == "0201", f"AuthMethod=None is refused as an authentication failure: {refused}"
    assert eventually(lambda: refusals(live, "chap_failed") >= before + 4), f"refusals are counted with their reason: {live.ask('GET', '/metrics', token=None)}"
    reasons = lambda: [(detail["protocol"], detail["reason"]) for detail in details(live, "node1", "refused")]
    assert eventually(lambda: ("iscsi", "chap_failed") in reasons()), f"refusals are in the timeline: {reasons()}"


def test_the_boot_script_has_the_secrets(live, secrets):
    script = boot_script(live)
    assert LOGIN in script, f"the machine's script has the secrets: {script}"


def test_a_boot_script_for_an_unverified_address_has_no_secret(live, secrets):
    change_host(live, ip="192.0.2.9")
    script = boot_script(live, source="192.0.2.77")
    assert "sanboot iscsi" not in script and SECRET not in script, f"a machine at another address than its host's gets no boot script: {script}"
    change_host(live, ip=None)
    script = boot_script(live, source="192.0.2.77")
    assert "sanboot iscsi" in script and SECRET not in script, f"a script for an unverified address has no secrets: {script}"


def test_the_servers_secret_applies_to_hosts_without_their_own(live):
    config = live.config
    live.config += SERVER_SECRET
    live.restart()
    try:
        run("iscsi-inq", "-i", MINE, portal_url("live", "site%a-secret-of-site@"))
        run("iscsi-inq", "-i", MINE, portal_url("live"), good=False)
        run("iscsi-ls", "iscsi://127.0.0.1:3260", good=False)
        listed = run("iscsi-ls", "-i", MINE, "iscsi://site%a-secret-of-site@127.0.0.1:3260")
        assert f"{IQN}:live" in listed, f"a discovery session needs the server-wide secret too: {listed}"
    finally:
        live.config = config
        live.restart()
