"""Proves a data set: structure, checksums, and that every image decodes; and repairs what can be repaired."""

from __future__ import annotations

from fastload.verify.report import Finding, Repair, ShardReport, VerifyReport
from fastload.verify.run import verify

__all__ = ["Finding", "Repair", "ShardReport", "VerifyReport", "verify"]
