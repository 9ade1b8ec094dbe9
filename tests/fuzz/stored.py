"""Hostile data sets: each file of a converted one, alone and all that reads it together; the ledger."""

import contextlib
import functools
import json
import os
import random
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

import fastload as fl
from fastload import transforms as T
from fastload.adopt import index_shards
from fastload.convert import convert
from fastload.dataset import open_dataset
from fastload.dataset.index import read_index
from fastload.dataset.manifest import read_manifest
from fastload.errors import ConfigError, DataError
from fastload.jpeg.seek_file import SeekFile, index_sizes, table_end, write_seek_file
from fastload.sources.tar_members import TarScan
from fastload.verify import verify
from fastload.verify.ledger import read_ledger
from fastload.verify.report import Finding
from fastload.verify.shards import ShardedCheck
from fastload.verify.work import Stop
from tests.dataset.conftest import photo
from tests.fuzz.harness import Parser, write
from tests.fuzz.mutations import (
    fitted_seek,
    json_file,
    mutate_bytes,
    mutate_json,
    mutate_tar,
)
from tests.fuzz.sources import JSON

SHARD, IDX, SEEK = "shard-000000.tar", "shard-000000.idx", "shard-000000.seek"
FILES = ["dataset.json", "index.arrow", SHARD, IDX, SEEK, "conversion.jsonl"]


@functools.cache
def data_set() -> dict[str, bytes]:
    """Six samples with a skipped file in one shard, with every sidecar."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos" / "a").mkdir(parents=True)
        (folder / "photos" / "b").mkdir()
        for number in range(6):
            (folder / "photos" / "ab"[number % 2] / f"{number}.jpg").write_bytes(photo(number, size=(60 + number, 50)))
        (folder / "photos" / "a" / "broken.jpg").write_bytes(b"no image")
        convert(folder / "photos", folder / "data")
        return {path.name: path.read_bytes() for path in (folder / "data").iterdir()}


def load(dataset) -> None:
    """One epoch through the engine, whose kernel reads files and seek indexes by itself."""
    options = {"batch_size": 4, "num_workers": 1, "on_error": "skip", "last_batch": "keep"}
    with contextlib.suppress(DataError, ConfigError):
        with fl.Loader(dataset, transforms=[T.RandomResizedCrop(16)], **options) as loader:
            for batch in loader:
                assert batch.images.shape[2:] == (16, 16)


class Whole:
    """A data set of which one file is mutated; half of the time the others vouch for it. All that reads it does."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.files, self.folder = name, data_set(), folder / "data"
        self.beside = write(folder / "x", b"not to be touched")

    def __call__(self, rng: random.Random) -> str:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for file, data in self._mutated(rng).items():
            (self.folder / file).write_bytes(data)
        try:
            return self._use(rng)
        finally:
            assert sorted(path.name for path in self.beside.parent.iterdir()) == ["data", "x"]
            assert self.beside.read_bytes() == b"not to be touched"

    def _mutated(self, rng: random.Random) -> dict[str, bytes]:
        name, files, data = self.name, dict(self.files), self.files[self.name]
        manifest = json.loads(files["dataset.json"])
        if name == "dataset.json":
            files[name] = json_file(manifest, rng)
            return files
        if name == "conversion.jsonl" and rng.random() < 0.5:
            lines = [json.loads(line) for line in data.splitlines()]
            files[name] = "\n".join(json.dumps(mutate_json(line, rng)) for line in lines).encode()
            return files
        files[name] = mutate_tar(data, rng) if name == SHARD else mutate_bytes(data, rng)
        if name == SEEK and rng.random() < 0.7:
            files[name] = fitted_seek(data, rng)
        entry = manifest["index"] if name == "index.arrow" else manifest["shards"][0]
        if name in ("index.arrow", SHARD) and rng.random() < 0.8:
            entry.update(size=len(files[name]), crc32=zlib.crc32(files[name]))
            files["dataset.json"] = json.dumps(manifest).encode()
        return files

    def _use(self, rng: random.Random) -> str:
        folder, outcome = self.folder, "refused"
        with contextlib.suppress(DataError, ConfigError), open_dataset(folder) as dataset:
            outcome = "opened"
            self._read(dataset)
            if rng.random() < 0.05:
                load(dataset)
        if rng.random() < 0.8:  # all that verify parses, without its threads, which take most of its time
            check = ShardedCheck(str(folder), Stop())
            findings = [*check.findings, *(finding for task in check.tasks() for finding in task.check())]
        else:
            findings = self._verify(rng)
        assert all(finding.reason for finding in findings)
        return f"{outcome}, {'named' if findings else 'sound'}"

    def _verify(self, rng: random.Random) -> tuple[Finding, ...]:
        """The whole of it, and what it repairs."""
        folder, report = self.folder, verify(self.folder, workers=1)
        if not report.ok and rng.random() < 0.3:
            with contextlib.suppress(DataError, ConfigError):
                self._check_repaired(verify(folder, repair=True, workers=1))
        if self.name == SHARD and rng.random() < 0.2:
            (folder / "dataset.json").unlink(missing_ok=True)
            with contextlib.suppress(DataError, ConfigError):
                index_shards(folder, workers=1)
        return report.findings

    @staticmethod
    def _read(dataset) -> None:
        ids = np.arange(len(dataset))
        with contextlib.suppress(DataError):
            files, offsets, sizes = dataset.extents(ids)
            ends = np.array([os.stat(dataset.file_path(number)).st_size for number in files.tolist()])
            assert ((offsets >= 0) & (offsets + sizes <= ends)).all()
        for number in ids[:8].tolist():
            with contextlib.suppress(DataError):
                dataset[number]
                dataset.seek_index(number)

    def _check_repaired(self, report) -> None:
        if report.ok:
            with open_dataset(self.folder, verify="always") as dataset:
                assert all(dataset[number].image for number in range(len(dataset)))


