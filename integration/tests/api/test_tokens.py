"""Tokens of admins and viewers: what each may do, and how they are sent."""

import os

from support.objects import CONFIGS, HOSTS, basic, config


def test_a_viewer_can_read_and_not_write(server):
    ask = server.ask
    viewer = (server.state / "viewer.token").read_text().strip()
    assert ask("GET", HOSTS, token=viewer).code == 200, "a viewer can read hosts"
    refused = ask("POST", CONFIGS, config("x"), token=viewer)
    assert refused.code == 403 and refused.json["reason"] == "Forbidden", f"a viewer cannot write: {refused}"
    assert ask("POST", f"{HOSTS}/a/install", token=viewer).code == 403, "a viewer cannot request an install"
    assert all(os.stat(server.state / f"{n}.token").st_mode & 0o777 == 0o600 for n in ("admin", "viewer")), "both token files are readable by their owner only"


def test_requests_need_a_valid_token(server):
    ask = server.ask
    assert ask("GET", HOSTS, token=None).code == 401, "a read without a token is 401"
    assert ask("POST", CONFIGS, config("x"), token=None).code == 401, "a write without a token is 401"
    wrong = ask("GET", HOSTS, token="x" * 64)
    assert wrong.code == 401 and wrong.json["message"] != ask("GET", HOSTS, token=None).json["message"], (
        f"a wrong token is 401, with another message than a missing token: {wrong}")
    strange = ask("GET", "/api/v1/namespaces/Bad_NS/baremetalhosts")
    assert strange.code == 400 and "namespace" in strange.text and "Bad_NS" in strange.text, f"an invalid namespace is named: {strange}"
    assert os.stat(server.state / "admin.token").st_mode & 0o777 == 0o600, "the token file is readable by its owner only"
    assert ask("GET", HOSTS, token=None, headers={"Authorization": basic("any", server.token)}).code == 200, "the token is accepted as a password"
