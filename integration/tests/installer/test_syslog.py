"""The syslog receiver: real senders over UDP and TCP, whose lines go into the timeline of the host that they come from."""

import json
import os
import subprocess
import time

import pytest

from support.installer_lines import SYSLOG, connection, datagrams, entries, logger, said, stream
from support.lan import tool, until
from support.objects import HOSTS
from support.provisioned_lan import FAR, MACS, OURS, Machine, routed_network, token_of
from support.systemd_world import SystemdWorld


@pytest.fixture(scope="module")
def network(lan):
    """A server that receives syslog, the machine `near` whose install is under way, and the machine `far` behind a router."""
    box, near, far, _ = routed_network(lan, SYSLOG, FAR)
    near.script()
    return box, near, far


@pytest.mark.parametrize("how", [["--udp", "--rfc3164"], ["--udp", "--rfc5424"], ["--tcp", "--rfc3164"], ["--tcp", "--rfc5424"],
                                 ["--tcp", "--octet-count", "--rfc5424"], ["--tcp", "--octet-count", "--rfc3164"]])
def test_lines_of_logger(box, near, how):
    text = f"hello over {' '.join(how)}"
    logger(near, *how, "-p", "local1.err", "-t", "anaconda", text)
    assert said(box, "near", text) == {"source": "syslog", "stage": "anaconda", "level": "err", "message": text}


def test_lines_of_busybox_as_debian_installer_sends_them(box, near, lan):
    """busybox's syslogd sends no host name."""
    syslogd = lan.start(near.space, "syslogd", "unshare", "--mount", "sh", "-c",
                        f"mount -t tmpfs tmpfs /dev && exec {tool('busybox')} syslogd -n -m 0 -S -O /dev/syslog -L -R {OURS}:514")
    inside = ["nsenter", "-t", str(syslogd.process.pid), "--mount", "--net"]
    until("syslogd listens", lambda: subprocess.run([*inside, "test", "-S", "/dev/log"]).returncode == 0)
    words = "WARNING **: Configuring 'partman-base' failed with error code 1"
    subprocess.run([*inside, tool("busybox"), "logger", "-t", "main-menu", "-p", "daemon.warn", words], check=True, timeout=10)
    assert said(box, "near", "partman-base") == {"source": "syslog", "stage": "main-menu", "level": "warning", "message": words}


def test_the_journal_of_a_live_system(box, near, lan):
    """The command of the guide, in a real systemd at the machine's address."""
    live = SystemdWorld(lan, near.space)
    live.run("sh", "-c", f"(journalctl -f -n all -o short | logger --server {OURS} --port 514 --udp -t journal) >/dev/null 2>&1 &")
    live.run("logger", "-p", "daemon.err", "-t", "installer", "the live system has no disk")
    entry = said(box, "near", "the live system has no disk")
    assert entry["stage"] == "journal" and "installer[" in entry["message"], entry
    live.close()


def test_a_line_belongs_to_the_address_and_not_to_the_name_in_it(box, near, network):
    far = network[2]
    before = box.dropped("syslog", "untied_source")
    datagrams(far, "<13>Jan  2 15:04:05 near anaconda: I am near", "<13>1 - near anaconda - - - I am near")
    until("the lines of an address that nothing ties are counted", lambda: box.dropped("syslog", "untied_source") == before + 2)
    datagrams(near, "<13>Jan  2 15:04:05 far anaconda: I am far")
    said(box, "near", "I am far")
    assert not entries(box, "far") and "I am near" not in json.dumps(entries(box, "near")), "the name in a line proves nothing"


def test_connections_of_strangers_are_closed(box, network):
    far = network[2]
    before = box.dropped("syslog", "untied_source")
    with connection(far) as stranger:
        assert stranger.recv(1) == b"", "the server closes it"
    assert box.dropped("syslog", "untied_source") == before + 1


def test_a_source_has_a_bounded_number_of_connections(box, near):
    before = box.dropped("syslog", "source_limit")
    held = [connection(near) for _ in range(8)]
    with connection(near) as one_more:
        assert one_more.recv(1) == b"", "the ninth is closed"
    assert box.dropped("syslog", "source_limit") == before + 1
    held[0].sendall(b"<13>a: a held one goes on\n")
    said(box, "near", "a held one goes on")
    for stream in held:
        stream.close()


