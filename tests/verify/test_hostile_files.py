"""No mutation of any file of a data set makes a reader crash, hang, read outside of it or allocate without bound.

The long job: ``FASTLOAD_FUZZ_INPUTS=100000 FASTLOAD_FUZZ_SEED=1 pytest -m fuzz tests/verify/test_hostile_files.py``.
Run so far, each passed: seed 1 with 2,500 mutated dataset.json, seed 2 with 800 of each of the other five files: 6,500
inputs. Of the latter 4,000 verify called 11 % sound (a word of the ledger, a time in a tar header, what the manifest
was made to vouch for) and the others were named; 1,052 repairs left a sound data set, 26 did not and said so.

Found while this was written, and mended (tests/dataset/test_sharded_dataset.py keeps them): a compressed index.arrow of
5 KB that became 96 MB before its rows were counted; 256 MiB allocated to read any dataset.json; a pipe in place of
dataset.json or of a seek file, on which opening waited for ever; a tar whose first name begins with BZh, taken for one
that bzip2 had compressed (tests/adopt/test_index_shards.py).
"""

import contextlib
import json
import os
import random
import shutil
import signal
import struct
import tarfile
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastload.adopt import index_shards
from fastload.convert import convert
from fastload.dataset import open_dataset
from fastload.dataset.manifest import read_manifest
from fastload.errors import ConfigError, DataError
from fastload.jpeg.seek_file import SeekFile, write_seek_file
from fastload.sources.tar_members import TarScan
from fastload.verify import verify
from fastload.verify.ledger import read_ledger
from tests.dataset.conftest import photo

FILES = ["dataset.json", "index.arrow", "shard-000000.tar", "shard-000000.idx", "shard-000000.seek", "conversion.jsonl"]
# What breaks readers: borders of types.
NUMBERS = [0, 1, 127, 255, 65_535, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]
WORDS = [
    None,
    True,
    -1,
    1 << 64,
    1e300,
    float("nan"),
    "",
    "../x",
    "/",
    "\0",
    "a" * 5000,
    [],
    {},
    [[]],
    "WebDataset shards",
]
# The largest image is 6 KB, the largest file 40.
MOST_BYTES = 24 << 20
MOST_SECONDS = 20


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Six samples with a skipped file in one shard, with every sidecar."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "photos" / "a").mkdir(parents=True)
    (folder / "photos" / "b").mkdir()
    for number in range(6):
        (folder / "photos" / "ab"[number % 2] / f"{number}.jpg").write_bytes(photo(number, size=(60 + number, 50)))
    (folder / "photos" / "a" / "broken.jpg").write_bytes(b"no image")
    convert(folder / "photos", folder / "data")
    return {path.name: path.read_bytes() for path in (folder / "data").iterdir()}


