"""The CPU engine: threads that read and decode, and compiled kernels that crop, resample, flip, scale and store."""

from fastload.engine.cpu.engine import CpuEngine

__all__ = ["CpuEngine"]
