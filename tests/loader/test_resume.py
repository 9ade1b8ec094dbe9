"""Before + after equals the uninterrupted sequence: ids and pixels, in a fresh process, with any number of ranks."""

import json
import random
import subprocess
import sys
import zlib

import pytest

import fastload as fl
from fastload import transforms as T
from fastload.errors import ConfigError

GLOBAL_BATCH = 8
SEED = 11

# One run, in a process of its own: every rank reads some batches from a state (or from the start). Prints the global
# batches, the ranks' shares put together, and the state, on which all ranks must agree.
RUN = """
import json, sys, zlib
import fastload as fl
from fastload import transforms as T

job = json.loads(sys.argv[1])
shares, states = [], []
for rank in range(job["world"]):
    loader = fl.Loader(
        job["path"], batch_size=job["global_batch"] // job["world"], seed=job["seed"], rank=rank,
        world_size=job["world"], num_workers=job["workers"], last_batch=job["last_batch"], shuffle=job["shuffle"],
        transforms=[T.RandomResizedCrop(16), T.RandomHorizontalFlip()],
    )
    if job["state"] is not None:
        loader.load_state_dict(job["state"])
    seen = []
    while len(seen) < job["batches"]:
        for batch in loader:
            pixels = [zlib.crc32(image.contiguous().numpy().tobytes()) for image in batch.images]
            seen.append([list(pair) for pair in zip(batch.ids.tolist(), pixels)])
            if len(seen) == job["batches"]:
                break
    shares.append(seen)
    states.append(loader.state_dict())
assert all(state == states[0] for state in states), states
print(json.dumps({"seen": [sum(parts, []) for parts in zip(*shares)], "state": states[0]}))
"""


def run_ranks(path, *, world, batches, state=None, workers=2, last_batch="drop", shuffle=True):
    """One run with ``world`` ranks in a fresh process: its global batches and its last state."""
    job = {
        "path": str(path),
        "global_batch": GLOBAL_BATCH,
        "seed": SEED,
        "world": world,
        "workers": workers,
        "state": state,
        "batches": batches,
        "last_batch": last_batch,
        "shuffle": shuffle,
    }
    command = [sys.executable, "-c", RUN, json.dumps(job)]
    output = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600).stdout)
    return output["seen"], output["state"]


def read_here(path, batches, *, last_batch="drop", shuffle=True):
    """The uninterrupted sequence over several epochs, in this process with one rank."""
    loader = fl.Loader(
        path,
        batch_size=GLOBAL_BATCH,
        seed=SEED,
        num_workers=1,
        last_batch=last_batch,
        shuffle=shuffle,
        transforms=[T.RandomResizedCrop(16), T.RandomHorizontalFlip()],
    )
    seen = []
    while len(seen) < batches:
        seen.extend(
            [
                [number, zlib.crc32(image.contiguous().numpy().tobytes())]
                for number, image in zip(batch.ids.tolist(), batch.images, strict=True)
            ]
            for batch in loader
        )
    return seen[:batches]


@pytest.mark.parametrize(
    ("last_batch", "shuffle"), [("drop", True), pytest.param("pad", "local", marks=pytest.mark.slow)]
)
def test_before_and_after_in_other_processes_equal_the_uninterrupted_sequence(photos, last_batch, shuffle):
    """1 rank -> 2 ranks -> 4 ranks -> 1 rank, stopped at random places, over more than two epochs."""
    chance = random.Random(last_batch)
    options = {"last_batch": last_batch, "shuffle": shuffle}
    lengths = [chance.randrange(1, 8) for _ in range(3)]
    state, seen = None, []
    for world, batches in zip((1, 2, 4), lengths, strict=True):
        part, state = run_ranks(photos, world=world, batches=batches, state=state, **options)
        seen += part
    rest = 15 - len(seen) if len(seen) < 15 else 2
    part, state = run_ranks(photos, world=1, batches=rest, state=state, workers=5, **options)
    seen += part
    assert seen == read_here(photos, len(seen), **options)


