"""A converted data set reads back what tar reads, and every damaged file is one clear error."""

import io
import itertools
import json
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import tracemalloc
import zlib

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fastload.dataset import ShardedDataset, open_dataset
from fastload.dataset.index import index_schema
from fastload.errors import ConfigError, DataError


def tar_samples(folder):
    """(key, image, label, shard) of every sample, as Python's tarfile reads the shards."""
    samples = []
    for shard in sorted(folder.glob("shard-*.tar")):
        with tarfile.open(shard) as tar:
            members = [(info.name.split(".", 1), tar.extractfile(info).read()) for info in tar]
        for (key, image), (other, label) in itertools.pairwise(members):
            if key[1] == "jpg":
                assert other == [key[0], "cls"]
                samples.append((key[0], image, int(label), shard.name))
    return samples


def read(dataset, number, room=1 << 20):
    buffer = np.zeros(room, np.uint8)
    return buffer[: dataset.read_into(number, buffer)].tobytes()


def test_every_sample_equals_what_tarfile_reads(converted):
    expected = tar_samples(converted)
    with open_dataset(converted) as dataset:
        assert isinstance(dataset, ShardedDataset)
        assert len(dataset) == len(expected) == 60
        assert dataset.classes == ("cat", "dog", "empty")
        assert dataset.schema == {"image": "image", "label": "label"}
        ids = np.arange(len(dataset))
        assert dataset.labels(ids).tolist() == [label for _, _, label, _ in expected]
        assert dataset.labels(ids).dtype == np.int64
        assert dataset.num_bytes(ids).tolist() == [len(image) for _, image, _, _ in expected]
        assert dataset.crc32(ids).tolist() == [zlib.crc32(image) for _, image, _, _ in expected]
        for number, (key, image, label, shard) in enumerate(expected):
            sample = dataset[number]
            assert (sample.id, sample.key, sample.image, sample.label) == (number, key, image, label)
            assert sample.extras == {}
            assert read(dataset, number) == image
            assert dataset.key(number) == key
            assert os.path.basename(dataset.location(number)) == shard
            with Image.open(io.BytesIO(image)) as opened:
                assert dataset.sizes(np.array([number])).tolist() == [[opened.height, opened.width]]


def test_shape_of_ids_is_kept_and_numbers_outside_are_refused(converted):
    with open_dataset(converted) as dataset:
        ids = np.array([[3, 1], [59, 3]])
        assert dataset.labels(ids).shape == (2, 2)
        assert dataset.sizes(ids).shape == (2, 2, 2)
        assert dataset.labels(np.array([], np.int64)).shape == (0,)
        for bad in (-1, 60, 1 << 40):
            with pytest.raises(IndexError):
                dataset[bad]
            with pytest.raises(IndexError):
                dataset.labels(np.array([0, bad]))
            with pytest.raises(IndexError):
                dataset.read_into(bad, np.zeros(9, np.uint8))


def test_extents_and_shard_sizes_say_where_the_bytes_are(converted):
    with open_dataset(converted) as dataset:
        ids = np.arange(60)[::-1]
        files, offsets, sizes = dataset.extents(ids)
        for number, file, offset, size in zip(ids, files, offsets, sizes, strict=True):
            with open(dataset.file_path(file), "rb") as handle:
                handle.seek(offset)
                assert handle.read(size) == dataset[number].image
            assert os.pread(dataset.file_descriptor(file), size, offset) == dataset[number].image
        assert dataset.shard_sizes().tolist() == np.bincount(files).tolist()
        assert len(dataset.shard_sizes()) == len(list(converted.glob("*.tar"))) > 3


def test_sources_of_samples_are_kept(converted, photos):
    with open_dataset(converted) as dataset:
        for number in range(60):
            assert (photos / dataset.source(number)).read_bytes() == dataset[number].image


def test_a_damaged_tar_header_costs_nothing(converted):
    expected = tar_samples(converted)
    shard = converted / "shard-000001.tar"
    data = bytearray(shard.read_bytes())
    data[:512] = os.urandom(512)  # the header of the first member
    shard.write_bytes(data)
    with pytest.raises(tarfile.ReadError):
        tar_samples(converted)
    with open_dataset(converted) as dataset:
        assert [dataset[number].image for number in range(60)] == [image for _, image, _, _ in expected]


