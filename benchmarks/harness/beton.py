"""FFCV's file format, version 2, as far as a fair comparison needs it: original JPEG bytes in, stored bytes out.

FFCV's own writer encodes every JPEG anew. Here a file is laid out by hand with the bytes untouched, so that FFCV can be
measured on exactly what the others read; and the bytes that FFCV did encode are taken out for the others to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_PAGE_BYTES = 1 << 23  # FFCV's default
_HEADER = np.dtype([("version", "<u2"), ("fields", "<u2"), ("page", "<u4"), ("samples", "<u8"), ("allocations", "<u8")])
_FIELD = np.dtype([("type", "u1"), ("name", "S16"), ("arguments", "u1", (1024,))])
_RGB = np.dtype([("mode", "u1"), ("width", "<u2"), ("height", "<u2"), ("pointer", "<u8")])
_ALLOCATION = np.dtype([("sample", "<u8"), ("pointer", "<u8"), ("size", "<u8")])
_RGB_TYPE, _INT_TYPE = 2, 1
_ROW = np.dtype([("image", _RGB), ("label", "<i8")], align=True)


def write(path: Path, samples: Iterable[tuple[bytes, int, int, int]], count: int) -> None:
    """Writes a file with fields ``image`` (JPEG bytes as given) and ``label``.

    Args:
        path: File to write.
        samples: ``count`` times (JPEG bytes, width, height, label).
        count: Number of samples.
    """
    fields = np.zeros(2, _FIELD)
    fields["type"], fields["name"] = (_RGB_TYPE, _INT_TYPE), (b"image", b"label")
    rows = np.zeros(count, _ROW)
    allocations = np.zeros(count, _ALLOCATION)
    pointer = _round_up(_HEADER.itemsize + fields.nbytes + rows.nbytes)
    with open(path, "wb") as file:
        file.seek(pointer)
        for number, (jpeg, width, height, label) in enumerate(samples):
            if len(jpeg) > _PAGE_BYTES:
                raise ValueError(f"sample {number} has {len(jpeg)} bytes, a page holds {_PAGE_BYTES}")
            if pointer // _PAGE_BYTES != (pointer + len(jpeg) - 1) // _PAGE_BYTES:
                pointer = _round_up(pointer)  # a sample never straddles two pages
                file.seek(pointer)
            file.write(jpeg)
            rows[number] = ((0, width, height, pointer), label)
            allocations[number] = (number, pointer, len(jpeg))
            pointer += len(jpeg)
        table = _round_up(pointer)
        file.seek(table)
        file.write(allocations.tobytes())
        file.seek(0)
        file.write(np.array([(2, 2, _PAGE_BYTES, count, table)], _HEADER).tobytes() + fields.tobytes() + rows.tobytes())


def read(path: Path) -> Iterator[tuple[bytes, int]]:
    """Every sample's stored bytes and label, in order, of a file with the fields ``image`` and ``label``."""
    with open(path, "rb") as file:
        header = np.frombuffer(file.read(_HEADER.itemsize), _HEADER)[0]
        fields = np.frombuffer(file.read(int(header["fields"]) * _FIELD.itemsize), _FIELD)
        if header["version"] != 2 or list(fields["type"]) != [_RGB_TYPE, _INT_TYPE]:
            raise ValueError(f"{path}: expected version 2 with an RGB and an Int field")
        count = int(header["samples"])
        rows = np.frombuffer(file.read(count * _ROW.itemsize), _ROW)
        file.seek(int(header["allocations"]))
        allocations: NDArray[np.void] = np.frombuffer(file.read(), _ALLOCATION)
        sizes = dict(zip(allocations["pointer"].tolist(), allocations["size"].tolist(), strict=True))
        for row in rows:
            pointer = int(row["image"]["pointer"])
            file.seek(pointer)
            yield file.read(sizes[pointer]), int(row["label"])


def _round_up(offset: int) -> int:
    return -(-offset // _PAGE_BYTES) * _PAGE_BYTES
