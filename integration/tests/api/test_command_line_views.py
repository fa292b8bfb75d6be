"""The command line shows objects: one family of commands with the same tables and formats."""

import json
import subprocess
import time

import pytest

from support.following import Following
from support.objects import HOSTS, IMAGES, host, image, timeline
from support.terminals import shown
from support.waiting import eventually, slowness

pytestmark = pytest.mark.usefixtures("example_objects")


def on_terminal(server, columns, *words, **environment):
    return shown([server.binary, *words], columns, {"BOOTLATCH_SERVER": f"unix:{server.state}/api.sock", **environment})


def test_every_command_that_shows_hosts_has_the_same_form(server):
    run = server.run
    listed = [run(*words).stdout for words in (("get", "hosts"), ("get", "bmh"), ("host", "list"), ("host", "show", "one"), ("get", "host/one"), ("get", "host", "one"))]
    heads = {text.splitlines()[0] for text in listed}
    assert len(heads) == 1 and "MAC" in heads.pop(), f"all have the same columns: {listed}"
    assert len({text.splitlines()[1].split()[:6].__str__() for text in listed}) == 1, f"and the same row: {listed}"
    for words in (("iso", "list"), ("iso", "show", "live"), ("config", "list"), ("config", "show", "builder"), ("host", "list")):
        for output in ("table", "wide", "name", "yaml", "json"):
            done = run(*words, "-o", output)
            assert done.returncode == 0 and done.stdout, f"{words} -o {output}: {done}"
    assert run("iso", "list", "-o", "name").stdout == "iscsicdrom/live\n", "iso list -o name prints kind and name"
    assert "LAST SEEN" in run("host", "list", "-o", "wide").stdout, "host list has the wide columns of get"


def test_several_kinds_and_names(server):
    server.ask("POST", HOSTS, host("two", 2))
    run = server.run
    both = run("get", "hosts,isos")
    assert "baremetalhost/one" in both.stdout and "iscsicdrom/live" in both.stdout and both.stdout.count("NAME") == 2, f"several kinds are tables of their own: {both}"
    names = run("get", "hosts,isos,configs", "-o", "name").stdout.split()
    assert names == ["baremetalhost/one", "baremetalhost/two", "iscsicdrom/live", "bootconfig/builder"], f"-o name of several kinds: {names}"
    again = run("get", *names, "-o", "name").stdout.split()
    assert again == names, f"get takes back what -o name printed: {again}"
    listed = json.loads(run("get", *names, "-o", "json").stdout)
    assert listed["kind"] == "List" and [item["kind"] for item in listed["items"]] == ["BareMetalHost", "BareMetalHost", "ISCSICdrom", "BootConfig"], f"several objects are a list: {listed}"
    some = run("get", "host", "one", "nobody", "two")
    assert some.returncode == 4 and some.stdout.count("\n") == 3 and "nobody" in some.stderr, f"a missing object does not hide the others: {some}"
    for words in (("get",), ("get", "pods"), ("get", "hosts,isos", "one"), ("get", "host", "one", "-l", "a=b")):
        done = run(*words)
        assert done.returncode == 2 and done.stderr, f"{words} is wrong usage: {done}"


def test_a_mac_address_is_a_name(server):
    run, mac = server.run, "52:54:00:00:00:01"
    for word in (mac, mac.upper(), mac.replace(":", "-"), "5254.0000.0001"):
        assert run("get", "host", word, "-o", "name").stdout == "baremetalhost/one\n", f"get finds the host by {word}"
    assert run("get", "host", mac, "-A", "-o", "name").stdout == "baremetalhost/one\n" and "one" in run("get", "host", mac, "-A").stdout, "get -A finds the host"
    for words in ((), ("-A",)):
        watched = run("watch", "host", mac, "-o", "name", "--timeout", "2s", *words)
        assert watched.stdout == "baremetalhost/one\n", f"watch {words} finds the host: {watched}"
    cloud, seed = server.place / "user-data", server.place / "mac.iso"
    cloud.write_text("#cloud-config\nhostname: a\n")
    run("config", "add", "cloud", cloud, "--format", "cloud-init")
    server.ask("POST", IMAGES, image("clouded", ["cloud"]))
    added = run("host", "add", "two", "--mac", "52:54:00:00:00:02", "--image", "clouded", "--config", "cloud")
    assert added.returncode == 0, added
    built = run("seed", "build", seed, "--host", "5254.0000.0002")
    assert built.returncode == 0 and seed.stat().st_mode & 0o777 == 0o600, f"seed build finds the host, and writes a file for its owner: {built}"
    assert "Held" in run("host", "hold", mac).stdout, "host hold finds the host by its MAC address"
    unknown = run("host", "show", "52:54:00:00:00:99")
    assert unknown.returncode == 4 and "52:54:00:00:00:99" in unknown.stderr, f"an unknown MAC address is named: {unknown}"


