"""Templates of configs: versions by a stock kubectl and the command line, and what machines are served of them."""

import json
import os
import subprocess

import pytest

from support import config_validators as validators
from support.bmc_hosts import condition
from support.kubectl import Kubectl
from support.network import Peer
from support.objects import CONFIGS, HOSTS, IMAGES, TEMPLATES, host, image, timeline
from support.server import PORT
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_objects_left")

OURS, THEIRS = "10.66.0.1", "10.66.0.10"
MAC = "52:54:00:00:00:01"

TEMPLATE = """\
apiVersion: v1
kind: ConfigTemplate
metadata: {name: web}
spec:
  format: kickstart
  data:
    ks.cfg: |
      text
      network --ip={{ values.ip|address }} --netmask={{ values.ip|netmask }} --hostname={{ host.name }}
      # MARK {{ host.mac }} {{ host.labels.rack|default("no rack") }}
      %post
      curl {{ site.url }}/api/v1/boot-complete
      %end
  schema:
    ip: {type: string, required: true}
"""
CONFIG = {"apiVersion": "v1", "kind": "BootConfig", "metadata": {"name": "web"}, "spec": {"format": "kickstart", "template": {"name": "web"}}}


def rendered(name, address, mark="one", rack="no rack", mac=MAC):
    """Returns the kickstart of a host."""
    return (f"text\nnetwork --ip={address} --netmask=255.255.255.0 --hostname={name}\n# {mark} {mac} {rack}\n"
            f"%post\ncurl http://{OURS}:{PORT}/api/v1/boot-complete\n%end\n")


class Machine(Peer):
    """A machine at the other end of a wire from the server."""

    def __init__(self):
        super().__init__("wire0", "wire1", f"{OURS}/24")
        self.run("ip", "link", "set", "wire1", "address", MAC)
        self.run("ip", "address", "add", f"{THEIRS}/24", "dev", "wire1")

    def ask(self, path, method="GET"):
        """Sends a request with curl and returns the status and the body."""
        done = self.run("curl", "-s", "-m", "10", "-w", "\n%{http_code}", "-X", method, f"http://{OURS}:{PORT}{path}")
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


@pytest.fixture
def k(server):
    return Kubectl(server)


def apply(k, mark="one"):
    done = k("apply", "-f", "-", stdin=TEMPLATE.replace("MARK", mark))
    assert done.returncode == 0, f"kubectl applies a template: {done}"
    return done


@pytest.fixture
def web(server, k):
    """The template and the config "web", an ISO that lists it, and the hosts "one" (the machine) and "two"."""
    apply(k)
    server.iso()
    assert server.ask("POST", CONFIGS, CONFIG).code == 201, "a config may name a template"
    server.ask("POST", IMAGES, image("live", ["web"]))
    server.ask("POST", HOSTS, host("one", 1, image="live", bootConfigRef="web", values={"ip": "192.0.2.5/24"}))
    server.ask("POST", HOSTS, host("two", 2, image="live", bootConfigRef="web", values={"ip": "192.0.2.6/24"}))


def versions(server):
    return [entry["version"] for entry in server.ask("GET", f"{TEMPLATES}/web").json["status"]["versions"]]


def test_a_stock_kubectl_manages_templates(server, k):
    apply(k)
    assert "unchanged" in apply(k).stdout and versions(server) == [1], "the same text is no version"
    apply(k, "two")
    table = k("get", "ct").stdout.split("\n")
    assert table[1].split()[:4] == ["web", "kickstart", "2", "2"], f"get shows format, version and the number kept: {table}"
    patched = k("patch", "configtemplate", "web", "--type", "merge", "-p", '{"spec": {"defaults": {"ip": "192.0.2.9/24"}}}')
    assert "patched" in patched.stdout and versions(server) == [1, 2, 3], f"a patch of the spec is a version: {patched}"
    k("label", "ct", "web", "team=a")
    assert versions(server) == [1, 2, 3], "a label is none"
    assert "spec" not in server.ask("GET", f"{TEMPLATES}/web").json["status"]["versions"][0], "a list of versions has no texts"
    wrong = k("apply", "-f", "-", stdin=TEMPLATE.replace("%post", "{% if x %}"))
    assert wrong.returncode == 1 and "spec.data.ks.cfg" in wrong.stderr and "line " in wrong.stderr, f"a text that cannot be parsed is refused with its line: {wrong}"
    wrong = k("patch", "ct", "web", "--type", "merge", "-p", '{"spec": {"defaults": {"ip": 5}}}')
    assert "spec.defaults.ip" in wrong.stderr and "expected the type string" in wrong.stderr, f"a default has its type: {wrong}"
    wrong = k("patch", "ct", "web", "--type", "merge", "-p", '{"spec": {"format": "script"}}')
    assert wrong.returncode == 1 and versions(server) == [1, 2, 3], f"the format stays, and a refused change is no version: {wrong}"
    texts = [item["spec"]["data"]["ks.cfg"] for item in server.ask("GET", f"{TEMPLATES}/web/versions").json["items"]]
    assert ["# one" in texts[0], "# two" in texts[1], "# two" in texts[2]] == [True] * 3, "each version can be read"
    server.restart()
    assert versions(server) == [1, 2, 3], "versions outlast a restart"
    watched = server.ask("GET", f"{TEMPLATES}?watch=true&timeoutSeconds=1").text
    assert json.loads(watched.split("\n")[0])["object"]["metadata"]["name"] == "web", f"templates are watched: {watched}"
    assert "deleted" in k("delete", "ct", "web").stdout


