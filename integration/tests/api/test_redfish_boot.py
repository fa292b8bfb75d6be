"""Boot overrides and virtual media of hosts without a BMC over Redfish, by sushy."""

import pytest

from support.objects import HOSTS, IMAGES, host, image
from support.server import PORT

pytestmark = pytest.mark.usefixtures("redfish_hosts")


def spec(server, name):
    """Returns the host."""
    return server.ask("GET", f"{HOSTS}/{name}").json


def test_boot_overrides(server, redfish_client, sushy):
    system = redfish_client.get_system("/redfish/v1/Systems/one")
    assert system.name == "one" and system.uuid and system.power_state is None, "a host is a system"
    ports = [port.mac_address for port in system.ethernet_interfaces.get_members()]
    assert ports == ["52:54:00:00:00:01"], f"the system has an Ethernet interface with the host's MAC address: {ports}"
    assert not system._actions.reset, "a system without a BMC offers no reset"
    answer = server.ask("POST", "/redfish/v1/Systems/one/Actions/ComputerSystem.Reset", {"ResetType": "On"})
    assert answer.code == 400 and "spec.bmc" in answer.json["error"]["message"], f"a reset of a system without a BMC names spec.bmc: {answer}"
    with pytest.raises(sushy.exceptions.HTTPError) as refused:
        system.set_system_boot_options(sushy.BootSource.PXE, enabled=sushy.BootSourceOverrideEnabled.ONCE)
    error = refused.value
    assert error.status_code == 409 and "spec.image" in str(error), f"Pxe of a host without an image is refused: {error}"
    server.ask("PATCH", f"{HOSTS}/one", {"spec": {"image": "live", "bootConfigRef": "builder"}})
    server.ask("POST", f"{HOSTS}/one/localboot")
    system.set_system_boot_options(sushy.BootSource.PXE, enabled=sushy.BootSourceOverrideEnabled.ONCE)
    assert spec(server, "one")["status"]["phase"] == "Assigned", "Pxe requests a new install"
    assert spec(server, "one")["spec"]["bootConfigRef"] == "builder", "Pxe keeps the host's config"
    system.refresh()
    assert (system.boot.target, system.boot.enabled) == (sushy.BootSource.PXE, sushy.BootSourceOverrideEnabled.ONCE), "Pxe is read back"
    assert "sanboot iscsi:" in server.ask("GET", "/ipxe?mac=525400000001", token=None).text, "the host's script boots its image"
    system.set_system_boot_options(sushy.BootSource.HDD, enabled=sushy.BootSourceOverrideEnabled.CONTINUOUS)
    assert spec(server, "one")["status"]["phase"] == "LocalBoot" and "sanboot iscsi:" not in server.ask("GET", "/ipxe?mac=525400000001", token=None).text, (
        "Hdd makes the host boot its disk")
    system.set_system_boot_options(sushy.BootSource.PXE, enabled=sushy.BootSourceOverrideEnabled.CONTINUOUS)
    assert spec(server, "one")["spec"]["bootMode"] == "forever", "Continuous sets bootMode forever"
    system.set_system_boot_options(enabled=sushy.BootSourceOverrideEnabled.DISABLED)
    assert spec(server, "one")["status"]["phase"] == "LocalBoot", "Disabled ends the install"
    wrong = server.ask("PATCH", "/redfish/v1/Systems/one", {"Boot": {"BootSourceOverrideTarget": "Floppy"}})
    assert wrong.code == 400 and "Pxe" in wrong.json["error"]["message"], f"an unknown boot target is refused: {wrong}"
    for body, what in (({"AssetTag": "x"}, "AssetTag"), ({"Boot": {"Foo": 1}}, "Boot.Foo"), ({"Boot": {"BootOrder": []}}, "Boot.BootOrder")):
        answer = server.ask("PATCH", "/redfish/v1/Systems/one", body)
        assert answer.code == 400 and answer.json["error"]["code"].endswith("PropertyNotWritable") and what in answer.json["error"]["message"], (
            f"the property {what} is refused by name: {answer}")
    for body in ({"Boot": None}, {"Boot": {"BootSourceOverrideMode": "Foo"}}, {"Boot": {"BootSourceOverrideTarget": 1}}, []):
        assert server.ask("PATCH", "/redfish/v1/Systems/one", body).code == 400, f"{body} is refused"
    before = spec(server, "one")
    assert server.ask("PATCH", "/redfish/v1/Systems/one", {}).code == 204 and spec(server, "one") == before, "an empty PATCH changes nothing"
    name = server.ask("GET", "/redfish/v1/Chassis").json["Name"]
    assert name == "Chassis Collection", f"a collection has the name that DMTF gives: {name}"


