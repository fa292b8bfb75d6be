"""Which machine is given which config: addresses that the neighbour table contradicts, and tokens of scripts."""

import json
import re

import pytest

from support.network import Peer
from support.objects import CONFIGS, HOSTS, IMAGES, config, delete_all, host, image, timeline
from support.server import PORT
from support.waiting import eventually

OURS, THEIRS, OTHER = "10.66.0.1", "10.66.0.10", "10.66.0.11"

MAC = "52:54:00:00:00:01"


class Machine(Peer):
    """A machine with two addresses at the other end of a wire from the server."""

    def __init__(self):
        super().__init__("wire0", "wire1", f"{OURS}/24")
        self.run("ip", "link", "set", "wire1", "address", MAC)
        for address in (THEIRS, OTHER):
            self.run("ip", "address", "add", f"{address}/24", "dev", "wire1")

    def ask(self, path, source=THEIRS, method="GET"):
        """Sends a request with curl and returns the status and the body."""
        asked = ["-o", "/dev/null", "--head"] if method == "HEAD" else ["-X", method]
        done = self.run("curl", "-s", "-m", "10", "-w", "\n%{http_code}", "--interface", source, *asked, f"http://{OURS}:{PORT}{path}")
        body, code = done.stdout.rsplit("\n", 1)
        return int(code), body


@pytest.fixture(scope="module")
def machine(private_network):
    machine = Machine()
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def server(start_server, machine):
    return start_server(interface="wire0", address=OURS)


@pytest.fixture(autouse=True)
def objects(server):
    """The host "mine" with the machine's MAC address, and the host "other" with its second address, both with the config "c"."""
    server.iso()
    server.ask("POST", CONFIGS, config("c"))
    server.ask("POST", IMAGES, image("live", ["c"]))
    server.ask("POST", HOSTS, host("mine", 1, image="live", bootConfigRef="c"))
    server.ask("POST", HOSTS, host("other", 2, image="live", bootConfigRef="c", ip=OTHER))
    yield
    delete_all(server)


def token_of(script):
    """Returns the token in a script, or None."""
    found = re.search(r"set config-url \S+(?:token=|/nocloud/)([0-9a-f]+)", script)
    return found and found.group(1)


def test_the_address_of_a_machine(server, machine):
    ask = machine.ask
    assert ask("/api/v1/bootconfig")[0] == 200, "a machine is recognised by the MAC address of its interface"
    code, said = ask("/api/v1/bootconfig", source=OTHER)
    assert code == 403 and "another machine" in said, f"an address of another host does not give a machine that host's config: {(code, said)}"
    code, script = ask("/ipxe?mac=52-54-00-00-00-02")
    assert code == 200 and "sanboot iscsi" not in script and "another machine" in script, (
        f"the MAC address in a query does not give a machine another host's script: {script}")
    assert server.ask("GET", f"{HOSTS}/other").json["status"]["phase"] == "Assigned", "a refused claim starts no install"
    told = lambda: [e for e in timeline(server, "other", "refused") if e["detail"]["reason"] == "address_of_other_machine"]
    assert eventually(told), "the refusal is in the timeline with its reason"
    assert 'bootlatch_requests_refused_total{protocol="http",reason="address_of_other_machine"}' in server.ask("GET", "/metrics", token=None).text, "the refusal is counted"
    ask("/ipxe?mac=52-54-00-00-00-77")
    strangers = lambda: [e for e in server.ask("GET", "/api/v1/timeline").json["items"] if (e["mac"] or "").lower() == "52:54:00:00:00:77"]
    assert "52:54:00:00:00:77" not in server.ask("GET", HOSTS).text.lower(), "an unknown MAC address from another host's address is not enrolled"
    assert eventually(lambda: [e for e in strangers() if THEIRS in e["detail"]["message"] and MAC in e["detail"]["message"].lower()]), (
        f"the server's timeline shows whose address it is: {strangers()}")
    assert ask("/api/v1/boot-complete", OTHER, "POST")[0] == 403, "a machine cannot complete another host's install"


