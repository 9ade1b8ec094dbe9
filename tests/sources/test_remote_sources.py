"""Sources behind URLs become the data sets that they become when they lie here, byte for byte."""

import csv
import io
import json
import tarfile

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fastload.convert import convert
from fastload.errors import DataError, FastloadError
from fastload.remote import Patience
from tests.remote_server import serving

MISDEEDS = ("drop", "truncate", "503", "whole", "long", "shift", "garbage")


@pytest.fixture(autouse=True)
def hasty(monkeypatch, tmp_path_factory):
    """A test must not wait as long as a user would, nor leave anything in the user's cache."""
    folder = tmp_path_factory.mktemp("user-cache")
    monkeypatch.setattr("fastload.dataset.remote.user_cache_directory", lambda: folder)
    quick = Patience(attempts=10, timeout=1.0, first_wait=0.002, longest_wait=0.05)
    monkeypatch.setattr("fastload.remote.files.Patience", lambda: quick)


def picture(number: int) -> bytes:
    chance = np.random.default_rng(number)
    buffer = io.BytesIO()
    pixels = chance.integers(0, 256, (100 + number, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same 24 pictures as tars, Parquet files, lists, a folder and a data set; nobody may change it."""
    root = tmp_path_factory.mktemp("sources")
    pictures = [picture(number) for number in range(24)]
    for number, data in enumerate(pictures):
        path = root / "folder" / "ab"[number % 2] / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for shard in range(2):
        with tarfile.open(root / f"train-{shard:04}.tar", "w") as tar:
            for number in range(12 * shard, 12 * shard + 12):
                for suffix, data in (("jpg", pictures[number]), ("cls", b"%d" % (number % 2)), ("json", b'{"n": 1}')):
                    member = tarfile.TarInfo(f"{number:04}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        rows = range(12 * shard, 12 * shard + 12)
        table = pa.table(
            {
                "image": [{"bytes": pictures[number], "path": f"{number}.jpg"} for number in rows],
                "label": [number % 2 for number in rows],
                "note": [f"note {number}" for number in rows],
            }
        )
        pq.write_table(table, root / f"train-{shard}.parquet", row_group_size=5)
    names = [f"folder/{'ab'[number % 2]}/{number:02}.jpg" for number in range(24)]
    with (root / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "more"), *((name, name[7], "x") for name in names)])
    lines = [json.dumps({"path": name, "label": number % 2}) for number, name in enumerate(names)]
    (root / "list.jsonl").write_text("\n".join(lines))
    convert(root / "train-{0000..0001}.tar", root / "dataset", shard_size="64KiB")
    (root / "tars").mkdir()
    for tar in root.glob("*.tar"):
        (root / "tars" / tar.name).write_bytes(tar.read_bytes())
    annotated(root, pictures)
    return root


def annotated(root, pictures):
    """The same as COCO has it, as Pascal VOC, and with masks; one image, annotation or mask is missing in each."""
    for folder in ("coco/annotations", "coco/val2017", "voc/Annotations", "voc/JPEGImages", "voc/SegmentationClass"):
        (root / folder).mkdir(parents=True)
    for folder in ("voc/ImageSets/Main", "pairs/images/deep", "pairs/masks/deep"):
        (root / folder).mkdir(parents=True)
    listed, objects = [], []
    for number, data in enumerate(pictures):
        name, size = f"{number:03}", (100 + number, 120)
        mask = io.BytesIO()
        Image.fromarray(np.full(size, number % 3, np.uint8)).save(mask, "PNG")
        listed.append({"id": number, "file_name": f"{name}.jpg", "height": size[0], "width": size[1]})
        corners = [10, 10, 60, 10, 60, 50 + number]
        row = {"id": number, "image_id": number, "category_id": 7, "bbox": [10, 10, 50, 40 + number]}
        objects.append(row | {"iscrowd": 0, "area": 1000 + number, "segmentation": [corners]})
        xml = f"<annotation><size><width>120</width><height>{size[0]}</height></size><object><name>cat</name>"
        xml += "<bndbox><xmin>11</xmin><ymin>11</ymin><xmax>60</xmax><ymax>50</ymax></bndbox></object></annotation>"
        pair = ("deep/" if number % 2 else "") + name
        files = {
            f"coco/val2017/{name}.jpg": data,
            f"voc/JPEGImages/{name}.jpg": data,
            f"voc/Annotations/{name}.xml": xml.encode(),
            f"voc/SegmentationClass/{name}.png": mask.getvalue(),
            f"pairs/images/{pair}.jpg": data,
            f"pairs/masks/{pair}.png": mask.getvalue(),
        }
        left_out = ("coco/val2017/005.jpg", "voc/Annotations/006.xml", "voc/SegmentationClass/007.png")
        for path, content in files.items():
            if path not in (*left_out, "pairs/masks/008.png"):
                (root / path).write_bytes(content)
    (root / "voc/ImageSets/Main/val.txt").write_text("003\n002\n004\n")
    tables = {"images": listed, "annotations": objects, "categories": [{"id": 7, "name": "cat"}]}
    (root / "coco/annotations/instances_val2017.json").write_text(json.dumps(tables))


def content(folder):
    """Everything of a data set but where it came from."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    manifest = json.loads(files.pop("dataset.json"))
    manifest.pop("conversion")
    ledger = [json.loads(line) for line in files.pop("conversion.jsonl", b"").splitlines()]
    for line in ledger:
        line.pop("reason")  # a file that is missing is told in other words
    return files, manifest, ledger


COCO = "coco/annotations/instances_val2017.json"
FILES = ["train-{0000..0001}.tar", "train-{0..1}.parquet", "list.csv", "list.jsonl", "dataset", COCO]
# What only a server that lists folders can hand out.
FOLDERS = ["folder", "train-*.tar", "train-?.parquet", "tars", "voc", "voc/ImageSets/Main/val.txt", "pairs"]
WITH_MASKS = [COCO, "voc"]


def options_of(name):
    return {"masks": name in WITH_MASKS, "shard_size": "128KiB"}


@pytest.mark.parametrize("name", [*FILES, *(name for name in FOLDERS if "?" not in name)])
def test_what_a_web_server_has_becomes_what_the_files_become(sources, tmp_path, name):
    here = convert(f"{sources}/{name}", tmp_path / "here", **options_of(name))
    with serving(sources, misdeeds=MISDEEDS, share=0.2, index=name in FOLDERS) as server:
        there = convert(f"{server.url}/{name}", tmp_path / "there", **options_of(name))
        assert len(server.counts()) > 1 or name == "dataset"
    assert content(tmp_path / "there") == content(tmp_path / "here")
    left_out = {COCO: (24, 1), "voc": (24, 1), "pairs": (24, 1), "voc/ImageSets/Main/val.txt": (3, 0)}
    assert (there.found, there.skipped) == (here.found, here.skipped) == left_out.get(name, (24, 0))


@pytest.fixture
def in_memory(sources):
    memory = fsspec.filesystem("memory")
    memory.put(str(sources), "/remote-sources", recursive=True)
    yield "memory://remote-sources"
    memory.rm("/remote-sources", recursive=True)


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_what_fsspec_reads_becomes_what_the_files_become(sources, in_memory, tmp_path, name):
    convert(f"{sources}/{name}", tmp_path / "here", **options_of(name))
    convert(f"{in_memory}/{name}", tmp_path / "there", **options_of(name))
    assert content(tmp_path / "there") == content(tmp_path / "here")
    convert(f"file://{sources}/{name}", tmp_path / "file", **options_of(name))
    assert content(tmp_path / "file") == content(tmp_path / "here")


def test_images_and_masks_are_named_by_urls_of_their_own(sources, tmp_path):
    convert(sources / "pairs", tmp_path / "here")
    convert(sources / COCO, tmp_path / "coco")
    with serving(sources, index=True) as server:
        convert(f"{server.url}/pairs/images", tmp_path / "there", mask_folder=f"{server.url}/pairs/masks")
        convert(sources / COCO, tmp_path / "mixed", images=f"{server.url}/coco/val2017")
    assert content(tmp_path / "there") == content(tmp_path / "here")
    assert content(tmp_path / "mixed") == content(tmp_path / "coco")


def test_a_list_may_name_urls(sources, tmp_path):
    with serving(sources) as server:
        lines = [f"{server.url}/folder/a/00.jpg,x", f"{sources}/folder/b/01.jpg,y", f"{server.url}/folder/a/99.jpg,x"]
        (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]))
        summary = convert(tmp_path / "list.csv", tmp_path / "data")
    assert (summary.found, summary.written, summary.skipped) == (3, 2, 1)
    ledger = (tmp_path / "data" / "conversion.jsonl").read_text()
    assert "99.jpg" in ledger
    assert "404" in ledger


