"""What training needs of whatever feeds it: the part of a Loader that it uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from fastload.loader import LoaderStats
from fastload.transforms import Transform


class Feed(Protocol):
    """Batches, epoch after epoch; :class:`fastload.Loader` is one, and so is ``SyntheticFeed``."""

    @property
    def batch_size(self) -> int:
        """Rows of a full batch of this process."""
        ...

    def __len__(self) -> int:
        """Batches of an epoch, the same for every process."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """The batches of the epoch that comes next."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes next."""
        ...

    def set_transforms(self, transforms: Iterable[Transform]) -> None:
        """What the next epoch does to each sample."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where the user stands."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next epoch goes on from there."""
        ...

    def stats(self) -> LoaderStats:
        """Where the time went, and the account of the epoch."""
        ...
