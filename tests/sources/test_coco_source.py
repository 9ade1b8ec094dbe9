"""COCO as fastload reads it holds what its JSON says; whatever is wrong with one image costs that image alone."""

import json
import os
import shutil

import numpy as np
import pytest
import webdataset
from PIL import Image

from fastload.convert import convert
from fastload.dataset import open_dataset
from fastload.dataset.fields import decode_fields, decode_mask
from fastload.errors import ConfigError, DataError
from fastload.sources import CocoSource, open_source


def test_every_box_of_real_annotations(coco128):
    tables = json.loads((coco128 / "annotations" / "instances.json").read_text())
    source = open_source(coco128 / "annotations" / "instances.json")
    assert isinstance(source, CocoSource)
    assert os.path.samefile(source.path, coco128 / "images")
    names = {each["id"]: each["name"] for each in tables["categories"]}
    assert list(source.classes) == [names[each] for each in sorted(names)]
    assert len(source) == len(tables["images"]) == 128
    objects = 0
    for number, image in enumerate(tables["images"]):
        item = source.read(number)
        assert item.image == (coco128 / "images" / image["file_name"]).read_bytes()
        assert item.size == (image["height"], image["width"])
        assert source.num_bytes()[number] > len(item.image)
        fields = decode_fields(item.extras, source.fields)
        expected = [each for each in tables["annotations"] if each["image_id"] == image["id"]]
        boxes = np.array([each["bbox"] for each in expected], np.float64).reshape(-1, 4)
        assert fields["boxes"].dtype == np.float32
        assert fields["boxes"].shape == (len(expected), 4)
        assert np.allclose(fields["boxes"][:, :2], boxes[:, :2])
        assert np.allclose(fields["boxes"][:, 2:] - fields["boxes"][:, :2], boxes[:, 2:], atol=1e-3)
        assert [source.classes[label] for label in fields["labels"]] == [names[e["category_id"]] for e in expected]
        assert fields["area"].tolist() == np.array([each["area"] for each in expected], np.float32).tolist()
        assert fields["iscrowd"].tolist() == [bool(each["iscrowd"]) for each in expected]
        assert fields["image_id"] == image["id"]
        objects += len(expected)
    assert objects == len(tables["annotations"]) == 929