class Manifests:
    """dataset.json: any value in any place, any bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, json.loads(data_set()["dataset.json"])

    def __call__(self, rng: random.Random) -> str:
        return self.read(json_file(self.manifest, rng))

    def read(self, data: bytes) -> str:
        write(self.folder / "dataset.json", data)
        found = read_manifest(str(self.folder))
        assert sum(shard.samples for shard in found.shards) == found.samples == found.counts.written
        assert all("/" not in shard.name for shard in [*found.shards, found.index])
        return "read"


def manifest_of(folder: Path):
    """Hypothesis draws a path into dataset.json, and what stands there."""
    target = Manifests(folder)

    def parse(drawn) -> str:
        steps, value = drawn
        manifest = inner = json.loads(data_set()["dataset.json"])
        for step in steps:
            place, keys = inner, list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            key = keys[step % len(keys)]
            inner = place[key]
            if not isinstance(inner, (dict, list)) or not inner:
                break
        place[key] = value
        return target.read(json.dumps(manifest).encode())

    return parse


class Index:
    """index.arrow: what Arrow's reader takes, with every row looked at."""

    def __init__(self, folder: Path) -> None:
        self.data, self.path = data_set()["index.arrow"], folder / "index.arrow"
        self.extras = json.loads(data_set()["dataset.json"])["extras"]

    def __call__(self, rng: random.Random) -> str:
        data = mutate_bytes(self.data, rng)
        write(self.path, data)
        index = read_index(str(self.path), samples=6, size=len(data), crc32=zlib.crc32(data), extras=self.extras)
        assert len(index) == 6
        for column in (index.shard, index.offset, index.size, index.width, index.height, index.label, index.crc32):
            assert column.shape == (6,)
            column.sum()
        broken = 0
        for row in range(6):
            broken += not self._named(index, row)
        return "read in part" if broken else "read"

    @staticmethod
    def _named(index, row: int) -> bool:
        try:
            return isinstance(index.key[row] + index.source[row], str)
        except DataError:
            return False


