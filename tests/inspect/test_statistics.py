"""The figures of an inspection against Pillow's own reading of the same files, and numpy's arithmetic."""

import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from fastload.convert import convert
from fastload.dataset import open_dataset
from fastload.errors import DataError
from fastload.inspect import inspect_dataset
from fastload.inspect.distribution import describe, round_edges
from fastload.inspect.duplicates import find_duplicates
from fastload.inspect.examine import bounded_sample, spread_over_classes

SAMPLING = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))


def test_an_image_folder_as_pillow_reads_it(zoo):
    found = inspect_dataset(zoo)
    paths = files_of(zoo)
    widths, heights, modes, formats, sampling, progressive = [], [], Counter(), Counter(), Counter(), 0
    for path in paths:
        with Image.open(path) as image:
            widths.append(image.width)
            heights.append(image.height)
            formats[image.format] += 1
            if image.format == "JPEG":
                progressive += "progressive" in image.info
                modes[image.mode] += 1
                sampling[SAMPLING[get_sampling(image)] if image.mode == "RGB" else image.mode] += 1
    num_bytes = [path.stat().st_size for path in paths]
    assert (found.kind, found.samples, found.num_bytes) == ("image folder", len(paths), sum(num_bytes))
    assert found.classes.names == tuple(sorted(path.name for path in zoo.iterdir()))
    assert found.classes.counts == (3, 3, 3, 3, 3, 3, 3, 2)
    assert found.coding.formats == dict(formats)
    assert found.coding.processes == {"baseline": sum(modes.values()) - progressive, "progressive": progressive}
    assert {name: found.coding.sampling[name] for name in SAMPLING.values()} == {
        name: sampling[name] for name in SAMPLING.values()
    }
    assert found.coding.colours == {"ycbcr": modes["RGB"], "grey": modes["L"], "cmyk": modes["CMYK"]}
    for name, values in (
        ("width", widths),
        ("height", heights),
        ("bytes", num_bytes),
        ("aspect", np.divide(widths, heights)),
        ("bits", 8 * np.array(num_bytes) / np.multiply(widths, heights)),
    ):
        shown = found.distributions[name]
        assert shown.exact
        assert shown.images == len(paths) == sum(shown.counts)
        got = (shown.minimum, shown.p5, shown.median, shown.mean, shown.p95, shown.maximum)
        expected = (
            min(values),
            *np.percentile(values, (5, 50)),
            np.mean(values),
            np.percentile(values, 95),
            max(values),
        )
        assert got == pytest.approx(expected)
        assert shown.edges[0] <= min(values)
        assert max(values) <= shown.edges[-1]


def test_decoders_and_restart_markers(zoo):
    found = inspect_dataset(zoo)
    assert found.coding.decoders == {"fastload": 15, "pillow": 5, "turbo": 3}  # progressive; CMYK and PNG
    assert found.coding.restarts == {"none": 18, "every 32 px": 3}
    assert (found.seek.images, found.seek.restarts) == (15, 3)
    assert sum(found.cost.decoders.values()) == found.cost.images == 23
    assert found.cost.decoders == found.coding.decoders  # what in truth decoded them
    assert 0 < found.cost.crop_share < 1
    assert found.cost.whole_ms > 0
    assert any("libjpeg-turbo" in finding.text for finding in found.findings)


def test_shards_are_counted_exactly_though_few_images_are_read(zoo, zoo_shards):
    whole, part = inspect_dataset(zoo), inspect_dataset(zoo_shards, sample=5, seed=2)
    assert (part.kind, part.samples, part.examined, part.files) == ("tar shards", whole.samples, 5, 1)
    assert part.classes == whole.classes
    for name in ("width", "height", "aspect"):
        assert part.distributions[name].exact
        assert part.distributions[name].counts == whole.distributions[name].counts
    assert sum(part.coding.formats.values()) == 5
    assert part.duplicates.searched == whole.samples
    everything = inspect_dataset(zoo_shards)
    assert everything.seek.indexed + everything.seek.restarts == everything.seek.images
    assert everything.origin["skipped"] == "0"


def test_a_sample_of_a_folder_says_so(zoo):
    found = inspect_dataset(zoo, sample=6, seed=1)
    again = inspect_dataset(zoo, sample=6, seed=1)
    assert (found.examined, found.bytes_exact, found.distributions["width"].images) == (6, False, 6)
    assert not found.distributions["width"].exact
    assert found.classes.counts == (3, 3, 3, 3, 3, 3, 3, 2)
    assert found.distributions == again.distributions


def test_a_beton_file_of_raw_pixels(zoo, tmp_path):
    convert(zoo, tmp_path / "zoo.beton", raw=True, max_side=512)
    found = inspect_dataset(tmp_path / "zoo.beton")
    assert (found.kind, found.samples) == (".beton file", 23)
    assert found.coding.decoders == {"raw": 23}
    assert found.cost is None
    assert found.distributions["width"].counts == inspect_dataset(zoo).distributions["width"].counts


