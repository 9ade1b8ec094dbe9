"""What verify finds: every byte of a data set that is changed, named as tarfile and zlib would name it."""

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tracemalloc
import zlib

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fastload.adopt import index_shards
from fastload.convert import convert
from fastload.dataset import open_dataset
from fastload.errors import ConfigError, DataError
from fastload.verify import verify
from tests.command_line import run
from tests.dataset.conftest import photo
from tests.dataset.test_beton import write_columns
from tests.dataset.test_sharded_dataset import manifest_of, rewrite_index

SHARD = "shard-000001.tar"


def flip(path, place, bit=0):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def vouch(folder, name):
    """Lets dataset.json say that a shard is as it is now, as somebody would who edits a tar and knows the format."""
    manifest = json.loads((folder / "dataset.json").read_text())
    data = (folder / name).read_bytes()
    for shard in manifest["shards"]:
        if shard["name"] == name:
            shard.update(size=len(data), crc32=zlib.crc32(data))
    (folder / "dataset.json").write_text(json.dumps(manifest))


def only(folder):
    report = verify(folder, workers=2)
    assert len(report.findings) == 1, report.findings
    assert not report.ok
    return report.findings[0]


def test_what_convert_wrote_is_sound_and_nothing_is_written(converted):
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in converted.iterdir()}
    calls = []
    report = verify(converted, workers=2, progress=lambda *counts: calls.append(counts))
    assert report.ok
    assert report.storage == "shards"
    assert report.samples == report.decoded == 41
    assert [(shard.name, shard.num_bytes) for shard in report.shards] == [
        (path.name, path.stat().st_size) for path in sorted(converted.glob("*.tar"))
    ]
    assert sum(shard.samples for shard in report.shards) == 41
    assert calls[-1] == (41, 41, 0)
    assert report.images_per_second > 0 < report.cpu_ms_per_image
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in converted.iterdir()} == before


@pytest.mark.parametrize("name", ["shard-000001.tar", "index.arrow", "shard-000001.idx", "shard-000001.seek"])
def test_a_flipped_byte_anywhere_is_found_and_named(converted, name):
    path = converted / name
    original = path.read_bytes()
    with tarfile.open(converted / SHARD) as tar:
        members = [(member.offset_data, member.offset_data + member.size, member.name) for member in tar]
    generator = random.Random(name)
    for place in [0, len(original) - 1, *(generator.randrange(len(original)) for _ in range(30))]:
        path.write_bytes(original)
        flip(path, place, generator.randrange(8))
        report = verify(converted, workers=2)
        if name == "shard-000001.seek" and 40 <= place < 64:  # zeros that nobody reads
            assert report.ok
            continue
        assert not report.ok, place
        assert {finding.file for finding in report.findings} == {name}
        inside = [member for begin, end, member in members if begin <= place < end]
        if name == SHARD and inside and inside[0].endswith(".jpg"):
            assert [finding.key for finding in report.findings] == [inside[0].removesuffix(".jpg")]
            assert "crc32" in report.findings[0].reason
        if name == SHARD:
            assert [shard.findings > 0 for shard in report.shards] == [shard.name == name for shard in report.shards]


def test_a_truncated_shard_names_the_samples_behind_the_cut(converted):
    path = converted / SHARD
    with tarfile.open(path) as tar:
        members = [member for member in tar if member.name.endswith(".jpg")]
    cut = members[3].offset_data + 100
    os.truncate(path, cut)
    report = verify(converted)
    assert {finding.file for finding in report.findings} == {SHARD}
    assert f"the file has {cut:,}" in next(finding.reason for finding in report.findings if finding.kind == "shard")
    named = {finding.key for finding in report.findings if finding.kind == "sample"}
    assert named == {member.name.removesuffix(".jpg") for member in members[3:]}


def test_a_missing_shard_is_one_finding(converted):
    (converted / SHARD).unlink()
    report = verify(converted)
    assert [(finding.kind, finding.file) for finding in report.findings] == [("shard", SHARD)]


