"""A .beton file is read as its layout says, whatever its fields and their order; what is wrong with it is said."""

import io
import json
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

import fastload as fl
from fastload import transforms as T
from fastload.dataset import BetonDataset, open_dataset
from fastload.engine.cpu import job
from fastload.errors import ConfigError, DataError
from tests.dataset.beton_files import (
    BYTES,
    FLOAT,
    INT,
    JSON,
    NDARRAY,
    PAGE,
    RGB,
    array_arguments,
    image_of,
    jpeg_bytes,
    pictures,
    write_beton,
)

COUNT = 9
PIXELS = pictures(COUNT)
ARRAYS = np.arange(COUNT * 6, dtype="<f4").reshape(COUNT, 2, 3)
COLUMNS = {
    "image": (RGB, b"", [image_of(pixels, raw=number % 2 == 1) for number, pixels in enumerate(PIXELS)]),
    "label": (INT, b"", [number % 4 for number in range(COUNT)]),
    "weight": (FLOAT, b"", [number / 3 for number in range(COUNT)]),
    "blob": (BYTES, b"", [bytes(range(number)) for number in range(COUNT)]),
    "meta": (JSON, b"", [json.dumps({"number": number}).encode() for number in range(COUNT)]),
    "array": (NDARRAY, array_arguments((2, 3), "<f4"), [array.tobytes() for array in ARRAYS]),
}


def write_columns(path, names):
    fields = [(name, *COLUMNS[name][:2]) for name in names]
    return write_beton(path, fields, list(zip(*(COLUMNS[name][2] for name in names), strict=True)))


@pytest.fixture
def small(tmp_path):
    return write_columns(tmp_path / "small.beton", ["image", "label"])


@pytest.mark.parametrize(
    "names",
    [
        ("image", "label"),
        ("label", "image"),
        ("image",),
        ("image", "label", "blob"),
        ("weight", "image", "meta", "label", "array", "blob"),
        ("blob", "meta", "image", "array", "label"),
    ],
    ids=" ".join,
)
def test_every_field_is_found_whatever_the_order(names, tmp_path):
    dataset = open_dataset(write_columns(tmp_path / "x.beton", names))
    assert len(dataset) == COUNT
    assert dataset.classes == ()
    ids = np.arange(COUNT)
    has_label = "label" in names
    assert dataset.labels(ids).tolist() == (COLUMNS["label"][2] if has_label else [-1] * COUNT)
    assert dataset.sizes(ids).tolist() == [list(pixels.shape[:2]) for pixels in PIXELS]
    assert dataset.is_raw(ids).tolist() == [number % 2 == 1 for number in range(COUNT)]
    for number, pixels in enumerate(PIXELS):
        sample = dataset[number]
        assert len(sample.image) == dataset.num_bytes(ids)[number]
        if number % 2:
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(sample.image))), pixels)
        else:
            assert sample.image == jpeg_bytes(pixels)
        assert sample.extras.keys() == set(names) - {"image", "label"}
        for name in sample.extras.keys() & {"blob", "meta", "array"}:
            assert sample.extras[name] == COLUMNS[name][2][number]
        if "weight" in names:
            assert struct.unpack("<d", sample.extras["weight"]) == (number / 3,)
            assert dataset.value(number, "weight") == number / 3
        if "array" in names:
            assert np.array_equal(dataset.value(number, "array"), ARRAYS[number])
            assert dataset.schema["array"] == "ndarray <f4 2x3"
        if "meta" in names:
            assert dataset.value(number, "meta") == {"number": number}


def test_extents_say_where_the_bytes_lie(small):
    dataset = open_dataset(small)
    files, offsets, sizes = dataset.extents(np.arange(COUNT))
    data = small.read_bytes()
    assert set(files.tolist()) == {0}
    assert dataset.file_path(0) == str(small)
    for number, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
        expected = PIXELS[number].tobytes() if number % 2 else jpeg_bytes(PIXELS[number])
        assert data[offset : offset + size] == expected


