"""Virtual drives of a scripted BMC, with what real ones want otherwise."""

from support.scripted_redfish import SYSTEM

DRIVES = f"{SYSTEM}/VirtualMedia"


def missing(*names):
    """The error of a parameter that is missing, as sushy knows it."""
    return 400, {"error": {"code": "Base.1.18.GeneralError", "message": "", "@Message.ExtendedInfo": [
        {"MessageId": "Base.1.18.ActionParameterMissing", "MessageArgs": list(names)}]}}


class ScriptedDrives:
    """The drives of a BMC. `wants(number, body)` returns the answer that refuses a body, or None; with `is_late`,
    what is refused is done all the same."""

    def __init__(self, bmc, wants=lambda number, body: None, count=1, has_action=True, info=None, kinds=("CD", "DVD"), eject_wants_nothing=False, loaded=None, is_late=False):
        self.bmc, self.wants, self.inserted, self.ejected, self.version = bmc, wants, [], [], 1
        self.states = [dict(loaded or {"Image": None, "Inserted": False}) for _ in range(count)]
        self.is_late = is_late
        bmc.properties["VirtualMedia"] = {"@odata.id": DRIVES}
        bmc.resources[DRIVES] = {"Members": [{"@odata.id": f"{DRIVES}/{number}"} for number in range(count)]}
        for number in range(count):
            path = f"{DRIVES}/{number}"
            insert, eject = (f"{path}/Actions/VirtualMedia.{name}Media" for name in ("Insert", "Eject"))
            more = {"@Redfish.ActionInfo": f"{path}/InsertInfo"} if info else {}
            actions = {"Actions": {"#VirtualMedia.InsertMedia": {"target": insert, **more}, "#VirtualMedia.EjectMedia": {"target": eject}}}
            fixed = {"MediaTypes": list(kinds), **(actions if has_action else {})}
            bmc.actions["GET", path] = lambda body, _, number=number, fixed=fixed: (200, {**fixed, **self.states[number]}, {"ETag": f'"{self.version}"'})
            bmc.resources[f"{path}/InsertInfo"] = {"Parameters": info}
            if has_action:
                bmc.actions["POST", insert] = lambda body, _, number=number: self.insert(number, body)
                bmc.actions["POST", eject] = lambda body, headers, number=number: (
                    (415, None) if eject_wants_nothing and headers.get("Content-Type") else self.eject(number))
            else:
                bmc.actions["PATCH", path] = lambda body, headers, number=number: self.patch(number, body, headers)

    def insert(self, number, body):
        refused = self.wants(number, body)
        self.inserted.append((number, body))
        if refused and not self.is_late:
            return refused
        self.states[number] = {"Image": body["Image"], "Inserted": True}
        return refused or (204, None)

    def eject(self, number):
        self.ejected.append(number)
        self.states[number] = {"Image": None, "Inserted": False}
        return 204, None

    def patch(self, number, body, headers):
        if headers.get("If-Match") != f'"{self.version}"':
            return 412, {"error": {"message": "the resource has changed"}}
        return self.insert(number, body) if body["Image"] else self.eject(number)
