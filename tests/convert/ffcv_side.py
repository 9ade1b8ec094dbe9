"""What FFCV does, in a process of its own: it writes a file, or reads one. FFCV forks, warns, and may hang."""

import json
import sys

import cv2
import numpy as np
from ffcv.fields import BytesField, FloatField, IntField, JSONField, NDArrayField, RGBImageField
from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import CenterCropRGBImageDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.memory_managers import OSCacheManager
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter


class Columns:
    def __init__(self, columns, order):
        self.columns, self.order = columns, order

    def __len__(self):
        return len(self.columns["image"])

    def __getitem__(self, number):
        return tuple(self.columns[name][number] for name in self.order)


# Its threads do not outlive the fork of the writer's workers, which then wait for them for ever.
cv2.setNumThreads(1)


def write(path, pixels_path, order, mode, max_resolution):
    with np.load(pixels_path) as stored:
        images = [stored[f"{number:03d}"] for number in range(len(stored.files))]
    count = len(images)
    columns = {
        "image": images,
        "label": [number % 5 for number in range(count)],
        "weight": [number / 3 for number in range(count)],
        "blob": [np.arange(number, dtype=np.uint8) for number in range(count)],
        "meta": [{"number": number} for number in range(count)],
        "array": [np.full((2, 3), number, np.float32) for number in range(count)],
    }
    fields = {
        "image": RGBImageField(write_mode=mode, max_resolution=max_resolution),
        "label": IntField(),
        "weight": FloatField(),
        "blob": BytesField(),
        "meta": JSONField(),
        "array": NDArrayField(np.dtype("float32"), (2, 3)),
    }
    writer = DatasetWriter(path, {name: fields[name] for name in order}, num_workers=2)
    writer.from_indexed_dataset(Columns(columns, order), chunksize=4)


def read(path, out, side, os_cache, rest, numbers=()):
    """Stores what FFCV's Loader makes of a file: images, labels, the JSON of fields ``rest``, and ``numbers``."""
    decoder = CenterCropRGBImageDecoder((side, side), ratio=1) if side else SimpleRGBImageDecoder()
    loader = Loader(
        path,
        batch_size=4,
        num_workers=1,
        order=OrderOption.SEQUENTIAL,
        os_cache=os_cache,
        drop_last=False,
        pipelines={"image": [decoder], "label": [IntDecoder()]},
    )
    batches = [[np.array(column) for column in batch] for batch in loader]
    names = list(loader.reader.handlers)  # columns come in the order of the fields in the file
    columns = {name: [row for batch in batches for row in batch[place]] for place, name in enumerate(names)}
    found = {"image": np.array(columns["image"]), "label": np.array(columns["label"])}
    for name in numbers:
        found[name] = np.array(columns[name])
    for name in rest:
        found[name] = np.array([json.dumps(JSONField.unpack(row)) for row in columns[name]])
    np.savez(out, **found)


def lookup(path, out):
    """Stores how many bytes FFCV's Loader would read for each image: by its memory manager's own tables."""
    reader = Reader(path)
    manager = OSCacheManager(reader)
    (image,) = (
        name
        for name, handler in zip(reader.metadata.dtype.names, reader.handlers.values(), strict=True)
        if isinstance(handler, RGBImageField)
    )
    np.save(out, manager.sizes[np.searchsorted(manager.ptrs, reader.metadata[image]["data_ptr"])])


if __name__ == "__main__":
    {"write": write, "read": read, "lookup": lookup}[sys.argv[1]](*json.loads(sys.argv[2]))
