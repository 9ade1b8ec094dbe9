"""Pascal VOC: one XML file of annotations for each image, and masks of classes for some."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Sequence
from typing import Any, Final
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.listing import IMAGE_EXTENSIONS
from fastload.errors import DataError
from fastload.remote import is_url, shown
from fastload.remote.fetch import Unreachable
from fastload.sources.annotations import is_inside, is_number, list_files
from fastload.sources.base import Item, Source
from fastload.sources.places import FILES_AHEAD, Places, basename, ending, folder_of, within

MASK: Final = "seg.png"

_XML: Final = "Annotations"
_IMAGES: Final = "JPEGImages"
_MASKS: Final = "SegmentationClass"
_LISTS: Final = "ImageSets"
_LARGEST_XML: Final = 16 << 20
_DEEPEST_XML: Final = 64
_LIST_LINE: Final = re.compile(r"(\S+)(\s+-?[01])?\s*")


class VocSource(Source):
    """The images of a folder VOC2012 (or any with ``Annotations`` and ``JPEGImages``), or those of one of its lists.

    Each has a member .json with one entry for each object, in the order of its XML file, in ``boxes`` (XYXY: VOC
    counts pixels from 1 and includes the last, so (xmin, ymin, xmax, ymax) becomes (xmin - 1, ymin - 1, xmax, ymax)),
    ``labels``, ``difficult`` and ``truncated``. Classes are the names of all objects below ``Annotations``, sorted, so
    that the lists of one folder agree; of VOC2012 they are its twenty in its own order.

    Args:
        path: The folder, or a list such as ``VOC2012/ImageSets/Main/train.txt``; or the URL of either, where the
            server lists folders.
        masks: Whether to keep the files of ``SegmentationClass``, where an image has one, as members .seg.png; of
            VOC 0 is background, n the class number n - 1, and 255 the void.

    Raises:
        DataError: The folder is not laid out like this, or the list names no images.
    """

    kind = "Pascal VOC"

    def __init__(self, path: str | os.PathLike[str], *, masks: bool = False) -> None:
        place = os.fspath(path)
        self._places = Places()
        root = find_voc(place, self._places)
        if root is None:
            raise DataError(
                f"expected a folder with {_XML} and {_IMAGES}, or a list in its {_LISTS}", path=shown(place)
            )
        self._root = root
        self.path = shown(root)
        xml = list_files(within(root, _XML), (".xml",), self._places)
        self._images = list_files(within(root, _IMAGES), IMAGE_EXTENSIONS, self._places)
        self._masks = list_files(within(root, _MASKS), (".png",), self._places) if masks else {}
        if masks and not self._masks:
            raise DataError(f"expected masks in {_MASKS}, but it holds no PNG; convert without masks", path=self.path)
        parsed = self._parse_all(xml)
        names = {name for found in parsed.values() if isinstance(found, _Annotation) for name in found.names}
        self.classes = tuple(sorted(names))
        if place == root:
            self._stems: Sequence[str] = sorted(xml)
            unknown = "there is no XML file of its name"
            self.rejected = [
                (f"{_IMAGES}/{self._images[stem]}", unknown) for stem in sorted(self._images.keys() - xml.keys())
            ]
        else:
            self._stems = _read_list(place, self._places)
        label_of = {name: label for label, name in enumerate(self.classes)}
        self._annotations = [_finished(parsed.get(stem), label_of) for stem in self._stems]
        self._num_bytes = self._sizes()
        self.extras = ("json", MASK) if masks else ("json",)
        self.fields = {"json": "json", "boxes": "boxes", "labels": "labels", "difficult": "flags", "truncated": "flags"}
        self.fields |= {MASK: "mask"} if masks else {}

    def _parse_all(self, xml: dict[str, str]) -> dict[str, _Annotation | str]:
        """What each XML file says, or why it says nothing; by the name of its image."""
        files = [within(self._root, f"{_XML}/{name}") for name in xml.values()]
        return {stem: self._parse(files, number) for number, stem in enumerate(xml)}

    def _parse(self, files: list[str], number: int) -> _Annotation | str:
        file = files[number]
        try:
            if is_url(file):
                data = self._places.read(file, files[number + 1 : number + FILES_AHEAD])
            else:
                data = self._places.read_whole(file, most=_LARGEST_XML)
            if len(data) > _LARGEST_XML:
                raise DataError(f"it has {len(data):,} bytes")
            return _Annotation(parse_xml(data))
        except Unreachable:
            raise
        except DataError as error:
            return f"{_XML}/{basename(file)}: {error.reason}"

    def __len__(self) -> int:
        return len(self._stems)

    def num_bytes(self) -> NDArray[np.int64]:
        return self._num_bytes

    def name(self, number: int) -> str:
        stem = self._stems[number]
        return f"{_IMAGES}/{self._images.get(stem, stem)}"

    def read(self, number: int) -> Item:
        stem = self._stems[number]
        if stem not in self._images:
            raise DataError(f"there is no image of this name in {_IMAGES}")
        annotation, size = self._annotations[number]
        if isinstance(annotation, str):
            raise DataError(annotation)
        extras = {"json": annotation}
        ahead = range(number, min(number + FILES_AHEAD // 2, len(self)))
        image, mask = self._image(number), self._mask(number)
        following = [file for later in ahead for file in (self._image(later), self._mask(later)) if file is not None]
        if mask is not None:
            extras[MASK] = self._places.read(mask, following)
        return Item(image=self._places.read(image, following), extras=extras, size=size)

    def _image(self, number: int) -> str:
        return within(self._root, self.name(number))

    def _mask(self, number: int) -> str | None:
        stem = self._stems[number]
        return within(self._root, f"{_MASKS}/{self._masks[stem]}") if stem in self._masks else None

    def _sizes(self) -> NDArray[np.int64]:
        sizes = np.fromiter((len(annotation) for annotation, _ in self._annotations), np.int64, len(self))
        sizes += np.fromiter(self._places.sizes([self._image(number) for number in range(len(self))]), np.int64)
        masks = {number: mask for number in range(len(self)) if (mask := self._mask(number)) is not None}
        sizes[list(masks)] += np.fromiter(self._places.sizes(list(masks.values())), np.int64)
        return sizes

    def digest(self) -> str:
        digest = hashlib.sha256(super().digest().encode())
        for annotation, size in self._annotations:
            digest.update(annotation if isinstance(annotation, bytes) else annotation.encode("utf-8", "replace"))
            digest.update(repr(size).encode())
        return digest.hexdigest()


def find_voc(path: str, places: Places) -> str | None:
    """The folder with Annotations and JPEGImages that ``path`` is, or in whose ImageSets it is a list; or None."""
    if is_url(path):
        lists = folder_of(folder_of(path))
        if ending(path) == ".txt":
            return folder_of(lists) if basename(lists) == _LISTS else None
        return path if are_voc_folders(places.top(path)) else None
    root = path
    if not os.path.isdir(path):
        lists = os.path.dirname(os.path.dirname(os.path.abspath(path)))
        root = os.path.dirname(lists)
        if os.path.basename(lists) != _LISTS or not path.endswith(".txt"):
            return None
    return root if all(os.path.isdir(os.path.join(root, name)) for name in (_XML, _IMAGES)) else None


def are_voc_folders(names: Collection[str]) -> bool:
    """Whether a folder in which these lie is one of VOC's; a "/" stands at the end of names of folders."""
    return {f"{_XML}/", f"{_IMAGES}/"} <= set(names)


