"""Parquet files as Hugging Face's datasets and pyarrow write them give their images, labels and columns."""

import contextlib
import datetime
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastload as fl
from fastload.errors import ConfigError, DataError
from fastload.sources import ParquetSource, open_source
from fastload.sources.parquet_rows import RowReader

CLASSES = ["tench, Tinca tinca", "crane", "crane"]
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": CLASSES, "_type": "ClassLabel"},
    "caption": {"dtype": "string", "_type": "Value"},
}
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def hugging_face(path, rows, features=FEATURES, group=5, **options):
    """What datasets.Dataset.to_parquet writes: structs, and the features as JSON in the schema."""
    kinds = {"image": IMAGE, "label": pa.int64(), "caption": pa.string()}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    schema = pa.schema([(name, kind) for name, kind in kinds.items() if name in rows[0]], metadata=metadata)
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=group, **options)
    return path


def rows_of(pictures, first=0):
    return [
        {
            "image": {"bytes": data, "path": f"n{first + number}.JPEG"},
            "label": (first + number) % 3,
            "caption": f"ü {first + number}" if number != 2 else None,
        }
        for number, data in enumerate(pictures)
    ]


@pytest.fixture
def files(tmp_path, pictures):
    """24 rows in two files of several row groups."""
    folder = tmp_path / "data"
    folder.mkdir()
    hugging_face(folder / "train-00000-of-00002.parquet", rows_of(pictures[:14]))
    hugging_face(folder / "train-00001-of-00002.parquet", rows_of(pictures[14:], 14), compression="zstd")
    return folder


@pytest.mark.parametrize("form", ["folder", "glob", "list"])
def test_the_layout_of_imagenet_1k(files, pictures, tmp_path, form):
    source = {
        "folder": files,
        "glob": f"{files}/train-*.parquet",
        "list": sorted(files.iterdir()),
    }[form]
    summary = fl.convert(source, tmp_path / "out", workers=3)
    assert (summary.found, summary.written, summary.reencoded, summary.classes) == (24, 24, 0, 3)
    with fl.open_dataset(tmp_path / "out", verify="always") as dataset:
        assert list(dataset.classes) == CLASSES
        for number, data in enumerate(pictures):
            sample = dataset[number]
            file, row = divmod(number, 14)
            assert (sample.image, sample.label) == (data, number % 3)
            caption = None if row == 2 else f"ü {number}"
            assert json.loads(sample.extras["json"]) == sample.fields == {"caption": caption}
            assert dataset.schema["caption"] == "text"
            assert dataset.source(number) == f"train-{file:05}-of-00002.parquet/{row}/n{number}.JPEG"


def test_any_order_and_any_thread_reads_the_same(files, pictures, monkeypatch):
    monkeypatch.setattr("fastload.sources.parquet_rows._CACHE_BYTES", 1)  # one block at a time
    source = open_source(files)

    def read(seed):
        order = np.random.default_rng(seed).permutation(24).tolist()
        return [number for number in order if source.read(number).image != pictures[number]]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(8))) == [[]] * 8


def test_in_order_each_row_group_is_read_once(files, monkeypatch):
    begun = []
    begin = RowReader._begin
    monkeypatch.setattr(RowReader, "_begin", lambda self, which: (begun.append(which), begin(self, which)))
    source = open_source(files)
    assert begun == []
    for number in range(24):
        source.read(number)
    assert begun == [0, 1, 2, 3, 4]


def test_a_large_row_group_is_read_in_blocks(tmp_path, monkeypatch):
    """One row group of 64 MB: what is held at a time is a block or two, and what may be kept."""
    monkeypatch.setattr("fastload.sources.parquet_rows._CACHE_BYTES", 8 << 20)
    rows = [{"image": {"bytes": bytes([number]) * (1 << 20), "path": None}} for number in range(64)]
    options = {"group": 64, "data_page_size": 1 << 20, "write_batch_size": 1, "use_dictionary": False}
    path = hugging_face(tmp_path / "a.parquet", rows, {}, **options)
    assert pq.ParquetFile(path).num_row_groups == 1
    before = pa.total_allocated_bytes()
    source = open_source(path)
    most = 0
    for number in range(64):
        assert source.read(number).image == bytes([number]) * (1 << 20)
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 40 << 20


