"""The pipelines that every loader is asked for: what happens to an image, and the form that it must arrive in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

Kind = Literal["train", "eval", "decode", "views", "detect"]
# What is done to the crop of a "train", a "views" or a "detect", in torchvision v2's words. JITTER without hue stands
# for those that have none.
JITTER = (0.4, 0.4, 0.4, 0.1)
RANDAUGMENT = (2, 9)  # operations, magnitude of 31: the defaults of v2.RandAugment
ERASING = 0.1  # probability beside TrivialAugmentWide, as torchvision's recipes have it; after the Normalize, value 0
SIMCLR_JITTER, SIMCLR_JITTER_P = (0.8, 0.8, 0.8, 0.2), 0.8
SIMCLR_GREY_P, SIMCLR_BLUR_P, SIMCLR_BLUR = 0.2, 0.5, (23, (0.1, 2.0))  # side of the kernel, range of sigma
_AUGMENTS = {
    "jitter": "ColorJitter(0.4, 0.4, 0.4, 0.1)",
    "jitter-nohue": "ColorJitter(0.4, 0.4, 0.4)",
    "randaugment": "RandAugment()",
    "trivial": "TrivialAugmentWide() + RandomErasing(0.1)",
    "simclr": "ColorJitter(0.8, 0.8, 0.8, 0.2; p=0.8) + RandomGrayscale(0.2) + GaussianBlur(23, (0.1, 2); p=0.5)",
    "distort": "RandomPhotometricDistort()",
}


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """What is done to an image.

    Attributes:
        name: As it is named on the command line and in results.
        kind: "train": RandomResizedCrop, flip, normalise; "eval": Resize, CenterCrop, normalise; "decode": the whole
            image as uint8 height x width x 3, of whatever size it has; "views": two of "train" of each image;
            "detect": RandomIoUCrop, flip, Resize to a square, normalise, and the boxes that are left.
        augment: What is done to the crop before it is normalised (see _AUGMENTS), if anything.
        size: Side of the output in pixels; 0 for "decode".
        resize: Shorter side before the centre crop of "eval".
        dtype: NumPy's name of the type of a value.
        nhwc: Whether the values must lie in memory as batch x height x width x channel (PyTorch's channels_last);
            otherwise either order is taken.
        scale, ratio: Of RandomResizedCrop, torchvision's defaults.
        flip: Probability of a flip.
    """

    name: str
    kind: Kind
    augment: str = ""
    size: int = 0
    resize: int = 0
    dtype: str = "float16"
    nhwc: bool = True
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def for_check(self, *, central: bool) -> Pipeline:
        """The same pipeline without chance, so that its pixels can be compared with a reference.

        No crop of an image's full area has a given shape, so that RandomResizedCrop falls back: to the central square
        where only squares are asked for (torchvision and most who copied it), and to the whole image where any shape
        will do (everybody).

        Args:
            central: Whether the loader's fallback is the central crop; otherwise the whole image is asked for.
        """
        if self.kind in ("eval", "decode"):
            return self
        plain = replace(self, augment="", flip=1.0, scale=(1.0, 1.0))  # of a RandomIoUCrop: the whole image
        return plain if self.kind == "detect" else replace(plain, ratio=(1.0, 1.0) if central else (0.05, 20.0))

    @property
    def chance(self) -> bool:
        """Whether crops are drawn; without it (see for_check) a "detect" takes every image whole."""
        return self.scale != (1.0, 1.0)

    def describe(self) -> str:
        """One line for a table's heading."""
        if self.kind == "decode":
            return "decode the whole image to uint8"
        layout = "NHWC" if self.nhwc else "NHWC or NCHW"
        random_crop = f"RandomResizedCrop({self.size}) + flip"
        crop = {
            "train": random_crop,
            "views": f"two views of each image, {random_crop}",
            "detect": f"RandomIoUCrop + boxes + flip + Resize({self.size}, {self.size})",
        }.get(self.kind, f"Resize({self.resize}) + CenterCrop({self.size})")
        pixels = f" + {_AUGMENTS[self.augment]}" if self.augment else ""
        return f"{crop}{pixels} + normalise to {self.dtype} {layout}"


PIPELINES = {
    pipeline.name: pipeline
    for pipeline in (
        Pipeline(name="train224-fp16", kind="train", size=224),
        Pipeline(name="train224-fp32", kind="train", size=224, dtype="float32", nhwc=False),
        Pipeline(name="train192-fp16", kind="train", size=192),
        Pipeline(name="train160-fp16", kind="train", size=160),
        Pipeline(name="eval224-fp16", kind="eval", size=224, resize=256),
        Pipeline(name="decode", kind="decode", dtype="uint8", nhwc=False),
        Pipeline(name="jitter224-fp16", kind="train", size=224, augment="jitter"),
        Pipeline(name="jitter-nohue224-fp16", kind="train", size=224, augment="jitter-nohue"),
        Pipeline(name="randaugment224-fp16", kind="train", size=224, augment="randaugment"),
        Pipeline(name="trivial224-fp16", kind="train", size=224, augment="trivial"),
        Pipeline(name="simclr224-fp16", kind="views", size=224, augment="simclr"),
        Pipeline(name="detect300-fp16", kind="detect", size=300, augment="distort"),
    )
}
