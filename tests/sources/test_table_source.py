"""Lists of files, as csv and json write them, become samples; what is wrong is named by its line."""

import csv
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastload as fl
from fastload.errors import ConfigError, DataError
from fastload.sources import TableSource, open_source
from fastload.sources.columns import LabelColumn

NAMES = ["owl", "cat", "Dog, big", "cat"]


@pytest.fixture
def folder(tmp_path, pictures):
    (tmp_path / "photos").mkdir()
    for number, data in enumerate(pictures[:8]):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(data)
    return tmp_path


def write(path, rows, delimiter=","):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_lines(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


def rows_of(count=8):
    return [
        {
            "id": f"{number:03}",
            "path": f"photos/{number}.jpg",
            "label": NAMES[number % 4],
            "width": 10 * number if number != 3 else "",
            "note": f'line\nbreak, "{number}" ü',
        }
        for number in range(count)
    ]


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_table_of_the_csv_module(folder, pictures, delimiter):
    source = open_source(write(folder / ("a.csv" if delimiter == "," else "a.tsv"), rows_of(), delimiter))
    assert isinstance(source, TableSource)
    assert source.classes == ("Dog, big", "cat", "owl")
    assert [source.classes[label] for label in source.labels()] == [NAMES[number % 4] for number in range(8)]
    assert (source.extras, source.rejected) == (("json",), [])
    for number, row in enumerate(rows_of()):
        item = source.read(number)
        assert source.name(number) == row["path"]
        assert item.image == pictures[number]
        width = 10 * number if number != 3 else None
        assert json.loads(item.extras["json"]) == {"id": row["id"], "width": width, "note": row["note"]}


def test_it_converts_with_its_columns_as_json(folder, pictures):
    table = write(folder / "list.csv", rows_of())
    summary = fl.convert(table, folder / "out", workers=2)
    assert (summary.found, summary.written, summary.skipped, summary.classes) == (8, 8, 0, 3)
    dataset = fl.open_dataset(folder / "out", verify="always")
    for number in range(8):
        sample = dataset[number]
        assert sample.image == pictures[number]
        assert sample.fields["width"] == (10 * number if number != 3 else None)
        assert (dataset.schema["width"], dataset.schema["note"]) == ("number", "text")
        assert dataset.classes[sample.label] == NAMES[number % 4]
        assert json.loads(sample.extras["json"])["id"] == f"{number:03}"
        assert dataset.source(number) == f"photos/{number}.jpg"
    assert fl.convert(table, folder / "out").already_done
    lines = table.read_text().replace("002,", "902,")
    table.write_text(lines)
    with pytest.raises(DataError, match="the files of the source"):
        fl.convert(table, folder / "out")


def test_json_lines_keep_their_types(folder, pictures):
    entries = [
        {"file_name": f"photos/{number}.jpg", "target": number % 3, "boxes": [[1, 2.5]], "text": "ü", "none": None}
        for number in range(8)
    ]
    entries[5]["target"] = None
    entries[6] = {"file_name": "photos/6.jpg"}
    source = open_source(write_lines(folder / "a.jsonl", entries))
    assert source.classes == ("0", "1", "2")
    assert source.labels().tolist() == [0, 1, 2, 0, 1, -1, -1, 1]
    for number, entry in enumerate(entries):
        item = source.read(number)
        rest = {name: value for name, value in entry.items() if name not in ("file_name", "target")}
        assert item.image == pictures[number]
        assert (json.loads(item.extras["json"]) if rest else None) == (rest or None)


def test_labels_that_only_later_lines_have(folder):
    entries = [{"path": "photos/0.jpg"}, {"path": "photos/1.jpg", "label": "cat"}]
    source = open_source(write_lines(folder / "a.jsonl", entries))
    assert (source.labels().tolist(), source.classes, source.extras) == ([-1, 0], ("cat",), ())


def test_columns_can_be_chosen(folder):
    rows = [{"where": f"photos/{n}.jpg", "label": "x", "breed": "ab"[n % 2]} for n in range(4)]
    table = write(folder / "a.csv", rows)
    with pytest.raises(DataError, match=r"line 1 must name a column with the path.*where, label, breed.*--image"):
        open_source(table)
    source = open_source(table, image="where", label="breed")
    assert (source.labels().tolist(), source.classes) == ([0, 1, 0, 1], ("a", "b"))
    assert json.loads(source.read(0).extras["json"]) == {"label": "x"}
    source = open_source(table, image="where", label="none")
    assert (source.labels().tolist(), source.classes) == ([-1] * 4, ())
    with pytest.raises(ConfigError, match="one column 'nowhere'; there are where, label, breed"):
        open_source(table, image="nowhere")


def test_absolute_paths_and_files_that_are_missing_are_accounted_for(folder, tmp_path_factory):
    rows = [{"path": folder / "photos" / "0.jpg"}, {"path": "gone.jpg"}, {"path": ""}, {"path": folder / "photos"}]
    elsewhere = write(tmp_path_factory.mktemp("elsewhere") / "a.csv", rows)
    summary = fl.convert(elsewhere, folder / "out")
    assert (summary.found, summary.written, summary.skipped, summary.classes) == (4, 1, 3, 0)
    reasons = dict(summary.skips)
    assert reasons["line 4"] == "it has no path"
    assert "No such file" in reasons["gone.jpg"]
    assert "regular file" in reasons[str(folder / "photos")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.jpg\n", "line 2 has 1 cells in place of 2"),
        ("path,label\na.jpg,1\nb.jpg,Tench, a fish\n", "line 3 has 3 cells in place of 2"),
        ('path,label\na.jpg,"x', "line 2 is no line of a table: unexpected end of data"),
        ("path,x,x\na.jpg,1,2\n", "line 1 names the column 'x' twice"),
        ("path;label\na.jpg;1\n", "line 1 must name a column"),
        ("", "line 1 must name a column"),
        ("path,label\n", "expected a line for each image"),
        (
            "path,label\na.jpg,1000000\n",
            "line 2: expected a label from 0 to 999,999, -1 for none, or names; got 1000000",
        ),
        ("path,label\na.jpg,3\nb.jpg,-1\nc.jpg,-7\n", "line 4: expected a label from 0 .* got -7"),
        ("path,label\na.jpg,\udcff\n", "line 2 is no UTF-8"),
        (f"path,label\na.jpg,{'x' * 200_000}\n", "line 2 is no line of a table: field larger"),
    ],
)
def test_a_damaged_table_is_one_clear_error(tmp_path, text, message):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DataError, match=message) as caught:
        open_source(path)
    assert caught.value.path == str(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "line 2 must be an object"),
        ("{", "line 2 is no JSON"),
        ('{"path": "a", "x": NaN}', "line 2 is no JSON .NaN"),
        ("[" * 100_000, "line 2 is no JSON"),
        ('{"path": "a", "x": ' + "9" * 5000 + "}", "line 2 is no JSON"),
    ],
)
def test_damaged_json_lines_are_one_clear_error(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text(f'{{"path": "a.jpg"}}\n{line}\n')
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"path": 3, "label": "a"}, "it has no path (path)"),
        ({"path": "a.jpg", "label": [1]}, "its label must be a whole number or a name, not [1]"),
        ({"path": "a.jpg", "label": 1.5}, "its label must be a whole number or a name, not 1.5"),
        ({"path": "a\0b.jpg", "label": "a"}, "its path has a zero byte"),
        ({"path": "\ud800", "label": "a"}, "its path is no text"),
    ],
)
def test_a_line_that_is_no_sample_is_rejected_by_number(tmp_path, entry, reason):
    source = open_source(write_lines(tmp_path / "a.jsonl", [{"path": "b.jpg", "label": "a"}, entry]))
    assert len(source) == 1
    assert source.rejected == [("line 2", reason)]


