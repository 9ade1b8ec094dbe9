"""What --repair does where shards lie under the names of others, and beside files that are not theirs."""

import os
import shutil

import pytest

from tests.verify.test_repair import contents, exchange, images_of, ledger, repair, samples_of
from tests.verify.test_verify import SHARD


@pytest.mark.parametrize("kind", ["two", "a ring", "with their sidecars", "without a name", "one is lost"])
def test_shards_get_their_names_back(converted, kind):
    expected, whole = contents(converted), samples_of(converted)
    shards = [f"shard-00000{number}.tar" for number in range(3)]
    lost = set()
    if kind == "two":
        exchange(converted, shards[0], shards[1])
    elif kind == "a ring":
        exchange(converted, *shards)
    elif kind == "with their sidecars":
        for ending in (".tar", ".idx", ".seek"):
            exchange(converted, *(shard.replace(".tar", ending) for shard in shards[:2]))
    elif kind == "without a name":
        (converted / shards[1]).rename(converted / "my favourite.tar")
    else:
        lost = {key for _, _, key in images_of(converted / shards[0])}
        (converted / shards[1]).replace(converted / shards[0])
    done = repair(converted)
    assert ("renamed", shards[1], None) in done
    assert samples_of(converted) == {key: value for key, value in whole.items() if key not in lost}
    assert ledger(converted)[-1]["action"] == ("dropped" if lost else "renamed")
    after = contents(converted)
    if lost:
        assert not [name for name in after if name.startswith("shard-000000")]
        assert {name: after[name] for name in after if name.startswith("shard-000001")}.items() <= expected.items()
    else:
        del expected["conversion.jsonl"], after["conversion.jsonl"]
        assert after == expected


def test_a_shard_that_was_overwritten_with_another_is_dropped_or_comes_back(converted, originals, tmp_path):
    whole = samples_of(converted)
    lost = {key for _, _, key in images_of(converted / SHARD)}
    shutil.copy(converted / "shard-000000.tar", converted / SHARD)
    shutil.copytree(converted, tmp_path / "second")
    repair(converted)
    assert samples_of(converted) == {key: value for key, value in whole.items() if key not in lost}
    assert (converted / f"{SHARD}.copy").read_bytes() == (converted / "shard-000000.tar").read_bytes()
    repair(tmp_path / "second", source=originals)
    assert samples_of(tmp_path / "second") == whole


def test_what_others_lie_in_the_folder_is_left_alone(converted):
    other = os.urandom((converted / SHARD).stat().st_size)
    (converted / "other.tar").write_bytes(other)
    (converted / "folder").mkdir()
    (converted / SHARD).unlink()
    repair(converted)
    assert (converted / "other.tar").read_bytes() == other
    stem = SHARD.removesuffix(".tar")
    assert not (converted / f"{stem}.idx").exists()  # of a shard that the data set has no more
    assert not (converted / f"{stem}.seek").exists()
