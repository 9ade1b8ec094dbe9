"""One picture of the demo's data set: a textured object before a cluttered background, drawn from (seed, number)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SHAPES: Final[tuple[str, ...]] = ("disc", "star", "triangle")
COLOURS: Final[tuple[str, ...]] = ("warm", "cool", "grey")
TEXTURES: Final[tuple[str, ...]] = ("striped", "dotted", "checked")

# (shape, colour, texture) of each class. Who knows one cue is right in 3 of 10 cases, who knows two in at most 7 of
# 10; these ten of the 27 combinations have the smallest such bounds, with each value in three or four classes.
CLASS_CUES: Final = (
    (0, 0, 0),
    (0, 0, 1),
    (0, 1, 1),
    (0, 2, 0),
    (1, 0, 1),
    (1, 1, 1),
    (1, 1, 2),
    (2, 1, 2),
    (2, 2, 0),
    (2, 2, 2),
)
CLASS_NAMES: Final = tuple(f"{COLOURS[c]}-{TEXTURES[t]}-{SHAPES[s]}" for s, c, t in CLASS_CUES)

# Hue (in turns), saturation and value of each colour family: (low, high) of a uniform draw.
_PALETTES: Final = {
    "warm": ((0.97, 1.13), (0.65, 0.95), (0.65, 0.95)),
    "cool": ((0.50, 0.68), (0.55, 0.90), (0.50, 0.90)),
    "grey": ((0.00, 1.00), (0.00, 0.05), (0.35, 0.85)),
    "any": ((0.00, 1.00), (0.05, 0.65), (0.25, 0.90)),
}

_NOISE_SIDE: Final = 1024


class Draw:
    """Random numbers of one picture, from the two methods of a generator whose streams numpy keeps stable."""

    def __init__(self, *key: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    def uniform(self, low: float, high: float) -> float:
        """A float in [low, high)."""
        return low + (high - low) * float(self._generator.random())

    def integer(self, low: int, high: int) -> int:
        """An int in [low, high]."""
        return int(self._generator.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        """True with ``probability``."""
        return float(self._generator.random()) < probability

    def array(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Floats in [0, 1)."""
        return self._generator.random(shape, dtype=np.float32)

    def colour(self, family: str) -> tuple[int, int, int]:
        """An RGB colour of one of the families in ``COLOURS``, or of any kind (``any``)."""
        (h0, h1), (s0, s1), (v0, v1) = _PALETTES[family]
        return _rgb(self.uniform(h0, h1), self.uniform(s0, s1), self.uniform(v0, v1))


@dataclass(frozen=True, kw_only=True)
class _Placement:
    """Where the object stands: outline and the box of pixels that holds it."""

    outline: list[tuple[float, float]]
    left: int
    top: int
    right: int
    bottom: int


def noise_plane(seed: int) -> NDArray[np.int16]:
    """Film grain that all pictures of a data set cut their piece from: int16 (1024, 1024), mostly -60..60."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 1))))
    # The sum of four uniform bytes is near enough to a normal distribution, and exact on every machine.
    parts = generator.integers(0, 256, (4, _NOISE_SIDE, _NOISE_SIDE), dtype=np.uint8)
    grain: NDArray[np.int16] = (parts.sum(axis=0, dtype=np.int16) - np.int16(510)) // np.int16(4)
    return grain


def draw_picture(draw: Draw, label: int, noise: NDArray[np.int16]) -> Image.Image:
    """Draws one picture of class ``label``.

    Args:
        draw: Random numbers of this picture.
        label: Index into ``CLASS_NAMES``.
        noise: What ``noise_plane`` gave.

    Returns:
        An RGB image, about 500 x 375 pixels, lying or standing.
    """
    width, height = _size(draw)
    shape, colour, texture = CLASS_CUES[label]
    picture = _background(draw, width, height)
    _scatter(draw, picture, count=draw.integer(5, 11))
    place = _place(draw, SHAPES[shape], width, height)
    picture = _paste_object(draw, picture, place, COLOURS[colour], TEXTURES[texture])
    if draw.chance(0.3):
        _blades(draw, picture)
    return _finish(draw, picture, noise)


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    def channel(offset: float) -> int:
        ramp = abs((hue + offset) % 1.0 * 6.0 - 3.0) - 1.0
        return int(255.0 * value * (1.0 - saturation + saturation * min(max(ramp, 0.0), 1.0)) + 0.5)

    return channel(0.0), channel(2.0 / 3.0), channel(1.0 / 3.0)


def _size(draw: Draw) -> tuple[int, int]:
    long_side = 500 if draw.chance(0.6) else draw.integer(400, 600)
    short_side = 375 if long_side == 500 and draw.chance(0.6) else int(long_side * draw.uniform(0.62, 0.90))
    return (short_side, long_side) if draw.chance(0.25) else (long_side, short_side)


def _background(draw: Draw, width: int, height: int) -> Image.Image:
    """A soft field of colours with far, blurred shapes in it, perhaps with a faint pattern over all of it."""
    columns, rows = draw.integer(2, 5), draw.integer(2, 4)
    corners = [draw.colour("any") for _ in range(columns * rows)]
    field = np.array(corners, np.uint8).reshape(rows, columns, 3)
    small = Image.fromarray(field).resize((width // 4, height // 4), Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(small)
    for _ in range(draw.integer(3, 9)):
        x, y = draw.uniform(0, width / 4), draw.uniform(0, height / 4)
        radius = draw.uniform(4, 16)
        canvas.ellipse((x - radius, y - radius * 0.8, x + radius, y + radius * 0.8), fill=draw.colour("any"))
    blurred = small.filter(ImageFilter.BoxBlur(draw.uniform(1.0, 4.0)))
    picture = blurred.resize((width, height), Image.Resampling.BICUBIC)
    if draw.chance(0.4):
        pattern = _pattern(draw, TEXTURES[draw.integer(0, 2)], width, height, period=draw.uniform(24, 60))
        strength = draw.uniform(0.06, 0.16)
        veil = Image.new("RGB", (width, height), draw.colour("any"))
        picture.paste(veil, mask=Image.fromarray((pattern * np.float32(255 * strength)).astype(np.uint8)))
    return picture


def _scatter(draw: Draw, picture: Image.Image, *, count: int) -> None:
    """Small things in any colour: each has at most one of the object's cues."""
    width, height = picture.size
    canvas = ImageDraw.Draw(picture)
    for _ in range(count):
        x, y = draw.uniform(0, width), draw.uniform(0, height)
        radius = draw.uniform(6, 26)
        kind = draw.integer(0, 4)
        fill = draw.colour(("warm", "cool", "grey", "any")[draw.integer(0, 3)])
        if kind <= 2:
            canvas.polygon(_outline(draw, SHAPES[kind], x, y, radius), fill=fill)
        elif kind == 3:
            stride = radius * 0.45
            for step in range(4):
                canvas.rectangle((x + step * stride, y, x + (step + 0.5) * stride, y + radius * 1.6), fill=fill)
        else:
            angle, length = draw.uniform(0, math.pi), radius * 3
            end = (x + length * math.cos(angle), y + length * math.sin(angle))
            canvas.line(((x, y), end), fill=fill, width=draw.integer(2, 7))


