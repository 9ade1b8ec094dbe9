"""A run of the suite as a user starts it, stored, and compared with what is stored."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks.harness.datasets import REPOSITORY


@pytest.fixture
def photographs(tmp_path):
    """Eight small JPEGs."""
    random = np.random.default_rng(0)
    (tmp_path / "photographs").mkdir()
    for number in range(8):
        coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((280, 260), Image.Resampling.BICUBIC)
        image.save(tmp_path / "photographs" / f"{number}.jpg", quality=95)
    return tmp_path / "photographs"


def run(photographs, *options):
    # A run that is started by one of several workers would take itself for one, and a worker measures nothing.
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_XDIST")}
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-c", "benchmarks/pytest.ini", "benchmarks/test_loaders.py"),
            *("--data", photographs, "--samples", "16", "--pipelines", "eval224-fp16", "--batch-sizes", "8"),
            *("--threads", "1", "--peers", "fastload-folder", "--rounds", "2", *options),
        ],
        cwd=REPOSITORY,
        env=own | {"FASTLOAD_BENCH_CACHE": str(photographs.parent / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_run_is_stored_and_compared_with(photographs, tmp_path):
    stored = tmp_path / "stored.json"
    first = run(photographs, f"--benchmark-json={stored}")
    assert first.returncode == 0, first.stdout + first.stderr
    content = json.loads(stored.read_text())
    (entry,) = content["benchmarks"]
    cpu = entry["extra_info"]["cpu_ms_per_image"]
    assert entry["stats"]["median"] == pytest.approx(sum(cpu) / 2000, rel=0.01)
    assert entry["extra_info"]["memory_mib"] >= entry["extra_info"]["torch_memory_mib"] > 20

    # Beside a run a hundred times as slow it passes; beside one a hundred times as fast it fails.
    stats = dict(entry["stats"])
    for factor, passes in ((100, True), (0.01, False)):
        for name in ("min", "max", "mean", "median", "q1", "q3", "iqr", "stddev"):
            entry["stats"][name] = stats[name] * factor
        other = tmp_path / f"times-{factor}.json"
        other.write_text(json.dumps(content))
        second = run(photographs, f"--benchmark-compare={other}", "--benchmark-compare-fail=median:10%")
        assert (second.returncode == 0) is passes, second.stdout + second.stderr
        assert "fastload-folder" in second.stdout
        assert ("regressed" in second.stdout + second.stderr) is not passes
