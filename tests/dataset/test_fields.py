"""Fields are decoded by their type, and what is not of its type is one clear error."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastload.dataset import Sample
from fastload.dataset.fields import MEMBER_TYPES, decode_fields, decode_mask, encode_mask, typed
from fastload.errors import DataError


def test_members_without_a_type_stay_as_they_are():
    members = {"json": b'{"a": [1], "b": "x"}', "npy": b"\x93", "txt": "é".encode(), "n": b"2.5"}
    assert decode_fields(members, {}) == members
    assert decode_fields(members, {"json": "bytes", "npy": "of the future"}) == members
    fields = decode_fields(members, {"json": "json", "txt": "text", "n": "number", "a": "labels"})
    assert fields["a"].tolist() == [1]
    assert (fields["b"], fields["txt"], fields["n"]) == ("x", "é", 2.5)
    assert decode_fields({"json": b"[1, 2]"}, {"json": "json"}) == {"json": [1, 2]}


def test_a_sample_names_itself_in_errors():
    sample = Sample(id=0, key="000000007", image=b"", label=-1, extras={"json": b"{"}, types={"json": "json"})
    with pytest.raises(DataError, match="000000007"):
        _ = sample.fields


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("boxes", [[1, 2, 3]]),
        ("boxes", [1, 2, 3, 4]),
        ("boxes", [[3, 2, 1, 4]]),
        ("boxes", [[1, 2, 3, float("inf")]]),
        ("boxes", [[1, 2, 3, None]]),
        ("boxes", [[1, 2, 3, 10**400]]),
        ("boxes", [[1, 2, 3, 4], [1, 2]]),
        ("boxes", {}),
        ("boxes", "abcd"),
        ("labels", [1.5]),
        ("labels", [True]),
        ("labels", [1 << 70]),
        ("labels", 3),
        ("areas", [[1.0]]),
        ("flags", [2]),
        ("keypoints", [[1, 2, 2]]),
        ("keypoints", [[[1, 2]]]),
        ("text", 5),
        ("number", "5"),
        ("number", True),
    ],
)
def test_what_is_not_of_its_type(kind, value):
    with pytest.raises(DataError, match="'name'"):
        typed("name", value, kind)


def test_shapes_and_types():
    for kind, value, shape, dtype in (
        ("boxes", [[1, 2, 3, 4]], (1, 4), np.float32),
        ("boxes", [], (0, 4), np.float32),
        ("labels", [], (0,), np.int64),
        ("areas", [1, 2.5], (2,), np.float32),
        ("flags", [0, 1], (2,), np.bool_),
        ("keypoints", [[[1, 2, 2], [0, 0, 0]]], (1, 2, 3), np.float32),
    ):
        array = typed("x", value, kind)
        assert (array.shape, array.dtype) == (shape, dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_masks_come_back_as_pillow_reads_them(dtype):
    values = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (17, 23)).astype(dtype)
    data = encode_mask(values)
    assert np.array_equal(np.array(Image.open(io.BytesIO(data))), values)
    found = decode_mask(data, "mask.png")
    assert found.dtype == dtype
    assert np.array_equal(found, values)


def test_damaged_masks_are_errors():
    data = encode_mask(np.random.default_rng(2).integers(0, 255, (40, 40)).astype(np.uint8))
    for size in range(0, len(data), 41):
        with pytest.raises(DataError, match="mask"):
            decode_mask(data[:size], "mask.png")
    buffer = io.BytesIO()
    Image.new("RGBA", (4, 4)).save(buffer, "PNG")
    with pytest.raises(DataError, match="one channel"):
        decode_mask(buffer.getvalue(), "mask.png")
    bomb = bytearray(data)
    bomb[16:24] = (0x7FFFFFFF).to_bytes(4, "big") * 2
    with pytest.raises(DataError, match="mask"):
        decode_mask(bytes(bomb), "mask.png")


numbers = st.integers() | st.floats()
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@given(st.sampled_from(sorted(MEMBER_TYPES - {"mask", "json"})), anything | st.lists(st.lists(numbers, max_size=4)))
def test_anything_is_of_its_type_or_one_clear_error(kind, value):
    with contextlib.suppress(DataError):
        found = typed("name", value, kind)
        if isinstance(found, np.ndarray):
            assert len(found) == len(value)
