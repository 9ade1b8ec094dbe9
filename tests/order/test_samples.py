"""Orders of an epoch: every sample once, pure in (seed, epoch), local where that is asked for, pinned."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastload.errors import ConfigError
from fastload.order import GlobalOrder, replacement

MODES = ["global", "local", "sequential"]


def order_of(sizes, mode="local", seed=7, window=3):
    return GlobalOrder(int(np.sum(sizes)), seed=seed, mode=mode, shard_sizes=sizes, window=window)


shard_lists = st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(any)


@given(
    sizes=shard_lists, mode=st.sampled_from(MODES), window=st.integers(1, 40), epoch=st.integers(0, 9), data=st.data()
)
@settings(max_examples=150, deadline=None)
def test_every_sample_once_and_any_piece_equals_the_whole(sizes, mode, window, epoch, data):
    order = order_of(sizes, mode, window=window)
    n = order.num_samples
    whole = order.ids(epoch, 0, n)
    assert whole.dtype == np.int64
    assert np.array_equal(np.sort(whole), np.arange(n))
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    # A fresh object, as after a restart or on another rank.
    again = order_of(sizes, mode, window=window)
    assert np.array_equal(again.ids(epoch, start, stop), whole[start:stop])
    some = data.draw(st.lists(st.integers(0, n - 1), max_size=20))
    assert np.array_equal(again.at(epoch, np.array(some, dtype=np.int64)), whole[some])
    for place in some[:3]:
        assert order.position(epoch, int(whole[place])) == place


@pytest.mark.parametrize("mode", ["global", "local"])
def test_seeds_and_epochs_give_unrelated_orders(mode):
    sizes = [10] * 500
    orders = [order_of(sizes, mode, seed=seed).ids(epoch, 0, 5000) for seed in (0, 1) for epoch in (0, 1)]
    for number, first in enumerate(orders):
        for second in orders[number + 1 :]:
            assert abs(np.corrcoef(first, second)[0, 1]) < 4.5 / np.sqrt(500 / 3)  # runs move as blocks
            assert (first == second).sum() < 30


def test_local_reads_a_window_of_shards_at_a_time():
    sizes = np.random.default_rng(0).integers(50, 150, 40)
    order = order_of(sizes, window=5)
    shard_of = np.repeat(np.arange(40), sizes)
    shards = shard_of[order.ids(0, 0, order.num_samples)]
    first = {shard: np.flatnonzero(shards == shard)[0] for shard in range(40)}
    last = {shard: np.flatnonzero(shards == shard)[-1] for shard in range(40)}
    open_shards = [sum(first[s] <= place <= last[s] for s in range(40)) for place in range(len(shards))]
    assert max(open_shards) == 5
    # Shards come in a shuffled order, and within the window samples are mixed, not shard after shard.
    assert sorted(range(40), key=first.__getitem__) != list(range(40))
    assert len(set(shards[:30].tolist())) == 5


def test_local_mixes_its_window_evenly():
    order = order_of([64] * 8, window=4)
    shard_of = np.repeat(np.arange(8), 64)
    halves = []
    for epoch in range(200):
        shards = shard_of[order.ids(epoch, 0, 128)]
        halves.append(np.sort(np.bincount(shards, minlength=8))[4:])
    counts = np.array(halves)
    # Half of a window: the numbers of its four shards are hypergeometric with mean 32 and variance 12.05.
    assert counts.sum(axis=1).tolist() == [128] * 200
    assert abs(counts.var() - 12.05) < 4.5 * 12.05 * np.sqrt(2 / 600)


def test_local_with_one_window_over_all_shards_is_a_global_shuffle():
    order = order_of([10] * 10, window=10)
    ids = np.array([order.ids(epoch, 0, 100) for epoch in range(300)])
    assert abs(ids[:, 0].mean() - 49.5) < 4.5 * 28.9 / np.sqrt(300)
    assert len(set(ids[:, 0].tolist())) > 80


def test_sequential_is_as_stored():
    assert GlobalOrder(10, seed=3, mode="sequential").ids(5, 2, 6).tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize("mode", ["global", "local"])
def test_repeats_hold_the_samples_of_the_order_several_times(mode):
    options = {"seed": 3, "mode": mode, "shard_sizes": [10, 15, 25]}
    once, often = GlobalOrder(50, **options), GlobalOrder(50, **options, repeats=4)
    assert often.ids(1, 0, 50).tolist() == np.repeat(once.ids(1, 0, 13), 4)[:50].tolist()
    assert often.repeat(np.arange(6)).tolist() == [0, 1, 2, 3, 0, 1]
    assert [often.position(1, int(sample)) for sample in once.ids(1, 0, 50)] == list(range(0, 200, 4))


def test_golden_values():
    # A change of these numbers changes the order of every run with a given seed.
    order = GlobalOrder(1_281_167, seed=7)
    local = GlobalOrder(1000, seed=7, mode="local", shard_sizes=[100, 0, 300, 250, 50, 300], window=2)
    assert order.ids(0, 0, 5).tolist() == [714578, 957836, 904618, 860831, 1034554]
    assert order.ids(90, 1_281_162, 1_281_167).tolist() == [1223555, 790036, 774888, 775658, 787781]
    assert local.ids(0, 0, 6).tolist() == [177, 111, 107, 160, 311, 317]
    assert local.ids(2, 700, 706).tolist() == [907, 717, 985, 887, 896, 714]
    names = [replacement(5, attempt, num_samples=1000, seed=7, epoch=0) for attempt in range(4)]
    assert names == [920, 619, 763, 270]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_samples": 0, "seed": 0}, "samples"),
        ({"num_samples": 5, "seed": -1}, "seed"),
        ({"num_samples": 5, "seed": 2**64}, "seed"),
        ({"num_samples": 5, "seed": 0, "mode": "random"}, "global, local, sequential"),
        ({"num_samples": 5, "seed": 0, "mode": "local"}, "shard_sizes"),
        ({"num_samples": 5, "seed": 0, "mode": "local", "shard_sizes": [2, 2]}, "add up to 4"),
        ({"num_samples": 5, "seed": 0, "mode": "local", "shard_sizes": [6, -1]}, "shard_sizes"),
        ({"num_samples": 5, "seed": 0, "mode": "local", "shard_sizes": [[5]]}, "shard_sizes"),
        ({"num_samples": 5, "seed": 0, "window": 0}, "window"),
        ({"num_samples": 5, "seed": 0, "repeats": 0}, "repeats"),
        ({"num_samples": 5, "seed": 0, "repeats": 2, "mode": "sequential"}, "shuffle"),
    ],
)
def test_refuses_bad_arguments(arguments, words):
    with pytest.raises(ConfigError, match=words):
        GlobalOrder(arguments.pop("num_samples"), **arguments)


@pytest.mark.parametrize("mode", MODES)
def test_refuses_bad_positions(mode):
    order = order_of([5, 5], mode)
    for call in (
        lambda: order.ids(0, 0, 11),
        lambda: order.ids(0, 6, 5),
        lambda: order.ids(0, -1, 5),
        lambda: order.at(0, [10]),
        lambda: order.at(0, [-1]),
        lambda: order.ids(-1, 0, 5),
        lambda: order.position(0, 10),
    ):
        with pytest.raises(ConfigError):
            call()


@given(n=st.integers(2, 50), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**32 - 1), data=st.data())
@settings(max_examples=60, deadline=None)
def test_replacements_are_all_others_each_once(n, seed, epoch, data):
    sample = data.draw(st.integers(0, n - 1))
    names = [replacement(sample, k, num_samples=n, seed=seed, epoch=epoch) for k in range(n - 1)]
    assert sorted(names) == [other for other in range(n) if other != sample]
    assert replacement(sample, n - 1, num_samples=n, seed=seed, epoch=epoch) == names[0]


def test_replacements_depend_on_everything_and_spread():
    first = [replacement(s, 0, num_samples=1000, seed=7, epoch=0) for s in range(1000)]
    assert len(set(first)) > 550  # 632 expected when drawn independently
    assert first != [replacement(s, 0, num_samples=1000, seed=8, epoch=0) for s in range(1000)]
    assert first != [replacement(s, 0, num_samples=1000, seed=7, epoch=1) for s in range(1000)]


def test_the_only_sample_has_no_other():
    assert replacement(0, 3, num_samples=1, seed=0, epoch=0) == 0


@pytest.mark.parametrize(
    "arguments", [{"sample_id": 5}, {"sample_id": -1}, {"attempt": -1}, {"seed": -1}, {"epoch": -1}]
)
def test_replacement_refuses_bad_arguments(arguments):
    good = {"sample_id": 0, "attempt": 0, "num_samples": 5, "seed": 0, "epoch": 0} | arguments
    with pytest.raises(ConfigError):
        replacement(good.pop("sample_id"), good.pop("attempt"), **good)