def test_a_deployment_of_a_host_with_a_declared_image(server, redfish_client, sushy):
    """The requests of Ironic during a deployment, for a host whose manifest declares an image."""
    server.ask("POST", HOSTS, host("four", 4, ip="192.0.2.4"))
    server.ask("PATCH", f"{HOSTS}/four", {"spec": {"image": "live", "bootConfigRef": "builder", "bootMode": "forever"}})
    before = spec(server, "four")["spec"]
    system = redfish_client.get_system("/redfish/v1/Systems/four")
    drive = system.managers[0].virtual_media.get_members()[0]
    once, continuous = sushy.BootSourceOverrideEnabled.ONCE, sushy.BootSourceOverrideEnabled.CONTINUOUS

    def reads():
        system.refresh()
        return system.boot.target, system.boot.enabled

    for other in ("http://127.0.0.1:%d/iso/deploy" % PORT, "http://ironic.example/deploy.iso"):
        drive.insert_media(other)
        system.set_system_boot_options(sushy.BootSource.CD, enabled=once)
        now = spec(server, "four")["spec"]
        assert now["image"] not in ("live", "localboot") and now["bootMode"] == "once" and "bootConfigRef" not in now, (
            f"Cd for one boot assigns the medium: {now}")
        script = server.ask("GET", "/ipxe?mac=525400000004", token=None).text
        assert "deploy" in script, f"the machine's script boots the medium: {script}"
        drive.eject_media()
        now = spec(server, "four")
        assert now["spec"] == before and not now["metadata"].get("annotations"), f"ejecting restores the declared boot settings: {now}"
        assert "Booting live for four" in server.ask("GET", "/ipxe?mac=525400000004", token=None).text, "the machine's script boots the declared image again"
    server.ask("PATCH", f"{HOSTS}/four", {"spec": {"bootMode": "once"}})
    server.ask("GET", "/ipxe?mac=525400000004", token=None, source="192.0.2.4")
    server.ask("POST", "/api/v1/boot-complete", token=None, source="192.0.2.4")
    before = spec(server, "four")["spec"]
    assert spec(server, "four")["status"]["phase"] == "Installed", f'the host is Installed: {spec(server, "four")}'
    drive.insert_media("deploy")
    system.set_system_boot_options(sushy.BootSource.CD, enabled=once)
    server.ask("GET", "/ipxe?mac=525400000004", token=None, source="192.0.2.4")
    for body in ({}, {"Inserted": True}):
        assert server.ask("PATCH", "/redfish/v1/Managers/four/VirtualMedia/Cd", body).code == 204, f"{body} changes nothing of the drive"
    for body in ({"WriteProtected": True}, {"MediaTypes": []}):
        refused = server.ask("PATCH", "/redfish/v1/Managers/four/VirtualMedia/Cd", body)
        assert refused.code == 400 and refused.json["error"]["code"].endswith("PropertyNotWritable"), f"{body} is refused as not writable: {refused}"
    drive.refresh()
    assert drive.inserted and spec(server, "four")["spec"]["image"] == "deploy" and spec(server, "four")["status"]["phase"] == "Offered", (
        "the medium stays inserted and assigned")
    assert server.ask("PATCH", "/redfish/v1/Managers/four/VirtualMedia/Cd", {"Inserted": False}).code == 204, "Inserted: false ejects the medium"
    now = spec(server, "four")
    assert now["spec"] == before and now["status"]["phase"] == "LocalBoot" and "sanboot iscsi" not in server.ask("GET", "/ipxe?mac=525400000004", token=None).text, (
        f"the declared image is assigned again and not installed: {now}")
    drive.insert_media("deploy")
    system.set_system_boot_options(sushy.BootSource.CD, enabled=continuous)
    assert reads() == (sushy.BootSource.CD, continuous), "Cd with Continuous is read back"
    system.set_system_boot_options(sushy.BootSource.PXE, enabled=continuous)
    assert reads() == (sushy.BootSource.PXE, continuous) and spec(server, "four")["spec"]["image"] == "live", "Pxe assigns the declared image and is read back"
    system.set_system_boot_options(enabled=once)
    assert reads() == (sushy.BootSource.PXE, once) and spec(server, "four")["spec"] == before, "Once keeps the target and sets one boot"
    system.set_system_boot_options(sushy.BootSource.HDD, enabled=continuous)
    assert reads() == (sushy.BootSource.HDD, continuous), "Hdd with Continuous is read back"
    system.set_system_boot_options(sushy.BootSource.CD, enabled=once)
    server.ask("PATCH", f"{HOSTS}/four", {"spec": {"image": "localboot", "bootConfigRef": None}}, "application/merge-patch+json")
    drive.eject_media()
    assert spec(server, "four")["spec"]["image"] == "localboot", "ejecting keeps an image that was declared meanwhile"
    server.ask("POST", IMAGES, image("passing"))
    server.ask("PATCH", f"{HOSTS}/four", {"spec": {"image": "passing"}}, "application/merge-patch+json")
    drive.insert_media("deploy")
    system.set_system_boot_options(sushy.BootSource.CD, enabled=once)
    assert server.ask("DELETE", f"{IMAGES}/passing").code == 200, "an ISO that only an override remembered can be deleted"
    drive.eject_media()
    assert spec(server, "four")["spec"]["image"] == "localboot", "ejecting after the declared ISO was deleted makes the host boot its disk"
    assert server.ask("DELETE", f"{HOSTS}/four").code == 200, "the fourth host is deleted"
    secrets = [{"Image": url} for url in ("http://u:HUSH@m.example/a.iso", "http://u@m.example/a.iso", f"http://u:HUSH@127.0.0.1:{PORT}/iso/live", "http://", "http:///a.iso")]
    for body in secrets:
        refused = server.ask("POST", "/redfish/v1/Systems/two/VirtualMedia/Cd/Actions/VirtualMedia.InsertMedia", body)
        assert refused.code == 400 and "HUSH" not in refused.text, f"{body} is refused without repeating the password: {refused}"
        refused = server.ask("POST", IMAGES, {"metadata": {"name": "away"}, "spec": {"method": "http", "url": body["Image"]}})
        assert refused.code == 422 and refused.json["details"]["causes"][0]["field"] == "spec.url" and "HUSH" not in refused.text, (
            f"an ISCSICdrom with the same URL is refused by its field: {refused}")
    assert not spec(server, "two")["metadata"].get("annotations"), "no refused URL is in the drive"


