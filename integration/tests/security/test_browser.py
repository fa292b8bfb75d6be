"""Pages in browsers: no GET of theirs changes a machine's state, and none has the trust of a local program."""

import json
import subprocess

import pytest

from support.objects import CONFIGS, HOSTS, config
from support.server import PORT

pytestmark = pytest.mark.usefixtures("example_objects")

MACHINE = "192.0.2.7"
MAC = "52-54-00-00-00-01"
# What browsers send with `<img src=... referrerpolicy=no-referrer>`, in the clear and to an address of the network: no
# Origin, no Referer and no Sec-Fetch-* fields.
BROWSERS = {
    "firefox": ("User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Accept: image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5",
                "Accept-Language: en-US,en;q=0.5", "Accept-Encoding: gzip, deflate", "Connection: keep-alive", "Priority: u=5, i"),
    "chrome": ("Connection: keep-alive", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
               "Accept: image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "Accept-Encoding: gzip, deflate",
               "Accept-Language: en-US,en;q=0.9"),
    "headless chrome": ("Connection: keep-alive", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/142.0.0.0 Safari/537.36",
                        "Accept: */*", "Accept-Encoding: gzip, deflate"),
    "safari": ("Accept: image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", "Accept-Language: en-GB,en;q=0.9",
               "Accept-Encoding: gzip, deflate", "Connection: keep-alive",
               "User-Agent: Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15"),
    "a link": ("Referer: http://evil.example/",),
    "a script": ("Origin: http://evil.example",),
    "a page on the loopback": ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"),
}
# What boots and installs machines.
PROGRAMS = {
    "iPXE": ("Connection: keep-alive", "User-Agent: iPXE/1.21.1+ (g2265a)"),
    "UEFI": ("Accept: */*", "User-Agent: UefiHttpBoot/1.0"),
    "GRUB": ("User-Agent: GRUB 2.12-9", "Accept-Encoding: identity"),
    "cloud-init": ("User-Agent: Cloud-Init/25.1.4", "Accept-Encoding: gzip, deflate", "Accept: */*", "Connection: keep-alive"),
    "Ignition": ("User-Agent: Ignition/2.21.0", "Accept: application/vnd.coreos.ignition+json;version=3.5.0, */*;q=0.1", "Accept-Encoding: identity"),
    "Anaconda": ("User-Agent: curl/8.9.1 Fedora/42 (Anaconda)", "Accept: */*"),
    "PowerShell": ("User-Agent: Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.26100.1",),
}
ROUTES = (f"/ipxe?mac={MAC}&platform=efi&buildarch=x86_64", f"/api/v1/ipxe/boot?mac={MAC}", f"/boot/{MAC}/autoexec.ipxe", "/api/v1/bootconfig",
          "/iso/live?host=one", "/api/v1/boot-complete")


@pytest.fixture(scope="module")
def server(start_server):
    return start_server()


@pytest.fixture(autouse=True)
def tied(server, example_objects):
    """Ties the host to the address from which its machine, or a browser on it, asks."""
    changed = server.ask("PATCH", f"{HOSTS}/one", {"spec": {"ip": MACHINE}})
    assert changed.code == 200, changed


def get(path, *fields, method="GET", host="10.0.0.1:8080"):
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n" + "".join(f"{field}\r\n" for field in fields) + "\r\n"


def status(server):
    return server.ask("GET", f"{HOSTS}/one").json["status"]


@pytest.mark.parametrize("browser", BROWSERS)
def test_no_page_moves_an_install_on(server, raw_client, browser):
    before = status(server)
    for path in ROUTES:
        for method in ("GET", "HEAD", "POST") if path.endswith("complete") else ("GET", "HEAD"):
            answer = raw_client(MACHINE).ask(get(path, *BROWSERS[browser], method=method), body=method != "HEAD")
            assert answer[0] in (403, 405), f"{method} {path} of {browser} is refused: {answer}"
    assert status(server) == before, "the host is as it was"
    assert 'reason="browser_request"' in server.ask("GET", "/metrics", token=None).text, "the refusals are counted"


