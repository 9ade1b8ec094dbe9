"""A data set held in memory, requests by hand, and Pillow's answer to them: what every engine is measured by."""

import io
import tempfile
import threading
import time

import numpy as np
from PIL import Image

from fastload.augment.parameters import Draws, Output
from fastload.augment.program import VALUES, Program
from fastload.dataset.base import Dataset, Sample
from fastload.dataset.reads import ReadPlan, Reads, pack_paths
from fastload.engine.base import Request
from fastload.engine.requests import STORAGE
from fastload.errors import DataError

ONE, ZERO = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
SCALE = (1 / 58.395, 1 / 57.12, 1 / 57.375)
BIAS = (-123.675 / 58.395, -116.28 / 57.12, -103.53 / 57.375)


class MemoryDataset(Dataset):
    """Image files from memory; ``gate`` holds every read up until it is set, ``refused`` cannot be read."""

    def __init__(self, files, refused=()):
        self.files = list(files)
        self.refused = set(refused)
        self.path, self.classes, self.schema, self.fingerprint = "memory", (), {"image": "image"}, "0"
        self.gate = threading.Event()
        self.gate.set()
        self.reads = []

    def __len__(self):
        return len(self.files)

    def labels(self, ids):
        return np.full(len(ids), -1, np.int64)

    def sizes(self, ids):
        return np.array([Image.open(io.BytesIO(self.files[i])).size[::-1] for i in ids], np.int32).reshape(-1, 2)

    def num_bytes(self, ids):
        return np.array([len(self.files[i]) for i in ids], np.int64)

    def extents(self, ids):
        return np.asarray(ids, np.int64), np.zeros(len(ids), np.int64), self.num_bytes(ids)

    def file_path(self, file_index):
        return f"memory/{file_index}"

    def read_into(self, sample_id, buffer):
        self.reads.append(sample_id)
        self.gate.wait()
        if sample_id in self.refused:
            raise DataError("it does not match its checksum", path="memory", key=self.key(sample_id))
        data = self.files[sample_id]
        buffer[: len(data)] = np.frombuffer(data, np.uint8)
        return len(data)

    def key(self, sample_id):
        return f"sample-{sample_id}"

    def location(self, sample_id):
        return f"memory/{sample_id}"

    def __getitem__(self, sample_id):
        return Sample(id=sample_id, key=self.key(sample_id), image=self.files[sample_id], label=-1, extras={})

    def shard_sizes(self):
        return np.array([len(self)], np.int64)

    def close(self):
        pass


class DiskDataset(MemoryDataset):
    """The same files one after the other in a file on the disk, where a kernel reads them by itself.

    ``reads`` names those that it left to Python.
    """

    def __init__(self, files, refused=()):
        super().__init__(files, refused)
        self.file = tempfile.TemporaryFile()
        self.file.write(b"head" + b"".join(self.files))
        self.file.flush()
        self.starts = 4 + np.cumsum([0, *map(len, self.files)])[:-1]

    def plan_reads(self, ids):
        count = len(ids)
        path, paths = pack_paths([None] * count)
        descriptor = np.full(count, self.file.fileno(), np.int64)
        descriptor[[number in self.refused for number in ids]] = -1
        reads = Reads(
            descriptor=descriptor,
            path=path,
            paths=paths,
            offset=self.starts[ids],
            size=self.num_bytes(ids),
            crc32=np.zeros(count, np.int64),
            check=np.zeros(count, np.uint8),
            seek=np.zeros((count, 4), np.int64),
            raw=np.zeros((count, 2), np.int64),
        )
        return ReadPlan(reads, None)

    def close(self):
        self.file.close()

    __del__ = close


def make_output(size=(32, 48), dtype="uint8", interpolation="bilinear", antialias=True, memory_format="channels_last"):
    height, width = size
    scale, bias = (ONE, ZERO) if dtype == "uint8" else (SCALE, BIAS)
    return Output(
        height=height,
        width=width,
        dtype=dtype,
        scale=scale,
        bias=bias,
        interpolation=interpolation,
        antialias=antialias,
        memory_format=memory_format,
    )


