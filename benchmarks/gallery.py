"""Draws the page of all transforms, fastload/transforms/README.md, with its pictures: python -m benchmarks.gallery.

Every picture comes out of a Loader: the transform as it is written on the page, on a scene of fastload's demo.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import fastload
from benchmarks.gallery_items import NOT_DRAWN, SECTIONS, Item, darken
from fastload import transforms as T
from fastload.demo.scenes import Draw, draw_picture, noise_plane

os.environ["FASTLOAD_SEEK_CACHE_GB"] = "0"  # nothing is noted of the scenes

FOLDER = Path(T.__file__).parent
PAGE, PICTURES = FOLDER / "README.md", FOLDER / "pictures"
_HEIGHT, _WIDTH, _GAP = 120, 160, 4
_MOST_BYTES = 12_000
_BOX, _POINT, _MASK = (255, 240, 0), (255, 0, 60), (0, 220, 255)

# (seed, key, class, number) of the scene, and what is in it: a star and a ball, by hand.
_SCENE = (11, 5, 4, 2)
_STAR = [(382, 141), (334, 227), (425, 292), (312, 273), (274, 364), (252, 266), (138, 256), (238, 215), (204, 118)]
_STAR += [(288, 191)]
_BALL = [(382 + 26 + 25 * np.cos(a), 160 + 24 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 24, endpoint=False)]
_TIPS = [0, 2, 4, 6, 8]  # corners of the star that are its keypoints
# Others, for what mixes images.
_OTHERS = ((11, 5, 4, 2), (11, 5, 5, 1), (11, 5, 6, 2), (11, 5, 4, 3))


def main() -> None:
    """Draws what the arguments name, everything without; the page is written anew."""
    chosen = set(sys.argv[1:])
    PICTURES.mkdir(exist_ok=True)
    items = [item for section in SECTIONS for item in section.items if item.drawn]
    for old in PICTURES.glob("*.webp"):
        if old.stem not in {item.name for item in items}:
            old.unlink()
    with tempfile.TemporaryDirectory(prefix="fastload-gallery-") as name:
        scene, others = _write_scene(Path(name)), _write_others(Path(name))
        for item in items:
            if chosen and item.name not in chosen:
                continue
            draw_item(item, scene, others)
    PAGE.write_text(page())


def draw_item(item: Item, scene: Path, others: Path) -> None:
    """Writes the picture of one transform."""
    strip = _strip(list(_mixed(item, others) if item.mixes else _cells(item, scene)))
    size = _save(strip, PICTURES / f"{item.name}.webp")
    print(f"{item.name}: {size} bytes")


def page() -> str:
    """The page, from the declarations' own words and the items' notes."""
    parts = [
        "# The transforms",
        "Written by `python -m benchmarks.gallery`. `from fastload import transforms as T`: torchvision v2's names, "
        "argument order and defaults. In each picture the first is the image as it was (500 x 375 pixels, resized), "
        "the others are four draws, made by a `Loader`. *Pixels* says how far levels (0 to 255) may lie from "
        "torchvision v2's on uint8 tensors for the same parameters, as tests hold it; where nothing is said of "
        "parameters, they have torchvision's distribution.",
        "Boxes (yellow), masks (blue) and keypoints (red) are drawn where a transform moves them; operations on pixels "
        "leave them alone.",
    ]
    for section in SECTIONS:
        parts.append(f"## {section.title}")
        if section.text:
            parts.append(section.text)
        for item in section.items:
            parts.append(f"### {item.name}")
            parts.append(f"`{item.code.replace('T.', '')}`")
            parts.append(_words(getattr(T, item.name)) + (f" {item.note}" if item.note else ""))
            if item.pixels:
                parts.append(f"*Pixels: {item.pixels}.*")
            if item.drawn:
                parts.append(f"![{item.name}](pictures/{item.name}.webp)")
    parts.append("## Beside them")
    parts.append("\n".join(f"- `{name}`: {text}" for name, text in NOT_DRAWN.items()))
    return "\n\n".join(parts) + "\n"


def _words(declaration: type) -> str:
    """What its docstring says before the arguments, without Sphinx's marks."""
    before = re.split(r"\n\s*(?:Args|Raises):", declaration.__doc__ or "")[0]
    return re.sub(r":class:`(\w+)`", r"`\1`", " ".join(before.split()).replace("``", "`"))


def _scene() -> Image.Image:
    seed, key, label, number = _SCENE
    return draw_picture(Draw(seed, key, label, number), label, noise_plane(0))


