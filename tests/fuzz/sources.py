"""Hostile sources of convert: tables, Parquet, COCO, Pascal VOC, tars of others, pages of web servers, annotations."""

import contextlib
import io
import json
import random
import tarfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from fastload.adopt import index_shards
from fastload.convert.fitting import fit_members
from fastload.convert.transcode import transcode
from fastload.dataset import open_dataset
from fastload.dataset.fields import MEMBER_TYPES, decode_fields
from fastload.errors import DataError
from fastload.remote.web_folder import list_web_folder
from fastload.sources import open_source
from tests.dataset.conftest import photo
from tests.fuzz.harness import Parser, write
from tests.fuzz.mutations import json_file, mutate_bytes, mutate_json, mutate_tar, mutate_text
from tests.sources.test_parquet_source import hugging_face, rows_of
from tests.sources.test_voc_source import OBJECTS, xml


def read_all(source) -> str:
    """Everything that convert does with a source but write; whether all, some or none of its samples can be had."""
    sound = 0
    assert len(source.labels()) == len(source.num_bytes()) == len(source)
    assert source.digest()
    assert all(reason for _, reason in source.rejected)
    for number in range(min(len(source), 40)):
        assert source.name(number)
        with contextlib.suppress(DataError):
            item = source.read(number)
            fit_members(item, source.fields, transcode(item.image, max_side=random.Random(number).choice((20, None))))
            decode_fields(item.extras, source.fields)
            sound += 1
    return "some" if 0 < sound < len(source) + len(source.rejected) else "all" if sound else "none"


class Table:
    """CSV, TSV and JSON lines."""

    ROWS = [{"path": f"{n % 3}.jpg", "label": "ab"[n % 2], "caption": f"a {n}", "number": n / 3} for n in range(6)]

    def __init__(self, folder: Path, suffix: str) -> None:
        for number in range(3):
            (folder / f"{number}.jpg").write_bytes(photo(number))
        self.path = folder / f"table.{suffix}"
        mark = "\t" if suffix == "tsv" else ","
        lines = [mark.join(self.ROWS[0])] + [mark.join(map(str, row.values())) for row in self.ROWS]
        if suffix == "jsonl":
            lines = [json.dumps(row) for row in self.ROWS]
        self.lines = suffix == "jsonl"
        self.data = "\n".join(lines).encode()

    def __call__(self, rng: random.Random) -> str:
        if self.lines and rng.random() < 0.5:
            data = "\n".join(json.dumps(mutate_json(row, rng)) for row in self.ROWS).encode()
        else:
            data = mutate_text(self.data, rng)
        return read_all(open_source(write(self.path, data)))


class Parquet:
    """Hugging Face's layout: pages, footers, features."""

    def __init__(self, folder: Path) -> None:
        pictures = [photo(number, size=(24, 16)) for number in range(6)]
        self.files = []
        for number, options in enumerate(({}, {"compression": "zstd"}, {"compression": None, "use_dictionary": False})):
            path = hugging_face(folder / f"{number}", rows_of(pictures), group=4, **options)
            self.files.append(path.read_bytes())
            path.unlink()
        self.path = folder / "a.parquet"

    def __call__(self, rng: random.Random) -> str:
        data = rng.choice(self.files)
        footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        begin, end = rng.choice(((0, footer), (footer, len(data)), (0, len(data))))
        data = data[:begin] + mutate_bytes(data[begin:end], rng) + data[end:]
        return read_all(open_source(write(self.path, data)))


class Coco:
    """Annotations with boxes, keypoints, polygons and run lengths."""

    def __init__(self, folder: Path) -> None:
        for number in (1, 2):
            (folder / f"{number}.jpg").write_bytes(photo(number))
        self.path = folder / "instances.json"
        box = {"bbox": [1.5, 2, 10, 20], "area": 150.5, "iscrowd": 0}
        self.tables = {
            "images": [{"id": n, "file_name": f"{n}.jpg", "width": 40, "height": 30} for n in (1, 2)],
            "categories": [{"id": 7, "name": "cat", "keypoints": ["nose", "tail"]}, {"id": 2, "name": "box"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 7, "keypoints": [3, 4, 2, 0, 0, 0], **box}
                | {"segmentation": [[1.5, 2, 11.5, 2, 11.5, 22, 1.5, 22], [20, 20, 25, 20, 25, 25.5]]},
                {"id": 2, "image_id": 1, "category_id": 2, **box}
                | {"segmentation": {"size": [30, 40], "counts": [600, 30, 570]}},
                {"id": 3, "image_id": 2, "category_id": 2, **box}
                | {"segmentation": {"size": [30, 40], "counts": "`0h8P1"}},
            ],
        }

    def __call__(self, rng: random.Random) -> str:
        write(self.path, json_file(self.tables, rng))
        return read_all(open_source(self.path, masks=rng.random() < 0.7))


