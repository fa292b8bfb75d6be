"""Fixtures of the API's tests."""

import pytest

from support.generated_configs import keys
from support.objects import CONFIGS, HOSTS, IMAGES, config, delete_all, host, image
from support.server import PORT


@pytest.fixture(scope="module")
def made_keys(place):
    """Public SSH keys by kind and size."""
    return keys(place)


@pytest.fixture(scope="module")
def key(made_keys):
    return made_keys["ed25519None"]


@pytest.fixture
def redfish_hosts(server):
    """The images "live" and "deploy", and the hosts "one" and "two"; another host "one" in the namespace lab."""
    server.iso()
    server.ask("POST", CONFIGS, config("builder"))
    server.ask("POST", IMAGES, image("live", ["builder"]))
    server.ask("POST", IMAGES, image("deploy"))
    for number, name in enumerate(["one", "two"], 1):
        server.ask("POST", HOSTS, host(name, number))
    server.ask("POST", HOSTS.replace("default", "lab"), {**host("one", 7), "metadata": {"name": "one"}})
    yield
    delete_all(server)


@pytest.fixture
def redfish_client(server, sushy):
    """sushy, logged in as an admin."""
    proof = sushy.auth.SessionOrBasicAuth("operator", server.token)
    yield sushy.Sushy(f"http://127.0.0.1:{PORT}/redfish/v1/", auth=proof)
    proof.close()
