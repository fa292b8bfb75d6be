"""Redfish sessions: who may begin, use and end them."""

import pytest

from support.objects import HOSTS, basic
from support.server import PORT

pytestmark = pytest.mark.usefixtures("redfish_hosts")

ROOT = f"http://127.0.0.1:{PORT}/redfish/v1/"


def test_sessions(server):
    ask = server.ask
    assert ask("GET", "/redfish/v1/", token=None).json["RedfishVersion"] == "1.18.0", "the service root needs no authentication"
    assert ask("GET", "/redfish", token=None).json == {"v1": "/redfish/v1/"}, "the list of versions needs no authentication"
    refused = ask("GET", "/redfish/v1/Systems", token=None)
    assert refused.code == 401 and "error" in refused.json and refused.headers["WWW-Authenticate"].startswith("Basic"), (
        f"the systems need authentication: {refused}")
    assert ask("GET", "/redfish/v1/Systems", token=None, headers={"Authorization": basic("x", server.token)}).code == 200, "a token is accepted as the password"
    viewer = (server.state / "viewer.token").read_text().strip()
    begun = ask("POST", "/redfish/v1/SessionService/Sessions", {"UserName": "v", "Password": viewer}, token=None)
    token = {"X-Auth-Token": begun.headers["X-Auth-Token"]}
    assert begun.code == 201 and begun.headers["Location"].endswith(begun.json["Id"]), f"a session is created: {begun}"
    assert ask("GET", "/redfish/v1/Systems", token=None, headers=token).code == 200, "a session's token can read"
    assert ask("PATCH", "/redfish/v1/Systems/one", {"Boot": {}}, token=None, headers=token).code == 403, "a viewer's session cannot write"
    admins = ask("POST", "/redfish/v1/SessionService/Sessions", {"UserName": "a", "Password": server.token}, token=None)
    by_password = {"Authorization": basic("v", viewer)}
    for how, headers in (("by its session", token), ("by its password", by_password)):
        refused = ask("DELETE", admins.headers["Location"], token=None, headers=headers)
        assert refused.code == 403 and "its own" in refused.json["error"]["message"], f"a viewer cannot end an admin's session {how}: {refused}"
    assert ask("DELETE", begun.headers["Location"], token=None, headers=by_password).code == 403, "a viewer's password alone cannot end a viewer's session"
    for _ in range(300):
        assert ask("POST", "/redfish/v1/SessionService/Sessions", {"UserName": "v", "Password": viewer}, token=None).code == 201
    assert ask("GET", "/redfish/v1/Systems", token=None, headers={"X-Auth-Token": admins.headers["X-Auth-Token"]}).code == 200, (
        "a viewer cannot displace an admin's session")
    members = ask("GET", "/redfish/v1/SessionService/Sessions").json["Members"]
    assert len(members) == 256, f"the number of sessions is limited: {len(members)}"
    assert all(ask("DELETE", member["@odata.id"]).code == 204 for member in members), "an admin can end any session"
    begun = ask("POST", "/redfish/v1/SessionService/Sessions", {"UserName": "v", "Password": viewer}, token=None)
    token = {"X-Auth-Token": begun.headers["X-Auth-Token"]}
    assert ask("DELETE", begun.headers["Location"], token=None, headers=token).code == 204, "a viewer can end its own session"
    assert ask("GET", "/redfish/v1/Systems", token=None, headers=token).code == 401, "the token of an ended session is refused"
    assert ask("POST", "/redfish/v1/SessionService/Sessions", {"UserName": "v", "Password": "x"}, token=None).code == 401, "a wrong password creates no session"
    assert ask("DELETE", "/redfish/v1/Systems/one").code == 405, "a method that is not allowed is 405"
    assert ask("GET", HOSTS, token=None, headers=token).code == 401, "a session's token is not valid for the object API"


def test_sushy_finds_the_hosts(server, sushy):
    proof = sushy.auth.SessionOrBasicAuth("operator", server.token)
    client = sushy.Sushy(ROOT, auth=proof)
    assert client.redfish_version == "1.18.0", "sushy reads the service root"
    names = sorted(system.identity for system in client.get_system_collection().get_members())
    assert names == ["lab~one", "one", "two"], f"sushy finds the hosts of every namespace: {names}"
    assert proof.get_session_key() is not None, "sushy used a session"
    proof.close()
    assert server.ask("GET", "/redfish/v1/SessionService/Sessions").json["Members"] == [], "sushy ended its session"
