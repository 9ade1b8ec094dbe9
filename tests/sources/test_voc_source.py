"""Pascal VOC as fastload reads it holds what torchvision reads, in XYXY; hostile XML is one refused image."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import VOCDetection

from fastload.convert import convert
from fastload.dataset import open_dataset
from fastload.dataset.fields import decode_fields
from fastload.errors import ConfigError, DataError
from fastload.sources import VocSource, open_source

OBJECTS = {
    "2007_000001": [("dog", (1, 1, 40, 30), 0, 1), ("cat", (5, 6, 5, 6), 1, 0)],
    "2007_000002": [("aeroplane", (3, 4, 20, 25), 0, 0)],
    "2007_000003": [],
}


def xml(name, objects, size=(40, 30)):
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = f"{name}.jpg"
    sides = ElementTree.SubElement(root, "size")
    for tag, value in zip(("width", "height", "depth"), (*size, 3), strict=True):
        ElementTree.SubElement(sides, tag).text = str(value)
    for class_name, box, difficult, truncated in objects:
        each = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(each, "name").text = class_name
        ElementTree.SubElement(each, "truncated").text = str(truncated)
        ElementTree.SubElement(each, "difficult").text = str(difficult)
        bounds = ElementTree.SubElement(each, "bndbox")
        for tag, value in zip(("xmax", "xmin", "ymax", "ymin"), (box[2], box[0], box[3], box[1]), strict=True):
            ElementTree.SubElement(bounds, tag).text = str(value)
        part = ElementTree.SubElement(each, "part")  # as of people: with a name and a box of its own
        ElementTree.SubElement(part, "name").text = "head"
        ElementTree.SubElement(ElementTree.SubElement(part, "bndbox"), "xmin").text = "2"
    return ElementTree.tostring(root)


@pytest.fixture
def voc(tmp_path):
    """A folder laid out as VOC2012, in the place where torchvision expects it."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("Annotations", "JPEGImages", "SegmentationClass", "ImageSets/Main", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for number, (name, objects) in enumerate(OBJECTS.items()):
        (root / "Annotations" / f"{name}.xml").write_bytes(xml(name, objects))
        Image.new("RGB", (40, 30), (number, 0, 0)).save(root / "JPEGImages" / f"{name}.jpg")
    mask = Image.new("P", (40, 30))
    mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * (255 * 3 - 9) + [224, 224, 192])
    mask.paste(1, (2, 3, 20, 25))
    mask.paste(255, (2, 3, 20, 4))
    mask.save(root / "SegmentationClass" / "2007_000002.png")
    (root / "ImageSets" / "Main" / "train.txt").write_text("2007_000003\n2007_000001\n")
    (root / "ImageSets" / "Main" / "cat_val.txt").write_text("2007_000002 -1\n2007_000001  1\n")
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("2007_000002\n")
    return root


def test_boxes_as_torchvision_reads_them(voc, tmp_path):
    reference = VOCDetection(str(tmp_path), year="2012", image_set="train")
    source = open_source(voc / "ImageSets" / "Main" / "train.txt")
    assert isinstance(source, VocSource)
    assert source.classes == ("aeroplane", "cat", "dog")
    assert [source.name(number) for number in range(2)] == ["JPEGImages/2007_000003.jpg", "JPEGImages/2007_000001.jpg"]
    for number, (_, target) in enumerate(reference):
        fields = decode_fields(source.read(number).extras, source.fields)
        objects = target["annotation"].get("object", [])
        assert len(fields["boxes"]) == len(objects)
        for each, box, label, difficult, truncated in zip(
            objects, *(fields[name] for name in ("boxes", "labels", "difficult", "truncated")), strict=True
        ):
            bounds = {name: int(value) for name, value in each["bndbox"].items()}
            assert box[2] - box[0] == bounds["xmax"] - bounds["xmin"] + 1
            assert box.tolist() == [bounds["xmin"] - 1, bounds["ymin"] - 1, bounds["xmax"], bounds["ymax"]]
            assert source.classes[label] == each["name"]
            assert (difficult, truncated) == (each["difficult"] == "1", each["truncated"] == "1")


def test_a_whole_folder_through_convert(voc, tmp_path):
    Image.new("RGB", (8, 8)).save(voc / "JPEGImages" / "lonely.jpg")
    summary = convert(voc, tmp_path / "out", masks=True)
    assert (summary.found, summary.written, summary.classes) == (4, 3, 3)
    assert summary.skips[0][0] == "JPEGImages/lonely.jpg"
    with open_dataset(tmp_path / "out") as dataset:
        assert dataset.schema["seg.png"] == "mask"
        assert "label" not in dataset.schema
        assert dataset[0].fields["boxes"].tolist() == [[0, 0, 40, 30], [4, 5, 5, 6]]
        assert "seg.png" not in dataset[0].fields
        assert dataset[2].fields["boxes"].shape == (0, 4)
        stored = dataset[1]
        assert stored.extras["seg.png"] == (voc / "SegmentationClass" / "2007_000002.png").read_bytes()
        mask = stored.fields["seg.png"]
        assert np.array_equal(mask, np.array(Image.open(voc / "SegmentationClass" / "2007_000002.png")))
        assert set(np.unique(mask)) == {0, 1, 255}
        assert dataset.classes[mask[10, 10] - 1] == "aeroplane"


