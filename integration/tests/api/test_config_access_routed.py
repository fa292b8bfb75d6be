"""Machines behind a router: which of them is given a config, in each mode of [config_access].

Their addresses are declared, in a trusted network, leased through a relay, or seen in an exchange with another DHCP server.
"""

import json
import re
import os
import sys
import time

import pytest

from support.lan import Lan, run, tool, until
from support.objects import HOSTS
from support.provisioned_lan import DHCRELAY, FAR, IQN, MACS, NEAR, OURS, RELAYED_SUBNETS, ROUTER, SECOND, SECRET, Machine, relay, routed_network, token_of, udhcpc
from support.waiting import eventually


@pytest.fixture
def lan():
    """A LAN with the bridges br0 and br1; no server on it may panic."""
    with Lan("br0", "br1") as lan:
        yield lan
        panicked = [program.text()[-2000:] for program in lan.programs if "panicked" in program.text()]
        assert not panicked, f"the server did not panic: {panicked}"


def test_unverified_claims(lan):
    """A machine behind a router, whose address is not verified, sends another machine's MAC address, and its own."""
    box, near, far, _ = routed_network(lan, "", FAR, SECOND)
    box.change("live", configDelivery="seed")
    script = far.script("near")
    assert "sanboot iscsi" in script, f"address: an unverified claim from behind a router is not contradicted, and boots: {script}"
    assert token_of(script) is None and "token" not in script, f"an unverified claim gets no token: {script}"
    code, said = far.ask("/api/v1/bootconfig")
    assert code == 404 and "spec.ip" in said and "config_access.trusted_subnets" in said, f"an unverified claim is not given the config: {(code, said)}"
    assert "address" not in box.status("near"), "an unverified claim does not set the host's address: " + str(box.status("near"))
    assert far.ask("/api/v1/boot-complete", "POST")[0] == 404 and box.status("near")["phase"] == "Assigned", (
        f'an unverified claim starts no install and cannot complete the install: {box.status("near")}')
    assert "sanboot iscsi" in far.script() and "address" not in box.status("far"), (
        "a machine's own unverified request boots and does not set its address: " + str(box.status("far")))
    assert box.events("far", "warning", "config_access.trusted_subnets"), "the timeline says that the address is unverified"
    assert far.units() == ["0"] and far.units("near") == ["0"], f'iSCSI: an unverified machine is attached without the seed: {(far.units(), far.units("near"))}'
    assert token_of(near.script()), "the neighbour table verifies a machine on the local network: its script has a token"
    assert near.ask("/api/v1/bootconfig") == (200, SECRET), "a verified machine gets its config by its address"
    assert box.status("near").get("address") == NEAR, f'the address of a verified machine is recorded: {box.status("near")}'
    said = far.script("near")
    assert "sanboot iscsi" not in said and "at another address" in said, f"a claim from another network contradicts the recorded address: {said}"
    assert box.status("near")["phase"] == "Installing" and far.units("near") is None, f'the refused claim does not disturb the install: {box.status("near")}'
    assert near.units() == ["0", "1"], f"iSCSI: a verified machine is attached with the seed: {near.units()}"
    assert near.units("far") is None, "iSCSI: another machine's target is refused on the local network: " + str(near.units("far"))
    assert "sanboot iscsi" not in near.tftp("far") and "another machine" in near.tftp("far"), (
        "TFTP: another machine's script is not given on the local network: " + str(near.tftp("far")))
    assert 'bootlatch_requests_refused_total{protocol="tftp",reason="address_of_other_machine"}' in near.ask("/metrics")[1], "TFTP: the refusal is counted for TFTP"

    box.change("near", ip=NEAR)
    boots = box.status("near")["install"]["bootCount"]
    script = far.script("near")
    assert "sanboot iscsi" not in script and "spec.ip" in script, f"a claim against a declared address is refused with the reason: {script}"
    assert box.status("near")["install"]["bootCount"] == boots, "a refused claim does not count as a boot"
    assert box.events("near", "refused", "not_spec_ip"), "the refusal is in the timeline"
    assert 'reason="not_spec_ip"' in far.ask("/metrics")[1], "the refusal is counted"
    assert far.units("near") is None, "iSCSI: a claim against a declared address is refused"
    box.change("far", ip=FAR)
    assert token_of(far.script()) and far.ask("/api/v1/bootconfig") == (200, SECRET), "a declared address verifies a machine behind a router"
    assert box.status("far").get("address") == FAR, "the declared address is recorded after its first request"
    assert far.units() == ["0", "1"], f"iSCSI: a machine with a declared address is attached with the seed: {far.units()}"
    assert "spec.ip" in far.script(source=SECOND), f"a request from another of the machine's addresses is refused: {far.script(source=SECOND)}"
    table = run(os.environ["BOOTLATCH"], "host", "list", "--server", f"unix:{box.state}/api.sock")
    box.change("other", ip="10.89.0.77")
    table = run(os.environ["BOOTLATCH"], "host", "list", "--server", f"unix:{box.state}/api.sock")
    assert re.search(r"^other .* 10\.89\.0\.77 ", table, re.M), f"host list shows the declared address of a host that was not seen yet: {table}"
    for address in ("10.88.0.0", "10.88.0.255"):
        code, said = box.api("PATCH", f"{HOSTS}/other", {"spec": {"ip": address}})
        assert code == 422 and said["details"]["causes"][0]["field"] == "spec.ip", f"{address} is refused as a host's address: {said}"