def test_virtual_media(server, redfish_client, sushy):
    system = redfish_client.get_system("/redfish/v1/Systems/two")
    managers = system.managers
    assert [manager.identity for manager in managers] == ["two"], "the system has a manager"
    drive = managers[0].virtual_media.get_members()[0]
    assert drive.inserted is False and sushy.VirtualMediaType.CD in drive.media_types, "the drive is empty"
    with pytest.raises(sushy.exceptions.HTTPError) as refused:
        system.set_system_boot_options(sushy.BootSource.CD, enabled=sushy.BootSourceOverrideEnabled.ONCE)
    assert refused.value.status_code == 409, f"Cd with an empty drive is refused: {refused.value}"
    drive.insert_media(f"http://127.0.0.1:{PORT}/iso/live")
    drive.refresh()
    assert drive.inserted and drive.image.endswith("/iso/live"), "an ISO of the server is inserted by its URL"
    assert spec(server, "two")["spec"]["image"] == "localboot", "inserting a medium alone does not change the boot"
    system.set_system_boot_options(sushy.BootSource.CD, enabled=sushy.BootSourceOverrideEnabled.ONCE)
    now = spec(server, "two")
    assert (now["spec"]["image"], now["status"]["phase"], now["spec"]["bootMode"]) == ("live", "Assigned", "once"), f"Cd assigns the inserted ISO: {now}"
    system.refresh()
    assert (system.boot.target, system.boot.enabled) == (sushy.BootSource.CD, sushy.BootSourceOverrideEnabled.ONCE), "Cd is read back"
    drive.eject_media()
    drive.refresh()
    now = spec(server, "two")
    assert not drive.inserted and now["spec"]["image"] == "localboot" and not now["metadata"].get("annotations"), (
        f"ejecting makes the host boot its disk: {now}")

    url = "http://mirror.example/isos/rhel9.iso?x=1"
    drive.insert_media(url)
    system.set_system_boot_options(sushy.BootSource.CD, enabled=sushy.BootSourceOverrideEnabled.ONCE)
    script = server.ask("GET", "/ipxe?mac=525400000002", token=None).text
    assert f"\nsanboot {url} ||" in script, f"a remote ISO is booted from its URL: {script}"
    borrowed = lambda: [item["metadata"]["name"] for item in server.ask("GET", IMAGES).json["items"] if item["metadata"]["name"].startswith("media-")]
    assert [spec(server, "two")["spec"]["image"]] == borrowed(), f"an ISCSICdrom is created for a remote ISO: {borrowed()}"
    system.virtual_media.get_members()[0].eject_media()
    assert borrowed() == [], f"the ISCSICdrom of a remote ISO is deleted when it is ejected: {borrowed()}"
    insert = lambda image, name="two": server.ask("POST", f"/redfish/v1/Systems/{name}/VirtualMedia/Cd/Actions/VirtualMedia.InsertMedia", {"Image": image})
    for _ in range(2):
        none = insert(f"http://127.0.0.1:{PORT}/iso/nope")
        assert none.code == 400 and '"nope"' in none.json["error"]["message"], f"an ISO of the server that does not exist is refused by its name: {none}"
    assert borrowed() == [], "no ISCSICdrom is created for a refused ISO"
    assert [insert(url, name).code for name in ("two", "two", "one")] == [204] * 3 and len(borrowed()) == 1, "a remote ISO in several drives has one ISCSICdrom"
    first = borrowed()
    assert insert(f"{url}&y=2").code == 204 and len(borrowed()) == 2 and first[0] in borrowed(), "another medium keeps an ISCSICdrom that another drive uses"
    assert insert("live", "one").code == 204 and len(borrowed()) == 1 and first[0] not in borrowed(), (
        f"another medium in the last drive deletes the ISCSICdrom: {borrowed()}")
    server.ask("POST", HOSTS, host("three", 3))
    assert insert(url, "three").code == 204 and len(borrowed()) == 2, "a third host has a remote ISO inserted"
    assert server.ask("DELETE", f"{HOSTS}/three").code == 200 and first[0] not in borrowed(), (
        f"deleting a host deletes the ISCSICdrom of its drive: {borrowed()}")
    insert("live")
    assert borrowed() == [], f"no ISCSICdrom is left: {borrowed()}"
    assert server.ask("POST", "/redfish/v1/Systems/two/VirtualMedia/Cd/Actions/VirtualMedia.InsertMedia", {"Image": "nothing.iso"}).code == 400, (
        "an unknown image name is refused")
    assert server.ask("PATCH", "/redfish/v1/Managers/two/VirtualMedia/Cd", {"Image": "live.iso", "Inserted": True}).code == 204, (
        "an ISO is inserted by its name")
    assert (server.ask("PATCH", "/redfish/v1/Managers/two/VirtualMedia/Cd", {"Image": None}).code == 204
          and not redfish_client.get_system("/redfish/v1/Systems/two").virtual_media.get_members()[0].inserted), (
        "Image: null ejects the medium")
