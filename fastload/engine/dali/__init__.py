"""The DALI engine: NVIDIA DALI decodes, resamples, mirrors and scales the samples that fastload chose and cut."""

from fastload.engine.dali.engine import DaliEngine

__all__ = ["DaliEngine"]
