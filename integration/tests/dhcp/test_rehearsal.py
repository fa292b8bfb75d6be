"""A rehearsal is, to the octet, what real clients then get, and changes nothing.

Of what is compared, a client chooses only its xid. A token is made at the first script of an install and depends on its
time: before that script it is replaced on both sides, afterwards it is compared too.
"""

import json

import pytest

from support.dhcp_wire import ACK, BROADCAST, DISCOVER, OFFER, REQUEST, pxe
from support.lan import Lan, until
from support.rehearsals import (FOLDER, IQN, MAC, MACHINE, SERVER, TOKEN, UUID, Firmware, RehearsalBed, captured, options,
                                sha256, without_choices, without_tokens)

# Firmware of the captures: file, architecture, its first message, and that of iPXE.
FIRMWARE = {
    "x86_64 PXE": ("ovmf-2025-pxe-x64.pcap", 7, 0, 2, "snponly.efi"),
    "x86_64 PXE of 2022": ("ovmf-2022-pxe-x64.pcap", 7, 0, 2, "snponly.efi"),
    "arm64 PXE": ("aavmf-2022-pxe-arm64.pcap", 11, 0, 2, "ipxe-arm64.efi"),
    "HTTP Boot": ("ovmf-2022-http-x64.pcap", 16, 0, 2, "snponly.efi"),
    "BIOS iPXE": ("bios-rom-2019-then-undionly.pcap", 0, None, 2, "undionly.kpxe"),
}
INSTALL = f"image: live, bootConfigRef: ks, ip: {MACHINE}"


@pytest.fixture(scope="module")
def bed():
    with Lan("br0") as lan:
        yield RehearsalBed(lan, host=INSTALL)


@pytest.fixture(autouse=True)
def fresh(request):
    """Declares the shared host anew."""
    if "bed" in request.fixturenames:
        request.getfixturevalue("bed").replace(INSTALL)


def compare_dhcp(bed, boot, step, payload, **how):
    """Sends a captured request, and compares it and the reply with the rehearsed ones."""
    assert without_choices(boot.request(step)) == without_choices(payload), f"{step}: the rehearsed request is the firmware's"
    with Firmware(bed.space, MAC) as machine:
        machine.send_captured(payload, **how)
        reply = machine.ours(0.8 if boot.reply(step) is None else 3)
    expected = boot.reply(step)
    assert (reply and without_choices(reply)) == (expected and without_choices(expected)), f"{step}: {reply and reply.hex()}"
    return reply


def compare_program(bed, boot, name):
    file = boot["boot_program"]["file"]
    code, content = bed.fetch(file["url"])
    assert (code, len(content), sha256(content)) == (200, file["bytes"], file["sha256"]), f"{file}: {code}"
    assert name.encode() in content


def compare_script(bed, boot, step, exact=False):
    script = boot[step]["script"]
    code, content = bed.fetch(script["url"])
    mask = (lambda text: text) if exact else without_tokens
    assert (code, mask(content.decode())) == (200, mask(script["text"])), f"{step}: {script['url']}"


@pytest.mark.parametrize("name", FIRMWARE)
def test_every_message_of_real_firmware_is_answered_as_rehearsed(bed, name):
    file, arch, first, ipxe, program = FIRMWARE[name]
    boot = bed.rehearse(arch)
    if first is not None:
        reply = compare_dhcp(bed, boot, "discover", captured(file, first))
        assert options(reply)[53] == bytes([OFFER]) and program in boot["discover"]["dhcp"]["reply"]["file"]
    if "proxy_request" in boot.steps and first is not None:
        bed.address()
        compare_dhcp(bed, boot, "proxy_request", captured(file, 0, port=4011), port=4011, source=(MACHINE, 4011), to=(SERVER, 4011))
    compare_program(bed, boot, program)
    compare_dhcp(bed, boot, "ipxe_discover", captured(file, ipxe))
    if arch != 0:
        compare_script(bed, boot, "autoexec")
    compare_script(bed, boot, "script")
    assert bed.host()["status"]["phase"] == "Offered"


def test_a_bios_rom_is_answered_as_rehearsed(bed):
    boot = bed.rehearse(0)
    with Firmware(bed.space, MAC) as machine:
        uuid = bytes.fromhex(UUID.replace("-", ""))
        uuid = uuid[3::-1] + uuid[5:3:-1] + uuid[7:5:-1] + uuid[8:]
        machine.send(DISCOVER, pxe(0, uuid), flags=BROADCAST)
        offer = machine.ours()
        assert without_choices(offer) == boot.reply("discover")
        bed.address()
        machine.send(REQUEST, pxe(0, uuid), ciaddr=MACHINE, source=(MACHINE, 4011), to=(SERVER, 4011))
        assert without_choices(machine.ours()) == boot.reply("proxy_request")
    compare_program(bed, boot, "undionly.kpxe")
    compare_script(bed, boot, "script")