def mutate_bytes(data, rng):
    """Bits, bytes, numbers, ranges: one to four changes."""
    copy = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place, kind = rng.randrange(len(copy) + 1), rng.randrange(7)
        if kind == 0 and place < len(copy):
            copy[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            copy[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 2:
            size = rng.choice((2, 4, 8))
            place = place // size * size
            copy[place : place + size] = (rng.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, "little")
        elif kind == 3:
            del copy[place : place + rng.choice((1, 8, 100))]
        elif kind == 4:
            copy[place:place] = copy[place : place + rng.choice((1, 8, 512))]
        elif kind == 5:
            del copy[place:]
        else:
            other = rng.randrange(len(data))
            copy[place : place + 16] = data[other : other + 16]
    return bytes(copy)


def mutate_tar(data, rng):
    """Fields of headers, mostly with a checksum that is right."""
    if rng.random() < 0.2:
        return mutate_bytes(data, rng)
    copy = bytearray(data)
    headers = [place for place in range(0, len(copy), 512) if copy[place + 257 : place + 262] == b"ustar"]
    for _ in range(rng.randint(1, 3)):
        at = rng.choice(headers)
        field, size = rng.choice([(0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155)])
        kind = rng.randrange(5)
        if kind == 0:
            value = bytes(rng.randrange(256) for _ in range(size))
        elif kind == 1:  # base 256, as GNU tar writes large numbers
            value = (b"\x80" if rng.random() < 0.7 else b"\xff") + rng.choice(NUMBERS).to_bytes(11, "big")
        elif kind == 2:
            value = b"%0*o" % (max(size - 1, 1), rng.choice(NUMBERS) % 8 ** max(size - 1, 1))
        else:
            value = rng.choice(
                [b"L", b"K", b"x", b"g", b"S", b"1", b"2", b"5", b"6", b"\0", b"V", b"../../x", b".", b"/"]
            )
        copy[at + field : at + field + min(size, len(value))] = value[:size]
        if rng.random() < 0.3:  # what a long name or a PAX record says
            record = rng.choice(
                [b"99999999999 path=x\n", b"12 size=-77\n", b"22 GNU.sparse.major=1\n", b"9 a=b\n", b"x" * 400]
            )
            copy[at + 512 : at + 512 + len(record)] = record
        if rng.random() < 0.85:
            copy[at + 148 : at + 156] = b" " * 8
            copy[at + 148 : at + 156] = b"%06o\0 " % sum(copy[at : at + 512])
    return bytes(copy)


def mutate_json(value, rng):
    """One place of a JSON value is another value."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        copy = value.copy()
        place = rng.choice(list(copy)) if isinstance(copy, dict) else rng.randrange(len(copy))
        copy[place] = mutate_json(copy[place], rng)
        return copy
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.6:
        return rng.choice([value + 1, value - 1, -value, *NUMBERS])
    return rng.choice(WORDS)


def fitted_seek(data, rng):
    """A mutated seek file whose header and table have checksums that fit."""
    copy = bytearray(mutate_bytes(data, rng)).ljust(64, b"\0")
    count = min(struct.unpack_from("<Q", copy, 16)[0], (len(copy) - 72) // 16) if len(copy) > 72 else 0
    if rng.random() < 0.7:
        struct.pack_into("<Q", copy, 24, len(copy))
    end = 72 + 16 * max(count, 0)
    struct.pack_into("<I", copy, 32, zlib.crc32(copy[64:end]))
    struct.pack_into("<I", copy, 36, zlib.crc32(copy[:36]))
    return bytes(copy)


def mutated(original, name, rng):
    """The files of a data set with one that is mutated; half of the time the others vouch for it."""
    files, data = dict(original), original[name]
    manifest = json.loads(original["dataset.json"])
    if name == "dataset.json":
        changed = manifest
        for _ in range(rng.randint(1, 3)):
            changed = mutate_json(changed, rng)
        files[name] = mutate_bytes(data, rng) if rng.random() < 0.3 else json.dumps(changed).encode()
        return files
    if name == "conversion.jsonl" and rng.random() < 0.5:
        lines = [json.loads(line) for line in data.splitlines()]
        files[name] = "\n".join(json.dumps(mutate_json(line, rng)) for line in lines).encode()
        return files
    files[name] = mutate_tar(data, rng) if name.endswith(".tar") else mutate_bytes(data, rng)
    if name.endswith(".seek") and rng.random() < 0.7:
        files[name] = fitted_seek(data, rng)
    entry = manifest["index"] if name == "index.arrow" else manifest["shards"][0]
    if name in ("index.arrow", "shard-000000.tar") and rng.random() < 0.8:
        entry.update(size=len(files[name]), crc32=zlib.crc32(files[name]))
        files["dataset.json"] = json.dumps(manifest).encode()
    return files


def use(folder, name, rng):
    """Everything that reads these files; what became of them."""
    outcome = "refused"
    with contextlib.suppress(DataError, ConfigError), open_dataset(folder) as dataset:
        outcome = "opened"
        ids = np.arange(len(dataset))
        with contextlib.suppress(DataError):
            files, offsets, sizes = dataset.extents(ids)
            ends = np.array([os.stat(dataset.file_path(number)).st_size for number in files.tolist()])
            assert ((offsets >= 0) & (offsets + sizes <= ends)).all()
        for number in ids[:8].tolist():
            with contextlib.suppress(DataError):
                dataset[number]
                dataset.seek_index(number)
    report = None
    with contextlib.suppress(DataError, ConfigError):
        report = verify(folder, workers=1)
        outcome += ", sound" if report.ok else ", named"
        assert all(finding.reason for finding in report.findings)
    if report is not None and not report.ok and rng.random() < 0.3:
        with contextlib.suppress(DataError, ConfigError):
            after = verify(folder, repair=True, workers=1)
            outcome += ", repaired" if after.ok else ", not repaired"
            if after.ok:
                with open_dataset(folder, verify="always") as dataset:
                    assert all(dataset[number].image for number in range(len(dataset)))
    if name.endswith(".tar") and rng.random() < 0.2:
        (folder / "dataset.json").unlink(missing_ok=True)
        with contextlib.suppress(DataError, ConfigError):
            index_shards(folder, workers=1)
    return outcome


def fuzz(original, name, tmp_path, seeds):
    """Reads a data set once for each seed."""
    outcomes = Counter()
    beside = tmp_path / "x"
    beside.write_bytes(b"not to be touched")
    folder = tmp_path / "data"
    tracemalloc.start()
    pool = pa.default_memory_pool()
    mark = pool.max_memory()
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a reader that hangs ends the process
    try:
        for seed in seeds:
            rng = random.Random(f"{name} {seed}")
            files = mutated(original, name, rng)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for file, data in files.items():
                (folder / file).write_bytes(data)
            signal.alarm(MOST_SECONDS)
            outcomes[use(folder, name, rng)] += 1
            signal.alarm(0)
            peak = tracemalloc.get_traced_memory()[1]
            assert peak < MOST_BYTES, (name, seed, peak)
            assert pool.max_memory() - mark < MOST_BYTES, (name, seed)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        tracemalloc.stop()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "x"]
    assert beside.read_bytes() == b"not to be touched"
    return outcomes


@pytest.mark.parametrize("name", FILES)
def test_no_mutation_does_harm(original, name, tmp_path):
    verify_once(original, tmp_path / "warm")
    outcomes = fuzz(original, name, tmp_path, range(80))
    assert sum(outcomes.values()) == 80
    named = sum(count for outcome, count in outcomes.items() if "named" in outcome)
    assert named > 20  # or the mutations miss what is checked
    assert len(outcomes) > 1


def verify_once(original, folder):
    """Everything is loaded and compiled before memory is counted."""
    folder.mkdir()
    for file, data in original.items():
        (folder / file).write_bytes(data)
    assert verify(folder, workers=1).ok
    shutil.rmtree(folder)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", FILES)
def test_many_mutations_do_no_harm(original, name, tmp_path):
    verify_once(original, tmp_path / "warm")
    inputs = int(os.environ.get("FASTLOAD_FUZZ_INPUTS", "20000"))
    seed = int(os.environ.get("FASTLOAD_FUZZ_SEED", "1"))
    outcomes = fuzz(original, name, tmp_path, range(seed * 1_000_000, seed * 1_000_000 + inputs))
    report = "".join(f"{count:9d}  {name}: {outcome}\n" for outcome, count in outcomes.most_common())
    with open(os.environ.get("FASTLOAD_FUZZ_REPORT", os.devnull), "a") as file:
        file.write(report)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), value=JSON)
def test_a_manifest_with_any_value_in_any_place(original, tmp_path_factory, data, value):
    manifest = json.loads(original["dataset.json"])
    place = manifest
    while True:
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    folder = shared_folder(tmp_path_factory)
    (folder / "dataset.json").write_text(json.dumps(manifest))
    with contextlib.suppress(DataError):
        found = read_manifest(str(folder))
        assert sum(shard.samples for shard in found.shards) == found.samples == found.counts.written
        assert all("/" not in shard.name for shard in [*found.shards, found.index])


@settings(max_examples=150, deadline=None)
@given(indexes=st.lists(st.binary(max_size=30), max_size=5), place=st.integers(0, 400), byte=st.integers(0, 255))
def test_a_seek_file_gives_what_was_written_or_nothing(tmp_path_factory, indexes, place, byte):
    path = shared_folder(tmp_path_factory) / "x.seek"
    crcs = np.arange(len(indexes), dtype=np.uint32)
    write_seek_file(str(path), indexes, crcs.tolist())
    data = bytearray(path.read_bytes())
    data[place % len(data)] = byte
    path.write_bytes(data)
    with contextlib.suppress(DataError), SeekFile(str(path), crcs) as file:
        for number, index in enumerate(indexes):
            assert bytes(file.index(number)) in (b"", index)
            assert file.stored(number) in (None, index)


@settings(max_examples=200, deadline=None)
@given(lines=st.binary(max_size=300))
def test_a_ledger_of_any_bytes(tmp_path_factory, lines):
    folder = shared_folder(tmp_path_factory)
    (folder / "conversion.jsonl").write_bytes(lines)
    with contextlib.suppress(DataError):
        assert all(isinstance(entry["action"], str) for entry in read_ledger(str(folder)))


@settings(max_examples=200, deadline=None)
@given(
    fields=st.lists(
        st.tuples(st.sampled_from([0, 100, 124, 136, 156, 157, 257, 345]), st.binary(max_size=100)), max_size=5
    ),
    body=st.binary(max_size=1500),
)
def test_a_tar_header_of_any_bytes_with_its_checksum(tmp_path_factory, fields, body):
    path = shared_folder(tmp_path_factory) / "x.tar"
    header = bytearray(tarfile.TarInfo("a.jpg").tobuf())
    for at, value in fields:
        header[at : min(at + len(value), 512)] = value[: 512 - at]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + body)
    with contextlib.suppress(DataError):  # a name that begins as a compressed file does
        for member in TarScan(str(path)):
            assert member.problem or 512 <= member.offset <= member.offset + member.size <= 512 + len(body)


def shared_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.getbasetemp() / "hypothesis"
    folder.mkdir(exist_ok=True)
    return folder