@pytest.fixture
def coco(tmp_path):
    """A small data set with every kind of annotation; write(tables) writes its file."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(tmp_path / "val2017" / f"{number}.jpg")
    tables = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 40, "height": 30} for n in (3, 1, 2)],
        "categories": [{"id": 7, "name": "cat", "keypoints": ["nose", "tail"]}, {"id": 2, "name": "box"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 7,
                "bbox": [1.5, 2, 10, 20],
                "area": 150.5,
                "iscrowd": 0,
                "keypoints": [3, 4, 2, 0, 0, 0],
                "segmentation": [[1.5, 2, 11.5, 2, 11.5, 22, 1.5, 22]],
            },
            {
                "id": 2,
                "image_id": 1,
                "category_id": 2,
                "bbox": [0, 0, 40, 30],
                "iscrowd": 1,
                "segmentation": {"size": [30, 40], "counts": [600, 600]},
            },
            {
                "id": 3,
                "image_id": 3,
                "category_id": 2,
                "bbox": [4, 4, 2, 2],
                "area": 4,
                "segmentation": [[4, 4, 6, 4, 6, 6, 4, 6]],
            },
        ],
    }

    class Coco:
        file = tmp_path / "annotations" / "instances_val2017.json"
        images = tmp_path / "val2017"

        def write(self, **changes):
            self.file.write_text(json.dumps(tables | changes))
            return self.file

    Coco.tables = tables
    return Coco()


def test_keypoints_crowds_and_masks_through_convert(coco, tmp_path):
    summary = convert(coco.write(), tmp_path / "out", masks=True)
    assert (summary.found, summary.written, summary.classes) == (3, 3, 2)
    with open_dataset(tmp_path / "out", verify="always") as dataset:
        assert dataset.classes == ("box", "cat")
        assert dataset.schema == {
            "image": "image",
            "json": "json",
            "mask.png": "mask",
            "boxes": "boxes",
            "labels": "labels",
            "area": "areas",
            "iscrowd": "flags",
            "image_id": "number",
            "keypoints": "keypoints",
        }
        assert dataset.labels(np.arange(3)).tolist() == [-1, -1, -1]
        fields = dataset[1].fields
        assert fields["boxes"].tolist() == [[1.5, 2, 11.5, 22], [0, 0, 40, 30]]
        assert fields["labels"].tolist() == [1, 0]
        assert fields["area"].tolist() == [150.5, 1200]
        assert fields["iscrowd"].tolist() == [False, True]
        assert fields["keypoints"].dtype == np.float32
        assert fields["keypoints"].tolist() == [[[3, 4, 2], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]
        mask = fields["mask.png"]
        assert (mask.shape, mask.dtype) == ((30, 40), np.uint8)
        assert mask[10, 5] == 1
        assert mask[10, 15] == 0
        assert mask[10, 30] == 2
        assert json.loads(dataset[1].extras["json"])["image_id"] == 1
        empty = dataset[2].fields
        assert empty["boxes"].shape == (0, 4)
        assert empty["labels"].dtype == np.int64
        assert empty["keypoints"].shape == (0, 0, 3)
        assert not empty["mask.png"].any()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_tar_is_plain_webdataset(coco, tmp_path):
    convert(coco.write(), tmp_path / "out", masks=True)
    samples = list(webdataset.WebDataset(str(tmp_path / "out" / "shard-000000.tar"), shardshuffle=False).decode())
    assert [sample["json"]["image_id"] for sample in samples] == [3, 1, 2]
    assert samples[1]["json"]["boxes"] == [[1.5, 2, 11.5, 22], [0, 0, 40, 30]]
    assert decode_mask(samples[0]["mask.png"], "mask.png")[5, 5] == 1


def test_everything_shrinks_with_the_image(coco, tmp_path):
    convert(coco.write(), tmp_path / "out", masks=True, max_side=20)
    with open_dataset(tmp_path / "out") as dataset:
        assert dataset.sizes(np.array([1])).tolist() == [[15, 20]]
        fields = dataset[1].fields
        assert fields["boxes"].tolist() == [[0.75, 1, 5.75, 11], [0, 0, 20, 15]]
        assert fields["area"].tolist() == [150.5 / 4, 300]
        assert fields["keypoints"][0].tolist() == [[1.5, 2, 2], [0, 0, 0]]
        assert fields["labels"].tolist() == [1, 0]
        assert fields["image_id"] == 1
        whole = decode_mask(CocoSource(coco.file, masks=True).read(1).extras["mask.png"], "mask")
        assert np.array_equal(fields["mask.png"], whole[1::2, 1::2])
        assert dataset[2].fields["boxes"].shape == (0, 4)


def test_what_is_wrong_with_one_image_costs_that_image(coco, tmp_path):
    good = {"id": 9, "image_id": 2, "category_id": 2, "bbox": [1, 1, 2, 2]}
    bad = [
        {"bbox": [1, 1, 2]},
        {"bbox": [1, 1, -2, 2]},
        {"bbox": [1, 1, 2, float("nan")]},
        {"bbox": [1, 1, 2, "2"]},
        {"bbox": None},
        {"category_id": 3},
        {"category_id": True},
        {"iscrowd": 2},
        {"area": "large"},
        {"area": 1e300},
        {"keypoints": [1, 2]},
        {"keypoints": [1, 2, 2] * 3},
        {"keypoints": 5},
    ]
    for change in bad:
        source = CocoSource(coco.write(annotations=[good | change]))
        with pytest.raises(DataError, match="annotation 9"):
            source.read(2)
        assert source.read(1).extras["json"]
    images = [
        *coco.tables["images"],
        {"id": 4, "file_name": "../annotations/instances_val2017.json"},
        {"id": 5, "file_name": "/etc/passwd"},
        {"id": 6, "file_name": "a\0b.jpg"},
        {"id": 7, "file_name": "\ud800.jpg"},
        {"id": 8, "file_name": "gone.jpg"},
    ]
    images[0] = images[0] | {"width": 30, "height": 40}
    convert(coco.write(images=images), tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "conversion.jsonl").read_text().splitlines()]
    reasons = {line["source"]: line["reason"] for line in lines}
    assert len(reasons) == 6
    assert "30 x 40" in reasons["3.jpg"]
    assert "opened" in reasons["gone.jpg"]
    assert sum("leads out" in reason for reason in reasons.values()) == 4


def test_what_is_wrong_with_every_image_leaves_none(coco):
    wrong = [{"id": n, "image_id": n, "category_id": 5, "bbox": [1, 1, 2, 2]} for n in (1, 2, 3)]
    source = CocoSource(coco.write(annotations=wrong))
    assert source.num_bytes().tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="is none of the 2 categories"):
        source.read(0)


@pytest.mark.parametrize(
    "changes",
    [
        {"images": []},
        {"images": {}},
        {"images": [5]},
        {"annotations": None},
        {"categories": None},
        {"categories": [{"id": 1}]},
        {"categories": [{"id": "1", "name": "cat"}]},
        {"categories": [{"id": 1, "name": "cat"}] * 2},
        {"images": [{"id": 1, "file_name": "1.jpg"}] * 2},
        {"images": [{"id": 1}]},
        {"images": [{"id": 1.5, "file_name": "1.jpg"}]},
        {"images": [{"id": 1, "file_name": ""}]},
        {"annotations": [{"image_id": 17, "bbox": [1, 1, 1, 1], "category_id": 2}]},
        {"annotations": [{"image_id": [3]}]},
    ],
)
def test_what_is_no_such_file(coco, changes):
    with pytest.raises(DataError, match="instances_val2017"):
        open_source(coco.write(**changes))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b"[" * 100_000, b'"text"', b"\xff\xfe\0", b'{"images": [1' + b"0" * 5000]
)
def test_what_is_no_json_of_cocos(coco, data):
    coco.file.write_bytes(data)
    with pytest.raises(DataError, match="instances_val2017"):
        open_source(coco.file)


def test_masks_are_asked_of_files_that_have_none(coco):
    source = CocoSource(coco.write(annotations=[{"image_id": 1, "category_id": 2, "bbox": [1, 1, 2, 2]}]), masks=True)
    with pytest.raises(DataError, match="no segmentation"):
        source.read(1)
    assert not decode_mask(source.read(0).extras["mask.png"], "mask").any()


@pytest.mark.parametrize(
    "place", ["val2017", "images/val2017", "annotations/val2017", "images", "annotations/images", "annotations"]
)
def test_the_folder_of_images_is_found(coco, tmp_path, place):
    coco.write()
    if place != "val2017":
        (tmp_path / place).parent.mkdir(exist_ok=True)
        shutil.copytree(coco.images, tmp_path / place, dirs_exist_ok=True)
        shutil.rmtree(coco.images)
    assert os.path.samefile(open_source(coco.file).path, tmp_path / place)


def test_the_folder_of_images_is_named(coco, tmp_path):
    coco.write()
    elsewhere = coco.images.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="--images"):
        open_source(coco.file)
    assert open_source(coco.file, images=elsewhere).read(0).image
    with pytest.raises(ConfigError, match="inside"):
        convert(coco.file, elsewhere / "out", images=elsewhere)


def test_the_digest_follows_annotations_and_masks(coco):
    before = open_source(coco.write()).digest()
    assert open_source(coco.file).digest() == before
    assert open_source(coco.file, masks=True).digest() != before
    coco.tables["annotations"][0]["bbox"][0] = 1.25
    assert open_source(coco.write()).digest() != before


def test_any_number_of_workers_writes_the_same_bytes(coco, tmp_path):
    coco.write()
    for workers in (1, 3):
        convert(coco.file, tmp_path / f"out{workers}", masks=True, workers=workers, max_side=20)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / f"out{n}").iterdir()} for n in (1, 3))
    assert first == second


def test_a_beton_file_holds_the_same(coco, tmp_path):
    for name in ("out", "out.beton"):
        convert(coco.write(), tmp_path / name, masks=True)
    with open_dataset(tmp_path / "out") as shards, open_dataset(tmp_path / "out.beton") as beton:
        assert shards.classes == beton.classes
        for number in range(3):
            assert shards[number].image == beton[number].image
            expected, found = shards[number].fields, beton[number].fields
            assert expected.keys() == found.keys() - {"label"}
            for name, value in expected.items():
                assert np.array_equal(value, found[name])
                assert np.asarray(value).dtype == np.asarray(found[name]).dtype


def test_a_data_set_with_boxes_is_a_source_itself(coco, tmp_path):
    """Written again at a smaller size, it is what the original gives at that size; from a .beton file as well."""
    for name in ("whole", "whole.beton"):
        convert(coco.write(), tmp_path / name, masks=True)
    for source, name in ((coco.file, "a"), (tmp_path / "whole", "b"), (tmp_path / "whole.beton", "c")):
        options = {"masks": True} if name == "a" else {}
        convert(source, tmp_path / name, max_side=20, **options)
    first, *others = (open_dataset(tmp_path / name) for name in "abc")
    for other in others:
        assert first.classes == other.classes
        assert {**other.schema} == {**first.schema} | ({"label": "label"} if "label" in other.schema else {})
        for number in range(3):
            assert first[number].image == other[number].image
            for name, value in first[number].fields.items():
                assert np.array_equal(value, other[number].fields[name])
        other.close()
    first.close()


def test_several_files_with_the_same_classes_become_one(coco, tmp_path):
    coco.write()
    other = coco.file.with_name("instances_train2017.json")
    other.write_text(coco.file.read_text())
    shutil.copytree(coco.images, tmp_path / "train2017")
    assert convert([coco.file, other], tmp_path / "out", masks=True).written == 6
    with open_dataset(tmp_path / "out") as dataset:
        assert "label" not in dataset.schema
        assert np.array_equal(dataset[1].fields["boxes"], dataset[4].fields["boxes"])
    other.write_text(
        coco.write(categories=[{"id": 2, "name": "crate"}, {"id": 7, "name": "cat"}], annotations=[]).read_text()
    )
    coco.write()
    with pytest.raises(ConfigError, match="classes of the boxes"):
        convert([coco.file, other], tmp_path / "two")


def test_a_part_keeps_its_boxes_and_classes_of_boxes_choose_no_images(coco, tmp_path):
    found = []
    for part in ("0:0.5", "0.5:1"):
        convert(coco.write(), tmp_path / part, part=part)
        with open_dataset(tmp_path / part) as dataset:
            assert dataset.schema["boxes"] == "boxes"
            found += [dataset[number].fields["image_id"] for number in range(len(dataset))]
    assert sorted(found) == [1, 2, 3]
    with pytest.raises(ConfigError, match="boxes have classes"):
        convert(coco.file, tmp_path / "out", classes="cat")


def test_any_layout_of_the_file_reads_the_same(coco, tmp_path, monkeypatch):
    """Lists in any order, any spaces, other values between; pieces so small that every value is cut somewhere."""
    tables = json.loads(coco.write().read_text())
    digests = set()
    for piece in (1 << 20, 64, 7):
        monkeypatch.setattr("fastload.sources.json_tables._PIECE", piece)
        for order in (sorted(tables), sorted(tables, reverse=True)):
            for options in ({}, {"indent": 3}, {"separators": (",", ":")}):
                text = json.dumps(
                    {"info": {"n": -12.5e3}, "x": [1, "]", [2]]} | {k: tables[k] for k in order}, **options
                )
                coco.file.write_text(text)
                for masks in (False, True):
                    calls = []
                    source = CocoSource(coco.file, masks=masks, progress=lambda *call, seen=calls: seen.append(call))
                    assert calls[-1] == (len(text), len(text))
                    read = [source.read(number).extras for number in range(len(source))]
                    digests.add((masks, str(read), tuple(source.num_bytes().tolist())))
    assert len(digests) == 2


def test_a_list_twice_and_text_behind_the_end(coco):
    text = coco.write().read_text()
    coco.file.write_text(text[:-1] + ', "images": []}')
    with pytest.raises(DataError, match="no such images"):
        open_source(coco.file)
    coco.file.write_text(text + "{}")
    with pytest.raises(DataError, match="more follows"):
        open_source(coco.file)
    coco.file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(open_source(coco.file)) == 3
