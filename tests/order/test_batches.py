"""Batches per rank: one global sequence for any world size, equal numbers of batches, every sample accounted for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastload.errors import ConfigError
from fastload.order import BatchPlan, GlobalOrder


def global_batches(n, size, world, last):
    """Positions and validity of every global batch, as the ranks of one world put them together."""
    plans = [BatchPlan(n, size // world, rank, world, last) for rank in range(world)]
    assert len({plan.num_batches for plan in plans}) == 1
    slices = [[plan.slice(batch) for plan in plans] for batch in range(plans[0].num_batches)]
    return [
        (np.concatenate([s.positions for s in parts]), np.concatenate([s.valid for s in parts])) for parts in slices
    ]


@given(n=st.integers(1, 300), factor=st.integers(1, 3), last=st.sampled_from(["drop", "keep", "pad"]))
@settings(max_examples=150, deadline=None)
def test_the_global_sequence_is_the_same_for_every_world_size(n, factor, last):
    size = 12 * factor
    if last == "drop" and n < size:
        with pytest.raises(ConfigError, match="last_batch"):
            global_batches(n, size, 4, last)
        return
    one = global_batches(n, size, 1, last)
    for world in (2, 3, 4, 6, 12):
        other = global_batches(n, size, world, last)
        assert len(other) == len(one)
        for (positions, valid), (expected, expected_valid) in zip(other, one, strict=True):
            assert np.array_equal(positions, expected)
            assert np.array_equal(valid, expected_valid)


@given(n=st.integers(1, 300), size=st.integers(1, 20), world=st.integers(1, 8))
@settings(max_examples=150, deadline=None)
def test_keep_reads_every_sample_once_and_splits_the_rest_evenly(n, size, world):
    batches = global_batches(n, size * world, world, "keep")
    positions = np.concatenate([positions for positions, _ in batches])
    assert np.array_equal(positions, np.arange(n))
    assert all(valid.all() for _, valid in batches)
    plans = [BatchPlan(n, size, rank, world, "keep") for rank in range(world)]
    assert plans[0].num_dropped == 0
    shares = [len(plan.slice(plan.num_batches - 1).positions) for plan in plans]
    assert max(shares) - min(shares) <= 1
    assert max(shares) <= size


@given(n=st.integers(1, 300), size=st.integers(1, 20), world=st.integers(1, 8))
@settings(max_examples=150, deadline=None)
def test_pad_fills_every_slice_and_counts_no_sample_twice(n, size, world):
    batches = global_batches(n, size * world, world, "pad")
    positions = np.concatenate([positions for positions, _ in batches])
    valid = np.concatenate([valid for _, valid in batches])
    assert len(positions) % (size * world) == 0
    assert len(positions) - n < size * world
    assert np.array_equal(positions[valid], np.arange(n))
    assert np.array_equal(positions[~valid], np.resize(np.arange(n), (~valid).sum()))


@given(n=st.integers(1, 300), size=st.integers(1, 20), world=st.integers(1, 8))
@settings(max_examples=100, deadline=None)
def test_drop_says_how_many_it_leaves_out(n, size, world):
    if n < size * world:
        return
    batches = global_batches(n, size * world, world, "drop")
    positions = np.concatenate([positions for positions, _ in batches])
    dropped = BatchPlan(n, size, 0, world, "drop").num_dropped
    assert np.array_equal(positions, np.arange(n - dropped))
    assert dropped == n - len(batches) * size * world


def test_no_epoch_of_ids_depends_on_the_world_size():
    order = GlobalOrder(1000, seed=7)
    one = [order.at(3, p).tolist() for p, _ in global_batches(1000, 48, 1, "keep")]
    four = [order.at(3, p).tolist() for p, _ in global_batches(1000, 48, 4, "keep")]
    assert one == four
    assert sorted(sample for batch in one for sample in batch) == list(range(1000))


def test_pinned_slices():
    plan = BatchPlan(10, 2, 1, 3, "keep")
    assert (plan.global_batch_size, plan.num_batches) == (6, 2)
    assert plan.slice(0).positions.tolist() == [2, 3]
    assert plan.slice(1).positions.tolist() == [7]
    assert BatchPlan(7, 2, 0, 3, "keep").slice(1).positions.tolist() == []
    last = BatchPlan(10, 2, 2, 3, "pad").slice(1)
    assert last.positions.tolist() == [0, 1]
    assert last.valid.tolist() == [False, False]


@pytest.mark.parametrize(
    "arguments",
    [(0, 1), (5, 0), (5, 1, 1, 1), (5, 1, -1, 1), (5, 1, 0, 0), (5, 1, 0, 1, "repeat"), (5, 6), (5, 3, 0, 2)],
)
def test_refuses_bad_arguments(arguments):
    with pytest.raises(ConfigError):
        BatchPlan(*arguments)


@pytest.mark.parametrize("batch", [-1, 2])
def test_refuses_batches_beyond_the_epoch(batch):
    with pytest.raises(ConfigError, match="0 to 1"):
        BatchPlan(10, 5).slice(batch)
