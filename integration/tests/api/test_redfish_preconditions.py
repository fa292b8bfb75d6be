"""Redfish requests with If-Match: a change that was made on what the client no longer sees is not carried out."""

import http.client
import http.server
import shutil
import threading

import pytest

from support import management_controllers
from support.bmc_hosts import PASSWORD, bmc, patch
from support.objects import HOSTS

pytestmark = pytest.mark.usefixtures("redfish_hosts")

SYSTEM = "/redfish/v1/Systems/one"
DRIVE = f"{SYSTEM}/VirtualMedia/Cd"
PXE = {"Boot": {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"}}


def test_a_stale_change_is_refused(server, redfish_client, sushy):
    server.ask("PATCH", f"{HOSTS}/one", {"spec": {"image": "live"}})
    server.ask("POST", f"{HOSTS}/one/localboot")
    phase = lambda: server.ask("GET", f"{HOSTS}/one").json["status"]["phase"]
    patch = lambda tag: redfish_client._conn.patch(SYSTEM, data=PXE, headers={"If-Match": tag})
    seen = redfish_client._conn.get(SYSTEM).headers["ETag"]
    assert redfish_client._conn.get(SYSTEM).headers["ETag"] == seen, "a read changes no ETag"
    server.ask("POST", f"{HOSTS}/one/hold")
    server.ask("PATCH", SYSTEM, {"Boot": {"BootSourceOverrideTarget": "Hdd", "BootSourceOverrideEnabled": "Continuous"}})
    before = phase()
    for tag in (seen, f"W/{seen}", '"x"', 'W/"x"'):
        with pytest.raises(sushy.exceptions.HTTPError) as refused:
            patch(tag)
        assert refused.value.status_code == 412 and phase() == before, f"a change of an older version is refused: {tag}: {refused.value}"
    assert "PreconditionFailed" in server.ask("PATCH", SYSTEM, PXE, headers={"If-Match": seen}).text, "the refusal has DMTF's message"
    assert patch(redfish_client._conn.get(SYSTEM).headers["ETag"]).status_code == 204, "a change of the present version is carried out"
    assert phase() == "Assigned", f"the install was begun: {phase()}"


def test_sushy_changes_what_it_read(server, redfish_client, sushy):
    """sushy sends the ETag that it saw with every PATCH."""
    server.ask("PATCH", f"{HOSTS}/one", {"spec": {"image": "live"}})
    system = redfish_client.get_system(SYSTEM)
    assert system._get_etag(), "sushy sees an ETag"
    for target in (sushy.BootSource.HDD, sushy.BootSource.PXE):
        system.refresh()
        system.set_system_boot_options(target, enabled=sushy.BootSourceOverrideEnabled.ONCE)
        system.refresh()
        assert system.boot.target == target, f"the change is read back: {system.boot}"


def test_the_virtual_drive(server):
    tag = lambda: server.ask("GET", DRIVE).headers["ETag"]
    empty = tag()
    insert = lambda value: server.ask("POST", f"{DRIVE}/Actions/VirtualMedia.InsertMedia", {"Image": "live"}, headers={"If-Match": value}).code
    assert insert('"x"') == 412 and tag() == empty, "a stale insertion is refused"
    assert insert(empty) == 204 and tag() != empty, "an insertion into the drive that was seen is carried out"
    eject = lambda value: server.ask("PATCH", DRIVE, {"Image": None}, headers={"If-Match": value}).code
    assert eject(empty) == 412 and server.ask("GET", DRIVE).json["Inserted"], "a stale ejection is refused"
    assert eject(tag()) == 204 and tag() == empty, "an empty drive is the same version as before"


class Forwarder(http.server.ThreadingHTTPServer):
    """Forwards requests to the BMC at a port. Calls `before_patch` before it forwards a PATCH, once."""

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), ForwardedRequest)
        self.bmc_port, self.before_patch = port, None
        self.daemon_threads = True
        threading.Thread(target=self.serve_forever, daemon=True).start()


class ForwardedRequest(http.server.BaseHTTPRequestHandler):
    def forward(self):
        if self.command == "PATCH" and self.server.before_patch:
            run, self.server.before_patch = self.server.before_patch, None
            run()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection = http.client.HTTPConnection("127.0.0.1", self.server.bmc_port)
        connection.request(self.command, self.path, body, dict(self.headers))
        reply = connection.getresponse()
        content = reply.read()
        self.send_response(reply.status)
        for name in ("Content-Type", "ETag"):
            if reply.headers[name]:
                self.send_header(name, reply.headers[name])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = forward

    def log_message(self, *_):
        pass


def test_a_change_that_another_client_overtakes_leaves_bmc_and_record_alike(server, sushy):
    """The precondition held when the request came, and no longer when the BMC was programmed."""
    emulator = management_controllers.emulator(server, 8004)
    forwarder = Forwarder(8004)
    try:
        patch(server, "one", image="live", bmc=bmc(f"redfish+http://127.0.0.1:{forwarder.server_address[1]}"))
        auth = sushy.auth.BasicAuth("admin", PASSWORD)
        machine = sushy.Sushy("http://127.0.0.1:8004/redfish/v1", auth=auth).get_system_collection().get_members()[0]
        forwarder.before_patch = lambda: patch(server, "one", bootMode="forever")
        tag = server.ask("GET", SYSTEM).headers["ETag"]
        disk = {"Boot": {"BootSourceOverrideTarget": "Hdd", "BootSourceOverrideEnabled": "Once"}}
        refused = server.ask("PATCH", SYSTEM, disk, headers={"If-Match": tag})
        assert refused.code == 412 and forwarder.before_patch is None, f"the overtaken change is refused: {refused}"
        machine.refresh(force=True)
        assert machine.boot.target == sushy.BootSource.PXE, f"the BMC boots what the host's record says: {machine.boot.target}"
    finally:
        forwarder.shutdown()
        emulator.close()
        shutil.rmtree(emulator.place)
