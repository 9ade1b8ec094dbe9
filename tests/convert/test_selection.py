"""Parts of a source share nothing, leave nothing out, and are alike in every class; classes are taken by name."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastload as fl
from fastload.convert.selection import parse_classes, parse_part, part_of_classes
from fastload.errors import ConfigError, DataError


def contents(path):
    """Source and name of the class of every sample."""
    with fl.open_dataset(path) as dataset:
        return {dataset.source(number): dataset.classes[dataset[number].label] for number in range(len(dataset))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tools):
    root = tmp_path_factory.mktemp("source") / "photos"
    for number in range(60):
        place = root / ("ant", "cat", "dog")[min(number % 5, 2)]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:02}.jpg").write_bytes(tools.encode(tools.picture(number)))
    return root


@given(
    st.lists(st.integers(-1, 6), min_size=1, max_size=200),
    st.lists(st.floats(0, 1), max_size=4),
    st.integers(0, 2**64 - 1),
)
def test_parts_that_adjoin_are_the_whole_and_share_nothing(labels, cuts, seed):
    labels = np.array(labels, np.int32)
    cuts = [0.0, *sorted(set(cuts) - {0.0, 1.0}), 1.0]
    times = np.zeros(len(labels), int)
    for begin, end in pairwise(cuts):
        chosen = part_of_classes(labels, begin, end, seed=seed)
        times += chosen
        for label in set(labels.tolist()):
            size = (labels == label).sum()
            assert abs(chosen[labels == label].sum() - (end - begin) * size) < 2
    assert (times == 1).all()


def test_a_fraction_of_many_small_classes_is_one_of_the_whole():
    labels = np.repeat(np.arange(1000, dtype=np.int32), 4)
    chosen = part_of_classes(labels, 0.0, 0.1, seed=5)
    assert abs(int(chosen.sum()) - 400) <= 1
    assert np.bincount(labels[chosen], minlength=1000).max() == 1


def test_the_draw_is_pinned():
    labels = np.array([0, 1] * 10, np.int32)
    chosen = [np.flatnonzero(part_of_classes(labels, 0.0, 0.3, seed=seed)).tolist() for seed in (0, 1)]
    assert chosen == [[2, 4, 7, 9, 13, 16], [1, 4, 6, 9, 14, 19]]


def test_training_and_validation_data(folder, tmp_path):
    fl.convert(folder, tmp_path / "all")
    first = fl.convert(folder, tmp_path / "train", part="0:0.75", part_seed=3, workers=1)
    fl.convert(folder, tmp_path / "val", part="75%:", part_seed=3, seed=7)
    assert (first.found, first.written, first.classes) == (45, 45, 3)
    train, val, whole = (contents(tmp_path / name) for name in ("train", "val", "all"))
    assert train | val == whole
    assert not train.keys() & val.keys()
    assert sorted(val.values()) == ["ant"] * 3 + ["cat"] * 3 + ["dog"] * 9
    assert fl.convert(folder, tmp_path / "train", part=" 0 : 75% ", part_seed=3).already_done
    with pytest.raises(DataError, match=r"differs in part_seed"):
        fl.convert(folder, tmp_path / "train", part="0:0.75", part_seed=4)


def test_some_classes_are_numbered_anew(folder, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("dog\n\nant\n", encoding="utf-8")
    for number, classes in enumerate((["dog", "ant"], "dog, ant", str(names))):
        fl.convert(folder, tmp_path / f"{number}", classes=classes)
        with fl.open_dataset(tmp_path / f"{number}") as dataset:
            assert dataset.classes == ("ant", "dog")
        found = contents(tmp_path / f"{number}")
        assert len(found) == 48
        assert all(name.split("/")[0] == label for name, label in found.items())
    with pytest.raises(ConfigError, match="no class 'cow' among its 3"):
        fl.convert(folder, tmp_path / "out", classes="cow")
    assert not (tmp_path / "out").exists()


def test_a_data_set_divided_is_the_source_divided(folder, tmp_path):
    fl.convert(folder, tmp_path / "all", shard_size="64KiB")
    fl.convert(tmp_path / "all", tmp_path / "a", part="0.5:1", classes="dog")
    fl.convert(folder, tmp_path / "b", part="0.5:1", classes="dog")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert fl.open_dataset(tmp_path / "a").fingerprint == fl.open_dataset(tmp_path / "b").fingerprint


def test_nothing_selected_and_a_seed_for_nothing(folder, tmp_path):
    with pytest.raises(DataError, match="none of the 60 samples is selected"):
        fl.convert(folder, tmp_path / "out", part="0:0.0001")
    with pytest.raises(ConfigError, match="part_seed draws a part"):
        fl.convert(folder, tmp_path / "out", part_seed=1)


@pytest.mark.parametrize("text", ["0.9", "", "1:0", "0:1.1", "0:101%", "-1:1", "a:b", "0:1:1", "0.5:0.5", "nan:1"])
def test_what_is_no_part(text):
    with pytest.raises(ConfigError, match=r"expected a part such as 0:0\.9"):
        parse_part(text)


def test_parts_in_all_their_forms():
    assert [parse_part(text) for text in ("0:0.9", "90%:100%", ":10%", ".5:", ":")] == [
        (0.0, 0.9),
        (0.9, 1.0),
        (0.0, 0.1),
        (0.5, 1.0),
        (0.0, 1.0),
    ]
    with pytest.raises(ConfigError, match="at least one name"):
        parse_classes(" , ")
