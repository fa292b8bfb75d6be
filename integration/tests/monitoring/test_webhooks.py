"""Webhooks, with receivers that verify what arrives by the libraries of Standard Webhooks and CloudEvents."""

import base64
import re
import signal
import subprocess
import time

import pytest

from support.objects import HOSTS, IMAGES, host, image
from support.server import Server
from support.waiting import eventually
from support.webhook_receiver import Receiver

SECRET, NEXT_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + base64.b64encode(bytes(range(32))).decode()
PATH = "/hooks/path-secret?key=query-secret"
PORTS = iter(range(9101, 9200))


@pytest.fixture
def receivers():
    """A function that starts a receiver at the next port."""
    started = []

    def start(port=None, certificate=None):
        started.append(Receiver(port or next(PORTS), certificate))
        return started[-1]

    yield start
    for receiver in started:
        receiver.close()


@pytest.fixture
def hooked(private_network, place):
    """A function that starts a server with webhooks: a dictionary of keys for each."""
    servers = []

    def start(*webhooks):
        folder = place / f"hooked-{len(list(place.glob('hooked-*')))}"
        folder.mkdir()
        (folder / "secret").write_text(SECRET + "\n")
        text = ""
        for keys in webhooks:
            text += "[[webhooks]]\n" + "".join(f"{key} = {value}\n" for key, value in {"secret_file": f'"{folder}/secret"', **keys}.items())
        servers.append(Server(folder, text))
        return servers[-1].start()

    yield start
    for server in servers:
        server.close()


def url(port, scheme="http", name="127.0.0.1"):
    return f'"{scheme}://{name}:{port}{PATH}"'


def put_host(server, name, number, **spec):
    answer = server.ask("POST", HOSTS, host(name, number, **spec))
    assert answer.code == 201, answer


def metric(server, name, **labels):
    """Returns the sum of the samples of a metric that have the labels."""
    total = 0
    for line in server.ask("GET", "/metrics", token=None).text.splitlines():
        found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if found and found[1] == name and labels.items() <= dict(re.findall(r'(\w+)="([^"]*)"', found[2] or "")).items():
            total += float(found[3])
    return total


def phases(receiver):
    """Returns the hosts and phases that a receiver took, in order."""
    told = [request.told() for request in receiver.taken()]
    return [(data["host"], data.get("previousPhase"), data["phase"]) for kind, data in told if kind == "phase_changed"]


def test_a_phase_change_is_a_signed_cloud_event(hooked, receivers):
    receiver = receivers()
    server = hooked({"url": url(receiver.server.server_port)})
    server.iso()
    assert server.ask("POST", IMAGES, image("live")).code == 201
    put_host(server, "one", 1, image="live")
    request = receiver.wait_for(lambda request: True)
    assert request.path == PATH
    assert request.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert request.headers["host"] == f"127.0.0.1:{receiver.server.server_port}"
    request.verify(SECRET)
    event = request.event()
    assert (event.get_id(), event.get_specversion(), event.get_subject()) == (request.id, "1.0", "one")
    assert event.get_source() == "http://127.0.0.1:8080" and event.get_datacontenttype() == "application/json"
    assert abs(event.get_time().timestamp() - time.time()) < 600
    assert request.told() == ("phase_changed", {"mac": "52:54:00:00:00:01", "host": "one", "phase": "Assigned", "image": "live"})


def test_a_signature_by_another_secret_or_of_another_body_is_refused(hooked, receivers):
    from support import monitoring_tools

    monitoring_tools.prepare()
    from standardwebhooks import WebhookVerificationError

    receiver = receivers()
    server = hooked({"url": url(receiver.server.server_port)})
    put_host(server, "one", 1)
    request = receiver.wait_for(lambda request: True)
    request.verify(SECRET)
    with pytest.raises(WebhookVerificationError):
        request.verify(NEXT_SECRET)
    request.body = request.body.replace(b'"one"', b'"two"')
    with pytest.raises(WebhookVerificationError):
        request.verify(SECRET)


def test_a_secret_is_replaced_without_a_gap(hooked, receivers):
    receiver = receivers()
    server = hooked({"url": url(receiver.server.server_port)})
    (server.place / "secret").write_text(f"{SECRET}\n{NEXT_SECRET}\n")
    server.restart()
    put_host(server, "one", 1)
    request = receiver.wait_for(lambda request: True)
    request.verify(SECRET)
    request.verify(NEXT_SECRET)


