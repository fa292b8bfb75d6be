"""libiscsi's conformance suite, compared with the list of its outcomes.

    WRITE_CONFORMANCE=1 ... pytest integration/tests/iscsi -k conformance     writes the list again
"""

import os
import re
import subprocess

from support.iscsi_target import run
from support.programs import ROOT
from support.waiting import slowness

LIST = ROOT / "integration/fixtures/iscsi-conformance.md"
OUTCOMES = ("passes", "skips", "needs writes", "FAILS")
# These tests abort a write that the target refuses: whether the refusal or the abort comes first is chance.
RACES = {"ALL.iSCSITMF.AbortTaskSimpleAsync"}


def test_conformance_is_as_listed(target):
    names = re.findall(r"^(ALL\.\w+\.[\w-]+)$", run("iscsi-test-cu", "-l"), re.M)
    assert len(names) > 200, f"libiscsi lists its tests: {len(names)}"
    rows = [(name.removeprefix("ALL."), *outcome_of(target, name)) for name in names]
    failed = [row for row in rows if row[1] == "FAILS"]
    assert not failed, f"no test of libiscsi fails: {failed}"
    if "WRITE_CONFORMANCE" in os.environ:
        LIST.write_text(listing(rows))
    listed = {line.split(" | ")[0].lstrip("| "): line.split(" | ")[1] for line in LIST.read_text().splitlines()
              if re.match(r"\| \w+\.", line)}
    found = {name: outcome for name, outcome, _ in rows}
    # Another version of libiscsi may have other tests; the tests that both have must agree.
    differing = {name: (listed[name], found[name]) for name in listed.keys() & found.keys() if listed[name] != found[name]}
    assert not differing, f"outcomes are as listed: {differing}"
    print(", ".join(f"{sum(row[1] == outcome for row in rows)} of {len(rows)} {outcome}" for outcome in OUTCOMES[:3]))


def outcome_of(target, name):
    """Runs one test with every option that allows writes, since no medium here can be written.

    A test that fails because a write would have to succeed is run again as libiscsi treats read-only media.
    """
    outcome, reason = attempt(target, name, "-d", "-S")
    if outcome != "FAILS" and not (name in RACES and outcome == "passes"):
        return outcome, reason
    outcome, reason = attempt(target, name)
    return ("needs writes", reason) if outcome == "skips" else (outcome, reason)


def attempt(target, name, *options):
    done = subprocess.run(["iscsi-test-cu", "-n", *options, "-t", name, target.url(0)], capture_output=True, timeout=120 * slowness())
    text = done.stdout.decode(errors="replace")
    summary = re.search(r"^ +tests +(\d+) +(\d+) +(\d+) +(\d+)", text, re.M)
    if done.returncode or not summary or summary.groups() != ("1", "1", "1", "0"):
        return "FAILS", " ".join(re.findall(r"\[FAILED\].*", text))[:200]
    # The tool asks for reservations before and after each test, and reports that there are none.
    inside = text.split("cunit.sourceforge.net/")[1].split("Run Summary")[0]
    skipped = [line.strip() for line in re.findall(r"\[SKIPPED\](.*)", inside)]
    if skipped and skipped[-1].startswith("PERSISTENT RESERVE IN"):
        skipped.pop()
    return ("skips", "; ".join(dict.fromkeys(skipped))) if skipped else ("passes", "")


def listing(rows):
    count = {outcome: sum(row[1] == outcome for row in rows) for outcome in OUTCOMES}
    version = re.search(r"libiscsi-bin (\S+)", run("dpkg-query", "-W", "-f", "${Package} ${Version}", "libiscsi-bin"))[1]
    lines = [
        "# Results of libiscsi's conformance suite for a disk",
        "",
        f"`iscsi-test-cu` of libiscsi {version} runs each of its {len(rows)} tests against a read-only disk:",
        f"{count['passes']} pass, {count['skips']} skip what the target does not offer, {count['needs writes']} need a"
        f" medium that can be written, {count['FAILS']} fail.",
        "`integration/tests/iscsi/test_conformance.py` compares with this list, and writes it if WRITE_CONFORMANCE is set.",
        "",
        "All tests run with `--dataloss --allow-sanitize`: no data can be lost, and the refusal of a write is what is tested. A",
        "test that needs a write to succeed cannot pass here; libiscsi skips it without those options, which is its own way to",
        "report that a test does not apply. Reservations are not offered: one machine could take an image from all others.",
        "",
        "| test | outcome | libiscsi's reason |",
        "|---|---|---|",
    ]
    return "\n".join(lines + [f"| {name} | {outcome} | {reason} |" for name, outcome, reason in rows]) + "\n"
