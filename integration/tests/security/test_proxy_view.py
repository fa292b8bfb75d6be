"""A proxy keeps one connection for many clients: what one client may read is not served to the next."""

import http.client
import subprocess

import pytest

from support.objects import CONFIGS, HOSTS, IGNITION, IMAGES, config, host, image, timeline
from support.waiting import eventually

VICTIM, ATTACKER = "192.0.2.7", "192.0.2.8"
VIEW = "/iso/live?host=one"
pytestmark = pytest.mark.usefixtures("server")

NGINX = """daemon off; worker_processes 1; pid {place}/nginx.pid; error_log {place}/nginx.log; events {{}}
http {{ access_log off;
  client_body_temp_path {place}/n1; proxy_temp_path {place}/n2; fastcgi_temp_path {place}/n3; uwsgi_temp_path {place}/n4; scgi_temp_path {place}/n5;
  upstream appliance {{ server 127.0.0.1:8080; keepalive 1; }}
  server {{ listen 192.0.2.1:8090; location / {{
    proxy_pass http://appliance; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}
}}
"""


@pytest.fixture(scope="module")
def server(start_server):
    server = start_server('[api]\nproxies = ["127.0.0.1"]\n')
    server.iso()
    for path, body in ((IMAGES, image("live")), (HOSTS, host("one", 1, image="live", ip=VICTIM)), (HOSTS, host("two", 2, ip=ATTACKER))):
        made = server.ask("POST", path, body)
        assert made.code == 201, made
    return server


def request(client, numbers=None, path=VIEW):
    fields = f"Range: bytes={numbers}\r\n" if numbers else ""
    return f"GET {path} HTTP/1.1\r\nHost: boot\r\nX-Forwarded-For: {client}\r\n{fields}\r\n"


def test_one_connection_and_two_clients(raw_client):
    proxy = raw_client()
    for numbers in ("0-2047", "2048-4095"):
        assert proxy.ask(request(VICTIM, numbers))[0] == 206, "the host reads its view in ranges"
    # Each request of the attacker follows one of the victim at once, while the connection remembers the view.
    for numbers in ("0-2047", "2048-4095", "4096-6143", None):
        assert proxy.ask(request(VICTIM, numbers))[0] in (200, 206)
        for _ in range(2):
            refused = proxy.ask(request(ATTACKER, numbers))
            assert refused[0] == 403, f"another machine is refused the view with {numbers}: {refused[:2]}"
    # The attacker's own image is not mistaken for the victim's view either.
    assert proxy.ask(request(ATTACKER, "0-2047", "/iso/live"))[0] == 206
    assert proxy.ask(request(VICTIM, "0-2047", "/iso/live"))[0] == 206


def test_a_client_that_the_proxy_hides(raw_client):
    proxy = raw_client()
    assert proxy.ask(request(VICTIM, "0-2047"))[0] == 206
    for hidden in ("unknown", "", f"{ATTACKER}, unknown"):
        refused = proxy.ask(request(hidden, "0-2047"))
        assert refused[0] == 403, f"a client without an address is refused: {hidden!r} {refused[:2]}"


def test_configs_over_one_connection(server, raw_client):
    owner = "192.0.2.9"
    for path, body in ((CONFIGS, config("builder")), (IMAGES, image("own", ["builder"])), (HOSTS, host("three", 3, image="own", bootConfigRef="builder", ip=owner))):
        made = server.ask("POST", path, body)
        assert made.code == 201, made
    proxy = raw_client()
    for _ in range(3):
        code, _, given = proxy.ask(request(owner, path="/api/v1/bootconfig"))
        assert (code, given) == (200, IGNITION.encode()), "the machine gets its config"
        for other in (ATTACKER, "unknown", "192.0.2.77", f"{ATTACKER}, unknown"):
            code, _, given = proxy.ask(request(other, path="/api/v1/bootconfig"))
            assert code in (403, 404) and IGNITION.encode() not in given, f"another client gets none: {other} {code} {given}"
        assert b"/etc/hostname" in proxy.ask(request(owner, path="/get_ignition"))[2]
        assert proxy.ask(request(ATTACKER, path="/get_ignition"))[2] == b"{}", "another machine gets an empty config"
    fetched = [entry for entry in timeline(server, "three", "config_fetched")]
    assert fetched and all(f"{owner}'" in str(entry) for entry in fetched), f"the timeline names the machine's address: {fetched}"


@pytest.fixture
def nginx(server):
    (server.place / "nginx.conf").write_text(NGINX.format(place=server.place))
    process = subprocess.Popen(["nginx", "-c", server.place / "nginx.conf", "-e", server.place / "nginx.log"])
    yield
    process.terminate()
    process.wait()


def through_nginx(client, numbers):
    connection = http.client.HTTPConnection("192.0.2.1", 8090, timeout=20, source_address=(client, 0))
    try:
        connection.request("GET", VIEW, headers={"Range": f"bytes={numbers}"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except OSError:
        return None
    finally:
        connection.close()


def upstream_connections():
    lines = subprocess.run(["ss", "-Htn", "state", "established", "dport", "=", ":8080"], capture_output=True, text=True).stdout
    return len(lines.splitlines())


def test_a_real_proxy_with_keep_alive(nginx):
    assert eventually(lambda: through_nginx(VICTIM, "0-2047")) == 206, "the host reads its view through nginx"
    for start in range(0, 20480, 2048):
        numbers = f"{start}-{start + 2047}"
        assert through_nginx(VICTIM, numbers) == 206
        assert through_nginx(ATTACKER, numbers) == 403, f"another machine behind the same proxy is refused: {numbers}"
    assert upstream_connections() == 1, "nginx used one connection for both"
