"""A .beton file behind a URL gives what the local one gives, bit for bit, whatever the server does."""

import itertools
import pickle
import shutil

import fsspec
import numpy as np
import pytest
from PIL import Image

import fastload as fl
from fastload import transforms as T
from fastload.convert import convert
from fastload.dataset import BetonDataset, RemoteBetonDataset, open_dataset
from fastload.errors import ConfigError, DataError
from fastload.remote import Patience
from fastload.verify import verify
from tests.dataset.test_beton import write_columns
from tests.remote_server import MISDEEDS, serving

TRAIN = [T.RandomResizedCrop(24), T.RandomHorizontalFlip()]
QUICK = Patience(attempts=16, timeout=0.4, slowest=1.0, first_wait=0.002, longest_wait=0.05)
FIELDS = ["image", "label", "blob", "meta", "array", "weight"]


pytestmark = pytest.mark.usefixtures("own_side_cache")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """40 noisy pictures as a .beton of JPEGs with seek indexes, and of pixels; one with every field. Not changed."""
    source, folder = tmp_path_factory.mktemp("noise"), tmp_path_factory.mktemp("betons")
    chance = np.random.default_rng(4)
    for number in range(40):
        (source / "abc"[number % 3]).mkdir(exist_ok=True)
        pixels = chance.integers(0, 256, (120 + number, 130, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(source / "abc"[number % 3] / f"{number:02}.jpg", quality=90)
    convert(source, folder / "jpg.beton")
    convert(source, folder / "other.beton", quality=80)
    convert(source, folder / "raw.beton", raw=True, max_side=140)
    write_columns(folder / "fields.beton", FIELDS)
    return folder


def batches(source, *, epochs=1, state=None, **options):
    found = []
    with fl.Loader(source, batch_size=7, transforms=TRAIN, engine="cpu", num_workers=2, seed=5, **options) as loader:
        if state is not None:
            loader.load_state_dict(state)
        for _ in range(epochs):
            found += [(batch.images.numpy().copy(), batch.labels.tolist(), batch.ids.tolist()) for batch in loader]
    return found


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one[0], other[0])
        assert one[1:] == other[1:]


@pytest.mark.parametrize("shuffle", [True, "local", False])
@pytest.mark.parametrize("name", ["jpg.beton", "raw.beton"])
def test_batches_equal_those_of_the_local_file(files, name, shuffle):
    expected = batches(files / name, epochs=2, shuffle=shuffle)
    with serving(files) as server:
        assert_equal(batches(f"{server.url}/{name}?key=1", epochs=2, shuffle=shuffle), expected)


@pytest.mark.parametrize("name", ["jpg.beton", "raw.beton", "fields.beton"])
def test_samples_fields_and_names_are_the_same(files, name):
    with serving(files) as server:
        with BetonDataset(files / name, image="image", label="label") as local:
            with RemoteBetonDataset(f"{server.url}/{name}", image="image", label="label") as remote:
                ids = np.arange(len(local))
                assert remote.path == f"{server.url}/{name}"
                for what in ("classes", "schema", "fingerprint", "tables_crc32", "extra_names"):
                    assert getattr(remote, what) == getattr(local, what)
                for what in ("labels", "sizes", "num_bytes", "is_raw"):
                    assert np.array_equal(getattr(remote, what)(ids), getattr(local, what)(ids))
                chance = np.random.default_rng(1).permutation(ids)
                for number in [*ids.tolist(), *chance.tolist()]:
                    assert remote[number] == local[number]
                    assert np.array_equal(remote.seek_index(number), local.seek_index(number))
                    for field in local.schema:
                        assert np.array_equal(remote.value(number, field), local.value(number, field))
                if name == "raw.beton":
                    rows = [np.zeros((5, 130, 3), np.uint8) for _ in range(2)]
                    local.read_rows(3, 7, 5, rows[0])
                    remote.read_rows(3, 7, 5, rows[1])
                    assert np.array_equal(*rows)
                    assert rows[0].any()


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_a_misbehaving_server_costs_time_and_nothing_else(files, misdeed):
    expected = batches(files / "jpg.beton")
    share = 0.15 if misdeed in ("stall", "flip") else 0.4
    # The head of the file, which is read first, has no checksum.
    with serving(files, misdeeds=() if misdeed == "flip" else (misdeed,), share=share) as server:
        with RemoteBetonDataset(f"{server.url}/jpg.beton", patience=QUICK, connections=8) as remote:
            server.script.misdeeds = (misdeed,)
            assert_equal(batches(remote), expected)
            for _ in range(20):
                if server.counts()[misdeed]:
                    break
                assert_equal(batches(remote), expected)
        assert server.counts()[misdeed] > 0


def test_pixels_survive_all_that_can_be_noticed_without_checksums(files):
    misdeeds = tuple(misdeed for misdeed in MISDEEDS if misdeed not in ("flip", "stall"))
    with serving(files, misdeeds=misdeeds, share=0.5) as server:
        with RemoteBetonDataset(f"{server.url}/raw.beton", patience=QUICK) as remote:
            assert_equal(batches(remote), batches(files / "raw.beton"))


def test_memory_urls_pickles_and_an_epoch_that_goes_on(files):
    expected = batches(files / "jpg.beton")
    memory = fsspec.filesystem("memory")
    memory.put(str(files), "/remote-beton", recursive=True)
    try:
        url = "memory://remote-beton/jpg.beton"
        assert_equal(batches(url), expected)
        with pickle.loads(pickle.dumps(open_dataset(url))) as copy, BetonDataset(files / "jpg.beton") as local:
            assert type(copy) is RemoteBetonDataset
            assert copy[5] == local[5]
        with fl.Loader(url, batch_size=7, transforms=TRAIN, engine="cpu", seed=5) as loader:
            for _ in itertools.islice(loader, 2):
                state = loader.state_dict()
        assert_equal(batches(url, state=state), expected[2:])
    finally:
        memory.rm("/remote-beton", recursive=True)
    with pytest.raises(DataError, match="there is no such file"):
        open_dataset("memory://remote-beton/jpg.beton")


def test_seek_indexes_are_fetched_once_and_images_kept(files, tmp_path):
    with serving(files) as server:
        url = f"{server.url}/jpg.beton"
        expected = batches(files / "jpg.beton")
        assert_equal(batches(url, cache_dir=tmp_path), expected)
        assert server.names()["jpg.beton.seek"] > 0
        server.forget()
        assert_equal(batches(url, cache_dir=tmp_path), expected)
        assert server.names().keys() == {"jpg.beton", "jpg.beton.json"}
        read = [stop - start for name, start, stop, _ in server.requests if name == "jpg.beton" and stop is not None]
        assert sum(read) < 20_000  # the tables alone
        for name in ("raw.beton", "fields.beton"):
            with pytest.raises(ConfigError, match="cache_dir keeps images whose checksums are known"):
                open_dataset(f"{server.url}/{name}", cache_dir=tmp_path).close()


def test_a_seek_file_of_another_file_is_told_and_not_used(files, tmp_path, caplog):
    for name in ("jpg.beton", "jpg.beton.json"):
        shutil.copy(files / name, tmp_path / name)
    shutil.copy(files / "other.beton.seek", tmp_path / "jpg.beton.seek")
    with serving(tmp_path) as server:
        assert_equal(batches(f"{server.url}/jpg.beton"), batches(files / "jpg.beton"))
        assert "is of another .beton file" in caplog.text
        report = verify(f"{server.url}/jpg.beton")
        assert [finding.kind for finding in report.findings] == ["seek"]


@pytest.mark.parametrize("name", ["jpg.beton", "raw.beton"])
def test_convert_from_a_url_writes_what_convert_writes(files, tmp_path, name):
    convert(files / name, tmp_path / "here")
    with serving(files, misdeeds=("drop", "truncate", "503"), share=0.2) as server:
        convert(f"{server.url}/{name}", tmp_path / "there")
    here, there = ({path.name: path.read_bytes() for path in (tmp_path / at).iterdir()} for at in ("here", "there"))
    assert here == there


def test_verify_by_url_finds_what_is_damaged(files, tmp_path):
    for path in files.glob("jpg.beton*"):
        shutil.copy(path, tmp_path)
    with serving(tmp_path) as server:
        report = verify(f"{server.url}/jpg.beton")
        assert (report.ok, report.storage, report.decoded) == (True, "beton", 40)
        with open_dataset(tmp_path / "jpg.beton") as local:
            _, offsets, sizes = local.extents(np.array([11]))
        with (tmp_path / "jpg.beton").open("r+b") as file:
            file.seek(int(offsets[0] + sizes[0] // 2))
            file.write(b"damaged")
        report = verify(f"{server.url}/jpg.beton")
        assert [(finding.kind, finding.sample) for finding in report.findings] == [("sample", 11)]
        with pytest.raises(DataError, match=r"5 times in a row.*upload it again"):
            with open_dataset(f"{server.url}/jpg.beton") as remote:
                remote[11]


def test_what_is_no_file_of_ffcvs_is_told(files, tmp_path):
    (tmp_path / "x.beton").write_bytes(bytes(10_000))
    with serving(tmp_path) as server:
        with pytest.raises(DataError, match=r"http://.*x\.beton: expected FFCV's file format in version 2"):
            open_dataset(f"{server.url}/x.beton")
        with pytest.raises(DataError, match=r"y\.beton: the server answered 404"):
            open_dataset(f"{server.url}/y.beton")