def test_exchanged_shards_are_told_by_their_right_names(converted):
    other = converted / "shard-000000.tar"
    (converted / SHARD).rename(converted / "x")
    other.rename(converted / SHARD)
    (converted / "x").rename(other)
    findings = verify(converted).findings
    assert [(finding.kind, finding.file) for finding in findings] == [("name", other.name), ("name", SHARD)]
    assert "this is shard-000001.tar under another name" in findings[0].reason


@pytest.mark.parametrize("name", ["dataset.json", "index.arrow", "shard-000001.idx", "conversion.jsonl"])
def test_a_missing_file_is_named(converted, name):
    (converted / name).unlink()
    if name == "dataset.json":
        with pytest.raises(DataError, match=r"dataset\.json"):
            verify(converted)
        return
    finding = only(converted)
    assert finding.file == name


def test_a_manifest_that_is_damaged_is_named(converted):
    path = converted / "dataset.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": "1"'))
    assert only(converted).file == "dataset.json"


@pytest.mark.parametrize("damage", [b"{", b"[1]\n", b'{"action": 3}\n', b"\xff\xfe\n", b"[" * 100_000 + b"\n"])
def test_a_damaged_line_of_the_ledger_is_named(converted, damage):
    with open(converted / "conversion.jsonl", "ab") as ledger:
        ledger.write(damage)
    finding = only(converted)
    assert finding.file == "conversion.jsonl"
    assert "line 3 is damaged" in finding.reason


def test_an_entry_of_the_ledger_that_is_gone_is_noticed(converted):
    path = converted / "conversion.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "text.jpg" not in line))
    assert "expected 1 entries" in only(converted).reason


def test_a_label_in_the_tar_that_is_not_the_one_of_the_index(converted):
    path = converted / SHARD
    with tarfile.open(path) as tar:
        member = next(member for member in tar if member.name.endswith(".cls"))
    flip(path, member.offset_data)
    finding = only(converted)
    assert (finding.kind, finding.key) == ("tar", member.name.removesuffix(".cls"))
    vouch(converted, SHARD)
    assert "its label in the tar is" in only(converted).reason


