"""Generated configs as their readers see them: ignition-validate, cloud-init, PyYAML, openssl and ssh-keygen."""

import base64
import json
import re
import subprocess

from support import config_validators as validators
from support.generated_configs import CLOUDINIT, IGNITION, PULL, ROLES, node, okd, served
from support.objects import HOSTS, host


NETWORK = """
import json, sys, tempfile, yaml
from pathlib import Path
from cloudinit.net import eni, network_state, networkd
read = []
for text in json.load(sys.stdin):
    state = network_state.parse_net_config_data(yaml.safe_load(text))
    written = []
    for renderer in (eni.Renderer(), networkd.Renderer({"network_conf_dir": "/n/"})):
        with tempfile.TemporaryDirectory() as place:
            Path(place, "etc/network").mkdir(parents=True)
            Path(place, "n").mkdir()
            try:
                renderer.render_network_state(state, target=place)
            # cloud-init then sets owners of files and reads names of devices, which do not exist here.
            except (PermissionError, LookupError):
                pass
            written.append("".join(file.read_text() for file in sorted(Path(place).rglob("*")) if file.is_file()))
    interfaces = {one["name"]: [(sub["type"], sub.get("address"), [(str(r["network"]), r["prefix"], r["gateway"]) for r in sub.get("routes", [])],
                                 sub.get("gateway"), sub.get("prefix"), sub.get("dns_nameservers", [])) for sub in one["subnets"]] for one in state.iter_interfaces()}
    read.append([interfaces, written])
print()
print(json.dumps(read))
"""


def test_ignition_configs_of_every_platform_and_version(server, key):
    ask = server.ask
    authority = server.place / "ca.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=root-ca", "-days", "1", "-keyout", "/dev/null", "-out", authority], check=True, capture_output=True)
    rows = [(platform, f"4.{minor}", {}) for platform in ("okd", "openshift") for minor in range(8, 23)]
    rows += [("fcos", version, {}) for version in ("35", "37", "38", "40", "41", "44", "stable", "testing", "next", "42.20250705.3.0")]
    rows += [("okd", "4.12", {"certificateAuthority": authority.read_text()}), ("okd", "4.12", {"pullSecret": json.loads(PULL)})]
    subprocess.run(["ip", "address", "add", "198.18.0.1/16", "dev", "lo"], check=True)
    bad, versions, count = [], {}, 0
    for number, (platform, version, more) in enumerate(rows):
        roles = ROLES if platform != "fcos" else ["master", "node"]
        cluster = {"name": f"n{number}", "baseDomain": "example.com", "network": ["10.1.107.0/24", "2001:db8::/64"][number % 2]}
        answer = ask("POST", IGNITION, okd(key, platform=platform, version=version, cluster=cluster, nodeRoles=roles, **more))
        for at, role in enumerate(roles):
            address = f"198.18.{at}.{number + 1}"
            ask("POST", HOSTS, host(f"h{at}-{number}", 1000 * (at + 1) + number, ip=address, bootConfigRef=f"{platform}-n{number}-{role}"))
            text = served(server, answer.json["configs"][role], address).text if answer.code == 200 else ""
            spec = re.match(r'{"ignition":{"version":"(3\.\d\.0)"', text)
            versions[platform, version] = spec and spec[1]
            # Debian's ignition-validate knows versions up to 3.3.0; the generated parts are the same in all versions.
            judged = re.sub(r'"version":"3\.[4-6]\.0"', '"version":"3.3.0"', text, count=1)
            good, said = validators.ignition(judged)
            count += 1
            if not good or said.strip():
                bad.append((platform, version, role, said, text))
    assert not bad and count > 90, f"ignition-validate finds no problem in any of {count} configs: {bad}"
    expected = {("okd", "4.13"): "3.2.0", ("okd", "4.14"): "3.4.0", ("openshift", "4.19"): "3.5.0", ("okd", "4.22"): "3.6.0", ("fcos", "35"): "3.3.0", ("fcos", "stable"): "3.5.0"}
    assert {row: versions[row] for row in expected} == expected, f"each config has the Ignition version of its platform: {versions}"
    pointer = json.loads(served(server, f"okd-n{len(rows) - 2}-worker.ign").text)["ignition"]["security"]["tls"]["certificateAuthorities"][0]["source"]
    again = subprocess.run(["openssl", "x509", "-noout", "-subject"], input=base64.b64decode(pointer.split("base64,")[1]), capture_output=True)
    assert b"root-ca" in again.stdout, f"openssl reads the certificate authority from the pointer config: {again}"


