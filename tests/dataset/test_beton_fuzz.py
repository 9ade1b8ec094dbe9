"""No mutation of a .beton file makes its reader crash, hang, read outside of it or ask for memory without bound."""

import contextlib
import os
import random
import struct
import tracemalloc

import numpy as np
import pytest

import fastload as fl
from fastload import transforms as T
from fastload.dataset import BetonDataset
from fastload.errors import ConfigError, DataError
from tests.dataset.test_beton import COLUMNS, write_columns

NAMES = ["image", "label", "blob", "meta", "array", "weight"]
HEAD = 24 + 1041 * len(NAMES)
# What breaks readers: borders of types, and of this file.
VALUES = [0, 1, 7, 255, 65_535, 1 << 21, (1 << 31) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 24, (1 << 64) - 1]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_columns(tmp_path_factory.mktemp("fuzz") / "x.beton", NAMES).read_bytes()


def mutated(data, generator):
    """A copy with one to four changes, nearly all of them in tables."""
    copy = bytearray(data)
    table = struct.unpack_from("<Q", data, 16)[0]
    rows_end = HEAD + 72 * len(COLUMNS["label"][2])
    for _ in range(generator.randint(1, 4)):
        begin, end = generator.choice([(0, 24), (24, HEAD), (HEAD, rows_end), (table, len(data)), (0, len(data))])
        place = generator.randrange(begin, end)
        kind = generator.random()
        if kind < 0.3:
            copy[place] ^= 1 << generator.randrange(8)
        elif kind < 0.6:
            place = min(place, len(copy) - 8)
            struct.pack_into("<Q", copy, place, generator.choice([*VALUES, len(data), table, rows_end]))
        elif kind < 0.75:
            copy[place] = generator.randrange(256)
        elif kind < 0.9:
            size = min(generator.randint(1, 64), len(copy) - place)
            other = generator.randrange(len(data) - size)
            copy[place : place + size] = data[other : other + size]
        else:
            del copy[generator.choice([place, len(copy) - generator.randint(1, 400)]) :]
            copy += bytes(max(0, 8 - len(copy)))
            return bytes(copy)
    return bytes(copy)


def read_everything(path):
    """Opens a file and reads all that it claims to have; whether it could be opened."""
    try:
        dataset = BetonDataset(path, image="image", label="label")
    except (DataError, ConfigError):
        return False
    with dataset:
        size = os.stat(path).st_size
        count = len(dataset)
        assert count * 8 <= size
        ids = np.arange(count)
        _, offsets, sizes = dataset.extents(ids)
        assert ((offsets >= 0) & (sizes >= 0) & (offsets + sizes <= size)).all()
        assert dataset.shard_sizes().sum() == count
        assert (dataset.num_bytes(ids) >= sizes).all()
        assert dataset.fingerprint
        for number in [*range(min(count, 12)), *range(max(count - 3, 0), count)]:
            with contextlib.suppress(DataError):
                sample = dataset[number]
                assert len(sample.image) == dataset.num_bytes(ids)[number]
            for name in dataset.schema:
                with contextlib.suppress(DataError):
                    dataset.value(number, name)
    return True


def fuzz(original, tmp_path, seeds, loads):
    path = tmp_path / "x.beton"
    opened = 0
    tracemalloc.start()
    for seed in seeds:
        generator = random.Random(seed)
        path.write_bytes(mutated(original, generator))
        opened += read_everything(path)
        if opened and seed % loads == 0:
            with contextlib.suppress(DataError, ConfigError):
                dataset = BetonDataset(path, image="image", label="label")
                with fl.Loader(dataset, batch_size=8, transforms=[T.RandomResizedCrop(16)], num_workers=1) as loader:
                    list(loader)
                dataset.close()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The file has 2 MB in its page, the loader's workspace some more.
    assert peak < 64 << 20
    return opened


def test_no_mutation_does_harm(original, tmp_path):
    opened = fuzz(original, tmp_path, range(600), loads=40)
    assert 60 < opened < 590  # or the mutations are too coarse, or too fine, to test anything


@pytest.mark.fuzz
def test_many_mutations_do_no_harm(original, tmp_path):
    fuzz(original, tmp_path, range(1000, 101_000), loads=100)
