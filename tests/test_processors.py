"""The number of processors follows the affinity mask and a cgroup's grant."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastload import processors


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_follows_the_affinity_of_the_process() -> None:
    one = min(os.sched_getaffinity(0))
    program = (
        f"import os; os.sched_setaffinity(0, [{one}]);"
        "from fastload.processors import available_processors; print(available_processors())"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2),
        ("50000 100000\n", 1),
        ("250000 100000\n", 3),
        ("100000 0\n", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_reads_what_a_cgroup_grants(tmp_path: Path, text: str, expected: int | None) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(text)
    assert processors._granted(str(path)) == expected


def test_no_cgroup_is_no_limit(tmp_path: Path) -> None:
    assert processors._granted(str(tmp_path / "missing")) is None
