"""A storm of healthy boots of all kinds: nothing is diagnosed, however busy the server is."""

import time

import pytest

from support.storm import Storm

BOOTS = 500
LIMIT = 75  # seconds
QUIET = 12  # seconds after the last boot, in which a late diagnosis would come


@pytest.fixture(scope="module")
def storm():
    storm = Storm(BOOTS)
    storm.begun = time.monotonic()
    storm.reports = storm.run(LIMIT)
    storm.took = time.monotonic() - storm.begun
    storm.lan.ended.wait(QUIET)
    yield storm
    storm.close()


def test_all_boots_of_the_storm_go_well(storm):
    faults = [f"{report['name']}: {report['fault']}" for report in storm.reports if report["fault"]]
    assert not faults, f"{len(faults)} machines fail: {faults[:3]}"
    boots = sum(report["boots"] for report in storm.reports)
    assert boots >= BOOTS, f"{BOOTS} boots end within {LIMIT} s: {boots}"


def test_none_of_them_is_diagnosed_anything(storm):
    counted, lines, held = storm.diagnosed()
    assert not held and not lines, f"{len(lines)} diagnoses: {held[:10]} {lines[:10]}"
    assert sum(counted.values()) == 0, f"the metric has counted none: {counted}"
    text = storm.lan.api("GET", "/metrics")[1]
    assert "bootlatch_stalls_total" in text and "bootlatch_hosts_stalled" in text, "the metrics are there"
