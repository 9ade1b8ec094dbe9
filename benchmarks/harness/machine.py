"""The hardware and the versions that a result depends on, without the machine's name."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = (
    "fastload numpy numba llvmlite torch torchvision pillow simplejpeg opencv-python opencv-python-headless ffcv "
    "nvidia-dali-cuda130 nvidia-dali-cuda120 webdataset albumentations spdl litdata mosaicml-streaming pytest-benchmark"
).split()


def describe() -> dict[str, Any]:
    """Processor, memory, system, Python and the versions of what is compared."""
    fields: dict[str, str] = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "processor": fields.get("model name", platform.processor() or platform.machine()),
        "family": f"{fields.get('cpu family', '?')}/{fields.get('model', '?')}",
        "architecture": platform.machine(),
        "vector_units": sorted(flags & {"avx2", "avx512bw", "avx512vbmi", "asimd", "sve"}),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "versions": versions,
    }