def test_image_and_config_are_those_that_the_installer_gets(bed):
    compare_script(bed, bed.rehearse(0), "script")
    # Its install has begun: its token is known now.
    boot = bed.rehearse(0)
    compare_script(bed, boot, "script", exact=True)
    units = bed.login(boot["iscsi_login"]["iscsi"]["initiator"], boot["iscsi_login"]["iscsi"]["target"])
    rehearsed = {unit["lun"]: (unit["bytes"], unit["blockSize"], unit["serial"]) for unit in boot["iscsi_login"]["iscsi"]["units"]}
    assert units == rehearsed and len(units) == 1
    config = boot["config"]["config"]
    code, content = bed.fetch(config["url"])
    (file,) = config["files"]
    assert (code, content.decode(), len(content)) == (200, file["text"], file["bytes"]) and "very-secret" in file["text"]
    assert boot["script"]["kernel"]["added"] == [f"from={SERVER}", "quiet"]


def test_every_unit_of_an_image_is_rehearsed(bed):
    bed.replace(f"image: seeded, bootConfigRef: cloud, ip: {MACHINE}")
    compare_script(bed, bed.rehearse(7), "autoexec")
    boot = bed.rehearse(7)
    iscsi = boot["iscsi_login"]["iscsi"]
    assert bed.login(iscsi["initiator"], iscsi["target"]) == {
        unit["lun"]: (unit["bytes"], unit["blockSize"], unit["serial"]) for unit in iscsi["units"]}
    assert [(unit.get("image"), unit["carriesConfig"]) for unit in iscsi["units"]] == [("seeded", False), ("drivers", False), (None, True)]
    config = boot["config"]["config"]
    for file in config["files"]:
        code, content = bed.fetch(config["url"] + file["name"])
        assert (code, content.decode()) == (200, file["text"]), file


def test_an_image_over_http_has_its_url_in_the_rehearsed_script(bed):
    bed.replace(f"image: overhttp, bootConfigRef: ks, ip: {MACHINE}")
    compare_script(bed, bed.rehearse(0), "script")
    boot = bed.rehearse(0)
    compare_script(bed, boot, "script", exact=True)
    assert "/media/" in boot["script"]["script"]["text"] and "iscsi_login" not in boot.steps


def test_a_held_host_is_rehearsed_to_get_nothing(bed):
    bed.box.command("host", "hold", "vm")
    file, arch, first, ipxe, program = FIRMWARE["x86_64 PXE"]
    boot = bed.rehearse(arch)
    for step in ("discover", "proxy_request", "boot_program", "script", "iscsi_login", "config"):
        assert boot.verdict(step) == ("ignore", "held"), step
    compare_dhcp(bed, boot, "discover", captured(file, first))
    compare_dhcp(bed, boot, "ipxe_discover", captured(file, ipxe))
    code, why = bed.fetch(f"tftp://{SERVER}/{FOLDER}/{program}")
    assert (code, why.decode()) == (403, boot["boot_program"]["decision"]["message"])
    compare_script(bed, boot, "script")
    assert not boot["script"]["isReached"] and bed.login(f"{IQN}:{FOLDER}", f"{IQN}:live") == "0202"
    code, why = bed.fetch(f"http://{SERVER}/api/v1/bootconfig")
    assert (code, why.decode()) == (403, boot["config"]["decision"]["message"] + "\n")


def test_a_host_that_boots_its_disk_is_rehearsed_so(bed):
    bed.box.command("host", "localboot", "vm")
    for name in ("x86_64 PXE", "HTTP Boot"):
        file, arch, first, ipxe, program = FIRMWARE[name]
        boot = bed.rehearse(arch)
        compare_dhcp(bed, boot, "discover", captured(file, first))
        is_http = name == "HTTP Boot"
        assert boot.verdict("discover") == (("ignore", "not_assigned") if is_http else ("chainload", None))
        compare_dhcp(bed, boot, "ipxe_discover", captured(file, ipxe))
        compare_program(bed, boot, program)
        compare_script(bed, boot, "script", exact=True)
        assert boot.verdict("script") == ("local_disk", "not_assigned")
        assert boot["script"]["isReached"] != is_http


