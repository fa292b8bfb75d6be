"""Several slashes in a path are one: clients join a base that ends in a slash with a path that begins with one."""

import subprocess

import pytest

from support.objects import HOSTS
from support.server import PORT
from support.waiting import slowness

pytestmark = pytest.mark.usefixtures("example_objects")


@pytest.fixture
def files(server):
    (server.state / "files").mkdir(exist_ok=True)
    (server.state / "files/x").write_text("a file")
    (server.place / "firmware/undionly.kpxe").write_bytes(b"MZ" + bytes(range(256)))


@pytest.mark.usefixtures("files")
def test_machines_routes(server):
    iso = (server.state / "isos/x.iso").read_bytes()
    for path, expected in (("/iso/live", iso), ("/files/x", b"a file"), ("/boot/52-54-00-00-00-01/undionly.kpxe", b"MZ" + bytes(range(256)))):
        first, rest = path[1:].split("/", 1)
        for other in (path, f"/{path}", f"/{first}//{rest}", path.replace("/", "//"), path.replace("/", "///"), f"/{path.replace('/', '%2F%2F')}"):
            answer = server.ask("GET", other, token=None, headers={"Range": "bytes=0-3"})
            assert answer.code == 206 and answer.body == expected[:4], f"GET {other} is GET {path}: {answer.code} {answer.body[:80]}"
            got = subprocess.run(["curl", "-s", "--path-as-is", f"http://127.0.0.1:{PORT}{other}"], capture_output=True, timeout=30 * slowness())
            assert got.stdout == expected, f"curl reads all of {other}"
    for path in ("//ipxe?mac=52-54-00-00-00-01", "/ipxe/?mac=52-54-00-00-00-01"):
        assert "sanboot iscsi:" in server.ask("GET", path, token=None).text, f"the script is served at {path}"
    assert server.ask("GET", "//iso//none", token=None).code == 404, "what does not exist is a 404 at any spelling"
    assert server.ask("GET", "/files//../admin.token", token=None).code == 404, "a path with doubled slashes stays in its directory"


def test_object_api_and_redfish(server):
    doubled = lambda path: server.ask("GET", path.replace("/", "//")).code
    assert doubled(HOSTS) == 200 and doubled(f"{HOSTS}/one") == 200 and doubled("/redfish/v1/Systems/one") == 200, "doubled slashes are one in the API too"
    assert server.ask("GET", HOSTS.replace("/", "//"), token=None).code == 401, "the token is asked for all the same"
