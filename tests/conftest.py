"""Fixtures that every room's tests share: the real photographs, where they are at hand."""

import contextlib
import gc
import os
import signal
import sys
from pathlib import Path

import platformdirs
import pytest

# A shell that starts the tests in the background makes them, and so every process they start, ignore SIGINT. Tests of
# Ctrl-C need it to count.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests start a hundred processes. Where Python may not keep its bytecode, as in many containers, each compiles the
# source of torch anew, 2 to 6 seconds; so it is kept beside the compiled kernels, for them and for xdist's workers.
if sys.dont_write_bytecode and "PYTHONPYCACHEPREFIX" not in os.environ:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(
        Path(platformdirs.user_cache_dir("fastload", appauthor=False), "bytecode-of-tests")
    )
    sys.dont_write_bytecode = False

# Image folders of tests leave nothing in the user's cache, and no test depends on what an earlier one left there.
os.environ["FASTLOAD_SEEK_CACHE_GB"] = "0"

with contextlib.suppress(ImportError):  # not needed by the tests of a GPU
    from hypothesis import HealthCheck, settings

    # How long an example takes says more about the machine than about the code; and a change must not be refused for
    # an example that chance finds elsewhere: every run has the same ones. --hypothesis-profile=default looks for more.
    settings.register_profile("fastload", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("fastload")

REPOSITORY = Path(__file__).resolve().parent.parent


def real_data_directory() -> Path:
    """The folder of real photographs beside the checkout, or where FASTLOAD_TEST_DATA says."""
    return Path(os.environ.get("FASTLOAD_TEST_DATA", REPOSITORY.parent / "shared" / "data"))


def _require(name: str) -> Path:
    folder = real_data_directory() / name
    if not folder.exists():
        pytest.skip(f"the real data set {name!r} is not at hand (set FASTLOAD_TEST_DATA to the folder that holds it)")
    return folder


@pytest.fixture(scope="session")
def imagenet_sample() -> Path:
    """400 original ImageNet JPEGs in wnid folders."""
    return _require("imagenet-sample")


@pytest.fixture(scope="session")
def imagenette() -> Path:
    """Ten classes, train/ and val/, 224 x 224 pixels."""
    return _require("imagenette")


@pytest.fixture(scope="session")
def coco128() -> Path:
    """128 COCO photographs with boxes and masks."""
    return _require("coco128")


@pytest.fixture(scope="session")
def mobilenet_v2() -> Path:
    """MobileNetV2 weights for ImageNet."""
    return _require("mobilenet_v2") / "mobilenet_v2.safetensors"


def pytest_collection_finish():
    """What is imported by now is never garbage: gc.collect(), which many tests call, need not look at it again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    """At the end of the process it is."""
    gc.unfreeze()


def pytest_addoption(parser):
    group = parser.getgroup("fuzz", "the long mutation job (-m fuzz)")
    group.addoption("--fuzz-inputs", type=int, default=1_000_000, help="inputs of all parsers together")
    group.addoption("--fuzz-seed", type=int, default=1)
    group.addoption("--fuzz-report", help="file to which a line is added for each parser")


@pytest.fixture
def own_side_cache(tmp_path_factory, monkeypatch):
    """What is kept of remote data sets beside the user's cache: nothing of one test is known to another."""
    folder = tmp_path_factory.mktemp("user-cache")
    monkeypatch.setattr("fastload.dataset.remote.user_cache_directory", lambda: folder)
