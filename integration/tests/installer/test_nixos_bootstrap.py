"""The template nixos-bootstrap: Debian's cloud-init applies it under a real systemd, with a stand-in for nixos-rebuild."""

import json

import pytest

from support import config_validators
from support.generated_configs import CLOUDINIT, keys
from support.lan import until
from support.objects import CONFIGS
from support.provisioned_lan import FAR, NEAR, OURS, routed_network, token_of
from support.systemd_world import SystemdWorld

FLAKE = "github:acme/fleet?ref=main#near"
CLOUD_CFG = """datasource_list: [NoCloud]
datasource: {NoCloud: {seedfrom: "http://%s/nocloud/%s/"}}
network: {config: disabled}
"""
# Records its arguments. The first call fails, as without a route to the flake.
REBUILD = """#!/bin/sh
echo "$(uname -n) $HOME $*" >>/var/log/rebuilds
test "$(wc -l </var/log/rebuilds)" -gt 1
"""
UNIT = "nixos-bootstrap.service"
LINK = "/etc/systemd/system.control/multi-user.target.wants/nixos-bootstrap.service"
# The root of the test is an overlay, as that of a live system.
FINDMNT = """#!/bin/sh
test "$*" = "-no FSTYPE /" && echo ext4
"""
NEW_FLAKE = "github:acme/fleet?ref=next#near"
STAGES = ("init --local", "init", "modules --mode config", "modules --mode final")


class CloudWorld(SystemdWorld):
    """A systemd of a Debian with cloud-init."""

    packages = ("cloud-init", "curl")


@pytest.fixture(scope="module")
def network(lan):
    box, near, far, _ = routed_network(lan, "", FAR)
    return box, near, far


@pytest.fixture(scope="module")
def request_body(tmp_path_factory):
    key = keys(tmp_path_factory.mktemp("keys"))["ed25519None"]
    values = {"ADMIN_USER": "ops", "SSH_AUTHORIZED_KEYS": [key], "FLAKE_REF": FLAKE, "NETWORK_INTERFACE": "lan0", "STATIC_IP": NEAR, "CIDR": 24, "GATEWAY": "10.88.0.9", "DNS_SERVERS": [OURS]}
    return {"template": "nixos-bootstrap", "hostname": "near.example.org", "values": values}


def generate(box, body, code=200):
    found, answer = box.api("POST", CLOUDINIT, body)
    assert found == code, answer
    return answer


def files(box, name):
    return box.api("GET", f"{CONFIGS}/{name}")[1]["spec"]["data"]


@pytest.fixture
def world(box, near, request_body):
    """The machine `near` as a live system, before cloud-init runs."""
    generate(box, request_body)
    box.change("live", bootConfigs=["secret", "near.example.org"])
    box.change("near", bootConfigRef="near.example.org")
    world = CloudWorld(near.lan, near.space)
    world.write("/etc/cloud/cloud.cfg.d/99-test.cfg", CLOUD_CFG % (OURS, token_of(near.script())))
    world.write("/run/current-system/sw/bin/nixos-rebuild", REBUILD, "755")
    yield world
    world.close()


def run_cloud_init(world):
    for stage in STAGES:
        world.run("cloud-init", *stage.split(), check=False)
    status = json.loads(world.run("cat", "/run/cloud-init/result.json"))
    assert status["v1"]["errors"] == [], f"cloud-init has no errors: {status}"


def active_state(world):
    return world.systemctl("show", UNIT, "--property=ActiveState").strip().partition("=")[2]


