"""What --repair does: seen by tarfile, webdataset and zlib, and killed at every step."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zlib
from itertools import pairwise

import pytest

from fastload.adopt import index_shards
from fastload.convert import convert
from fastload.dataset import open_dataset
from fastload.errors import DataError
from fastload.verify import verify
from tests.dataset.conftest import photo
from tests.verify.test_verify import SHARD, change_index, flip, vouch


def images_of(path):
    """Offset, size and key of each image, as tarfile has them."""
    with tarfile.open(path) as tar:
        return [(m.offset_data, m.size, m.name.removesuffix(".jpg")) for m in tar if m.name.endswith(".jpg")]


def samples_of(folder):
    """Key, bytes and label of each sample, as fastload has them; every checksum compared."""
    with open_dataset(folder, verify="always") as dataset:
        return {sample.key: (sample.image, sample.label) for sample in (dataset[n] for n in range(len(dataset)))}


def by_webdataset(folder):
    from webdataset.tariterators import group_by_keys, tar_file_expander

    found = {}
    for path in sorted(folder.glob("*.tar")):
        with open(path, "rb") as file:
            for sample in group_by_keys(tar_file_expander([{"url": str(path), "stream": file}])):
                found[sample["__key__"]] = (sample["jpg"], int(sample["cls"]))
    return found


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def ledger(folder):
    return [json.loads(line) for line in (folder / "conversion.jsonl").read_text().splitlines()]


def fingerprint(folder):
    return json.loads((folder / "dataset.json").read_text())["fingerprint"]


def repair(folder, **options):
    report = verify(folder, repair=True, workers=2, **options)
    assert report.ok, (report.findings, report.repairs)
    assert not (folder / ".fastload-convert").exists()
    assert verify(folder).ok
    return [(entry.action, entry.file, entry.key) for entry in report.repairs]


def exchange(folder, *names):
    """The first file becomes the second, the second the third ..., the last the first."""
    (folder / names[-1]).rename(folder / "x")
    for old, new in reversed(list(pairwise(names))):
        (folder / old).rename(folder / new)
    (folder / "x").rename(folder / names[0])


def test_nothing_to_do_changes_nothing(converted):
    before = contents(converted)
    assert repair(converted) == []
    assert contents(converted) == before


def test_damaged_samples_leave_the_index_and_stay_in_the_tar(converted):
    whole, before = samples_of(converted), fingerprint(converted)
    lost = []
    for offset, size, key in (images_of(converted / SHARD)[n] for n in (0, 4)):
        flip(converted / SHARD, offset + size // 2)
        lost.append(key)
    tar = (converted / SHARD).read_bytes()
    done = repair(converted)
    assert [entry for entry in done if entry[0] == "dropped"] == [("dropped", SHARD, key) for key in lost]
    assert (converted / SHARD).read_bytes() == tar
    assert samples_of(converted) == {key: value for key, value in whole.items() if key not in lost}
    assert fingerprint(converted) != before
    entries = [entry for entry in ledger(converted) if entry["action"] == "dropped"]
    assert [(entry["key"], entry["shard"]) for entry in entries] == [(key, SHARD) for key in lost]
    assert all(entry["source"].endswith((".jpg", ".png")) and "crc32" in entry["reason"] for entry in entries)
    counts = json.loads((converted / "dataset.json").read_text())["counts"]
    assert (counts["found"], counts["written"], counts["skipped"]) == (42, 39, 3)
    # DALI's index names the samples that are left, each where tarfile finds it.
    lines = (converted / "shard-000001.idx").read_text().splitlines()
    left = [image for image in images_of(converted / SHARD) if image[2] not in lost]
    assert lines[0] == f"v1.2 {len(left)}"
    assert [tuple(line.split()[1:3]) for line in lines[1:]] == [(str(offset), str(size)) for offset, size, _ in left]
    assert len(list(converted.glob("index*.arrow"))) == 1


def test_damage_comes_back_from_the_originals_byte_by_byte(converted, originals):
    expected = contents(converted)
    ledger_before = ledger(converted)
    for offset, size, _ in images_of(converted / SHARD)[:3]:
        flip(converted / SHARD, offset + size // 3)
    with tarfile.open(converted / SHARD) as tar:
        header = next(member.offset for member in tar if member.name.endswith(".cls"))
    flip(converted / SHARD, header + 3)
    done = repair(converted, source=originals)
    assert [action for action, _, _ in done] == ["restored"] * 3
    after = contents(converted)
    del expected["conversion.jsonl"], after["conversion.jsonl"]
    assert after == expected
    assert [entry["action"] for entry in ledger(converted)[len(ledger_before) :]] == ["restored"] * 3


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_whole_shard_comes_back_from_the_originals(converted, originals, damage):
    expected = contents(converted)
    if damage == "missing":
        (converted / SHARD).unlink()
    else:
        os.truncate(converted / SHARD, 5000)
    repair(converted, source=originals)
    after = contents(converted)
    del expected["conversion.jsonl"], after["conversion.jsonl"]
    assert after == expected


def test_what_was_encoded_anew_is_encoded_again(originals, tmp_path):
    folder = tmp_path / "small"
    convert(originals, folder, max_side=64, quality=80, dali_labels=True)
    expected = contents(folder)
    os.truncate(folder / "shard-000000.tar", 3000)
    repair(folder, source=originals)
    after = contents(folder)
    del expected["conversion.jsonl"], after["conversion.jsonl"]
    assert after == expected


def test_originals_that_were_changed_are_not_taken(converted, originals, tmp_path):
    shutil.copytree(originals, tmp_path / "changed")
    for path in tmp_path.glob("changed/*/*.jpg"):
        flip(path, path.stat().st_size // 2)
    offset, _, key = images_of(converted / SHARD)[1]
    flip(converted / SHARD, offset + 300)
    assert ("dropped", SHARD, key) in repair(converted, source=tmp_path / "changed")


def test_headers_and_padding_come_back_without_originals(converted):
    expected = contents(converted)
    with tarfile.open(converted / SHARD) as tar:
        members = tar.getmembers()
    flip(converted / SHARD, members[2].offset + 1)  # a name
    flip(converted / SHARD, members[4].offset + 150)  # the checksum of a header: what follows is lost to tar
    flip(converted / SHARD, members[6].offset_data + members[6].size)  # padding
    assert repair(converted) == [("restored", SHARD, None)]
    after = contents(converted)
    del expected["conversion.jsonl"], after["conversion.jsonl"]
    assert after == expected


def test_a_truncated_shard_ends_with_its_last_whole_sample(converted):
    whole = samples_of(converted)
    images = images_of(converted / SHARD)
    os.truncate(converted / SHARD, images[3][0] + 100)
    repair(converted)
    lost = {key for _, _, key in images[3:]}
    expected = {key: value for key, value in whole.items() if key not in lost}
    assert samples_of(converted) == expected
    assert by_webdataset(converted) == expected


def test_a_missing_shard_leaves_the_others(converted):
    whole = samples_of(converted)
    lost = {key for _, _, key in images_of(converted / SHARD)}
    (converted / SHARD).unlink()
    repair(converted)
    assert samples_of(converted) == {key: value for key, value in whole.items() if key not in lost}


@pytest.mark.parametrize("damage", ["flipped", "missing", "cut"])
def test_the_index_is_rebuilt_from_the_tars(converted, damage):
    whole, before = samples_of(converted), fingerprint(converted)
    path = converted / "index.arrow"
    if damage == "flipped":
        flip(path, path.stat().st_size // 2)
    elif damage == "missing":
        path.unlink()
    else:
        os.truncate(path, 1000)
    assert repair(converted) == [("rebuilt", "index.arrow", None)]
    assert samples_of(converted) == whole
    assert fingerprint(converted) == before


def test_the_index_of_adopted_shards_is_rebuilt_with_equal_bytes(tmp_path):
    import webdataset

    folder = tmp_path / "foreign"
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "train-%02d.tar"), maxcount=9, verbose=0) as writer:
        for number in range(20):
            image = b"no image" if number == 5 else photo(number)
            writer.write({"__key__": f"a/{number:03d}", "jpg": image, "json": {"label": number % 4}})
    index_shards(folder, label="json.label")
    expected = contents(folder)
    (folder / "index.arrow").unlink()
    repair(folder)
    after = contents(folder)
    del expected["conversion.jsonl"], after["conversion.jsonl"]
    assert after == expected
    # Its tars belong to somebody else: a damaged sample is dropped, the tar stays as it is.
    offset, size, key = images_of(folder / "train-01.tar")[2]
    flip(folder / "train-01.tar", offset + size // 2)
    tar = (folder / "train-01.tar").read_bytes()
    assert ("dropped", "train-01.tar", key) in repair(folder)
    assert (folder / "train-01.tar").read_bytes() == tar
    whole = samples_of(folder)
    assert len(whole) == 18
    # And a rebuilt index does not bring it back.
    next(folder.glob("index*.arrow")).unlink()
    repair(folder)
    assert samples_of(folder) == whole


def test_an_index_that_cannot_be_rebuilt_says_why(converted):
    (converted / "index.arrow").unlink()
    offset, _, _ = images_of(converted / SHARD)[0]
    flip(converted / SHARD, offset + 300)
    before = contents(converted)
    report = verify(converted, repair=True)
    assert not report.ok
    assert [(entry.action, entry.file) for entry in report.repairs] == [("impossible", "index.arrow")]
    assert SHARD in report.repairs[0].reason
    assert contents(converted) == before


def test_tars_of_another_data_set_do_not_become_its_index(converted):
    with tarfile.open(converted / SHARD) as tar:
        label = next(member for member in tar if member.name.endswith(".cls"))
    flip(converted / SHARD, label.offset_data)
    vouch(converted, SHARD)
    (converted / "index.arrow").unlink()
    report = verify(converted, repair=True)
    assert not report.ok
    assert "fingerprints differ" in report.repairs[0].reason


def test_sidecars_are_rebuilt_with_equal_bytes(converted):
    expected = contents(converted)
    flip(converted / "shard-000000.seek", 900)
    flip(converted / "shard-000001.seek", 20)
    os.truncate(converted / "shard-000001.idx", 40)
    (converted / "shard-000002.idx").unlink()
    assert {(action, file) for action, file, _ in repair(converted)} == {
        ("rebuilt", name) for name in ("shard-000000.seek", "shard-000001.seek", "shard-000001.idx", "shard-000002.idx")
    }
    assert contents(converted) == expected


@pytest.mark.parametrize("damage", ["missing", "line", "gone"])
def test_the_ledger_keeps_what_can_be_read(converted, damage):
    path = converted / "conversion.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(lines[0] + (b'{"key": "00' if damage == "line" else b""))
    assert repair(converted) == [("rebuilt", "conversion.jsonl", None)]
    left = path.read_bytes().splitlines(keepends=True)
    assert left[:-1] == ([] if damage == "missing" else lines[:1])
    assert json.loads(left[-1])["action"] == "incomplete"


def test_a_row_of_the_index_that_is_wrong_is_dropped(converted):
    whole = samples_of(converted)
    change_index(converted, "label", 5, 99)
    keys = list(whole)
    repair(converted)
    assert list(samples_of(converted)) == keys[:5] + keys[6:]


def test_a_hostile_index_does_not_read_outside_of_the_originals(converted, originals, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(photo(999))
    outside = os.path.relpath(tmp_path / "secret.jpg", originals)
    change_index(converted, "source", 2, outside)
    change_index(converted, "crc32", 2, zlib.crc32(photo(999)))
    change_index(converted, "size", 2, len(photo(999)))
    report = verify(converted, repair=True, source=originals)
    assert not any(photo(999) in path.read_bytes() for path in converted.glob("*.tar"))
    assert "restored" not in {entry.action for entry in report.repairs if entry.key}


def test_everything_lost_is_left_as_it_is(originals, tmp_path):
    folder = tmp_path / "one"
    convert(originals, folder)
    (folder / "shard-000000.tar").unlink()
    before = contents(folder)
    report = verify(folder, repair=True)
    assert not report.ok
    assert report.repairs[-1].action == "impossible"
    assert contents(folder) == before


def test_two_at_once_are_refused(converted):
    import fcntl

    flip(converted / SHARD, images_of(converted / SHARD)[0][0] + 300)
    (converted / ".fastload-convert").mkdir()
    with open(converted / ".fastload-convert" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another"):
            verify(converted, repair=True)
    repair(converted)


def test_wrong_arguments(converted, tmp_path):
    with pytest.raises(DataError, match="the folder that was converted"):
        verify(converted, repair=True, source=tmp_path / "none")
    (converted / "dataset.json").unlink()
    with pytest.raises(DataError, match="fastload index"):
        verify(converted, repair=True)


# Forks one process after the other, which repairs a copy of its own and is killed at its nth rename or removal.
CHILD = """
import os, shutil, signal, sys
from pathlib import Path
from fastload.jpeg.decoder import warm_up_indexer
from fastload.verify import verify
damaged, copies, source = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] or None
warm_up_indexer()
moment = 0
while True:
    moment += 1
    folder = copies / f"{moment}"
    shutil.copytree(damaged, folder)
    child = os.fork()
    if child == 0:
        steps = 0
        def hook(event, arguments):
            global steps
            if event in ("os.rename", "os.remove", "os.rmdir"):
                steps += 1
                if steps == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        report = verify(folder, repair=True, source=source, workers=2)
        os._exit(0 if report.ok else 1)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("damage", ["samples", "index", "originals", "names"])