def rehearsal(box, name, query=""):
    """Returns what is assumed of a host's BIOS boot, its script, and the decision on its config."""
    code, rehearsed = box.api("GET", f"{HOSTS}/{name}/rehearsal?arch=bios{query}")
    assert code == 200, rehearsed
    boot = rehearsed["boots"][0]
    steps = {step["step"]: step for step in boot["steps"]}
    return " ".join(boot["assumptions"]), steps["script"], steps.get("config")


def test_a_rehearsal_knows_what_it_knows_of_the_address(lan):
    """A machine behind a router is promised what it then gets; where its address is not known, that is said."""
    (lan.folder / "undionly.kpxe").write_bytes(b"a boot program")
    box, near, far, _ = routed_network(lan, "", FAR, SECOND)
    assumed, script, config = rehearsal(box, "far", f"&address={FAR}")
    assert "nothing ties that address" in assumed and not config["isReached"] and config["decision"]["verdict"] == "ignore", (assumed, config)
    assert script["script"]["text"] == far.script(), "the script without a config is the one that the machine gets"
    assert far.ask("/api/v1/bootconfig")[0] == 404
    assumed, script, config = rehearsal(box, "far")
    assert f"{FAR} as for its last script" in assumed and script["script"]["text"] == far.script() and not config["isReached"], (assumed, config)
    shown = run(os.environ["BOOTLATCH"], "rehearse", "far", "--arch", "bios", "--server", f"unix:{box.state}/api.sock")
    assert f"assumed: it asks from {FAR}" in shown, shown
    eventually(lambda: box.status("far").get("stall"))
    why = run(os.environ["BOOTLATCH"], "host", "why", "far", "--server", f"unix:{box.state}/api.sock")
    assert "Its script has no config" in why and FAR in why and "trusted_subnets" in why, why
    assert near.script() and rehearsal(box, "far", f"&address={NEAR}")[1]["decision"]["reason"] == "address_of_other_machine"
    box.change("far", ip=FAR)
    assumed, _, config = rehearsal(box, "far")
    assert config["isReached"] and config["config"]["name"] == "secret" and "behind a router" in assumed, (assumed, config)
    assert token_of(far.script()) and far.ask("/api/v1/bootconfig") == (200, SECRET), "the machine gets what is promised"


def test_a_rehearsal_before_a_nat_promises_no_config(lan):
    (lan.folder / "undionly.kpxe").write_bytes(b"a boot program")
    box, *_ = routed_network(lan, 'advertise = "192.0.2.9"\n[dhcp]\nmode = "off"\n', FAR)
    assumed, script, config = rehearsal(box, "far")
    assert "a NAT is before this server" in assumed and "192.0.2.9" in script["script"]["text"] and not config["isReached"], (assumed, config)
    assert rehearsal(box, "far", f"&address={NEAR}")[2]["isReached"], "a machine on the link is tied by the neighbour table"


