"""What a user may ask of a conversion, checked once."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Final

from fastload.errors import ConfigError

_UNITS: Final = {"": 1, "b": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("kmgt", start=1)
    for suffix, base in (("", 1024), ("ib", 1024), ("b", 1000))
}
_SMALLEST_SHARD: Final = 64 << 10


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything that decides which bytes a conversion writes, besides the source.

    Attributes:
        shard_size: Source bytes that go into one shard, at most (a larger sample has a shard to itself).
        seed: Order of the samples: a permutation drawn from the seed, or None for the order of the source.
        max_side: Longest side in pixels; larger images are reduced to it. None leaves them.
        quality: JPEG quality at which every image is encoded anew, 1 to 100. None keeps the original bytes.
        raw: Whether pixels are stored in place of JPEG files; needs ``max_side``.
        dali_labels: Whether each sample has a member .lbl, the label as 8 bytes, which DALI can read.
        tiles: Whether JPEGs are rewritten without loss with restart tiles.
        part: Where the part of each class that is converted begins and ends, as fractions; None for all of it.
        part_seed: Draws the part.
        classes: The classes that are converted; None for all, and for samples without one.
    """

    shard_size: int
    seed: int | None
    max_side: int | None
    quality: int | None
    raw: bool = False
    dali_labels: bool
    tiles: bool = False
    part: tuple[float, float] | None = None
    part_seed: int = 0
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _in_range("shard_size", self.shard_size, _SMALLEST_SHARD, 1 << 50)
        _in_range("seed", self.seed, 0, (1 << 64) - 1)
        _in_range("part_seed", self.part_seed, 0, (1 << 64) - 1)
        if self.part_seed and self.part is None:
            raise ConfigError("part_seed draws a part: say which with part, such as 0:0.9")
        _in_range("max_side", self.max_side, 1, 65500)
        _in_range("quality", self.quality, 1, 100)
        if self.raw and self.max_side is None:
            raise ConfigError("raw pixels take ten times the room of a JPEG: say with max_side how large images may be")
        if self.raw and self.quality is not None:
            raise ConfigError("quality is for JPEGs, and raw stores pixels: choose one of them")

    def to_json(self) -> dict[str, Any]:
        """The options as they stand in dataset.json; those that came later only where they are used."""
        options = asdict(self)
        for name in ("raw", "tiles", "part", "part_seed", "classes"):
            if not options[name]:
                del options[name]
            elif isinstance(options[name], tuple):  # as JSON has it
                options[name] = list(options[name])
        return options


def _in_range(name: str, value: int | None, low: int, high: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} must be a whole number from {low:,} to {high:,}, not {value!r}")


def parse_size(text: str | int) -> int:
    """Bytes from ``"256MiB"``, ``"1.5GB"``, ``"64k"`` or a number; M and MiB count in 1024s, MB in 1000s.

    Raises:
        ConfigError: It is not a size.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(text))
    if match is None or match[2].lower() not in _UNITS:
        raise ConfigError(f"expected a size such as 256MiB, 1GB or 1000000, not {text!r}")
    return int(float(match[1]) * _UNITS[match[2].lower()])