def test_a_rehearsal_changes_nothing_and_sends_nothing(bed):
    with Firmware(bed.space, MAC) as machine:
        machine.send_captured(captured("ovmf-2025-pxe-x64.pcap", 0))
        assert machine.ours()
    bed.fetch(f"http://{SERVER}/ipxe?mac={FOLDER}")
    # The boot goes no further. Its diagnosis may come or change meanwhile; then the test rehearses again.
    for _ in range(8):
        stalls, before = bed.stalls(), bed.settled()
        with Firmware(bed.space, MAC) as machine:
            for arch in (0, 7, 11, 16, 22):
                bed.rehearse(arch)
            bed.rehearse(7, "--mac", "52:54:00:99:99:99")
            bed.rehearse(7, "--relay", "10.99.0.1")
            machine.xid = 0
            assert machine.replies(0.5) == [], "nothing is sent"
        after = bed.everything()
        if bed.stalls() == stalls:
            break
    assert after == before


def test_an_unknown_machine_is_rehearsed_and_then_enrolled_so(bed):
    bed.box.command("host", "remove", "vm")
    file, arch, first, ipxe, _ = FIRMWARE["x86_64 PXE"]
    boot = bed.rehearse(arch, "--mac", MAC)
    assert boot.verdict("discover") == ("ignore", "held"), "the rule is hold"
    assert bed.host_names() == []
    compare_dhcp(bed, boot, "discover", captured(file, first))
    compare_dhcp(bed, boot, "ipxe_discover", captured(file, ipxe))
    assert until("the machine is a host", bed.host_names) == [FOLDER]


def test_firmware_that_ignores_its_offer_is_rehearsed_with_the_other_form(bed):
    first = captured("ovmf-2025-pxe-x64.pcap", 0)
    with Firmware(bed.space, MAC) as machine:
        machine.send_captured(first)
        before = machine.ours()
    other = lambda: options(bed.rehearse(7).reply("discover")).get(43) != options(before).get(43)
    until("the other form is rehearsed", other)
    boots = [bed.rehearse(7) for _ in range(3)]
    assert len({boot.reply("discover") for boot in boots}) == 1, "a rehearsal is no attempt"
    compare_dhcp(bed, boots[0], "discover", first)


def test_secrets_are_shown_to_an_admin_who_asks(bed):
    bed.replace(f"{INSTALL}, chap: {{username: vm, secret: a-secret-of-vm}}")
    bed.fetch(f"http://{SERVER}/ipxe?mac={FOLDER}")
    shown, hidden = bed.rehearse(0), bed.rehearse(0, secrets=False)
    compare_script(bed, shown, "script", exact=True)
    assert shown["iscsi_login"]["iscsi"]["chapUsername"] == "vm"
    token = TOKEN.search(shown["script"]["script"]["text"]).group()
    text = json.dumps(hidden.all)
    for secret in (token, "very-secret", "a-secret-of-vm"):
        assert secret in json.dumps(shown.all) and secret not in text, secret
    assert hidden.reply("discover") == shown.reply("discover")
    assert TOKEN.sub("REDACTED", shown["script"]["script"]["text"]).replace("a-secret-of-vm", "REDACTED") == hidden["script"]["script"]["text"]


def test_people_read_a_boot_step_by_step(bed):
    text = bed.box.command("rehearse", MAC, "--arch", "x86_64-uefi")
    for words in ("Host default/vm", "1. DHCPDISCOVER of the firmware: chainload", "OFFER to broadcast", "sanboot iscsi:", "LUN 0"):
        assert words in text, text
    bed.box.command("host", "hold", "vm")
    assert "The boot ends here" in bed.box.command("rehearse", "vm", "--arch", "bios")


@pytest.fixture(scope="module")
def leasing():
    with Lan("br0") as lan:
        config = """
[dhcp]
mode = "server"
[[dhcp.subnets]]
subnet = "10.77.0.0/24"
pools = ["10.77.0.185-10.77.0.199"]
routers = ["10.77.0.1"]
dns = ["10.77.0.3"]
domain = "lab.example"
lease_time = "10m"
[[dhcp.subnets]]
subnet = "10.99.0.0/24"
pools = ["10.99.0.50-10.99.0.60"]
lease_time = "5m"
[[overrides]]
mac = "52:54:00:aa:00:02"
program = "shimx64.efi"
[[overrides]]
mac = "52:54:00:aa:00:03"
program = "pxelinux.0"
also_for_ipxe = true
"""
        yield RehearsalBed(lan, config, host="image: live, bootConfigRef: ks")


