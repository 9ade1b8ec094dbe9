"""Small pictures of samples with their boxes, masks and keypoints, and the contact sheet made of them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fastload.dataset import Dataset
from fastload.engine.whole import check_size, decode_whole
from fastload.inspect.annotations import Annotations, read_annotations

if TYPE_CHECKING:
    from fastload.inspect.augmented import Augmented

# Longest side of a small picture in pixels: sharp at 160 CSS pixels on a phone, 15 kB as a JPEG.
SIDE: Final = 320
# Told apart on dark and on light pictures, and by people who see colours differently (Okabe and Ito).
COLOURS: Final = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167))
_INK, _MUTED, _PAPER, _PLATE = (24, 32, 40), (92, 104, 117), (255, 255, 255), (232, 236, 240)
_OPACITY: Final = 0.4
# With more boxes than this, names that are wider than their box are left out: they would hide the others.
_FEW: Final = 4
_MOST_DRAWN: Final = 200
_CELL: Final = 216
_GAP: Final = 12
_CAPTION: Final = 34
_COLUMNS: Final = 6

Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A sample to look at.

    Attributes:
        id, key: Of the sample.
        label: Name of its class, empty where it has none.
        height, width: Of its image in pixels.
        image: RGB, at most SIDE pixels a side, annotations drawn.
        notes: What was drawn, in words: ``3 boxes, 1 mask``.
    """

    id: int
    key: str
    label: str
    height: int
    width: int
    image: Image.Image
    notes: str


def take_picture(dataset: Dataset, number: int, boxes: Mapping[str, Box] | None = None) -> Picture:
    """Decodes one sample and draws its annotations, or named ``boxes`` (XYXY in its pixels) in their place.

    Raises:
        DataError: It cannot be read or decoded.
    """
    sample = dataset[number]
    pixels = _decode(sample.image)
    height, width = pixels.shape[:2]
    if boxes is not None:
        marks = Annotations(boxes=tuple(boxes.values()), names=tuple(boxes))
    else:
        marks = read_annotations(
            sample.extras, height=height, width=width, schema=dataset.schema, classes=tuple(dataset.classes)
        )
    return Picture(
        id=number,
        key=sample.key,
        label=class_name(dataset, sample.label),
        height=height,
        width=width,
        image=_annotated(pixels, marks),
        notes="" if boxes is not None else _in_words(marks),
    )


def class_name(dataset: Dataset, label: int) -> str:
    """The name of a class, its number where it has none, and nothing for no class."""
    if label < 0:
        return ""
    return dataset.classes[label] if label < len(dataset.classes) else str(label)


def _decode(data: bytes) -> NDArray[np.uint8]:
    memory: list[NDArray[np.uint8]] = []

    def reserve(height: int, width: int) -> NDArray[np.uint8]:
        check_size(height, width)
        memory[:] = [np.empty(height * width * 3, np.uint8)]
        return memory[0]

    height, width, _ = decode_whole(np.frombuffer(data, np.uint8), reserve)
    return memory[0].reshape(height, width, 3)


def small(pixels: NDArray[np.uint8]) -> Image.Image:
    """RGB pixels as a picture of at most SIDE pixels a side; smaller ones stay as they are."""
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return image


def _annotated(pixels: NDArray[np.uint8], marks: Annotations) -> Image.Image:
    image = small(pixels)
    if not marks:
        return image
    height, width = pixels.shape[:2]
    across, down = image.width / width, image.height / height
    for mask in marks.masks:
        image = _overlaid(image, mask)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(11)
    shown = list(zip(marks.boxes, marks.names, strict=True))
    kinds = {name: place for place, name in enumerate(dict.fromkeys(marks.names))}
    for place, ((left, top, right, bottom), name) in enumerate(shown[:_MOST_DRAWN]):
        colour = COLOURS[(kinds[name] if name else place) % len(COLOURS)]
        first, last = _clip((left * across, top * down), image), _clip((right * across, bottom * down), image)
        corners = (min(first[0], last[0]), min(first[1], last[1]), max(first[0], last[0]), max(first[1], last[1]))
        draw.rectangle(corners, outline=_INK, width=4)
        draw.rectangle(corners, outline=colour, width=2)
        if name and (len(marks.boxes) <= _FEW or font.getlength(name) + 6 <= corners[2] - corners[0]):
            _plate(draw, corners, name, colour, font)
    for place, (left, top) in enumerate(marks.points[:_MOST_DRAWN]):
        x, y = _clip((left * across, top * down), image)
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=COLOURS[place % len(COLOURS)], outline=_INK)
    return image


