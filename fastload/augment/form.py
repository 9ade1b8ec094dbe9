"""What is known of the images after each step of a chain, and which steps may stand where."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from fastload.augment.containers import form_after
from fastload.augment.erasing import check_erasing
from fastload.augment.geometry import widens
from fastload.augment.known_sizes import KnownSizes, cuts_out, frames, keeps_sizes, paint, sizes_after
from fastload.augment.registry import KINDS
from fastload.augment.values import Values
from fastload.augment.warps import fill_levels
from fastload.errors import ConfigError
from fastload.transforms import (
    ColorJitter,
    Container,
    Cutout,
    GaussianBlur,
    Grayscale,
    Identity,
    Interpolation,
    Normalize,
    RandomChannelPermutation,
    RandomErasing,
    RandomGrayscale,
    RandomInvert,
    RandomPosterize,
    RandomResize,
    RandomResizedCrop,
    RandomShortestSize,
    RandomSolarize,
    Resize,
    ScaleJitter,
    ToDtype,
    Transform,
)

# What makes a pixel of the same pixel alone, so that a crop may as well be done first.
_POINTWISE: Final = (
    Grayscale,
    RandomChannelPermutation,
    RandomGrayscale,
    RandomInvert,
    RandomPosterize,
    RandomSolarize,
)
_RESAMPLING: Final = (RandomResize, RandomResizedCrop, RandomShortestSize, Resize, ScaleJitter)


@dataclass(frozen=True, kw_only=True)
class Form:
    """What is known about every image, whatever its source, after the steps so far.

    Attributes:
        sizes: What is known of height and width.
        sampling: Interpolation and antialias of the resampling, if there was one.
        flipped: Whether a flip stands before.
        sampled: Whether another geometric step does.
        altered: What works on pixels behind it (the last of them), if anything.
        wide: Likewise, of what looks at more of an image than a pixel, or at its place.
        handed: Likewise, of what knows left from right.
        stored: What has overwritten values that are no levels any more, if anything.
        values: What pixel values have become.
    """

    sizes: KnownSizes = field(default_factory=KnownSizes)
    sampling: tuple[Interpolation, bool] | None = None
    flipped: bool = False
    sampled: bool = False
    altered: Transform | None = None
    wide: Transform | None = None
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
        if isinstance(step, Identity):
            return self
        kind = KINDS.get(type(step))
        if kind is None:
            raise ConfigError(f"{step} is not a transform that fastload can carry out")
        if not kind.geometric:
            return self._after_pixels(step)
        form = self._after_geometry(step)
        return replace(form, flipped=True) if kind.flips else replace(form, sampled=True)

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
        return Form(
            sizes=self.sizes.joined(other.sizes),
            sampling=self.sampling or other.sampling,
            flipped=self.flipped or other.flipped,
            sampled=self.sampled or other.sampled,
            altered=self.altered or other.altered,
            wide=self.wide or other.wide,
            handed=self.handed or other.handed,
            stored=self.stored or other.stored,
            values=self.values,
        )

    def _after_pixels(self, step: Transform) -> Form:
        if isinstance(step, RandomErasing):
            check_erasing(step, self.values, sampled=self.sampled)
            stored = step if self.values.dtype != "uint8" else None
            return replace(self, altered=step, wide=step, stored=stored) if self.sampled else self
        if self.stored is not None:
            raise ConfigError(
                f"{step} works on levels, and {self.stored} does not: put {type(step).__name__} before it"
            )
        if self.values.normalized:
            raise ConfigError(
                f"{step} works on levels of 0 to 255, which a Normalize leaves: put it before the Normalize"
            )
        if isinstance(step, Cutout) and self.sizes.exact is not None and step.crop_size > min(self.sizes.exact):
            height, width = self.sizes.exact
            raise ConfigError(f"{step} does not fit into images of {height} x {width} pixels")
        if isinstance(step, GaussianBlur) and self.sizes.exact is not None:
            for side, name, kernel in zip(self.sizes.exact, ("height", "width"), step.kernel_size[::-1], strict=True):
                if kernel // 2 >= side:
                    raise ConfigError(
                        f"{step}: a kernel of {kernel} reaches over the whole {name} of {side} pixels: take at most "
                        f"{2 * side - 1}"
                    )
        mirrors = KINDS[type(step)].mirrors
        if not self.sampled and (mirrors or not self.flipped):
            return self
        pointwise = isinstance(step, _POINTWISE) or (isinstance(step, ColorJitter) and step.contrast is None)
        return replace(
            self,
            sampled=True,
            altered=step,
            wide=self.wide if pointwise else step,
            handed=self.handed if mirrors else step,
        )

    def _after_geometry(self, step: Transform) -> Form:
        obstacle, reason = self.altered, "pixels are sampled before they are worked on"
        if KINDS[type(step)].flips:
            obstacle, reason = self.handed, "the mirror image would be worked on"
        elif keeps_sizes(step):
            obstacle = self.stored
        elif cuts_out(step, self.sizes):
            obstacle, reason = self.wide, "that works on the whole image, and only what is cut out would be there"
        if obstacle is not None:
            raise ConfigError(f"{step} cannot follow {obstacle}, because {reason}: put {type(step).__name__} before it")
        self._check_paint(step)
        form = replace(self, sizes=sizes_after(step, self.sizes))
        if isinstance(step, _RESAMPLING):
            form = form._resampled(step, step.interpolation, step.antialias)
        if frames(step):
            return replace(form, altered=step, wide=step)
        # Behind an operation what turns or shifts is one itself.
        late = self.altered is not None and keeps_sizes(step) and not KINDS[type(step)].flips
        return replace(form, wide=step) if late else form

    def _resampled(self, step: Transform, interpolation: Interpolation, antialias: bool) -> Form:
        sampling = (interpolation, widens(interpolation, antialias))
        if self.sampling not in (None, sampling):
            raise ConfigError(
                f"{step} must have the same interpolation and antialias as the resampling before it, because each "
                "image is sampled once"
            )
        return replace(self, sampling=sampling)

    def _check_paint(self, step: Transform) -> None:
        """Raises ConfigError where a step may fill in levels, and values are none any more."""
        fill = paint(step, self.sizes)
        if fill is None:
            return
        if any(self.values.bias):
            raise ConfigError(
                f"{step} may have to fill in what lies outside of the image, and after a Normalize that would be with "
                "grey: put the Normalize last"
            )
        if any(fill_levels(fill)) and self.values.scale != (1.0, 1.0, 1.0):
            raise ConfigError(f"{step}: fill is a level of 0 to 255: put ToDtype(scale=True) behind it")