def test_server_mode_gives_the_address_that_is_rehearsed(leasing):
    file, arch, first, ipxe, program = FIRMWARE["x86_64 PXE"]
    boot = leasing.rehearse(arch)
    assert leasing.box.leases() == {}
    assert boot["discover"]["dhcp"]["probe"] == MACHINE and boot["request"]["dhcp"]["lease"] == MACHINE
    discover = captured(file, first)
    reply = compare_dhcp(leasing, boot, "discover", discover)
    assert options(reply)[15] == b"lab.example"
    # The captured DHCPREQUEST took another server's offer, and asks for a larger message: the same with ours.
    request = boot.request("request")
    with Firmware(leasing.space, MAC) as machine:
        machine.send_captured(discover[4:8].join([request[:4], request[8:]]))
        ack = machine.ours()
    assert options(ack)[53] == bytes([ACK]) and without_choices(ack) == boot.reply("request")
    until("the lease is recorded", lambda: MACHINE in leasing.box.leases())
    # The lease is there: the address is not probed again, and nothing else has changed.
    again = leasing.rehearse(arch)
    assert "probe" not in again["discover"]["dhcp"] and again.reply("discover") == boot.reply("discover")
    compare_dhcp(leasing, again, "ipxe_discover", captured(file, ipxe))
    compare_program(leasing, again, program)
    compare_script(leasing, again, "script")


def test_a_machine_behind_a_relay_is_answered_as_rehearsed(leasing):
    relay, mac = "10.99.0.1", "52:54:00:aa:00:04"
    file, arch, first, _, _ = FIRMWARE["x86_64 PXE"]
    boot = leasing.rehearse(arch, "--relay", relay, "--mac", mac)
    reply = boot["discover"]["dhcp"]["reply"]
    assert (boot["discover"]["dhcp"]["to"], reply["yiaddr"]) == (f"{relay}:67", "10.99.0.50")
    leasing.lan.ip(leasing.space, "address", "add", f"{relay}/32", "dev", "lan0")
    leasing.lan.ip(leasing.server, "route", "add", "10.99.0.0/24", "dev", "lan0")
    server = json.loads(leasing.lan.ip(leasing.server, "-j", "link", "show", "lan0"))[0]["address"]
    payload = captured(file, first)
    relayed = payload[:3] + b"\1" + payload[4:24] + bytes([10, 99, 0, 1]) + payload[28:33] + b"\4" + payload[34:]
    compare_dhcp(leasing, boot, "discover", relayed, source=(relay, 67), to=(SERVER, 67), to_mac=bytes.fromhex(server.replace(":", "")))


def test_without_dhcp_the_rest_of_the_boot_is_rehearsed():
    with Lan("br0") as lan:
        bed = RehearsalBed(lan, '[dhcp]\nmode = "off"\n', host=INSTALL)
        boot = bed.rehearse(7)
        assert list(boot.steps) == ["boot_program", "autoexec", "script", "iscsi_login", "config"] and "interface" not in boot.all
        compare_program(bed, boot, "snponly.efi")
        compare_script(bed, boot, "autoexec")
        compare_script(bed, boot, "script")


@pytest.mark.parametrize(("mac", "arch", "program", "step", "place"), [
    ("52:54:00:aa:00:02", 7, "shimx64.efi", "grub_config", "grub/grub.cfg-01-52-54-00-aa-00-02"),
    ("52:54:00:aa:00:03", 0, "pxelinux.0", "pxelinux_config", "52-54-00-aa-00-03/pxelinux.cfg/01-52-54-00-aa-00-03"),
])
def test_other_boot_loaders_get_the_configuration_that_is_rehearsed(leasing, mac, arch, program, step, place):
    folder = mac.replace(":", "-")
    leasing.apply(f"apiVersion: v1\nkind: BareMetalHost\nmetadata: {{name: other, namespace: default}}\nspec: {{bootMACAddress: '{mac}', image: live}}\n")
    boot = leasing.rehearse(arch, "--mac", mac)
    assert boot["boot_program"]["file"]["url"] == f"tftp://{SERVER}/{folder}/{program}"
    code, content = leasing.fetch(f"tftp://{SERVER}/{folder}/{program}")
    assert (code, sha256(content)) == (200, boot["boot_program"]["file"]["sha256"])
    code, content = leasing.fetch(f"tftp://{SERVER}/{place}")
    assert (code, content.decode()) == (200, boot[step]["script"]["text"])
    leasing.box.command("host", "remove", "other")