def test_everything_shrinks_with_the_image(voc, tmp_path):
    convert(voc / "ImageSets" / "Segmentation" / "train.txt", tmp_path / "out", masks=True, max_side=10)
    with open_dataset(tmp_path / "out") as dataset:
        fields = dataset[0].fields
        y, x = 7 / 30, 10 / 40
        assert dataset.sizes(np.array([0])).tolist() == [[7, 10]]
        assert np.allclose(fields["boxes"], [[2 * x, 3 * y, 20 * x, 25 * y]], atol=1e-3)
        assert fields["seg.png"].shape == (7, 10)
        assert fields["difficult"].tolist() == [False]


def test_lists_of_a_class_and_classes_that_agree(voc):
    source = open_source(voc / "ImageSets" / "Main" / "cat_val.txt")
    assert [source.name(number)[-5] for number in range(2)] == ["2", "1"]
    assert source.classes == open_source(voc).classes
    assert source.digest() != open_source(voc).digest()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "no XML"),
        (b"<annotation>", "no XML"),
        (b"<html/>", "annotation"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>', "document type"),
        ('<!DOCTYPE a [<!ENTITY x "lol">]><annotation>&x;</annotation>'.encode("utf-16"), "document type"),
        (b"<annotation>&lol;</annotation>", "no XML"),
        (b"<annotation>" + b"<a>" * 100_000, "nested"),
        (b'<?xml version="1.0" encoding="nonsense"?><annotation/>', "no XML"),
        (xml("x", [("dog", (5, 5, 4, 9), 0, 0)]), "before it begins"),
        (xml("x", [("dog", ("nan", 5, 9, 9), 0, 0)]), "before it begins"),
        (xml("x", [("dog", ("1e999", 5, 9, 9), 0, 0)]), "before it begins"),
        (xml("x", [("dog", ("", 5, 9, 9), 0, 0)]), "no number"),
        (xml("x", [("", (1, 1, 9, 9), 0, 0)]), "no name"),
        (xml("x", [("dog", (1, 1, 9, 9), 2, 0)]), "difficult"),
        (xml("x", [("dog", (1, 1, 9, 9), 0, 0)], size=(30, 40)), "30 x 40"),
    ],
)
def test_hostile_xml_costs_its_image_alone(voc, tmp_path, text, says):
    (voc / "Annotations" / "2007_000001.xml").write_bytes(text)
    summary = convert(voc, tmp_path / "out")
    assert (summary.found, summary.written) == (3, 2)
    assert summary.skips[0][0] == "JPEGImages/2007_000001.jpg"
    assert says in summary.skips[0][1]


def test_sizes_that_say_nothing_are_no_sizes(voc):
    for size in ((0, 0), ("", "x")):
        (voc / "Annotations" / "2007_000001.xml").write_bytes(xml("x", [], size=size))
        assert open_source(voc).read(0).size is None


def test_missing_and_damaged_parts(voc, tmp_path):
    (voc / "JPEGImages" / "2007_000001.jpg").unlink()
    (voc / "Annotations" / "2007_000003.xml").unlink()
    Image.new("L", (9, 9)).save(voc / "SegmentationClass" / "2007_000002.png")
    (voc / "ImageSets" / "Main" / "all.txt").write_text("2007_000001\n2007_000002\n2007_000003\n\n")
    source = open_source(voc / "ImageSets" / "Main" / "all.txt")
    with pytest.raises(DataError, match="no image"):
        source.read(0)
    with pytest.raises(DataError, match="no XML file"):
        source.read(2)
    with pytest.raises(DataError, match="9 x 9 pixels"):
        convert(voc / "ImageSets" / "Main" / "all.txt", tmp_path / "out", masks=True)


@pytest.mark.parametrize("text", ["", "\n\n", "a\na\n", "../x\n", "a b c\n", "a 5\n"])
def test_what_is_no_list(voc, text):
    path = voc / "ImageSets" / "Main" / "bad.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=r"bad\.txt"):
        open_source(path)


def test_options_that_are_not_for_voc(voc, tmp_path):
    with pytest.raises(ConfigError, match="images is for"):
        open_source(voc, images=voc)
    with pytest.raises(ConfigError, match="mask_folder is for"):
        open_source(voc, mask_folder=voc)
    for each in (voc / "SegmentationClass").iterdir():
        each.unlink()
    with pytest.raises(DataError, match="SegmentationClass"):
        open_source(voc, masks=True)


def test_the_digest_follows_an_annotation(voc):
    before = open_source(voc).digest()
    assert open_source(voc).digest() == before
    path = voc / "Annotations" / "2007_000002.xml"
    path.write_bytes(xml("x", [("aeroplane", (3, 4, 20, 26), 0, 0)]))
    assert open_source(voc).digest() != before
    assert json.loads(open_source(voc).read(1).extras["json"])["boxes"] == [[2, 3, 20, 26]]
