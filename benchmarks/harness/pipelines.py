"""The pipelines that every loader is asked for: what happens to an image, and the form that it must arrive in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

Kind = Literal["train", "eval", "decode"]


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """What is done to an image.

    Attributes:
        name: As it is named on the command line and in results.
        kind: "train": RandomResizedCrop, flip, normalise; "eval": Resize, CenterCrop, normalise; "decode": the whole
            image as uint8 height x width x 3, of whatever size it has.
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
        if self.kind != "train":
            return self
        return replace(self, scale=(1.0, 1.0), ratio=(1.0, 1.0) if central else (0.05, 20.0), flip=1.0)

    def describe(self) -> str:
        """One line for a table's heading."""
        if self.kind == "decode":
            return "decode the whole image to uint8"
        layout = "NHWC" if self.nhwc else "NHWC or NCHW"
        crop = (
            f"RandomResizedCrop({self.size}) + flip"
            if self.kind == "train"
            else f"Resize({self.resize}) + CenterCrop({self.size})"
        )
        return f"{crop} + normalise to {self.dtype} {layout}"


PIPELINES = {
    pipeline.name: pipeline
    for pipeline in (
        Pipeline(name="train224-fp16", kind="train", size=224),
        Pipeline(name="train224-fp32", kind="train", size=224, dtype="float32", nhwc=False),
        Pipeline(name="train192-fp16", kind="train", size=192),
        Pipeline(name="train160-fp16", kind="train", size=160),
        Pipeline(name="eval224-fp16", kind="eval", size=224, resize=256),
        Pipeline(name="decode", kind="decode", dtype="uint8", nhwc=False),
    )
}
