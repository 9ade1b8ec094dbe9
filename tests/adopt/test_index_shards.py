"""Shards that others wrote become a data set: the samples that webdataset reads, the tars untouched."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_expander

from fastload import Loader, open_dataset
from fastload import transforms as T
from fastload.adopt import index_shards
from fastload.dataset.indexing import write_seek_indexes
from fastload.errors import ConfigError, DataError
from fastload.sources.tar_samples import IMAGE_SUFFIXES, split_name
from tests.command_line import run

WRITTEN = {"a.tar", "a.seek", "dataset.json", "index.arrow", "conversion.jsonl"}


def by_webdataset(paths):
    """Key -> members, as webdataset yields them."""
    found = {}
    for path in paths:
        with open(path, "rb") as file:
            for sample in group_by_keys(tar_file_expander([{"url": str(path), "stream": file}])):
                found[sample["__key__"]] = {name: data for name, data in sample.items() if not name.startswith("__")}
    return found


def by_fastload(folder):
    """The same, through the index; the image under "image"."""
    found = {}
    with open_dataset(folder, verify="always") as dataset:
        for number in range(len(dataset)):
            sample = dataset[number]
            found[sample.key] = {"image": sample.image, "label": sample.label, **sample.extras}
        assert len(found) == len(dataset)
    return found


def digests(folder):
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.glob("*.tar")
    }


def test_samples_keys_labels_and_bytes_are_those_of_webdataset(shards):
    before = digests(shards)
    summary = index_shards(str(shards / "train-{0000..0002}.tar"), workers=2)
    assert (summary.found, summary.samples, summary.skipped, summary.labelled) == (60, 60, 0, 60)
    assert summary.extras == ("json", "seg.bin")
    assert digests(shards) == before
    expected = by_webdataset(sorted(shards.glob("*.tar")))
    ours = by_fastload(shards)
    assert list(ours) == list(expected)
    for key, members in expected.items():
        image = next(data for suffix, data in members.items() if suffix in IMAGE_SUFFIXES)
        others = {suffix: data for suffix, data in members.items() if suffix in ("json", "seg.bin") and data}
        assert ours[key] == {"image": image, "label": int(members["cls"]), **others}
    with open_dataset(shards) as dataset:
        assert dataset.classes == ("0", "1", "2")
        indexed = [number for number in range(60) if dataset.seek_index(number).size]
        assert len(indexed) == summary.indexed == 48  # all but PNG and WebP


def test_a_loader_shuffles_it_as_one(shards):
    index_shards(shards)
    with Loader(shards, batch_size=15, transforms=[T.RandomResizedCrop(32)], seed=1, num_workers=2) as loader:
        batches = [(batch.ids.tolist(), batch.labels.tolist()) for batch in loader]
    order = [number for ids, _ in batches for number in ids]
    assert sorted(order) == list(range(60)) != order
    assert len({number // 25 for number in batches[0][0]}) == 3  # one batch draws from every shard
    assert all(label == number % 3 for ids, labels in batches for number, label in zip(ids, labels, strict=True))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar(tools, tmp_path, form):
    long = "folder/" * 12 + "a" * (90 if form == tarfile.USTAR_FORMAT else 250)
    names = ["plain", long, *([] if form == tarfile.USTAR_FORMAT else ["größe/ü"]), "../../escape", "a/./b"]
    members = [
        (f"{name}.{end}", data)
        for i, name in enumerate(names)
        for end, data in (("JPG", tools.picture(i)), ("cls", b"1\n"))
    ]
    path = tools.write_tar(tmp_path / "a.tar", members, form)
    index_shards(path)
    expected = by_webdataset([path])
    assert by_fastload(tmp_path) == {key: {"image": members["jpg"], "label": 1} for key, members in expected.items()}
    assert {file.name for file in tmp_path.iterdir()} == WRITTEN


def test_what_the_tar_program_packs(tools, tmp_path):
    source = tmp_path / "source"
    (source / "x").mkdir(parents=True)
    for number in range(5):
        (source / "x" / f"{number}.jpg").write_bytes(tools.picture(number))
    os.link(source / "x" / "0.jpg", source / "x" / "9.jpg")  # tar stores it as a link
    with open(source / "x" / "hole.jpg", "wb") as file:
        file.truncate(1 << 20)
    subprocess.run(
        ["tar", "--sort=name", "--sparse", "-cf", tmp_path / "x.tar", "-C", source, "x"],
        check=True,
        capture_output=True,
    )
    summary = index_shards(tmp_path / "x.tar")
    assert (summary.found, summary.samples, summary.skipped) == (7, 5, 2)
    assert set(by_fastload(tmp_path)) == {f"x/{number}" for number in range(5)}
    reasons = dict(summary.skips)
    assert "link" in reasons["x.tar/x/9"]
    assert "sparse" in reasons["x.tar/x/hole"]


names = st.text(st.sampled_from("ab._/- \xff\n") | st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@given(names)
def test_keys_and_suffixes_are_webdatasets(name):
    split = split_name(name)
    if split is not None:
        key, suffix = base_plus_ext(name)
        assert split == (key, suffix.lower())
    elif not name.startswith("__") and ":" not in name and name.isprintable() and base_plus_ext(name)[0] is not None:
        assert base_plus_ext(name)[1] == ""


@pytest.mark.parametrize(
    ("label", "expected"),
    [("cls", lambda n: n % 3), ("json.meta.label", lambda n: n % 5), ("none", lambda n: -1)],
)
def test_labels(shards, label, expected):
    summary = index_shards(shards, label=label)
    ours = by_fastload(shards)
    assert [ours[f"class {n % 3}/{n:04d}"]["label"] for n in range(60)] == [expected(n) for n in range(60)]
    assert summary.labelled == (0 if label == "none" else 60)
    assert ("cls" in summary.extras) == (label != "cls")


def test_labels_that_are_missing_or_wrong(tools, tmp_path):
    bad = [b"cat", b"-1", b"1000000", b"99999999999999999999", b"", b"1.5"]
    members = [("good.jpg", tools.picture(1)), ("good.cls", b" 4 "), ("none.jpg", tools.picture(2))]
    for number, text in enumerate(bad):
        members += [(f"{number}.jpg", tools.picture(3)), (f"{number}.cls", text)]
    path = tools.write_tar(tmp_path / "a.tar", members)
    summary = index_shards(path)
    assert (summary.samples, summary.skipped, summary.labelled) == (2, len(bad), 1)
    assert {key: sample["label"] for key, sample in by_fastload(tmp_path).items()} == {"good": 4, "none": -1}
    (tmp_path / "dataset.json").unlink()
    assert index_shards(path, label="cls").samples == 1
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"no sample that can be read: a.tar/good: it has no member .json"):
        index_shards(path, label="json.label")
    assert not (tmp_path / ".fastload-convert").exists()


def test_what_cannot_be_a_sample_is_listed_and_counted(tools, tmp_path):
    good = tools.picture(1)
    members = [
        ("README", b"a name without an ending"),
        ("__meta__/info.json", b"{}"),
        ("a.jpg", good), ("a.cls", b"0"),
        ("b.cls", b"1"),
        ("c.jpg", b"no image at all"),
        ("d.jpg", good[: len(good) // 2]),
        ("e.jpg", good), ("e.jpg", good),
        ("a.json", b"{}"),
        ("f.jpg", b""),
        ("g.jpg", tools.picture(2)),
    ]  # fmt: skip
    summary = index_shards(tools.write_tar(tmp_path / "a.tar", members))
    assert (summary.found, summary.samples, summary.skipped) == (8, 2, 6)
    assert list(by_fastload(tmp_path)) == ["a", "g"]
    lines = [json.loads(line) for line in (tmp_path / "conversion.jsonl").read_text().splitlines()]
    assert [line["source"] for line in lines if line["action"] == "ignored"] == [
        "a.tar/README",
        "a.tar/__meta__/info.json",
    ]
    reasons = {line["key"]: line["reason"] for line in lines if line["action"] == "skipped"}
    assert set(reasons) == {"a", "b", "c", "d", "e", "f"}
    assert "appeared in this shard before" in reasons["a"]
    assert "no image" in reasons["b"]
    assert "truncated" in reasons["d"]
    assert "two members .jpg" in reasons["e"]
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(DataError, match="mend the shard"):
        index_shards(tmp_path, strict=True)


def test_which_image_has_to_be_said(tools, tmp_path):
    members = [("a.jpg", tools.picture(1)), ("a.png", tools.picture(2, "PNG")), ("a.mask.png", b"not looked at")]
    path = tools.write_tar(tmp_path / "a.tar", members)
    with pytest.raises(ConfigError, match=r"images jpg, png.*--image jpg"):
        index_shards(path)
    index_shards(path, image="png")
    assert by_fastload(tmp_path)["a"] == {
        "image": members[1][1], "label": -1, "jpg": members[0][1], "mask.png": members[2][1]
    }  # fmt: skip


def test_damaged_tars_keep_what_stands_before(tools, tmp_path):
    members = [(f"{number}.jpg", tools.picture(number)) for number in range(8)]
    whole = tools.write_tar(tmp_path / "0.tar", members).read_bytes()
    with tarfile.open(tmp_path / "0.tar") as tar:
        fifth = tar.getmembers()[5]
    header = bytearray(whole)
    header[fifth.offset + 20] ^= 0xFF
    (tmp_path / "1.tar").write_bytes(header)
    (tmp_path / "2.tar").write_bytes(whole[: fifth.offset_data + 100])  # in the bytes of a member
    (tmp_path / "3.tar").write_bytes(whole[: fifth.offset + 100])  # in a header
    (tmp_path / "4.tar").write_bytes(whole[: fifth.offset])  # between two: a tar that was not closed
    (tmp_path / "5.tar").write_bytes(whole + whole)
    (tmp_path / "6.tar").write_bytes(b"this is no tar" * 100)
    (tmp_path / "7.tar").write_bytes(b"")
    summary = index_shards(tmp_path)
    per_shard = {}
    with open_dataset(tmp_path, verify="always") as dataset:
        for number in range(len(dataset)):
            name = os.path.basename(dataset.location(number))
            per_shard[name] = per_shard.get(name, 0) + 1
            assert dataset[number].image == dict(members)[f"{dataset.key(number)}.jpg"]
    assert per_shard == {"0.tar": 8, "1.tar": 5, "2.tar": 5, "3.tar": 5, "4.tar": 5, "5.tar": 8}
    assert [source for source, _ in summary.skips] == ["1.tar", "2.tar/5", "2.tar", "3.tar", "5.tar", "6.tar", "7.tar"]
    assert summary.found == summary.samples + summary.skipped


@pytest.mark.parametrize(("program", "name"), [("gzip", "gzip"), ("bzip2", "bzip2"), ("xz", "xz")])
def test_compressed_tars_are_one_clear_error(shards, program, name):
    subprocess.run([program, shards / "train-0001.tar"], check=True)
    packed = next(shards.glob("train-0001.tar.*"))
    packed.rename(shards / "train-0001.tar")
    with pytest.raises(DataError, match=f"uncompressed tar, but this one is compressed with {name}"):
        index_shards(shards)
    assert sorted(path.name for path in shards.iterdir()) == [f"train-000{n}.tar" for n in range(3)]


def test_a_name_that_begins_like_a_compressed_file(tools, tmp_path):
    tools.write_tar(tmp_path / "a.tar", [("BZhang.jpg", tools.picture(1)), ("BZhang.cls", b"1")])
    index_shards(tmp_path)
    assert set(by_fastload(tmp_path)) == {"BZhang"}


def test_mutated_tars_never_do_harm(tools, tmp_path):
    """Headers with wild bytes: an error of ours, or a data set whose every sample can be read."""
    members = [
        (f"{'n' * (120 if n == 2 else 3)}{n}.{end}", data)
        for n in range(4)
        for end, data in (("jpg", tools.picture(n)), ("cls", b"1"))
    ]
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        whole = tools.write_tar(tmp_path / "whole", members, form).read_bytes()
        with tarfile.open(tmp_path / "whole") as tar:
            headers = [member.offset for member in tar.getmembers()]
        rng = np.random.default_rng(form)
        outcomes = {"refused": 0, "whole": 0, "partly": 0}
        for number in range(30):
            data = bytearray(whole)
            for _ in range(rng.integers(1, 4)):
                header = int(rng.choice(headers))
                field = int(rng.choice([0, 100, 124, 125, 148, 156, 157, 257, 345, 512, 520]))
                data[header + field] = int(
                    rng.choice([0, 0x80, 0xFF, ord("7"), ord("L"), ord("x"), ord("S"), rng.integers(256)])
                )
                if rng.random() < 0.8:  # with a checksum that is right
                    block = data[header : header + 512]
                    block[148:156] = b" " * 8
                    data[header + 148 : header + 156] = b"%06o\0 " % sum(block)
            folder = tmp_path / f"{form}-{number}"
            folder.mkdir()
            (folder / "a.tar").write_bytes(data)
            try:
                summary = index_shards(folder, workers=1)
            except (DataError, ConfigError):
                outcomes["refused"] += 1
                continue
            outcomes["partly" if summary.skipped else "whole"] += 1
            assert len(by_fastload(folder)) > 0
            assert {path.name for path in folder.iterdir()} == WRITTEN
        assert outcomes["whole"] + outcomes["partly"] > 5 < outcomes["partly"]


def test_another_folder_holds_links(shards, tmp_path):
    before = sorted(path.name for path in shards.iterdir())
    summary = index_shards(shards, output=tmp_path / "elsewhere")
    assert sorted(path.name for path in shards.iterdir()) == before
    assert summary.path == str(tmp_path / "elsewhere")
    assert len(by_fastload(tmp_path / "elsewhere")) == 60
    assert len(by_webdataset(sorted((tmp_path / "elsewhere").glob("*.tar")))) == 60


def test_shards_of_several_folders_need_an_output(shards, tools, tmp_path):
    (tmp_path / "more").mkdir()
    more = tools.write_tar(tmp_path / "more" / "more.tar", [("x.jpg", tools.picture(1))])
    with pytest.raises(ConfigError, match="2 folders"):
        index_shards([shards, more])
    assert index_shards([shards, more], output=tmp_path / "out").samples == 61
    same = tools.write_tar(tmp_path / "more" / "train-0000.tar", [("x.jpg", tools.picture(1))])
    with pytest.raises(ConfigError, match="names are equal"):
        index_shards([shards, same], output=tmp_path / "out2")


def test_patterns(shards, tmp_path):
    for pattern in ("train-000[01].tar", "train-{0000,0001}.tar", "train-{0000..0001}.tar", "*-000{0,1}.ta?"):
        assert index_shards(str(shards / pattern), output=tmp_path / pattern.replace("/", "")).shards == 2
    for pattern, error in (
        ("nothing-*.tar", DataError),
        ("train-{0000..0009}.tar", DataError),
        ("train-{0..99999999}.tar", ConfigError),
        ("train-{0..", ConfigError),
    ):
        with pytest.raises(error):
            index_shards(str(shards / pattern), output=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found none"):
        index_shards(tmp_path / "empty")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


CHILD = """
import os, signal, sys
from fastload.adopt import index_shards
renames = 0
def hook(event, arguments):
    global renames
    if event == "os.rename":
        renames += 1
        if renames == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