def test_a_diagnosis_is_told_and_taken_back(hooked, receivers):
    receiver = receivers()
    server = hooked({"url": url(receiver.server.server_port), "events": '["stalled", "stall_cleared"]'})
    put_host(server, "one", 1)
    assert server.ask("POST", f"{HOSTS}/one/hold").code < 300
    assert server.ask("GET", "/ipxe?mac=52:54:00:00:00:01").code < 500
    kind, data = receiver.wait_for(lambda request: True, wait=30).told()
    assert (kind, data["host"], data["reason"], data["certainty"]) == ("stalled", "one", "held", "certain"), data
    assert data["message"] and data["remedy"] and data["stage"]
    assert server.ask("POST", f"{HOSTS}/one/localboot").code < 300
    cleared = receiver.wait_for(lambda request: request.told()[0] == "stall_cleared", wait=30)
    cleared.verify(SECRET)
    assert cleared.told()[1]["reason"] == "held"
    assert {request.told()[0] for request in receiver.requests} == {"stalled", "stall_cleared"}, "it is told what it asked for"


def test_strangers_are_told_of_only_where_that_is_asked_for(hooked, receivers):
    asks, does_not = receivers(), receivers()
    server = hooked({"url": url(asks.server.server_port), "events": '["first_seen"]'}, {"url": url(does_not.server.server_port)})
    assert server.ask("GET", "/ipxe?mac=52:54:00:00:00:77").code < 500
    kind, data = asks.wait_for(lambda request: True).told()
    assert (kind, data["mac"], data["action"]) == ("first_seen", "52:54:00:00:00:77", "hold")
    put_host(server, "one", 1)
    does_not.wait_for(lambda request: request.told()[1]["host"] == "one")
    assert len(does_not.requests) == 1


def test_a_receiver_that_fails_is_asked_again_in_order(hooked, receivers):
    receiver = receivers()
    receiver.status = 503
    server = hooked({"url": url(receiver.server.server_port), "name": '"hooks"'})
    for number in (1, 2, 3):
        put_host(server, f"h{number}", number)
    first = receiver.wait_for(lambda request: True)
    assert eventually(lambda: len(receiver.requests) >= 2, 20), "it is tried again"
    assert {request.id for request in receiver.requests} == {first.id}, "the others wait"
    assert metric(server, "bootlatch_webhook_queue_length", webhook="hooks") == 3
    receiver.status = 200
    assert eventually(lambda: len(receiver.taken()) == 3, 40), receiver.requests
    assert phases(receiver) == [("h1", None, "LocalBoot"), ("h2", None, "LocalBoot"), ("h3", None, "LocalBoot")]
    assert len({request.id for request in receiver.taken()}) == 3
    assert eventually(lambda: metric(server, "bootlatch_webhook_queue_length", webhook="hooks") == 0, 5)
    assert metric(server, "bootlatch_webhook_attempts_total", webhook="hooks", outcome="delivered") == 3
    assert metric(server, "bootlatch_webhook_attempts_total", webhook="hooks", outcome="failed") >= 2
    log = server.log()
    assert log.count("webhook failed: trying again") == 1 and log.count("webhook recovered") == 1, log


def test_a_receiver_that_asks_for_time_gets_it(hooked, receivers):
    receiver = receivers()
    receiver.status, receiver.headers = 429, {"retry-after": "4"}
    server = hooked({"url": url(receiver.server.server_port)})
    put_host(server, "one", 1)
    receiver.wait_for(lambda request: True)
    began = time.monotonic()
    receiver.status, receiver.headers = 200, {}
    assert eventually(receiver.taken, 20)
    assert time.monotonic() - began > 3


def test_what_a_receiver_rejects_is_dropped_and_counted(hooked, receivers):
    receiver = receivers()
    receiver.status = 400
    server = hooked({"url": url(receiver.server.server_port), "name": '"hooks"'})
    put_host(server, "one", 1)
    receiver.wait_for(lambda request: True)
    assert eventually(lambda: metric(server, "bootlatch_webhook_notifications_dropped_total", webhook="hooks", reason="rejected") == 1, 10)
    receiver.status = 204
    put_host(server, "two", 2)
    receiver.wait_for(lambda request: request.told()[1]["host"] == "two")
    assert len(receiver.requests) == 2
    assert "notification rejected" in server.log()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_lost_when_the_server_ends(hooked, receivers, how):
    """The receiver is down meanwhile, and comes back only after the server."""
    port = next(PORTS)
    server = hooked({"url": url(port), "name": '"hooks"'})
    put_host(server, "one", 1)
    put_host(server, "two", 2)
    assert eventually(lambda: metric(server, "bootlatch_webhook_attempts_total", webhook="hooks", outcome="failed") > 0, 10)
    server.restart(how)
    put_host(server, "three", 3)
    receiver = receivers(port)
    assert eventually(lambda: len(receiver.taken()) >= 3, 30), receiver.requests
    assert [name for name, _, _ in phases(receiver)] == ["one", "two", "three"]