def _clip(point: tuple[float, float], image: Image.Image) -> tuple[float, float]:
    return min(max(point[0], 0.0), image.width - 1.0), min(max(point[1], 0.0), image.height - 1.0)


def _plate(draw: ImageDraw.ImageDraw, corners: Box, name: str, colour: tuple[int, int, int], font: object) -> None:
    """A name on a coloured plate in the upper left corner of a box."""
    x, y = corners[0] + 2, corners[1] + 2
    draw.rectangle(draw.textbbox((x + 2, y), name, font=font), fill=colour, outline=colour, width=2)  # type: ignore[arg-type]
    draw.text((x + 2, y), name, fill=(0, 0, 0), font=font)  # type: ignore[arg-type]


def _overlaid(image: Image.Image, mask: NDArray[np.uint8]) -> Image.Image:
    """A mask laid over a picture, transparent, a colour for each number."""
    scaled = np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
    palette = np.asarray(COLOURS, np.float32)
    pixels = np.asarray(image).astype(np.float32)
    marked = scaled > 0
    pixels[marked] = (1 - _OPACITY) * pixels[marked] + _OPACITY * palette[(scaled[marked] - 1) % len(COLOURS)]
    return Image.fromarray(pixels.astype(np.uint8))


def _in_words(marks: Annotations) -> str:
    counts = (
        (len(marks.boxes), "box", "boxes"),
        (len(marks.masks), "mask", "masks"),
        (len(marks.points), "keypoint", "keypoints"),
    )
    parts = [f"{number} {one if number == 1 else many}" for number, one, many in counts if number]
    return ", ".join(parts)


def to_jpeg(image: Image.Image) -> bytes:
    """The picture as a JPEG for the page."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80, optimize=True)
    return buffer.getvalue()


def draw_sheet(title: str, samples: Sequence[Picture], augmented: Augmented | None) -> Image.Image:
    """One picture of all samples, six in a row, and of the augmented ones, a sample in each row."""
    captions = [(picture.image, picture.label or picture.key, _second_line(picture)) for picture in samples]
    parts = [_grid(title, captions, _COLUMNS)]
    if augmented is not None:
        cells = []
        for row in augmented.rows:
            cells.append((row.original.image, row.original.label or row.original.key, "with what each epoch takes"))
            cells += [(image, f"epoch {epoch}", "") for epoch, image in zip(row.epochs, row.images, strict=True)]
        columns = 1 + max((len(row.images) for row in augmented.rows), default=0)
        parts.append(_grid(augmented.title, cells, columns))
    sheet = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), _PAPER)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def _second_line(picture: Picture) -> str:
    return ", ".join(part for part in (f"{picture.width} x {picture.height}", picture.notes) if part)


def _grid(title: str, cells: Sequence[tuple[Image.Image, str, str]], columns: int) -> Image.Image:
    rows = -(-len(cells) // columns)
    width = max(columns, 1) * (_CELL + _GAP) + _GAP
    sheet = Image.new("RGB", (width, 48 + rows * (_CELL + _CAPTION + _GAP)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    fonts = ImageFont.load_default(18), ImageFont.load_default(13), ImageFont.load_default(12)
    draw.text((_GAP, 16), _fitted(title, fonts[0], width - 2 * _GAP), fill=_INK, font=fonts[0])
    for place, (image, first, second) in enumerate(cells):
        left = _GAP + place % columns * (_CELL + _GAP)
        top = 48 + place // columns * (_CELL + _CAPTION + _GAP)
        draw.rectangle((left, top, left + _CELL - 1, top + _CELL - 1), fill=_PLATE)
        shown = image.copy()
        shown.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
        sheet.paste(shown, (left + (_CELL - shown.width) // 2, top + (_CELL - shown.height) // 2))
        draw.text((left, top + _CELL + 3), _fitted(first, fonts[1], _CELL), fill=_INK, font=fonts[1])
        draw.text((left, top + _CELL + 19), _fitted(second, fonts[2], _CELL), fill=_MUTED, font=fonts[2])
    return sheet


def _fitted(text: str, font: object, width: int) -> str:
    """As much of a text as fits on one line."""
    line = " ".join(text.encode("utf-8", "replace").decode().split())[:200]
    while line and font.getlength(line) > width:  # type: ignore[attr-defined]
        line = f"{line[:-2].rstrip()}…" if len(line) > 2 else ""
    return line
