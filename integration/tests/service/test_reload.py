"""systemctl reload: the configuration and the manifests are loaded again, and what is wrong is said."""

import subprocess

from support.dhcp_appliance import OURS
from support.lan import tool, until

MENU = 'interface = "lan0"\nunknown_hosts = "menu"\n'


def script(service, last):
    """Returns the boot script of a machine that was never seen."""
    client = service.lan.client(f"m{last}", address=f"10.88.0.{50 + last}/24", mac=f"52:54:00:00:00:{last:02x}")
    url = f"http://{OURS}/ipxe?mac=52:54:00:00:00:{last:02x}"
    return subprocess.run(service.lan.inside(client, tool("curl"), "-s", "-m", "10", url), capture_output=True, text=True).stdout


def pid(service):
    return service.show("MainPID")["MainPID"]


def test_reload_changes_what_needs_no_restart(service):
    before = pid(service)
    assert "choose" not in script(service, 1), "held"
    service.configure(MENU)
    service.systemctl("reload", "bootlatch")
    service.logged("configuration loaded")
    assert "choose" in script(service, 2), "gets a menu"
    assert pid(service) == before and service.show("ActiveState", "Result") == {"ActiveState": "active", "Result": "success"}
    assert service.status_text() == "Serving."


def test_a_broken_file_keeps_the_old_configuration_and_says_so(service):
    service.configure('interface = "lan0"\nunknown_hosts = "menu"\nnonsense = 1\n')
    service.systemctl("reload", "bootlatch")
    service.says("configuration not loaded: /etc/bootlatch/bootlatch.toml: line 3")
    assert "nonsense" in service.status_text()
    service.logged("the earlier one stays in force")
    assert service.show("ActiveState")["ActiveState"] == "active"
    note = "configuration not loaded, the earlier one is in force: /etc/bootlatch/bootlatch.toml: line 3"
    assert service.ready()[0] == 200 and note in str(service.ready()[1]) and "nonsense" not in str(service.ready()[1])
    service.configure()
    service.systemctl("reload", "bootlatch")
    until("the status is good again", lambda: service.status_text() == "Serving.")
    assert "configuration" not in str(service.ready()[1])


def test_keys_that_wait_for_a_restart_are_named(service):
    service.configure('interface = "lan0"\nhttp_port = 8080\nunknown_hosts = "menu"\n[tftp]\nport = 6969\n')
    service.systemctl("reload", "bootlatch")
    service.says("restart needed for changed keys: http_port, tftp.port")
    service.logged("changed keys wait for a restart")
    service.systemctl("restart", "bootlatch")
    assert service.ready()[0] == 200 and "restart needed" not in service.status_text()


def test_a_wrong_configuration_is_not_tried_again(world):
    world.configure('interface = "lan0"\n[dhcp]\nmode = "prox"\n')
    world.systemctl("start", "bootlatch", check=False)
    assert world.code != 0
    found = world.show("ActiveState", "ExecMainStatus", "NRestarts")
    assert found == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}, found
    assert "bootlatch.toml: line 3: dhcp.mode" in world.journal()
    world.systemctl("reset-failed", "bootlatch")


def test_check_says_whether_a_file_is_valid(world):
    world.configure(MENU)
    assert "valid" in world.run("bootlatch", "serve", "--check")
    rows = [("interface = lan0\n", "line 1"), ('interface = "lan0"\nport = 1\n', "line 2: port: unknown field"), ('interface = "lan0"\n[dhcp]\nmode = "prox"\n', "line 3: dhcp.mode")]
    for text, words in rows:
        world.configure(text)
        said = world.run("bootlatch", "serve", "--check", check=False)
        assert world.code == 78 and "/etc/bootlatch/bootlatch.toml" in said and words in said, said
    said = world.run("bootlatch", "serve", "--check", "--config", "/nothing.toml", check=False)
    assert world.code == 78 and "/nothing.toml" in said, said
