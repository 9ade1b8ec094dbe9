"""What is marked in the images of a batch, read beside them, mapped with them, and put together for the user."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fastload.augment.drawing import Boxes
from fastload.augment.masks import MaskSampling, sample_mask
from fastload.augment.parameters import Draws
from fastload.augment.plan import AugmentPlan
from fastload.augment.targets import TargetRules, converted, map_boxes, map_keypoints, sanitized
from fastload.dataset import Dataset
from fastload.engine.base import Failure, Request
from fastload.errors import ConfigError, DataError
from fastload.loader.target_batch import TargetBatch, as_list, as_padded, together

# Types of fields that have an entry for each object, in the order in which they are looked at: none of each.
_EMPTY: Final[dict[str, NDArray[Any]]] = {
    "boxes": np.zeros((0, 4), np.float32),
    "labels": np.zeros(0, np.int64),
    "areas": np.zeros(0, np.float32),
    "flags": np.zeros(0, np.int64),
    "keypoints": np.zeros((0, 0, 3), np.float32),
}
# The member in which convert numbers the objects of a sample, 1 for the first, in place of classes.
_OBJECT_MASK: Final = "mask.png"


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What a Loader does with targets; ``targets="list"`` and ``"padded"`` are short for ``Targets(form=...)``.

    Attributes:
        form: "list" gives ``batch.targets`` as a list of dicts, one for each sample, as torchvision's detection models
            want them; "padded" gives one dict of tensors, in which the objects of a sample are followed by zeros
            (labels by -1), and "count" says how many there are.
        keypoint_pairs: Numbers of keypoints that change places where an image is mirrored: left and right of each.
        mask_fill: Value of a mask outside of its image; 255 is what losses often leave out. Masks of objects have 0.
        mask_sampling: "nearest-exact" takes the pixel in which the middle of the output's lies, over the image as it
            is resized; "nearest" the one that torchvision's Resize and RandomResizedCrop take by default, which lies
            up to half a pixel beside it.
    """

    form: Literal["list", "padded"] = "list"
    keypoint_pairs: Sequence[tuple[int, int]] = ()
    mask_fill: int = 0
    mask_sampling: MaskSampling = "nearest-exact"

    def __post_init__(self) -> None:
        if self.form not in ("list", "padded"):
            raise ConfigError(f"targets must be None, 'list', 'padded' or a Targets, not {self.form!r}")
        try:
            pairs = np.array(self.keypoint_pairs, np.int64).reshape(len(self.keypoint_pairs), 2)
        except (TypeError, ValueError):
            pairs = np.full((1, 2), -1)
        if pairs.min(initial=0) < 0 or len(np.unique(pairs)) != pairs.size:
            raise ConfigError(
                "keypoint_pairs must be pairs of numbers of keypoints, each number once, such as [(1, 2), (3, 4)], not "
                f"{self.keypoint_pairs!r}"
            )
        if self.mask_sampling not in get_args(MaskSampling):
            raise ConfigError(f"mask_sampling must be 'nearest-exact' or 'nearest', not {self.mask_sampling!r}")
        if not isinstance(self.mask_fill, int) or not 0 <= self.mask_fill <= 0xFFFF:
            raise ConfigError(f"mask_fill must be a whole number from 0 to 65535, not {self.mask_fill!r}")


def as_targets(value: Any) -> Targets | None:
    """The argument of a Loader; ConfigError if it is none."""
    if value is None or isinstance(value, Targets):
        return value
    return Targets(form=value)


# The targets of one sample, by field, in each of its views.
TargetRow = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class TargetRows:
    """Targets of some samples, and the samples whose targets cannot be read."""

    rows: list[TargetRow]
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class _View:
    """Height and width of a view, and what its transforms say about boxes."""

    size: tuple[int, int]
    rules: TargetRules


