"""A network that was trained elsewhere sees the same through our Loader as through Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fastload import Loader, open_dataset
from fastload import transforms as T
from fastload.train import create_model


class PadAsTensorFlow(nn.Module):
    """A stride-2 convolution of these weights pads on the right and at the bottom only."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv
        conv.padding = (0, 0)

    def forward(self, images):
        return self.conv(nn.functional.pad(images, (0, 1, 0, 1)))


def frozen_network(weights):
    model = create_model("mobilenet_v2", num_classes=1000, pretrained=str(weights))
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and child.stride == (2, 2):
                setattr(module, name, PadAsTensorFlow(child))
    return model.eval()


def through_pillow(path):
    """Resize(256), CenterCrop(224), x / 127.5 - 1, with Pillow and numpy alone."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    scale = 256 / min(width, height)
    size = (256, int(256 * height / width)) if width <= height else (int(256 * width / height), 256)
    assert abs(size[0] - width * scale) < 1
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)


@torch.inference_mode()
def predictions(model, batches):
    return torch.cat([model(images.contiguous(memory_format=torch.channels_last)).argmax(1) for images in batches])


@pytest.mark.slow
def test_frozen_weights_predict_the_same_as_through_pillow(imagenet_sample, mobilenet_v2):
    names = imagenet_sample.parent / "imagenet_classes.txt"
    wnids = [line.split()[0] for line in names.read_text(encoding="utf-8").splitlines() if line.strip()]
    with open_dataset(imagenet_sample) as dataset:
        ids = np.arange(len(dataset), dtype=np.int64)
        labels = torch.tensor([wnids.index(dataset.classes[label]) for label in dataset.labels(ids)])
        paths = [imagenet_sample / dataset.key(int(number)) for number in ids]
        assert len(paths) == 400
        recipe = [
            T.Resize(256),
            T.CenterCrop(224),
            T.ToDtype("float32", scale=True),
            T.Normalize(mean=[0.5] * 3, std=[0.5] * 3),
        ]
        model = frozen_network(mobilenet_v2)
        with Loader(dataset, batch_size=20, transforms=recipe, shuffle=False, last_batch="keep") as loader:
            ours = predictions(model, (batch.images for batch in loader))
    pillow = (torch.stack([through_pillow(p) for p in paths[start : start + 20]]) for start in range(0, 400, 20))
    theirs = predictions(model, pillow)
    top1_ours, top1_theirs = (float((found == labels).double().mean()) for found in (ours, theirs))
    # The reference that came with the weights: 89.5%.
    assert top1_theirs == pytest.approx(0.895, abs=0.0051)
    assert top1_ours == pytest.approx(top1_theirs, abs=0.005)
    assert float((ours == theirs).double().mean()) >= 0.99
