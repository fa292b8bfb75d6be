"""The virtual drives of BMCs want what sushy and ironic know of real ones. `test_power_faults` has sushy-tools' drive."""

import pytest

from support.bmc_hosts import bmc, patch, status
from support.objects import HOSTS, host, make_example
from support.scripted_media import ScriptedDrives, missing
from support.scripted_redfish import ScriptedRedfish
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_objects_left")
PORT = 8060
ADDRESS, ADDRESS2 = "192.0.2.7", "192.0.2.8"


@pytest.fixture(scope="module")
def server(start_server):
    return start_server(api_port=8443, config='[api]\nlisten = "0.0.0.0:8443"\ntls = true\n')


@pytest.fixture
def controllers(server):
    """A function that starts a scripted BMC on the next port, and declares its host."""
    running = []
    make_example(server)

    def start(**how):
        controller, number = ScriptedRedfish(PORT + len(running)), len(running)
        running.append(controller)
        controller.drives = ScriptedDrives(controller, **how)
        return controller

    def declare(*hows):
        """Declares a host for each scripted BMC, and waits until each was told its boot device. Returns the drives and what was told."""
        for how in hows:
            start(**how)
        for number in range(len(hows)):
            address = f"redfish-virtualmedia+http://127.0.0.1:{PORT + number}"
            assert server.ask("POST", HOSTS, host(f"h{number}", 0x40 + number, image="live", bmc=bmc(address))).code == 201
        told = [eventually(lambda: status(server, f"h{number}").get("bootDevice"), 60) for number in range(len(hows))]
        assert all(told), (told, server.tail())
        return [controller.drives for controller in running], told

    yield declare
    for one in running:
        one.close()


def only(*names):
    """Refuses each parameter but these."""
    return lambda number, body: None if set(body) <= set(names) else (400, {"error": {"message": "unknown parameter"}})


def test_what_real_services_want(server, controllers):
    required = [{"Name": "Image", "Required": True}, {"Name": "TransferProtocolType", "Required": True, "AllowableValues": ["HTTP", "HTTPS"]}]
    secure = [{"Name": "TransferProtocolType", "AllowableValues": ["HTTPS", "NFS"]}]
    first = lambda number, body: (405, None) if number == 0 else None
    # The error names what is missing, one at a time.
    asks = lambda number, body: next((missing(name) for name in ("TransferProtocolType", "TransferMethod", "UserName") if name not in body), None)
    https = lambda number, body: None if body["Image"].startswith("https:") else (400, {"error": {"message": "protocol not allowed"}})
    flags = lambda number, body: None if body.get("Inserted") else missing("Inserted", "WriteProtected")
    (plain, info, tls, slots, asking, secured, flagged, patched), told = controllers(
        {"wants": only("Image")}, {"info": required}, {"info": secure}, {"wants": first, "count": 2}, {"wants": asks}, {"wants": https}, {"wants": flags},
        {"has_action": False})
    assert all((one["device"], one.get("error", "")) == ("cd", "") for one in told), told
    assert [set(body) for _, body in plain.inserted] == [{"Image"}], plain.inserted
    assert plain.inserted[0][1]["Image"].startswith("http://"), plain.inserted
    assert [body["TransferProtocolType"] for _, body in info.inserted] == ["HTTP"], info.inserted
    assert [body["Image"].split("/media")[0].rsplit(":", 1)[1] for _, body in tls.inserted][0].startswith("8443"), tls.inserted
    assert tls.inserted[0][1]["Image"].startswith("https://"), tls.inserted
    assert {number for number, _ in slots.inserted} == {0, 1} and slots.states[1]["Inserted"], slots.inserted
    assert asking.inserted[-1][1] == {"Image": asking.inserted[0][1]["Image"], "TransferProtocolType": "HTTP", "TransferMethod": "Stream", "UserName": "none",
                                      "Password": "none"} or asking.states[0]["Inserted"], asking.inserted
    assert [body["Image"].split(":")[0] for _, body in secured.inserted] == ["http", "https"], secured.inserted
    assert flagged.inserted[-1][1]["Inserted"] is True and len(flagged.inserted) == 2, flagged.inserted
    assert [body for _, body in patched.inserted] == [{"Image": patched.states[0]["Image"], "Inserted": True, "WriteProtected": True}], patched.inserted


def test_another_medium_is_ejected_first_and_ours_at_the_end(server, controllers):
    after_eject = iter([500, 502])
    busy = lambda number, body: next(((code, {"error": {"message": "not ready"}}) for code in after_eject), None)
    other = {"Image": "http://other.example/a.iso", "Inserted": True}
    (slow, odd), told = controllers({"wants": busy, "loaded": other}, {"eject_wants_nothing": True, "loaded": other})
    assert all(one.get("error", "") == "" for one in told), told
    assert slow.ejected == [0] and len(slow.inserted) == 3, f"an insertion that fails after an eject is tried again: {slow.inserted}"
    assert odd.ejected == [0] and odd.states[0]["Inserted"], odd.ejected
    patch(server, "h1", ip=ADDRESS)
    done = server.ask("POST", "/api/v1/boot-complete", token=None, source=ADDRESS)
    assert done.code == 200, done
    assert eventually(lambda: status(server, "h1")["bootDevice"]["device"] == "disk", 20), status(server, "h1")
    assert odd.ejected == [0, 0] and not odd.states[0]["Inserted"], f"our medium is ejected at the end: {odd.ejected}"
    assert slow.ejected == [0] and slow.states[0]["Inserted"], "the other host's stays"
    slow.states[0] = dict(other)
    patch(server, "h0", ip=ADDRESS2)
    assert server.ask("POST", "/api/v1/boot-complete", token=None, source=ADDRESS2).code == 200
    assert eventually(lambda: status(server, "h0")["bootDevice"]["device"] == "disk", 20), status(server, "h0")
    assert slow.ejected == [0], "a medium of somebody else is not ejected at the end"


def test_a_medium_that_is_inserted_all_the_same_is_no_failure(server, controllers):
    (drives,), told = controllers({"wants": lambda number, body: (500, {"error": {"message": "already attached"}}), "is_late": True})
    assert told[0]["device"] == "cd" and not told[0].get("error") and len(drives.inserted) == 1, (told, drives.inserted)
