"""What is known of the images after each step of a chain, and which steps may stand where."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from fastload.augment.canvas import resized_sizes
from fastload.augment.containers import form_after
from fastload.augment.erasing import check_erasing
from fastload.augment.registry import KINDS
from fastload.augment.values import Values
from fastload.errors import ConfigError
from fastload.transforms import (
    CenterCrop,
    Container,
    Cutout,
    GaussianBlur,
    Interpolation,
    Normalize,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToDtype,
    Transform,
)


@dataclass(frozen=True, kw_only=True)
class Form:
    """What is known about every image, whatever its source, after the steps so far.

    Attributes:
        exact: Height and width, where they are the same for all.
        least: Height and width that no image falls below.
        cut: Whether the image is a part of what was resampled (a CenterCrop came last).
        padded: Whether a part of it may be padding.
        sampling: Interpolation and antialias of the resampling, if there was one.
        sampled: Whether a geometric step stands before.
        altered: What works on pixels behind it (the last of them), if anything.
        handed: Likewise, of what knows left from right.
        stored: What has overwritten values that are no levels any more, if anything.
        values: What pixel values have become.
    """

    exact: tuple[int, int] | None = None
    least: tuple[int, int] = (1, 1)
    cut: bool = False
    padded: bool = False
    sampling: tuple[Interpolation, bool] | None = None
    sampled: bool = False
    altered: Transform | None = None
    handed: Transform | None = None
    stored: RandomErasing | None = None
    values: Values = field(default_factory=Values)

    def after(self, step: Transform) -> Form:
        """The form after one more step.

        Raises:
            ConfigError: The step cannot stand here; the message says why and what to do.
        """
        if isinstance(step, ToDtype):
            return replace(self, values=self.values.convert(step))
        if isinstance(step, Normalize):
            if self.stored is not None and self.stored.value == "random":
                raise ConfigError(f"{step} would change the noise of {self.stored}: put it before")
            return replace(self, values=self.values.normalize(step))
        if isinstance(step, Container):
            return form_after(step, self)
        kind = KINDS.get(type(step))
        if kind is not None and not kind.geometric:
            return self._after_pixels(step)
        return replace(self._after_geometry(step), sampled=True)

    def joined(self, other: Form, container: Container) -> Form:
        """What holds for an image that came out of a container one way or the other.

        Raises:
            ConfigError: The two ways sample differently.
        """
        if None not in (self.sampling, other.sampling) and self.sampling != other.sampling:
            raise ConfigError(
                f"all resamplings in {container} must have the same interpolation and antialias, because all images "
                "of a batch are sampled by one filter"
            )
        height, width = (min(sides) for sides in zip(self.least, other.least, strict=True))
        return Form(
            exact=self.exact if self.exact == other.exact else None,
            least=(height, width),
            cut=self.cut or other.cut,
            padded=self.padded or other.padded,
            sampling=self.sampling or other.sampling,
            sampled=self.sampled or other.sampled,
            altered=self.altered or other.altered,
            handed=self.handed or other.handed,
            stored=self.stored or other.stored,
            values=self.values,
        )

    def _after_pixels(self, step: Transform) -> Form:
        if isinstance(step, RandomErasing):
            check_erasing(step, self.values, sampled=self.sampled)
            stored = step if self.values.dtype != "uint8" else None
            return replace(self, altered=step, handed=step, stored=stored) if self.sampled else self
        if self.stored is not None:
            raise ConfigError(
                f"{step} works on levels, and {self.stored} does not: put {type(step).__name__} before it"
            )
        if self.values.normalized:
            raise ConfigError(
                f"{step} works on levels of 0 to 255, which a Normalize leaves: put it before the Normalize"
            )
        if isinstance(step, Cutout) and self.exact is not None and step.crop_size > min(self.exact):
            raise ConfigError(f"{step} does not fit into images of {self.exact[0]} x {self.exact[1]} pixels")
        if isinstance(step, GaussianBlur) and self.exact is not None:
            for side, name, kernel in zip(self.exact, ("height", "width"), step.kernel_size[::-1], strict=True):
                if kernel // 2 >= side:
                    raise ConfigError(
                        f"{step}: a kernel of {kernel} reaches over the whole {name} of {side} pixels: take at most "
                        f"{2 * side - 1}"
                    )
        if not self.sampled:
            return self
        return replace(self, altered=step, handed=self.handed if KINDS[type(step)].mirrors else step)

    def _after_geometry(self, step: Transform) -> Form:
        obstacle: Transform | None
        obstacle = self.stored or self.handed if isinstance(step, RandomHorizontalFlip) else self.altered
        if obstacle is not None:
            raise ConfigError(
                f"{step} cannot follow {obstacle}, because pixels are sampled before they are worked on: put "
                f"{type(step).__name__} before it"
            )
        if isinstance(step, CenterCrop):
            return self._after_center_crop(step)
        if isinstance(step, Resize):
            return self._after_resize(step)
        if isinstance(step, RandomResizedCrop):
            form = self._resampled(step, step.interpolation, step.antialias)
            return replace(form, exact=step.size, least=step.size)
        if isinstance(step, RandomHorizontalFlip):
            return self
        raise ConfigError(f"{step} is not a transform that fastload can carry out")

    def _resampled(self, step: Transform, interpolation: Interpolation, antialias: bool) -> Form:
        if self.padded:
            raise ConfigError(
                f"{step} cannot follow a CenterCrop that may have to pad small images with black, because each image "
                "is sampled once: put a Resize before the CenterCrop that makes every image large enough"
            )
        # The flag says nothing to "nearest", which takes one pixel, and to averages, which take all.
        widens = interpolation in ("box", "area") or (antialias and interpolation != "nearest")
        sampling = (interpolation, widens)
        if self.sampling not in (None, sampling):
            raise ConfigError(
                f"{step} must have the same interpolation and antialias as the resampling before it, because each "
                "image is sampled once"
            )
        return replace(self, sampling=sampling, cut=False)

    def _after_resize(self, step: Resize) -> Form:
        form = self._resampled(step, step.interpolation, step.antialias)
        exact = step.size if isinstance(step.size, tuple) else None
        if exact is None and self.exact is not None:
            height, width = (np.array([side], dtype=np.int64) for side in self.exact)
            height_after, width_after = resized_sizes(height, width, step.size, step.max_size)[0].tolist()
            exact = height_after, width_after
        if exact is not None:
            return replace(form, exact=exact, least=exact)
        short = step.size if isinstance(step.size, int) and step.max_size is None else 1
        return replace(form, exact=None, least=(short, short))

    def _after_center_crop(self, step: CenterCrop) -> Form:
        grows = step.size[0] > self.least[0] or step.size[1] > self.least[1]
        if grows and self.cut:
            raise ConfigError(f"{step} cannot enlarge what an earlier CenterCrop cut out: leave the earlier one out")
        if grows and any(self.values.bias):
            raise ConfigError(
                f"{step} may have to pad small images, and after a Normalize that would be with grey: put the "
                "Normalize last"
            )
        return replace(
            self, exact=step.size, least=step.size, cut=self.cut or step.size != self.exact, padded=self.padded or grows
        )
