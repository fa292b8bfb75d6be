"""Reports of installers over HTTP: Debian's cloud-init with its own webhook, and what scripts and others send."""

import base64
import json
import subprocess

import pytest

from support import cloud_init_machine
from support.installer_lines import entries, said
from support.lan import tool, until
from support.objects import CONFIGS, HOSTS
from support.provisioned_lan import FAR, MACS, OURS, routed_network, token_of

USER_DATA = """#cloud-config
autoinstall:
  version: 1
  reporting:
    own: {type: print}
write_files:
- {path: /tmp/secret, content: "sesame"}
runcmd:
- [sh, -c, "exit 3"]
"""


@pytest.fixture(scope="module")
def network(lan):
    """A server, the machine `near` with an install under way, and the machine `far` behind a router that nothing ties."""
    box, near, far, _ = routed_network(lan, "", FAR)
    box.make(CONFIGS, "BootConfig", "auto", {"format": "cloud-init", "data": {"user-data": USER_DATA}})
    box.change("live", bootConfigs=["secret", "auto"])
    box.change("near", bootConfigRef="auto")
    return box, near, far


def post(machine, body, path="/api/v1/report", *options):
    """Posts a body with curl; returns the status."""
    done = subprocess.run(machine.lan.inside(machine.space, tool("curl"), "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", *options,
                                             "--data-binary", "@-", f"http://{OURS}{path}"),
                          input=body if isinstance(body, str) else json.dumps(body), capture_output=True, text=True)
    return int(done.stdout)


def post_all(machine, bodies, path="/api/v1/report"):
    """Posts bodies one after the other over one connection; returns the statuses."""
    config = "\nnext\n".join(f'url = "http://{OURS}{path}"\noutput = /dev/null\ndata-binary = {json.dumps(json.dumps(body))}\n'
                              'write-out = "%{http_code} "\nsilent' for body in bodies)
    done = subprocess.run(machine.lan.inside(machine.space, tool("curl"), "-K", "-"), input=config, capture_output=True, text=True, timeout=60)
    return [int(code) for code in done.stdout.split()]


def test_cloud_init_reports_its_stages_and_failures(box, near):
    token = token_of(near.script())
    config, printed = cloud_init_machine.boot(near, f"ds=nocloud-net;s=http://{OURS}/nocloud/{token}/")
    url = f"http://{OURS}/api/v1/report/{token}"
    assert config["reporting"]["bootlatch"]["endpoint"] == url, f"cloud-init reports to this install's address: {printed[-2000:]}"
    assert config["autoinstall"]["reporting"] == {"own": {"type": "print"}, "bootlatch": {"type": "webhook", "endpoint": url, "timeout": 5}}, (
        "Subiquity would report too, and the user-data's own reporter stays")
    said(box, "near", "cloud_init", "init-network/config-write-files", "finished: ")
    failed = said(box, "near", "modules-final/config-scripts-user", "failed: ")
    assert failed == {"source": "cloud_init", "stage": "modules-final/config-scripts-user", "level": "err",
                      "message": "failed: running config-scripts-user with frequency once-per-instance"}
    assert box.status("near")["phase"] == "Installing", "reports are no step of an install"


def test_a_script_of_the_installer_reports(box, near):
    assert post(near, {"stage": "disk", "message": "formatting /dev/sda"}) == 200
    assert said(box, "near", "formatting") == {"source": "report", "stage": "disk", "message": "formatting /dev/sda"}


def test_curtin_and_subiquity_are_told_apart(box, near):
    event = {"name": "cmd-install/stage-partitioning", "description": "configuring storage", "event_type": "start", "origin": "curtin", "timestamp": 1.0, "level": "INFO"}
    assert post(near, event) == 200 and post(near, {**event, "name": "subiquity/Install", "event_type": "finish", "result": "FAIL"}) == 200
    assert said(box, "near", "stage-partitioning") == {"source": "curtin", "stage": "cmd-install/stage-partitioning", "level": "info", "message": "started: configuring storage"}
    assert said(box, "near", "subiquity/Install")["level"] == "err"


def test_the_log_that_curtin_appends_says_why(box, near):
    event = {"name": "cmd-install", "description": "curtin command install", "event_type": "finish", "origin": "curtin", "result": "FAIL"}
    log = base64.b64encode(b"Reading package lists...\nE: Unable to locate package nosuch\ncurtin: done\n").decode()
    files = [{"path": "/var/log/curtin/install.log", "encoding": "base64", "content": log}]
    assert post(near, {**event, "files": files}) == 200
    assert said(box, "near", "Unable to locate")["stage"] == "install.log"
    said(box, "near", "failed: curtin command install")
    big = [{**files[0], "content": "QUFB" * 200_000}]
    before = box.dropped("http", "line_too_long")
    assert post(near, {**event, "description": "a long log follows", "files": big}) == 200, "its beginning counts"
    said(box, "near", "failed: a long log follows")
    assert box.dropped("http", "line_too_long") == before + 1


def test_a_good_token_proves_who_reports_and_an_address_does(box, near, network):
    far = network[2]
    token = token_of(near.script())
    assert post(far, {"message": "by token"}, f"/api/v1/report/{token}") == 200
    said(box, "near", "by token")
    for path in ("/api/v1/report", f"/api/v1/report/{token[:-4]}0000", "/api/v1/report/x"):
        assert post(far, {"message": "I am near"}, path) == 404, f"nothing proves who asks {path}"
    assert post(near, {"message": "with an old token"}, f"/api/v1/report/{token[:-4]}0000") == 200, "the address is proof"
    assert "I am near" not in json.dumps(entries(box, "near"))


def test_browsers_and_bad_bodies_are_refused(box, near):
    for option in ("Origin: http://evil.example", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"):
        assert post(near, {"message": "by a page"}, "/api/v1/report", "-H", option) == 403, option
    for body in ("", "[]", "nothing", '{"name": "x"}', '{"message": ["x"]}', '{"message":'):
        assert post(near, body) == 400, body
    assert near.ask("/api/v1/report")[0] == 405, "it is a POST"
    assert "by a page" not in json.dumps(entries(box, "near"))


def test_a_flood_of_reports_is_refused_and_a_failure_is_heard(box, near):
    codes = post_all(near, [{"stage": "loop", "message": f"step {number}"} for number in range(150)])
    assert len(codes) == 150 and 429 in codes, codes
    assert post(near, {"stage": "partman", "message": "no disk found"}) == 200
    said(box, "near", "no disk found")
    assert len(entries(box, "near")) < 150


def test_no_secret_is_in_a_report(box, network):
    other = network[0]
    box.change("near", bootConfigRef="secret")
    near = network[1]
    other.api("POST", f"{HOSTS}/near/install")
    token = token_of(near.script())
    report = {"stage": "x", "message": f"curl -u me:other1 and sesame and {token}"}
    until("the rate of lines allows it again", lambda: post(near, report, f"/api/v1/report/{token}") == 200)
    message = said(box, "near", "curl -u me:")["message"]
    assert "sesame" not in message and token not in message, message
    box.change("near", bootConfigRef="auto")


def test_reports_stay_after_a_restart(box, near):
    until("the rate of lines allows it again", lambda: post(near, {"message": "before the restart"}) == 200)
    said(box, "near", "before the restart")
    box.start("")
    said(box, "near", "before the restart")
    assert box.metrics()['bootlatch_installer_lines_total{source="report"}'] == 0
