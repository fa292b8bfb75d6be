"""Watches and lists: nothing is lost or repeated when clients are cut off, and expired versions are Gone."""

import random
import threading

from support.objects import CONFIGS, HOSTS, config, host
from support.waiting import slowness

HOSTS_OF_A_RACE = 40
WRITES = 600
WRITERS = 4
WATCHERS = 6


def test_a_watch_reports_every_change(server):
    ask = server.ask
    ask("POST", HOSTS, host("a", 1))
    watch = server.watch(f"{HOSTS}?watch=true")
    first = watch.next()
    assert first["type"] == "ADDED" and first["object"]["metadata"]["name"] == "a", f"a watch without a version starts with the existing objects: {first}"
    ask("PATCH", f"{HOSTS}/a", {"metadata": {"labels": {"x": "1"}}})
    ask("POST", CONFIGS, config("c"))
    ask("POST", HOSTS, host("b", 2))
    ask("DELETE", f"{HOSTS}/b")
    types = [event["type"] for event in watch.take(3)]
    assert types == ["MODIFIED", "ADDED", "DELETED"], f"a watch reports every later change, and no other kind's: {types}"
    watch.close()

    version = ask("GET", HOSTS).json["metadata"]["resourceVersion"]
    watch = server.watch(f"{HOSTS}?watch=true&resourceVersion={version}&labelSelector=x%3D1")
    ask("PATCH", f"{HOSTS}/a", {"metadata": {"labels": {"x": "2"}}})
    ask("PATCH", f"{HOSTS}/a", {"metadata": {"labels": {"x": "3"}}})
    ask("PATCH", f"{HOSTS}/a", {"metadata": {"labels": {"x": "1"}}})
    types = [event["type"] for event in watch.take(2)]
    assert types == ["DELETED", "ADDED"], f"an object that leaves the selection is DELETED, and ADDED when it returns: {types}"
    watch.close()
    watch = server.watch(f"{HOSTS}?watch=true&resourceVersion={version}&labelSelector=x%3D1")
    left, back = watch.take(2)
    watch.close()
    at = [int(event["object"]["metadata"]["resourceVersion"]) for event in (left, back)]
    assert left["object"]["metadata"]["labels"] == {"x": "1"}, f"an object that left the selection is reported in its last selected state: {left}"
    assert int(version) < at[0] < at[1] - 1, f"an object that left the selection has the version at which it left: {(version, at)}"
    watch = server.watch(f"{HOSTS}/a?watch=true")
    first = watch.next()
    ask("POST", HOSTS, host("c", 3))
    ask("DELETE", f"{HOSTS}/c")
    ask("PATCH", f"{HOSTS}/a", {"metadata": {"labels": {"y": "1"}}})
    second = watch.next()
    watch.close()
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in (first, second)] == [("ADDED", "a"), ("MODIFIED", "a")], (
        f"a watch of one object reports that object only: {(first, second)}")

    watch = server.watch(f"{HOSTS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
    events = watch.take(2)
    marked = events[1]["object"]["metadata"].get("annotations", {}).get("k8s.io/initial-events-end")
    assert [e["type"] for e in events] == ["ADDED", "BOOKMARK"] and marked == "true", f"a streamed list ends with a bookmark: {events}"
    watch.close()

    watch = server.watch(f"{HOSTS}?watch=true&timeoutSeconds=1")
    watch.take(1)
    assert watch.next() is None and watch.answer.isclosed(), "a watch ends after timeoutSeconds"

    ahead = server.watch(f"{HOSTS}?watch=true&resourceVersion=99999999").next()
    assert ahead["type"] == "ERROR" and ahead["object"]["code"] == 410, f"a watch from a future version is Gone: {ahead}"


def test_watchers_that_are_cut_off_lose_nothing(server):
    """Watchers are cut off at random while others write, and continue at the version that they had."""
    for number in range(HOSTS_OF_A_RACE):
        server.ask("POST", HOSTS, host(f"r{number}", 100 + number))
    start = server.ask("GET", HOSTS).json["metadata"]["resourceVersion"]
    answers, done = [], threading.Event()

    def write(seed):
        chance = random.Random(seed)
        for count in range(WRITES // WRITERS):
            name = f"r{chance.randrange(HOSTS_OF_A_RACE)}"
            made = server.ask("PATCH", f"{HOSTS}/{name}", {"metadata": {"labels": {"n": f"{seed}-{count}"}}})
            answers.append(made.json["metadata"]["resourceVersion"])

    def follow(seed, seen):
        chance, version = random.Random(seed), start
        while True:
            watch = server.watch(f"{HOSTS}?watch=true&resourceVersion={version}")
            for _ in range(chance.randrange(1, 60)):
                event = watch.poll(1)
                if event is None:
                    break
                version = event["object"]["metadata"]["resourceVersion"]
                seen.append(version)
            watch.close()
            if done.is_set() and seen and version == last[0]:
                return

    last, seen = [None], [[] for _ in range(WATCHERS)]
    watchers = [threading.Thread(target=follow, args=(n, seen[n])) for n in range(WATCHERS)]
    writers = [threading.Thread(target=write, args=(n,)) for n in range(WRITERS)]
    for thread in watchers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    expected = sorted(map(int, set(answers)))
    last[0] = str(expected[-1])
    done.set()
    for thread in watchers:
        thread.join(60 * slowness())
    assert len(answers) == WRITES, f"all {WRITES} writes by {WRITERS} writers were acknowledged"
    for number, versions in enumerate(seen):
        assert list(map(int, versions)) == expected, (
            f"watcher {number}, cut off repeatedly, saw each write once and in order: {len(versions)} of {len(expected)}")


def test_a_list_by_pages(server):
    for number in range(20):
        server.ask("POST", HOSTS, host(f"page{number}", 500 + number))
    total = len(server.ask("GET", HOSTS).json["items"])
    names, token, versions = [], "", set()
    while True:
        page = server.ask("GET", f"{HOSTS}?limit=7&continue={token}").json
        names += [item["metadata"]["name"] for item in page["items"]]
        versions.add(page["metadata"]["resourceVersion"])
        server.ask("POST", HOSTS, host(f"between{len(names)}", 1000 + len(names)))
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert len(names) == len(set(names)) == total and len(versions) == 1, f"all pages of a list show one version: {(len(names), total)}"
    page = server.ask("GET", f"{HOSTS}?limit=7").json["metadata"]
    both = server.ask("GET", f"{HOSTS}?limit=7&continue={page['continue']}&resourceVersion={page['resourceVersion']}")
    assert both.code == 400 and "resourceVersion" in both.json["message"], f"a continue token with a resourceVersion is refused: {both}"
    assert server.ask("GET", f"{HOSTS}?limit=7&continue=x").code == 400, "an invalid continue token is refused"
    assert server.ask("GET", f"{HOSTS}?limit=7&continue=1:default/a").code == 410, "an expired continue token is Gone"


def test_resource_version_match(server):
    """Exact lists the state of that version or is Gone; it never lists a later one."""
    ask = server.ask
    for number in range(4):
        ask("POST", HOSTS, host(f"exact{number}", 600 + number))
    page = ask("GET", f"{HOSTS}?limit=3").json
    version, names = page["metadata"]["resourceVersion"], [item["metadata"]["name"] for item in page["items"]]
    exactly = lambda version: ask("GET", f"{HOSTS}?limit=3&resourceVersionMatch=Exact&resourceVersion={version}")
    assert exactly(version).json["metadata"]["resourceVersion"] == version, "resourceVersionMatch=Exact lists the current version"
    ask("POST", HOSTS, host("0later", 5000))
    again = exactly(version).json
    assert (again["metadata"]["resourceVersion"], [item["metadata"]["name"] for item in again["items"]]) == (version, names), (
        f"resourceVersionMatch=Exact lists an earlier version unchanged: {again}")
    assert exactly(1).json["reason"] == "Expired" and exactly(10**9).code == 410, "resourceVersionMatch=Exact of a version that is not kept is Gone"
    assert exactly("").code == 400 and exactly(0).code == 400, "resourceVersionMatch=Exact without a version is refused"
    later = ask("GET", f"{HOSTS}?limit=3&resourceVersionMatch=NotOlderThan&resourceVersion={version}").json
    assert later["items"][0]["metadata"]["name"] == "0later", f"resourceVersionMatch=NotOlderThan lists the newest version: {later}"
    ask("DELETE", f"{HOSTS}/0later")


def test_a_watch_across_a_restart(server):
    """The history of changes starts again with the server."""
    for number, name in enumerate(("restart-a", "restart-b"), 700):
        server.ask("POST", HOSTS, host(name, number))
    start = server.ask("GET", HOSTS).json["metadata"]["resourceVersion"]
    before = server.ask("GET", HOSTS).json["items"][0]["metadata"]["resourceVersion"]
    server.restart()
    old = server.watch(f"{HOSTS}?watch=true&resourceVersion={before}").next()
    assert old["type"] == "ERROR" and old["object"]["reason"] == "Expired", f"a watch from a version before the history is Gone: {old}"
    watch = server.watch(f"{HOSTS}?watch=true&resourceVersion={start}")
    server.ask("PATCH", f"{HOSTS}/restart-a", {"metadata": {"labels": {"after": "restart"}}})
    assert watch.next()["type"] == "MODIFIED", "a watch from the newest version continues after a restart"
    watch.close()
