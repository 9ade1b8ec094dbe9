"""The demo's pictures: the same from every process, every kind of JPEG among them, and no cue alone gives the class."""

import hashlib
import itertools
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from torchvision.datasets import ImageFolder

from fastload.demo.render import encode_picture, planned_data, render_data
from fastload.demo.scenes import CLASS_CUES, CLASS_NAMES, Draw, noise_plane
from fastload.errors import ConfigError, DataError

NUM_TRAIN, NUM_VAL = 360, 120


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return render_data(tmp_path_factory.mktemp("demo"), num_train=NUM_TRAIN, num_val=NUM_VAL, seed=0)


def files(folder):
    return sorted(folder.rglob("*.jpg"))


def digests(folder):
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files(folder)}


def test_another_process_with_other_threads_writes_the_same_bytes(tmp_path):
    here = render_data(tmp_path / "here", num_train=40, num_val=20, seed=3, num_threads=2)
    program = (
        "import sys; from fastload.demo.render import render_data; "
        "render_data(sys.argv[1], num_train=40, num_val=20, seed=3, num_threads=5); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "there")], check=True, timeout=600)
    assert digests(tmp_path / "here") == digests(tmp_path / "there")
    assert len(files(here.train)) == 40


def test_pictures_are_those_of_the_whole_set_one_by_one(data):
    """A picture depends on its number alone, not on how many there are."""
    noise = noise_plane(0)
    for label, number in ((0, 0), (4, 1), (9, 7)):
        path = data.train / CLASS_NAMES[label] / f"{number:05d}.jpg"
        assert path.read_bytes() == encode_picture(0, "train", label, number, noise)


def test_every_picture_is_another_one(data, tmp_path):
    other = render_data(tmp_path, num_train=20, num_val=10, seed=1)
    seen = [digest for folder in (data.train, data.val, other.train) for digest in digests(folder).values()]
    assert len(set(seen)) == NUM_TRAIN + NUM_VAL + 20


def test_random_streams_are_pinned():
    draw = Draw(0, 2, 7, 11)
    values = [draw.uniform(0, 1), draw.integer(0, 1000), draw.uniform(-1, 1), draw.chance(0.5)]
    assert values == [0.04489040529816424, 977, -0.14102308170857758, False]


def test_classes_are_equal_and_numbered_as_image_folder_does(data):
    for folder, size in ((data.train, NUM_TRAIN), (data.val, NUM_VAL)):
        reference = ImageFolder(folder)
        assert tuple(reference.classes) == data.classes
        assert Counter(reference.targets) == dict.fromkeys(range(10), size // 10)


def test_exactly_one_file_is_truncated(data):
    def is_whole(path):
        try:
            with Image.open(path) as image:
                image.load()
        except OSError:
            return False
        return True

    assert [path for path in files(data.train) + files(data.val) if not is_whole(path)] == [data.truncated]
    assert data.truncated.is_relative_to(data.train)


def test_every_kind_of_jpeg_is_there(data):
    for folder, size in ((data.train, NUM_TRAIN), (data.val, NUM_VAL)):
        kinds, grey_classes = Counter(), Counter()
        for path in files(folder):
            with Image.open(path) as image:
                assert image.format == "JPEG"
                kinds["progressive"] += bool(image.info.get("progressive"))
                kinds[{0: "4:4:4", 2: "4:2:0", -1: "grey"}[JpegImagePlugin.get_sampling(image)]] += 1
                if image.mode == "L":
                    grey_classes[path.parent.name] += 1
        assert 0.10 <= kinds["progressive"] / size <= 0.25
        assert 0.25 <= kinds["4:4:4"] / size <= 0.40
        assert 0.50 <= kinds["4:2:0"] / size <= 0.70
        assert 0.03 <= kinds["grey"] / size <= 0.10
        # A coloured object that is stored without its colour would have no right answer.
        assert set(grey_classes) == {name for name in CLASS_NAMES if name.startswith("grey")}


def test_sizes_are_like_those_of_imagenet(data):
    sizes = []
    for path in files(data.train):
        with Image.open(path) as image:
            sizes.append(image.size)
    long, short = np.array([max(size) for size in sizes]), np.array([min(size) for size in sizes])
    assert (np.median(long), np.median(short)) == pytest.approx((500, 375), abs=20)
    assert long.min() >= 400
    assert long.max() <= 600
    assert len(set(sizes)) > NUM_TRAIN // 4
    standing = sum(height > width for width, height in sizes) / len(sizes)
    assert 0.1 < standing < 0.4


def test_one_cue_or_two_do_not_tell_the_class():
    """What an observer can reach who sees everything about some of the cues and nothing of the others."""

    def reachable(cues):
        return len({tuple(row[cue] for cue in cues) for row in CLASS_CUES}) / len(CLASS_CUES)

    assert [reachable((cue,)) for cue in range(3)] == [0.3, 0.3, 0.3]
    assert max(reachable(pair) for pair in itertools.combinations(range(3), 2)) <= 0.7
    assert reachable((0, 1, 2)) == 1.0


def _nearest_mean_accuracy(data, describe):
    """Of the classifier that knows the mean description of each class."""

    def described(folder):
        rows, labels = [], []
        for path, label in ImageFolder(folder).samples:
            if str(path) == str(data.truncated):
                continue
            with Image.open(path) as image:
                image.draft("RGB", (image.width // 4, image.height // 4))
                rows.append(describe(image.convert("RGB")))
            labels.append(label)
        return np.array(rows), np.array(labels)

    train, labels = described(data.train)
    val, truth = described(data.val)
    means = np.array([train[labels == label].mean(axis=0) for label in range(10)])
    guesses = ((val[:, None] - means) ** 2).sum(axis=-1).argmin(axis=1)
    return (guesses == truth).mean()


def test_colour_alone_is_not_enough(data):
    def histogram(image):
        levels = np.asarray(image).reshape(-1, 3) // 64
        counts = np.bincount(levels @ np.array([16, 4, 1]), minlength=64)
        return np.sqrt(counts / counts.sum())

    assert 0.15 < _nearest_mean_accuracy(data, histogram) < 0.6


def test_the_place_of_light_and_dark_is_not_enough(data):
    def thumbnail(image):
        pixels = np.asarray(image.convert("L").resize((16, 16)), float).ravel()
        return (pixels - pixels.mean()) / pixels.std()

    assert _nearest_mean_accuracy(data, thumbnail) < 0.4


def test_progress_counts_every_picture(tmp_path):
    calls = []
    render_data(tmp_path, num_train=20, num_val=10, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 30) for done in range(1, 31)]


@pytest.mark.parametrize(("num_train", "num_val"), [(19, 10), (20, 9)])
def test_too_few_pictures_are_refused(num_train, num_val):
    with pytest.raises(ConfigError, match="at least 20 pictures to train with and 10 to hold out"):
        planned_data("anywhere", num_train=num_train, num_val=num_val)


def test_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="seed must not be negative"):
        render_data(tmp_path, seed=-1)


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="pictures cannot be written: Not a directory"):
        render_data(tmp_path / "file", num_train=20, num_val=10)
