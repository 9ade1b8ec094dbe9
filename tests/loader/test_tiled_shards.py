"""Shards that were converted with tiles give the very batches of those that were not."""

import io

import numpy as np
import torch
from PIL import Image

import fastload as fl
from fastload import transforms as T
from fastload.convert import convert


def test_the_same_batches_with_and_without_tiles(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = np.asarray(Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((300, 200)))
        path = tmp_path / "source" / f"{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", subsampling=number % 3, progressive=number % 4 == 0)
        path.write_bytes(buffer.getvalue())
    batches, decoders = [], []
    for tiles in (False, True):
        summary = convert(tmp_path / "source", tmp_path / f"{tiles}", tiles=tiles)
        assert summary.retiled == 12 * tiles
        with fl.Loader(
            tmp_path / f"{tiles}", batch_size=4, transforms=[T.RandomResizedCrop(64)], seed=3, num_workers=1
        ) as loader:
            batches.append([(batch.images.clone(), batch.labels.clone()) for batch in loader])
            counts = loader.stats().counts
            decoders.append({name: counts[name] for name in counts if name.startswith("decoder.")})
    if "decoder.fastload" in decoders[0]:  # progressive files were libjpeg-turbo's before
        assert decoders == [{"decoder.fastload": 9, "decoder.turbo": 3}, {"decoder.fastload": 12}]
    assert len(batches[0]) == 3
    for (images, labels), (tiled_images, tiled_labels) in zip(*batches, strict=True):
        assert torch.equal(images, tiled_images)
        assert torch.equal(labels, tiled_labels)