def test_a_bounded_number_of_versions_is_kept(server, k, web):
    server.ask("PATCH", f"{CONFIGS}/web", {"spec": {"template": {"version": 1}}}, "application/merge-patch+json")
    for number in range(2, 15):
        apply(k, f"m{number}")
    assert versions(server) == [1, *range(5, 15)], "the ten newest are kept, and the one that a config pins"
    pin = server.ask("PATCH", f"{CONFIGS}/web", {"spec": {"template": {"version": 3}}}, "application/merge-patch+json")
    assert pin.code == 422 and "no version 3; it has 1, 5" in pin.text, f"a version that is not kept cannot be pinned: {pin}"


def test_a_machine_is_served_its_own_config(server, machine, k, web):
    code, text = machine.ask("/api/v1/bootconfig")
    assert (code, text) == (200, rendered("one", "192.0.2.5")), "the machine gets the config of its host"
    found = server.ask("GET", f"{HOSTS}/one").json["status"]
    assert found["renderedTemplate"] == {"template": "web", "version": 1} and found["phase"] == "Installing", f"the version is in the status: {found}"
    assert condition(server, "one", "ConfigRendered")["status"] == "True"
    k("label", "bmh", "one", "rack=r1")
    apply(k, "two")
    assert machine.ask("/api/v1/bootconfig")[1] == rendered("one", "192.0.2.5", "two", "r1"), "the newest version, and the host's labels"
    pins = [{"matchLabels": {"rack": "r1"}, "version": 1}]
    server.ask("PATCH", f"{CONFIGS}/web", {"spec": {"template": {"pins": pins}}}, "application/merge-patch+json")
    assert machine.ask("/api/v1/bootconfig")[1] == rendered("one", "192.0.2.5", "one", "r1"), "hosts with a label are kept at a version"
    assert server.run("config", "render", "two").stdout == rendered("two", "192.0.2.6", "two", mac="52:54:00:00:00:02"), "other hosts are not"


def test_a_config_is_printed_byte_for_byte(server, machine, web):
    before = server.ask("GET", f"{HOSTS}/one").json
    shown = server.run("config", "render", "one")
    named = server.run("config", "render", MAC, "--file", "ks.cfg")
    assert server.ask("GET", f"{HOSTS}/one").json == before, "nothing is recorded"
    served = machine.ask("/api/v1/bootconfig")[1]
    assert shown.stdout == named.stdout == served, f"config render prints what the machine is served: {shown}"
    missing = server.run("config", "render", "one", "--file", "no")
    assert missing.returncode == 4 and "it has ks.cfg" in missing.stderr, f"a missing file is named: {missing}"
    for field, value in (("confidential", True), ("binaryData", {"more.cfg": "H4v/"}), ("data", {"more.cfg": "x"})):
        refused = server.ask("PATCH", f"{CONFIGS}/web", {"spec": {field: value}}, "application/merge-patch+json")
        assert refused.code == 422 and f"spec.{field}" in refused.text, f"a template excludes {field}: {refused}"
    binary = {"format": "script", "data": {"script": "true\n"}, "binaryData": {"a.gz": "H4v/"}}
    server.ask("POST", CONFIGS, {**CONFIG, "metadata": {"name": "binary"}, "spec": binary})
    server.ask("PATCH", f"{HOSTS}/one", {"spec": {"bootConfigRef": "binary", "image": "localboot"}}, "application/merge-patch+json")
    words, reach = [server.binary, "config", "render", "one", "--file", "a.gz"], {"BOOTLATCH_SERVER": f"unix:{server.state}/api.sock"}
    done = subprocess.run(words, capture_output=True, timeout=60, env={**os.environ, **reach})
    assert done.stdout == b"\x1f\x8b\xff", f"a file that is not text is printed octet by octet: {done}"
    secret = {"format": "script", "data": {"script": "true\n"}, "confidential": True}
    server.ask("POST", CONFIGS, {**CONFIG, "metadata": {"name": "secret"}, "spec": secret})
    server.ask("PATCH", f"{HOSTS}/one", {"spec": {"bootConfigRef": "secret"}}, "application/merge-patch+json")
    secret = server.run("config", "render", "one")
    assert secret.returncode != 0 and "confidential" in secret.stderr, f"a confidential config is its machine's: {secret}"