@pytest.mark.parametrize("mode", ["token", "both"])
def test_tokens(lan, mode):
    """The configuration requires a script's token: an unverified claim gets none, and every form of the config needs it."""
    box, near, far, _ = routed_network(lan, f'[config_access]\nrequire = "{mode}"\n', FAR)
    box.change("live", configDelivery="seed")
    for name in ("near", "far"):
        script = far.script(name)
        assert "sanboot iscsi" not in script and "spec.ip" in script and "config_access.trusted_subnets" in script, f"{mode}: an unverified claim gets no script: {script}"
        assert box.status(name)["phase"] == "Assigned", f"{mode}: an unverified claim starts no install: {box.status(name)}"
    assert box.events("far", "refused", "address_unverified"), f"{mode}: the refusal is in the timeline"
    assert far.units() is None and far.units("near") is None, f"{mode}: iSCSI: an unverified claim is refused"
    assert near.units() is None and b"sesame" not in near.seed(), f"{mode}: iSCSI without a token is refused"
    assert box.events("near", "refused", "token_missing"), f"{mode}: iSCSI: the refusal is in the timeline"
    script = near.script()
    token = token_of(script)
    assert token and f"set initiator-iqn {IQN}:52-54-00-00-00-01:{token}\n" in script, (
        f"{mode}: a machine on the local network gets a script whose initiator name has the token: {script}")
    assert near.units(token=token) == ["0", "1"], f"{mode}: iSCSI with the token attaches the seed: {near.units(token=token)}"
    assert not [e for e in box.api("GET", f"{HOSTS}/near/timeline")[1]["items"] if e["event"] == "config_fetched"], (
        f"{mode}: attaching the seed does not count as a fetched config")
    assert b"sesame" in near.seed(token), f"{mode}: QEMU reads the seed with the token"
    given = box.events("near", "config_fetched", "seed_unit")
    assert given and given[-1] == {"config": "secret", "address": NEAR, "channel": "seed_unit"}, f"{mode}: reading the seed is in the timeline: {given}"
    status = box.status("near")
    delivered = [c["status"] for c in status["conditions"] if c["type"] == "ConfigDelivered"]
    assert status["phase"] == "Installing" and delivered == ["True"], f"{mode}: reading the seed is a step of the install: {status}"
    logins = box.events("near", "iscsi_login")
    assert logins and token not in json.dumps(logins) and token not in box.program.text(), f"{mode}: no event and no log contains the token"
    forged = token[:-1] + ("0" if token[-1] != "0" else "1")
    assert near.units(token=forged) is None and b"sesame" not in near.seed(forged), f"{mode}: iSCSI with another token is refused"
    assert (near.ask("/iso/live?host=52-54-00-00-00-01")[0] == 403
          and near.ask(f"/iso/live/?host=52-54-00-00-00-01&token={forged}")[0] == 403), (
        f"{mode}: the host's view over HTTP needs the token")
    anywhere = far.units("near", token=token)
    assert anywhere == (["0", "1"] if mode == "token" else None), (
        f"{mode}: iSCSI with the token from another machine is {'accepted' if mode == 'token' else 'refused'}: {anywhere}")
    code, _ = far.ask(f"/nocloud/{token}/user-data")
    assert code == (200 if mode == "token" else 403), (
        f"{mode}: HTTP with the token from another machine is {'accepted' if mode == 'token' else 'refused'}: {code}")
    box.api("POST", f"{HOSTS}/near/install")
    assert near.units(token=token) is None, f"{mode}: another install ends the token"
    box.change("far", ip=FAR)
    token = token_of(far.script())
    assert token and far.ask(f"/nocloud/{token}/user-data") == (200, SECRET), f"{mode}: a machine with a declared address gets the script and the config"
    for file in ("vendor-data", "seed.iso"):
        far.fetch(f"/nocloud/{token}/{file}")
    fetched = lambda: {detail.get("file") for detail in box.events("far", "config_fetched")}
    assert eventually(lambda: {"vendor-data", "seed.iso"} <= fetched()), f"{mode}: each fetched file is in the timeline: {fetched()}"

    box.start('[config_access]\nrequire = "both"\ntoken_ttl = "1s"\n')
    box.reinstall()
    token = token_of(near.script())
    until("the token has expired", lambda: near.ask(f"/nocloud/{token}/user-data")[0] == 403)
    assert near.units(token=token) == ["0", "1"] and far.units("near", token=token) is None, (
        "an expired token is accepted for logins from its own address only")
    assert near.ask(f"/nocloud/{token}/user-data")[0] == 403, "an expired token is refused for the config"


