"""Hostile files of FFCV's: tables and what they point to, and the names beside them."""

import contextlib
import json
import os
import random
from pathlib import Path

import numpy as np

from fastload.convert import convert
from fastload.dataset import BetonDataset, open_dataset
from fastload.dataset.beton_notes import notes_path
from fastload.errors import DataError
from tests.dataset.conftest import photo
from tests.dataset.test_beton import COLUMNS, write_columns
from tests.fuzz.harness import Parser, write
from tests.fuzz.mutations import json_file, mutate_beton
from tests.fuzz.stored import load


class Beton:
    """FFCV's files: every table, and all that they point to. The file's pages are never written again."""

    NAMES = ["image", "label", "blob", "meta", "array", "weight"]
    HEAD = 24 + 1041 * len(NAMES)

    def __init__(self, folder: Path) -> None:
        self.path = folder / "x.beton"
        self.data = write_columns(self.path, self.NAMES).read_bytes()
        self.rows_end = self.HEAD + 72 * len(COLUMNS["label"][2])

    def __call__(self, rng: random.Random) -> str:
        changes, size = mutate_beton(self.data, rng, self.HEAD, self.rows_end)
        # The last open file is closed: it may be changed in place, and mended behind.
        with open(self.path, "r+b") as file:
            for place, value in changes:
                file.seek(place)
                file.write(value)
            file.truncate(size)
        try:
            return self._use(rng)
        finally:
            with open(self.path, "r+b") as file:
                for place, value in changes:
                    file.seek(place)
                    file.write(self.data[place : place + len(value)])
                file.truncate(len(self.data))
                if size < len(self.data):
                    file.seek(size)
                    file.write(self.data[size:])

    def _use(self, rng: random.Random) -> str:
        with BetonDataset(self.path, image="image", label="label") as dataset:
            size, count = os.stat(self.path).st_size, len(dataset)
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
            if rng.random() < 0.05:
                load(dataset)
        return "opened"


class BetonNotes:
    """x.beton.json, without which the images are read all the same."""

    def __init__(self, folder: Path) -> None:
        pixels = folder / "photos" / "a"
        pixels.mkdir(parents=True)
        (pixels / "0.jpg").write_bytes(photo(0))
        self.path = folder / "x.beton"
        convert(pixels.parent, self.path)
        self.notes = Path(notes_path(str(self.path)))
        self.values = json.loads(self.notes.read_bytes())

    def __call__(self, rng: random.Random) -> str:
        write(self.notes, json_file(self.values, rng))
        with open_dataset(self.path) as dataset:
            assert dataset[0].image
            return "named" if dataset.classes == ("a",) else "other names"


PARSERS = [
    Parser(name=".beton", share=40, short=300, make=Beton, outcomes=("refused", "opened")),
    Parser(name=".beton.json", share=10, short=100, make=BetonNotes, outcomes=("named", "other names")),
]
