"""Generated configs as files of a volume, also when a disk is full and the server is killed."""

import contextlib
import http.client
import random
import re
import subprocess
import threading
import time

import pytest

from support.generated_configs import CLOUDINIT, IGNITION, ROLES, leaks, named, node, okd, served
from support.objects import CONFIGS, HOSTS, host
from support.waiting import slowness


@pytest.fixture(scope="module")
def server(start_server):
    """A server with an encrypted state and the volumes local-zfs (in snippets), nfs, full, and missing, which does not exist."""
    server = start_server()
    (server.place / "state.key").write_text("ab" * 32)
    for name in ("snippets", "nfs", "full"):
        (server.place / name).mkdir()
    volume = lambda name, directory: f'[[volumes]]\nname = "{name}"\ndirectory = "{server.place}/{directory}"\n'
    server.config = f'[store]\nencryption_key_file = "{server.place}/state.key"\n' + volume("local-zfs", "snippets") + volume("nfs", "nfs") + volume("full", "full") + volume("missing", "missing")
    yield server.restart()
    log = server.all_logs()
    assert not leaks(log), f"the log contains no pull secret at the end: {leaks(log)}"


def names(directory):
    """Returns the names of the files in a directory."""
    return sorted(path.name for path in directory.iterdir())


def cluster(name):
    return {"name": name, "baseDomain": "example.com"}


def stamps(directory):
    """Returns inode, time and size of each file in a directory."""
    return {path.name: (path.lstat().st_ino, path.lstat().st_mtime_ns, path.lstat().st_size) for path in directory.iterdir()}


def test_files_in_a_volume(server, key):
    ask, place = server.ask, server.place / "snippets"
    made = ask("POST", IGNITION, okd(key))
    assert made.code == 200 and made.json["configs"] == {role: f"local-zfs:snippets/okd-prod-{role}.ign" for role in ROLES}, (
        f"files are referenced in Proxmox's form: {made}")
    cloud = ask("POST", CLOUDINIT, node(key))
    ask("POST", HOSTS, host("boot", 40, ip="192.0.2.40", bootConfigRef="okd-prod-bootstrap"))
    references = {**made.json["configs"], **cloud.json["configs"]}
    differ = [name for name in map(named, references.values()) if (place / name).read_text() != served(server, name, "192.0.2.40").text]
    assert not differ and len(references) == 6, f"each file has the content that is served: {differ}"
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in place.iterdir()}
    assert modes["okd-prod-bootstrap.ign"] == "0o640" and modes["okd-prod-master.ign"] == modes["k8s-master-01-user.yaml"] == "0o644", (
        f"the file with the pull secret is not readable by everyone: {modes}")
    before, version = stamps(place), ask("GET", CONFIGS).json["metadata"]["resourceVersion"]
    assert (ask("POST", IGNITION, okd(key)).json == made.json and ask("POST", CLOUDINIT, node(key)).json == cloud.json
          and stamps(place) == before and ask("GET", CONFIGS).json["metadata"]["resourceVersion"] == version), (
        "generating the same again touches no file")
    ask("POST", f"{CLOUDINIT}?dryRun=All", node(key, packages=["vim"]))
    assert stamps(place) == before, "a dry run touches no file"
    ask("POST", CLOUDINIT, node(key, packages=["vim"], network=None))
    assert "- vim" in (place / "k8s-master-01-user.yaml").read_text() and not (place / "k8s-master-01-network.yaml").exists(), (
        f"a change replaces files and removes those that are no longer generated: {stamps(place)}")
    moved = ask("POST", CLOUDINIT, node(key, volume="nfs"))
    assert (moved.json["userdata"] == "nfs:snippets/k8s-master-01-user.yaml" and len(names(server.place / "nfs")) == 3
          and not [name for name in names(place) if name.startswith("k8s")]), (
        f"a volume is chosen by its name: {(moved, names(place))}")
    ask("POST", CLOUDINIT, node(key, volume="bootlatch"))
    assert not names(server.place / "nfs"), f'the built-in store is chosen by its name: {names(server.place / "nfs")}'
    ask("POST", CLOUDINIT, node(key))
    gone = ask("DELETE", f"{CONFIGS}/k8s-master-01")
    assert gone.code == 200 and not [name for name in names(place) if name.startswith("k8s")], f"the files of a deleted config are removed: {names(place)}"


