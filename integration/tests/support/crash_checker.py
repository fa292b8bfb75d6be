"""What must hold after a crash: reads the clients' logs and the server's state, and lists each contradiction.

An acknowledgement promises that the state has what was acknowledged. A request that was sent and not acknowledged may
have counted or not.
"""

import contextlib
import hashlib
import ipaddress
import json
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

UNDER_WAY = ("Assigned", "Offered", "Installing")


@dataclass
class State:
    """The server's state: hosts and ISOs by name, addresses by MAC address, digests of the files in isos/ by name, the
    bytes of the token files by name, and what is wrong with the database itself."""

    hosts: dict = field(default_factory=dict)
    isos: dict = field(default_factory=dict)
    leases: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)
    tokens: dict = field(default_factory=dict)
    damage: list = field(default_factory=list)


def read_state(directory):
    """Reads the state directory of a server that does not run. The directory is not changed."""
    state = State()
    with tempfile.TemporaryDirectory() as copy:
        for name in ("bootlatch.db", "bootlatch.db-wal"):
            if (directory / name).exists():
                shutil.copy(directory / name, copy)
        with contextlib.closing(sqlite3.connect(Path(copy, "bootlatch.db"))) as base:
            try:
                _read_database(base, state)
            except (sqlite3.DatabaseError, TypeError, ValueError, AttributeError) as error:
                state.damage.append(f"the database is damaged: {error!r}")
    isos = directory / "isos"
    for path in isos.iterdir() if isos.is_dir() else ():
        state.files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    for name in ("admin.token", "viewer.token", "token.key"):
        if (directory / name).exists():
            state.tokens[name] = (directory / name).read_bytes()
    return state


def _read_database(base, state):
    for kind, name, body in base.execute("SELECT kind, name, body FROM objects"):
        {"BareMetalHost": state.hosts, "ISCSICdrom": state.isos}.get(kind, {})[name] = _host_of_row(body) if body.startswith("seen1 ") else json.loads(body)
    for mac, address in base.execute("SELECT mac, address FROM leases WHERE held = 0"):
        state.leases[mac.hex(":")] = str(ipaddress.ip_address(address))


def _host_of_row(body):
    """Returns what is checked of a host that was only seen, from its row."""
    action, *words = body.split(" ", 10)[10].split(" ")
    image = words[0] if words else "menu" if action == "menu" else "localboot"
    return {"spec": {"image": image}, "status": {"phase": {"hold": "Held", "install": "Assigned"}.get(action, "LocalBoot")}}


class History:
    """What a machine's log says about its present install, and the contradictions within the log."""

    def __init__(self, name, events):
        self.name, self.findings, self.address = name, [], None
        self._begin()
        for entry in events:
            self._read(**entry)

    def _begin(self):
        self.is_offered = self.has_config = self.is_reported = self.is_complete = self.is_asked_again = False

    def _read(self, event, **about):
        boots_again = (event == "script" and about["verdict"] == "install") or event in ("iscsi_read", "config")
        if boots_again and self.is_complete and not self.is_asked_again:
            self.findings.append(f"{self.name}: {event}: an install was offered after its completion was acknowledged")
        if about.get("is_whole") is False:
            self.findings.append(f"{self.name}: {event}: other bytes than those of the file")
        if event == "script" and about["verdict"] == "disk" and not (self.is_reported or self.is_complete):
            self.findings.append(f"{self.name}: an install that is not complete was not offered again")
        if event == "dhcp_ack":
            self.address = about["address"]
        elif event == "script":
            self.is_offered |= about["verdict"] == "install"
        elif event == "config":
            self.has_config = True
        elif event == "complete_sent":
            self.is_reported = True
        elif event in ("complete_acked", "complete_seen"):
            self.is_complete = True
        elif event == "install_sent":
            self.is_asked_again = True
        elif event == "install_acked":
            self._begin()

    def phases(self):
        """Returns the phases that the host may have."""
        if self.is_complete:
            return ("Installed", *UNDER_WAY) if self.is_asked_again else ("Installed",)
        allowed = UNDER_WAY[1:] if self.is_offered else UNDER_WAY
        return (*allowed, "Installed") if self.is_reported else allowed


def machine_findings(name, mac, events, state):
    """Returns what is wrong with a machine: in its log alone, and against the state."""
    history = History(name, events)
    host = state.hosts.get(name)
    if host is None:
        return [*history.findings, f"{name}: the host is lost"]
    status = host["status"]
    if status["phase"] not in history.phases():
        history.findings.append(f"{name}: the phase is {status['phase']}, and was acknowledged to be one of {history.phases()}")
    install = status.get("install") or {}
    if not history.is_asked_again:
        if history.is_offered and not install.get("bootCount"):
            history.findings.append(f"{name}: the boot of its install is lost")
        if history.has_config and not install.get("configFetchTime"):
            history.findings.append(f"{name}: the release of its config is lost")
    if history.address and state.leases.get(mac) != history.address:
        history.findings.append(f"{name}: its lease of {history.address} is lost: {state.leases.get(mac)}")
    return history.findings


def expected_objects(events):
    """Returns the states that each object of an operator may have: a set for each kind and name; None is no object."""
    possible = {}
    for entry in events:
        if entry["event"] == "sent":
            possible.setdefault((entry["kind"], entry["name"]), {None}).add(entry["state"])
        elif entry["event"] == "acked":
            possible[entry["kind"], entry["name"]] = {entry["state"]}
    return possible


def operator_findings(events, state):
    """Returns which acknowledged changes of an operator are lost, and which of its requests can never succeed."""
    findings = [f"{entry['name']}: refused for ever: {entry['code']} {entry['text']}"
                for entry in events if entry["event"] == "refused" and entry["code"] == 422]
    for (kind, name), states in expected_objects(events).items():
        if kind == "host":
            found = state.hosts[name]["spec"]["image"] if name in state.hosts else None
        else:
            found = state.isos[name]["status"].get("sha256") if name in state.isos else None
            if found and state.files.get(f"{name}.iso") != found:
                findings.append(f"iso {name}: its file is lost or damaged")
        if found not in states:
            findings.append(f"{kind} {name}: is {found}, and was acknowledged to be {' or '.join(map(str, states))}")
    return findings


def address_findings(logs):
    """Returns the addresses that were acknowledged to two machines."""
    owners = {}
    for name, events in logs.items():
        for entry in events:
            if entry["event"] == "dhcp_ack":
                owners.setdefault(entry["address"], set()).add(name)
    return [f"{address} was given to {', '.join(sorted(names))}" for address, names in owners.items() if len(names) > 1]


def client_findings(state, logs, machines, operators):
    """Compares the state on disk with the logs of all machines and operators."""
    findings = list(state.damage)
    for machine in machines:
        findings += machine_findings(machine.name, machine.mac, logs[machine.name], state)
    for operator in operators:
        findings += operator_findings(logs[operator.name], state)
    return findings + address_findings(logs)


def orphan_findings(state, expected_files, known):
    """Returns the files and objects that belong to nothing, at the end of all work."""
    files = {image["spec"]["isoFile"] for image in state.isos.values()} | set(expected_files)
    findings = [f"isos/{name} belongs to no ISCSICdrom" for name in sorted(set(state.files) - files)]
    findings += [f"isos/{name} is lost" for name in sorted(files - set(state.files))]
    objects = {("host", name) for name in state.hosts} | {("iso", name) for name in state.isos}
    return findings + [f"{kind} {name}: nobody created it" for kind, name in sorted(objects - known)]