def test_a_server_that_goes_away_stops_the_conversion_and_another_run_completes_it(sources, tmp_path, monkeypatch):
    hasty = Patience(attempts=2, timeout=60.0, first_wait=0.001)
    monkeypatch.setattr("fastload.remote.files.Patience", lambda: hasty)
    monkeypatch.setattr("fastload.sources.table.FILES_AHEAD", 1)
    convert(sources / "list.jsonl", tmp_path / "here", shard_size="64KiB")
    with serving(sources) as server:

        def leave(done, total, skipped):
            server.script.gone = done >= 6

        with pytest.raises(FastloadError, match="run the conversion again, it continues where it stopped"):
            convert(f"{server.url}/list.jsonl", tmp_path / "there", shard_size="64KiB", workers=1, progress=leave)
        server.script.gone = False
        convert(f"{server.url}/list.jsonl", tmp_path / "there", shard_size="64KiB")
    assert content(tmp_path / "there") == content(tmp_path / "here")


def test_what_cannot_be_read_from_afar_is_told(sources, tmp_path):
    with serving(sources) as server:
        with pytest.raises(DataError, match=r"this web server does not list the folder \(.*404.*\): name its files"):
            convert(f"{server.url}/folder", tmp_path / "data")
        for missing in ("missing.tar", "missing.json", "missing.beton", "voc/ImageSets/Main/missing.txt"):
            with pytest.raises(DataError, match="404"):
                convert(f"{server.url}/{missing}", tmp_path / "data")
        server.script.missing = {f"coco/val2017/{number:03}.jpg" for number in range(24)}
        with pytest.raises(DataError, match=r"data/coco/val2017, .* holds its images .* name the folder with --images"):
            convert(f"{server.url}/{COCO}", tmp_path / "data")