def test_namespaces(server):
    lab = {**host("three", 3), "metadata": {"name": "three", "namespace": "lab"}}
    assert server.ask("POST", "/api/v1/namespaces/lab/baremetalhosts", lab).code == 201
    run = server.run
    every = [line.split()[:2] for line in run("get", "hosts", "-A").stdout.splitlines()]
    assert every == [["NAMESPACE", "NAME"], ["default", "one"], ["lab", "three"]], f"-A shows the namespaces: {every}"
    assert run("get", "host", "three").returncode == 4 and run("get", "host", "three", "-n", "lab").returncode == 0, "-n selects the namespace"
    found = run("get", "host", "three", "-A")
    assert found.stdout.splitlines()[1].split()[:2] == ["lab", "three"], f"a name is found in all namespaces: {found}"
    assert "NAMESPACE" not in run("get", "isos", "-A").stdout, "kinds without a namespace have no such column"
    empty = run("get", "hosts", "-n", "nowhere")
    assert empty.returncode == 0 and empty.stdout == "" and "no hosts found in namespace nowhere" in empty.stderr, f"an empty table says so: {empty}"


def test_sizes_are_for_people(server):
    size = server.run("get", "iso", "live").stdout.splitlines()[1].split()[2]
    assert size.endswith("KiB") or size.endswith("MiB"), f"the size of an ISO has a unit: {size}"


def test_yaml_round_trips(server):
    run = server.run
    kept = run("get", "hosts,isos,configs", "-o", "yaml")
    assert "managedFields" not in kept.stdout, f"YAML has no managed fields: {kept}"
    assert "managedFields" in run("get", "host", "one", "-o", "yaml", "--show-managed-fields").stdout, "unless they are asked for"
    back = run("apply", "--force", "-f", "-", stdin=kept.stdout)
    assert back.returncode == 0 and back.stdout.count("configured") + back.stdout.count("unchanged") == 3, f"apply takes back what get -o yaml printed: {back}"
    again = run("apply", "-f", "-", stdin=run("get", "hosts,isos,configs", "-o", "yaml").stdout)
    assert again.returncode == 0 and again.stdout.count("unchanged") == 3, f"a second time nothing changes: {again}"
    server.ask("DELETE", f"{HOSTS}/one")
    made = run("apply", "-f", "-", stdin=kept.stdout)
    assert made.returncode == 0 and "BareMetalHost one created" in made.stdout, f"a deleted object is created again: {made}"


def test_describe(server):
    text = server.run("describe", "host/one").stdout
    assert "managedFields" not in text and "bootMACAddress" in text and "EVENT" in text, f"describe shows the object and its timeline: {text}"
    assert server.run("describe", "hosts").returncode == 2, "describe needs a name"


def test_narrow_terminals(server):
    server.ask("PATCH", f"{IMAGES}/live", {"spec": {"description": "x" * 60}}, "application/merge-patch+json")
    wide, _ = on_terminal(server, 250, "get", "isos", "-o", "wide")
    assert "Ready" in wide and "TARGET" in wide and "…" not in wide, f"a wide terminal shows everything: {wide}"
    narrow, notes = on_terminal(server, 70, "get", "isos", "-o", "wide")
    assert all(len(line) <= 70 for line in narrow.splitlines()) and len(narrow.splitlines()) == 2 and "live" in narrow, f"a narrow one has a line for each row: {narrow!r}"
    tiny, notes = on_terminal(server, 20, "get", "isos", "-o", "wide")
    assert "live" in tiny and len(tiny.splitlines()) == 2 and "columns not shown" in notes, f"columns that do not fit are left out, which is said: {tiny!r} {notes}"
    assert "TARGET" in server.run("get", "isos", "-o", "wide", COLUMNS="20").stdout, "a pipe gets everything"


def test_no_color(server):
    coloured, _ = on_terminal(server, 100, "--help")
    plain, _ = on_terminal(server, 100, "--help", NO_COLOR="1")
    assert "\x1b[" in coloured and "\x1b[" not in plain, "NO_COLOR turns colours off"
    assert "\x1b[" not in server.run("get", "hosts").stdout, "a pipe has no colours"


def test_a_closed_pipe_ends_a_command_quietly(server):
    for number in range(2, 40):
        server.ask("POST", HOSTS, host(f"h{number}", number))
    for count in (1, 39):  # with more to print, and with nothing until something happens
        line = f"{server.binary} --server unix:{server.state}/api.sock watch hosts -o json | head -n {count} | wc -l; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60 * slowness())
        assert done.stdout.split() == [str(count), "0"] and done.stderr == "", f"watch ends with its reader: {done}"


