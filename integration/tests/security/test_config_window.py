"""How long a config is given away: within the token's time after a boot script, and a confidential one until the install ends."""

import pytest

from support.lan import until
from support.objects import CONFIGS, HOSTS
from support.provisioned_lan import FAR, SECRET, routed_network, token_of

PLAIN = "#cloud-config\nhostname: plain\n"


def refused(machine, path="/api/v1/bootconfig"):
    code, said = machine.ask(path)
    assert SECRET not in said and PLAIN not in said or code == 200, f"a refusal has nothing of the config: {said}"
    return code != 200


def test_the_window_bounds_the_address_too(lan):
    box, near, _, _ = routed_network(lan, '[config_access]\ntoken_ttl = "3s"\n', FAR)
    box.make(CONFIGS, "BootConfig", "plain", {"format": "cloud-init", "data": {"user-data": PLAIN}})
    box.change("live", bootConfigs=["secret", "plain"])
    box.change("near", bootConfigRef="plain")
    token = token_of(near.script())
    assert near.ask("/api/v1/bootconfig") == (200, PLAIN), "the installer gets its config"
    until("the window ends", lambda: refused(near))
    code, said = near.ask("/api/v1/bootconfig")
    assert code == 403 and "config_access.token_ttl" in said, f"the refusal names the key: {(code, said)}"
    assert refused(near, f"/nocloud/{token}/user-data"), "with the token too"
    assert box.events("near", "refused", "config_window_closed"), "the refusal is in the timeline"
    assert box.status("near")["phase"] == "Installing", "a refusal is no step of the install"
    assert near.ask("/api/v1/boot-complete", "POST")[0] == 200 and box.status("near")["phase"] == "Installed", "the report is accepted later"
    assert refused(near), "any process behind the address asks in vain after the install"
    box.api("POST", f"{HOSTS}/near/install")
    assert refused(near), "another install that was only requested opens no window"
    near.script()
    assert near.ask("/api/v1/bootconfig") == (200, PLAIN), "its script does"


@pytest.mark.parametrize("mode", ["address", "token", "both"])
def test_a_confidential_config_ends_with_the_install(lan, mode):
    box, near, _, _ = routed_network(lan, f'[config_access]\nrequire = "{mode}"\n', FAR)
    token = token_of(near.script())
    paths = [f"/nocloud/{token}/user-data", f"/nocloud/{token}/vendor-data", f"/nocloud/{token}/seed.iso", f"/config/{token}"]
    paths += ["/api/v1/bootconfig"] if mode == "address" else []
    assert [near.code_of(path) for path in paths] == [200] * len(paths), f"{mode}: the installer gets its config"
    assert near.ask(f"/api/v1/boot-complete?token={token}", "POST")[0] == 200, f"{mode}: the install is complete"
    assert [near.code_of(path) for path in paths] == [404] * len(paths), f"{mode}: and the config is not given any more"
    assert near.ask("/get_ignition")[1] == "{}"


@pytest.mark.parametrize("completion", ["config-fetched", "script-fetched"])
def test_under_a_legacy_policy_the_installer_may_go_on_fetching(lan, completion):
    """The phase is Installed before the installer has finished: the window alone ends the delivery."""
    box, near, _, _ = routed_network(lan, f'[install]\ncompletion = "{completion}"\n[config_access]\ntoken_ttl = "4s"\n', FAR)
    token = token_of(near.script())
    for file in ("user-data", "vendor-data", "user-data"):
        assert near.ask(f"/nocloud/{token}/{file}")[0] == 200, f"{completion}: {file}"
    assert box.status("near")["phase"] == "Installed"
    until("the window ends", lambda: refused(near))


def test_untied_requests_do_not_prolong_the_window(lan):
    box, near, far, _ = routed_network(lan, '[config_access]\ntoken_ttl = "3s"\n', FAR)
    near.script()
    assert near.ask("/api/v1/bootconfig") == (200, SECRET)

    def ends():
        far.script("other")
        far.tftp("near")
        return refused(near)
    until("the window ends although others ask in the machine's name", ends)
