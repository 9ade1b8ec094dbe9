"""The account of an epoch: how many samples were expected, read and skipped, and which ones, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from fastload.stats import Span

# Skipped samples are always counted; past this number an epoch no longer lists them one by one, so that a data set
# that is broken as a whole does not fill the memory with its complaints.
MAX_LISTED: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """One sample that could not be delivered and what stood in for it.

    Attributes:
        sample_id: Number of the sample.
        key: Name of the sample.
        path: File or shard that it lies in.
        reason: Why it could not be delivered.
        replacement_id: Number of the sample that was delivered in its place.
        replacement_key: Name of that sample.
        batch: Number of the batch in the epoch.
    """

    sample_id: int
    key: str
    path: str
    reason: str
    replacement_id: int
    replacement_key: str
    batch: int


@dataclass(frozen=True, kw_only=True)
class EpochLedger:
    """What one rank was handed in one epoch; ``read + num_skipped == expected`` always.

    Attributes:
        epoch: Number of the epoch.
        first_batch: Batch at which this iteration began: 0, or where a resumed run went on.
        batches: Batches handed to the user so far.
        expected: Samples that these batches owe the user (padding is not counted).
        read: Samples that were delivered themselves.
        num_skipped: Samples that a replacement stood in for.
        skipped: The skipped samples, in order (the first MAX_LISTED of an epoch).
        complete: Whether the epoch was read to its end.
    """

    epoch: int
    first_batch: int
    batches: int
    expected: int
    read: int
    num_skipped: int
    skipped: tuple[Skipped, ...]
    complete: bool


@dataclass(frozen=True, kw_only=True)
class LoaderStats:
    """Where the time went, and the account of the epoch.

    Attributes:
        spans: Seconds and items per stage since the Loader was made, in the order in which a sample passes them
            (fastload.stats.STAGES).
        counts: Counters by name: decoders used, bytes read, slots added because batches were kept.
        epoch: Account of the epoch that is being read, or that was read last; None before the first.
        engine: What reads, and why: "cpu (as asked for)"; before the first epoch what was asked for.
    """

    spans: dict[str, Span]
    counts: dict[str, int]
    epoch: EpochLedger | None
    engine: str

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain dicts, lists, numbers and strings, ready for JSON."""
        return asdict(self)


class Ledger:
    """Keeps the account of one epoch; written by the user's thread alone, batch by batch as they are handed over."""

    def __init__(self, *, epoch: int, first_batch: int) -> None:
        self._epoch = epoch
        self._first_batch = first_batch
        self._batches = 0
        self._expected = 0
        self._num_skipped = 0
        self._skipped: list[Skipped] = []
        self._complete = False

    def enter(self, *, expected: int, skipped: Sequence[Skipped]) -> None:
        """One batch was handed to the user: ``expected`` samples, of which ``skipped`` were replaced."""
        self._batches += 1
        self._expected += expected
        self._num_skipped += len(skipped)
        self._skipped.extend(skipped[: MAX_LISTED - len(self._skipped)])

    def close(self) -> None:
        """The epoch was read to its end."""
        self._complete = True

    def read_out(self) -> EpochLedger:
        """The account as it stands."""
        return EpochLedger(
            epoch=self._epoch,
            first_batch=self._first_batch,
            batches=self._batches,
            expected=self._expected,
            read=self._expected - self._num_skipped,
            num_skipped=self._num_skipped,
            skipped=tuple(self._skipped),
            complete=self._complete,
        )