def _write_scene(root: Path) -> Path:
    """Shards of the scene with boxes, masks and keypoints, by way of COCO's layout."""
    folder = root / "scene"
    folder.mkdir()
    picture = _scene()
    picture.save(folder / "scene.jpg", quality=95, subsampling=0)
    objects = [(1, _STAR, _TIPS), (2, _BALL, [])]
    annotations = []
    for number, (category, polygon, tips) in enumerate(objects):
        corners = np.array(polygon)
        (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        points = [[*polygon[tip], 2] for tip in tips] or [[0, 0, 0]] * len(_TIPS)
        annotations.append(
            {
                "id": number,
                "image_id": 0,
                "category_id": category,
                "bbox": [left, top, right - left, bottom - top],
                "segmentation": [corners.reshape(-1).tolist()],
                "iscrowd": 0,
                "keypoints": [value for point in points for value in point],
                "num_keypoints": len(tips),
            }
        )
    names = [f"tip{number}" for number in range(len(_TIPS))]
    table = {
        "images": [{"id": 0, "file_name": "scene.jpg", "width": picture.width, "height": picture.height}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "star", "keypoints": names}, {"id": 2, "name": "ball", "keypoints": names}],
    }
    (root / "scene.json").write_text(json.dumps(table))
    fastload.convert(str(root / "scene.json"), str(root / "shards"), images=str(folder), masks=True)
    return root / "shards"


def _write_others(root: Path) -> Path:
    for place, (seed, key, label, number) in enumerate(_OTHERS):
        (root / "others" / f"{place}").mkdir(parents=True)
        picture = draw_picture(Draw(seed, key, label, number), label, noise_plane(0))
        picture.save(root / "others" / f"{place}" / "0.jpg", quality=95, subsampling=0)
    return root / "others"


def _loader(data: Path, code: str, **options: Any) -> fastload.Loader:
    chain = eval(f"[{code}]", {"T": T, "darken": darken})
    return fastload.Loader(data, transforms=chain, num_workers=1, **options)


def _cells(item: Item, scene: Path) -> Iterator[Image.Image]:
    """The image as it was, and four draws of it (or one of each of the item's variants)."""
    yield from _draws(item, scene, f"T.Resize(({_HEIGHT}, {_WIDTH}))", 1)
    if item.views:
        with _loader(scene, item.code, batch_size=1, seed=item.seed) as loader:
            for batch in loader:
                yield from (_shown(view[0], None) for view in batch.images)
        return
    for code in item.variants or (item.code,):
        yield from _draws(item, scene, item.chain(code), 1 if item.variants else 4)


def _draws(item: Item, scene: Path, code: str, count: int) -> Iterator[Image.Image]:
    options = {"targets": "list"} if item.moves else {}
    with _loader(scene, code, batch_size=1, seed=item.seed, **options) as loader:
        for epoch in range(count):
            loader.set_epoch(epoch)
            for batch in loader:
                yield _shown(batch.images[0], batch.targets[0] if item.moves else None)


def _mixed(item: Item, others: Path) -> Iterator[Image.Image]:
    with _loader(others, item.chain(item.code), batch_size=4, shuffle=False, seed=item.seed) as loader:
        for batch in loader:
            yield from (_shown(image, None) for image in batch.images)


def _shown(image: torch.Tensor, target: Any) -> Image.Image:
    levels: NDArray[np.uint8] = image.permute(1, 2, 0).float().clamp(0, 255).byte().numpy()
    if target is None:
        return Image.fromarray(levels)
    painted = levels.astype(np.float32)
    if "masks" in target and len(target["masks"]):
        where = target["masks"].numpy().astype(bool).any(axis=0)
        painted[where] = painted[where] * 0.55 + np.array(_MASK, np.float32) * 0.45
    shown = Image.fromarray(painted.astype(np.uint8))
    canvas = ImageDraw.Draw(shown)
    for left, top, right, bottom in target["boxes"].tolist():
        canvas.rectangle((left, top, right - 1, bottom - 1), outline=_BOX, width=1)
    for points in target.get("keypoints", torch.zeros(0, 0, 3)).tolist():
        for x, y, visible in points:
            if visible:
                canvas.ellipse((x - 2, y - 2, x + 2, y + 2), fill=_POINT)
    return shown


def _strip(cells: Sequence[Image.Image]) -> Image.Image:
    strip = Image.new("RGB", (sum(cell.width + _GAP for cell in cells) - _GAP, _HEIGHT), (255, 255, 255))
    left = 0
    for cell in cells:
        strip.paste(cell, (left, 0))
        left += cell.width + _GAP
    return strip


def _save(strip: Image.Image, path: Path) -> int:
    """As good as _MOST_BYTES allow."""
    for quality in range(84, 10, -6):
        buffer = io.BytesIO()
        strip.save(buffer, "WEBP", quality=quality, method=6)
        if buffer.tell() <= _MOST_BYTES:
            break
    path.write_bytes(buffer.getvalue())
    return buffer.tell()


if __name__ == "__main__":
    main()
