"""`import fastload` is cheap: it loads none of the heavy packages that parts of it need."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "numba", "llvmlite", "pyarrow", "numpy", "PIL", "pydantic", "webdataset", "simplejpeg")


def modules_after(statement: str) -> set[str]:
    """The top-level packages that a fresh interpreter holds after a statement."""
    code = (
        f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    return set(json.loads(result.stdout))


def test_import_loads_nothing_heavy():
    assert modules_after("import fastload").isdisjoint(HEAVY)


def test_listing_the_public_names_loads_nothing_heavy():
    assert modules_after("import fastload; dir(fastload); fastload.__version__").isdisjoint(HEAVY)


def test_errors_and_transforms_come_without_torch_and_numba():
    assert modules_after("from fastload import DataError; import fastload.transforms").isdisjoint(
        {"torch", "torchvision", "numba", "pyarrow"}
    )


def test_every_public_name_resolves():
    import fastload

    for name in fastload.__all__:
        assert getattr(fastload, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Lodaer'"):
        _ = fastload.Lodaer
