"""Data sets are written anew and merged without a change to a byte, label or member."""

import json

import numpy as np
import pytest

import fastload as fl
from fastload.errors import ConfigError, DataError
from fastload.sources import open_source
from tests.dataset.test_beton import write_columns


def write_folder(root, pictures, names):
    for number, (data, name) in enumerate(zip(pictures, names, strict=True)):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / f"{number:02}.jpg").write_bytes(data)
    return root


def contents(path):
    """(image, class name, extras) of every sample."""
    with fl.open_dataset(path, verify="always") as dataset:
        samples = [dataset[number] for number in range(len(dataset))]
        return [
            (each.image, dataset.classes[each.label] if each.label >= 0 else None, dict(each.extras))
            for each in samples
        ]


@pytest.fixture
def table(tmp_path, pictures):
    """A data set made of a list of files, with .json members."""
    lines = []
    for number, data in enumerate(pictures[:12]):
        (tmp_path / f"{number}.jpg").write_bytes(data)
        lines.append({"path": f"{number}.jpg", "label": ["dog", "cat", "owl"][number % 3], "n": number})
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    fl.convert(tmp_path / "list.jsonl", tmp_path / "table")
    return tmp_path / "table"


def test_shards_are_cut_anew_without_a_change(table, tmp_path):
    summary = fl.convert(table, tmp_path / "again", shard_size="64KiB", workers=2)
    assert (summary.found, summary.written, summary.reencoded) == (12, 12, 0)
    assert contents(tmp_path / "again") == contents(table)
    before, after = fl.open_dataset(table), fl.open_dataset(tmp_path / "again")
    assert before.fingerprint == after.fingerprint
    assert before.classes == after.classes
    assert [before.source(number) for number in range(12)] == [after.source(number) for number in range(12)]
    assert fl.convert(table, tmp_path / "again", shard_size="64KiB").already_done


def test_a_shuffled_copy_holds_the_same(table, tmp_path):
    fl.convert(table, tmp_path / "again", seed=3)
    again = contents(tmp_path / "again")
    assert again != contents(table)
    assert sorted(again, key=repr) == sorted(contents(table), key=repr)


def test_to_beton_and_back(table, tmp_path):
    fl.convert(table, tmp_path / "a.beton")
    fl.convert(tmp_path / "a.beton", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(table)
    assert fl.open_dataset(tmp_path / "back").fingerprint == fl.open_dataset(table).fingerprint


def test_numbers_and_arrays_of_a_beton_file_stay_what_they_are(tmp_path):
    names = ["weight", "image", "label", "blob", "array"]
    write_columns(tmp_path / "a.beton", names)
    fl.convert(tmp_path / "a.beton", tmp_path / "b.beton")
    fl.convert([tmp_path / "b.beton", tmp_path / "a.beton"], tmp_path / "twice.beton")
    fl.convert(tmp_path / "twice.beton", tmp_path / "part.beton", part="0:0.5")
    first, second = fl.open_dataset(tmp_path / "a.beton"), fl.open_dataset(tmp_path / "b.beton")
    assert first.schema == second.schema
    for number in range(len(first)):
        assert first[number].extras == second[number].extras
        for name in ("weight", "array"):
            assert np.array_equal(first.value(number, name), second.value(number, name))
    for name in ("twice", "part"):
        assert fl.open_dataset(tmp_path / f"{name}.beton").schema == first.schema
    write_columns(tmp_path / "c.beton", ["image", "label"])
    fl.convert([tmp_path / "a.beton", tmp_path / "c.beton"], tmp_path / "mixed.beton")
    mixed = fl.open_dataset(tmp_path / "mixed.beton")
    assert mixed.schema["weight"] == "bytes"
    assert mixed[len(first)].extras["weight"] == b""


def test_raw_pixels_stay_what_they_are(table, tmp_path):
    fl.convert(table, tmp_path / "a.beton", raw=True, max_side=32)
    fl.convert(tmp_path / "a.beton", tmp_path / "b.beton", raw=True, max_side=32)
    first, second = fl.open_dataset(tmp_path / "a.beton"), fl.open_dataset(tmp_path / "b.beton")
    assert first.is_raw(np.arange(12)).all()
    assert [first[number] for number in range(12)] == [second[number] for number in range(12)]


def test_a_damaged_image_is_named_in_the_ledger(table, tmp_path):
    dataset = fl.open_dataset(table)
    _, offset, _ = dataset.extents(np.array([3]))
    shard = table / "shard-000000.tar"
    data = bytearray(shard.read_bytes())
    data[int(offset[0]) + 300] ^= 1
    shard.write_bytes(data)
    summary = fl.convert(table, tmp_path / "again")
    assert (summary.found, summary.written) == (12, 11)
    assert summary.skips[0][0] == "3.jpg"
    assert "crc32" in summary.skips[0][1]


def test_labels_of_a_beton_file_can_be_left_out(table, tmp_path):
    fl.convert(table, tmp_path / "a.beton")
    source = open_source(tmp_path / "a.beton", label="none")
    assert (source.classes, source.labels().tolist()) == ((), [-1] * 12)
    with pytest.raises(ConfigError, match="no int field 'nowhere'"):
        open_source(tmp_path / "a.beton", label="nowhere")
    with pytest.raises(ConfigError, match="has its labels already"):
        open_source(table, label="none")


def test_sources_of_any_kind_become_one(table, tmp_path, pictures):
    more = write_folder(tmp_path / "more", pictures[12:], ["ant", "cat", "dog", "eel"] * 3)
    summary = fl.convert([table, more], tmp_path / "both", workers=2)
    assert (summary.found, summary.written, summary.classes) == (24, 24, 5)
    both = fl.open_dataset(tmp_path / "both")
    assert both.classes == ("cat", "dog", "owl", "ant", "eel")
    fl.convert(more, tmp_path / "alone")
    assert contents(tmp_path / "both") == contents(table) + contents(tmp_path / "alone")
    assert both.source(3) == f"{table}/3.jpg"
    assert both.source(12) == f"{more}/ant/00.jpg"
    assert open_source([table, more]).digest() != open_source([more, table]).digest()


def test_equal_classes_keep_their_numbers_and_twins_stay_apart(tmp_path, pictures):
    from fastload.sources.merged import MergedSource

    source = open_source(write_folder(tmp_path / "a", pictures[:4], ["a", "b", "c", "c"]))
    source.classes = ("crane", "ox", "crane")  # as ImageNet's names have it
    merged = MergedSource([source, source])
    assert merged.classes == source.classes
    assert merged.labels().tolist() == source.labels().tolist() * 2


def test_the_same_source_twice_is_every_sample_twice(table, tmp_path):
    fl.convert([table, table], tmp_path / "twice")
    assert contents(tmp_path / "twice") == contents(table) * 2


def test_no_source_at_all(tmp_path):
    with pytest.raises(ConfigError, match="at least one path"):
        open_source([])
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="this is none of them"):
        open_source(tmp_path / "a.txt")
    with pytest.raises(ConfigError, match="lies inside the source"):
        fl.convert([tmp_path], tmp_path / "out")
