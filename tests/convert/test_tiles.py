"""--tiles: shards of JPEGs with restart tiles that show what the source shows, every image accounted for."""

import io
import json

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from fastload.convert import convert
from fastload.convert import tiling as tiling_module
from fastload.convert.transcode import transcode
from fastload.dataset import open_dataset
from fastload.errors import DataError
from fastload.jpeg.header import read_header
from fastload.jpeg.recode.part import part_of


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture(scope="module")
def tiled(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiled") / "out"
    return folder, convert(photos, folder, shard_size="100k", tiles=True)


def test_every_image_is_rewritten_and_shows_the_same(photos, tiled):
    folder, summary = tiled
    assert (summary.found, summary.written, summary.skipped) == (80, 77, 3)
    assert (summary.reencoded, summary.retiled) == (1, 77)
    with open_dataset(folder, verify="always") as dataset:
        assert dataset.manifest.counts.retiled == 77
        assert dataset.manifest.conversion["options"]["tiles"] is True
        for number in range(77):
            image = dataset[number].image
            source = (photos / dataset.source(number)).read_bytes()
            assert image != source
            assert part_of(image, top=20, left=30, height=8, width=8) is not None
            if source[:2] == b"\xff\xd8":
                np.testing.assert_array_equal(pixels(image), pixels(source))
            assert dataset.seek_index(number).size == 0


def test_equal_bytes_for_any_number_of_workers(photos, tiled, tmp_path):
    convert(photos, tmp_path / "again", shard_size="100k", tiles=True, workers=3)
    for path in tiled[0].iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_it_is_part_of_what_a_conversion_is(photos, tiled):
    assert convert(photos, tiled[0], shard_size="100k", tiles=True).already_done
    with pytest.raises(DataError, match="tiles"):
        convert(photos, tiled[0], shard_size="100k")


def test_progressive_files_become_baseline(tools):
    data = tools.encode(tools.picture(1, (90, 70)), progressive=True)
    result = transcode(data, tiles=True, seek_index=True)
    assert (result.retiled, result.reencoded, result.untiled, result.seek) == (True, False, "", b"")
    assert not read_header(result.image).progressive
    np.testing.assert_array_equal(pixels(result.image), pixels(data))


def test_what_cannot_have_tiles_is_kept_and_named(tools, tmp_path):
    data = tools.encode(tools.picture(1, (90, 70)), progressive=True)
    smoothed = data[: data.rindex(b"\xff\xda")] + b"\xff\xd9"  # without its last scan, of which nobody warns
    assert simplejpeg.decode_jpeg(smoothed, strict=True).shape == (70, 90, 3)
    (tmp_path / "source" / "a").mkdir(parents=True)
    (tmp_path / "source" / "a" / "whole.jpg").write_bytes(data)
    (tmp_path / "source" / "a" / "smoothed.jpg").write_bytes(smoothed)
    summary = convert(tmp_path / "source", tmp_path / "out", tiles=True)
    assert (summary.written, summary.retiled) == (2, 1)
    line = json.loads((tmp_path / "out" / "conversion.jsonl").read_text())
    assert (line["source"], line["action"]) == ("a/smoothed.jpg", "not tiled")
    assert "coefficients are missing" in line["reason"]
    with open_dataset(tmp_path / "out") as dataset:
        assert smoothed in (dataset[0].image, dataset[1].image)


def test_pixels_that_differ_are_never_stored(tools, monkeypatch):
    """Should the rewriting ever err, libjpeg-turbo's pixels say so."""
    data, other = (tools.encode(tools.picture(number, (90, 70))) for number in (1, 2))
    monkeypatch.setattr(tiling_module, "retile", lambda image: other)
    result = transcode(data, tiles=True, seek_index=True)
    assert result.image is data
    assert "other pixels" in result.untiled
    assert result.seek != b""


def test_shrunk_images_have_tiles_too(tools):
    result = transcode(tools.encode(tools.picture(1, (300, 200))), max_side=150, tiles=True, seek_index=True)
    assert (result.reencoded, result.retiled) == (True, True)
    assert read_header(result.image).restart_interval > 0
