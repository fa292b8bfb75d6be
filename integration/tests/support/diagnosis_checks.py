"""What is checked of a staged boot: the diagnosis, that all voices of the server agree, that it is taken back, and silence."""

import json
import re
from pathlib import Path

import pytest

from support.stage import LOOK_INTERVAL, camel_case
from support.waiting import slowness

REFERENCE = Path(__file__).resolve().parents[3] / "docs/reference/stalls.md"


def tests_of(rows):
    """Returns the tests of the stalls of a module: their staging, their diagnosis, its voices, and its end."""
    def staged(row, stage):
        is_staged(stage.outcome(row))

    def diagnosed(row, stage):
        is_diagnosed(stage.outcome(row))

    def agreed(row, stage):
        all_voices_agree(stage.outcome(row))

    def taken_back(row, stage):
        is_taken_back(stage.outcome(row))

    each, those_that_go_on = pytest.mark.parametrize("row", rows, ids=str), pytest.mark.parametrize("row", rows.that_go_on, ids=str)
    return each(staged), each(diagnosed), each(agreed), those_that_go_on(taken_back)


def is_staged(outcome):
    """Checks that the machine saw on the wire what its story needs."""
    if outcome.fault:
        pytest.fail(f"the staging failed\n{outcome.fault}\n{outcome.story()}", pytrace=False)


def is_diagnosed(outcome):
    """Checks the reason, how sure it is, the facts of the sentence, and the time until it stood."""
    is_staged(outcome)
    assert not outcome.api_fault, outcome.api_fault
    row, diagnosis = outcome.row, outcome.told.diagnosis
    said = lambda what: f"{what}\n{outcome.story()}"
    assert diagnosis, said(f"{row.reason} is diagnosed within {outcome.due_at:.0f} s")
    assert diagnosis["reason"] == row.reason, said(f"the reason is {row.reason}, not {diagnosis['reason']}")
    assert diagnosis["certainty"] in row.certainty, said(f"it is {' or '.join(row.certainty)}, not {diagnosis['certainty']}")
    missing = outcome.missing_facts(diagnosis)
    assert not missing, said(f"the sentence has all facts: {missing} are missing")
    assert outcome.stood_at is not None and outcome.stood_at <= outcome.due_at, said(f"it stands within {outcome.due_at:.0f} s: {outcome.stood_at}")
    is_documented(row)
    took, limit = outcome.stood_at - outcome.staged_at, row.limit * slowness() + LOOK_INTERVAL
    assert took <= limit, said(f"it stands {limit:.1f} s after the machine's last step: {took:.1f} s")
    before = [verdict for at, verdict in outcome.verdicts if at < outcome.stood_at and verdict] + outcome.told.events("stalled")
    other = {verdict["reason"] for verdict in before} - {row.reason, *row.hints}
    assert not other, said(f"nothing else was said before: {other}")


def is_documented(row):
    """Checks that the reference names the silence that is evidence of a row, if it is longer than others."""
    line = next(line for line in REFERENCE.read_text().splitlines() if line.startswith("|") and f"`{row.reason}`" in line)
    words = (f"{row.clock} s", f"{row.clock // 60} min", "install.timeout")
    assert not row.clock or any(word in line for word in words), f"{REFERENCE.name} names the {row.clock} s of {row.reason}: {line}"


def all_voices_agree(outcome):
    """Checks that the condition, the status, the timeline, the command line, the metric and the log say the same."""
    is_staged(outcome)
    told, diagnosis, row = outcome.told, outcome.told.diagnosis, outcome.row
    said = lambda what: f"{what}\n{outcome.story()}"
    assert diagnosis and diagnosis["reason"] == row.reason, said(f"{row.reason} is diagnosed")
    now = told.condition
    assert now and (now["status"], now["reason"]) == ("True", camel_case(row.reason)), said(f"the condition Stalled is True: {now}")
    sentence, shown = without_counts(diagnosis["message"]), without_counts(now["message"])
    assert sentence in shown and diagnosis["remedy"] in now["message"], said(f"it has the sentence and the remedy: {now}")
    stall = told.host["status"].get("stall") or {}
    assert (stall.get("reason"), stall.get("certainty")) == (row.reason, diagnosis["certainty"]), said(f"status.stall has it: {stall}")
    decoded = decode(told.why_json, said)
    assert decoded["diagnosis"]["reason"] == row.reason and decoded["steps"], said(f"`host why -o json` has it and the steps: {told.why_json}")
    for words in (diagnosis["message"], diagnosis["remedy"]):
        assert without_counts(" ".join(words.split())) in without_counts(" ".join(told.why.split())), said(f"`host why` prints {words!r}:\n{told.why}")
    hosts, gauge, total = (told.hosts_by_reason.get(camel_case(row.reason)), told.gauges.get(row.reason), told.totals.get(row.reason, 0))
    assert hosts and hosts == gauge <= total, said(f"the metrics count {row.reason}: {hosts} hosts with the condition, {gauge} now, {total} in all")
    if row.is_shared:
        return
    event = (told.events("stalled") or [{}])[-1]
    shown = {key: event.get(key) for key in ("stage", "reason", "certainty")}
    assert shown == {key: diagnosis[key] for key in shown} and event["message"] and event["remedy"], said(f"the last event `stalled` has it: {event}")
    assert any(row.reason in line and "WARN" in line for line in told.log), said(f"the log warns of it: {told.log}")


def without_counts(words):
    """Returns a sentence without how often and how long: the condition is written again for these every 10 s at most."""
    return re.sub(r"\bonce\b|\btwice\b|\d+ times( in \d+ (s|min))?|\d+ (s|min)\b", "#", words)


def decode(text, said):
    try:
        return json.loads(text)
    except ValueError:
        raise AssertionError(said(f"`host why -o json` prints JSON: {text}")) from None


def is_taken_back(outcome):
    """Checks that nothing is left of the diagnosis once the machine has gone on."""
    is_staged(outcome)
    row, after = outcome.row, outcome.after
    said = lambda what: f"{what}\n{outcome.story()}"
    assert outcome.told.diagnosis and outcome.told.diagnosis["reason"] == row.reason, said(f"{row.reason} is diagnosed")
    assert after.diagnosis is None, said(f"nothing is diagnosed once the machine goes on: {after.diagnosis}")
    assert after.condition and after.condition["status"] == "False", said(f"the condition is False: {after.condition}")
    assert not after.host["status"].get("stall"), said(f"status.stall is gone: {after.host['status'].get('stall')}")
    cleared = after.events("stall_cleared")
    assert cleared and cleared[-1].get("reason") == row.reason, said(f"the timeline says that it is over: {cleared}")
    hosts, gauge = after.hosts_by_reason.get(camel_case(row.reason), 0), after.gauges.get(row.reason)
    assert hosts == gauge, said(f"the metric counts it no more: {hosts} hosts with the condition {row.reason}, {gauge} in the metric")


def nothing_was_said(outcome):
    """Checks that a healthy boot was never diagnosed."""
    is_staged(outcome)
    said = lambda what: f"{what}\n{outcome.story()}"
    assert outcome.after.diagnosis is None, said(f"nothing is diagnosed: {outcome.after.diagnosis}")
    now = outcome.after.condition
    assert now is None or now["status"] == "False", said(f"the condition is not True: {now}")
    stalls = outcome.after.events("stalled")
    if not outcome.row.may_be_said:
        assert not stalls and not outcome.verdicts, said(f"nothing was ever diagnosed: {stalls}")
    assert outcome.after.count("stall_cleared") == outcome.after.count("stalled"), said("all that was said was taken back")