def test_what_was_delivered_is_not_told_again_after_a_stop(hooked, receivers):
    receiver = receivers()
    server = hooked({"url": url(receiver.server.server_port), "name": '"hooks"'})
    put_host(server, "one", 1)
    receiver.wait_for(lambda request: True)
    assert eventually(lambda: metric(server, "bootlatch_webhook_queue_length", webhook="hooks") == 0, 10)
    server.restart()
    put_host(server, "two", 2)
    receiver.wait_for(lambda request: request.told()[1]["host"] == "two")
    assert [name for name, _, _ in phases(receiver)] == ["one", "two"]


def test_a_receiver_that_hangs_delays_nobody(hooked, receivers):
    hangs, answers = receivers(), receivers()
    hangs.answering.clear()
    server = hooked({"url": url(hangs.server.server_port)}, {"url": url(answers.server.server_port)})
    longest = 0
    for number in range(1, 31):
        began = time.monotonic()
        put_host(server, f"h{number}", number)
        assert server.ask("GET", f"/ipxe?mac=52:54:00:00:00:{number:02x}").code == 200
        longest = max(longest, time.monotonic() - began)
    assert eventually(lambda: len(answers.taken()) == 30, 30), len(answers.taken())
    assert len(hangs.requests) == 1
    assert longest < 15, "no request waits for the 20 s that the receiver is given"
    server.stop()
    assert server.process.returncode == 0 and "services aborted" not in server.log(), "the server stops without waiting"
    server.closed = True


def test_a_receiver_with_tls_is_verified(hooked, receivers, place):
    own, other = (certificate(place, name) for name in ("own", "other"))
    receiver, stranger = receivers(certificate=own), receivers(certificate=other)
    server = hooked({"url": url(receiver.server.server_port, "https", "localhost"), "ca_file": f'"{own}"', "name": '"own"'},
                    {"url": url(stranger.server.server_port, "https", "localhost"), "ca_file": f'"{own}"', "name": '"other"'})
    put_host(server, "one", 1)
    receiver.wait_for(lambda request: True).verify(SECRET)
    assert eventually(lambda: metric(server, "bootlatch_webhook_attempts_total", webhook="other", outcome="failed") > 0, 10)
    assert stranger.requests == []
    assert eventually(lambda: "TLS handshake" in server.log(), 5), server.tail()


def certificate(place, name):
    """Returns the file of a new certificate for localhost, with its key."""
    file = place / f"{name}.pem"
    if not file.exists():
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9",
                        "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", f"{file}.key", "-out", f"{file}.crt"],
                       check=True, capture_output=True)
        with open(file, "w") as whole:
            for part in (f"{file}.key", f"{file}.crt"):
                whole.write(open(part).read())
        file.chmod(0o644)
    return file


def test_no_secret_is_logged_or_shown(hooked, receivers):
    receiver = receivers()
    receiver.status = 500
    server = hooked({"url": url(receiver.server.server_port)})
    put_host(server, "one", 1)
    receiver.wait_for(lambda request: True)
    assert eventually(lambda: "webhook failed" in server.log(), 5)
    shown = server.all_logs() + server.ask("GET", "/metrics", token=None).text
    for secret in (SECRET, SECRET.removeprefix("whsec_"), "path-secret", "query-secret"):
        assert secret not in shown


@pytest.mark.parametrize("keys, expected", [
    ({"url": '"http://127.0.0.1:9"', "secret_file": '"/nonexistent"'}, "webhooks: 127.0.0.1:9: secret_file: /nonexistent: "),
    ({"url": '"http://127.0.0.1:9"', "secret_file": '"/etc/hostname"'}, "/etc/hostname: line 1: expected whsec_ and the base64"),
    ({"url": '"https://127.0.0.1:9"', "ca_file": '"/nonexistent"'}, "webhooks: 127.0.0.1:9: ca_file: /nonexistent: cannot read"),
    ({"url": '"/hooks"'}, "webhooks.url: expected a URL"),
])
def test_a_wrong_webhook_stops_the_start_and_names_the_key(hooked, keys, expected):
    with pytest.raises(RuntimeError) as error:
        hooked(keys)
    assert expected in str(error.value)