def test_a_config_that_cannot_be_rendered(server, machine, web):
    """A failure names everything, moves nothing, and ends when the values are right."""
    server.ask("PATCH", f"{HOSTS}/one", {"spec": {"values": None}}, "application/merge-patch+json")
    labelled = Kubectl(server)("label", "bmh", "one", "a=b")
    assert "Warning: template web version 1: spec.values.ip: missing" in labelled.stderr, f"a write of the host warns: {labelled}"
    code, text = machine.ask("/api/v1/bootconfig")
    assert code == 503 and "template web version 1: spec.values.ip: missing" in text, f"the refusal says what is missing: {(code, text)}"
    changed = TEMPLATE.replace("MARK", "{{ values.role }}").replace("  schema:\n    ip: {type: string, required: true}\n", "")
    assert Kubectl(server)("apply", "-f", "-", stdin=changed).returncode == 0
    code, text = machine.ask("/api/v1/bootconfig")
    assert code == 503 and "template web version 2: ks.cfg line 2: " in text and "values.ip" in text, f"version, file, line and variable: {text}"
    found = condition(server, "one", "ConfigRendered")
    assert (found["status"], found["reason"]) == ("False", "RenderFailed") and "values.ip" in found["message"], f"it is a condition: {found}"
    refused = lambda: [e for e in timeline(server, "one", "refused") if e["detail"]["reason"] == "config_not_rendered"]
    assert eventually(refused) and "spec.values.ip: missing" in refused()[0]["detail"]["message"], "it is in the timeline"
    status = server.ask("GET", f"{HOSTS}/one").json["status"]
    assert status["phase"] == "Assigned" and "configFetchTime" not in status.get("install", {}), f"it moves no install: {status}"
    rehearsed = server.run("rehearse", "one").stdout
    assert "ks.cfg line 2" in rehearsed, f"a rehearsal shows it before: {rehearsed}"
    values = {"ip": "192.0.2.5/24", "role": "db"}
    server.ask("PATCH", f"{HOSTS}/one", {"spec": {"values": values}}, "application/merge-patch+json")
    assert machine.ask("/api/v1/bootconfig") == (200, rendered("one", "192.0.2.5", "db")), "it goes on when the values are there"
    assert condition(server, "one", "ConfigRendered")["status"] == "True"


def test_versions_are_compared_and_rolled_back(server, k, web):
    apply(k, "two")
    run, file = server.run, server.place / "ks.cfg"
    assert "-# one {{ host.mac }}" in run("template", "diff", "web", "1", "2").stdout and "+# two {{" in run("template", "diff", "web", "1", "2").stdout
    dry = run("template", "rollback", "web", "--to", "1", "--dry-run")
    for name, mac in (("one", MAC), ("two", "52:54:00:00:00:02")):
        assert f"-# two {mac}" in dry.stdout and f"+# one {mac}" in dry.stdout and f"--- {name} ks.cfg" in dry.stdout, f"a dry run shows whose config changes and how: {dry}"
    assert "2 hosts change, 0 stay" in dry.stdout and versions(server) == [1, 2], f"and changes nothing: {dry}"
    done = run("template", "rollback", "web", "--to", "1")
    assert "as version 3" in done.stdout and versions(server) == [1, 2, 3], f"a rollback is a new version: {done}"
    assert run("template", "diff", "web", "1", "3").stdout == "", "with the old text"
    file.write_text("text\n{% if host.name == 'two' %}\n# {{ values.gone }}\n{% endif %}\n")
    add = ("template", "add", "web", file, "--format", "kickstart", "--replace")
    dry = run(*add, "--dry-run")
    assert "two: template web version 4: ks.cfg line 3: values.gone is undefined" in dry.stdout and "--- one ks.cfg" in dry.stdout, f"a dry run shows whose config fails: {dry}"
    assert run(*add).returncode == 0 and versions(server) == [1, 2, 3, 4]
    kept = server.ask("GET", f"{TEMPLATES}/web").json["spec"]["schema"]
    assert kept == {"ip": {"type": "string", "required": True}}, f"a replacement keeps the schema: {kept}"
    gone = run("template", "diff", "web", "1", "9")
    assert gone.returncode == 4 and "has no version 9; it has 1, 2, 3, 4" in gone.stderr, f"{gone}"


