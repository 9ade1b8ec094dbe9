"""An engine with the slots that it fills: what a batch passes through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from fastload.engine.base import Engine, LateSlot, OpenSlot

# A slot more is worth its memory where, of so many batches, this share of the time was lost for want of one.
_BATCHES: Final = 8
_LOST: Final = 0.04


class Slots(Protocol):
    """Where an engine's slots come from and go to: a Ring, or OpenSlots.

    Attributes:
        num_added: Slots that had to be made because all others were still seen.
        on_return: Called when a slot has come back.
    """

    num_added: int
    on_return: Callable[[], None] | None

    def take(self) -> Any: ...

    def take_spare(self) -> Any: ...

    def grow(self) -> None: ...

    def give_back(self, slot: Any) -> None: ...

    def reclaim(self) -> None: ...


class OpenSlots:
    """Slots without memory, for an engine that brings its own."""

    num_added = 0
    on_return: Callable[[], None] | None = None

    def take(self) -> OpenSlot:
        return OpenSlot()

    take_spare = take

    def grow(self) -> None:
        """There are always enough."""

    def give_back(self, slot: OpenSlot) -> None:
        """There is nothing to be had back."""

    def reclaim(self) -> None:
        """As little."""


class Shortage:
    """What batches lost because there was no slot to begin with them in."""

    def __init__(self) -> None:
        self._batches = 0
        self._lost = 0.0
        self._elapsed = 0.0

    def note(self, lost: float, elapsed: float) -> bool:
        """A batch came ``lost`` seconds late, ``elapsed`` after the one before; whether a slot more is worth it."""
        self._batches += 1
        self._lost += lost
        self._elapsed += elapsed
        if self._batches < _BATCHES:
            return False
        worth_it = self._lost > _LOST * self._elapsed
        self._batches, self._lost, self._elapsed = 0, 0.0, 0.0
        return worth_it


@dataclass(frozen=True, eq=False, kw_only=True)
class Lane:
    """An engine and the slots that it fills.

    Attributes:
        engine: Fills slots.
        slots: What it fills.
        share: Share of the batches that take this lane, 0 to 1; the shares of all lanes are 1 together.
        shortage: Of slots.
    """

    engine: Engine
    slots: Slots
    share: float = 1.0
    shortage: Shortage = field(default_factory=Shortage)

    def promise(self, rows: int) -> LateSlot | OpenSlot:
        """A slot for so many rows, which is taken when it is needed."""
        slots = self.slots
        if isinstance(slots, OpenSlots):
            return slots.take()
        return LateSlot(rows, lambda at_once: slots.take() if at_once else slots.take_spare())
