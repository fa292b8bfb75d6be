"""Boot menus of distributions: the kernel that is found in them, a host's view of them, and what is warned about."""

import re

import pytest

from support import network
from support.iso_images import run, write
from support.menu_layouts import EITHER, KERNEL, LAYOUTS, build
from support.objects import CONFIGS, HOSTS, IMAGES, host
from support.server import PORT
from support.served_iso import MAC, MERGE, SCRIPT, VIEW, change_host

ARGUMENT = "site.arg=1"
VARIABLES = """set base="quiet splash=silent"
set kargs="$base ip=dhcp"
menuentry 'Install' {
  linux /vmlinuz $kargs
  initrd /initrd
}
"""
PROBED = "probe --set uuid --fs-uuid $root\nmenuentry 'Install' {\n  linux /vmlinuz boot=$uuid\n  initrd /initrd\n}\n"


@pytest.fixture(scope="module")
def server(start_server):
    """A server with the host node1. Connections that bind no address come from the host's."""
    network.connect_from_host_address()
    server = start_server()
    created = server.ask("POST", HOSTS, host("node1", 1, ip="192.0.2.1", image="localboot"))
    assert created.code == 201, f"the host is created: {created}"
    return server


def add(server, name, iso):
    """Adds an ISO; returns its status and the warnings of the command."""
    added = server.run("iso", "add", name, iso)
    assert added.returncode == 0, f"bootlatch iso add {name}: {added}"
    return server.ask("GET", f"{IMAGES}/{name}").json["status"], added.stderr


def packed(place, name, menu, files=("vmlinuz", "initrd"), volume="TEST", more=None):
    """Makes an ISO with a menu of GRUB; returns its path."""
    tree = place / name
    for path, data in {"boot/grub/grub.cfg": menu, **{path: KERNEL for path in files}, **(more or {})}.items():
        write(tree / path, data)
    run("xorriso", "-as", "mkisofs", "-quiet", "-r", "-V", volume, "-o", place / f"{name}.iso", tree)
    return place / f"{name}.iso"


def view(server, name, path=""):
    """Returns the response with node1's view of an ISO, or of a file in it."""
    return server.ask("GET", VIEW.replace("live", f"{name}/{path}" if path else name), token=None)


def boots(server, name, method="sanboot", **spec):
    """Makes node1 boot an ISO by a method; returns the response."""
    server.ask("PATCH", f"{IMAGES}/{name}", {"spec": {"method": method}}, MERGE)
    changed = change_host(server, image=name, **spec)
    assert changed.code == 200, f"node1 boots {name}: {changed}"
    return changed


def warnings(answer):
    return " ".join(answer.headers.get_all("Warning") or [])


@pytest.mark.parametrize("layout", LAYOUTS, ids=[layout.name for layout in LAYOUTS])
def test_the_menus_of_a_distribution_are_understood(server, place, layout):
    status, said = add(server, layout.name, build(layout, place))
    assert status["phase"] == "Ready" and status["family"] == layout.family, f"the ISO is recognised: {status}"
    found = status.get("kernel")
    found = found and (found["kernel"], found["initrds"], found["arguments"])
    assert found in EITHER.get(layout.name, [layout.kernel]), f"the kernel in its menus is found: {status}"
    assert status["kernelLines"] > 0, f"its menus have kernel lines: {status}"
    boots(server, layout.name, kernelArguments=[ARGUMENT])
    for path, lines in layout.lines.items():
        menu = view(server, layout.name, path)
        assert menu.code == 200, f"the host's {path} is served: {menu}"
        for line in lines:
            assert line in menu.text, f"{path} has the line {line!r}: {menu.text}"
    if layout.esp:
        entry = layout.esp["loader/entries/01-archiso-linux.conf"].splitlines()[-1].split(maxsplit=1)[1]
        assert view(server, layout.name).body.count(f"options {entry} {ARGUMENT}\n".encode()) == 2, "the EFI partition's entry has the argument too"
        assert b"timeout 1\n" in view(server, layout.name).body, "systemd-boot's timeout is set"
    if not found:
        assert "hypervisor" in said and "hypervisor" in str(status["warnings"]), f"it is said why no kernel can be loaded: {said}"
        return
    boots(server, layout.name, "sanhook")
    script = server.ask("GET", SCRIPT, token=None).text
    urls = re.findall(rf"^(?:kernel|initrd) http://127\.0\.0\.1:{PORT}(\S+)", script, re.M)
    assert len(urls) == 1 + len(found[1]), f"the script loads the kernel and its initrds: {script}"
    for url in urls:
        assert server.ask("GET", url, token=None).body == KERNEL, f"{url} is the file"
    assert "$" not in re.search(r"^kernel .*", script, re.M)[0], f"no variable is left: {script}"