def _outline(draw: Draw, shape: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """A polygon for ``shape``, turned, stretched a little and sheared."""
    turn, stretch, shear = draw.uniform(0, 2 * math.pi), draw.uniform(0.82, 1.0), draw.uniform(-0.15, 0.15)
    if shape == "disc":
        corners = [(1.0, 2 * math.pi * i / 48) for i in range(48)]
    elif shape == "star":
        inner = draw.uniform(0.38, 0.46)
        corners = [(1.15 if i % 2 == 0 else inner, math.pi * i / 5) for i in range(10)]
    else:
        corners = [(1.2, 2 * math.pi * i / 3) for i in range(3)]
    points = []
    for length, angle in corners:
        px, py = length * math.cos(angle + turn), stretch * length * math.sin(angle + turn)
        points.append((x + radius * (px + shear * py), y + radius * py))
    return points


def _place(draw: Draw, shape: str, width: int, height: int) -> _Placement:
    short = min(width, height)
    radius = short * draw.uniform(0.28, 0.42)
    margin = radius * 0.85
    # Near the middle, as photographers do: the centre crop of evaluation keeps most of the object.
    x = min(max(width / 2 + draw.uniform(-0.2, 0.2) * short, margin), width - margin)
    y = min(max(height / 2 + draw.uniform(-0.2, 0.2) * short, margin), height - margin)
    outline = _outline(draw, shape, x, y, radius)
    xs, ys = [p[0] for p in outline], [p[1] for p in outline]
    left, top = max(int(min(xs)) - 1, 0), max(int(min(ys)) - 1, 0)
    right, bottom = min(int(max(xs)) + 2, width), min(int(max(ys)) + 2, height)
    return _Placement(outline=outline, left=left, top=top, right=right, bottom=bottom)


def _pattern(draw: Draw, texture: str, width: int, height: int, *, period: float) -> NDArray[np.float32]:
    """Share of the second tone in each pixel, float32 (height, width) in 0..1.

    Only additions, multiplications and roundings, which are exact in IEEE arithmetic: the same on every machine.
    """
    angle = draw.uniform(0, math.pi)
    cos, sin = math.cos(angle) / period, math.sin(angle) / period
    xs, ys = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    phase_u, phase_v = draw.uniform(0, 1), draw.uniform(0, 1)
    u = xs * np.float32(cos) + (ys * np.float32(sin) + np.float32(phase_u))
    if texture == "striped":
        return _soft_step(_triangle_wave(u) - np.float32(0.5), period / 4)
    v = ys * np.float32(cos) - (xs * np.float32(sin) + np.float32(phase_v))
    if texture == "checked":
        return _soft_step((_triangle_wave(u) - np.float32(0.5)) * (_triangle_wave(v) - np.float32(0.5)), period)
    u -= np.floor(u)
    v -= np.floor(v)
    u -= np.float32(0.5)
    v -= np.float32(0.5)
    u *= u
    v *= v
    u += v
    return _soft_step(np.float32(draw.uniform(0.29, 0.34) ** 2) - u, period)


def _triangle_wave(u: NDArray[np.float32]) -> NDArray[np.float32]:
    """0..1..0 with period 1."""
    wave = u - np.floor(u)
    wave -= np.float32(0.5)
    np.abs(wave, out=wave)
    wave *= np.float32(2)
    return wave


def _soft_step(level: NDArray[np.float32], sharpness: float) -> NDArray[np.float32]:
    """0 below zero, 1 above, with an edge of about a pixel."""
    level *= np.float32(sharpness)
    level += np.float32(0.5)
    return np.clip(level, 0, 1, out=level)


def _paste_object(draw: Draw, picture: Image.Image, place: _Placement, family: str, texture: str) -> Image.Image:
    width, height = picture.size
    box = (place.left, place.top, place.right, place.bottom)
    size = (place.right - place.left, place.bottom - place.top)
    picture = _cast_shadow(draw, picture, place.outline)
    first, second = _two_tones(draw, family)
    period = draw.uniform(0.075, 0.115) * min(width, height)
    share = _pattern(draw, texture, *size, period=period * (1.0 if texture == "striped" else 1.15))
    # Light falls from one side: a ramp over the object.
    ramp_x, ramp_y = draw.uniform(-0.22, 0.22), draw.uniform(-0.22, 0.22)
    light = np.linspace(1 - ramp_x, 1 + ramp_x, size[0], dtype=np.float32) + np.linspace(
        -ramp_y, ramp_y, size[1], dtype=np.float32
    ).reshape(-1, 1)
    body = np.empty((size[1], size[0], 3), np.uint8)
    for channel in range(3):
        tone = share * np.float32(second[channel] - first[channel])
        tone += np.float32(first[channel])
        tone *= light
        np.clip(tone, 0, 255, out=tone)
        body[..., channel] = tone
    # Drawn at twice the size and reduced: smooth edges.
    corners = [(2 * (x - box[0]), 2 * (y - box[1])) for x, y in place.outline]
    mask = Image.new("L", (2 * size[0], 2 * size[1]))
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    piece = Image.fromarray(body)
    rim = Image.new("L", mask.size)
    ImageDraw.Draw(rim).line([*corners, corners[0]], fill=255, width=2 * int(0.02 * min(width, height)), joint="curve")
    piece.paste(min(first, second), (0, 0), rim.reduce(2))
    picture.paste(piece, box, mask.reduce(2))
    return picture


def _two_tones(draw: Draw, family: str) -> Sequence[tuple[int, int, int]]:
    """A light and a dark colour of one family."""
    (h0, h1), (s0, s1), _ = _PALETTES[family]
    light = _rgb(draw.uniform(h0, h1), draw.uniform(s0, s1), draw.uniform(0.80, 1.0))
    dark = _rgb(draw.uniform(h0, h1), draw.uniform(s0, s1), draw.uniform(0.28, 0.50))
    return (light, dark) if draw.chance(0.5) else (dark, light)


def _cast_shadow(draw: Draw, picture: Image.Image, outline: list[tuple[float, float]]) -> Image.Image:
    width, height = picture.size
    dx, dy = draw.uniform(-14, 14), draw.uniform(4, 18)
    small = Image.new("L", (width // 4, height // 4))
    depth = draw.integer(90, 170)
    ImageDraw.Draw(small).polygon([((x + dx) / 4, (y + dy) / 4) for x, y in outline], fill=depth)
    shadow = small.filter(ImageFilter.BoxBlur(2)).resize((width, height), Image.Resampling.BILINEAR)
    picture.paste((12, 12, 20), (0, 0), shadow)
    return picture


def _blades(draw: Draw, picture: Image.Image) -> None:
    """Thin things before the object, like grass before a camera."""
    width, height = picture.size
    canvas = ImageDraw.Draw(picture)
    for _ in range(draw.integer(1, 3)):
        x, lean = draw.uniform(0, width), draw.uniform(-0.4, 0.4) * height
        canvas.line(((x, height), (x + lean, height * draw.uniform(-0.1, 0.5))), draw.colour("any"), draw.integer(3, 8))


def _finish(draw: Draw, picture: Image.Image, noise: NDArray[np.int16]) -> Image.Image:
    """Exposure and film grain."""
    width, height = picture.size
    top, left = draw.integer(0, _NOISE_SIDE - height), draw.integer(0, _NOISE_SIDE - width)
    grain = noise[top : top + height, left : left + width] * np.int16(draw.integer(1, 8))
    grain >>= 4
    gain = draw.integer(200, 290)
    pixels = np.asarray(picture).astype(np.int32)
    pixels *= gain
    pixels >>= 8
    pixels += grain[..., None]
    np.clip(pixels, 0, 255, out=pixels)
    return Image.fromarray(pixels.astype(np.uint8))
