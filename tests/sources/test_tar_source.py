"""Foreign WebDataset shards are written anew with the samples that webdataset reads from them."""

import io
import json
import tarfile

import pytest
import webdataset
from webdataset.tariterators import group_by_keys, tar_file_expander

import fastload as fl
from fastload.errors import ConfigError, DataError
from fastload.sources import TarSource, open_source


def by_webdataset(paths):
    """Key -> members, as webdataset yields them."""
    found = {}
    for path in sorted(paths):
        with open(path, "rb") as file:
            for sample in group_by_keys(tar_file_expander([{"url": str(path), "stream": file}])):
                found[sample["__key__"]] = {name: data for name, data in sample.items() if not name.startswith("__")}
    return found


@pytest.fixture
def shards(tmp_path, pictures, as_png):
    """24 samples by webdataset's writer, a few as PNG, some with a further member."""
    folder = tmp_path / "shards"
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "train-%04d.tar"), maxcount=10, verbose=0) as writer:
        for number, data in enumerate(pictures):
            image = {"png": as_png(number)} if number % 5 == 4 else {"jpg": data}
            more = {"seg.bin": bytes([number] * number)} if number % 2 else {}
            writer.write(
                {"__key__": f"a b/{number:04}", **image, "cls": number % 3, "json": {"fine": number % 4}, **more}
            )
    return folder


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("form", ["folder", "braces", "glob", "list"])
def test_samples_are_those_of_webdataset(shards, tmp_path, form):
    source = {
        "folder": shards,
        "braces": shards / "train-{0000..0002}.tar",
        "glob": shards / "train-*.tar",
        "list": sorted(shards.glob("*.tar")),
    }[form]
    summary = fl.convert(source, tmp_path / "out", workers=2)
    assert (summary.found, summary.written, summary.skipped, summary.reencoded) == (24, 24, 0, 4)
    expected = by_webdataset(shards.glob("*.tar"))
    again = by_webdataset((tmp_path / "out").glob("*.tar"))
    for number, (members, (key, original)) in enumerate(zip(again.values(), expected.items(), strict=True)):
        if "png" in original:
            assert members["jpg"]
        else:
            assert members["jpg"] == original["jpg"]
        assert {name: data for name, data in members.items() if name != "jpg"} == {
            name: data for name, data in original.items() if name not in ("jpg", "png")
        }
        with fl.open_dataset(tmp_path / "out") as dataset:
            assert dataset.source(number) == f"train-{number // 10:04}.tar/{key}"
            assert dataset.classes == ("0", "1", "2")


def test_a_label_from_json_keeps_the_other_label_as_a_member(shards, tmp_path):
    fl.convert(shards, tmp_path / "out", label="json.fine", workers=1)
    for number, members in enumerate(by_webdataset((tmp_path / "out").glob("*.tar")).values()):
        assert members["cls"] == b"%d" % (number % 4)
        assert members["original.cls"] == b"%d" % (number % 3)
        assert json.loads(members["json"]) == {"fine": number % 4}


def test_several_images_are_a_choice_and_the_others_are_kept(tmp_path, pictures, as_png):
    members = [("a.before.jpg", pictures[0]), ("a.after.jpg", pictures[1]), ("a.cls", b"1\n")]
    path = write_tar(tmp_path / "a.tar", members)
    source = open_source(path, image="after.jpg")
    assert isinstance(source, TarSource)
    assert source.labels().tolist() == [1]
    assert source.read(0).image == pictures[1]
    assert source.read(0).extras == {"before.jpg": pictures[0]}
    both = write_tar(tmp_path / "b.tar", [("a.jpg", pictures[0]), ("a.png", as_png(1))])
    with pytest.raises(ConfigError, match=r"images jpg, png; say which is meant.*--image jpg"):
        open_source(both)
    assert open_source(both, image="png").read(0).extras == {"original.jpg": pictures[0]}


def test_what_is_no_sample_is_rejected_with_the_reason(tmp_path, pictures):
    members = [
        ("a.jpg", pictures[0]),
        ("a.cls", b"1"),
        ("b.jpg", pictures[1]),
        ("b.cls", b"cat"),
        ("c.cls", b"0"),
        ("README", b"passed over by WebDataset too"),
        ("d.jpg", pictures[2]),
        ("a.jpg", pictures[3]),
        ("../../e.jpg", pictures[4]),
        ("f.jpg", b"no image"),
    ]
    path = write_tar(tmp_path / "a.tar", members)
    summary = fl.convert(path, tmp_path / "out")
    assert (summary.found, summary.written, summary.skipped) == (7, 3, 4)
    reasons = dict(summary.skips)
    assert "expected a label from 0" in reasons["a.tar/b"]
    assert "it has no image" in reasons["a.tar/c"]
    assert "appeared in this shard before" in reasons["a.tar/a"]
    assert "no image file" in reasons["a.tar/f"]
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "out"}


def test_a_tar_that_is_cut_off_loses_nothing_silently(shards, tmp_path):
    path = sorted(shards.glob("*.tar"))[1]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 + 100])
    source = open_source(shards)
    assert 10 + 4 < len(source) < 24
    assert any("cut off" in reason or "damaged" in reason for _, reason in source.rejected)
    for number in range(len(source)):
        assert source.read(number).image


def test_a_compressed_tar_and_a_strange_ending_are_clear_errors(tmp_path, pictures):
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"), io.BytesIO(b""))
    with pytest.raises(DataError, match="compressed with gzip"):
        open_source(tmp_path / "a.tar")
    path = write_tar(tmp_path / "b.tar", [("a.jpg", pictures[0]), ("a.größe x", b"1")])
    with pytest.raises(DataError, match="'größe x' cannot be the ending of a member"):
        open_source(path)
    with pytest.raises(DataError, match="nothing at this path"):
        open_source(tmp_path / "c-{0..2}.tar")


def test_keys_with_dots_are_told(tmp_path, pictures):
    members = [(f"{number:03}.{end}", pictures[0]) for number in range(70) for end in ("jpg", f"{number}.bin")]
    with pytest.raises(DataError, match="at most 64 kinds of members beside image and label, got 70"):
        open_source(write_tar(tmp_path / "a.tar", members))


def test_class_folders_beside_tars_stay_class_folders(tmp_path, pictures):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(pictures[0])
    write_tar(tmp_path / "cat.tar", [("1.jpg", pictures[0])])
    assert open_source(tmp_path).kind == "image folder"
