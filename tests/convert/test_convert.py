"""Every image is accounted for, whatever lies in the source; equal input gives equal bytes."""

import json
import os
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest

from fastload.convert import convert
from fastload.dataset import open_dataset
from fastload.errors import ConfigError, DataError


def contents(folder):
    """Name and bytes of every file of a data set."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def ledger(folder):
    return [json.loads(line) for line in (folder / "conversion.jsonl").read_text(encoding="ascii").splitlines()]


def test_found_is_written_and_skipped(photos, tmp_path):
    calls = []
    summary = convert(photos, tmp_path / "out", shard_size="100k", progress=lambda *call: calls.append(call))
    assert (summary.found, summary.written, summary.skipped, summary.reencoded) == (80, 77, 3, 1)
    assert dict(summary.skips).keys() == {"cat/30.jpg", "dog/10.jpg", "owl/20.jpg"}
    entries = {entry["source"]: entry for entry in ledger(tmp_path / "out")}
    assert len(entries) == 4
    assert "truncated" in entries["dog/10.jpg"]["reason"]
    assert "empty" in entries["owl/20.jpg"]["reason"]
    assert "no image" in entries["cat/30.jpg"]["reason"]
    assert entries["dog/40.jpg"]["action"] == "reencoded"
    assert "PNG" in entries["dog/40.jpg"]["reason"]
    with open_dataset(tmp_path / "out", verify="always") as dataset:
        assert len(dataset) == 77
        assert dataset.manifest.counts.found == 80
        names = {dataset.source(number): number for number in range(77)}
        assert names.keys() | dict(summary.skips).keys() == {
            str(path.relative_to(photos)) for path in photos.glob("*/*.jpg")
        }
        for name, number in names.items():
            if name != "dog/40.jpg":
                assert dataset[number].image == (photos / name).read_bytes()
            assert dataset.classes[dataset[number].label] == name.split("/")[0]
        assert entries["dog/40.jpg"]["key"] == dataset.key(names["dog/40.jpg"])
    assert calls[0] == (0, 80, 0)
    assert calls[-1] == (80, 80, 3)
    assert all(done >= skipped and total == 80 for done, total, skipped in calls)
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)


def test_any_number_of_workers_writes_the_same_bytes(photos, tmp_path):
    for workers in (1, 2, 4, None):
        convert(photos, tmp_path / f"{workers}", shard_size="100k", workers=workers, seed=1, max_side=150)
    expected = contents(tmp_path / "1")
    assert len([name for name in expected if name.endswith(".tar")]) > 3
    assert contents(tmp_path / "2") == contents(tmp_path / "4") == contents(tmp_path / "None") == expected
    assert not any(path.name.startswith("fastload-convert") for path in threading.enumerate())


def test_a_seed_permutes_and_nothing_else(photos, tmp_path):
    sets = {}
    for seed in (None, 1, 2):
        convert(photos, tmp_path / f"{seed}", seed=seed)
        with open_dataset(tmp_path / f"{seed}") as dataset:
            sets[seed] = [(dataset.source(number), dataset[number].image) for number in range(len(dataset))]
            sets[seed, "fingerprint"] = dataset.fingerprint
    assert sets[None] == sorted(sets[None])
    assert sets[1] != sets[2] != sets[None]
    assert sorted(sets[1]) == sorted(sets[2]) == sets[None]
    assert len({sets[seed, "fingerprint"] for seed in (None, 1, 2)}) == 3


def test_the_fingerprint_does_not_depend_on_shards_and_does_on_bytes(photos, tmp_path):
    prints = []
    for name, options in {"a": {}, "b": {"shard_size": "64k"}, "c": {"quality": 80}}.items():
        convert(photos, tmp_path / name, **options)
        prints.append(open_dataset(tmp_path / name).fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_a_finished_conversion_does_nothing(photos, tmp_path):
    first = convert(photos, tmp_path / "out", seed=4)
    assert not first.already_done
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = convert(photos, tmp_path / "out", seed=4, workers=3)
    assert again.already_done
    assert (again.found, again.skips) == (first.found, first.skips)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize(
    ("change", "says"),
    [({"seed": 5}, r"seed \(4 then, 5 now\)"), ({"quality": 80}, "quality"), ({"shard_size": "64k"}, "shard_size")],
)
def test_other_options_on_a_finished_data_set_are_refused(photos, tmp_path, change, says):
    convert(photos, tmp_path / "out", seed=4)
    before = contents(tmp_path / "out")
    with pytest.raises(DataError, match=says):
        convert(photos, tmp_path / "out", **{"seed": 4} | change)
    assert contents(tmp_path / "out") == before


def test_another_source_on_a_finished_data_set_is_refused(photos, tmp_path):
    convert(photos, tmp_path / "out")
    with pytest.raises(DataError, match="files of the source"):
        convert(photos / "cat", tmp_path / "out")


def test_a_finished_data_set_that_lost_a_shard_says_so(photos, tmp_path):
    convert(photos, tmp_path / "out", shard_size="100k")
    (tmp_path / "out" / "shard-000001.tar").unlink()
    with pytest.raises(DataError, match="shard-000001"):
        convert(photos, tmp_path / "out", shard_size="100k")


def test_strict_stops_at_the_first_unreadable_file(photos, tmp_path):
    with pytest.raises(DataError, match="no image") as caught:
        convert(photos, tmp_path / "out", strict=True, workers=3)
    assert caught.value.path == str(photos / "cat" / "30.jpg")
    assert not list((tmp_path / "out").glob("*.*ar*"))
    convert(photos, tmp_path / "out")  # goes on without strict
    with pytest.raises(DataError, match="no image"):
        convert(photos, tmp_path / "out", strict=True)


def test_a_folder_of_rubbish_alone_is_an_error_that_leaves_nothing(tmp_path):
    (tmp_path / "in" / "cat").mkdir(parents=True)
    (tmp_path / "in" / "cat" / "1.jpg").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"none of the 1 images.*cat/1\.jpg"):
        convert(tmp_path / "in", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_parts_without_a_readable_image_become_no_shard(tools, tmp_path):
    """Three parts of one image each; the middle one cannot be read."""
    (tmp_path / "in" / "cat").mkdir(parents=True)
    for number in range(3):
        data = tools.encode(tools.picture(number, (600, 500)), quality=100, subsampling=0)
        assert len(data) > 40_000
        (tmp_path / "in" / "cat" / f"{number}.jpg").write_bytes(data[:-9] if number == 1 else data)
    assert convert(tmp_path / "in", tmp_path / "out", shard_size="64k").shards == 2
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == ["shard-000000.tar", "shard-000001.tar"]
    with open_dataset(tmp_path / "out") as dataset:
        assert [dataset.source(number) for number in range(2)] == ["cat/0.jpg", "cat/2.jpg"]
        assert [dataset.key(number) for number in range(2)] == ["000000000", "000000002"]


def test_odd_names_get_short_unique_keys_and_can_be_found_again(tools, tmp_path):
    source = tmp_path / "in"
    names = ["a.jpg", "a.png", "a b.jpg", "ä/ö ü.jpg", f"{'x' * 200}/{'y' * 200}.jpg", "new\nline.jpg", "a.b.c.jpg"]
    for number, name in enumerate(names):
        path = source / "a class" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tools.encode(tools.picture(number), "PNG" if name.endswith("png") else "JPEG"))
    with open(os.fsencode(source / "a class") + b"/\xff.jpg", "wb") as file:
        file.write(tools.encode(tools.picture(99)))
    (source / "a class" / "loop").symlink_to(source)
    convert(source, tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as tar:
        members = tar.getnames()
    assert len(members) == len(set(members)) == 16
    assert all(name.isascii() and len(name) < 20 and not any(c.isspace() for c in name) for name in members)
    with open_dataset(tmp_path / "out") as dataset:
        sources = {dataset.source(number) for number in range(8)}
        assert sources == {f"a class/{name}" for name in names} | {"a class/\\xff.jpg"}


def test_class_names_that_are_no_text(tools, tmp_path):
    folder = os.fsencode(tmp_path / "in") + b"/\xe4"
    os.makedirs(folder)
    with open(folder + b"/1.jpg", "wb") as file:
        file.write(tools.encode(tools.picture(1)))
    convert(tmp_path / "in", tmp_path / "out")
    assert open_dataset(tmp_path / "out").classes == ("\\xe4",)


def test_links_pipes_and_files_that_may_not_be_read(tools, tmp_path):
    folder = tmp_path / "in" / "cat"
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(tools.encode(tools.picture(1)))
    (folder / "2.jpg").symlink_to(folder / "gone")
    os.mkfifo(folder / "3.jpg")
    (folder / "4.jpg").symlink_to(folder / "4.jpg")
    (folder / "5.jpg").write_bytes(tools.encode(tools.picture(5)))
    (folder / "5.jpg").chmod(0)
    (folder.parent / "beside.jpg").write_bytes(tools.encode(tools.picture(6)))
    summary = convert(tmp_path / "in", tmp_path / "out")
    readable = 2 if os.geteuid() == 0 else 1
    assert (summary.found, summary.written) == (6, readable)
    reasons = dict(summary.skips)
    assert "cannot be opened" in reasons["cat/2.jpg"]
    assert "pipe" in reasons["cat/3.jpg"]
    assert "cannot be opened" in reasons["cat/4.jpg"]
    assert "no class" in reasons["beside.jpg"]
    with pytest.raises(DataError, match="no class"):
        convert(tmp_path / "in", tmp_path / "strict", strict=True)


def test_a_folder_without_classes_has_no_labels(tools, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(tools.encode(tools.picture(number)))
    convert(tmp_path / "in", tmp_path / "out", dali_labels=True)
    with open_dataset(tmp_path / "out") as dataset:
        assert dataset.schema == {"image": "image"}
        assert dataset.labels(np.arange(3)).tolist() == [-1, -1, -1]
        with tarfile.open(dataset.location(0)) as tar:
            assert tar.getnames() == [f"{number:09d}.jpg" for number in range(3)]


@pytest.mark.parametrize("what", ["file", "nothing", "empty"])
def test_a_source_that_is_none(tmp_path, what):
    source = tmp_path / "in"
    if what == "file":
        source.write_bytes(b"x")
    elif what == "empty":
        source.mkdir()
    with pytest.raises(DataError):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_destinations_that_are_refused(photos, tmp_path):
    for inside in (photos, photos / "shards", photos / "cat" / ".." / "x"):
        with pytest.raises(ConfigError, match="inside the source"):
            convert(photos, inside)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"thesis\.txt"):
        convert(photos, tmp_path / "full")
    assert contents(tmp_path / "full") == {"thesis.txt": b"years of work"}
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        convert(photos, tmp_path / "file")


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_workers_are_counted(photos, tmp_path, workers):
    with pytest.raises(ConfigError, match="workers"):
        convert(photos, tmp_path / "out", workers=workers)


@pytest.mark.parametrize(
    "first", ["fastload.convert", "import fastload.convert", "from fastload.convert import convert"]
)
def test_it_is_part_of_the_public_surface(photos, tmp_path, first):
    """``fastload.convert(...)`` works whoever imported the package of that name, and the package can still be used."""
    program = f"""if True:
        import inspect, sys, fastload
        {first}
        import fastload.convert.options as options
        assert options.parse_size("1k") == 1024
        assert "shard_size" in inspect.signature(fastload.convert).parameters
        print(fastload.convert(sys.argv[1], sys.argv[2], seed=1).written)
    """
    command = [sys.executable, "-c", program, str(photos), str(tmp_path / "out")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "77\n"
