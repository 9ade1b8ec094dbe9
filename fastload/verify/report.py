"""What verify says: findings, repairs, and the account of each shard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

# done, total, findings so far
Progress = Callable[[int, int, int], None]

# What a finding is about: dataset.json; index.arrow; a tar that is missing or has another size; one that is another
# shard of the data set; one whose checksum alone is off; its headers; a sample's bytes; .idx; .seek; conversion.jsonl.
Kind = Literal["manifest", "index", "shard", "name", "checksum", "tar", "sample", "idx", "seek", "ledger"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: What it is about.
        file: Name of the file in the data set.
        key: The sample, where it is about one.
        reason: One sentence.
        sample: Number of the sample, -1 where it is about none.
    """

    kind: Kind
    file: str
    reason: str
    key: str | None = None
    sample: int = -1


@dataclass(frozen=True, kw_only=True)
class Repair:
    """Something that was repaired.

    Attributes:
        file: Name of the file in the data set.
        key: The sample, where it is about one.
        action: "restored" (the bytes are the original ones again), "dropped" (the sample is no longer in the index),
            "renamed" (a tar got its name back), "rebuilt" (a file was written anew), "noted" (a checksum was taken
            anew) or "impossible" (nothing was done).
        reason: One sentence.
    """

    file: str
    action: Literal["restored", "dropped", "renamed", "rebuilt", "noted", "impossible"]
    reason: str
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """One shard, or one directory of an image folder: its samples, their bytes, and how many findings it has."""

    name: str
    samples: int
    num_bytes: int
    findings: int


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What verify found.

    Attributes:
        path: The data set.
        storage: "shards", "folder" or "beton".
        samples: How many the data set has.
        decoded: Images that were decoded now.
        shards: The account of each shard, in order.
        findings: All that is off; after a repair, all that is still off.
        repairs: What was repaired.
        seconds, cpu_seconds: Time that the checks took on the clock, and processor time of all threads.
    """

    path: str
    storage: Literal["shards", "folder", "beton"]
    samples: int
    decoded: int
    shards: tuple[ShardReport, ...]
    findings: tuple[Finding, ...]
    repairs: tuple[Repair, ...] = ()
    seconds: float
    cpu_seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing is off."""
        return not self.findings

    @property
    def images_per_second(self) -> float:
        """Images decoded in a second."""
        return self.decoded / self.seconds if self.seconds > 0 else 0.0

    @property
    def cpu_ms_per_image(self) -> float:
        """Processor time of an image in milliseconds."""
        return 1000 * self.cpu_seconds / self.decoded if self.decoded else 0.0

    def to_json(self) -> dict[str, Any]:
        """The report for machines."""
        speed = {"images_per_second": self.images_per_second, "cpu_ms_per_image": self.cpu_ms_per_image}
        return {"ok": self.ok} | asdict(self) | speed
