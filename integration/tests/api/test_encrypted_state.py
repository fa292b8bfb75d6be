"""The state directory with an encryption key."""

import json

from support.objects import CONFIGS, HOSTS, config, host

SECRET = "hunter2-geheim"


def test_the_state_is_encrypted_with_a_key(server):
    server.ask("POST", HOSTS, host("bmc", 20, bmc={"address": "b", "password": SECRET}))
    pull = config("pull", json.dumps({"ignition": {"version": "3.4.0"}, "storage": {"files": [{"path": "/p", "contents": {"source": f"data:,{SECRET}"}}]}}))
    server.ask("POST", CONFIGS, pull)
    everything = lambda: b"".join(path.read_bytes() for path in server.state.glob("bootlatch.db*"))
    assert SECRET.encode() in everything(), "without a key the state is not encrypted"
    # A report of the machine's BMC may come in between.
    kept = lambda: [{**item, "metadata": {**item["metadata"], "resourceVersion": ""}, "status": item["status"]["phase"]}
                    for item in server.ask("GET", "/api/v1/baremetalhosts").json["items"]]
    before = kept()
    (server.place / "state.key").write_text("ab" * 32)
    server.config = f'[store]\nencryption_key_file = "{server.place}/state.key"\n'
    server.restart()
    assert SECRET.encode() not in everything(), "with a key the existing state is encrypted"
    assert kept() == before, "encryption keeps the existing objects"
    server.ask("POST", HOSTS, host("bmc2", 21, bmc={"address": "b", "password": SECRET}))
    assert SECRET.encode() not in everything(), "new objects are encrypted"
    server.restart()
    assert server.ask("GET", f"{HOSTS}/bmc2").code == 200, "the objects are there after a restart"
    for what, text in (("the wrong key", f'[store]\nencryption_key_file = "{server.place}/other.key"\n'), ("no key", "")):
        (server.place / "other.key").write_text("cd" * 32)
        server.stop()
        server.config = text
        try:
            server.start()
            said = "it started"
        except RuntimeError as error:
            said = str(error)
        assert "encrypted" in said and "store.encryption_key_file" in said, f"with {what} the server does not start, and names the reason: {said}"
    server.config = f'[store]\nencryption_key_file = "{server.place}/state.key"\n'
    server.start()