def test_the_token_of_a_script(server, machine):
    ask = machine.ask
    with server.configured('[config_access]\nrequire = "token"\ntoken_ttl = "1h"\n'):
        code, said = ask("/api/v1/bootconfig")
        assert code == 403 and "token" in said, f"the config needs the script's token: {(code, said)}"
        token = token_of(ask("/ipxe?mac=52-54-00-00-00-01")[1])
        assert token, "the script has a token"
        assert ask(f"/api/v1/bootconfig?token={token}")[0] == 200 and ask(f"/config/{token}")[0] == 200, "the config is given with the token"
        assert server.ask("GET", f"/config/{token}", token=None).code == 200, "the token is accepted from any address"
        assert ask(f"/config/{token}", source=OTHER)[0] == 200, "the token is accepted from another address of the machine"
        assert ask(f"/config/{token[:-1]}{'0' if token[-1] != '0' else '1'}")[0] == 403, "a forged token is refused"
        server.restart()
        assert ask(f"/config/{token}")[0] == 200, "the token survives a restart of the server"
        server.ask("POST", f"{HOSTS}/mine/install")
        assert ask(f"/config/{token}")[0] == 403, "another install ends the token"
        second = token_of(ask("/ipxe?mac=52-54-00-00-00-01")[1])
        assert ask(f"/config/{token}")[0] == 403 and ask(f"/config/{second}")[0] == 200, "the new token is accepted and the old one refused"
        server.ask("POST", f"{HOSTS}/mine/hold")
        assert ask(f"/config/{second}")[0] == 403, "the token of a held host is refused"
        events = lambda kind: [e["detail"] for e in timeline(server, "mine", kind)]
        assert eventually(lambda: [e for e in events("config_fetched") if e["address"] == THEIRS]), "each fetched config is in the timeline with its address"
        assert eventually(lambda: [e for e in events("refused") if e["reason"] in ("token_missing", "token_invalid")]), "each refusal is in the timeline"
        assert token not in server.all_logs() and second not in server.all_logs(), "no log contains a token"


@pytest.mark.parametrize("rule", ["token", "address"])
def test_boot_complete_with_a_token(server, machine, rule):
    ask = machine.ask
    with server.configured(f'[config_access]\nrequire = "{rule}"\n'):
        server.ask("POST", f"{HOSTS}/mine/install")
        token = token_of(ask("/ipxe?mac=52-54-00-00-00-01")[1])
        assert ask("/api/v1/boot-complete", OTHER, "POST")[0] == 403, f"{rule}: boot-complete without the token is refused from another address"
        done = ask(f"/api/v1/boot-complete?token={token}", OTHER, "POST")
        assert done[0] == 200 and server.ask("GET", f"{HOSTS}/mine").json["status"]["phase"] == "Installed", (
            f"{rule}: boot-complete with the token completes the install from another address: {done}")


def test_token_and_address(server, machine):
    ask = machine.ask
    with server.configured('[config_access]\nrequire = "both"\n'):
        server.ask("POST", f"{HOSTS}/mine/install")
        token = token_of(ask("/ipxe?mac=52-54-00-00-00-01")[1])
        assert ask(f"/config/{token}")[0] == 200, "both: the token is accepted from the machine's address"
        assert server.ask("GET", f"/config/{token}", token=None).code != 200, "both: the token is refused from another address"
        assert ask("/api/v1/bootconfig")[0] == 403, "both: the address alone is refused"


def test_the_lifetime_of_a_token(server, machine):
    with server.configured('[config_access]\nrequire = "token"\ntoken_ttl = "1s"\n'):
        token = token_of(machine.ask("/ipxe?mac=52-54-00-00-00-01")[1])
        assert token and eventually(lambda: machine.ask(f"/config/{token}")[0] == 403), "the token is refused after its lifetime"


