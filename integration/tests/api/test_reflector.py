"""The `kube` crate's reflector, a client by others, follows the API through a network that cuts connections off.

It must lose nothing, report nothing twice, and list again after 410.
"""

import json
import os
import queue
import random
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from support.objects import HOSTS, host
from support.server import PORT
from support.waiting import eventually, slowness

PROXY = 8081
HOSTS_OF_A_RACE, WRITES, WRITERS = 30, 2400, 3


def client():
    """Returns the path of the client: KUBE_CLIENT, or the program next to the binary under test."""
    path = Path(os.environ.get("KUBE_CLIENT", Path(os.environ["BOOTLATCH"]).resolve().parent / "kube-client"))
    assert path.is_file(), f"{path} does not exist: build integration's kube-client, or set KUBE_CLIENT to its path"
    return str(path)


class Proxy:
    """Passes connections on to the server, and cuts each off after some bytes of the answer, or all at once."""

    def __init__(self):
        self.chance, self.cuts, self.cutting, self.open = random.Random(7), 0, False, True
        self.passing = set()
        self.listener = socket.create_server(("127.0.0.1", PROXY))
        threading.Thread(target=self.accept_all, daemon=True).start()

    def accept_all(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if not self.open:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", PORT))
            self.passing.add((near, far))
            threading.Thread(target=self.carry, args=(near, far, None), daemon=True).start()
            left = self.chance.randrange(500, 30_000) if self.cutting else None
            threading.Thread(target=self.carry, args=(far, near, left), daemon=True).start()

    def carry(self, source, sink, left):
        try:
            while data := source.recv(4096 if left is None else min(4096, left)):
                sink.sendall(data)
                if left is not None and (left := left - len(data)) <= 0:
                    self.cuts += 1
                    break
        except OSError:
            pass
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        """Cuts every open connection off."""
        for pair in list(self.passing):
            self.passing.discard(pair)
            for one in pair:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()


class Reflector:
    """The client process, its events, and the objects that it holds."""

    def __init__(self, server, how):
        self.process = subprocess.Popen([client(), f"http://127.0.0.1:{PROXY}", server.token, how],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.events, self.answers = [], queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            (self.answers.put if event["event"] == "held" else self.events.append)(event)

    def held(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answers.get(timeout=10 * slowness())["held"]

    def of(self, *kinds):
        return [event for event in list(self.events) if event["event"] in kinds]

    def close(self):
        self.process.stdin.close()
        self.process.wait(10 * slowness())


def there(server):
    """Returns the versions of the hosts of the server by name."""
    return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in server.ask("GET", HOSTS).json["items"]}


@pytest.fixture(scope="module")
def proxy(server):
    for seed in range(WRITERS):
        for number in range(HOSTS_OF_A_RACE // WRITERS):
            server.ask("POST", HOSTS, host(f"r{seed}-{number}", 1000 * (seed + 1) + number))
    proxy = Proxy()
    yield proxy
    proxy.close()


@pytest.mark.parametrize("how", ["list", "stream"])
def test_a_client_that_is_cut_off_loses_nothing(server, proxy, how):
    reflector = Reflector(server, how)
    assert eventually(lambda: reflector.of("init-done"), 10), f"{how}: the first list ends: " + str(reflector.events[-3:])
    kinds = reflector.of("kinds")[0]["names"]
    partial = reflector.of("metadata")
    assert (partial and partial[0]["types"] == {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList"}
          and partial[0]["versions"].keys() == {item["metadata"]["name"] for item in server.ask("GET", HOSTS).json["items"]}), (
        f"{how}: metadata alone is listed: {partial}")
    assert sorted(kinds) == ["baremetalhosts/BareMetalHost", "bootconfigs/BootConfig", "configtemplates/ConfigTemplate", "events/Event", "iscsi-cdroms/ISCSICdrom", "namespaces/Namespace"], (
        f"{how}: discovery lists the four kinds, and the two that are only read: {kinds}")
    assert reflector.held() == there(server), f"{how}: the client holds the server's objects"
    reflector.events.clear()
    made, gone = [], []
    # The first cut ends the open connection; later ones are cut after some bytes.
    proxy.cutting, proxy.cuts = True, 0
    proxy.cut()

    def write(seed):
        chance = random.Random(seed)
        for count in range(WRITES // WRITERS):
            name = f"r{seed}-{chance.randrange(HOSTS_OF_A_RACE // WRITERS)}"
            if count % 50 == 49:
                server.ask("DELETE", f"{HOSTS}/{name}")
                gone.append(name)
                answer = server.ask("POST", HOSTS, host(name, 1000 * (seed + 1) + int(name.split("-")[1])))
            else:
                answer = server.ask("PATCH", f"{HOSTS}/{name}", {"metadata": {"labels": {"n": f"{how}-{seed}-{count}"}}})
            made.append(int(answer.json["metadata"]["resourceVersion"]))

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    cuts, proxy.cutting = proxy.cuts, False
    proxy.cut()
    caught_up = eventually(lambda: len(reflector.of("apply")) >= len(made) and reflector.held() == there(server), 20)
    assert caught_up, (
        f"{how}: the client holds the server's objects after {WRITES} writes and {cuts} cuts: " + str((len(made), len(reflector.of("apply")), reflector.of("error")[:3])))
    assert cuts > 20, f"{how}: the client was cut off more than 20 times: {cuts}"
    assert not reflector.of("init"), f'{how}: the client never had to list again: {len(reflector.of("init"))}'
    seen = [int(event["version"]) for event in reflector.of("apply")]
    assert seen == sorted(made), f"{how}: each write was reported once, in order: {(len(seen), len(made))}"
    assert sorted(event["name"] for event in reflector.of("delete")) == sorted(gone), f"{how}: each deletion was reported once"
    reflector.close()


def test_a_client_behind_the_history_lists_again(server, proxy):
    reflector = Reflector(server, "list")
    eventually(lambda: reflector.of("init-done"), 10)
    proxy.open = False
    proxy.cut()
    server.ask("PATCH", f"{HOSTS}/r0-0", {"metadata": {"labels": {"n": "while-away"}}})
    server.ask("DELETE", f"{HOSTS}/r1-1")
    # The history of changes starts again with the server.
    server.restart()
    server.ask("PATCH", f"{HOSTS}/r0-1", {"metadata": {"labels": {"n": "after"}}})
    proxy.open = True
    again = eventually(lambda: len(reflector.of("init-done")) == 2 and reflector.held() == there(server), 20)
    assert again, "a client behind the history lists again and holds the server's objects: " + str(reflector.events[-5:])
    assert (any("410" in event["message"] or "Expired" in event["message"] or "too old" in event["message"]
                                         for event in reflector.of("error"))), (
        "a client behind the history receives 410: " + str(reflector.of("error")[-3:]))
    server.ask("PATCH", f"{HOSTS}/r0-2", {"metadata": {"labels": {"n": "live"}}})
    assert eventually(lambda: reflector.held() == there(server), 10), "the client follows later changes"
    reflector.close()