def test_a_line_that_is_repeated_is_one_entry(box, near):
    datagrams(near, *["<12>Jan  2 15:04:05 kernel: [   12.345678] the same again"] * 5, "<12>Jan  2 15:04:05 kernel: [   99.000000] the same again")
    until("six occurrences", lambda: [entry["count"] for entry in entries(box, "near") if "the same again" in entry["detail"]["message"] and "count" in entry] == [6])


def test_long_and_odd_lines(box, near):
    cut = box.dropped("syslog", "line_too_long")
    long = "x" * 20_000
    stream(near, f"<12>a: begin {long}\n<12>a: after it\n".encode())
    datagrams(near, f"<12>b: begin {long}", b"<12>c: \x1b[31mred\x1b[0m \xe2\x80\xae\xff\x00 end", b"", b"<12>", b"\xff\xfe\xfd")
    assert len(said(box, "near", "begin", '"a"')["message"]) == 512, "a line in the timeline is short"
    said(box, "near", "after it"), said(box, "near", "begin", '"b"')
    assert said(box, "near", '"c"')["message"] == "[31mred[0m \ufffd end", "without control characters"
    assert box.dropped("syslog", "line_too_long") == cut + 2
    with connection(near) as sender:
        sender.sendall(b"99999999999 <13>a: absurd")
        assert sender.recv(1) == b"", "an absurd length ends the connection"


def test_no_secret_of_the_host_is_in_any_view(box, near):
    token = token_of(near.script())
    secret = f"password is sesame, inst.ks=http://x/?token={token}, rootpw=hunter2hunter2"
    datagrams(near, f"<11>Jan  2 15:04:05 anaconda: {secret}", "<11>Jan  2 15:04:05 sesame: a tag")
    assert said(box, "near", "password is")["message"] == "password is REDACTED, inst.ks=http://x/?token=REDACTED, rootpw=REDACTED"
    said(box, "near", "a tag")
    views = [json.dumps(box.api("GET", path)[1]) for path in (f"{HOSTS}/near/timeline", "/api/v1/timeline", "/api/v1/events", f"{HOSTS}/near")]
    for view in [*views, box.program.text()]:
        assert "sesame" not in view and token not in view and "hunter2" not in view


def test_a_flood_leaves_room_for_the_failure_and_for_others(box, near):
    began = time.monotonic()
    datagrams(near, *[f"<14>Jan  2 15:04:05 anaconda: detail {number}" for number in range(20_000)])
    stream(near, b"".join(b"<14>Jan  2 15:04:05 anaconda: more %d\n" % number for number in range(20_000)))
    datagrams(near, "<14>Jan  2 15:04:05 partman: No root file system is defined.")
    def failure():
        # The source has used up its rate: an installer's line that matters comes again, or later.
        datagrams(near, "<11>Jan  2 15:04:05 partman: No root file system is defined.")
        return any("No root file system" in entry["detail"]["message"] for entry in entries(box, "near"))
    until("the failure is in the timeline all the same", failure)
    lines = entries(box, "near")
    assert len(lines) < 150 + (time.monotonic() - began) * 10, f"{len(lines)} entries of 40,000 lines"
    assert box.dropped("syslog", "rate_limit") > 20_000
    assert "script" in [entry["event"] for entry in box.api("GET", f"{HOSTS}/near/timeline")[1]["items"]], "the rest of the timeline is there"
    assert box.program.text().count("anaconda: detail") == 0, "no line is in the log at INFO"


def test_a_host_without_an_install_is_not_heard(box, near):
    before = box.dropped("syslog", "no_install")
    box.api("POST", f"{HOSTS}/near/localboot")
    logger(near, "--udp", "-t", "sshd", "the installed system logs here too")
    until("its line is counted", lambda: box.dropped("syslog", "no_install") == before + 1)


def test_the_timeline_is_there_after_a_restart(box, near, network):
    logger(near, "--udp", "-p", "local1.warning", "-t", "anaconda", "said before the restart")
    said(box, "near", "said before the restart")
    box.start(SYSLOG)
    said(box, "near", "said before the restart")
    logger(near, "--udp", "-p", "local1.warning", "-t", "anaconda", "said after the restart")
    said(box, "near", "said after the restart")
    shown = subprocess.run([os.environ["BOOTLATCH"], "host", "timeline", "near"], capture_output=True, text=True,
                           env={"BOOTLATCH_SERVER": f"unix:{box.state}/api.sock"}).stdout
    assert "installer" in shown and "said before the restart" in shown, shown
    metrics = box.metrics()
    assert metrics['bootlatch_installer_lines_total{source="syslog"}'] >= 1 and metrics['bootlatch_requests_total{protocol="syslog",outcome="answered"}'] >= 1