def test_pages_are_runs_of_neighbours(tmp_path):
    pixels = [image_of(np.zeros((600, 800, 3), np.uint8), raw=True)] * 5  # 1.44 MB each, a page holds one
    small = [image_of(np.zeros((10, 10, 3), np.uint8), raw=True)] * 4
    samples = [(image,) for image in pixels[:2] + small + pixels[2:]]
    dataset = open_dataset(write_beton(tmp_path / "x.beton", [("image", RGB, b"")], samples))
    assert dataset.shard_sizes().tolist() == [1, 5, 1, 1, 1]
    empty = open_dataset(write_beton(tmp_path / "empty.beton", [("image", RGB, b"")], []))
    assert len(empty) == 0
    assert empty.shard_sizes().tolist() == []


def test_loader_reads_both_modes_as_pillow_does(small):
    with fl.Loader(str(small), batch_size=COUNT, shuffle=False, transforms=[T.Resize((32, 40))]) as loader:
        (batch,) = list(loader)
        for number, pixels in enumerate(PIXELS):
            image = Image.fromarray(pixels) if number % 2 else Image.open(io.BytesIO(jpeg_bytes(pixels)))
            expected = np.asarray(image.resize((40, 32), Image.Resampling.BILINEAR)).astype(int)
            found = batch.images[number].permute(1, 2, 0).numpy().astype(int)
            assert np.abs(found - expected).max() <= 1
        assert batch.labels.tolist() == COLUMNS["label"][2]
        assert batch.ids.tolist() == list(range(COUNT))


def test_fingerprint_changes_with_labels_and_sizes(small, tmp_path):
    first = open_dataset(small).fingerprint
    assert open_dataset(small).fingerprint == first
    other = bytearray(small.read_bytes())
    struct.pack_into("<q", other, 24 + 2 * 1041 + 16, 3)  # the first label
    (tmp_path / "other.beton").write_bytes(other)
    assert open_dataset(tmp_path / "other.beton").fingerprint != first


def test_pickled_data_sets_open_the_file_again(small):
    dataset = pickle.loads(pickle.dumps(BetonDataset(small, label="label")))
    assert dataset[3].label == 3
    dataset.close()
    dataset.close()
    with pytest.raises(ValueError, match="closed"):
        dataset[3]


def test_fields_are_chosen_by_name(tmp_path):
    image = image_of(PIXELS[0], raw=False), image_of(PIXELS[1], raw=True)
    fields = [("left", RGB, b""), ("right", RGB, b""), ("a", INT, b""), ("b", INT, b"")]
    path = write_beton(tmp_path / "x.beton", fields, [(*image, 5, 6)])
    with pytest.raises(ConfigError, match=r"several image fields \(left, right\).*image=\.\.\."):
        open_dataset(path)
    with pytest.raises(ConfigError, match="several int fields"):
        BetonDataset(path, image="left")
    with pytest.raises(ConfigError, match="no int field 'left'"):
        BetonDataset(path, image="left", label="left")
    dataset = BetonDataset(path, image="right", label="b")
    assert dataset[0].label == 6
    assert dataset[0].extras == {"left": jpeg_bytes(PIXELS[0]), "a": struct.pack("<q", 5)}
    assert dataset.schema == {"left": "image", "right": "image", "a": "int", "b": "label"}


def patched(path, offset, layout, *values):
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, offset % len(data), *values)
    copy = path.with_name("patched.beton")
    copy.write_bytes(data)
    return copy


FIRST_ROW = 24 + 2 * 1041


