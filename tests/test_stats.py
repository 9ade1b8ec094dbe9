"""Spans and counters add up whatever thread they come from."""

import threading

import pytest

from fastload.stats import STAGES, Stats


def test_spans_come_in_the_order_of_the_stages_and_add_up():
    stats = Stats()
    stats.add("wait", 0.5, 1)
    stats.add("read", 0.25, 10)
    stats.add("read", 0.25, 6)
    spans = stats.spans()
    assert list(spans) == ["read", "wait"] == [stage for stage in STAGES if stage in spans]
    assert (spans["read"].seconds, spans["read"].items) == (0.5, 16)


def test_nothing_is_lost_between_threads():
    stats = Stats()
    # A 0.25 is exact in binary: the sum has no rounding to hide a lost addition behind.
    threads = [
        threading.Thread(
            target=lambda: [(stats.add("decode", 0.25, 2), stats.count("bytes.read", 3)) for _ in range(5000)]
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stats.spans()["decode"].seconds == 5000
    assert stats.spans()["decode"].items == 40_000
    assert stats.counts() == {"bytes.read": 60_000}


def test_counters_are_sorted_by_name():
    stats = Stats()
    for name in ("decoder.turbo", "bytes.read", "decoder.pillow"):
        stats.count(name)
    assert list(stats.counts()) == ["bytes.read", "decoder.pillow", "decoder.turbo"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_nothing_passed_is_not_listed(stage):
    stats = Stats()
    stats.add(stage, 0.0, 0)
    assert stats.spans() == {}


def test_a_source_is_read_when_somebody_asks_and_kept_when_it_ends():
    stats, done = Stats(), [0]

    def amounts():
        return [("decode", 0.25 * done[0], done[0])], [("bytes.read", 3 * done[0])]

    stats.include(amounts)
    stats.add("decode", 0.5, 2)
    for done[0] in (1, 4):
        assert (stats.spans()["decode"].seconds, stats.spans()["decode"].items) == (0.5 + done[0] / 4, 2 + done[0])
        assert stats.counts() == {"bytes.read": 3 * done[0]}
    stats.conclude(amounts)
    done[0] = 100
    assert stats.spans()["decode"].items == 6
    assert stats.counts() == {"bytes.read": 12}
