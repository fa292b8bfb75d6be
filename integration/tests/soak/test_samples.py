"""The judgement of the soak test's figures: which growth is a finding, and which is not."""

import pytest

from support.soak_samples import Sample, growth_findings, leak_findings

WINDOW, WARM_UP, SETTLED, MOST = 10, 10, 20, 1.05
SLACK = {"descriptors": 4, "threads": 4}


def lives(*values, kind="resident"):
    """Returns samples every 2 seconds; each row of `values` has one number for each 10 seconds of a start."""
    other = {"resident": 100, "descriptors": 20, "threads": 8}
    return [Sample(life, second, **{**other, kind: row[second // 10]})
            for life, row in enumerate(values, 1) for second in range(0, 10 * len(row), 2)]


@pytest.mark.parametrize("values, count", [
    ([(50, 100)], 0), ([(50, 90, 100, 105, 104)], 0), ([(50, 90, 100, 106)], 1), ([(500, 100, 90, 80)], 0),
    ([(50, 100), (50, 105)], 0), ([(50, 100), (50, 106)], 1), ([(50, 100), (50, 100, 150)], 0), ([(50, 100), (50, 100, 150, 160)], 1),
    ([(50, 100), (50, 110), (50, 112), (50, 115)], 0), ([(50, 100), (50, 110), (50, 112), (50, 120)], 1), ([(50,), (900,)], 0)],
    ids=["one-window", "flat", "growth", "fall", "flat-starts", "growth-by-starts", "settling", "growth-in-one", "changed-state", "growth-after-it", "only-warm-up"])
def test_growth_of_memory(values, count):
    assert len(growth_findings(lives(*values), WINDOW, WARM_UP, SETTLED, MOST)) == count


def test_a_short_peak_is_no_growth():
    samples = lives((50, 100, 100, 100))
    peak = [Sample(sample.life, sample.age, 900, 20, 8) if sample.age == 24 else sample for sample in samples]
    assert growth_findings(peak, WINDOW, WARM_UP, SETTLED, MOST) == []


@pytest.mark.parametrize("kind", ["descriptors", "threads"])
@pytest.mark.parametrize("values, count", [([(5, 20, 24)], 0), ([(5, 20, 25, 20)], 1), ([(5, 20), (5, 40)], 0), ([(5, 20, 25, 30)], 2)])
def test_leaks(kind, values, count):
    assert len(leak_findings(lives(*values, kind=kind), WINDOW, WARM_UP, SLACK)) == count


def test_connections_that_come_and_go_are_no_leak():
    busy = [Sample(1, age, 100, 90 if age % 4 else 20, 8) for age in range(0, 60, 2)]
    assert leak_findings(busy, WINDOW, WARM_UP, SLACK) == []
