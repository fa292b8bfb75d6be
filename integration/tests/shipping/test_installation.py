"""The packages under a real systemd of two Debian releases: installed, upgraded, downgraded, removed, purged."""

import json
import shutil

import pytest

from support.lan import Lan, until
from support.packages import PackageWorld

CHOSEN = 'interface = "lan0"\nunknown_hosts = "menu"\n'
HOST = {"apiVersion": "v1", "kind": "BareMetalHost", "metadata": {"name": "kept", "namespace": "default"},
        "spec": {"bootMACAddress": "52:54:00:00:00:07"}}


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def box(request, versions):
    """A machine with the network lan0 and without the packages."""
    with Lan("br0") as lan:
        for files in versions.values():
            for path in files:
                shutil.copy(path, lan.folder)
        world = PackageWorld(lan, request.param)
        world.versions = versions
        yield world
        world.close()


@pytest.fixture
def installed(box):
    """The machine with version 0.1.0, configured and running; the next test finds it purged."""
    box.put_packages(box.versions["0.1.0"])
    box.configure(CHOSEN)
    box.systemctl("restart", "bootlatch")
    yield box
    box.apt("purge", "bootlatch", "bootlatch-firmware")


def version_of(box):
    return box.run("dpkg-query", "-W", "-f", "${Version} ${db:Status-Status}", "bootlatch").strip()


def running(box):
    """Returns the PID of a service that serves."""
    until("the service is ready", lambda: box.ready()[0] == 200)
    found = box.show("ActiveState", "MainPID")
    assert found["ActiveState"] == "active"
    return found["MainPID"]


def leftovers(box):
    """Returns every path that has the name, but for the files of the test."""
    return box.run("sh", "-c", "find / -xdev -name '*bootlatch*' -not -path '/test/*' -not -path '/proc/*' -not -path '/tmp/*' -not -path '/run/log/*'").split()


def test_the_service_is_enabled_and_waits_for_an_interface(box):
    said = box.put_packages(box.versions["0.1.0"])
    assert "rror" not in said, said
    found = box.show("ActiveState", "UnitFileState", "NRestarts")
    assert found == {"ActiveState": "active", "UnitFileState": "enabled", "NRestarts": "0"}, found
    box.says("no interface chosen: run `bootlatch init`")
    assert "bootlatch" not in box.systemctl("--failed", "--plain")
    assert "bootlatch" in box.run("getent", "passwd", "bootlatch") and "bootlatch" in box.run("getent", "group", "bootlatch")
    # The way of the documentation: init, and a restart.
    assert "systemctl restart bootlatch" in box.run("bootlatch", "init", "--interface", "lan0", "--mode", "proxy", "--unknown-hosts", "hold")
    box.systemctl("restart", "bootlatch")
    running(box)
    assert "no interface" not in box.status_text()
    box.apt("purge", "bootlatch", "bootlatch-firmware")


def test_a_reload_is_enough_once_an_interface_is_chosen(box):
    box.put_packages(box.versions["0.1.0"])
    box.says("no interface chosen")
    before = box.show("MainPID")["MainPID"]
    box.configure('interface = "lan0"\nnonsense = 1\n')
    box.systemctl("reload", "bootlatch")
    box.says("configuration not loaded: /etc/bootlatch/bootlatch.toml: line 2")
    box.configure(CHOSEN)
    box.systemctl("reload", "bootlatch")
    assert running(box) == before
    box.systemctl("stop", "bootlatch")
    assert box.show("Result")["Result"] == "success"
    box.apt("purge", "bootlatch", "bootlatch-firmware")


def test_what_is_installed_is_whole(installed):
    assert installed.run("dpkg", "--verify", "bootlatch-firmware") == ""
    assert "/etc/bootlatch/bootlatch.toml" in installed.run("dpkg", "--verify", "bootlatch"), "the edited configuration, and nothing else"
    assert installed.run("dpkg", "--verify", "bootlatch").count("\n") == 1
    assert installed.run("sh", "-c", "ls /usr/share/bootlatch/firmware").split() >= ["grubx64.efi", "ipxe-amd64.efi"]
    assert "bootlatch 0" in installed.run("bootlatch", "--version")
    running(installed)