index_shards(sys.argv[1], workers=2)
"""


@pytest.mark.slow
def test_killed_at_any_rename_it_continues_and_ends_with_the_same_bytes(shards):
    index_shards(shards)
    expected = contents(shards)
    for path in shards.iterdir():
        if path.suffix != ".tar":
            path.unlink()
    # The notes; seek, ledger and account of three shards; then three seek files, ledger, index, manifest twice.
    for moment in (6, 9, 3, 4):
        child = subprocess.run([sys.executable, "-c", CHILD, shards, str(moment)], capture_output=True, check=False)
        assert child.returncode == -signal.SIGKILL, child.stderr
        assert not (shards / "dataset.json").exists()
        with pytest.raises(DataError, match="not been finished"):
            open_dataset(shards)
        with pytest.raises(DataError, match=r"differs in.* label \(None then, 'none' now\)"):
            index_shards(shards, label="none")
    index_shards(shards)
    assert contents(shards) == expected


def test_a_data_set_is_not_indexed_twice(shards):
    index_shards(shards)
    before = contents(shards)
    with pytest.raises(DataError, match=r"remove dataset.json"):
        index_shards(shards)
    assert contents(shards) == before
    (shards / "train-0001.seek").unlink()
    assert write_seek_indexes(shards).written == 1
    assert contents(shards) == before


def test_without_an_index_the_error_says_what_to_do(shards):
    with pytest.raises(DataError, match="fastload index"):
        open_dataset(shards)


def test_the_command(shards):
    pattern = shards / "train-{0000..0002}.tar"
    assert json.loads(run("index", pattern, "--label", "json.meta.label", "--json").stdout)["labelled"] == 60
    assert json.loads(run("index", shards, "--json").stdout)["written"] == 0, "they are there"
    assert "dataset.json" in run("index", shards, "--image", "jpg", check=1).stderr
