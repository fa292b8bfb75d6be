"""Hosts with a BMC, and what the server knows of their power."""

from support.objects import HOSTS, timeline
from support.waiting import eventually

PASSWORD = "password"


def bmc(address, **more):
    """Returns a spec.bmc with the password of the emulators."""
    return {"address": address, "username": "admin", "password": PASSWORD, **more}


def read(server, name):
    return server.ask("GET", f"{HOSTS}/{name}").json


def status(server, name):
    return read(server, name)["status"]


def condition(server, name, topic):
    """Returns the condition of a type, or None."""
    found = [one for one in status(server, name)["conditions"] if one["type"] == topic]
    return found[0] if found else None


def events(server, name, *kinds):
    """Returns the details of a host's events."""
    return [one["detail"] for one in timeline(server, name, *kinds)]


def patch(server, name, **spec):
    answer = server.ask("PATCH", f"{HOSTS}/{name}", {"spec": spec}, "application/merge-patch+json")
    assert answer.code == 200, answer
    return answer.json


def becomes(server, name, power, wait=20):
    """Waits until the power of a host is read as `power`."""
    return eventually(lambda: status(server, name).get("power") == power, wait)
