"""What becomes of pixel values: conversions and normalisations folded into one scale and bias per channel."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fastload.errors import ConfigError
from fastload.transforms import DType, Normalize, ToDtype

Channels = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Values:
    """Values as they stand after the steps so far: ``pixel * scale + bias`` in ``dtype``."""

    dtype: DType = "uint8"
    scale: Channels = (1.0, 1.0, 1.0)
    bias: Channels = (0.0, 0.0, 0.0)
    normalized: bool = False

    def convert(self, step: ToDtype) -> Values:
        """After a ToDtype.

        Raises:
            ConfigError: From a floating type back to uint8.
        """
        if step.dtype == "uint8" and self.dtype != "uint8":
            raise ConfigError(
                f"ToDtype('uint8') cannot follow a conversion to {self.dtype}: leave both out for images in uint8"
            )
        if self.dtype == "uint8" and step.dtype != "uint8" and step.scale:
            return Values(dtype=step.dtype, scale=(1 / 255, 1 / 255, 1 / 255))
        # Between floating types, as in torchvision, scale changes nothing.
        return replace(self, dtype=step.dtype)

    def normalize(self, step: Normalize) -> Values:
        """After a Normalize.

        Raises:
            ConfigError: The values are still whole numbers.
        """
        if self.dtype == "uint8":
            raise ConfigError(
                "Normalize needs floating values, but the images are uint8 here: put ToDtype('float32', scale=True) "
                "before it"
            )
        triples = zip(self.scale, self.bias, step.mean, step.std, strict=True)
        folded = [(scale / std, (bias - mean) / std) for scale, bias, mean, std in triples]
        (red, red_bias), (green, green_bias), (blue, blue_bias) = folded
        return replace(self, scale=(red, green, blue), bias=(red_bias, green_bias, blue_bias), normalized=True)
