"""URLs are told from paths, joined with names, and shown without what is nobody's business."""

import pytest

from fastload.errors import ConfigError, MissingExtraError
from fastload.remote import Patience, is_url, join, local_path, shown
from fastload.remote.origin import open_origin


@pytest.mark.parametrize(
    "text",
    ["http://host/a", "HTTPS://host", "s3://bucket/a b", "memory://x", "hf://datasets/a/b", "simplecache::s3://b/x"],
)
def test_urls(text):
    assert is_url(text)


@pytest.mark.parametrize(
    "text", ["a/b", "/a://b", "C:\\data", "C://data", "./http:/x", "file:///data", "", "://x", "a b://c"]
)
def test_paths(text):
    assert not is_url(text)


def test_file_urls_are_paths():
    assert local_path("file:///data/train") == "/data/train"
    assert local_path("local:///data/train") == "/data/train"
    assert local_path("data/train") == "data/train"


def test_names_are_joined_before_the_query():
    assert join("https://host/a/?key=1&b=2", "shard 1#.tar") == "https://host/a/shard%201%23.tar?key=1&b=2"
    assert join("s3://bucket/train/", "a?b.tar") == "s3://bucket/train/a?b.tar"


def test_secrets_are_not_shown():
    assert shown("https://user:secret@host:8/a/b?key=1") == "https://host:8/a/b"
    assert shown("s3://bucket/train/a?b") == "s3://bucket/train/a?b"
    assert shown("/plain/path?x") == "/plain/path?x"


def test_a_missing_driver_is_named_with_the_command():
    pytest.importorskip("fsspec")
    try:
        import s3fs  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match=r"reading s3:// URLs.*pip install 'fastload\[s3\]'"):
            open_origin("s3://bucket/train", Patience())
    with pytest.raises(ConfigError, match=r"nothing://host/train cannot be read"):
        open_origin("nothing://host/train", Patience())
