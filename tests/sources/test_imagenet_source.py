"""ImageNet's flat validation folder has the labels that torchvision gives the same images sorted into class folders."""

import json
import os
import shutil
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

import fastload as fl
from fastload.errors import DataError
from fastload.sources import ImageFolderSource, ImageNetValSource, open_source

SYNSETS = "imagenet_2012_validation_synset_labels.txt"


@pytest.fixture
def images(imagenet_sample):
    """(name in the validation split, original, wnid) of 12 real images of 6 classes, in no order of classes."""
    classes = sorted(os.listdir(imagenet_sample))[3:400:66][:6]
    originals = [next((imagenet_sample / wnid).iterdir()) for wnid in classes]
    mixed = [(number * 5) % 6 for number in range(12)]
    return [(f"ILSVRC2012_val_{n + 1:08}.JPEG", originals[each], classes[each]) for n, each in enumerate(mixed)]


@pytest.fixture
def reference(images, tmp_path):
    """The same images in class folders, as everybody's valprep.sh moves them: {name: (class number, bytes)}."""
    for name, original, wnid in images:
        (tmp_path / "moved" / wnid).mkdir(parents=True, exist_ok=True)
        shutil.copy(original, tmp_path / "moved" / wnid / name)
    return ImageFolder(str(tmp_path / "moved"))


@pytest.fixture
def kaggle(images, tmp_path):
    """Kaggle's layout, without train/ and without a mapping: the folder of images."""
    val = tmp_path / "kaggle" / "ILSVRC" / "Data" / "CLS-LOC" / "val"
    val.mkdir(parents=True)
    for name, original, _ in images:
        shutil.copy(original, val / name)
    rows = [f"{name[:-5]},{wnid} 111 108 230 365 {wnid} 5 6 70 80 " for name, _, wnid in reversed(images)]
    solution(val).write_text("\n".join(["ImageId,PredictionString", *rows]) + "\n")
    return val


@pytest.fixture
def flat(images, tmp_path):
    """A flat folder with the list of labels in it."""
    val = tmp_path / "imagenet" / "val"
    val.mkdir(parents=True)
    for name, original, _ in images:
        shutil.copy(original, val / name)
    (val / SYNSETS).write_text("".join(f"{wnid}\n" for _, _, wnid in images))
    return val


def solution(val):
    return val.parents[2] / "LOC_val_solution.csv"


def assert_labels(source, reference):
    assert isinstance(source, ImageNetValSource)
    assert list(source.classes) == reference.classes
    expected = {os.path.basename(path): (path, label) for path, label in reference.samples}
    assert len(source) == len(expected)
    for number, label in enumerate(source.labels().tolist()):
        path, right = expected[source.name(number)]
        assert label == right
        assert source.read(number).image == Path(path).read_bytes()


def test_the_layout_of_kaggle(kaggle, reference):
    assert_labels(open_source(kaggle), reference)


@pytest.mark.parametrize("beside", [False, True])
def test_a_list_of_labels_in_or_beside_the_folder(flat, reference, beside):
    if beside:
        (flat / SYNSETS).rename(flat.parent / SYNSETS)
    assert_labels(open_source(flat), reference)


def test_a_relative_path(kaggle, reference, monkeypatch):
    monkeypatch.chdir(kaggle)
    assert_labels(open_source("."), reference)


@pytest.mark.parametrize("known", ["train", "mapping", "both"])
def test_classes_are_numbered_as_the_training_split_numbers_them(kaggle, reference, known):
    """The validation images of a few classes keep the numbers that the model was trained with."""
    more = sorted([*reference.classes, "n00000001", "n02000000", "n99999999"])
    if known != "mapping":
        for wnid in more:
            (kaggle.parent / "train" / wnid).mkdir(parents=True)
    if known != "train":
        others = ["n00000002", *more] if known == "both" else more
        text = "".join(f"{wnid} a name, another name\n" for wnid in reversed(others))
        (solution(kaggle).parent / "LOC_synset_mapping.txt").write_text(text)
    source = open_source(kaggle)
    assert list(source.classes) == more
    truth = {os.path.basename(path): reference.classes[label] for path, label in reference.samples}
    labels = source.labels().tolist()
    assert [source.classes[label] for label in labels] == [truth[source.name(n)] for n in range(len(source))]