def test_an_image_that_does_not_decode_although_every_checksum_fits(converted):
    path = converted / SHARD
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        member = next(member for member in tar if member.name.endswith(".jpg"))
    begin, end = member.offset_data, member.offset_data + member.size
    data[begin + member.size // 2 : end] = bytes(member.size - member.size // 2)
    path.write_bytes(data)
    vouch(converted, SHARD)
    with open_dataset(converted) as dataset:
        row = next(row for row in range(len(dataset)) if dataset.key(row) == member.name.removesuffix(".jpg"))
    change_index(converted, "crc32", row, zlib.crc32(data[begin:end]))
    findings = [finding for finding in verify(converted).findings if finding.kind == "sample"]
    assert [finding.key for finding in findings] == [member.name.removesuffix(".jpg")]
    assert "truncated or damaged" in findings[0].reason


def change_index(folder, column, row, value):
    with pa.ipc.open_file(io.BytesIO((folder / "index.arrow").read_bytes())) as reader:
        batch = reader.get_batch(0)
    position = batch.schema.get_field_index(column)
    values = batch.column(position).to_pylist()
    values[row] = value
    batch = batch.set_column(
        position, batch.schema.field(position), pa.array(values, batch.schema.field(position).type)
    )
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    rewrite_index(folder, sink.getvalue())


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("width", 12, "pixels, as the index says"),
        ("height", 0, "pixels, as the index says"),
        ("label", 99, "its label 99 is none of the 2 classes"),
        ("label", -7, "its label -7"),
        ("offset", -5, "at offset -5"),
        ("offset", 1 << 60, "but the shard ends"),
        ("size", 0xFFFFFFFF, "1 GiB"),
        ("size", 1 << 29, "but the shard ends"),
        ("crc32", 5, "expected crc32 00000005"),
    ],
)
def test_a_row_of_the_index_that_is_wrong_names_its_sample(converted, column, value, says):
    verify(converted)  # what is loaded or compiled for the first time does not count
    change_index(converted, column, 5, value)
    tracemalloc.start()
    findings = [finding for finding in verify(converted).findings if finding.kind == "sample"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [finding.sample for finding in findings] == [5]
    assert says in findings[0].reason
    assert peak < 16 << 20


def test_rows_in_another_order_are_an_error_of_the_index(converted):
    change_index(converted, "shard", 5, 2)
    finding = only(converted)
    assert (finding.kind, finding.file) == ("index", "index.arrow")


def test_a_seek_index_of_another_image_is_found(converted):
    """The file is sound and says that it was made of these images; only decoding shows that it was not."""
    from fastload.jpeg.seek_file import SeekFile, write_seek_file

    path = converted / "shard-000001.seek"
    with SeekFile(str(path), None) as file:
        indexes = [bytes(file.index(number)) for number in range(len(file))]
        crcs = file.image_crcs.tolist()
    indexes[2] = indexes[3]
    write_seek_file(str(path), indexes, crcs)
    finding = only(converted)
    with tarfile.open(converted / SHARD) as tar:
        third = [member.name for member in tar if member.name.endswith(".jpg")][2]
    assert (finding.kind, finding.file, finding.key) == ("seek", path.name, third.removesuffix(".jpg"))
    path.unlink()
    assert verify(converted).ok  # it may be deleted at any time


@pytest.mark.parametrize("options", [{"tiles": True}, {"max_side": 64, "dali_labels": True}, {"seek_index": False}])
def test_whatever_convert_writes_is_sound(originals, tmp_path, options):
    convert(originals, tmp_path / "out", **options)
    report = verify(tmp_path / "out")
    assert report.ok, report.findings


def test_further_members_are_kept_checked_and_named(tmp_path):
    """From tars with two more members, one of them in capitals, to shards of our own."""
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "a.tar", "w") as tar:
        for number in range(5):
            for ending, data in (("jpg", photo(number)), ("JSON", b'{"a": 1}'), ("seg.bin", bytes(100 * number))):
                info = tarfile.TarInfo(f"{number}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    convert(tmp_path / "in" / "*.tar", tmp_path / "out")
    report = verify(tmp_path / "out")
    assert report.ok, report.findings
    path = tmp_path / "out" / "shard-000000.tar"
    with tarfile.open(path) as tar:
        member = [member for member in tar if member.name.endswith("seg.bin")][3]
    flip(path, member.offset_data + 7)
    finding = only(tmp_path / "out")
    assert (finding.kind, finding.key) == ("sample", member.name.partition(".")[0])
    assert "its member .seg.bin" in finding.reason


def test_shards_that_others_wrote(tmp_path):
    import webdataset

    folder = tmp_path / "foreign"
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "train-%02d.tar"), maxcount=9, verbose=0) as writer:
        for number in range(20):
            writer.write({"__key__": f"a/{number:03d}", "jpg": photo(number), "json": {"label": number % 4}})
    index_shards(folder, label="json.label")
    assert verify(folder).ok
    path = folder / "train-01.tar"
    with tarfile.open(path) as tar:
        member = next(member for member in tar if member.name.endswith(".json"))
    flip(path, member.offset_data + 1)
    report = verify(folder)
    assert {(finding.file, finding.key) for finding in report.findings} == {(path.name, "a/009")}


