"""convert writes .beton files to the byte as their layout says, accounts for every image, and may be killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from fastload.convert import convert
from fastload.convert import run as convert_run
from fastload.convert.transcode import transcode
from fastload.dataset import open_dataset
from fastload.errors import ConfigError, DataError
from fastload.sources import Item, Source
from tests.dataset.beton_files import BYTES, INT, JSON, RGB, write_beton

FIELDS = [("image", RGB, b""), ("label", INT, b"")]


@pytest.fixture(scope="module")
def sound(photos, tmp_path_factory):
    """The photographs without those that are damaged or no JPEGs."""
    root = tmp_path_factory.mktemp("sound") / "photos"
    for path in sorted(photos.glob("*/*.jpg")):
        if int(path.stem) not in (10, 20, 30, 40):
            (root / path.parent.name).mkdir(parents=True, exist_ok=True)
            os.link(path, root / path.parent.name / path.name)
    return root


def files_of(root):
    """(path, label) in the order of ImageFolder."""
    folders = sorted(root.iterdir())
    return [(path, label) for label, folder in enumerate(folders) for path in sorted(folder.iterdir())]


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_jpeg_files_are_passed_through_into_the_layout(sound, tmp_path):
    summary = convert(sound, tmp_path / "out.beton")
    assert (summary.found, summary.written, summary.reencoded, summary.shards) == (76, 76, 0, 1)
    samples = []
    for path, label in files_of(sound):
        samples.append(((*pixels_of(path).shape[:2], path.read_bytes(), None), label))
    expected = write_beton(tmp_path / "expected.beton", FIELDS, samples, page=8 << 20, reverse=False)
    assert (tmp_path / "out.beton").read_bytes() == expected.read_bytes()
    assert summary.num_bytes == expected.stat().st_size
    with open_dataset(tmp_path / "out.beton") as dataset:
        assert dataset.classes == ("cat", "dog", "owl")


def test_raw_pixels_are_those_of_pillow(sound, tmp_path):
    convert(sound, tmp_path / "out.beton", raw=True, max_side=1000, workers=2)
    samples = [((*pixels_of(path).shape[:2], None, pixels_of(path)), label) for path, label in files_of(sound)]
    expected = write_beton(tmp_path / "expected.beton", FIELDS, samples, page=8 << 20, reverse=False)
    assert (tmp_path / "out.beton").read_bytes() == expected.read_bytes()


def test_raw_pixels_are_reduced_as_jpegs_are(photos, tmp_path):
    """Max side 100, grey images and PNGs: the pixels that would have been encoded."""
    (tmp_path / "in").mkdir()
    image = Image.fromarray(pixels_of(photos / "cat" / "00.jpg"))
    image.convert("L").save(tmp_path / "in" / "grey.jpg")
    image.save(tmp_path / "in" / "plain.png")
    summary = convert(tmp_path / "in", tmp_path / "out.beton", raw=True, max_side=100)
    assert summary.written == summary.reencoded == 2
    with open_dataset(tmp_path / "out.beton") as dataset:
        assert dataset.sizes(np.arange(2)).tolist() == [[90, 100]] * 2
        grey, plain = (np.frombuffer(dataset[number].image[-27000:], np.uint8).reshape(90, 100, 3) for number in (0, 1))
        assert (grey == grey[:, :, :1]).all()
        small = image.resize((100, 90), Image.Resampling.BOX)
        assert np.abs(plain.astype(int) - np.asarray(small)).max() <= 1
        assert dataset[0].label == -1


@pytest.mark.parametrize("options", [{}, {"max_side": 150, "raw": True}, {"quality": 60, "seed": 4}], ids=str)
def test_any_number_of_workers_writes_the_same_bytes(options, photos, tmp_path):
    outcome = set()
    for workers in (1, 3):
        path = tmp_path / f"{workers}.beton"
        convert(photos, path, workers=workers, **options)
        ledger = (tmp_path / f"{workers}.beton.jsonl").read_bytes()
        seek = b"" if "raw" in options else (tmp_path / f"{workers}.beton.seek").read_bytes()
        outcome.add((path.read_bytes(), (tmp_path / f"{workers}.beton.json").read_bytes(), ledger, seek))
    assert len(outcome) == 1
    endings = ("", ".json", ".jsonl") if "raw" in options else ("", ".json", ".jsonl", ".seek")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{workers}.beton{ending}" for workers in (1, 3) for ending in endings
    ]


def test_every_image_is_accounted_for(photos, tmp_path):
    summary = convert(photos, tmp_path / "out.beton")
    assert (summary.found, summary.written, summary.skipped, summary.reencoded) == (80, 77, 3, 1)
    assert dict(summary.skips).keys() == {"cat/30.jpg", "dog/10.jpg", "owl/20.jpg"}
    assert summary.ledger == str(tmp_path / "out.beton.jsonl")
    entries = [json.loads(line) for line in (tmp_path / "out.beton.jsonl").read_text().splitlines()]
    assert {entry["source"]: entry["action"] for entry in entries} == {
        "cat/30.jpg": "skipped",
        "dog/10.jpg": "skipped",
        "owl/20.jpg": "skipped",
        "dog/40.jpg": "reencoded",
    }
    with open_dataset(tmp_path / "out.beton") as dataset:
        ids = np.arange(77)
        assert np.bincount(dataset.labels(ids)).tolist() == [26, 26, 25]
        (again,) = (entry["key"] for entry in entries if entry["action"] == "reencoded")
        assert dataset[int(again)].image == transcode((photos / "dog/40.jpg").read_bytes()).image
    with pytest.raises(DataError, match="without strict"):
        convert(photos, tmp_path / "strict.beton", strict=True)
    assert not (tmp_path / "strict.beton").exists()


def state(path):
    """What tells a file that was written from one that was left alone; reading may change its time of access."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def test_a_second_run_does_nothing_and_another_one_is_refused(sound, tmp_path):
    path = tmp_path / "out.beton"
    convert(sound, path)
    before = state(path)
    assert convert(sound, path).already_done
    assert state(path) == before
    with pytest.raises(DataError, match=r"differs in quality \(None then, 50 now\)"):
        convert(sound, path, quality=50)
    (tmp_path / "out.beton.json").unlink()
    with pytest.raises(DataError, match="not from here; choose another name"):
        convert(sound, path)
    assert state(path) == before
    assert sorted(os.listdir(tmp_path)) == ["out.beton", "out.beton.jsonl", "out.beton.seek"]