def test_files_that_cannot_be_written(server, key):
    ask, place = server.ask, server.place / "snippets"
    def refused(what, name, code, body, path=IGNITION):
        before, version = stamps(place), ask("GET", CONFIGS).json["metadata"]["resourceVersion"]
        answer = ask("POST", path, body)
        left = ask("GET", CONFIGS).json
        assert answer.code == code and name in answer.json["message"] and stamps(place) == before and left["metadata"]["resourceVersion"] == version, (
            f"{what}: {(answer, names(place))}")

    (place / "okd-dir-worker.ign").mkdir()
    refused("a directory in a file's place is an error, and nothing is written", "okd-dir-worker.ign", 503, okd(key, cluster=cluster("dir")))
    (place / "okd-theirs-worker.ign").write_text("by hand")
    refused("a file that was written by hand is not replaced", "okd-theirs-worker.ign", 409, okd(key, cluster=cluster("theirs")))
    target = server.place / "target"
    target.write_text("theirs")
    (place / "okd-link-worker.ign").symlink_to(target)
    refused("a link is not written through", "okd-link-worker.ign", 503, okd(key, cluster=cluster("link")))
    assert target.read_text() == "theirs", "the target of the link is unchanged"
    (place / "away-user.yaml").symlink_to(server.place / "made-by-a-link")
    refused("a dangling link is not written through", "away-user.yaml", 503, node(key, hostname="away"), CLOUDINIT)
    assert not (server.place / "made-by-a-link").exists(), "nothing is created behind a dangling link"


def test_a_full_volume(server, key):
    ask = server.ask
    full = server.place / "full"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", full], check=True)
    try:
        version = ask("GET", CONFIGS).json["metadata"]["resourceVersion"]
        answer = ask("POST", IGNITION, okd(key, cluster=cluster("full"), volume="full"))
        assert (answer.code == 503 and "full" in answer.json["message"] and not names(full)
              and ask("GET", CONFIGS).json["metadata"]["resourceVersion"] == version), (
            f"a full volume leaves no partial file and no object, and is reported: {(answer, names(full))}")
        small = ask("POST", CLOUDINIT, {"hostname": "small", "volume": "full"})
        before = {path.name: path.read_text() for path in full.iterdir()}
        larger = ask("POST", CLOUDINIT, node(key, hostname="small", volume="full", packages=["p" * 100] * 80))
        assert small.code == 200 and larger.code == 503 and {path.name: path.read_text() for path in full.iterdir()} == before, (
            f"existing files on a full volume stay complete: {(small, larger)}")
    finally:
        subprocess.run(["umount", full], check=True)


def test_a_missing_volume(server, key):
    ask = server.ask
    answer = ask("POST", CLOUDINIT, node(key, hostname="lost", volume="missing"))
    assert answer.code == 503 and "missing" in answer.json["message"] and ask("GET", f"{CONFIGS}/lost").code == 404, f"a missing volume is reported: {answer}"
    assert re.search('WARN .*volume="?missing', server.all_logs()), "a missing volume is logged at the start"


def test_a_full_state_directory(server, key):
    """The files of a request are restored if the state cannot be written."""
    ask, place = server.ask, server.place / "snippets"
    server.stop()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", server.state], check=True)
    try:
        server.start()
        small = {"hostname": "unwritten"}
        first = server.ask("POST", CLOUDINIT, small)
        before = (place / "unwritten-user.yaml").read_text()
        with contextlib.suppress(OSError), open(server.state / "fill", "wb", buffering=0) as fill:
            while fill.write(bytes(4096)) == 4096:
                pass
        large = node(key, hostname="unwritten", packages=["p" * 100] * 9000)
        wrong = ask("POST", CLOUDINIT, large)
        names = sorted(path.name for path in place.glob("*unwritten*"))
        assert (first.code == 200 and wrong.code == 503 and (place / "unwritten-user.yaml").read_text() == before
              and names == ["unwritten-meta.yaml", "unwritten-user.yaml"]), (
            f"files are unchanged if the state directory is full: {(first, wrong, names)}")
        (server.state / "fill").unlink()
        small = ask("POST", CLOUDINIT, node(key, hostname="unwritten", packages=["p" * 100] * 2000))
        assert small.code == 200 and "p" * 100 in (place / "unwritten-user.yaml").read_text(), f"files are written once the state directory has space: {small}"
    finally:
        server.stop()
        subprocess.run(["umount", server.state], check=True)
        server.start()


