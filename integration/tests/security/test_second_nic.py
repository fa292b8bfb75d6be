"""Several interfaces of one machine: no second install over another one, and the config for a good token."""

import pytest

from support.dhcp_wire import DISCOVER, Client, pxe
from support.lan import until
from support.objects import HOSTS
from support.provisioned_lan import FAR, MACS, NEAR, SECRET, Box, Machine, routed_network, token_of

FIRST, SECOND, THIRD = "52:54:00:aa:00:01", "52:54:00:bb:00:01", "52:54:00:cc:00:01"
UUID = bytes(range(1, 17))


def nic(lan, mac, address):
    name = mac.replace(":", "")
    machine = Machine(lan, name, "br0", address, mac=mac)
    machine.host = mac.replace(":", "-")
    return machine


def boot(box, machine, uuid=UUID):
    """Boots a machine's firmware over DHCP, and returns the script that its iPXE is served."""
    with Client(machine.space, machine.mac) as client:
        client.send(DISCOVER, pxe(7, uuid))
        client.replies(wait=5, enough=len)
    until("the machine is known", lambda: machine.host in box.host_names())
    return machine.ask(f"/ipxe?mac={machine.mac}")[1]


def install(box, machine, uuid=UUID):
    assert "sanboot iscsi" in boot(box, machine, uuid), "an unknown machine is installed by the rule"
    assert machine.ask("/api/v1/boot-complete", "POST")[0] == 200 and box.status(machine.host)["phase"] == "Installed"


def test_an_installed_machine_is_not_installed_again_over_its_other_interface(lan):
    box = Box(lan, unknown="install live")
    first, second, third = nic(lan, FIRST, "10.88.0.21"), nic(lan, SECOND, "10.88.0.22"), nic(lan, THIRD, "10.88.0.23")
    install(box, first)
    for other in (second, third, second):
        script = boot(box, other)
        assert "sanboot iscsi" not in script, f"the other interface boots the disk: {script}"
        assert box.status(other.host)["phase"] == "LocalBoot", f"and no install of it is under way: {box.status(other.host)}"
    told = box.events(second.host, "same_machine")
    assert told == [{"host": first.host, "uuid": "04030201-0605-0807-090a-0b0c0d0e0f10"}], f"the timeline says why: {told}"
    assert box.status(first.host)["phase"] == "Installed", "the first interface's host is unchanged"
    box.api("POST", f"{HOSTS}/{second.host}/hold")
    box.change(second.host, image="live")
    assert "sanboot iscsi" in second.ask(f"/ipxe?mac={SECOND}")[1], "an operator may install over it all the same"


def test_the_uuid_in_a_script_request_counts_as_well(lan):
    """A site without our DHCP: iPXE's own request carries the UUID."""
    box = Box(lan, '[dhcp]\nmode = "off"\n', unknown="install live")
    first, second = nic(lan, FIRST, "10.88.0.21"), nic(lan, SECOND, "10.88.0.22")
    assert "uuid=${uuid}" in first.ask("/boot.ipxe")[1], "the first script asks for it"
    uuid = "uuid=04030201-0605-0807-090a-0b0c0d0e0f10"
    assert "sanboot iscsi" in first.ask(f"/ipxe?mac={FIRST}&{uuid}")[1]
    assert first.ask("/api/v1/boot-complete", "POST")[0] == 200
    assert "sanboot iscsi" not in second.ask(f"/ipxe?mac={SECOND}&{uuid}")[1], "the other interface boots the disk"


@pytest.mark.parametrize("uuid", ["00000000000000000000000000000000", "ffffffffffffffffffffffffffffffff", "00020003000400050006000700080009",
                                  "03000200040005000006000700080009"])
def test_a_vendors_default_uuid_counts_for_nothing(lan, uuid):
    box = Box(lan, unknown="install live")
    wire = bytes.fromhex(uuid)
    install(box, nic(lan, FIRST, "10.88.0.21"), wire)
    assert "sanboot iscsi" in boot(box, nic(lan, SECOND, "10.88.0.22"), wire), "another machine with the same blank UUID is installed"


def test_two_declared_hosts_with_one_uuid_are_two_machines(lan):
    box = Box(lan, unknown="install live")
    machines = [nic(lan, FIRST, "10.88.0.21"), nic(lan, SECOND, "10.88.0.22")]
    for machine in machines:
        box.make(HOSTS, "BareMetalHost", machine.host, {"bootMACAddress": machine.mac, "image": "live"})
    for machine in machines:
        install(box, machine)
    third = nic(lan, THIRD, "10.88.0.23")
    assert "sanboot iscsi" in boot(box, third), "a UUID that several machines share keeps no other one from its install"


def test_a_claimed_uuid_cannot_be_changed_by_a_datagram(lan):
    """The attacker gives the victim another UUID, so that its second interface would be installed."""
    box = Box(lan, unknown="install live")
    first, second = nic(lan, FIRST, "10.88.0.21"), nic(lan, SECOND, "10.88.0.22")
    install(box, first)
    with Client(nic(lan, "52:54:00:66:66:66", "10.88.0.66").space, FIRST) as forged:
        before = box.handled()
        forged.send(3, [*pxe(7, bytes(range(40, 56))), (50, bytes([10, 88, 0, 21]))])
        until("the forged message is handled", lambda: box.handled() > before)
    assert "sanboot iscsi" not in boot(box, second), "the machine is still recognised"


def test_the_config_goes_to_the_machines_second_interface_with_a_good_token(lan):
    box, near, far, _ = routed_network(lan, "", FAR)
    token = token_of(near.script())
    second = nic(lan, SECOND, "10.88.0.22")
    assert second.ask(f"/nocloud/{token}/user-data") == (200, SECRET), "an interface that is no host's says nothing against the token"
    near.host = "near"
    boot(box, near, UUID)
    boot(box, second, UUID)
    assert second.ask(f"/nocloud/{token}/user-data") == (200, SECRET), "nor does a host of the same machine"
    other = Machine(lan, "other", "br0", "10.88.0.30")
    assert other.ask(f"/nocloud/{token}/user-data")[0] == 403, "another host's interface is refused"
    assert second.ask("/api/v1/bootconfig")[0] != 200, "without the token it gets nothing"
    assert second.ask(f"/nocloud/{token[:-1]}{'0' if token[-1] != '0' else '1'}/user-data")[0] == 403, "nor with a forged one"
    assert box.status("near")["address"] == NEAR, "the host's address stays"

