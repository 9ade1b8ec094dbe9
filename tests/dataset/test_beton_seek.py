"""x.beton.seek: FFCV's files read as fast as shards, pixel for pixel, with checksums; never that of another file."""

import logging
import os
import shutil

import numpy as np
import pytest

import fastload as fl
from fastload import transforms as T
from fastload.dataset import open_dataset
from fastload.dataset.indexing import write_seek_indexes
from fastload.errors import DataError
from fastload.jpeg.decoder import build_index
from fastload.verify import verify
from tests.dataset.beton_files import INT, RGB, image_of, jpeg_bytes, pictures, write_beton

PIXELS = pictures(12, seed=5, smallest=80, largest=200)


@pytest.fixture
def beton(tmp_path):
    """Twelve images in the layout of FFCV's, every third one raw, laid out by struct alone."""
    images = [image_of(pixels, raw=number % 3 == 2) for number, pixels in enumerate(PIXELS)]
    fields = [("image", RGB, b""), ("label", INT, b"")]
    return write_beton(tmp_path / "x.beton", fields, [(image, number % 4) for number, image in enumerate(images)])


def seek_of(path):
    return path.with_name(f"{path.name}.seek")


def crops(path, **options):
    """Two epochs of random crops: pixels and labels by sample."""
    found = {}
    with fl.Loader(
        path, batch_size=4, seed=3, transforms=[T.RandomResizedCrop(48)], num_workers=2, **options
    ) as loader:
        for epoch in range(2):
            loader.set_epoch(epoch)
            for batch in loader:
                for number, image in zip(batch.ids.tolist(), batch.images.numpy(), strict=True):
                    found[epoch, number] = image.copy()
    return found


def test_the_same_pixels_with_and_without(beton):
    without = crops(beton)
    summary = write_seek_indexes(beton)
    assert (summary.shards, summary.written, summary.samples, summary.indexed) == (1, 1, 12, 8)
    assert summary.num_bytes == os.path.getsize(f"{beton}.seek")
    found = crops(beton)
    assert found.keys() == without.keys()
    for place, pixels in without.items():
        np.testing.assert_array_equal(found[place], pixels)
    with open_dataset(beton) as dataset:
        for number, pixels in enumerate(PIXELS):
            data = jpeg_bytes(pixels)
            expected = b"" if number % 3 == 2 else build_index(data)
            assert dataset.seek_index(number).tobytes() == expected
            assert number % 3 == 2 or dataset[number].image == data


def test_the_kernel_uses_the_indexes(beton):
    """With an index most of a large JPEG is never looked at: damage there goes unseen where nothing is compared."""
    pixels = np.tile(PIXELS[0], (12, 12, 1))[:1200, :1200]
    fields = [("image", RGB, b""), ("label", INT, b"")]
    write_beton(beton, fields, [(image_of(pixels, raw=False), 0)])
    write_seek_indexes(beton)
    with open_dataset(beton) as dataset:
        _, offsets, sizes = dataset.extents(np.arange(1))
    place = int(offsets[0] + sizes[0] * 0.8)
    data = bytearray(beton.read_bytes())
    data[place : place + 2] = b"\xff\xd9"  # the end, far before the end
    beton.write_bytes(data)
    options = {"batch_size": 1, "transforms": [T.CenterCrop(64)], "num_workers": 1, "last_batch": "keep"}
    with fl.Loader(beton, verify="never", **options) as loader:
        assert next(iter(loader)).images.shape[0] == 1
    for verify_option in ("first", "always"):
        with fl.Loader(beton, verify=verify_option, **options) as loader, pytest.raises(DataError, match="crc32"):
            list(loader)


def test_a_second_run_writes_nothing_and_rebuild_the_same(beton):
    write_seek_indexes(beton)
    before = seek_of(beton).stat()
    assert write_seek_indexes(beton, workers=1).written == 0
    assert seek_of(beton).stat().st_mtime_ns == before.st_mtime_ns
    data = seek_of(beton).read_bytes()
    assert write_seek_indexes(beton, rebuild=True).written == 1
    assert seek_of(beton).read_bytes() == data


def test_of_another_file_it_is_not_used(beton, tmp_path, caplog):
    write_seek_indexes(beton)
    other = tmp_path / "other" / "x.beton"
    other.parent.mkdir()
    fields = [("image", RGB, b""), ("label", INT, b"")]
    write_beton(
        other, fields, [(image_of(pixels, raw=False), number) for number, pixels in enumerate(reversed(PIXELS))]
    )
    shutil.copy(f"{beton}.seek", f"{other}.seek")
    with caplog.at_level(logging.WARNING), open_dataset(other) as dataset:
        assert dataset.seek_index(0).size == 0
        assert dataset[0].image == jpeg_bytes(PIXELS[-1])
    assert "of another .beton file" in caplog.text
    report = verify(other)
    assert [(finding.kind, finding.file) for finding in report.findings] == [("seek", "x.beton.seek")]
    assert write_seek_indexes(other).written == 1
    assert verify(other).ok


def test_damage_is_found_by_its_checksum(beton):
    write_seek_indexes(beton)
    with open_dataset(beton) as dataset:
        _, offsets, sizes = dataset.extents(np.arange(12))
    data = bytearray(beton.read_bytes())
    data[int(offsets[4] + sizes[4] - 30)] ^= 1
    beton.write_bytes(data)
    with open_dataset(beton) as dataset:
        assert dataset[3].image
        with pytest.raises(DataError, match=r"expected crc32 \w+, as x\.beton\.seek says"):
            dataset[4]
    with open_dataset(beton, verify="never") as dataset:
        assert dataset[4].image
    assert [(finding.kind, finding.sample) for finding in verify(beton).findings] == [("sample", 4)]


def test_a_damaged_index_costs_speed_alone(beton):
    without = crops(beton)
    write_seek_indexes(beton)
    data = bytearray(seek_of(beton).read_bytes())
    data[-20] ^= 255  # in the index of the last JPEG
    seek_of(beton).write_bytes(data)
    for place, pixels in crops(beton).items():
        np.testing.assert_array_equal(pixels, without[place])
    (finding,) = verify(beton).findings
    assert (finding.kind, finding.file, finding.reason) == ("seek", "x.beton.seek", "its seek index is damaged")
    data[40] ^= 1  # and in the header's zeros, or the table
    data[70] ^= 1
    seek_of(beton).write_bytes(data)
    for place, pixels in crops(beton).items():
        np.testing.assert_array_equal(pixels, without[place])