def test_constants_of_grub_are_expanded(server, place):
    status, said = add(server, "variables", packed(place, "variables", VARIABLES))
    assert status["kernel"] == {"kernel": "/vmlinuz", "initrds": ["/initrd"], "arguments": "quiet splash=silent ip=dhcp"}, f"values are in the place of variables: {status}"
    assert "warnings" not in status and "warning" not in said, f"nothing is warned about: {said}"
    for method in ("kernel", "sanhook"):
        boots(server, "variables", method, kernelArguments=[ARGUMENT])
        script = server.ask("GET", SCRIPT, token=None).text
        assert f"/iso/variables/vmlinuz quiet splash=silent ip=dhcp {ARGUMENT} initrd=initrd ||" in script, f"{method} has the arguments: {script}"
    boots(server, "variables")
    server.ask("PATCH", f"{IMAGES}/variables", {"spec": {"removeArguments": ["quiet"]}}, MERGE)
    menu = view(server, "variables", "boot/grub/grub.cfg").text
    assert f"linux /vmlinuz splash=silent ip=dhcp {ARGUMENT}\n" in menu, f"an argument in a variable is removed: {menu}"


def test_a_value_that_only_grub_knows_is_said_and_never_booted(server, place):
    status, said = add(server, "probed", packed(place, "probed", PROBED))
    assert "kernel" not in status and status["kernelLines"] == 1, f"no other loader can boot it: {status}"
    for text in (said, str(status["warnings"])):
        assert "only GRUB knows the value of $uuid (probe sets it)" in text, f"the reason is said: {text}"
    patched = server.ask("PATCH", f"{IMAGES}/probed", {"spec": {"method": "sanhook"}}, MERGE)
    assert "spec.method" in warnings(patched) and "sanboot" in warnings(patched), f"the method is warned about: {patched.headers.items()}"
    assigned = change_host(server, image="probed", kernelArguments=[ARGUMENT])
    assert "spec.image" in warnings(assigned), f"the assignment is warned about: {assigned.headers.items()}"
    script = server.ask("GET", SCRIPT, token=None).text
    assert "boot=$uuid" not in script and "\nsanboot iscsi:" in script, f"the ISO's own loader boots it: {script}"
    menu = view(server, "probed", "boot/grub/grub.cfg").text
    assert f"linux /vmlinuz boot=$uuid {ARGUMENT}\n" in menu, f"its own loader has the host's argument: {menu}"


def test_a_kernel_that_is_not_on_the_iso_is_said(server, place):
    menu = "menuentry 'Install' {\n  linux /gone/vmlinuz quiet\n  initrd /initrd\n}\n"
    status, said = add(server, "gone", packed(place, "gone", menu))
    assert "kernel" not in status and "/gone/vmlinuz is not on the ISO" in said, f"the missing file is said: {said}"
    assert "/gone/vmlinuz is not on the ISO" in str(status["warnings"]), f"the status has it: {status}"
    second = menu + menu.replace("Install", "Other").replace("/gone", "")
    status, said = add(server, "second", packed(place, "second", second))
    assert status["kernel"]["kernel"] == "/vmlinuz", f"an entry whose files are there is preferred: {status}"


def test_a_file_of_a_menu_that_is_not_read_is_said(server, place):
    menu = "source $prefix/kargs.inc\nmenuentry 'Install' {\n  linux /vmlinuz $kargs\n  initrd /initrd\n}\n"
    status, said = add(server, "unread", packed(place, "unread", menu, more={"boot/grub/kargs.inc": "set kargs=quiet\n"}))
    assert "kernel" not in status, f"its value of the variable is not known: {status}"
    for text in (said, str(status["warnings"])):
        assert "menu /boot/grub/grub.cfg" in text and "it reads /boot/grub/kargs.inc, whose content is not read" in text, f"the gap is said: {text}"
    status, said = add(server, "absent", packed(place, "absent", menu))
    assert status["kernel"]["arguments"] == "" and "warnings" not in status, f"a file that is not on the ISO sets nothing: {status}"


