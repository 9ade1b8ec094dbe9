"""The kernels, compiled once for all tests of this room."""

import pytest

from fastload.jpeg.decoder import warm_up, warm_up_indexer


@pytest.fixture(scope="session", autouse=True)
def compiled():
    """Every kernel is ready."""
    warm_up()
    warm_up_indexer()