@pytest.mark.parametrize(
    ("verify", "before", "after"), [("first", True, False), ("always", True, True), ("never", False, False)]
)
def test_checksums_are_compared_first_always_or_never(converted, verify, before, after):
    """``before``: a byte that was changed before the first read is noticed; ``after``: one changed since."""
    with open_dataset(converted, verify=verify) as dataset:
        for number, notices in ((7, before), (8, after)):
            if number == 8:
                read(dataset, number)
            _, offset, size = (int(value[0]) for value in dataset.extents(np.array([number])))
            with open(dataset.location(number), "r+b") as shard:
                shard.seek(offset + size // 2)
                byte = shard.read(1)
                shard.seek(offset + size // 2)
                shard.write(bytes([byte[0] ^ 1]))
            if notices:
                for _ in range(2):
                    with pytest.raises(DataError, match="crc32") as caught:
                        read(dataset, number)
                    assert caught.value.key == dataset.key(number)
                    assert caught.value.path == dataset.location(number)
            else:
                read(dataset, number)
        assert read(dataset, 9)


def test_a_buffer_that_is_too_small_is_an_error(converted):
    with open_dataset(converted) as dataset:
        size = int(dataset.num_bytes(np.array([0]))[0])
        assert dataset.read_into(0, np.zeros(size, np.uint8)) == size
        with pytest.raises(DataError, match="does not fit"):
            dataset.read_into(0, np.zeros(size - 1, np.uint8))


def damage(name):
    """Each way in which a file of a data set may be wrong: (how to do it, what the error says)."""

    def cut(folder):
        file = folder / name
        os.truncate(file, file.stat().st_size - 1)

    def grow(folder):
        with open(folder / name, "ab") as file:
            file.write(b"\0")

    return {
        "missing": lambda folder: (folder / name).unlink(),
        "empty": lambda folder: os.truncate(folder / name, 0),
        "cut": cut,
        "grown": grow,
    }


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "grown"])
@pytest.mark.parametrize("name", ["shard-000002.tar", "index.arrow"])
def test_files_of_another_size_are_refused(converted, name, how):
    damage(name)[how](converted)
    with pytest.raises(DataError) as caught:
        open_dataset(converted)
    assert caught.value.path.endswith(name)
    assert "convert the data" in str(caught.value)


def test_a_missing_manifest_is_told_apart_from_a_folder_of_images(converted):
    (converted / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"expected dataset\.json"):
        open_dataset(converted)


def test_an_edited_index_of_equal_size_is_refused(converted):
    index = converted / "index.arrow"
    data = bytearray(index.read_bytes())
    data[len(data) // 2] ^= 1
    index.write_bytes(data)
    with pytest.raises(DataError, match="checksum"):
        open_dataset(converted)


def test_an_index_of_another_data_set_is_refused(converted, converted_once, photos, tmp_path):
    from fastload.convert import convert

    other = tmp_path / "other"
    convert(photos, other, shard_size="64KiB", seed=3)
    (converted / "index.arrow").write_bytes((other / "index.arrow").read_bytes())
    with pytest.raises(DataError, match=r"index\.arrow"):
        open_dataset(converted)


def manifest_of(folder, **changes):
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 2}, "upgrade fastload"),
        ({"version": 7, "shards": "elsewhere"}, "upgrade fastload"),
        ({"version": "1"}, "version"),
        ({"format": "webdataset"}, "format"),
        ({"samples": -1}, "samples"),
        ({"samples": 59}, "add up"),
        ({"classes": "cat"}, "classes"),
        ({"fingerprint": "x"}, "fingerprint"),
        ({"surprise": 1}, "surprise"),
        ({"shards": [{"name": "../shard-000000.tar", "size": 1, "samples": 60, "crc32": 1}]}, "plain file name"),
        ({"counts": {"found": 61, "written": 60, "skipped": 0, "reencoded": 0}}, r"found = written \+ skipped"),
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused_by_name(converted, changes, says):
    manifest_of(converted, **changes)
    with pytest.raises(DataError, match=says):
        open_dataset(converted)


@pytest.mark.parametrize("data", [b"", b"\n", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"\x89PNG\r\n"])
def test_a_manifest_that_is_no_json_object_is_refused(converted, data):
    (converted / "dataset.json").write_bytes(data)
    with pytest.raises(DataError, match=r"dataset\.json"):
        open_dataset(converted)


def rewrite_index(folder, data):
    """Puts other bytes in place of the index and lets the manifest vouch for them, as an attacker would."""
    (folder / "index.arrow").write_bytes(data)
    manifest_of(folder, index={"name": "index.arrow", "size": len(data), "crc32": zlib.crc32(data)})


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("shard", -1),
        ("shard", 99),
        ("offset", -1),
        ("offset", 1 << 60),
        ("size", 0xFFFFFFFF),
        ("label", 3),
        ("label", -2),
    ],
)
def test_rows_that_point_outside_are_refused_when_they_are_used(converted, column, value):

    with pa.ipc.open_file(converted / "index.arrow") as reader:
        batch = reader.get_batch(0)
    values = batch.column(column).to_numpy().copy()
    values[5] = value
    position = batch.schema.get_field_index(column)
    batch = batch.set_column(position, batch.schema.field(position), pa.array(values))
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    rewrite_index(converted, sink.getvalue())
    with open_dataset(converted) as dataset:
        dataset.labels(np.array([4, 6]))
        assert dataset[6].image
        with pytest.raises(DataError):
            dataset.extents(np.arange(60)) if column != "label" else dataset.labels(np.arange(60))
        with pytest.raises(DataError):
            dataset[5]