def test_notes_of_another_file_name_no_classes(sound, tmp_path, caplog):
    path = tmp_path / "out.beton"
    convert(sound, path)
    for notes in (b"{}", (tmp_path / "out.beton.json").read_bytes().replace(b'"size": 1', b'"size": 2')):
        (tmp_path / "out.beton.json").write_bytes(notes)
        with open_dataset(path) as dataset:
            assert dataset.classes == ()
        assert "classes have no names" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("x.beton", {"raw": True}, "say with max_side"),
        ("x.beton", {"raw": True, "max_side": 9, "quality": 9}, "choose one"),
        ("x", {"raw": True, "max_side": 9}, r"ends in \.beton"),
        ("x.beton", {"dali_labels": True}, "belong to shards"),
        ("x.beton", {"seek_index": True, "raw": True, "max_side": 64}, "for JPEGs"),
        ("x.beton", {"tiles": True}, "belong to shards"),
        ("x.beton", {"shard_size": "1MiB"}, "belong to shards"),
    ],
)
def test_options_that_make_no_sense_are_refused(name, options, message, sound, tmp_path):
    with pytest.raises(ConfigError, match=message):
        convert(sound, tmp_path / name, **options)
    assert not any(tmp_path.iterdir())


class Described(Source):
    """Two images with further members, of which the second lacks one."""

    kind, path, classes, extras = "test", "nowhere", ("a",), ("json", "mask.png")

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def labels(self):
        return np.zeros(len(self.images), np.int32)

    def num_bytes(self):
        return np.array([len(image) for image in self.images])

    def name(self, number):
        return str(number)

    def read(self, number):
        extras = {"json": b'{"a": 1}', "mask.png": b"mask"}
        return Item(image=self.images[number], extras=extras if number == 0 else {"mask.png": b""})


