"""What will not work at a boot is said when the boot is assigned: as a warning, and as the condition BootReady."""

import pytest

from support.bmc_hosts import condition
from support.iso_images import efi_image, run, write
from support.kubectl import Kubectl
from support.objects import CONFIGS, HOSTS, IMAGES, delete_all, host
from support.served_iso import MERGE, bare_iso

CALL = "curl -fsS -X POST http://192.0.2.1/api/v1/boot-complete"
UUID = "04030201-0605-0807-090a-0b0c0d0e0f10"
EFI, ARM, BIOS = "platform=efi&buildarch=x86_64", "platform=efi&buildarch=arm64", "platform=pcbios&buildarch=x86_64"


@pytest.fixture(scope="module")
def server(start_server, session_place, debian, fedora, place):
    """A server with ISOs for different firmware."""
    server = start_server()
    write(place / "arm/readme", "x")
    arm = efi_image(place / "arm/efi.img", 1440, "12", {"EFI/BOOT/BOOTAA64.EFI": b"MZ"})
    run("xorriso", "-as", "mkisofs", "-quiet", "-r", "-o", place / "arm.iso", "-e", arm.name, "-no-emul-boot", place / "arm")
    for name, iso in (("debian", debian), ("fedora", fedora), ("arm", place / "arm.iso"), ("bare", bare_iso(place))):
        added = server.run("iso", "add", name, iso)
        assert added.returncode == 0, f"bootlatch iso add {name}: {added}"
    yield server
    delete_all(server)


@pytest.fixture(autouse=True)
def no_hosts_left(server):
    yield
    for item in server.ask("GET", "/api/v1/baremetalhosts").json["items"]:
        server.ask("DELETE", f"{HOSTS}/{item['metadata']['name']}")


def make(server, name="node1", number=1, **spec):
    created = server.ask("POST", HOSTS, host(name, number, ip=f"192.0.2.{number}", **spec))
    assert created.code == 201, f"the host is created: {created}"
    return created


def asks(server, what, number=1):
    """Asks for a host's script, as its iPXE does."""
    answer = server.ask("GET", f"/ipxe?mac=52-54-00-00-00-{number:02x}&{what}", token=None, source=f"192.0.2.{number}")
    assert answer.code == 200, f"the script is served: {answer}"


def change(server, name="node1", **spec):
    changed = server.ask("PATCH", f"{HOSTS}/{name}", {"spec": spec}, MERGE)
    assert changed.code == 200, f"the host is changed: {changed}"
    return changed


def write_config(server, name, text, format="kickstart", file="ks.cfg"):
    """Creates or replaces a config, which every ISO may be combined with."""
    body = {"apiVersion": "v1", "kind": "BootConfig", "metadata": {"name": name}, "spec": {"format": format, "data": {file: text}}}
    known = server.ask("GET", f"{CONFIGS}/{name}").code == 200
    written = server.ask("PUT", f"{CONFIGS}/{name}", body) if known else server.ask("POST", CONFIGS, body)
    assert written.code in (200, 201), f"the config is written: {written}"
    for item in server.ask("GET", IMAGES).json["items"]:
        if name not in item["spec"].get("bootConfigs", []):
            configs = [*item["spec"].get("bootConfigs", []), name]
            server.ask("PATCH", f"{IMAGES}/{item['metadata']['name']}", {"spec": {"bootConfigs": configs}}, MERGE)
    return written.json["status"]


def said(answer):
    """Returns the warnings in the headers and in the status of a response; both are the same."""
    headers = answer.headers.get_all("Warning") or []
    status = answer.json["status"].get("warnings", [])
    assert [line.split('"')[1].replace("\\", "") for line in headers] == [line.replace('"', "") for line in status], (
        f"the headers have the warnings of the status: {headers} {status}")
    return " ".join(status)


def ready(server, name="node1"):
    found = condition(server, name, "BootReady")
    return found["status"], found["reason"], found["message"]


def test_an_iso_without_a_loader_for_the_machines_firmware(server):
    k = Kubectl(server)
    make(server, image="fedora")
    assert ready(server)[:2] == ("True", "Ready"), "nothing is known of the machine"
    waiting = k("wait", "--for=condition=BootReady", "bmh/node1", k.timeout(10))
    assert waiting.returncode == 0, f"kubectl waits for it: {waiting}"
    asks(server, BIOS)
    status, reason, message = ready(server)
    assert (status, reason) == ("False", "NoLoader") and "boots with UEFI only" in message and "BIOS (bios)" in message, (
        f"the machine's own request shows it: {message}")
    assert "boots with UEFI only" in str(server.ask("GET", f"{HOSTS}/node1").json["status"]["warnings"])
    changed = change(server, image="debian")
    assert said(changed) == "" and ready(server)[0] == "True", "an ISO for BIOS is no warning"
    assert "boots with UEFI only" in said(change(server, image="fedora")), "the write warns"
    assigned = server.run("host", "assign", "node1", "--image", "fedora")
    assert assigned.returncode == 0 and "boots with UEFI only" in assigned.stderr, f"host assign warns: {assigned}"
    waiting = k("wait", "--for=condition=BootReady=false", "bmh/node1", k.timeout(10))
    assert waiting.returncode == 0, f"kubectl waits for the contrary: {waiting}"
    before = condition(server, "node1", "BootReady")
    server.restart()
    assert condition(server, "node1", "BootReady") == before, "the condition survives a restart"
    change(server, image="localboot")
    assert condition(server, "node1", "BootReady") is None, "a host that boots its disk has no such condition"