def test_an_upgrade_keeps_the_edited_configuration_and_the_state(installed):
    before = running(installed)
    create_host(installed)
    text = CHOSEN + "# of the site\n"
    installed.configure(text)
    said = installed.put_packages(installed.versions["0.2.0"])
    assert "onfiguration file" not in said, "dpkg asks nothing"
    assert version_of(installed) == "0.2.0-1 installed"
    assert installed.run("cat", "/etc/bootlatch/bootlatch.toml") == text
    assert installed.run("sh", "-c", "ls -A /etc/bootlatch").split() == ["bootlatch.toml", "conf.d"], "no file of dpkg"
    assert running(installed) != before, "the new program runs"
    assert names_of_hosts(installed) == ["kept"]


def test_settings_of_the_site_in_conf_d_leave_the_package_file_as_it_is(box):
    box.put_packages(box.versions["0.1.0"])
    box.run("sh", "-c", "cat >/etc/bootlatch/conf.d/10-site.toml", text=CHOSEN)
    box.systemctl("restart", "bootlatch")
    running(box)
    assert box.run("dpkg", "--verify", "bootlatch") == ""
    box.put_packages(box.versions["0.2.0"])
    assert box.run("cat", "/etc/bootlatch/conf.d/10-site.toml") == CHOSEN and box.run("dpkg", "--verify", "bootlatch") == ""
    running(box)
    box.apt("purge", "bootlatch", "bootlatch-firmware")


def test_an_upgrade_leaves_the_server_alone_if_its_configuration_is_not_valid(installed):
    before = running(installed)
    installed.configure('interface = "lan0"\nnonsense = 1\n')
    said = installed.put_packages(installed.versions["0.2.0"])
    assert "not restarted" in said and "line 2: nonsense" in said, said
    assert version_of(installed) == "0.2.0-1 installed" and running(installed) == before


def test_a_downgrade_keeps_the_state(installed):
    create_host(installed)
    installed.put_packages(installed.versions["0.2.0"])
    installed.put_packages(installed.versions["0.1.0"])
    assert version_of(installed) == "0.1.0-1 installed"
    running(installed)
    assert names_of_hosts(installed) == ["kept"]


def test_a_service_that_the_site_stopped_and_disabled_stays_so(installed):
    installed.systemctl("disable", "--now", "bootlatch")
    installed.put_packages(installed.versions["0.2.0"])
    assert installed.show("UnitFileState")["UnitFileState"] == "disabled"


def test_removal_and_a_new_installation_keep_configuration_and_state(installed):
    create_host(installed)
    installed.apt("remove", "bootlatch")
    assert installed.show("LoadState", "ActiveState") in ({"LoadState": "not-found", "ActiveState": "inactive"}, {"LoadState": "masked", "ActiveState": "inactive"})
    assert installed.run("cat", "/etc/bootlatch/bootlatch.toml") == CHOSEN
    installed.put_packages(installed.versions["0.1.0"])
    running(installed)
    assert installed.show("UnitFileState")["UnitFileState"] == "enabled" and names_of_hosts(installed) == ["kept"]


def test_purge_leaves_the_user_only(box):
    before = leftovers(box)
    box.put_packages(box.versions["0.1.0"])
    box.configure(CHOSEN)
    box.run("sh", "-c", "mkdir -p /etc/bootlatch/manifests && echo '# of the site' >/etc/bootlatch/conf.d/10-site.toml")
    box.systemctl("restart", "bootlatch")
    running(box)
    box.apt("purge", "bootlatch", "bootlatch-firmware")
    assert leftovers(box) == before
    assert box.run("sh", "-c", "ls -A /etc/systemd/system/multi-user.target.wants") .find("bootlatch") < 0
    assert box.run("getent", "passwd", "bootlatch").startswith("bootlatch:")
    assert "bootlatch" not in box.systemctl("--failed", "--plain")


def create_host(box):
    running(box)
    box.run("bootlatch", "apply", "-f", "-", text=json.dumps(HOST))


def names_of_hosts(box):
    return [host["metadata"]["name"] for host in json.loads(box.run("bootlatch", "get", "hosts", "-A", "-o", "json"))["items"]]
