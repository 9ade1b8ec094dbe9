"""Takes WebDataset shards that others wrote as they lie: an index and seek indexes beside them, no tar is changed."""

from __future__ import annotations

from fastload.adopt.run import AdoptSummary, index_shards

__all__ = ["AdoptSummary", "index_shards"]