def test_watch_and_timeline_end_after_the_timeout(server):
    done = server.run("watch", "host/one", "--timeout", "1s")
    assert done.returncode == 0 and "one" in done.stdout and "(--timeout)" in done.stderr, f"watch says why it ended: {done}"
    server.run("host", "hold", "one")
    assert eventually(lambda: timeline(server, "one", "held"))
    done = server.run("logs", "-f", "one", "--timeout", "1s")
    assert "held" in done.stdout and "(--timeout)" in done.stderr, f"logs -f prints the events: {done}"


def followed(server, *more):
    return Following([server.binary, "--server", f"unix:{server.state}/api.sock", "timeline", "-f", *more])


def test_logs_follow_new_events(server):
    following = followed(server, "one")
    try:
        assert "assigned" in following.line() + following.line(), "the events so far are printed first"
        server.run("host", "hold", "one")
        following.until(lambda line: "held" in line)
    finally:
        following.end()
    every = server.run("timeline", "-o", "json")
    assert any(entry["event"] == "held" and entry["host"] == "one" for entry in json.loads(every.stdout)), f"timeline without a host is the server's: {every}"


def test_a_followed_timeline_is_sent_and_not_asked_for(server):
    def requests():
        text = server.ask("GET", "/metrics", token=None).text
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith("bootlatch_http_request_duration_seconds_count")))

    following = followed(server, "-o", "json")
    try:
        assert json.loads(following.line())["event"]
        before = requests()
        time.sleep(3)  # a time in which it would ask again
        assert requests() - before == 1, "only this test has asked"
        asked = time.monotonic()
        assert server.ask("POST", f"{HOSTS}/one/hold").code < 300
        entry = json.loads(following.until(lambda line: json.loads(line)["event"] == "held"))
        assert (entry["host"], entry["mac"]) == ("one", "52:54:00:00:00:01")
        assert time.monotonic() - asked < 3 * slowness()
    finally:
        following.end()


def test_a_followed_timeline_goes_on_after_a_restart_and_prints_nothing_twice(server):
    assert server.ask("POST", HOSTS, host("followed", 177)).code == 201
    following = followed(server, "followed", "-o", "json")
    try:
        assert server.ask("POST", f"{HOSTS}/followed/hold").code < 300
        following.until(lambda line: json.loads(line)["event"] == "held")
        server.restart()
        assert server.ask("POST", f"{HOSTS}/followed/localboot").code < 300
        following.until(lambda line: json.loads(line)["event"] == "local_boot_requested")
        codes = [json.loads(line)["event"] for line in following.seen]
        assert codes.count("held") == 1 and codes.count("local_boot_requested") == 1, codes
    finally:
        following.end()


def test_the_timeline_of_an_iso_is_watched(server):
    assert server.ask("POST", IMAGES, image("watched")).code == 201
    watch = server.watch(f"{IMAGES}/watched/timeline?watch=true")
    assert watch.code == 200
    assert server.ask("POST", HOSTS, host("other", 178, image="live")).code == 201
    assert server.ask("POST", HOSTS, host("watcher", 179, image="watched")).code == 201
    found = watch.next()
    assert (found["event"], found["host"], found["detail"]) == ("assigned", "watcher", {"image": "watched"}), found
    watch.close()
    assert server.ask("GET", f"{IMAGES}/absent/timeline?watch=true").code == 404


def test_explain(server):
    run = server.run
    text = run("explain", "host").stdout
    assert text.startswith("BareMetalHost <object>") and "  spec <object" in text, f"explain lists the fields of a kind: {text}"
    assert "address <string" in run("explain", "host.spec.bmc").stdout, "explain follows a path"
    assert "once" in run("explain", "bmh.spec.bootMode").stdout, "explain shows the values of a field"
    wrong = run("explain", "host.spec.imag")
    assert wrong.returncode == 4 and "imag" in wrong.stderr and "image" in wrong.stderr, f"an unknown field is named with the known ones: {wrong}"
    assert run("explain", "pods").returncode == 2, "an unknown kind is wrong usage"


def test_an_empty_list_of_isos_has_the_unfinished_uploads(server):
    text = server.run("iso", "list").stdout
    assert text.splitlines()[0].split()[:3] == ["NAME", "PHASE", "SIZE"], f"iso list is the table of get: {text}"
    assert server.ask("POST", IMAGES, image("second")).code == 201
    assert server.run("iso", "show", "live", "second", "-o", "name").stdout == "iscsicdrom/live\niscsicdrom/second\n", "iso show takes several names"