def test_an_installer_behind_a_second_menu_boots_by_itself(server, place):
    menu = "set default=0\nset timeout=60\nmenuentry 'Boot from disk' {\n  exit\n}\nmenuentry 'Install' {\n  linux /vmlinuz\n  initrd /initrd\n}\n"
    efi = "search --file --set=root /.disk/info\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"
    add(server, "second-menu", packed(place, "second-menu", menu, more={"EFI/BOOT/grub.cfg": efi, ".disk/info": "x"}))
    boots(server, "second-menu", kernelArguments=[ARGUMENT])
    assert view(server, "second-menu", "boot/grub/grub.cfg").text.endswith("set timeout=1\nset default=Install\n")
    assert view(server, "second-menu", "EFI/BOOT/grub.cfg").text == efi, "the first script decides nothing"


def test_files_that_may_be_menus_are_read_up_to_a_limit(server, place):
    entry = "menuentry 'Install' {\n  linux /vmlinuz\n  initrd /initrd\n}\n"
    other = {f"data/{number}.cfg": f"{number}\n" * 60_000 for number in range(200)}
    status, said = add(server, "many", packed(place, "many", entry, more=other))
    assert "more files that may be boot menus than are read" in said and "more files" in str(status["warnings"]), f"it is said: {said}"


def test_an_iso_without_a_kernel_line_is_served_as_it_is(server, place):
    plain = packed(place, "plain", "menuentry 'Local disk' {\n  exit\n}\n")
    status, said = add(server, "plain", plain)
    assert status["phase"] == "Ready" and status["kernelLines"] == 0 and "no boot menu" in said, f"it is said when it is added: {said}"
    config = {"apiVersion": "v1", "kind": "BootConfig", "metadata": {"name": "answers"}, "spec": {"format": "kickstart", "data": {"ks.cfg": "text\n"}}}
    assert server.ask("POST", CONFIGS, config).code == 201
    server.ask("PATCH", f"{IMAGES}/plain", {"spec": {"bootConfigs": ["answers"]}}, MERGE)
    assigned = boots(server, "plain", kernelArguments=[ARGUMENT], bootConfigRef="answers")
    assert "spec.kernelArguments: no effect" in warnings(assigned) and "spec.bootConfigRef" in warnings(assigned), f"the assignment is warned about: {assigned.headers.items()}"
    installed = server.run("host", "assign", "node1", "--image", "plain", "--config", "answers")
    assert installed.returncode == 0 and "spec.kernelArguments: no effect" in installed.stderr, f"host assign warns: {installed}"
    shown = server.ask("GET", f"{HOSTS}/node1").json["status"]["warnings"]
    assert any("no boot menu of plain has a kernel line" in line for line in shown), f"the host's status has it: {shown}"
    assert "sanboot iscsi:" in server.ask("GET", SCRIPT, token=None).text, "the machine boots it"
    seen = view(server, "plain", "boot/grub/grub.cfg")
    assert seen.code == 200 and "Local disk" in seen.text, f"the ISO is served: {seen}"
    change_host(server, image="localboot", bootConfigRef="", kernelArguments=[])


def test_agama_gets_the_address_of_its_profile(server, place):
    sles = next(layout for layout in LAYOUTS if layout.name == "sles16")
    profile = {"apiVersion": "v1", "kind": "BootConfig", "metadata": {"name": "profile"}, "spec": {"format": "script", "data": {"script": '{"product": {"id": "SLES"}}\n'}}}
    assert server.ask("POST", CONFIGS, profile).code == 201
    add(server, "agama", build(sles, place))
    server.ask("PATCH", f"{IMAGES}/agama", {"spec": {"bootConfigs": ["profile"], "method": "kernel"}}, MERGE)
    changed = change_host(server, image="agama", bootConfigRef="profile", kernelArguments=[])
    assert changed.code == 200, f"the host takes the profile: {changed}"
    script = server.ask("GET", f"/ipxe?mac={MAC}", token=None).text
    assert re.search(r"^kernel .* inst\.auto=http://\S+ ", script, re.M) and "autoyast" not in script, f"Agama reads inst.auto: {script}"
    change_host(server, image="localboot", bootConfigRef="")