def test_a_byte_order_mark_and_names_in_capitals(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfPath,Class\r\na.jpg,1\r\n\r\nb.jpg,3.0\r\nc.jpg,-1\r\n")
    source = open_source(tmp_path / "a.csv")
    assert (source.labels().tolist(), source.classes) == ([1, 3, -1], ("0", "1", "2", "3"))


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(DataError, match="regular file"):
        open_source(tmp_path / "a.csv")


@given(st.lists(st.one_of(st.integers(0, 40).map(str), st.text("abc 1é", max_size=4), st.just(""))))
def test_labels_keep_their_meaning(texts):
    column = LabelColumn("x")
    for text in texts:
        column.add(text, "here")
    labels, classes = column.finish()
    for text, label in zip(texts, labels.tolist(), strict=True):
        assert classes[label] == text.strip() if text.strip() else label == -1


@given(st.binary(max_size=300), st.sampled_from(["csv", "tsv", "jsonl"]))
def test_any_bytes_are_a_table_or_an_error(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("fuzz") / f"a.{suffix}"
    path.write_bytes((b"path,label\n" if suffix != "jsonl" else b'{"path": "x"}\n') + data)
    try:
        source = open_source(path)
    except DataError:
        return
    for number in range(len(source)):
        with pytest.raises(DataError):
            source.read(number)


def test_half_a_character_in_a_label_is_a_name(tmp_path, pictures):
    """The mutation job's find: JSON can hold what is no text, and nothing may be hashed or printed of it as it is."""
    (tmp_path / "0.jpg").write_bytes(pictures[0])
    (tmp_path / "a.jsonl").write_text(json.dumps({"path": "0.jpg", "label": "\ud800", "\udfff": 1}) + "\n")
    summary = fl.convert(tmp_path / "a.jsonl", tmp_path / "out")
    assert summary.written == 1
    with fl.open_dataset(tmp_path / "out") as dataset:
        assert dataset.classes == (r"\xed\xa0\x80",)
    (tmp_path / "b.jsonl").write_text(json.dumps({"no path": "0.jpg", "\udfff": 1}) + "\n")
    with pytest.raises(DataError, match=r"no path, .*xed.*xbf"):
        open_source(tmp_path / "b.jsonl")