def test_what_is_in_use_stays(server, k, web):
    refused = server.run("template", "remove", "web")
    assert refused.returncode == 5 and "BootConfig web" in refused.stderr, f"a template that a config names is not removed: {refused}"
    wrong = server.ask("POST", CONFIGS, {**CONFIG, "metadata": {"name": "other"}, "spec": {"format": "script", "template": {"name": "web"}}})
    assert wrong.code == 422 and "spec.format" in wrong.text, f"a config has the format of its template: {wrong}"
    wrong = server.ask("POST", CONFIGS, {**CONFIG, "metadata": {"name": "other"}, "spec": {"format": "kickstart", "template": {"name": "no"}}})
    assert wrong.code == 422 and "ConfigTemplate no does not exist" in wrong.text, f"a template exists first: {wrong}"
    missing = lambda: "never reports" in condition(server, "one", "BootReady")["message"]
    assert not missing(), "the template has the call that ends an install"
    open_call = TEMPLATE.replace("MARK", "x").replace("curl {{ site.url }}/api/v1/boot-complete", "{{ values.end|default('true') }}")
    assert Kubectl(server)("apply", "-f", "-", stdin=open_call).returncode == 0
    assert not missing(), "the call may come from a value"
    never = "".join(line for line in open_call.splitlines(True) if "values." not in line).replace('|default("no rack")', "").replace("{{ host.labels.rack }}", "")
    assert Kubectl(server)("apply", "-f", "-", stdin=never).returncode == 0
    assert missing(), "a template that ends no install is a warning"


def test_rendered_configs_pass_their_own_validation(server, tmp_path):
    """The real ignition-validate and `cloud-init schema` take what is rendered."""
    unit = '{"name": "a.service", "enabled": {{ values.enabled|tojson }}, "contents": {{ values.unit|tojson }}}'
    source = '"data:,{{ host.name|urlencode }}"'
    ignition = ('{"ignition": {"version": "3.3.0"}, "storage": {"files": [{"path": "/etc/hostname", "mode": 420, "contents": {"source": %s}}]},'
                ' "systemd": {"units": [%s]}}' % (source, unit))
    user_data = "#cloud-config\nhostname: {{ host.name }}\npackages: {{ values.packages|tojson }}\n"
    values = {"enabled": True, "unit": "[Unit]\nDescription=\"x\"\n[Install]\nWantedBy=multi-user.target\n", "packages": ["vim", "git"]}
    texts = {}
    for number, (form, file, text) in enumerate((("ignition", "config.ign", ignition), ("cloud-init", "user-data", user_data)), 1):
        template = {"apiVersion": "v1", "kind": "ConfigTemplate", "metadata": {"name": form}, "spec": {"format": form, "data": {file: text}}}
        assert server.ask("POST", TEMPLATES, template).code == 201
        server.ask("POST", CONFIGS, {**CONFIG, "metadata": {"name": form}, "spec": {"format": form, "template": {"name": form}}})
        server.ask("POST", HOSTS, host(f"h{number}", number, bootConfigRef=form, values=values))
        texts[form] = server.run("config", "render", f"h{number}").stdout
    assert json.loads(texts["ignition"])["systemd"]["units"][0]["contents"] == values["unit"], "tojson quotes a text"
    assert validators.ignition(texts["ignition"]) == (True, ""), "ignition-validate finds nothing"
    assert validators.cloud_config([texts["cloud-init"]])[texts["cloud-init"]] is None, "cloud-init finds nothing"