def test_an_embedded_config(lan):
    """A config inside the ISO needs the token as any other, and reading it at boot does not complete the install."""
    box, near, far, _ = routed_network(lan, '[config_access]\nrequire = "token"\n[install]\ncompletion = "config-fetched"\n', FAR)
    box.change("live", configDelivery="embed")
    token = token_of(near.script())
    assert near.units() is None and b"sesame" not in near.seed(unit=0), "embedded: iSCSI without the token is refused"
    assert near.ask("/iso/live?host=52-54-00-00-00-01")[0] == 403, "embedded: HTTP without the token is refused"
    assert b"sesame" in near.seed(token, unit=0), "embedded: iSCSI with the token reads the config"
    given = box.events("near", "config_fetched")
    assert given == [{"config": "secret", "address": NEAR, "channel": "embedded"}], f"embedded: the first read is in the timeline: {given}"
    near.seed(token, unit=0)
    near.fetch(f"/iso/live?host=52-54-00-00-00-01&token={token}")
    assert len(box.events("near", "config_fetched")) == 1, "embedded: reads are recorded once for each install and address"
    status = box.status("near")
    assert status["phase"] == "Offered" and [c["status"] for c in status["conditions"] if c["type"] == "ConfigDelivered"] == ["True"], (
        f"embedded: a read delivers the config and does not complete the install: {status}")
    code, medium = box.api("POST", f"{HOSTS}/far/virtualmedia")
    assert code == 200, f"embedded: a virtual medium is created: {medium}"
    far.fetch(medium["url"].removeprefix(f"http://{OURS}"))
    given = box.events("far", "config_fetched")
    assert given == [{"config": "secret", "address": FAR, "channel": "embedded"}], f"embedded: the read of a virtual medium is in the timeline: {given}"
    box.change("live", configDelivery="seed")
    box.api("POST", f"{HOSTS}/near/install")
    token = token_of(near.script())
    assert near.seed(token, unit=0) and box.status("near")["phase"] == "Offered", "seed: reading the ISO's own unit is not a fetched config"
    assert b"sesame" in near.seed(token) and box.status("near")["phase"] == "Installed", (
        f'seed: reading the seed completes the install with install.completion = config-fetched: {box.status("near")}')


def test_the_url_of_a_virtual_medium(lan):
    """The URL of a virtual medium with a config is valid for one install, and for config_access.token_ttl."""
    box, _, far, _ = routed_network(lan, '[config_access]\nrequire = "token"\n[install]\ncompletion = "config-fetched"\n', FAR)
    box.change("live", configDelivery="embed")

    def medium():
        box.change("far", bootConfigRef="secret")
        box.api("POST", f"{HOSTS}/far/install")
        url = box.api("POST", f"{HOSTS}/far/virtualmedia")[1]["url"].removeprefix(f"http://{OURS}")
        return url, lambda: far.code_of(url)

    url, given = medium()
    assert given() == 200, "virtual medium: it is served"
    other, given_other = medium()
    assert other != url and given_other() == 200 and given() == 403, "virtual medium: another install has another URL and ends the first one"
    box.change("far", bootConfigRef="")
    assert given_other() == 403, "virtual medium: a config that was removed from the host is refused"
    url, given = medium()
    box.api("POST", f"{HOSTS}/far/localboot")
    assert given() == 403, "virtual medium: it is refused after a local boot was requested"
    box.start('[config_access]\nrequire = "token"\ntoken_ttl = "2s"\n')
    url, given = medium()
    assert given() == 200, "virtual medium: it is served before it expires"
    time.sleep(2.5)  # each read would prolong it
    assert given() == 403, "virtual medium: it is refused after it has expired"
    box.start('[config_access]\nrequire = "token"\n[install]\ncompletion = "config-fetched"\n')
    assert given() == 200, "virtual medium: a running install continues after a restart"


def test_trusted_networks(lan):
    """In a trusted network a machine's claim is accepted unless other evidence contradicts it."""
    box, near, far, _ = routed_network(lan, '[config_access]\ntrusted_subnets = ["10.89.0.0/24"]\n', FAR, SECOND)
    assert token_of(far.script()) and far.ask("/api/v1/bootconfig") == (200, SECRET), "trusted network: a claim is verified"
    assert box.status("far").get("address") == FAR, "trusted network: the address is recorded"
    assert token_of(far.script(source=SECOND)) and far.ask("/api/v1/bootconfig", source=SECOND)[0] == 200 and box.status("far").get("address") == SECOND, (
        "trusted network: the machine's latest address counts")
    assert token_of(far.script("other", source=SECOND)) and box.status("other").get("address") == SECOND, (
        "trusted network: an address can pass to another machine")
    box.change("near", ip=NEAR)
    assert "spec.ip" in far.script("near"), "trusted network: a declared address contradicts a claim"
    assert "another machine" in near.script("far"), "trusted network: a claim for another machine's address on the local network is refused"
    box.start('[config_access]\nrequire = "both"\ntrusted_subnets = ["10.89.0.0/24"]\n')
    box.reinstall()
    token = token_of(far.script())
    assert token and far.ask(f"/nocloud/{token}/user-data") == (200, SECRET) and near.ask(f"/nocloud/{token}/user-data")[0] == 403, (
        "trusted network, both: the token works from the trusted address only")