def test_copies_are_found_by_their_bytes(zoo, tmp_path):
    folder = tmp_path / "copies"
    shutil.copytree(zoo, folder)
    shutil.copy(folder / "a 444" / "0.jpg", folder / "a 444" / "copy.jpg")
    shutil.copy(folder / "a 444" / "0.jpg", folder / "b 422" / "copy.jpg")
    shutil.copy(folder / "e grey" / "1.jpg", folder / "e grey" / "copy.jpg")
    for source in (folder, tmp_path / "shards"):
        if source != folder:
            convert(folder, source)
        copies = inspect_dataset(source).duplicates
        assert (copies.num_groups, copies.surplus, copies.across_classes) == (2, 3, 1)
        assert [len(group) for group in copies.groups] == [3, 2]
    found = inspect_dataset(folder)
    assert set(found.duplicates.groups[0]) == {"a 444/0.jpg", "a 444/copy.jpg", "b 422/copy.jpg"}
    assert found.findings[0].level == "problem"


def test_equal_checksums_alone_are_no_copies(zoo):
    with open_dataset(zoo) as dataset:
        ids = np.arange(len(dataset))
        copies = find_duplicates(dataset, ids, np.ones(len(ids), np.int64), np.zeros(len(ids), np.uint32))
    assert (copies.num_groups, copies.surplus, copies.unconfirmed) == (0, 0, 0)


def test_damaged_files_are_listed_and_not_counted(zoo, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(zoo, folder)
    (folder / "a 444" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xdb\0\2 nothing")
    (folder / "a 444" / "empty.jpg").write_bytes(b"")
    found = inspect_dataset(folder)
    assert found.num_unreadable == 2
    assert {key for key, _ in found.unreadable} == {"a 444/broken.jpg", "a 444/empty.jpg"}
    assert found.distributions["width"].images == 23
    assert any("cannot be read" in finding.text for finding in found.findings)
    convert(folder, tmp_path / "shards")
    after = inspect_dataset(tmp_path / "shards")
    assert (after.samples, after.skipped, after.num_unreadable) == (23, 2, 0)
    assert any("skipped: 2" in finding.text for finding in after.findings)


def test_nothing_there_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="nothing at this path"):
        inspect_dataset(tmp_path / "missing")


def test_photographs_as_pillow_reads_them(imagenet_sample):
    found = inspect_dataset(imagenet_sample, sample=60, seed=4)
    with open_dataset(imagenet_sample) as dataset:
        ids = bounded_sample(len(dataset), 60, 4).tolist()
        sampling: Counter[str] = Counter()
        for number in ids:
            with Image.open(dataset.location(number)) as image:
                factors = [layer[1:3] for layer in image.layer]
                sampling["grey" if image.mode == "L" else f"{factors[0][0]}x{factors[0][1]}"] += 1
    names = {"4:4:4": "1x1", "4:2:0": "2x2", "4:2:2": "2x1", "4:4:0": "1x2", "grey": "grey"}
    assert {names[name]: number for name, number in found.coding.sampling.items()} == dict(sampling)


def test_annotations_are_counted(annotated):
    objects = inspect_dataset(annotated).objects
    assert (objects.images, objects.annotated) == (2, 2)  # the second has a member that claims to be a PNG
    assert (objects.boxes, objects.keypoints, objects.masks) == (1, 1, 2)
    assert dict(zip(objects.classes.names, objects.classes.counts, strict=True)) == {"cat": 1}
    assert objects.side.median == pytest.approx((60 * 40) ** 0.5)
    assert objects.per_image.counts[0] == 1


def test_long_tails_fall_into_one_open_bin():
    values = np.append(np.linspace(10, 20, 1000), 4000.0)
    shown = describe(values, "px", exact=True)
    assert shown.open_end
    assert shown.edges[-1] < 30
    assert sum(shown.counts) == 1001
    assert shown.maximum == 4000
    assert describe([], "px", exact=True) is None


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (3.0, 3.0), (0.0, 0.0), (97.0, 1836.0), (1e-3, 2e-3)])
def test_edges_are_few_and_hold_the_values(low, high):
    edges = round_edges(low, high)
    assert edges[0] <= low <= high <= edges[-1]
    assert 2 <= len(edges) <= 28
    assert np.all(np.diff(edges) > 0)


def test_samples_for_a_picture_are_of_many_classes():
    ids, labels = list(range(100)), [0] * 90 + list(range(1, 11))
    chosen = spread_over_classes(ids, labels, 11, seed=5)
    assert sorted(labels[number] for number in chosen) == list(range(11))
    assert len(spread_over_classes(ids, labels, 200, seed=5)) == 100