def test_no_damaged_index_gets_past_the_checks(converted):
    """Bytes of the table are changed at random, its checksum made to fit: a clear error, or reads that stay inside."""
    rng = np.random.default_rng(11)
    original = (converted / "index.arrow").read_bytes()
    opened = refused = 0
    for _ in range(400):
        data = bytearray(original)
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        rewrite_index(converted, bytes(data))
        try:
            with open_dataset(converted) as dataset:
                opened += 1
                for number in rng.integers(0, len(dataset), 4):
                    files, _, sizes = dataset.extents(np.array([number]))
                    assert sizes[0] < 1 << 20
                    assert files[0] < 10
                    dataset.key(number)
                    read(dataset, number)
        except DataError:
            refused += 1
    assert opened > 50
    assert refused > 50


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_an_index_that_would_unpack_to_more_is_refused_before_it_does(converted, codec):
    """A find of the fuzzer's author: 5 KB of compressed columns allocated 96 MB before the rows were counted."""
    schema = index_schema([])
    texts = pa.array([""] * 1_000_000, pa.large_string())
    zeros = np.zeros(1_000_000)
    columns = [texts if pa.types.is_large_string(field.type) else pa.array(zeros, field.type) for field in schema]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_batch(batch)
    rewrite_index(converted, sink.getvalue())
    with pytest.raises(DataError, match="expected an Arrow file with the columns"):
        open_dataset(converted)
    # In a process of its own, where nothing else has raised the high-water mark.
    program = """if True:
        import contextlib, sys
        import pyarrow as pa
        from fastload.dataset import open_dataset
        from fastload.errors import DataError
        with contextlib.suppress(DataError):
            open_dataset(sys.argv[1])
        print(pa.default_memory_pool().max_memory())
    """
    done = subprocess.run([sys.executable, "-c", program, converted], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1 << 20


@pytest.mark.parametrize("name", ["dataset.json", "shard-000000.seek"])
def test_a_pipe_in_place_of_a_file_does_not_hang(converted, name):
    (converted / name).unlink()
    os.mkfifo(converted / name)
    if name == "dataset.json":
        with pytest.raises(DataError, match="a pipe"):
            open_dataset(converted)
    else:
        with open_dataset(converted) as dataset:
            assert dataset.seek_index(0).size == 0
            assert dataset[0].image


def test_opening_allocates_no_more_than_the_manifest_has(converted):
    tracemalloc.start()
    open_dataset(converted).close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20  # reading up to a limit of 256 MiB allocated as much


@pytest.mark.parametrize("kind", ["nothing", "file", "empty", "text"])
def test_a_path_without_a_data_set_is_refused(tmp_path, kind):
    path = tmp_path / "place"
    if kind == "file":
        path.write_bytes(b"x")
    elif kind != "nothing":
        path.mkdir()
        if kind == "text":
            (path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="place"):
        open_dataset(path)


def test_verify_takes_three_words(converted):
    with pytest.raises(ConfigError, match="verify"):
        open_dataset(converted, verify="sometimes")


def test_threads_share_one_data_set(converted, monkeypatch):
    expected = [image for _, image, _, _ in tar_samples(converted)]
    with open_dataset(converted) as dataset:
        wrong = []

        def work(seed):
            numbers = np.random.default_rng(seed).integers(0, 60, 300)
            wrong.extend(number for number in numbers if read(dataset, number) != expected[number])

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_more_shards_than_descriptors(converted, monkeypatch):
    """The first two shards stay open, the others are opened for each read; nothing leaks."""
    expected = [image for _, image, _, _ in tar_samples(converted)]
    monkeypatch.setattr("fastload.dataset.sharded._descriptor_budget", lambda: 2)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    with open_dataset(converted) as dataset:
        assert [read(dataset, number) for number in range(60)] == expected
        if before is not None:
            assert len(os.listdir("/proc/self/fd")) <= before + 2 + 1  # and the map of the index
    if before is not None:
        del dataset
        assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_copy_in_another_process_reads_the_same(converted):
    with open_dataset(converted, verify="always") as dataset:
        copy = pickle.loads(pickle.dumps(dataset))
        assert [copy[number] for number in range(60)] == [dataset[number] for number in range(60)]
        copy.close()


def test_a_shard_that_is_cut_after_opening_names_the_sample(converted):
    with open_dataset(converted) as dataset:
        read(dataset, 59)  # the last shard is open
        os.truncate(dataset.location(59), 600)
        with pytest.raises(DataError, match="cut short") as caught:
            read(dataset, 59)
        assert caught.value.key == dataset.key(59)


def test_closing_twice_and_reading_afterwards(converted):
    dataset = open_dataset(converted)
    dataset.close()
    dataset.close()
    with pytest.raises(ValueError, match="closed"):
        read(dataset, 0)