def test_an_image_folder(originals, tmp_path):
    shutil.copytree(originals, tmp_path / "photos")
    (tmp_path / "photos" / "cat" / "gr\udcfcn[red].jpg").write_bytes(b"no image")
    data = (tmp_path / "photos" / "cat" / "1.jpg").read_bytes()
    (tmp_path / "photos" / "cat" / "1.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "photos" / "cat" / "2.jpg").write_bytes(b"")
    report = verify(tmp_path / "photos", workers=2)
    assert report.storage == "folder"
    assert {finding.key for finding in report.findings} == {
        "cat/1.jpg",
        "cat/2.jpg",
        "cat/gr\\xfcn[red].jpg",
        "dog/text.jpg",
    }
    assert [(shard.name, shard.findings) for shard in report.shards] == [("cat", 3), ("dog", 1)]
    done = run("verify", tmp_path / "photos", check=1)
    assert "cat/gr\\xfcn[red].jpg: " in done.stdout
    with Image.open(tmp_path / "photos" / "cat" / "1.jpg") as image, pytest.raises(OSError, match="truncated"):
        image.load()
    with pytest.raises(ConfigError, match="only its owner"):
        verify(tmp_path / "photos", repair=True)


def test_a_beton_file(tmp_path):
    path = write_columns(tmp_path / "x.beton", ["image", "label", "meta", "array"])
    report = verify(path)
    assert report.ok
    assert report.storage == "beton"
    with open_dataset(path) as dataset:
        _, offsets, sizes = dataset.extents(np.arange(len(dataset)))
        raw = dataset.is_raw(np.arange(len(dataset)))
    victim = int(np.flatnonzero(~raw)[1])
    data = bytearray(path.read_bytes())
    middle = int(offsets[victim] + sizes[victim] // 2)
    data[middle : int(offsets[victim] + sizes[victim])] = bytes(int(offsets[victim] + sizes[victim]) - middle)
    path.write_bytes(data)
    assert [finding.sample for finding in verify(path).findings] == [victim]


@pytest.mark.parametrize("arguments", [{"workers": 0}, {"workers": True}, {"source": "."}])
def test_wrong_arguments(converted, arguments):
    with pytest.raises(ConfigError):
        verify(converted, **arguments)


def test_nothing_there_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match="nothing at this path"):
        verify(tmp_path / "none")
    with pytest.raises(DataError, match="nothing at this path"):
        verify(tmp_path / "none", repair=True)


def test_the_command_ends_with_a_code_and_the_list(converted):
    done = run("verify", converted)
    assert "none: all is as it should be" in done.stdout
    assert "verifying" in done.stderr
    with tarfile.open(converted / SHARD) as tar:
        member = next(member for member in tar if member.name.endswith(".jpg"))
    flip(converted / SHARD, member.offset_data + 50)
    key = member.name.removesuffix(".jpg")
    done = run("verify", converted, check=1)
    assert f"{SHARD}: sample {key}: expected crc32" in done.stdout
    done = run("verify", converted, "--json", check=1)
    report = json.loads(done.stdout)
    assert not report["ok"]
    assert [(finding["file"], finding["key"]) for finding in report["findings"]] == [(SHARD, key)]
    done = run("verify", converted, "--repair", "--json")
    report = json.loads(done.stdout)
    assert report["ok"]
    assert report["samples"] == 40
    run("verify", converted)


def test_ctrl_c_ends_at_once_with_130(tmp_path):
    folder = tmp_path / "photos" / "a"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(1).integers(0, 256, (1500, 2000, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "0.jpg", quality=95)
    for number in range(1, 400):
        os.link(folder / "0.jpg", folder / f"{number}.jpg")
    process = subprocess.Popen(
        [sys.executable, "-m", "fastload", "verify", str(tmp_path / "photos"), "--workers", "1"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        for line in process.stderr:
            if "verifying" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=600)[1]
        assert process.returncode == 130
        assert "Traceback" not in rest
    finally:
        process.kill()


def test_memory_does_not_grow_with_the_data_set(originals, tmp_path):
    """Ten times the samples at no more than twice the memory: of one worker, as it is chance how many meet."""
    peaks = []
    for copies in (1, 10):
        folder = tmp_path / f"{copies}"
        for copy in range(copies):
            shutil.copytree(originals / "cat", folder / f"{copy}")
        convert(folder, tmp_path / f"{copies}.out", shard_size="96KiB")
        verify(tmp_path / f"{copies}.out", workers=1)
        tracemalloc.start()
        assert verify(tmp_path / f"{copies}.out", workers=1).decoded == 26 * copies
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


def test_a_manifest_that_lies_about_its_shards(converted):
    manifest_of(converted, conversion={"source": {"kind": "WebDataset shards"}, "options": {"image": [1]}})
    assert "conversion.options" in verify(converted).findings[0].reason
