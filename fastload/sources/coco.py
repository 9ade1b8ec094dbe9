"""COCO's instances and keypoints: one JSON file of annotations, and a folder of images."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from fastload.collecting import no_collections
from fastload.dataset.fields import encode_mask
from fastload.dataset.image_size import size_of_image
from fastload.errors import DataError
from fastload.remote import shown
from fastload.sources.annotations import is_inside, is_number
from fastload.sources.base import Item, Source
from fastload.sources.coco_masks import instance_mask
from fastload.sources.json_tables import JsonTables, Progress
from fastload.sources.places import FILES_AHEAD, Places, basename, folder_of, within

MASK: Final = "mask.png"

_LARGEST: Final = 4 << 30  # bytes; Objects365 has 2.6 GB, COCO's largest 0.5
_DECIMALS: Final = 4  # x + w of numbers with two decimals has 15 of them
_TRIED: Final = 16  # images, when a folder is looked for
_NONE: Final = object()

_Row = dict[str, Any]


class CocoSource(Source):
    """The images that an annotation file of COCO lists, in its order; those without objects as well.

    The file is read row by row, and only what is needed of a row is kept. One as large as train2017's (118,287 images,
    860,001 objects with polygons and run lengths, 509 MB, drawn) takes 17 s of processor time and 0.53 GB beside the
    interpreter's at its peak; with masks 38 s and 1.07 GB.

    Each has a member .json with ``image_id`` and, in the order of the file, one entry for each object in ``boxes``
    (XYXY), ``labels``, ``area`` (of the box where the file has none), ``iscrowd`` and, where categories have keypoints,
    ``keypoints`` ([x, y, visibility], zeros for what an object does not have). Classes are the names of the categories
    sorted by id, and labels count from 0. Nothing is rounded but XYXY, to 0.0001 pixels.

    Args:
        path: The JSON file, or its URL.
        images: The folder that its file names are relative to, or its URL; None looks beside the file: for
            ``annotations/instances_val2017.json`` in ``val2017``, ``images/val2017``, ``images`` and so on.
        masks: Whether to make a member .mask.png of polygons and run lengths: i + 1 where object i is, 0 elsewhere,
            the object with the smaller area in front; 16 bits for more than 255 objects.
        progress: Called with (done, total) bytes while the file is read.

    Raises:
        DataError: The file is no such file, or its parts do not belong together; or no folder of images is found.
    """

    kind = "COCO"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        images: str | os.PathLike[str] | None = None,
        masks: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._file = os.fspath(path)
        self._places = Places()
        categories, listed, objects = self._read(masks, progress)
        self._number_categories(categories)
        entries = self._list_images(listed)
        for identity, found in objects.items():
            self._add(entries, identity, found)
        for identity in entries.keys() - objects.keys():
            entries[identity].finish([], keypoints=self._keypoints > 0)
        del objects
        self._entries = list(entries.values())
        self._names = [entry.name for entry in self._entries]
        self._folder = os.fspath(images) if images is not None else find_images(self._file, self._names, self._places)
        self.path = shown(self._folder)
        self._num_bytes = self._sizes()
        self.fields = {"json": "json", "boxes": "boxes", "labels": "labels", "area": "areas", "iscrowd": "flags"}
        kinds = {type(identity) for identity in entries}
        self.fields |= {"image_id": "number" if kinds == {int} else "text"} if len(kinds) == 1 else {}
        self.fields |= {"keypoints": "keypoints"} if self._keypoints else {}
        self.fields |= {MASK: "mask"} if masks else {}
        self.extras = ("json", MASK) if masks else ("json",)

    def _read(self, masks: bool, progress: Progress | None) -> tuple[list[_Row], list[_Row], dict[Any, list[_Object]]]:
        """The categories, the images, and of each image its objects: of all of them only what is needed."""
        digest = hashlib.sha256()
        names = ("images", "annotations", "categories")
        what = "COCO's annotations of instances or keypoints"
        without = "" if masks else "segmentation"
        tables = JsonTables(
            self._file,
            self._places,
            names,
            what=what,
            most=_LARGEST,
            notice=digest.update,
            progress=progress,
            without=without,
        )
        categories: list[_Row] = []
        listed: list[_Row] = []
        objects: dict[Any, list[_Object]] = {}
        number = 0
        with no_collections():
            for name, row in tables.rows():
                if name == "annotations":
                    identity = row.get("image_id")
                    if not isinstance(identity, (int, str)):
                        raise self._astray(row.get("id", number), identity)
                    objects.setdefault(identity, []).append(_object(number, row, masks))
                    number += 1
                elif name == "images":
                    listed.append({key: row.get(key) for key in ("id", "file_name", "height", "width")})
                else:
                    categories.append(row)
        if not listed:
            raise DataError("expected images, but the file lists none", path=shown(self._file))
        self._file_digest = digest.hexdigest()
        return categories, listed, objects

    def _number_categories(self, table: list[dict[str, Any]]) -> None:
        names: dict[int, str] = {}
        self._keypoints = 0
        for row in table:
            identity, name = row.get("id"), row.get("name")
            if type(identity) is not int or not isinstance(name, str) or identity in names:
                raise DataError(
                    f"expected categories with ids of their own and names, got {_short(row)}", path=shown(self._file)
                )
            names[identity] = _printable(name)
            keypoints = row.get("keypoints", [])
            self._keypoints = max(self._keypoints, len(keypoints) if isinstance(keypoints, list) else 0)
        self.classes = tuple(names[identity] for identity in sorted(names))
        self._label_of = {identity: label for label, identity in enumerate(sorted(names))}

    def _list_images(self, table: list[dict[str, Any]]) -> dict[int | str, _Entry]:
        entries: dict[int | str, _Entry] = {}
        for row in table:
            identity, name = row["id"], row["file_name"]
            if type(identity) not in (int, str) or not isinstance(name, str) or not name or identity in entries:
                raise DataError(
                    f"expected images with ids of their own and a file_name, got {_short(row)}", path=shown(self._file)
                )
            assert isinstance(identity, (int, str))
            entry = entries[identity] = _Entry(name=_printable(name), identity=identity)
            if entry.name != name or not is_inside(name):
                entry.problem = "its file_name leads out of the folder of images, or is no name of a file"
            height, width = row["height"], row["width"]
            if type(height) is int and type(width) is int and height > 0 and width > 0:
                entry.size = (height, width)
        return entries

    def _add(self, entries: dict[int | str, _Entry], identity: int | str, objects: list[_Object]) -> None:
        """Gives its objects to an image; one that makes no sense makes the image unreadable."""
        entry = entries.get(identity)
        if entry is None:
            raise self._astray(objects[0].identity, identity)
        for each in objects:
            reason = entry.add(each, self._label_of, self._keypoints)
            if reason and not entry.problem:
                entry.problem = f"annotation {_short(each.identity)}: {reason}"
        entry.finish([each.segmentation for each in objects if each.segmentation], keypoints=self._keypoints > 0)
        objects.clear()

    def _astray(self, annotation: Any, image: Any) -> DataError:
        return DataError(
            f"annotation {_short(annotation)} is for image {_short(image)}, which the file does not list; remove the "
            "annotation or add the image",
            path=shown(self._file),
        )

    def __len__(self) -> int:
        return len(self._entries)

    def num_bytes(self) -> NDArray[np.int64]:
        return self._num_bytes

    def name(self, number: int) -> str:
        return self._names[number]

    def read(self, number: int) -> Item:
        entry = self._entries[number]
        if entry.problem:
            raise DataError(entry.problem)
        following = self._entries[number + 1 : number + FILES_AHEAD]
        image = self._places.read(self._at(entry), [self._at(each) for each in following if not each.problem])
        extras = {"json": entry.json}
        if MASK in self.extras:
            extras[MASK] = self._mask(entry, image)
        return Item(image=image, extras=extras, size=entry.size)

    def _at(self, entry: _Entry) -> str:
        return within(self._folder, entry.name)

    def _mask(self, entry: _Entry, image: bytes) -> bytes:
        height, width = size_of_image(image)
        if not height:
            raise DataError("its header does not say how large it is, and its mask must be as large")
        if entry.size not in (None, (height, width)):  # before anything is drawn: the file may claim any size
            raise DataError(f"its annotations are not for an image of {width} x {height} pixels")
        areas = json.loads(entry.json)["area"]
        return encode_mask(instance_mask(json.loads(entry.packed), areas, height, width))

    def _sizes(self) -> NDArray[np.int64]:
        """Bytes of each image with its members; 0 for one that is none."""
        good = [number for number, entry in enumerate(self._entries) if not entry.problem]
        sizes = np.zeros(len(self), np.int64)
        sizes[good] = np.fromiter(self._places.sizes([self._at(self._entries[number]) for number in good]), np.int64)
        members = (len(self._entries[number].json) + len(self._entries[number].packed) for number in good)
        sizes[good] += np.fromiter(members, np.int64, len(good))
        return sizes

    def digest(self) -> str:
        names = "\0".join([super().digest(), self._file_digest, *self.fields])
        return hashlib.sha256(names.encode()).hexdigest()


class _Object(NamedTuple):
    """What is needed of an annotation, as the file has it; its segmentation as JSON."""

    identity: Any
    bbox: Any
    category: Any
    crowd: Any
    area: Any
    keypoints: Any
    segmentation: bytes


def _object(number: int, row: _Row, masks: bool) -> _Object:
    return _Object(
        row.get("id", number),
        row.get("bbox"),
        row.get("category_id"),
        row.get("iscrowd", 0),
        row.get("area", _NONE),
        row.get("keypoints", []),
        _dumped(row.get("segmentation")) if masks else b"",
    )


@dataclass(kw_only=True, slots=True)
class _Entry:
    """One image; what is in lists while its objects are added becomes the bytes of its members."""

    name: str
    identity: int | str
    size: tuple[int, int] | None = None
    problem: str = ""
    objects: dict[str, list[Any]] | None = None
    json: bytes = b""
    packed: bytes = b""

    def add(self, found: _Object, label_of: dict[int, int], keypoints: int) -> str:
        """Takes an object in; why not, if a value of it is not what it should be."""
        box, category, crowd = found.bbox, found.category, found.crowd
        if not _numbers(box) or len(box) != 4 or box[2] < 0 or box[3] < 0:
            return f"expected a bbox [x, y, width, height], got {_short(box)}"
        if type(category) is not int or category not in label_of:
            return f"its category_id {_short(category)} is none of the {len(label_of):,} categories"
        if crowd not in (0, 1):
            return f"expected an iscrowd of 0 or 1, got {_short(crowd)}"
        x, y, width, height = box
        area = width * height if found.area is _NONE else found.area
        if not is_number(area):
            return f"expected an area in pixels, got {_short(area)}"
        points = found.keypoints
        if not _numbers(points) or len(points) % 3 or len(points) > 3 * keypoints:
            return f"expected at most {keypoints} keypoints x, y, visibility, got {_short(points)}"
        points = points + [0] * (3 * keypoints - len(points))
        if self.objects is None:
            self.objects = {name: [] for name in ("boxes", "labels", "area", "iscrowd", "keypoints")}
        self.objects["boxes"].append([x, y, round(x + width, _DECIMALS), round(y + height, _DECIMALS)])
        self.objects["labels"].append(label_of[category])
        self.objects["area"].append(area)
        self.objects["iscrowd"].append(int(crowd))
        self.objects["keypoints"].append([points[i : i + 3] for i in range(0, len(points), 3)])
        return ""

    def finish(self, segmentations: list[bytes], *, keypoints: bool) -> None:
        """Makes bytes of the lists: they take a tenth of the memory."""
        names = ("boxes", "labels", "area", "iscrowd", *(("keypoints",) if keypoints else ()))
        objects = self.objects or {name: [] for name in names}
        self.json = json.dumps({"image_id": self.identity} | {name: objects[name] for name in names}).encode("ascii")
        self.packed = b"[" + b", ".join(segmentations) + b"]"
        self.objects = None


def find_images(path: str, names: Sequence[str], places: Places) -> str:
    """The folder beside a file of annotations that holds the images which it names.

    Raises:
        DataError: There is none.
    """
    folder = folder_of(path)
    above = folder_of(folder)
    split = os.path.splitext(basename(path))[0].rsplit("_", 1)[-1]
    candidates = [
        within(above, split),
        within(above, f"images/{split}"),
        within(folder, split),
        within(above, "images"),
        within(folder, "images"),
        folder,
        above,
    ]
    tried = [name for name in names[:_TRIED] if is_inside(name)]
    for candidate in candidates:
        if any(places.sizes([within(candidate, name) for name in tried])):
            return candidate
    raise DataError(
        f"no folder beside it ({', '.join(shown(candidates[place]) for place in (0, 1, 3))} ...) holds its images "
        f"({names[0][:80]!r} ...); name the folder with --images",
        path=shown(path),
    )


def _numbers(values: Any) -> TypeGuard[list[int | float]]:
    return isinstance(values, list) and all(map(is_number, values))


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _dumped(value: Any) -> bytes:
    """A value as JSON; null where it is nested too deep to be anything."""
    try:
        return json.dumps(value).encode("ascii")
    except RecursionError:
        return b"null"


def _short(value: Any) -> str:
    return _dumped(value)[:80].decode("ascii")
