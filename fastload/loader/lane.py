"""An engine with the slots that it fills: what a batch passes through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from fastload.engine.base import Engine, OpenSlot


class Slots(Protocol):
    """Where an engine's slots come from and go to: a Ring, or OpenSlots.

    Attributes:
        num_added: Slots that had to be made because all others were still seen.
    """

    num_added: int

    def take(self) -> Any: ...

    def give_back(self, slot: Any) -> None: ...

    def reclaim(self) -> None: ...


class OpenSlots:
    """Slots without memory, for an engine that brings its own."""

    num_added = 0

    def take(self) -> OpenSlot:
        return OpenSlot()

    def give_back(self, slot: OpenSlot) -> None:
        """There is nothing to be had back."""

    def reclaim(self) -> None:
        """As little."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Lane:
    """An engine and the slots that it fills.

    Attributes:
        engine: Fills slots.
        slots: What it fills.
        share: Share of the batches that take this lane, 0 to 1; the shares of all lanes are 1 together.
    """

    engine: Engine
    slots: Slots
    share: float = 1.0