def test_a_machine_applies_its_flake_once_and_is_installed(box, world, request_body):
    run_cloud_init(world)
    until("a system in memory is refused", lambda: active_state(world) == "failed", 30)
    assert "/ is overlay, not a disk" in world.run("journalctl", "-u", UNIT, "--no-pager")
    assert box.status("near")["phase"] != "Installed"
    world.run("test", "!", "-e", "/var/log/rebuilds")
    world.write("/run/current-system/sw/bin/findmnt", FINDMNT, "755")
    world.systemctl("start", "--no-block", UNIT)
    assert world.run("cat", "/etc/nix-flake-target") == f"{FLAKE}\n"
    assert request_body["values"]["SSH_AUTHORIZED_KEYS"][0] in world.run("cat", "/home/ops/.ssh/authorized_keys")
    assert "wheel" in world.run("id", "-Gn", "ops")
    until("the host is installed", lambda: box.status("near")["phase"] == "Installed", 60)
    call = f"near /root switch --refresh --flake {FLAKE}\n"
    assert world.run("cat", "/var/log/rebuilds") == call * 2, "nixos-rebuild ran again after its failure, with the flake"
    until("the unit is done", lambda: active_state(world) == "inactive")
    assert world.systemctl("show", UNIT, "--property=Result") == "Result=success\n", world.run("journalctl", "-u", UNIT, "--no-pager")
    assert world.run("cat", "/var/lib/nixos-bootstrap/applied") == f"{FLAKE}\n"
    world.run("test", "!", "-e", LINK)
    world.systemctl("start", UNIT)
    assert world.run("cat", "/var/log/rebuilds") == call * 2, "what is complete is not done again"

    generate(box, {**request_body, "values": {**request_body["values"], "FLAKE_REF": NEW_FLAKE}})
    world.write("/etc/cloud/cloud.cfg.d/99-test.cfg", "datasource_list: [NoCloud]\nnetwork: {config: disabled}\n")
    world.run("rm", "-rf", "/run/cloud-init")  # as after a restart
    for name in ("user-data", "meta-data"):
        world.write(f"/var/lib/cloud/seed/nocloud/{name}", files(box, "near.example.org")[name])
    run_cloud_init(world)
    assert world.run("cat", "/etc/nix-flake-target") == f"{NEW_FLAKE}\n"
    until("the new flake is applied", lambda: world.run("cat", "/var/lib/nixos-bootstrap/applied") == f"{NEW_FLAKE}\n", 30)
    assert world.run("cat", "/var/log/rebuilds") == call * 2 + call.replace(FLAKE, NEW_FLAKE)
    until("the unit is done again", lambda: active_state(world) == "inactive")
    world.run("test", "-e", "/var/lib/nixos-bootstrap/complete")


def test_the_files_are_what_cloud_init_expects(box, request_body):
    generate(box, request_body)
    data = files(box, "near.example.org")
    assert config_validators.cloud_config([data["user-data"]]) == {data["user-data"]: None}
    load = "import json, sys, yaml\nprint(json.dumps([yaml.safe_load(text) for text in json.load(sys.stdin)]))"
    user_data, network = config_validators.cloud_init(load, [data["user-data"], data["network-config"]])
    assert network["ethernets"]["lan0"] == {"addresses": [f"{NEAR}/24"], "routes": [{"to": "0.0.0.0/0", "via": "10.88.0.9"}],
                                            "nameservers": {"addresses": [OURS], "search": ["example.org"]}}
    script = next(file["content"] for file in user_data["write_files"] if file["path"] == "/var/lib/nixos-bootstrap/run")
    assert "target=$(cat /etc/nix-flake-target)\n" in script and '--flake "$target"' in script, f"the shell's own text stays: {script}"
    assert box.api("GET", f"{CONFIGS}/near.example.org")[1]["status"]["reportsCompletion"] is True
    before = data
    generate(box, request_body)
    assert files(box, "near.example.org") == before, "the same request makes the same files"


def test_a_file_of_the_users_own(box, request_body):
    own = "#!/bin/sh\nset -eu\necho ${FLAKE_REF} $HOME ${OTHER:-x} $(id -u) ${OTHER}\ncurl -X POST ${BOOT_COMPLETE_URL}\n"
    body = {"hostname": "own", "userData": own, "values": {"FLAKE_REF": FLAKE}}
    generate(box, body)
    expected = own.replace("${FLAKE_REF}", FLAKE).replace("${BOOT_COMPLETE_URL}", f"http://{OURS}/api/v1/boot-complete")
    assert files(box, "own")["user-data"] == expected
    cause = generate(box, {**body, "values": {}}, 422)["details"]["causes"][0]
    assert cause == {**cause, "field": "userData", "message": "user-data line 3: ${FLAKE_REF} has no value: add values.FLAKE_REF"}