def test_plain_bytes_names_and_every_kind_of_column(tmp_path, pictures):
    table = pa.table(
        {
            "jpg": pa.array(pictures[:4], pa.large_binary()),
            "category": pa.array(["owl", "cat", None, "owl"]).dictionary_encode(),
            "mask": pa.array([b"m0", None, b"m2", b"m3"]),
            "when": pa.array([datetime.date(2026, 1, day) for day in (1, 2, 3, 4)]),
            "score": pa.array([1.5, float("nan"), float("inf"), None]),
            "boxes": pa.array([[[1.0, 2.0]], [], None, [[3.0]]]),
            "meta": pa.array([{"raw": b"\xff", "n": 2**53 + 1}] * 4),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet", image="jpg")
    assert (source.classes, source.labels().tolist()) == (("cat", "owl"), [1, 0, -1, 1])
    assert source.extras == ("json", "mask")
    assert [source.read(number).image for number in range(4)] == pictures[:4]
    assert [source.read(number).extras.get("mask") for number in range(4)] == [b"m0", None, b"m2", b"m3"]
    found = [json.loads(source.read(number).extras["json"]) for number in range(4)]
    assert [each["score"] for each in found] == [1.5, None, None, None]
    assert found[1] == {
        "when": "2026-01-02",
        "score": None,
        "boxes": [],
        "meta": {"raw": "/w==", "n": 2**53 + 1},
    }
    with pytest.raises(ConfigError, match="expected a column of bytes 'x'; there are jpg, mask"):
        open_source(tmp_path / "a.parquet", image="x")
    with pytest.raises(ConfigError, match="'score' holds double and no labels"):
        open_source(tmp_path / "a.parquet", image="jpg", label="score")
    assert open_source(tmp_path / "a.parquet", image="jpg", label="none").classes == ()


def test_several_columns_of_images(tmp_path, pictures):
    pq.write_table(pa.table({"left": pictures[:2], "right": pictures[2:4]}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"several columns may be the image \(left, right\)"):
        open_source(tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet", image="right")
    assert source.read(1).image == pictures[3]
    assert source.read(1).extras == {"left": pictures[1]}


def test_two_kinds_of_labels_are_a_choice(tmp_path, pictures):
    """As cifar100 has them."""
    names = {"fine_label": ["a", "b", "c"], "coarse_label": ["x", "y"]}
    features = {name: {"names": classes, "_type": "ClassLabel"} for name, classes in names.items()}
    metadata = {"huggingface": json.dumps({"info": {"features": {"img": {"_type": "Image"}, **features}}})}
    columns = {"img": [{"bytes": pictures[0], "path": None}], "fine_label": [2], "coarse_label": [1]}
    kinds = [("img", IMAGE), ("fine_label", pa.int64()), ("coarse_label", pa.uint8())]
    pq.write_table(pa.table(columns, pa.schema(kinds, metadata)), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"several columns are labels \(fine_label, coarse_label\)"):
        open_source(tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet", label="coarse_label")
    assert (source.classes, source.labels().tolist()) == (("x", "y"), [1])
    assert json.loads(source.read(0).extras["json"]) == {"fine_label": 2}


def test_rows_that_are_no_samples_are_accounted_for(tmp_path, pictures):
    rows = rows_of(pictures[:6])
    rows[1]["label"] = 7
    rows[2]["label"] = -1
    rows[3]["image"] = {"bytes": None, "path": "/etc/passwd"}
    rows[4]["image"] = None
    rows[5]["label"] = None
    summary = fl.convert(hugging_face(tmp_path / "a.parquet", rows), tmp_path / "out")
    assert (summary.found, summary.written, summary.skipped) == (6, 3, 3)
    reasons = dict(summary.skips)
    assert reasons["a.parquet/1/n1.JPEG"] == "its label 7 is none of the 3 classes"
    assert "only the path of a file" in reasons["a.parquet/3//etc/passwd"]
    assert "its image is empty" in reasons["a.parquet/4"]
    with fl.open_dataset(tmp_path / "out") as dataset:
        assert [dataset[number].label for number in range(3)] == [0, -1, -1]


def test_files_that_do_not_belong_together(tmp_path, pictures):
    rows = rows_of(pictures[:4])
    first = hugging_face(tmp_path / "train-0.parquet", rows)
    other = {**FEATURES, "label": {"names": CLASSES[::-1], "_type": "ClassLabel"}}
    with pytest.raises(DataError, match="its classes differ"):
        open_source([first, hugging_face(tmp_path / "b.parquet", rows, other)])
    for row in rows:
        del row["caption"]
    with pytest.raises(DataError, match="its columns differ"):
        open_source([first, hugging_face(tmp_path / "test-0.parquet", rows)])
    with pytest.raises(DataError, match=r"found test, train; choose one: .*test-\*\.parquet or .*train-\*\.parquet"):
        open_source(tmp_path)


def test_a_seed_says_what_to_do(files, tmp_path):
    with pytest.raises(ConfigError, match="convert them without seed"):
        fl.convert(files, tmp_path / "out", seed=1)
    assert not (tmp_path / "out").exists()


def test_no_images_and_no_parquet(tmp_path):
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"expected a column of images .*but there are a, b"):
        open_source(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="no Parquet file"):
        open_source(tmp_path / "b.parquet")


def test_damage_in_the_middle_costs_the_rest_of_a_row_group_and_is_named(tmp_path, pictures):
    path = hugging_face(tmp_path / "a.parquet", rows_of(pictures), group=8, compression="none", use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset : column.data_page_offset + 40] = b"\xff" * 40
    path.write_bytes(data)
    summary = fl.convert(path, tmp_path / "out", workers=2)
    assert (summary.found, summary.written, summary.skipped) == (24, 16, 8)
    assert all("row group 1 " in reason for _, reason in summary.skips)


@pytest.fixture
def intact(tmp_path, pictures):
    return hugging_face(tmp_path / "a.parquet", rows_of(pictures))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1) | st.floats(0.8, 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_damage_is_an_error_of_ours(intact, changes):
    """Half of the changes are to the footer, where pyarrow can end the process."""
    data = bytearray(intact.read_bytes())
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    damaged = intact.with_name("b.parquet")
    damaged.write_bytes(data)
    try:
        source = open_source(damaged)
    except (DataError, ConfigError):
        return
    assert isinstance(source, ParquetSource)
    for number in range(len(source)):
        with contextlib.suppress(DataError):
            source.read(number)


def test_half_a_character_in_the_name_of_a_class(tmp_path, pictures):
    features = FEATURES | {"label": {"names": ["a", "b", "\ud800"], "_type": "ClassLabel"}}
    source = open_source(hugging_face(tmp_path / "a.parquet", rows_of(pictures), features))
    assert source.classes == ("a", "b", r"\xed\xa0\x80")
    assert source.digest()
