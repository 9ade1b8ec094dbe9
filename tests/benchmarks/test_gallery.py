"""The page of transforms is complete: every public name, every picture."""

import inspect
import re

from benchmarks import gallery
from benchmarks.gallery_items import NOT_DRAWN, SECTIONS
from fastload import transforms as T

ITEMS = [item for section in SECTIONS for item in section.items]


def test_every_public_name_stands_on_the_page():
    text = gallery.PAGE.read_text()
    named = set(re.findall(r"^### (\w+)$", text, re.MULTILINE)) | set(re.findall(r"^- `(\w+)`:", text, re.MULTILINE))
    assert named == set(T.__all__)


def test_the_page_is_what_would_be_written_now():
    assert gallery.PAGE.read_text() == gallery.page()


def test_every_transform_of_pixels_has_a_picture_and_no_picture_is_left_over():
    shown = set(re.findall(r"\(pictures/(\w+)\.webp\)", gallery.PAGE.read_text()))
    there = {path.stem: path.stat().st_size for path in gallery.PICTURES.iterdir()}
    assert shown == set(there)
    assert all(0 < size <= 12_000 for size in there.values())
    declared = {
        name for name in T.__all__ if inspect.isclass(getattr(T, name)) and issubclass(getattr(T, name), T.Transform)
    }
    without = {item.name for item in ITEMS if not item.drawn}
    assert shown == declared - without - set(NOT_DRAWN)
    assert without == {
        "ClampBoundingBoxes",
        "ConvertBoundingBoxFormat",
        "Identity",
        "Normalize",
        "SanitizeBoundingBoxes",
        "ToDtype",
    }


def test_declarations_on_the_page_are_declarations():
    import torch

    for item in ITEMS:
        for code in (item.code, *item.variants):
            made = eval(code, {"T": T, "torch": torch, "darken": gallery.darken})
            assert type(made).__name__ == item.name
