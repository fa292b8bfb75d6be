"""Logins: CHAP one way and mutual, redirection to another portal, initiators without access, digests."""

import socket

import pytest

from support.iscsi_initiator import Initiator, Refused, chap_response, refusal
from support.iscsi_target import LONG, TARGET, Target, run
from support.waiting import slowness

SECRET = "a-secret-of-host"
ALLOWED = "iqn.2026-11.org.bootlatch:test"


def test_libiscsi_proves_itself_with_chap_one_way_and_mutual(media):
    with Target(f"{TARGET}=disk:{media.disk}", "--chap", f"host:{SECRET}:target:a-secret-of-ours") as target:
        run("iscsi-inq", target.url(0, user=f"host%{SECRET}@"))
        mutual = "?target_user=target&target_password=a-secret-of-ours"
        run("iscsi-inq", target.url(0, user=f"host%{SECRET}@", query=mutual))
        for user, query in (("host%a-wrong-secret@", ""), (f"guest%{SECRET}@", ""), ("", ""),
                            (f"host%{SECRET}@", mutual.replace("ours", "nobody"))):
            run("iscsi-inq", target.url(0, user=user, query=query), good=False)
        target.wait_for("Chap(Secret)")


@pytest.mark.parametrize("keys", [["AuthMethod=None"], []], ids=["none", "unspecified"])
def test_a_login_without_chap_is_refused(media, keys):
    with Target(f"{TARGET}=disk:{media.disk}", "--chap", f"host:{SECRET}") as target:
        refused = refusal(target.port, TARGET, keys)
        assert refused and refused.args[0] == "0201", f"a login without CHAP is an authentication failure: {refused and refused.args}"


def test_challenges_differ_and_a_reflected_one_is_refused(media):
    """RFC 7143, 12.1.3: the initiator must not have the target answer the target's own challenge."""
    with Target(f"{TARGET}=disk:{media.disk}", "--chap", f"host:{SECRET}") as target:
        challenges = {chap_login(target.port, reflect) for reflect in (False, False, True)}
    assert len(challenges) == 3, f"no challenge is used twice: {challenges}"


def chap_login(port, reflect):
    """Logs in with CHAP step by step; returns the target's challenge."""
    initiator = Initiator.__new__(Initiator)
    initiator.stream = socket.create_connection(("127.0.0.1", port), 10 * slowness())
    initiator.isid, initiator.command, initiator.tag = b"\x80\0\0\0\0\1", 1, 0
    initiator.header_digest = initiator.data_digest = False
    first = initiator.login(0x01, ["InitiatorName=iqn.x:y", f"TargetName={TARGET}", "AuthMethod=CHAP,None"])
    assert first["AuthMethod"] == "CHAP", f"the target chooses CHAP: {first}"
    second = initiator.login(0x01, ["CHAP_A=5"])
    challenge = second["CHAP_C"]
    proof = ["CHAP_N=host", "CHAP_R=" + chap_response(int(second["CHAP_I"]), SECRET.encode(), bytes.fromhex(challenge[2:]))]
    refused = None
    try:
        initiator.login(0x81, proof + (["CHAP_I=1", f"CHAP_C={challenge}"] if reflect else []))
    except Refused as error:
        refused = error
    initiator.stream.close()
    if reflect:
        assert refused and refused.args[0] == "0201", f"a reflected challenge is refused as an authentication failure: {refused and refused.args}"
    else:
        assert refused is None, f"the right secret is accepted: {refused}"
    return challenge


def test_a_login_is_redirected_to_another_portal(target):
    with Target("--redirect", f"{TARGET}=127.0.0.1:{target.port}") as front:
        assert "DIRECT_ACCESS" in run("iscsi-inq", front.url(0)), "libiscsi follows the redirection"
        refused = refusal(front.port, TARGET)
        assert refused and refused.args == ("0101", f"TargetAddress=127.0.0.1:{target.port}\0".encode()), \
            f"the login response names the other portal: {refused and refused.args}"


def test_an_initiator_without_access_gets_a_login_failure(media):
    with Target(f"{TARGET}=disk:{media.disk}", "--only", ALLOWED) as target:
        Initiator(target.port, TARGET).logout()
        for name, wanted, status in (("iqn.x:stranger", TARGET, "0202"), (ALLOWED, "iqn.x:none", "0203")):
            refused = refusal(target.port, wanted, name=name)
            assert refused and refused.args[0] == status, f"{name} at {wanted} is refused with status {status}: {refused and refused.args}"
        target.wait_for("Refused(Forbidden)")


def test_digests_of_headers_and_data(target, media):
    disk = media.disk.read_bytes()
    for keys in (["HeaderDigest=CRC32C", "DataDigest=CRC32C"], ["HeaderDigest=None,CRC32C", "DataDigest=CRC32C,None"]):
        initiator = Initiator(target.port, TARGET, keys)
        assert initiator.data_digest and initiator.header_digest == (keys[0] == "HeaderDigest=CRC32C"), \
            f"the target chooses the first digest of {keys}: {initiator.answers}"
        assert initiator.good([0x28, 0, 0, 0, 0, 3, 0, 0, 9, 0]) == disk[3 * 512:12 * 512], f"a read with {keys} returns the disk's data"
        initiator.logout()
    for keys in ([], ["HeaderDigest=CRC32C"], ["DataDigest=CRC32C"]):
        initiator = Initiator(target.port, TARGET, LONG + keys)
        assert initiator.good([0x28, 0, 0, 0, 0, 3, 0, 1, 44, 0], room=300 * 512) == disk[3 * 512:303 * 512], \
            f"a read in long segments with {keys} returns the disk's data"
        initiator.logout()