def make_draws(ids, boxes, output, grids=None, windows=None, flips=None):
    count = len(ids)
    size = (output.height, output.width)
    return Draws(
        ids=np.array(ids, np.int64),
        box=np.array(boxes, np.float64).reshape(count, 4),
        grid=np.array([size] * count if grids is None else grids, np.int32).reshape(count, 2),
        window=np.array([(0, 0, *size)] * count if windows is None else windows, np.int32).reshape(count, 4),
        flip=np.zeros(count, bool) if flips is None else np.array(flips, bool),
    )


def make_slot(count, output):
    """A slot full of a value that no pixel has by accident in every place."""
    slot = np.empty((count, *output.shape), STORAGE[output.dtype])
    slot.view(np.uint8)[:] = 0xA5
    return slot


def whole_images(dataset, output, ids=None, rows=None, flips=None):
    """A plan that resamples whole images."""
    ids = list(range(len(dataset))) if ids is None else ids
    sizes = dataset.sizes(np.array(ids))
    boxes = np.concatenate([np.zeros_like(sizes), sizes], 1)
    draws = make_draws(ids, boxes, output, flips=flips)
    return lambda: Request(rows=np.array(range(len(ids)) if rows is None else rows, np.int64), draws=draws)


def jpeg(pixels, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def picture(height, width, seed=0):
    """Smooth colour with noise on top: resampling faults show in both."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([127 + 120 * np.sin(x / 9 + c) * np.cos(y / 7 - c) for c in range(3)], -1)
    return np.clip(base + rng.normal(0, 30, base.shape), 0, 255).astype(np.uint8)


def decoded(data):
    """Pillow's RGB pixels of an image file."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def pillow_reference(pixels, draws, row, output):
    """Output pixels (uint8) of one row of draws, by Pillow alone: crop to the touched pixels, resize, pad, flip."""
    top, left, height, width = draws.box[row]
    y0, x0 = int(np.floor(top)), int(np.floor(left))
    y1 = min(int(np.ceil(top + height)), pixels.shape[0])
    x1 = min(int(np.ceil(left + width)), pixels.shape[1])
    crop = Image.fromarray(np.ascontiguousarray(pixels[y0:y1, x0:x1]))
    grid_height, grid_width = (int(number) for number in draws.grid[row])
    box = (left - x0, top - y0, left - x0 + width, top - y0 + height)
    resample = getattr(Image.Resampling, output.interpolation.upper())
    grid = np.asarray(crop.resize((grid_width, grid_height), resample, box=box))
    result = np.zeros((output.height, output.width, 3), np.uint8)
    if draws.pad is not None:
        result[:] = draws.pad[row]
    first_y, first_x = int(draws.window[row, 0]), int(draws.window[row, 1])
    ys = [y for y in range(output.height) if 0 <= first_y + y < grid_height]
    xs = [x for x in range(output.width) if 0 <= first_x + x < grid_width]
    if ys and xs:
        part = grid[first_y + ys[0] : first_y + ys[-1] + 1, first_x + xs[0] : first_x + xs[-1] + 1]
        result[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1] = part
    result = result[::-1] if draws.flip_vertical is not None and draws.flip_vertical[row] else result
    return result[:, ::-1] if draws.flip[row] else result


def threads_of_engines():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fastload-cpu")]


def program(rows):
    """Of lists of (code, *values), one for each sample."""
    operations = [operation for row in rows for operation in row]
    values = np.zeros((len(operations), VALUES))
    for place, (_, *numbers) in enumerate(operations):
        values[place, : len(numbers)] = numbers
    start = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Program(start=start, code=np.array([code for code, *_ in operations], np.int64), values=values)


def eventually(condition, seconds=120.0):
    """Waits until ``condition()`` holds; False if it never does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
