"""Whether this machine's DALI decodes a region of a JPEG to the very pixels of the whole: tried once, in a process."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from fastload.engine.dali.graph import decode_region, import_dali
from fastload.jit import user_cache_directory

logger = logging.getLogger("fastload")

_GOOD: Final = "regions are exact"
_SECONDS: Final = 120.0
# Top, left, height and width; the pictures have 203 x 317 pixels.
_REGIONS: Final = ((0, 0, 203, 317), (0, 0, 16, 16), (33, 51, 100, 200), (101, 7, 102, 90), (202, 316, 1, 1))


def regions_are_exact(device_id: int | None) -> bool:
    """True where decoding regions was shown to work with this DALI on this device; the answer is kept in the cache.

    Another process tries it: with some versions and cards decoding a region ends the process (nvImageCodec, issue 55).
    """
    dali = import_dali()
    name = _describe(dali, device_id)
    kept = user_cache_directory() / "dali" / f"regions-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    try:
        return kept.read_text() == _GOOD
    except OSError:
        pass
    command = [sys.executable, "-m", "fastload.engine.dali.probe", "cpu" if device_id is None else str(device_id)]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
        answer = _GOOD if child.returncode == 0 and child.stdout.strip().endswith(_GOOD) else "regions are not exact"
    except (OSError, subprocess.TimeoutExpired):
        return False  # perhaps another time
    if answer != _GOOD:
        logger.warning("DALI on %s cannot decode regions of images: it decodes them whole", name)
    _keep(kept, answer)
    return answer == _GOOD


def _describe(dali: Any, device_id: int | None) -> str:
    if device_id is None:
        return f"DALI {dali.__version__}, CPU"
    import torch

    return f"DALI {dali.__version__}, {torch.cuda.get_device_name(device_id)}, CUDA {torch.version.cuda}"


def _keep(path: Path, answer: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            file.write(answer)
        os.replace(file.name, path)
    except OSError:  # tried again by the next process
        pass


def _pictures() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:203, 0:317]
    smooth = np.stack([127 + 110 * np.sin(x / (5 + c) + c) * np.cos(y / (9 - c)) for c in range(3)], -1)
    pixels = np.clip(smooth + rng.normal(0, 25, smooth.shape), 0, 255).astype(np.uint8)
    files = [simplejpeg.encode_jpeg(pixels, colorsubsampling=kind) for kind in ("420", "422", "444")]
    return [np.frombuffer(file, np.uint8) for file in files]


def _try(device_id: int | None) -> bool:
    dali = import_dali()
    encoded = [picture for picture in _pictures() for _ in _REGIONS]
    regions = np.array(_REGIONS * 3, np.int32)
    device = "cpu" if device_id is None else "mixed"
    pipeline = dali.Pipeline(
        batch_size=len(encoded), num_threads=2, device_id=device_id, prefetch_queue_depth=1, exec_dynamic=True
    )
    with pipeline:
        source = dali.fn.external_source(name="encoded", ndim=1, dtype=dali.types.UINT8)
        cut = dali.fn.external_source(name="cut", ndim=1, dtype=dali.types.INT32)
        pipeline.set_outputs(
            decode_region(dali, source, cut, device, exact_regions=True),
            decode_region(dali, source, cut, device, exact_regions=False),
        )
    pipeline.build()
    pipeline.feed_input("encoded", encoded)
    pipeline.feed_input("cut", regions)
    pipeline.schedule_run()
    outputs = [output if device_id is None else output.as_cpu() for output in pipeline.share_outputs()]
    return all(np.array_equal(np.array(outputs[0].at(i)), np.array(outputs[1].at(i))) for i in range(len(encoded)))


def main() -> None:
    """Says what was found, for ``regions_are_exact`` in the process above."""
    device = sys.argv[1]
    if _try(None if device == "cpu" else int(device)):
        sys.stdout.write(_GOOD)


if __name__ == "__main__":
    main()
