"""Which requests count as local: the loopback, web pages, the unix socket, proxies; and IPv6 neighbours."""

import http.client
import json
import subprocess

import pytest

from support.network import ip
from support.objects import CONFIGS, HOSTS, config, host
from support.waiting import eventually

NGINX = """daemon off; pid {place}/nginx.pid; error_log {place}/nginx.log; events {{}}
http {{ access_log off;
  client_body_temp_path {place}/n1; proxy_temp_path {place}/n2; fastcgi_temp_path {place}/n3; uwsgi_temp_path {place}/n4; scgi_temp_path {place}/n5;
  server {{ listen 127.0.0.1:8090; location / {{ proxy_pass http://127.0.0.1:8080; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}
  server {{ listen 127.0.0.1:8091; location / {{ proxy_pass http://127.0.0.1:8080; }} }}
}}
"""


@pytest.fixture
def nginx(server):
    """A real nginx on the loopback: port 8090 sends X-Forwarded-For, port 8091 does not."""
    (server.place / "nginx.conf").write_text(NGINX.format(place=server.place))
    process = subprocess.Popen(["nginx", "-c", server.place / "nginx.conf", "-e", server.place / "nginx.log"])
    yield
    process.terminate()
    process.wait()


def through_nginx(port, **headers):
    """Returns the status of a request for the hosts through nginx; None if nginx does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", HOSTS, headers=headers)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def test_trust_loopback(server, nginx):
    with server.configured("[api]\ntrust_loopback = true\n"):
        assert server.ask("GET", HOSTS, token=None).code == 200, "the loopback is trusted with trust_loopback"
        # Headers of a browser on this machine, whatever site the page is from.
        for page in ({"Origin": "http://evil.example", "Host": "evil.example"}, {"Sec-Fetch-Site": "same-origin"}):
            made = server.ask("POST", CONFIGS, json.dumps(config("page")), "text/plain", token=None, headers=page)
            assert made.code == 401, f"a web page's request with {next(iter(page))} is not trusted as local: {made}"
        assert server.ask("GET", HOSTS, headers={"Origin": "http://evil.example"}).code == 200, "a web page's request with a token is accepted"
        assert eventually(lambda: through_nginx(8090)) == 401, "a request through a proxy on the loopback is not trusted as local"
        assert through_nginx(8090, **{"X-Forwarded-For": "127.0.0.1"}) == 401, "a client cannot claim the loopback in X-Forwarded-For"
        assert through_nginx(8090, Authorization=f"Bearer {server.token}") == 200, "a token is accepted through the proxy"
    with server.configured('[api]\ntrust_loopback = true\nproxies = ["127.0.0.1"]\n'):
        assert through_nginx(8091) == 401, "a configured proxy without X-Forwarded-For is not trusted as local"
        assert through_nginx(8090) == 401, "a configured proxy is not trusted as local for a local client"


def test_an_untrusted_unix_socket(server):
    with server.configured("[api]\ntrust_socket = false\n"):
        assert server.run("get", "hosts").returncode == 6, "the unix socket is not trusted with trust_socket = false"
        assert server.run("--token-file", server.state / "admin.token", "get", "hosts").returncode == 0, "the token is accepted on the unix socket"


def test_the_address_that_a_proxy_names(server):
    config_for = lambda way: server.ask("GET", "/api/v1/bootconfig", token=None, headers={"X-Forwarded-For": way}).code
    with server.configured('[api]\nproxies = ["127.0.0.1"]\n'):
        server.ask("POST", CONFIGS, config("c"))
        server.ask("POST", HOSTS, host("far", 77, ip="192.0.2.77", bootConfigRef="c"))
        assert config_for("192.0.2.77") == 200, "a configured proxy's X-Forwarded-For names the client"
        # An IPv6 address that the neighbour table has with another MAC address proves nothing.
        ip("link", "add", "wire0", "type", "veth", "peer", "name", "wire1")
        ip("link", "set", "wire0", "up")
        ip("link", "set", "wire1", "up")
        ip("-6", "addr", "add", "fd00::1/64", "dev", "wire0", "nodad")
        for number, mac in ((5, "52:54:00:00:00:4e"), (6, "52:54:00:aa:bb:cc")):
            ip("-6", "neigh", "add", f"fd00::{number}", "lladdr", mac, "dev", "wire0", "nud", "permanent")
        server.ask("POST", HOSTS, host("six", 78, ip="fd00::5", bootConfigRef="c"))
        assert config_for("fd00::5") == 200, "an IPv6 neighbour with the host's MAC address gets its config"
        server.ask("PATCH", f"{HOSTS}/six", {"spec": {"ip": "fd00::6"}})
        assert config_for("fd00::6") == 403, "an IPv6 neighbour with another MAC address is refused"
        assert config_for("192.0.2.77, 203.0.113.9") == 404, "only the last address in X-Forwarded-For counts"
    assert config_for("192.0.2.77") == 404, "X-Forwarded-For of any other client is ignored"