def parse_xml(data: bytes) -> ElementTree.Element:
    """The tree of a small XML file without a document type, and so without entities.

    Raises:
        DataError: It is no XML, declares a document type, or is nested deeper than 64.
    """
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST_XML:
            raise DataError(f"its elements are nested more than {_DEEPEST_XML} deep; it is no file of VOC's")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def refuse(*_: Any) -> None:
        raise DataError("it declares a document type, which VOC's files do not; remove that")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"it is no XML: {error}") from error


class _Annotation:
    """What an XML file says of its image.

    Args:
        root: The tree.

    Raises:
        DataError: An object has no name, or no box.
    """

    def __init__(self, root: ElementTree.Element) -> None:
        if root.tag != "annotation":
            raise DataError(f"expected an element annotation, got {root.tag[:40]!r}")
        objects = root.findall("object")
        self.names = [_text(each, "name") for each in objects]
        self.boxes = [_box(each) for each in objects]
        self.difficult = [_flag(each, "difficult") for each in objects]
        self.truncated = [_flag(each, "truncated") for each in objects]
        height, width = (root.findtext(f"size/{side}", "").strip() for side in ("height", "width"))
        known = height.isdecimal() and width.isdecimal() and len(height + width) < 20
        self.size = (int(height), int(width)) if known and int(height) and int(width) else None


def _finished(found: _Annotation | str | None, label_of: dict[str, int]) -> tuple[bytes | str, tuple[int, int] | None]:
    """The member .json of an image, or why it has none; and the size for which it was made."""
    if not isinstance(found, _Annotation):
        return found or f"there is no XML file of its name in {_XML}", None
    values = {
        "boxes": found.boxes,
        "labels": [label_of[name] for name in found.names],
        "difficult": found.difficult,
        "truncated": found.truncated,
    }
    return json.dumps(values).encode("ascii"), found.size


def _text(element: ElementTree.Element, name: str) -> str:
    text = (element.findtext(name) or "").strip()
    if not text:
        raise DataError(f"an object has no {name}")
    return text


def _box(element: ElementTree.Element) -> list[float]:
    values = []
    for name in ("xmin", "ymin", "xmax", "ymax"):
        text = (element.findtext(f"bndbox/{name}") or "").strip()
        try:
            values.append(float(text))
        except ValueError:
            raise DataError(f"an object's {name} is no number, but {text[:40]!r}") from None
    x0, y0, x1, y1 = values
    if not all(map(is_number, values)) or x1 < x0 or y1 < y0:
        raise DataError(f"an object's box {values} ends before it begins")
    return [x0 - 1, y0 - 1, x1, y1]


def _flag(element: ElementTree.Element, name: str) -> int:
    text = (element.findtext(name) or "0").strip()
    if text not in ("0", "1"):
        raise DataError(f"an object's {name} is neither 0 nor 1, but {text[:40]!r}")
    return int(text)


def _read_list(path: str, places: Places) -> list[str]:
    """The names in a list of VOC's, in its order; a class's own lists (cat_train.txt) have -1, 0 or 1 behind each."""
    try:
        lines = places.read_whole(path, most=1 << 30).decode().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"expected one name in each line, but byte {error.start:,} is no UTF-8", path=path) from error
    stems: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        match = _LIST_LINE.fullmatch(line)
        if match is None and line.strip():
            raise DataError(f"line {number} has more than the name of an image: {line[:60]!r}", path=path)
        if match is not None:
            if match[1] in stems or not is_inside(match[1]):
                raise DataError(f"line {number} names an image twice or outside of {_IMAGES}: {line[:60]!r}", path=path)
            stems[match[1]] = None
    if not stems:
        raise DataError("expected one name in each line, but the list is empty", path=path)
    return list(stems)