def test_the_converted_split_has_the_labels_too(kaggle, reference, tmp_path):
    summary = fl.convert(kaggle, tmp_path / "shards", workers=1)
    assert (summary.found, summary.written, summary.classes) == (12, 12, 6)
    truth = {Path(path).read_bytes(): label for path, label in reference.samples}
    dataset = fl.open_dataset(tmp_path / "shards")
    assert list(dataset.classes) == reference.classes
    assert [dataset[n].label for n in range(12)] == [truth[dataset[n].image] for n in range(12)]
    manifest = json.loads((tmp_path / "shards" / "dataset.json").read_text())
    assert manifest["conversion"]["source"]["kind"] == "ImageNet validation folder"


def test_without_labels_it_stays_a_folder_without_classes(flat, kaggle):
    (flat / SYNSETS).unlink()
    source = open_source(flat)
    assert type(source) is ImageFolderSource
    assert source.labels().tolist() == [-1] * 12
    # Five levels up is too far: it may be somebody else's.
    deeper = kaggle / "a" / "b"
    deeper.mkdir(parents=True)
    shutil.copy(kaggle / "ILSVRC2012_val_00000001.JPEG", deeper)
    assert type(open_source(deeper)) is ImageFolderSource


def test_other_images_beside_a_list_are_not_imagenet(flat):
    for path in flat.glob("*.JPEG"):
        path.rename(path.with_name(path.name.replace("ILSVRC2012_val_", "photo")))
    assert type(open_source(flat)) is ImageFolderSource


def test_the_digest_follows_the_labels(flat):
    before = open_source(flat).digest()
    lines = (flat / SYNSETS).read_text().split()
    (flat / SYNSETS).write_text("\n".join(reversed(lines)))
    assert open_source(flat).digest() != before


def edit(old, new):
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text + text.splitlines()[1] + "\n", "the image ILSVRC2012_val_00000012 is there twice"),
        (lambda text: text[: text.rindex("ILSVRC")], "holds 1 images without a line .ILSVRC2012_val_00000001"),
        (lambda text: text + "ILSVRC2012_val_00000099,n01440764 1 2 3 4\n", "lacks 1 of its 13 images .*00000099"),
        (edit("ILSVRC2012_val_00000003,n", "ILSVRC2012_val_00000003,x"), "line 11 must begin with a wnid"),
        (edit("ILSVRC2012_val_00000003,n", "ILSVRC2012_val_00000003, ,n"), "line 11 has 3 columns in place of 2"),
        (edit("ImageId", "Image"), "expected the columns ImageId,PredictionString"),
        (edit("n", 'n"\0'), "expected"),
        (edit("n", '"n'), "expected"),
        (lambda text: text + "x" * 200_000 + ",n01440764\n", "comma-separated values: field larger"),
        (lambda text: "", "at most 64 MiB, but it has 0 bytes"),
        (lambda text: " \n\n", "the file is blank"),
        (lambda text: "\udcff\udcfe" + text, "byte 0 is no UTF-8"),
    ],
)
def test_a_damaged_solution_is_one_clear_error(kaggle, change, message):
    table = solution(kaggle)
    table.write_text(change(table.read_text()), errors="surrogateescape")
    with pytest.raises(DataError, match=message) as caught:
        open_source(kaggle)
    assert caught.value.path == str(table)


def test_an_image_in_two_formats_is_one_clear_error(kaggle):
    shutil.copy(kaggle / "ILSVRC2012_val_00000002.JPEG", kaggle / "ILSVRC2012_val_00000002.jpg")
    with pytest.raises(DataError, match="the image ILSVRC2012_val_00000002 is there twice"):
        open_source(kaggle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text + "n01440764\n", "expected one line for each of the 12 images, but it has 13"),
        (lambda text: text[:-11], "12 images, but it has 11"),
        (edit("\n", "\n\n"), "line 2 must begin with a wnid such as n01440764, not ''"),
        (edit("\n", "x\n"), "line 1 must begin with a wnid"),
    ],
)
def test_a_damaged_list_is_one_clear_error(flat, change, message):
    (flat / SYNSETS).write_text(change((flat / SYNSETS).read_text()))
    with pytest.raises(DataError, match=message):
        open_source(flat)


def test_a_class_that_the_training_split_lacks_is_one_clear_error(flat, reference):
    for wnid in reference.classes[1:]:
        (flat.parent / "train" / wnid).mkdir(parents=True)
    with pytest.raises(DataError, match=f"its class {reference.classes[0]} is none of the 5 classes of .*train"):
        open_source(flat)


def test_a_huge_table_is_not_read(flat):
    os.truncate(flat / SYNSETS, (64 << 20) + 1)
    with pytest.raises(DataError, match="at most 64 MiB"):
        open_source(flat)