class Voc:
    """XML files, a list, and masks of classes."""

    def __init__(self, folder: Path) -> None:
        for name in ("Annotations", "JPEGImages", "ImageSets/Main", "SegmentationClass"):
            (folder / name).mkdir(parents=True)
        self.folder = folder
        self.names = list(OBJECTS)
        for number, name in enumerate(self.names):
            (folder / "JPEGImages" / f"{name}.jpg").write_bytes(photo(number))
        self.xml = [xml(name, objects) for name, objects in OBJECTS.items()]
        self.list = "".join(f"{name} 1\n" for name in self.names).encode()

    def __call__(self, rng: random.Random) -> str:
        which = rng.randrange(4)
        for number, name in enumerate(self.names):
            data = mutate_text(self.xml[number], rng) if number == which else self.xml[number]
            if number == which and rng.random() < 0.2:
                data = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "xxxxxxxxx">]>' + data
            write(self.folder / "Annotations" / f"{name}.xml", data)
        listed = write(self.folder / "ImageSets" / "Main" / "train.txt", mutate_text(self.list, rng))
        return read_all(open_source(listed if which == 3 else self.folder))


def tars() -> list[bytes]:
    """Shards as GNU tar, PAX and ustar write them, with long names and labels in .cls and .json."""
    found = []
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=form) as tar:
            for number in range(4):
                key = f"{'n' * (120 if number == 2 and form != tarfile.USTAR_FORMAT else 3)}{number}"
                members = {"jpg": photo(number), "cls": b"%d" % number, "json": b'{"label": {"a": 3}, "b": [1]}'}
                for ending, data in members.items():
                    info = tarfile.TarInfo(f"{key}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        found.append(file.getvalue())
    return found


class Tar:
    """Tars of others as a source, and as a data set where they lie."""

    def __init__(self, folder: Path, adopt: bool) -> None:
        self.folder, self.adopt, self.tars = folder, adopt, tars()

    def __call__(self, rng: random.Random) -> str:
        for path in self.folder.iterdir():
            path.unlink()
        path = write(self.folder / "a.tar", mutate_tar(rng.choice(self.tars), rng))
        label = rng.choice((None, "cls", "json.label.a", "json.b", "none"))
        if not self.adopt:
            return read_all(open_source(path, label=label))
        summary = index_shards(self.folder, label=label, workers=1)
        with open_dataset(self.folder, verify="always") as dataset:
            assert all(dataset[number].image for number in range(len(dataset)))
        return "some" if summary.skipped else "all"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
NUMBERS = st.lists(st.lists(st.integers(-5, 300) | st.floats() | st.text(max_size=2), max_size=5), max_size=4)
FIELDS = ("boxes", "labels", "area", "iscrowd", "keypoints", "caption", "x")
MEMBERS = st.tuples(
    st.dictionaries(st.sampled_from(FIELDS), JSON | NUMBERS | st.lists(NUMBERS, max_size=3), max_size=4),
    st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(sorted(MEMBER_TYPES)), max_size=7),
)


def members_of(_: Path):
    """Any values in the member .json under any types: arrays, or one error of ours."""

    def parse(drawn) -> str:
        values, types = drawn
        fields = decode_fields({"json": json.dumps(values).encode()}, types | {"json": "json"})
        for name, value in fields.items():
            if types.get(name) == "boxes":
                assert value.dtype == np.float32
                assert value.shape[1:] == (4,)
        return "read"

    return parse


class WebFolder:
    """A web server's page about a folder: no name leads out of it."""

    PAGE = (
        b'<html><h1>Index of /data</h1><a href="../">../</a><a href="?C=N;O=D">Name</a>\n'
        b'<a href="cats%20%26%20dogs/">cats &amp; dogs/</a> <a href="/data/one%231.jpg">one#1.jpg</a> 12\n'
        b'<a href="https://host/data/%C3%A9.jpg">x</a><a href="..%2f..%2fetc%2fpasswd">y</a></html>\n'
    )

    def __init__(self, folder: Path) -> None:
        pass

    def __call__(self, rng: random.Random) -> str:
        page = mutate_text(self.PAGE, rng)
        names = list_web_folder("https://host/data?key=1", lambda url: page, deep=False)
        for name in names:
            assert "/" not in name.removesuffix("/")
            assert name.strip("/.")
            assert "\0" not in name
        return "listed" if names else "empty"


MIXED = ("refused", "all", "some")
PARSERS = [
    Parser(name="source: CSV", share=25, short=150, make=lambda folder: Table(folder, "csv"), outcomes=MIXED),
    Parser(name="source: TSV", share=15, short=150, make=lambda folder: Table(folder, "tsv"), outcomes=MIXED),
    Parser(name="source: JSON lines", share=25, short=150, make=lambda folder: Table(folder, "jsonl"), outcomes=MIXED),
    Parser(name="source: Parquet", share=20, short=150, make=Parquet, outcomes=MIXED),
    Parser(name="source: COCO", share=25, short=200, make=Coco, outcomes=MIXED),
    Parser(name="source: Pascal VOC", share=15, short=100, make=Voc, outcomes=MIXED),
    Parser(
        name="source: tar shards",
        share=40,
        short=200,
        make=lambda folder: Tar(folder, False),
        outcomes=("none", *MIXED[1:]),
    ),
    Parser(name="index: tars of others", share=4, short=40, make=lambda folder: Tar(folder, True), outcomes=MIXED),
    Parser(name="members .json", share=20, short=150, make=members_of, strategy=MEMBERS, outcomes=("refused", "read")),
    Parser(name="web page of a folder", share=40, short=200, make=WebFolder, outcomes=("refused", "listed")),
]