def test_only_a_delivered_config_counts(server, machine):
    """A refused request and HEAD are no step of an install, also if the fetch completes it (install.completion)."""
    ask = machine.ask
    kickstart = {"metadata": {"name": "ks"}, "spec": {"format": "kickstart", "data": {"ks.cfg": "text\n"}}}
    assert server.ask("POST", CONFIGS, kickstart).code == 201, "a kickstart is created"
    server.ask("PATCH", f"{IMAGES}/live", {"spec": {"bootConfigs": ["c", "ks"]}})
    now = lambda: server.ask("GET", f"{HOSTS}/mine").json["status"]
    events = lambda: [(e["event"], e["detail"].get("message", "")) for e in timeline(server, "mine")]
    for rule in ("boot-complete", "config-fetched"):
        with server.configured(f'[install]\ncompletion = "{rule}"\n'):
            server.ask("POST", f"{HOSTS}/mine/install", {"bootConfigRef": "ks"})
            token = token_of(ask("/ipxe?mac=52-54-00-00-00-01")[1])
            before = len(events())
            gone = [ask(path) for path in ("/api/v1/bootconfig?file=nope", f"/config/{token}/nope", f"/nocloud/{token}/user-data")]
            assert all(code == 404 and "it has ks.cfg" in said for code, said in gone), (
                f"{rule}: a missing file is 404 and the answer names the existing one: {gone}")
            assert ask("/get_ignition")[1] == "{}", f"{rule}: a kickstart is not served as Ignition"
            heads = [ask(path, method="HEAD")[0] for path in ("/api/v1/bootconfig", f"/config/{token}", "/get_ignition")]
            assert heads == [200, 200, 200], f"{rule}: HEAD answers 200: {heads}"
            refused = lambda: [message for event, message in events()[before:] if event == "refused"]
            wanted = lambda: any("nope" in message and "ks.cfg" in message for message in refused()) and any("Ignition" in message for message in refused())
            assert eventually(wanted), f"{rule}: each refusal is in the timeline with its reason: " + str(events()[before:])
            assert now()["phase"] == "Offered" and "config_fetched" not in [e for e, _ in events()[before:]], (
                f"{rule}: refused requests and HEAD do not count as a fetched config: " + str(events()[before:]))
            assert ask(f"/config/{token}") == (200, "text\n"), f"{rule}: the config is served"
            ends = {"boot-complete": "Installing", "config-fetched": "Installed"}
            assert now()["phase"] == ends[rule] and eventually(lambda: "config_fetched" in [e for e, _ in events()[before:]]), (
                f"{rule}: the fetched config changes the phase and is in the timeline: {now()}")
    of_config = lambda: {(e["host"], e["event"], e["detail"]["config"]) for e in server.ask("GET", f"{CONFIGS}/ks/timeline").json["items"]}
    assert of_config() == {("mine", "config_fetched", "ks")}, f"a config's timeline shows who fetched it: {of_config()}"
    of_iso = [e["event"] for e in server.ask("GET", f"{IMAGES}/live/timeline").json["items"]]
    assert {"assigned", "script"} <= set(of_iso) and "config_fetched" not in of_iso, f"an ISO's timeline shows who booted it: {of_iso}"


def test_seeds_and_other_paths(server, machine):
    ask = machine.ask
    data = {"user-data": "#cloud-config\nhostname: x\n"}
    server.ask("POST", CONFIGS, {"metadata": {"name": "ci"}, "spec": {"format": "cloud-init", "data": data}})
    server.ask("PATCH", f"{IMAGES}/live", {"spec": {"bootConfigs": ["c", "ci"]}})
    server.ask("POST", f"{HOSTS}/mine/install", {"bootConfigRef": "ci"})
    token = token_of(ask("/ipxe?mac=52-54-00-00-00-01")[1])
    seed = {name: ask(f"/nocloud/{token}/{name}") for name in ("user-data", "meta-data", "vendor-data", "network-config")}
    assert seed["user-data"] == (200, data["user-data"]), f"NoCloud: user-data is served: {seed}"
    assert seed["meta-data"][0] == 200 and 'local-hostname: "mine"' in seed["meta-data"][1], f"NoCloud: meta-data is generated: {seed}"
    assert seed["vendor-data"][0] == 200 and f"/api/v1/report/{token}" in seed["vendor-data"][1], f"NoCloud: vendor-data has cloud-init report here: {seed}"
    assert seed["network-config"][0] == 404, "NoCloud: network-config is 404 if the config has none"
    assert ask(f"/phone_home/{token}", method="POST")[0] == 200 and server.ask("GET", f"{HOSTS}/mine").json["status"]["phase"] == "Installed", (
        "phone_home completes the install")
    server.ask("POST", f"{HOSTS}/mine/install", {"bootConfigRef": "c"})
    given = json.loads(ask("/get_ignition")[1])
    assert given["storage"]["files"][0]["contents"]["source"] == "data:,mine", f"get_ignition serves the config with the machine's name: {given}"
    assert server.ask("GET", "/get_ignition", token=None).text == "{}", "get_ignition serves an empty object to an unknown machine"
    local = ask("/api/v1/ipxe/localboot")
    assert local[0] == 200 and "\nexit\n" in local[1], f"mkube's localboot boots the local disk: {local}"