@pytest.mark.parametrize(
    ("offset", "layout", "value", "message"),
    [
        (0, "<H", 3, "in version 2, but the file begins with 3"),
        (2, "<H", 0, "1 to 256 fields"),
        (2, "<H", 60_000, "1 to 256 fields"),
        (4, "<I", 0, "pages of a power of two"),
        (4, "<I", 3 << 20, "pages of a power of two"),
        (2, "<H", 200, "custom one|expected a field name"),
        (8, "<Q", 1 << 62, "expected at least"),
        (16, "<Q", 0, "writing it was interrupted"),
        (16, "<Q", 1 << 63, "between the samples and the end"),
        (16, "<Q", 25, "between the samples and the end"),
        (24, "<B", 255, "'image' has FFCV's type 255, a custom one"),
        (24, "<B", 0, "expected a field of RGB images"),
        (25, "<16s", b"\xff\xfe", "field name in ASCII"),
        (25, "<16s", b"label", "different names"),
    ],
)
def test_damaged_tables_are_named(small, offset, layout, value, message):
    with pytest.raises(DataError, match=message):
        open_dataset(patched(small, offset, layout, value))


def test_no_beton_file(tmp_path):
    for data in (b"", b"\x02\x00", bytes(1000), b"\xff\xd8\xff" * 100):
        (tmp_path / "x.beton").write_bytes(data)
        with pytest.raises(DataError):
            open_dataset(tmp_path / "x.beton")
    with pytest.raises(DataError, match="nothing at this path"):
        open_dataset(tmp_path / "y.beton")


@pytest.mark.parametrize("cut", [1, 24, 24 * COUNT, PAGE, 2 * PAGE, 2 * PAGE + 500])
def test_a_file_that_was_cut_short_is_refused(small, cut):
    data = small.read_bytes()
    small.write_bytes(data[:-cut])
    if cut in (24, 24 * COUNT):  # the table is shorter: samples are missing, each by its number
        dataset = open_dataset(small)
        with pytest.raises(DataError, match="nothing that the allocation table knows"):
            [dataset[number] for number in range(COUNT)]
    else:
        with pytest.raises(DataError, match="cut short"):
            open_dataset(small)


@pytest.mark.parametrize(
    ("row", "offset", "layout", "value"),
    [
        (0, 5, "<Q", 1 << 63),
        (0, 5, "<Q", 0),
        (0, 5, "<Q", PAGE + 1),
        (0, 0, "<B", 2),
        (1, 1, "<H", 60_000),
        (1, 3, "<H", 0),
        (1, 0, "<B", 7),
    ],
)
def test_a_damaged_row_fails_alone(small, row, offset, layout, value):
    path = patched(small, FIRST_ROW + 24 * row + offset, layout, value)
    dataset = open_dataset(path)
    assert dataset.num_bytes(np.array([row])).tolist() == [0]
    assert dataset.sizes(np.array([row])).tolist() == [[0, 0]]
    with pytest.raises(DataError, match="points outside of the file") as caught:
        dataset[row]
    assert caught.value.key == f"{row:09d}"
    assert dataset[row + 1].image
    with fl.Loader(dataset, batch_size=COUNT, shuffle=False, transforms=[T.Resize((8, 8))], on_error="skip") as loader:
        (batch,) = list(loader)
        assert row not in batch.ids.tolist()
        assert len(batch.ids) == COUNT
        assert [each.sample_id for each in loader.stats().epoch.skipped] == [row]


def test_a_jpeg_larger_than_its_row_says_is_no_crop_outside_of_it(small):
    dataset = open_dataset(patched(small, FIRST_ROW + 1, "<HH", 4000, 3000))
    with (
        fl.Loader(dataset, batch_size=1, shuffle=False, transforms=[T.CenterCrop(8)]) as loader,
        pytest.raises(DataError, match="does not fit the file"),
    ):
        next(iter(loader))


def test_allocations_outside_of_the_file_count_as_none(small):
    size = len(small.read_bytes())
    for layout, position, value in (("<Q", 8, (1 << 64) - 8), ("<Q", 16, (1 << 64) - 8), ("<Q", 0, COUNT)):
        dataset = open_dataset(patched(small, size - 24 + position, layout, value))  # that of sample 0, written last
        with pytest.raises(DataError, match="allocation table"):
            dataset[0]