def test_every_position_of_an_epoch(photos, train):
    """Stops after each number of batches, the state through JSON, another Loader in this process."""

    def make():
        return fl.Loader(photos, batch_size=GLOBAL_BATCH, transforms=train, seed=SEED, num_workers=2)

    reference = [batch.ids.tolist() for batch in make()]
    for stop in range(len(reference) + 1):
        first = make()
        iterator = iter(first)
        before = [next(iterator).ids.tolist() for _ in range(stop)]
        state = json.loads(json.dumps(first.state_dict()))
        second = make()
        second.load_state_dict(state)
        assert second.state_dict() == state
        after = [batch.ids.tolist() for batch in second]
        assert before + after == reference
        assert second.state_dict()["epoch"] == 1


def test_the_state_is_small_and_counts_what_the_user_was_handed(photos, train):
    loader = fl.Loader(photos, batch_size=8, transforms=train, num_workers=2, prefetch=5)
    assert (loader.state_dict()["epoch"], loader.state_dict()["batch"]) == (0, 0)
    for number, _ in enumerate(loader, 1):
        state = loader.state_dict()
        assert (state["epoch"], state["batch"]) == (0, number)
        assert len(json.dumps(state)) < 500
    assert (loader.state_dict()["epoch"], loader.state_dict()["batch"]) == (1, 0)


def test_a_state_from_the_end_of_an_epoch_begins_the_next(photos, train):
    def make():
        return fl.Loader(photos, batch_size=16, transforms=train, num_workers=2)

    first = make()
    list(first)
    state = first.state_dict()
    expected = [batch.ids.tolist() for batch in first]
    second = make()
    second.load_state_dict(state)
    assert [batch.ids.tolist() for batch in second] == expected


def test_a_loop_that_counts_its_epochs_may_set_them_and_still_resumes(photos, train):
    """Lightning and hand-written loops call set_epoch at the start of every epoch, the resumed one included."""

    def make():
        return fl.Loader(photos, batch_size=16, transforms=train, num_workers=2)

    first = make()
    first.set_epoch(3)
    reference = [batch.ids.tolist() for batch in first]
    first.set_epoch(3)
    iterator = iter(first)
    next(iterator)
    second = make()
    second.load_state_dict(first.state_dict())
    second.set_epoch(3)
    assert [batch.ids.tolist() for batch in second] == reference[1:]
    third = make()
    third.load_state_dict(first.state_dict())
    third.set_epoch(4)
    assert len(list(third)) == 4


def test_a_resumed_epoch_accounts_for_its_own_part(photos, train):
    loader = fl.Loader(photos, batch_size=16, transforms=train, num_workers=2)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    loader.load_state_dict(state)
    list(loader)
    ledger = loader.stats().epoch
    assert (ledger.first_batch, ledger.batches, ledger.expected, ledger.read) == (1, 3, 34, 34)


def test_loading_a_state_ends_the_iterator_that_is_alive(photos, train):
    loader = fl.Loader(photos, batch_size=16, transforms=train, num_workers=2)
    iterator = iter(loader)
    next(iterator)
    loader.load_state_dict(loader.state_dict())
    with pytest.raises(fl.FastloadError, match="sent to another position"):
        next(iterator)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 2}, "written with seed=1, but this Loader has seed=2: make the Loader with the seed of the run"),
        ({"batch_size": 4}, "global_batch_size=8, but this Loader has global_batch_size=4: choose batch_size so that"),
        (
            {"batch_size": 8, "rank": 0, "world_size": 2},
            "global_batch_size=8, but this Loader has global_batch_size=16",
        ),
        ({"shuffle": False}, "shuffle=True, but this Loader has shuffle=False"),
        ({"last_batch": "drop"}, "last_batch='keep', but this Loader has last_batch='drop'"),
    ],
)
def test_a_state_of_another_sequence_is_one_clear_error(photos, train, options, message):
    base = {"batch_size": 8, "transforms": train, "seed": 1, "num_workers": 2}
    state = fl.Loader(photos, **base).state_dict()
    with pytest.raises(ConfigError, match=message):
        fl.Loader(photos, **{**base, **options}).load_state_dict(state)


