"""Images and masks of equal names become pairs, masks with every value that they had."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from fastload.convert import convert
from fastload.dataset import open_dataset
from fastload.errors import ConfigError, DataError
from fastload.sources import MaskPairSource, open_source


def test_real_pairs(coco128, tmp_path):
    summary = convert(coco128, tmp_path / "out")
    assert (summary.found, summary.written, summary.skipped) == (128, 100, 28)
    assert summary.reencoded == 0
    with open_dataset(tmp_path / "out", verify="always") as dataset:
        assert dataset.schema == {"image": "image", "seg.png": "mask"}
        for number in range(0, 100, 9):
            sample, name = dataset[number], dataset.source(number)
            mask = coco128 / "masks" / name.replace(".jpg", ".png")
            assert sample.image == (coco128 / "images" / name).read_bytes()
            assert sample.extras["seg.png"] == mask.read_bytes()
            with Image.open(mask) as reference:
                assert np.array_equal(sample.fields["seg.png"], np.array(reference))


@pytest.fixture
def pairs(tmp_path):
    """images/ and masks/ with one pair in each of two folders."""
    root = tmp_path / "data"
    for name in ("a", "deep/b"):
        for kind in ("images", "masks"):
            (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (9, 9, 9)).save(root / "images" / f"{name}.jpg")
        values = np.arange(1200, dtype=np.uint16).reshape(30, 40)
        Image.fromarray(values.astype(np.uint8)).save(root / "masks" / f"{name}.png")
    return root


def test_two_folders_by_name(pairs, tmp_path):
    (pairs / "masks").rename(pairs / "labels")
    source = open_source(pairs / "images", mask_folder=pairs / "labels")
    assert isinstance(source, MaskPairSource)
    assert [source.name(number) for number in range(2)] == ["a.jpg", "deep/b.jpg"]
    assert source.num_bytes()[0] == sum(os.stat(pairs / name).st_size for name in ("images/a.jpg", "labels/a.png"))
    for wrong in (pairs / "labels" / "out", pairs / "images" / "out"):
        with pytest.raises(ConfigError, match="inside"):
            convert(pairs / "images", wrong, mask_folder=pairs / "labels")


@pytest.mark.parametrize(
    ("mode", "extension", "dtype"),
    [
        ("L", "bmp", np.uint8),
        ("I;16", "tif", np.uint16),
        ("I;16", "png", np.uint16),
        ("P", "gif", np.uint8),
        ("1", "png", np.uint8),
    ],
)
def test_every_value_is_kept(pairs, tmp_path, mode, extension, dtype):
    values = (
        np.arange(1200).reshape(30, 40) * 50 % (2 if mode == "1" else 65_536 if dtype == np.uint16 else 200)
    ).astype(dtype)
    if mode == "1":
        image = Image.fromarray(values.astype(bool))
    else:
        image = Image.fromarray(values)
        if mode == "P":
            image = image.convert("P")
            image.putdata(values.ravel().tolist())
            image.putpalette([n for i in range(256) for n in (i, 255 - i, i)])
    (pairs / "masks" / "a.png").unlink()
    image.save(pairs / "masks" / f"a.{extension}")
    convert(pairs, tmp_path / "out")
    with open_dataset(tmp_path / "out") as dataset:
        mask = dataset[0].fields["seg.png"]
        assert mask.dtype == dtype
        with Image.open(pairs / "masks" / f"a.{extension}") as reference:  # Pillow numbers a GIF's colours anew
            assert np.array_equal(mask, np.array(reference))
        assert extension == "gif" or np.array_equal(mask, values)


def test_masks_shrink_to_the_values_they_have(pairs, tmp_path):
    convert(pairs, tmp_path / "out", max_side=8)
    with open_dataset(tmp_path / "out") as dataset:
        whole = np.array(Image.open(pairs / "masks" / "a.png"))
        assert dataset.sizes(np.array([0])).tolist() == [[6, 8]]
        assert np.array_equal(dataset[0].fields["seg.png"], whole[2::5, 2::5])


def test_what_does_not_pair_or_decode_is_accounted_for(pairs, tmp_path):
    def image(name, size=(40, 30), mode="L"):
        Image.new(mode, size).save(pairs / name)

    image("images/no mask.jpg")
    image("masks/no image.png")
    for name in ("other size", "colours", "cut", "text"):
        image(f"images/{name}.jpg")
    image("masks/other size.png", (30, 40))
    image("masks/colours.png", mode="RGB")
    noise = np.random.default_rng(4).integers(0, 255, (30, 40), np.uint8)
    Image.fromarray(noise).save(pairs / "masks" / "cut.png")
    os.truncate(pairs / "masks" / "cut.png", 600)
    (pairs / "masks" / "text.png").write_text("no image")
    summary = convert(pairs, tmp_path / "out")
    assert (summary.found, summary.written) == (8, 2)
    lines = [json.loads(line) for line in (tmp_path / "out" / "conversion.jsonl").read_text().splitlines()]
    reasons = {line["source"]: line["reason"] for line in lines}
    assert "no mask" in reasons["no mask.jpg"]
    assert "no image" in reasons["mask no image.png"]
    assert "30 x 40" not in reasons["other size.jpg"].split("but")[1]
    assert "one channel" in reasons["colours.jpg"]
    assert "decoded" in reasons["cut.jpg"]
    assert "decoded" in reasons["text.jpg"]


def test_no_pairs_and_no_single_name(pairs):
    Image.new("L", (9, 9)).save(pairs / "masks" / "a.bmp")
    with pytest.raises(DataError, match="one name"):
        open_source(pairs)
    (pairs / "none").mkdir()
    with pytest.raises(DataError, match="expected masks"):
        open_source(pairs / "images", mask_folder=pairs / "none")
    with pytest.raises(DataError, match="listed"):
        open_source(pairs / "images", mask_folder=pairs / "gone")
    with pytest.raises(ConfigError, match="mask-folder"):
        open_source(pairs / "images", masks=True)


def test_the_digest_follows_masks(pairs):
    before = open_source(pairs).digest()
    Image.new("L", (41, 30)).save(pairs / "masks" / "a.png")
    assert open_source(pairs).digest() != before
