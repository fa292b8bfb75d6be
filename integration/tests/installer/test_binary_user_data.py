"""Binary user-data: served octet by octet, and run by Debian's cloud-init."""

import base64
import gzip
import json
import subprocess

import pytest

from support import cloud_init_machine
from support.installer_lines import said
from support.lan import tool, until
from support.objects import CONFIGS
from support.provisioned_lan import FAR, OURS, routed_network, token_of

MESSAGE = f"""Content-Type: multipart/mixed; boundary="=b"
MIME-Version: 1.0

--=b
Content-Type: text/cloud-config

final_message: from a part
--=b
Content-Type: text/x-shellscript

#!/bin/sh
curl -fsS -X POST http://{OURS}/api/v1/boot-complete
--=b
Content-Type: text/x-shellscript
Content-Transfer-Encoding: base64

%s
--=b--
""" % base64.b64encode(b"#!/bin/sh\n: --password sesame-in-a-part\n").decode()
PACKED = gzip.compress(MESSAGE.encode())


@pytest.fixture(scope="module")
def network(lan):
    box, near, far, _ = routed_network(lan, "", FAR)
    spec = {"format": "cloud-init", "binaryData": {"user-data": base64.b64encode(PACKED).decode()}}
    box.make(CONFIGS, "BootConfig", "packed", spec)
    box.change("live", bootConfigs=["secret", "packed"])
    box.change("near", bootConfigRef="packed")
    return box, near, far


def octets(machine, path):
    """Returns the octets of a path, as the machine gets them, and their media type."""
    done = subprocess.run(machine.lan.inside(machine.space, tool("curl"), "-sf", "-m", "10", "-w", "%{stderr}%{content_type}", f"http://{OURS}{path}"), capture_output=True, check=True)
    return done.stdout, done.stderr.decode()


def test_a_secret_in_a_part_is_in_no_report(box, near):
    near.script()
    report = json.dumps({"message": "it said sesame-in-a-part and sesame-in-no-part"})
    done = subprocess.run(near.lan.inside(near.space, tool("curl"), "-sf", "-m", "10", "--data-binary", "@-", f"http://{OURS}/api/v1/report"), input=report, capture_output=True, text=True)
    assert done.returncode == 0, done
    message = said(box, "near", "it said")["message"]
    assert "in-a-part" not in message and message.endswith(" and sesame-in-no-part"), message


def test_a_compressed_message_is_served_and_run(box, near):
    assert box.api("GET", f"{CONFIGS}/packed")[1]["status"]["reportsCompletion"] is True
    token = token_of(near.script())
    for path in (f"/nocloud/{token}/user-data", "/api/v1/bootconfig", f"/config/{token}/user-data"):
        assert octets(near, path) == (PACKED, "application/octet-stream"), path
    seed, _ = octets(near, f"/nocloud/{token}/seed.iso")
    assert PACKED in seed, "the seed has the same octets"
    config, printed = cloud_init_machine.boot(near, f"ds=nocloud-net;s=http://{OURS}/nocloud/{token}/")
    assert config["final_message"] == "from a part", f"cloud-init reads the cloud-config in the message: {printed[-2000:]}"
    until("the script of the message reported", lambda: box.status("near")["phase"] == "Installed")
