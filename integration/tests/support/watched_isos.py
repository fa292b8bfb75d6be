"""What a server reports of an ISO's file: its object, the timelines, the boot script, logins."""

from support.iscsi_initiator import refusal
from support.objects import HOSTS, IMAGES, timeline
from support.served_iso import IQN
from support.waiting import eventually

# Seconds until a change of a file is noticed: the server looks every 5, and waits until 3 have passed since the last write.
LOOK = 20


def status(server, name):
    """Returns the status of an ISCSICdrom."""
    return server.ask("GET", f"{IMAGES}/{name}").json["status"]


def phase_is(server, name, phase, wait=LOOK):
    """Waits until an ISCSICdrom is in a phase."""
    return eventually(lambda: status(server, name)["phase"] == phase, wait)


def host_status(server, name):
    return server.ask("GET", f"{HOSTS}/{name}").json["status"]


def details(server, name, event):
    """Returns the details of the events of one kind in a host's timeline, or in the server's without a name."""
    return [entry["detail"] for entry in timeline(server, name, event)]


def phases(server, name):
    """Returns the phases and messages of an image in the server's timeline."""
    return [(detail["phase"], detail["message"]) for detail in details(server, "", "image") if detail["image"] == name]


def login_refusal(server, name, mac, source=None):
    """Logs in to an ISO where that must fail; returns the status of the failure."""
    return refusal(3260, f"{IQN}:{name}", name=f"{IQN}:{mac}", source=source)