def test_leases_through_a_relay(lan):
    """Server mode: a lease through a relay verifies its address, and contradicts every other claim from there."""
    box, near, far, router = routed_network(lan, RELAYED_SUBNETS)
    relay(lan, router, OURS)
    other = Machine(lan, "other", "br1")
    address = udhcpc(lan, far)
    assert address.startswith("10.89.0.1"), f"server mode: the relay passes on a lease: {address}"
    assert token_of(far.script()), f"server mode: a lease verifies the address: the script has a token: {far.script()}"
    assert far.ask("/api/v1/bootconfig") == (200, SECRET), "server mode: the config is given to the leased address"
    assert box.status("far").get("address") == address, "server mode: the leased address is recorded"
    for name in ("near", "other"):
        said = far.script(name)
        assert "sanboot iscsi" not in said and "another machine" in said, f"server mode: a claim of another machine contradicts the lease: {said}"
        assert box.status(name)["phase"] == "Assigned", "server mode: a refused claim starts no install"
        assert box.events(name, "refused", "address_of_other_machine"), "server mode: the refusal is in the timeline"
    assert far.units("near") is None and far.units() == ["0"], f"server mode: iSCSI: a claim of another machine is refused: {far.units()}"
    second = udhcpc(lan, other)
    assert second != address and token_of(other.script()) and box.status("other").get("address") == second, (
        "server mode: the other machine's lease verifies its own address")
    box.start(RELAYED_SUBNETS + '[config_access]\nrequire = "both"\n')
    box.reinstall()
    token = token_of(far.script())
    assert token and far.ask(f"/nocloud/{token}/user-data") == (200, SECRET), "server mode, both: the token works from the leased address"
    assert other.ask(f"/nocloud/{token}/user-data")[0] == 403, "server mode, both: the token is refused from another address"
    box.change("near", ip=NEAR)
    lan.ip(far.space, "link", "set", "lan0", "down")
    lan.ip(far.space, "link", "set", "lan0", "address", MACS["near"])
    lan.ip(far.space, "link", "set", "lan0", "up")
    moved = udhcpc(lan, far)
    said = far.script("near")
    assert "spec.ip" in said and moved.startswith("10.89.0.1"), (
        f"server mode: a lease in another machine's name contradicts its declared address: {(moved, said)}")


def test_exchanges_with_another_dhcp_server(lan):
    """Proxy mode next to dnsmasq: an exchange that passes through a relay verifies the address."""
    box, near, far, router = routed_network(lan, f"[dhcp]\n{DHCRELAY}")
    dhcp = lan.client("dnsmasq", address="10.88.0.1/24")
    lan.ip(dhcp, "route", "add", "10.89.0.0/24", "via", ROUTER)
    lan.start(dhcp, "dnsmasq", tool("dnsmasq"), "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=lan0", "--bind-interfaces", "--no-ping",
              f"--dhcp-leasefile={lan.folder}/dnsmasq.leases", "--dhcp-range=10.89.0.200,10.89.0.220,255.255.255.0,1h", "--dhcp-option=3,10.89.0.1").says("DHCP")
    relay(lan, router, "10.88.0.1", OURS)
    address = udhcpc(lan, far)
    until("the exchange is noted", lambda: box.status("far").get("address") == address)
    assert address.startswith("10.89.0.2"), f"proxy mode: an exchange with the LAN's server through a relay is recorded: {address}"
    assert token_of(far.script()), f"proxy mode: the exchange verifies the address: the script has a token: {far.script()}"
    assert far.ask("/api/v1/bootconfig") == (200, SECRET), "proxy mode: the config is given to the address"
    assert "another machine" in far.script("near"), "proxy mode: a claim of another machine contradicts the exchange"
    box.start(f'[dhcp]\n{DHCRELAY}[config_access]\nrequire = "both"\n')
    token = token_of(far.script())
    assert token and far.ask(f"/nocloud/{token}/user-data") == (200, SECRET), "proxy mode, both: the verified address survives a restart"
    forge(lan, far, MACS["other"], address)
    forge(lan, router, MACS["near"], "10.89.0.99")
    until("the relay's word on the wire is noted", lambda: box.status("near").get("address") == "10.89.0.99")
    assert "address" not in box.status("other"), f'proxy mode: a forged relay message from behind the router is ignored: {box.status("other")}'


def forge(lan, where, mac, address):
    """Sends a forged relayed DHCPREQUEST in a machine's name."""
    space = where if isinstance(where, str) else where.space
    program = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
m = bytes([1, 1, 6, 1]) + bytes(20) + socket.inet_aton("10.89.0.1") + bytes.fromhex("{mac.replace(':', '')}") + bytes(202)
s.sendto(m + bytes([99, 130, 83, 99, 53, 1, 3, 50, 4]) + socket.inet_aton("{address}") + bytes([255]), ("{OURS}", 67))
"""
    run(*lan.inside(space, sys.executable, "-c", program))