def test_killed_at_any_step_it_is_as_it_was_or_repaired(converted, originals, damage, tmp_path):
    whole = samples_of(converted)
    lost = set()
    if damage == "index":
        (converted / "index.arrow").unlink()
    elif damage == "names":
        exchange(converted, "shard-000000.tar", SHARD, "shard-000002.tar")
    else:
        flip(converted / "shard-000000.seek", 900)
        images = images_of(converted / SHARD)
        for offset, _, key in images[:2]:
            flip(converted / SHARD, offset + 300)
            lost.add(key)
        images = images_of(converted / "shard-000002.tar")
        os.truncate(converted / "shard-000002.tar", images[2][0] + 50)
        lost |= {key for _, _, key in images[2:]}
    lost = lost if damage == "samples" else set()
    expected = {key: value for key, value in whole.items() if key not in lost}
    (tmp_path / "copies").mkdir()
    source = str(originals) if damage == "originals" else ""
    done = subprocess.run([sys.executable, "-c", CHILD, converted, tmp_path / "copies", source], capture_output=True)
    assert done.returncode == 0, done.stderr
    copies = sorted((tmp_path / "copies").iterdir(), key=lambda path: int(path.name))
    assert len(copies) > 6
    for copy in copies:
        state = verify(copy)
        if not state.ok:  # what is sound is still there, byte for byte
            for key, value in readable(copy).items():
                assert whole[key] == value
        verify_again = verify(copy, repair=True, source=source or None)
        assert verify_again.ok, (copy.name, verify_again.findings)
        assert samples_of(copy) == expected
        assert state.ok or len(list(copy.glob("index*.arrow"))) == 1
        entries = [(entry["action"], entry["key"], entry["source"]) for entry in ledger(copy)]
        assert len(entries) == len(set(entries))


def readable(folder):
    """The samples that can be read, if the data set can be opened."""
    try:
        return samples_of(folder)
    except DataError:
        return {}