def test_concurrent_requests_for_one_name(server, key):
    """The files of the volume and of the state are from the same request."""
    place = server.place / "snippets"
    answers = []
    def generate(number):
        answers.append(server.ask("POST", CLOUDINIT, node(key, hostname="raced", packages=[f"p{number}"])).code)
    threads = [threading.Thread(target=generate, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = server.ask("GET", f"{CONFIGS}/raced").json["spec"]["data"]
    files = {"user-data": "user", "meta-data": "meta", "network-config": "network"}
    assert answers == [200] * 24 and all((place / f"raced-{name}.yaml").read_text() == data[file] for file, name in files.items()), (
        f"24 concurrent requests for one name leave one consistent set of files: {answers}")


ROUNDS = 6


def test_kills_during_requests(server, key):
    """kill -9 during many requests leaves complete files and every acknowledged request."""
    place, names = server.place / "snippets", [f"kill{number}" for number in range(6)]
    filler = ["x" * 100] * 300
    acknowledged, bad, rounds = {}, [], 0
    request = lambda name, number: node(key, hostname=name, packages=[f"number-{number}", *filler], network=None)
    number_in = lambda text: int(re.search(r"number-(\d+)", text)[1])
    for turn in range(ROUNDS):
        stop, sent = threading.Event(), [0]
        def work(name, turn=turn):
            number = turn * 100_000
            while not stop.is_set():
                number += 1
                with contextlib.suppress(OSError, http.client.HTTPException):
                    if server.ask("POST", CLOUDINIT, request(name, number)).code == 200:
                        acknowledged[name] = number
                        sent[0] += 1
        threads = [threading.Thread(target=work, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        aim = random.Random(turn).randrange(5, 40)
        deadline = time.monotonic() + 20 * slowness()
        while sent[0] < aim and time.monotonic() < deadline:
            time.sleep(0.001)
        stop.set()
        server.stop(9)
        for thread in threads:
            thread.join()
        rounds += sent[0] >= aim
        for path in place.glob("kill*.yaml"):
            text = path.read_text()
            whole = text.endswith("\n") and (path.name.endswith("-meta.yaml") and text.startswith("instance-id:") and "local-hostname:" in text
                                             or text.startswith("#cloud-config\n") and text.count("x" * 100 + "\n") == len(filler) and "runcmd" in text)
            if not whole:
                bad.append((turn, path.name, text[:200], text[-200:]))
        server.start()
        for name, number in acknowledged.items():
            found = number_in(server.ask("GET", f"{CONFIGS}/{name}").json["spec"]["data"]["user-data"])
            in_file = number_in((place / f"{name}-user.yaml").read_text())
            if not number <= found <= in_file:
                bad.append((turn, name, "acknowledged", number, "found", found, "in the file", in_file))
    assert not bad and rounds == ROUNDS, f"after {rounds} kills every file is complete and no acknowledged request is lost: {bad}"
    last = [server.ask("POST", CLOUDINIT, request(name, 999_999)) for name in names]
    same = [(place / f"{name}-user.yaml").read_text() == server.ask("GET", f"{CONFIGS}/{name}").json["spec"]["data"]["user-data"] for name in names]
    left = [path.name for path in place.iterdir() if path.name.startswith(".")]
    assert all(answer.code == 200 for answer in last) and all(same) and not left, (
        f"the next request restores consistency and leaves no temporary file: {(last, left)}")