class TargetReader:
    """Reads the targets of batches and maps them as their pixels are, in threads of its own.

    Args:
        dataset: Where they are.
        plan: What is done to the images, and what its transforms say about boxes.
        targets: What the user says.
        executor: Its threads.

    Raises:
        ConfigError: The data set has no targets, or other ones than the user speaks of.
    """

    def __init__(self, dataset: Dataset, plan: AugmentPlan, targets: Targets, executor: Executor) -> None:
        self._dataset = dataset
        self._views = [_View((view.output.height, view.output.width), view.targets) for view in plan.views]
        self._targets = targets
        self._executor = executor
        self._pairs = np.array(targets.keypoint_pairs, np.int64).reshape(-1, 2)
        self._fields = {
            kind: [name for name, given in dataset.schema.items() if given == kind]
            for kind in (*_EMPTY, "mask", "number", "text")
        }
        if not any(self._fields[kind] for kind in ("boxes", "keypoints", "mask")):
            raise ConfigError(
                "targets were asked for, but the data set has no boxes, keypoints or masks (see `fastload convert`): "
                "leave targets out"
            )
        self._masks_of_objects = _OBJECT_MASK in self._fields["mask"] and bool(self._fields["boxes"])

    def start(self, request: Request) -> Future[TargetRows]:
        """Begins to read the targets of a request."""
        return self._executor.submit(self.read, request)

    def read(self, request: Request) -> TargetRows:
        """The targets of a request, row after row."""
        rows: list[TargetRow] = []
        failures: list[Failure] = []
        for place, sample_id in enumerate(request.ids.tolist()):
            found = self._try(sample_id, place, request)
            rows.append(() if isinstance(found, Failure) else found)
            if isinstance(found, Failure):
                failures.append(found)
        return TargetRows(rows=rows, failures=tuple(failures))

    def _try(self, sample_id: int, place: int, request: Request) -> TargetRow | Failure:
        first = place * len(self._views)
        try:
            fields = self._dataset.fields(sample_id)
            return tuple(
                self._sample(sample_id, fields, request.draws.rows(slice(number, number + 1)), view)
                for number, view in enumerate(self._views, first)
            )
        except DataError as error:
            return Failure(
                row=int(request.rows[place]),
                sample_id=sample_id,
                key=self._dataset.key(sample_id),
                path=error.path or self._dataset.location(sample_id),
                reason=error.reason,
            )

    def _sample(self, sample_id: int, fields: Mapping[str, Any], draws: Draws, view: _View) -> dict[str, Any]:
        source = self._dataset.sizes(np.array([sample_id]))
        keep, target = self._objects(fields, draws, view, source)
        if self._masks_of_objects:
            target["masks"] = np.zeros((np.count_nonzero(keep), *view.size), np.uint8)
        for name in self._fields["mask"]:
            if name in fields:
                height, width = source[0].tolist()
                target |= self._mask(name, fields[name], (height, width), draws, view, keep)
        for name in (*self._fields["number"], *self._fields["text"]):
            if name in fields:
                target[name] = fields[name]
        return target

    def _objects(
        self, fields: Mapping[str, Any], draws: Draws, view: _View, source: NDArray[np.int32]
    ) -> tuple[NDArray[np.bool_], dict[str, Any]]:
        """All that there is for each object of one sample, mapped, and which of the objects are left."""
        names = [(name, kind) for kind in _EMPTY for name in self._fields[kind]]
        count = len(fields.get(names[0][0], ())) if names else 0
        rows = np.zeros(count, np.int64)
        keep = np.ones(count, np.bool_)
        target: dict[str, Any] = {}
        for name, kind in names:
            values = fields.get(name, _EMPTY[kind])
            if len(values) != count:
                raise DataError(
                    f"its field {name!r} has {len(values)} entries for {count} objects in {names[0][0]!r}: convert the "
                    "data again"
                )
            if kind == "boxes":
                mapped = map_boxes(values.astype(np.float64), rows, draws, view.size, source)
                keep &= sanitized(mapped, view.size, view.rules)
                values = converted(mapped, view.rules.format).astype(np.float32)
            elif kind == "keypoints":
                if len(values) and self._pairs.max(initial=-1) >= values.shape[1]:
                    raise ConfigError(
                        f"keypoint_pairs names keypoint {self._pairs.max()}, but the data set has {values.shape[1]}, "
                        "counted from 0"
                    )
                mapped = map_keypoints(values.astype(np.float64), rows, draws, view.size, self._pairs, source)
                values = mapped.astype(np.float32)
            elif kind == "flags":
                values = values.astype(np.int64)
            target[name] = values
        return keep, {name: values[keep] for name, values in target.items()}

    def _mask(
        self,
        name: str,
        values: NDArray[Any],
        size: tuple[int, int],
        draws: Draws,
        view: _View,
        keep: NDArray[np.bool_],
    ) -> dict[str, Any]:
        if values.shape != size:
            raise DataError(
                f"its mask {name!r} has {values.shape[1]} x {values.shape[0]} pixels, but the image has {size[1]} x "
                f"{size[0]}: convert the data again"
            )
        if name == _OBJECT_MASK and self._masks_of_objects:
            image = sample_mask(values, 0, draws, view.size, 0, self._targets.mask_sampling)
            numbers = np.flatnonzero(keep) + 1
            return {"masks": (image == numbers[:, None, None]).astype(np.uint8)}
        image = sample_mask(values, 0, draws, view.size, self._targets.mask_fill, self._targets.mask_sampling)
        return {name.removesuffix(".png"): image if image.dtype == np.uint8 else image.astype(np.int32)}

    def assemble(self, rows: Sequence[TargetRow]) -> TargetBatch:
        """The targets of a batch, ready to be handed over: of several views a tuple."""
        batches = [self._assemble([row[place] for row in rows], view) for place, view in enumerate(self._views)]
        return batches[0] if len(batches) == 1 else together(batches)

    def _assemble(self, rows: Sequence[Mapping[str, Any]], view: _View) -> TargetBatch:
        empty = {name: _EMPTY[kind] for kind in _EMPTY for name in self._fields[kind]}
        if self._masks_of_objects:
            empty["masks"] = np.zeros((0, *view.size), np.uint8)
        if self._targets.form == "list":
            return as_list(rows, empty)
        return as_padded(rows, empty, fill=self._targets.mask_fill)


def read_boxes(dataset: Dataset, ids: NDArray[np.int64]) -> Boxes:
    """The boxes of samples, for transforms that look at them; of a sample that cannot be read none.

    Raises:
        ConfigError: The data set has no boxes.
    """
    name = next((name for name, kind in dataset.schema.items() if kind == "boxes"), None)
    if name is None:
        raise ConfigError("a transform looks at bounding boxes, but the data set has none: leave RandomIoUCrop out")
    found: list[NDArray[np.float64]] = []
    for sample_id in ids.tolist():
        fields: Mapping[str, Any] = {}
        with contextlib.suppress(DataError):  # whoever delivers the sample tells it
            fields = dataset.fields(sample_id)
        found.append(np.asarray(fields.get(name, np.zeros((0, 4))), np.float64))
    starts = np.cumsum([0, *map(len, found)])
    return Boxes(start=starts.astype(np.int64), xyxy=np.concatenate([np.zeros((0, 4)), *found]))