def test_spans_are_checked_before_they_are_read(tmp_path):
    names = ["blob", "image", "array"]
    path = write_columns(tmp_path / "x.beton", names)
    first = 24 + 3 * 1041
    for offset, value in ((0, 1 << 63), (8, 1 << 63), (8, (1 << 64) - 1), (32, 1 << 62), (32, 3)):
        dataset = open_dataset(patched(path, first + 40 * 1 + offset, "<Q", value))
        with pytest.raises(DataError, match="points outside"):
            dataset[1]
        assert dataset[2].extras["blob"] == b"\0\1"


@pytest.mark.parametrize("code", ["|O", "<f4,<f4", "(1000000000,)<f8", "", "<f99999999", "|V8"])
def test_types_of_arrays_that_are_no_numbers_are_refused(code, tmp_path):
    arguments = array_arguments((2,), code)
    with pytest.raises(DataError, match="shape and type of the field 'array'"):
        open_dataset(write_beton(tmp_path / "x.beton", [("image", RGB, b""), ("array", NDARRAY, arguments)], []))


RECIPES = [
    [T.RandomResizedCrop(24), T.RandomHorizontalFlip()],
    [T.Resize(40), T.CenterCrop(32)],
    [T.CenterCrop(120)],
    [T.Resize((17, 60), interpolation="bicubic")],
]


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_regions_of_raw_pixels_are_those_of_the_image_file(recipe, kernel, tmp_path, monkeypatch):
    """To the bit what the engine makes of the same pixels from PNG files, and fewer bytes than the image has."""
    monkeypatch.setattr("fastload.engine.cpu.job.KERNEL_READS", kernel and job.KERNEL_READS)
    images = pictures(12, seed=5, smallest=60, largest=300)
    (tmp_path / "png").mkdir()
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(tmp_path / "png" / f"{number:02d}.png")
    samples = [(image_of(pixels, raw=True),) for pixels in images]
    path = write_beton(tmp_path / "raw.beton", [("image", RGB, b"")], samples)
    batches = {}
    for source in (tmp_path / "png", path):
        with fl.Loader(str(source), batch_size=12, transforms=recipe, num_workers=2) as loader:
            for epoch in range(2):  # buffers have grown in the first
                loader.set_epoch(epoch)
                batches[source, epoch] = next(iter(loader)).images.clone()
            counts = loader.stats().counts
    for epoch in range(2):
        assert (batches[tmp_path / "png", epoch] == batches[path, epoch]).all()
    assert counts["decoder.raw"] == 24
    assert counts["bytes.read"] <= 2 * sum(pixels.nbytes for pixels in images)
    if recipe is RECIPES[0]:
        assert counts["bytes.read"] < 1.8 * sum(pixels.nbytes for pixels in images)


def test_a_raw_file_that_becomes_shorter_is_an_error_and_no_crash(tmp_path):
    images = pictures(4, seed=5, smallest=60, largest=300)
    samples = [(image_of(pixels, raw=True),) for pixels in images]
    path = write_beton(tmp_path / "raw.beton", [("image", RGB, b"")], samples)
    dataset = open_dataset(path)
    with open(path, "r+b") as file:
        file.truncate(PAGE + 100)
    with (
        fl.Loader(dataset, batch_size=4, transforms=[T.Resize((8, 8))]) as loader,
        pytest.raises(DataError, match="cut short after the data set was opened"),
    ):
        next(iter(loader))


def test_rows_of_what_is_no_raw_image_are_refused(small):
    dataset = open_dataset(small)
    buffer = np.zeros(1 << 16, np.uint8)
    with pytest.raises(ValueError, match="is an image file"):
        dataset.read_rows(0, 0, 1, buffer)
    dataset.read_rows(1, 2, 5, buffer)
    assert np.array_equal(buffer[: PIXELS[1][2:7].nbytes], PIXELS[1][2:7].reshape(-1))
    for first, count in ((-1, 2), (0, 1000), (PIXELS[1].shape[0], 1)):
        with pytest.raises(DataError, match="lies outside"):
            dataset.read_rows(1, first, count, buffer)
