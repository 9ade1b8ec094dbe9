"""Reports to pytest-benchmark what was measured before, in turns and in other processes."""

from __future__ import annotations


class Replay:
    """A clock that moves on by what was measured.

    Rounds of different programs are interleaved, which pytest-benchmark cannot do by itself: all were measured before
    the first is reported. Its rounds then read this clock, so that statistics, storage and comparison are its own.
    """

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        """One round."""
        self.now += seconds