def test_further_members_become_fields(photos, tmp_path, monkeypatch):
    images = [(photos / "cat" / name).read_bytes() for name in ("00.jpg", "03.jpg")]
    monkeypatch.setattr(convert_run, "open_source", lambda _, **options: Described(images))
    convert("nowhere", tmp_path / "out.beton")
    fields = [*FIELDS, ("json", JSON, b""), ("mask.png", BYTES, b"")]
    samples = [
        ((180, 200, images[0], None), 0, b'{"a": 1}', b"mask"),
        ((180, 203, images[1], None), 0, b"null", b""),
    ]
    expected = write_beton(tmp_path / "expected.beton", fields, samples, page=8 << 20, reverse=False)
    assert (tmp_path / "out.beton").read_bytes() == expected.read_bytes()
    monkeypatch.setattr(Described, "extras", ("a name of more than sixteen letters",))
    with pytest.raises(ConfigError, match="cannot have a field"):
        convert("nowhere", tmp_path / "other.beton")


def test_a_sample_larger_than_a_page_is_skipped_by_name(photos, tmp_path, monkeypatch):
    images = [(photos / "cat" / name).read_bytes() for name in ("00.jpg", "03.jpg")]
    monkeypatch.setattr(Described, "extras", ())
    monkeypatch.setattr(Described, "num_bytes", lambda self: np.zeros(2, np.int64))
    monkeypatch.setattr("fastload.convert.beton._PAGE_BYTES", 1 << 12)
    monkeypatch.setattr(convert_run, "open_source", lambda _, **options: Described(images))
    with pytest.raises(DataError, match="do not fit into a page of 4,096"):
        convert("nowhere", tmp_path / "out.beton")
    monkeypatch.setattr(Described, "num_bytes", lambda self: np.array([len(image) for image in self.images]))
    assert convert("nowhere", tmp_path / "out.beton").written == 2  # the page grows with the source


# A second process. Parts of 100 kB: the run that follows takes up what is done.
CHILD = """
import json, os, signal, sys, time
from fastload.convert import convert, run
run._SHARD_SIZE = "100k"
source, destination, extra = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
renames = 0
def hook(event, arguments):
    global renames
    if event == "os.rename":
        renames += 1
        if renames == extra.get("kill_at_rename"):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
if "largest_file" in extra:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (extra["largest_file"], extra["largest_file"]))
print("ready", flush=True)
convert(source, destination, workers=2, shard_size="100k", seed=7, quality=85)
"""


def start(source, destination, **extra):
    command = [sys.executable, "-c", CHILD, str(source), str(destination), json.dumps(extra)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n", child.stderr.read()
    return child


@pytest.mark.slow  # a conversion into shards is killed so in the default run
def test_killed_at_random_moments(photos, tmp_path):
    convert(photos, tmp_path / "expected.beton", seed=7, quality=85)
    expected = {path.name.removeprefix("expected"): path.read_bytes() for path in tmp_path.iterdir()}
    folder = tmp_path / "out"
    folder.mkdir()
    generator = random.Random(3)
    killed = 0
    for moment in range(5):
        extra = {"kill_at_rename": generator.randint(1, 12)} if moment % 2 else {}
        child = start(photos, folder / "x.beton", **extra)
        if not extra:
            time.sleep(generator.uniform(0, 0.3))
            child.kill()
        _, errors = child.communicate(timeout=600)
        assert child.returncode in (0, -signal.SIGKILL), errors
        killed += child.returncode != 0
        if (folder / "x.beton").exists():
            assert (folder / "x.beton").read_bytes() == expected[".beton"]
    child = start(photos, folder / "x.beton")
    _, errors = child.communicate(timeout=600)
    assert child.returncode == 0, errors
    assert killed >= 2
    assert {path.name.removeprefix("x"): path.read_bytes() for path in folder.iterdir()}.keys() == expected.keys()
    for extension in (".beton", ".beton.jsonl", ".beton.seek"):
        assert (folder / f"x{extension}").read_bytes() == expected[extension]


def test_a_full_disk_leaves_no_file_and_costs_nothing_that_is_done(photos, tmp_path):
    convert(photos, tmp_path / "expected.beton", seed=7, quality=85)
    (tmp_path / "out").mkdir()
    child = start(photos, tmp_path / "out" / "x.beton", largest_file=(8 << 20) + 150_000)
    _, errors = child.communicate(timeout=600)
    assert child.returncode == 1
    assert "the conversion cannot write" in errors
    assert os.listdir(tmp_path / "out") == [".x.beton.fastload-convert"]
    child = start(photos, tmp_path / "out" / "x.beton")
    child.communicate(timeout=600)
    assert (tmp_path / "out" / "x.beton").read_bytes() == (tmp_path / "expected.beton").read_bytes()