def test_cloud_init_files(server, key, made_keys):
    ask = server.ask
    requests = [node(key), node(made_keys["rsa2048"], hostname="a.example.com", template="base", packages=[], users=[{"name": "root", "sshKeys": [key]}, {"name": "_svc"}]),
              {"hostname": "yes"}, {"hostname": "123"}, node(key, hostname="1e5", packages=["yes", "123", "a=1:2.3~rc-1"], users=[{"name": "null", "sshKeys": [key, made_keys["ecdsa521"]]}]),
              node(key, hostname="two", network={"interfaces": [{"name": "eth0", "addresses": ["10.1.107.11/24", "2001:db8::11/64"], "gateway": "10.1.107.1", "nameservers": ["10.1.107.1"]},
                                                                {"name": "eth1", "addresses": ["2001:db8:1::11/64"], "gateway": "2001:db8:1::1"}, {"name": "eth2"}]})]
    texts, networks, metas = {}, {}, {}
    for request in requests:
        answer = ask("POST", CLOUDINIT, request)
        assert answer.code == 200, f"{request['hostname']} is generated: {answer}"
        texts[request["hostname"]] = served(server, answer.json["userdata"]).text
        metas[request["hostname"]] = served(server, answer.json["metadata"]).text
        if "network" in answer.json["configs"]:
            networks[request["hostname"]] = served(server, answer.json["network"]).text
    wrong = {text: said for text, said in validators.cloud_config(texts.values()).items() if said}
    assert not wrong and len(texts) == len(requests), f"cloud-init schema finds no problem in any of {len(texts)} user-data: {wrong}"
    loaded = dict(zip(texts, validators.cloud_init("import json, sys, yaml\nprint(json.dumps([yaml.safe_load(text) for text in json.load(sys.stdin)]))", list(texts.values()) + list(metas.values()))))
    assert (loaded["yes"]["hostname"] == "yes" and loaded["123"]["hostname"] == "123"
          and loaded["1e5"]["packages"] == ["yes", "123", "a=1:2.3~rc-1"] and loaded["1e5"]["users"][0]["name"] == "null"), (
        f"PyYAML reads names that look like other types as strings: {loaded}")
    assert [file["permissions"] for file in loaded["k8s-master-01"]["write_files"]] == ["0644", "0644"], f"PyYAML reads file modes as strings: {loaded}"
    read = dict(zip(networks, validators.cloud_init(NETWORK, list(networks.values()))))
    plain, written = read["k8s-master-01"]
    assert plain == {"eth0": [["static", "10.1.107.11", [["0.0.0.0", 0, "10.1.107.1"]], None, 24, []]]}, (
        f"cloud-init reads the network configuration as requested: {plain}")
    assert all("10.1.107.11/24" in text and "10.1.107.1" in text.replace("10.1.107.11", "") for text in written), (
        f"cloud-init renders the network configuration for ifupdown and networkd: {written}")
    many, _ = read["two"]
    assert ([sub[1] for sub in many["eth0"]] == ["10.1.107.11", "2001:db8::11"] and many["eth1"][0][3:5] == ["2001:db8:1::1", 64]
          and many["eth0"][0][5] == ["10.1.107.1"] and many["eth2"][0][0] == "dhcp4"), (
        f"several interfaces, IPv6, name servers and DHCP are rendered: {many}")
    fstab = server.place / "fstab"
    fstab.write_text("# swap here\nUUID=1 / ext4 defaults 0 1\nUUID=2\tnone\tswap\tsw\t0\t0\n/swapfile swap swap defaults 0 0\n#UUID=3 none swap sw 0 0\n")
    for step in loaded["k8s-master-01"]["runcmd"]:
        if step[0] == "sed":
            subprocess.run([*step[:-1], fstab], check=True)
    assert (fstab.read_text().splitlines() ==
          ["# swap here", "UUID=1 / ext4 defaults 0 1", "#UUID=2\tnone\tswap\tsw\t0\t0", "#/swapfile swap swap defaults 0 0", "#UUID=3 none swap sw 0 0"]), (
        f"the template's sed disables swap in an fstab and changes nothing else: {fstab.read_text()}")


def test_ssh_keys(server, made_keys):
    ask = server.ask
    texts = [*made_keys.values()]
    for text in made_keys.values():
        kind, encoded, comment = text.split()
        texts += [f"{kind} {encoded}", f"{kind} {encoded} a longer comment", f"{kind} {encoded[:-12]}", f"{kind} {encoded[:20]}", f"{kind} AAAA{encoded}", f"ssh-nothing {encoded}", encoded, kind, f"{kind} !{encoded}"]
    texts += [f"ssh-rsa {made_keys['ed25519None'].split()[1]}", f"ssh-ed25519 {made_keys['rsa2048'].split()[1]}", "", "ssh-ed25519 AAAAC3..."]
    differ, good = [], 0
    for number, text in enumerate(texts):
        ours = ask("POST", f"{CLOUDINIT}?dryRun=All", {"hostname": "k", "users": [{"name": "a", "sshKeys": [text]}]})
        real = subprocess.run(["ssh-keygen", "-l", "-f", "-"], input=text + "\n", capture_output=True, text=True).returncode == 0
        good += real
        if (ours.code == 200) != real or (not real and ours.json["details"]["causes"][0]["field"] != "users[0].sshKeys[0]"):
            differ.append((text, ours, real))
    assert not differ and good > 10 and len(texts) - good > 10, (
        f"ssh-keygen and the server agree on {good} valid and {len(texts) - good} invalid keys: {differ}")


