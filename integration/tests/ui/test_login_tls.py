"""Logins over TLS: of the server itself, and of nginx in front of it. The cookie then never travels in clear text."""

import subprocess

import pytest
from support.browser import Window, chromium
from support.objects import HOSTS, host
from support.waiting import eventually

TLS_PORT = 8443
DIRECT = f'[api]\nlisten = "127.0.0.1:{TLS_PORT}"\ntls = true\n'
BEHIND = '[api]\nproxies = ["127.0.0.1"]\n'
PROXY = "192.0.2.1"
NGINX = """daemon off; worker_processes 1; pid {place}/nginx.pid; error_log {place}/nginx.log; events {{}}
http {{ access_log off;
  client_body_temp_path {place}/n1; proxy_temp_path {place}/n2; fastcgi_temp_path {place}/n3; uwsgi_temp_path {place}/n4; scgi_temp_path {place}/n5;
  proxy_http_version 1.1;
  ssl_certificate {place}/proxy.crt; ssl_certificate_key {place}/proxy.key;
  server {{ listen {proxy}:8090; location / {{ proxy_pass http://127.0.0.1:8080; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme; }} }}
  server {{ listen {proxy}:8091 ssl; location / {{ proxy_pass http://127.0.0.1:8080; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme; }} }}
  server {{ listen {proxy}:8092 ssl; location / {{ proxy_pass http://127.0.0.1:8080; proxy_set_header Host $http_host; }} }}
}}
"""


@pytest.fixture(scope="module")
def server(start_server):
    return start_server()


@pytest.fixture(scope="module")
def browser(private_network):
    with chromium() as started:
        yield started


@pytest.fixture
def nginx(server):
    """nginx with a plain port, a port with TLS, and one with TLS that says nothing of it."""
    place = server.place
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=proxy",
                    "-addext", f"subjectAltName=IP:{PROXY}", "-keyout", place / "proxy.key", "-out", place / "proxy.crt"], check=True, capture_output=True)
    (place / "nginx.conf").write_text(NGINX.format(place=place, proxy=PROXY))
    process = subprocess.Popen(["nginx", "-c", place / "nginx.conf", "-e", place / "nginx.log"])
    ports = lambda: subprocess.run(["ss", "-Hlnt"], capture_output=True, text=True).stdout
    assert eventually(lambda: all(f":{port}" in ports() for port in (8090, 8091, 8092)), 15), (place / "nginx.log").read_text()
    yield
    process.terminate()
    process.wait(15)


def check(server, browser, is_secure, **where):
    """Logs in, writes, and logs out; the cookie must be secure or not."""
    window = Window(browser, server, **where)
    try:
        page = window.log_in(path="/ui/hosts/default/node")
        [cookie] = window.context.cookies()
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (is_secure, True, "Strict"), cookie
        page.get_by_role("toolbar", name="Actions").get_by_role("button", name="Hold").click()
        page.locator("#phase[data-phase=Held]").wait_for()
        page.get_by_role("button", name="Log out").click()
        page.get_by_label("Token").wait_for()
        assert window.context.cookies() == []
        assert not window.errors, window.errors
    finally:
        window.close()


@pytest.fixture(autouse=True)
def node(server):
    assert server.ask("POST", HOSTS, host("node", 1)).code == 201
    yield
    server.ask("DELETE", f"{HOSTS}/node")


def test_a_login_over_the_servers_own_tls(server, browser):
    with server.configured(DIRECT):
        # The object API is on the TLS port now: the host is made before.
        check(server, browser, True, scheme="https", port=TLS_PORT, address="127.0.0.1")


def test_a_login_through_a_configured_proxy_that_ends_tls(server, browser, nginx):
    with server.configured(BEHIND):
        check(server, browser, True, scheme="https", port=8091, address=PROXY)


def test_a_login_through_a_configured_proxy_without_tls(server, browser, nginx):
    with server.configured(BEHIND):
        check(server, browser, False, port=8090, address=PROXY)


def test_a_login_through_a_proxy_that_says_nothing(server, browser, nginx):
    """Configured or not: what the browser itself says of its page counts."""
    for config in (BEHIND, ""):
        with server.configured(config):
            assert server.ask("POST", f"{HOSTS}/node/localboot").code == 200
            check(server, browser, True, scheme="https", port=8092, address=PROXY)


def test_a_client_cannot_claim_tls(server):
    """Without a configured proxy, X-Forwarded-Proto is anybody's word."""
    body = f"token={server.token}".encode()
    for origin, is_secure in ((f"http://{server.address}:8080", False), (f"https://{server.address}:8080", True)):
        answer = server.ask("POST", "/ui/login", body, "application/x-www-form-urlencoded", token=None,
                            headers={"Origin": origin, "X-Forwarded-Proto": "http" if is_secure else "https"})
        assert answer.code == 303, answer
        assert ("; Secure" in answer.headers["Set-Cookie"]) == is_secure, answer.headers["Set-Cookie"]