def test_a_state_of_other_data_is_one_clear_error(photos, own_photos, train):
    state = fl.Loader(photos, batch_size=8, transforms=train).state_dict()
    with pytest.raises(ConfigError, match=r"fingerprint=.* the data set is not the one"):
        fl.Loader(own_photos, batch_size=8, transforms=train).load_state_dict(state)


def test_other_transforms_in_the_middle_of_an_epoch_are_one_clear_error(photos, train):
    loader = fl.Loader(photos, batch_size=8, transforms=train, num_workers=2)
    iterator = iter(loader)
    next(iterator)
    other = fl.Loader(photos, batch_size=8, transforms=[T.RandomResizedCrop(24)], num_workers=2)
    other.load_state_dict(loader.state_dict())
    with pytest.raises(ConfigError, match="in the middle of epoch 0 with other transforms"):
        iter(other)
    other.set_transforms(train)
    assert next(iter(other)).images.shape[-1] == 16
    # Between two epochs they may change: that is how progressive resizing resumes.
    list(iterator)
    other.set_transforms([T.RandomResizedCrop(24)])
    other.load_state_dict(loader.state_dict())
    assert next(iter(other)).images.shape[-1] == 24


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: {},
        lambda state: None,
        lambda state: [],
        lambda state: {**state, "version": 2},
        lambda state: {**state, "batch": 10**6},
        lambda state: {**state, "batch": -1},
        lambda state: {**state, "batch": "1"},
        lambda state: {**state, "epoch": True},
        lambda state: {name: value for name, value in state.items() if name != "transforms"},
        lambda state: {**state, "seed": "0"},
    ],
)
def test_a_damaged_state_is_one_clear_error_and_changes_nothing(photos, train, damage):
    loader = fl.Loader(photos, batch_size=8, transforms=train, num_workers=2)
    state = loader.state_dict()
    with pytest.raises(ConfigError, match="state"):
        loader.load_state_dict(damage(state))
    assert loader.state_dict() == state


def test_every_rank_has_the_same_number_of_batches_and_no_sample_twice(photos, train):
    for last_batch in ("keep", "drop", "pad"):
        for world in (1, 3, 4, 7):
            ranks = [
                fl.Loader(
                    photos,
                    batch_size=3,
                    transforms=train,
                    rank=rank,
                    world_size=world,
                    last_batch=last_batch,
                    num_workers=2,
                )
                for rank in range(world)
            ]
            batches = [list(loader) for loader in ranks]
            assert {len(share) for share in batches} == {len(ranks[0])}
            genuine = [i for share in batches for batch in share for i in batch.ids[batch.valid].tolist()]
            assert len(genuine) == len(set(genuine))
            assert len(genuine) == (50 - 50 % (3 * world) if last_batch == "drop" else 50)


def test_a_rank_whose_share_of_the_last_batch_is_empty_still_gets_the_batch(photos, train):
    """50 = 6 x 8 + 2 samples on 8 ranks: 6 of them have nothing in the last batch, and nobody waits for them."""
    loaders = [
        fl.Loader(photos, batch_size=1, transforms=train, rank=rank, world_size=8, num_workers=1) for rank in range(8)
    ]
    last = [list(loader)[-1] for loader in loaders]
    assert sorted(len(batch) for batch in last) == [0, 0, 0, 0, 0, 0, 1, 1]
    empty = next(batch for batch in last if len(batch) == 0)
    assert empty.images.shape == (0, 3, 16, 16)
    assert empty.labels.shape == empty.ids.shape == empty.valid.shape == (0,)
