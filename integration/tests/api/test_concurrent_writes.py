"""Writes without a version by many clients at once."""

import json
import threading

from support.objects import HOSTS, host


def test_concurrent_patches_and_applies(server):
    """Concurrent changes without a version are all kept."""
    server.ask("POST", HOSTS, host("raced", 61))
    at, writers, each = f"{HOSTS}/raced", 40, 5
    begin, codes = threading.Barrier(writers), []

    def write(writer):
        begin.wait()
        for turn in range(each):
            label = f"w{writer}-{turn}"
            step = [{"op": "add", "path": f"/metadata/annotations/{label}", "value": "x"}]
            ways = (({"metadata": {"annotations": {label: "x"}}}, "application/merge-patch+json"), (step, "application/json-patch+json"),
                    ({"metadata": {"annotations": {label: "x"}}}, "application/apply-patch+yaml"))
            body, kind = ways[(writer + turn) % 3]
            codes.append(server.ask("PATCH", f"{at}?fieldManager={label}", body, kind).code)

    server.ask("PATCH", at, {"metadata": {"annotations": {"first": "x"}}})
    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert codes == [200] * (writers * each), "none of 200 patches by 40 concurrent writers is a conflict: " + str({code: codes.count(code) for code in codes})
    notes = server.ask("GET", at).json["metadata"]["annotations"]
    assert len(notes) == writers * each + 1, f"every one of the 200 patches is stored: {len(notes)}"
    server.ask("DELETE", at)
    begin.reset()
    made = []

    def create(writer):
        begin.wait()
        declared = {**host("raced", 61), "metadata": {"name": "raced", "annotations": {f"w{writer}": "x"}}}
        made.append(server.ask("PATCH", f"{at}?fieldManager=w{writer}", json.dumps(declared), "application/apply-patch+yaml").code)

    threads = [threading.Thread(target=create, args=(writer,)) for writer in range(writers)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(made) == [200] * (writers - 1) + [201], f"of 40 concurrent applies of a new object one creates it and the others change it: {made}"
    server.ask("DELETE", at)