def test_a_page_learns_nothing_by_a_rebound_name(server, raw_client):
    # The page's own origin: its script reads what it is answered.
    for path in ROUTES[:5]:
        answer = raw_client(MACHINE).ask(get(path, *BROWSERS["chrome"], host="rebound.example:8080"))
        assert answer[0] == 403 and b"ignition" not in answer[2], f"{path}: {answer}"


@pytest.mark.parametrize("program", PROGRAMS)
def test_boot_programs_and_installers_are_served(server, raw_client, program):
    fields = PROGRAMS[program]
    script = raw_client(MACHINE).ask(get(ROUTES[0], *fields))
    assert script[0] == 200 and b"sanboot iscsi:" in script[2], f"the script is served: {script}"
    config_text = raw_client(MACHINE).ask(get("/api/v1/bootconfig", *fields))
    assert config_text[0] == 200 and b"ignition" in config_text[2], f"the config is served: {config_text}"
    assert raw_client(MACHINE).ask(get("/iso/live?host=one", "Range: bytes=0-2047", *fields))[0] == 206


def test_real_programs_are_served(server):
    url = f"http://127.0.0.1:{PORT}{ROUTES[0]}"
    for command in (["curl", "-sSf", url], ["wget", "-q", "-O", "-", url], ["busybox", "wget", "-q", "-O", "-", url]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout.startswith("#!ipxe"), f"{command[0]}: {done}"


def test_a_rebound_name_is_not_local(server, raw_client):
    with server.configured("[api]\ntrust_loopback = true\n"):
        for host in ("127.0.0.1:8080", "localhost:8080", "[::1]:8080"):
            assert raw_client().ask(get(HOSTS, host=host))[0] == 200, f"a local program that asks {host} is trusted"
        for host in ("rebound.example:8080", "localhost.rebound.example", "127.0.0.1.rebound.example:8080", ""):
            assert raw_client().ask(get(HOSTS, host=host))[0] == 401, f"a request for {host!r} is not trusted as local"
        for name, fields in BROWSERS.items():
            assert raw_client().ask(get(HOSTS, *fields, host="127.0.0.1:8080"))[0] == 401, f"{name} on this machine is not a local program"
        body = json.dumps(config("page"))
        made = raw_client().ask(get(CONFIGS, "Content-Type: text/plain", f"Content-Length: {len(body)}", *BROWSERS["firefox"], method="POST", host="127.0.0.1:8080") + body)
        assert made[0] == 401, f"a form of a page creates nothing: {made}"


def test_a_remembered_password_is_not_a_pages(server, raw_client):
    from support.objects import basic
    proof = f"Authorization: {basic('admin', server.token)}"
    for fields in (("Sec-Fetch-Site: cross-site",), ("Origin: http://evil.example",), ("Origin: null",)):
        assert raw_client().ask(get(HOSTS, proof, *fields))[0] == 401, f"Basic of another site's page is refused: {fields}"
    assert raw_client().ask(get(HOSTS, proof, "Sec-Fetch-Site: same-origin", "Origin: http://10.0.0.1:8080"))[0] == 200
    assert raw_client().ask(get(HOSTS, proof))[0] == 200


@pytest.mark.parametrize("path", ["/ipxe?mac=52-54-00-00-00-01", "/iso/live", "/healthz", HOSTS, "/redfish/v1/", "/none"])
def test_a_request_without_one_valid_host_is_400(server, raw_client, path):
    for fields in ("", "Host: a\r\nHost: b\r\n", "Host: a b\r\n", "Host: a/b\r\n", "Host: user@a\r\n"):
        answer = raw_client().ask(f"GET {path} HTTP/1.1\r\n{fields}\r\n")
        assert answer[0] == 400, f"{path} with {fields!r}: {answer}"
    assert raw_client().ask(f"GET {path} HTTP/1.0\r\n\r\n")[0] != 400, "HTTP/1.0 needs no Host"


def test_every_response_forbids_sniffing(server, raw_client):
    client = raw_client()
    for path in ("/ipxe?mac=52-54-00-00-00-01", "/iso/live", "/files/none", "/healthz", "/metrics", HOSTS, "/redfish/v1/", "/none"):
        for fields in ((), ("Range: bytes=0-9",), ("Range: bytes=10-19",)):
            code, headers, _ = client.ask(get(path, *fields))
            assert headers.get("x-content-type-options") == "nosniff", f"{code} of {path}: {headers}"