class SeekFiles:
    """shard.seek, and the same format as the cache of an image folder: an index that was written, or none."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "x.seek"
        self.data = data_set()[SEEK]
        write(self.path, self.data)
        with SeekFile(str(self.path), None) as file:
            self.crcs = file.image_crcs.copy()
            self.indexes = [bytes(file.index(number)) for number in range(len(file))]

    def __call__(self, rng: random.Random) -> str:
        data = fitted_seek(self.data, rng) if rng.random() < 0.7 else mutate_bytes(self.data, rng)
        if rng.random() < 0.2:  # the indexes alone
            data = self.data[:180] + mutate_bytes(self.data[180:], rng)
        write(self.path, data)
        outcome = "read"
        with contextlib.suppress(DataError):  # what a data set behind a URL counts by the table alone
            sizes = index_sizes(data[: table_end(6)], len(data), self.crcs)
            assert sizes.shape == (6,)
            assert 0 <= sizes.min()
            assert sizes.sum() <= len(data)
        with SeekFile(str(self.path), self.crcs if rng.random() < 0.7 else None) as file:
            for number in range(min(len(file), 8)):
                index = bytes(file.index(number))
                outcome = outcome if index == self.indexes[number % 6] else "read in part"
                file.stored(number)
            file.find(np.arange(len(file)))
        return outcome


def seek_file_of(folder: Path):
    """Hypothesis draws indexes, and a byte that is changed."""
    path = folder / "x.seek"

    def parse(drawn) -> str:
        indexes, place, byte = drawn
        crcs = np.arange(len(indexes), dtype=np.uint32)
        path.unlink(missing_ok=True)
        write_seek_file(str(path), indexes, crcs.tolist())
        data = bytearray(path.read_bytes())
        data[place % len(data)] = byte
        write(path, bytes(data))
        with SeekFile(str(path), crcs) as file:
            for number, index in enumerate(indexes):
                assert bytes(file.index(number)) in (b"", index)
                assert file.stored(number) in (None, index)
        return "read"

    return parse


def tar_header_of(folder: Path):
    """Hypothesis draws fields of a tar header, which gets the checksum that fits."""
    path = folder / "x.tar"

    def parse(drawn) -> str:
        fields, body = drawn
        header = bytearray(tarfile.TarInfo("a.jpg").tobuf())
        for at, value in fields:
            header[at : min(at + len(value), 512)] = value[: 512 - at]
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        write(path, bytes(header) + body)
        scan = TarScan(str(path))
        for member in scan:
            assert member.problem or 512 <= member.offset <= member.offset + member.size <= 512 + len(body)
        return "damaged" if scan.damage else "read"

    return parse


def ledger_of(folder: Path):
    """Hypothesis draws the lines of a ledger."""

    def parse(lines) -> str:
        write(folder / "conversion.jsonl", lines)
        assert all(isinstance(entry["action"], str) for entry in read_ledger(str(folder)))
        return "read"

    return parse


LINE = st.dictionaries(st.sampled_from(["action", "key", "source", "reason"]), st.text(max_size=5) | JSON).map(
    lambda value: json.dumps(value).encode() + b"\n"
)
TAR_FIELDS = st.sampled_from([0, 100, 124, 136, 156, 157, 257, 345])
PARSERS = [
    *(
        Parser(
            name=f"data set: {name}",
            share=20,
            short=40,
            make=lambda folder, name=name: Whole(folder, name),
            outcomes=("refused, named" if name in FILES[:3] else "opened, named",),
        )
        for name in FILES
    ),
    Parser(name="dataset.json", share=40, short=300, make=Manifests, outcomes=("refused", "read")),
    Parser(
        name="dataset.json, drawn",
        share=20,
        short=150,
        make=manifest_of,
        strategy=st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=5), JSON),
        outcomes=("refused", "read"),
    ),
    Parser(name="index.arrow", share=50, short=300, make=Index, outcomes=("refused", "read", "read in part")),
    Parser(name="shard.seek", share=50, short=300, make=SeekFiles, outcomes=("refused", "read", "read in part")),
    Parser(
        name="shard.seek, drawn",
        share=10,
        short=150,
        make=seek_file_of,
        strategy=st.tuples(st.lists(st.binary(max_size=30), max_size=5), st.integers(0, 400), st.integers(0, 255)),
        outcomes=("refused", "read"),
    ),
    Parser(
        name="tar headers, drawn",
        share=20,
        short=200,
        make=tar_header_of,
        strategy=st.tuples(
            st.lists(st.tuples(TAR_FIELDS, st.binary(max_size=100)), max_size=5), st.binary(max_size=1500)
        ),
        outcomes=("damaged",),
    ),
    Parser(
        name="conversion.jsonl",
        share=20,
        short=200,
        make=ledger_of,
        strategy=st.binary(max_size=200) | st.lists(LINE, max_size=4).map(b"".join),
        outcomes=("refused", "read"),
    ),
]
