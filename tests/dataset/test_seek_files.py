"""Seek indexes beside the shards: the same pixels with, without and with bad ones; written where they are missing."""

import json
import logging

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from fastload import Loader, convert, open_dataset
from fastload import transforms as T
from fastload.dataset.indexing import write_seek_indexes
from fastload.errors import DataError
from fastload.jpeg.decoder import decode
from tests.command_line import run


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Forty photographs of noise and shapes: all samplings, one progressive, one PNG (which is re-encoded)."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "a").mkdir()
    rng = np.random.default_rng(11)
    for number in range(40):
        height, width = rng.integers(120, 320, 2)
        small = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)).astype(np.uint8)
        image = Image.fromarray(small).resize((int(width), int(height)), Image.Resampling.BICUBIC)
        if number == 39:
            image.save(folder / "a" / "39.png")
        else:
            name = folder / "a" / f"{number:02}.jpg"
            image.save(name, quality=88, subsampling=number % 3, progressive=number == 7)
    return folder


@pytest.fixture
def shards(photos, tmp_path):
    folder = tmp_path / "shards"
    convert(photos, folder, shard_size="64KiB")
    return folder


def pixels(folder):
    with Loader(
        folder,
        batch_size=16,
        transforms=[T.RandomResizedCrop(48), T.RandomHorizontalFlip()],
        seed=1,
        num_workers=2,
    ) as loader:
        return np.concatenate([batch.images.numpy() for batch in loader])


def seek_files(folder):
    return sorted(folder.glob("*.seek"))


def test_convert_writes_an_index_for_every_image_that_the_decoder_takes(shards):
    with open_dataset(shards) as dataset:
        assert len(seek_files(shards)) == len(dataset.shard_sizes()) > 1
        for number in range(len(dataset)):
            sample = dataset[number]
            index = dataset.seek_index(number)
            assert (index.size == 0) == (dataset.source(number) == "a/07.jpg")
            if index.size:
                region = (10, 20, 30, 25)
                whole = simplejpeg.decode_jpeg(sample.image)
                np.testing.assert_array_equal(
                    decode(bytearray(sample.image), index=index, rectangle=region), whole[10:40, 20:45]
                )


def test_deleting_it_changes_no_pixel(shards):
    with_index = pixels(shards)
    for path in seek_files(shards):
        path.unlink()
    with open_dataset(shards) as dataset:
        assert dataset.seek_index(0).size == 0
    np.testing.assert_array_equal(pixels(shards), with_index)


def test_a_damaged_or_foreign_file_changes_no_pixel(shards, caplog):
    expected = pixels(shards)
    first, second, third, *_ = seek_files(shards)
    foreign = third.read_bytes()
    for path, position in ((first, -200), (third, 70)):  # in an index; in the table, which is noticed at once
        data = bytearray(path.read_bytes())
        data[position] ^= 0x40
        path.write_bytes(data)
    second.write_bytes(foreign)
    with caplog.at_level(logging.WARNING, logger="fastload"):
        np.testing.assert_array_equal(pixels(shards), expected)
    assert "without it" in caplog.text


def test_a_file_of_random_bytes_is_not_used(shards, caplog):
    expected = pixels(shards)
    rng = np.random.default_rng(5)
    for path in seek_files(shards):
        path.write_bytes(rng.integers(0, 256, path.stat().st_size, np.uint8).tobytes())
    with caplog.at_level(logging.WARNING, logger="fastload"):
        np.testing.assert_array_equal(pixels(shards), expected)


def test_missing_ones_are_written_and_others_left_alone(photos, shards, tmp_path):
    before = {path: path.read_bytes() for path in seek_files(shards)}
    lost = seek_files(shards)[1]
    lost.unlink()
    (shards / f"{lost.name}.999999999.tmp").write_bytes(b"left by a process that was killed")
    calls = []
    summary = write_seek_indexes(shards, workers=2, progress=lambda *call: calls.append(call))
    assert (summary.written, summary.shards, summary.samples) == (1, len(before), 40)
    assert calls[-1] == (40, 40)
    assert {path: path.read_bytes() for path in seek_files(shards)} == before
    assert not list(shards.glob("*.tmp"))
    assert write_seek_indexes(shards).written == 0
    assert write_seek_indexes(shards, rebuild=True, workers=1).written == len(before)
    assert {path: path.read_bytes() for path in seek_files(shards)} == before
    # Converting again writes them too, and so does not asking for them and then asking.
    lost.unlink()
    assert convert(photos, shards, shard_size="64KiB").already_done
    assert lost.read_bytes() == before[lost]
    convert(photos, tmp_path / "without", shard_size="64KiB", seek_index=False)
    assert seek_files(tmp_path / "without") == []


def test_the_command(shards):
    for path in seek_files(shards):
        path.unlink()
    summary = json.loads(run("index", shards, "--json").stdout)
    assert summary["indexed"] == 39
    assert summary["num_bytes"] == sum(path.stat().st_size for path in seek_files(shards))


def test_no_data_set_is_one_clear_error(tmp_path):
    with pytest.raises(DataError):
        write_seek_indexes(tmp_path)