LINKS = [{"name": "eno1"}, {"name": "eno2"}, {"name": "bond0", "bond": {"interfaces": ["eno1", "eno2"], "mode": "802.3ad"}, "dhcp": False, "mtu": 9000},
         {"name": "bond0.10", "vlan": {"id": 10, "link": "bond0"}, "mtu": 1500, "addresses": ["10.10.0.5/24", "2001:db8:10::5/64"], "gateway": "10.10.0.1", "nameservers": ["10.10.0.1", "2001:db8:10::1"],
          "search": ["example.org", "lab.example.org"], "routes": [{"to": "10.20.0.0/16", "via": "10.10.0.254", "metric": 50}]},
         {"name": "eno3", "addresses": ["10.30.0.5/24"], "nameservers": ["10.30.0.1"], "routes": [{"to": "10.40.0.0/16", "via": "10.30.0.1"}]}]


def test_bonds_vlans_and_routes(server, key):
    answer = server.ask("POST", CLOUDINIT, node(key, hostname="links", network={"interfaces": LINKS}))
    text = served(server, answer.json["network"]).text
    [[read, (eni, networkd)]] = validators.cloud_init(NETWORK, [text])
    vlan, other = read["bond0.10"], read["eno3"]
    assert [sub[1] for sub in vlan] == ["10.10.0.5", "2001:db8:10::5"] and ["10.20.0.0", 16, "10.10.0.254"] in vlan[0][2], f"cloud-init reads the VLAN: {vlan}"
    assert other[0][2] == [["10.40.0.0", 16, "10.30.0.1"]] and read["eno1"] == read["bond0"] == [], f"cloud-init reads the others: {read}"
    for words in ("bond-mode 802.3ad", "bond-master bond0", "bond_miimon 100", "vlan-raw-device bond0", "vlan_id 10", "mtu 9000", "10.20.0.0", "10.40.0.0"):
        assert words in eni.replace("bond-miimon", "bond_miimon"), f"{words} is rendered for ifupdown: {eni}"
    assert "MTUBytes=9000" in networkd and "Domains=example.org lab.example.org" in networkd, f"rendered for networkd: {networkd}"
    netplan = validators.netplan(server.place, text)
    for words in ("Kind=bond", "Mode=802.3ad", "MIIMonitorSec=100ms", "Kind=vlan", "Id=10", "MTUBytes=9000", "Bond=bond0", "VLAN=bond0.10", "Address=10.10.0.5/24",
                  "Destination=10.20.0.0/16", "Metric=50", "DNS=10.30.0.1", "Domains=example.org lab.example.org", "Gateway=10.10.0.1"):
        assert words in netplan, f"{words} is generated by netplan: {netplan}"


def test_reports_and_a_network_that_is_left_alone(server, key):
    answer = server.ask("POST", CLOUDINIT, node(key, hostname="root-on-iscsi", network={"config": "disabled"}, phoneHome=True, reporting=True))
    user_data, network = (served(server, answer.json[part]).text for part in ("userdata", "network"))
    assert validators.cloud_config([user_data]) == {user_data: None}, "cloud-init schema accepts phone_home and reporting"
    load = """
import json, sys, yaml
from cloudinit import net, stages
user_data, network = map(yaml.safe_load, json.load(sys.stdin))
left = stages.Init._remove_top_level_network_key(None, network)
print()
print(json.dumps([user_data, net.is_disabled_cfg(left)]))
"""
    loaded, left = validators.cloud_init(load, [user_data, network])
    assert left is True, f"cloud-init configures no network: {left}"
    assert loaded["phone_home"]["url"].endswith("/phone_home") and loaded["reporting"]["bootlatch-address"]["endpoint"].endswith("/api/v1/report"), loaded
    name = server.ask("GET", "/api/v1/bootconfigs/root-on-iscsi").json
    assert name["status"]["reportsCompletion"] is True, f"phone_home ends the install: {name}"


def test_the_command_line_takes_a_file_of_user_data(server):
    file = server.place / "own.yaml"
    file.write_text("#cloud-config\nhostname: ${HOSTNAME}\nruncmd: ['echo $HOME ${DOMAIN} $(id)']\n")
    done = server.run("config", "generate", "cloudinit", "-", "--user-data", file, stdin="hostname: own.example.org\n")
    assert done.returncode == 0, done
    text = server.ask("GET", "/api/v1/bootconfigs/own.example.org").json["spec"]["data"]["user-data"]
    assert text == "#cloud-config\nhostname: own\nruncmd: ['echo $HOME example.org $(id)']\n"
    file.write_text("#cloud-config\nhostname: ${HOSTNAME}\nfinal_message: ${GATEWAY}\n")
    done = server.run("config", "generate", "cloudinit", "-", "--user-data", file, stdin="hostname: own.example.org\n")
    assert done.returncode != 0 and "user-data line 3: ${GATEWAY} has no value: add values.GATEWAY" in done.stderr, done
    done = server.run("config", "generate", "cloudinit", "-", "--user-data", file, stdin="{hostname: own, userData: x}")
    assert done.returncode != 0 and "--user-data" in done.stderr, done