@pytest.mark.parametrize(("firmware", "image", "words"), [
    (ARM, "fedora", "has BOOTX64.EFI, and not BOOTAA64.EFI"), (EFI, "arm", "has BOOTAA64.EFI, and not BOOTX64.EFI"), (EFI, "fedora", ""), (ARM, "arm", ""),
    (BIOS, "arm", "boots with UEFI only"), (EFI, "bare", "no boot loader for any firmware"),
])
def test_the_architecture_of_the_loader(server, firmware, image, words):
    make(server, image="debian")
    asks(server, firmware)
    text = said(change(server, image=image))
    assert (words in text) if words else text == "", f"{image}: {text}"
    assert ready(server)[:2] == (("False", "NoLoader") if words else ("True", "Ready")), f"{image}: {ready(server)}"


def test_a_declared_host_knows_what_discovery_saw(server):
    asks_unknown = server.ask("GET", f"/ipxe?mac=52-54-00-00-00-05&{BIOS}", token=None, source="192.0.2.5")
    found = server.ask("GET", f"{HOSTS}/52-54-00-00-00-05")
    assert asks_unknown.code == 200 and found.code == 200, f"the machine is known by discovery: {asks_unknown} {found}"
    created = make(server, "node5", 5, image="fedora")
    assert "boots with UEFI only" in said(created), f"the first write warns: {created}"


def test_arguments_that_are_not_added_and_a_kernel_that_is_not_found(server):
    write_config(server, "answers", f"text\n%post\n{CALL}\n%end\n")
    make(server, image="fedora", bootConfigRef="answers", kernelArguments=["console=ttyS0"])
    assert ready(server)[0] == "True", f"the menus of the ISO take them: {ready(server)}"
    change(server, image="bare", bootConfigRef="answers")
    server.ask("PATCH", f"{IMAGES}/bare", {"spec": {"method": "kernel"}}, MERGE)
    status, reason, message = ready(server)
    assert (status, reason) == ("False", "KernelNotFound"), f"a change of the image is seen at the host: {message}"
    assert "spec.kernelArguments: no effect" in message and "spec.bootConfigRef: the installer does not get" in message, message
    server.ask("PATCH", f"{IMAGES}/bare", {"spec": {"method": "sanboot", "attachAs": "disk"}}, MERGE)
    assert ready(server)[:2] == ("False", "ArgumentsNotAdded"), f"its own loader may boot it: {ready(server)}"
    server.ask("PATCH", f"{IMAGES}/bare", {"spec": {"attachAs": "cdrom"}}, MERGE)


def test_a_config_that_never_reports_completion(server):
    assert write_config(server, "silent", "text\nreboot\n")["reportsCompletion"] is False
    make(server)
    text = said(change(server, image="fedora", bootConfigRef="silent"))
    assert "spec.bootConfigRef: silent never reports" in text, f"the write warns: {text}"
    assigned = server.run("host", "assign", "node1", "--image", "fedora", "--config", "silent")
    assert assigned.returncode == 0 and "never reports" in assigned.stderr, f"host assign warns: {assigned}"
    assert ready(server)[:2] == ("False", "CompletionNotReported")
    assert said(change(server, bootMode="forever")) == "", "a host that boots its ISO at every boot ends no install"
    change(server, bootMode="once")
    assert write_config(server, "silent", f"text\n%post\n{CALL}\n%end\n")["reportsCompletion"] is True
    assert ready(server)[0] == "True", "a corrected config is seen at its hosts"
    assert "reportsCompletion" not in write_config(server, "silent", "text\n%include http://192.0.2.9/post.ks\n")
    assert ready(server)[0] == "True", "what the config includes may have the call"
    write_config(server, "silent", "text\nreboot\n")
    assert ready(server)[:2] == ("False", "CompletionNotReported")
    asks(server, EFI)
    server.ask("POST", "/api/v1/boot-complete", token=None, source="192.0.2.1")
    assert ready(server)[0] == "True", "a machine that reported it all the same is not warned about"


def test_another_interface_of_the_same_machine(server):
    make(server, "node1", 1, image="fedora")
    asks(server, f"{EFI}&uuid={UUID}", 1)
    make(server, "node2", 2, image="fedora")
    assert ready(server, "node1")[0] == ready(server, "node2")[0] == "True", "nothing is known of the second machine"
    asks(server, f"{EFI}&uuid={UUID}", 2)
    assert ready(server, "node2")[:2] == ("Unknown", "SecondInterface"), f"its request shows it: {ready(server, 'node2')}"
    change(server, "node2", image="localboot")
    text = said(change(server, "node2", image="fedora"))
    assert "host node1 (52:54:00:00:00:01) claims the same UUID" in text, f"the write warns: {text}"
    assert ready(server, "node2")[:2] == ("Unknown", "SecondInterface"), f"which of both it is, is not known: {ready(server, 'node2')}"


def test_nothing_waits_for_a_report_where_something_else_ends_an_install(server):
    write_config(server, "silent", "text\nreboot\n")
    with server.configured('[install]\ncompletion = "config-fetched"\n'):
        assert said(make(server, image="fedora", bootConfigRef="silent")) == "" and ready(server)[0] == "True"
