"""What the DALI engine does beside one resampling: every plan, against what the CPU engine makes of the same draws."""

import contextlib
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.engine.base import OpenSlot, Request
from fastload.engine.cpu import CpuEngine
from fastload.engine.cpu.programs import edit_image
from fastload.engine.dali import DaliEngine
from fastload.engine.dali.delivery import Deliverer
from fastload.engine.dali.samples import edit_by_torch
from fastload.errors import ConfigError
from fastload.stats import Stats
from tests.engine.helpers import MemoryDataset, jpeg, make_slot, picture

FILES = [jpeg(picture(70 + 5 * i, 120 - 4 * i, seed=i), quality=92) for i in range(12)]
SIZES = MemoryDataset(FILES).sizes(np.arange(12))
FLOATS = [T.ToDtype(torch.float32, scale=True), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
HALVES = [T.ToDtype(torch.bfloat16, scale=True), T.Normalize([0.5] * 3, [0.25] * 3)]
# Nothing of it is resampled: DALI's pixels are the CPU engine's, and all that follows may be compared as it is.
FLIPS = [T.RandomHorizontalFlip(), T.RandomVerticalFlip()]
CROP = [T.RandomCrop(48), *FLIPS]
OPERATION = [T.RandomInvert(0.5), T.RandomEqualize(0.5)]
VIEWS = T.MultiView([CROP, [T.CenterCrop((20, 30)), T.ColorJitter(0.5)], [*OPERATION, T.RandomCrop(16)]])


class Indexed(MemoryDataset):
    """Knows the sizes of its images, whatever has become of them."""

    def sizes(self, ids):
        return SIZES[ids]


def darken(image, parameters):
    image[:] = image // 2


@pytest.fixture
def make_engine():
    made = []

    def make(engine, plan, *, files=FILES, stats=None, proven=False, **options):
        dataset = Indexed(files)
        dataset.proven = proven
        made.append(engine(dataset, plan.output, num_workers=2, stats=stats or Stats(), **options))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def request(plan, epoch=1, ids=range(12), rows=None):
    """Some of the files, the last in the first row."""
    ids = np.array(ids)
    draws = plan.draw(seed=3, epoch=epoch, ids=ids, sizes=SIZES[ids])
    asked = Request(rows=np.arange(len(ids))[::-1].copy() if rows is None else np.array(rows), draws=draws)
    return lambda: asked


def with_both(make_engine, plan):
    slots = [make_slot(12, plan.output) for _ in range(2)]
    for engine, slot in zip((CpuEngine, DaliEngine), slots, strict=True):
        assert make_engine(engine, plan).submit(request(plan), slot).result() == ()
    return slots


@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
@pytest.mark.parametrize(
    "chain",
    [
        [T.RandomCrop(48, padding=9, fill=(9, 200, 31)), *FLIPS],
        [*CROP, T.ColorJitter(0.4, 0.4, 0.4, 0.1), T.RandomGrayscale(0.3)],
        [*CROP, T.ColorJitter(0.4, 0.4, 0.4, 0.1), *FLOATS],
        [*CROP, T.RandomChoice([T.RandomEqualize(), T.RandomAutocontrast()]), T.RandomSolarize(77), T.RandomErasing()],
        [*CROP, *HALVES, T.RandomErasing(0.7, value="random")],
        [*OPERATION, *CROP],
        [T.RandomPosterize(3, 0.7), *CROP, T.ColorJitter(0.4)],
        [*CROP, T.RandAugment(), T.RandomErasing(0.5)],
        [*CROP, T.TrivialAugmentWide(), *FLOATS],
        [*CROP, T.Lambda(darken), T.RandomInvert(0.5)],
        [T.Lambda(darken), T.RandomInvert(0.5), *CROP],
        [T.RandomCrop(48, padding=9, padding_mode="reflect"), *FLIPS],
        [VIEWS],
        [VIEWS, *HALVES],
    ],
)
def test_what_follows_the_resampling_is_the_cpu_engines(make_engine, chain, memory_format):
    plan = compile_plan(chain)
    plan = dataclasses.replace(plan, output=plan.output.altered(memory_format=memory_format))
    expected, found = with_both(make_engine, plan)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 100


@pytest.mark.parametrize(
    "chain",
    [
        [T.RandomRotation(30, interpolation="bilinear", fill=7), T.CenterCrop(48)],
        [T.RandomRotation(90, expand=True), T.CenterCrop(64), *CROP, T.RandomInvert(0.5)],
        [T.RandomPerspective(p=0.7, fill=(1, 200, 3)), T.CenterCrop(48), *FLIPS],
        [T.RandomAffine(20, (0.1, 0.1), (0.8, 1.2), 10), T.RandomCrop(48, padding=9, fill=3)],
        [T.MultiView([[T.RandomRotation(30), T.CenterCrop(40)], CROP])],
        [*CROP, T.AugMix()],
        [*CROP, T.GaussianBlur(5), T.GaussianNoise()],
        [T.GaussianBlur(5), *CROP],
    ],
)
def test_maps_blurs_and_sums_are_within_a_level_of_the_cpu_engines(make_engine, chain):
    expected, found = with_both(make_engine, compile_plan(chain))
    difference = np.abs(found.astype(int) - expected)
    assert (difference > 0).mean() < 0.01
    assert (difference > 1).mean() < 5e-4, "where a rounding of the last bit says which of two pixels is the nearest"


@pytest.mark.parametrize(
    ("chain", "most", "mean"),
    [
        ([T.RandomResizedCrop(40, scale=(0.3, 1.0)), *FLIPS, T.ColorJitter(0.2)], 2, 0.5),
        ([T.RandomZoomOut((3, 200, 4)), T.Resize((40, 40))], 2, 0.5),
        ([T.RandomRotation(20, interpolation="bilinear"), T.RandomResizedCrop(40)], 2, 0.5),
        ([T.MultiView([[T.RandomResizedCrop(40), *FLIPS], [T.RandomResizedCrop(24), T.ColorJitter(0.2)]])], 2, 0.5),
        ([T.MultiCrop(size=(32, 16), count=(2, 4), transforms=FLIPS)], 2, 0.5),
    ],
)
def test_the_whole_is_within_the_tolerance_of_resampling(make_engine, chain, most, mean):
    """Which is a level, or two where contrast grows, but for the borders of crops that are made smaller."""
    expected, found = with_both(make_engine, compile_plan(chain))
    difference = np.abs(found.astype(int) - expected)
    assert difference.mean() <= mean
    assert (difference > most).mean() < 0.04
    assert difference.max() <= 32


@pytest.mark.parametrize("proven", [False, True])
@pytest.mark.parametrize("chain", [[*CROP, T.ColorJitter(0.4)], [*OPERATION, *CROP], [VIEWS]])
def test_damaged_files_cost_neither_the_batch_nor_the_engine(make_engine, chain, proven):
    plan, files = compile_plan(chain), list(FILES)
    files[4], files[9] = files[4][: len(files[4]) // 2], b"no image"
    slot, reference = make_slot(12, plan.output), make_slot(12, plan.output)
    make_engine(CpuEngine, plan, files=files).submit(request(plan), reference).result()
    engine = make_engine(DaliEngine, plan, files=files, proven=proven)
    for _ in range(2):
        pending = [engine.submit(request(plan), slot), engine.submit(request(plan), make_slot(12, plan.output))]
        assert [[failure.sample_id for failure in one.result()] for one in pending] == [[9, 4]] * 2
    good = [row for row in range(12) if row not in (2, 7)]
    for found, expected in zip(in_views(slot, plan), in_views(reference, plan), strict=True):
        np.testing.assert_array_equal(found[good], expected[good])


def in_views(slot, plan):
    """The images of each view in a slot."""
    ends = np.cumsum([len(slot) * np.prod(view.image_shape) for view in plan.output.views])
    return [part.reshape(len(slot), -1) for part in np.split(slot.reshape(-1), ends[:-1])]


@pytest.mark.parametrize("chain", [[*CROP, T.ColorJitter(0.4), *FLOATS], [VIEWS, *FLOATS], [VIEWS, *HALVES]])
def test_an_open_slot_holds_what_an_array_would_and_takes_substitutes(make_engine, chain):
    plan = compile_plan(chain)
    files = [*FILES[:5], b"no image", *FILES[6:]]
    engine, opened, slot = make_engine(DaliEngine, plan, files=files), OpenSlot(), make_slot(12, plan.output)
    for ids, rows, failed in ((range(12), None, [6]), ([2], [6], [])):
        for target in (opened, slot):
            failures = engine.submit(request(plan, ids=ids, rows=rows), target).result()
            assert [failure.row for failure in failures] == failed
    images = torch.from_dlpack(opened.images)
    if images.dtype == torch.bfloat16:
        images = images.view(torch.int16)
    np.testing.assert_array_equal(images.numpy(), slot.view(np.int16) if slot.dtype == np.uint16 else slot)


@pytest.mark.parametrize("edit", [edit_image, edit_by_torch])
def test_either_may_carry_out_what_comes_before_the_resampling(make_engine, edit):
    plan = compile_plan([T.RandomInvert(0.5), T.RandomEqualize(0.5), T.RandomSolarize(90), T.Lambda(darken), *CROP])
    expected, found = make_slot(12, plan.output), make_slot(12, plan.output)
    make_engine(CpuEngine, plan).submit(request(plan), expected).result()
    make_engine(DaliEngine, plan, edit=edit).submit(request(plan), found).result()
    np.testing.assert_array_equal(found, expected)


class Moment:
    """Stands in for torch.cuda.Event: what is under way ends when the test says so."""

    passed = False

    def __init__(self):
        self.recorded = 0

    def record(self, stream=None):
        self.recorded += 1

    def query(self):
        return Moment.passed


@pytest.mark.parametrize("chain", [[*CROP, T.ColorJitter(0.4)], [VIEWS], [T.RandomCrop(48, padding=9, fill=5)]])
def test_on_a_device_a_stream_finishes_images_and_the_takers_waits_for_it(make_engine, chain, monkeypatch):
    """With stand-ins for CUDA's streams: DALI's memory is kept until it has been read, and nobody takes it too soon."""
    plan, waited, used = compile_plan(chain), [], []
    theirs = SimpleNamespace(wait_event=waited.append)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: "ours")
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext(stream))
    monkeypatch.setattr(torch.cuda, "Event", Moment)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: theirs)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: used.append(stream))
    expected, engine = make_slot(12, plan.output), make_engine(DaliEngine, plan)
    engine.submit(request(plan), expected).result()
    deliverer = engine._feeder._deliverer = Deliverer(plan.output, torch.device("cuda", 0))
    for passed, held in ((False, 1), (False, 2), (True, 1)):
        Moment.passed = passed
        slot = OpenSlot()
        assert engine.submit(request(plan), slot).result() == ()
        assert not waited
        np.testing.assert_array_equal(torch.from_dlpack(slot.images).numpy(), expected)
        assert waited.pop().recorded == 1
        assert used.pop() is theirs
        assert len(deliverer._held) == held


def test_requests_of_every_kind_take_turns(make_engine):
    """The pipeline is built anew where one asks for more than it has; the others notice nothing of it."""
    one = dataclasses.replace(compile_plan(VIEWS).output.views[0], further=())
    sizes = [one, dataclasses.replace(one, height=16, width=16)]
    output = dataclasses.replace(one, further=tuple(sizes[1:]))
    kinds = [[CROP, [T.RandomCrop(16)]], [CROP, [T.RandomCrop(16), *OPERATION]], [CROP, [*OPERATION, T.RandomCrop(16)]]]
    plans = [compile_plan(T.MultiView(views)) for views in kinds]
    assert all(plan.output == output for plan in plans)
    turns = [plans[i] for i in (0, 1, 0, 2, 2, 0, 1)]
    results = []
    for kind in (CpuEngine, DaliEngine):
        engine, slots = make_engine(kind, plans[0]), [make_slot(12, output) for _ in turns]
        pending = [engine.submit(request(plan), slot) for plan, slot in zip(turns, slots, strict=True)]
        assert all(one.result() == () for one in pending)
        results.append(slots)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("engine", [CpuEngine, DaliEngine])
@pytest.mark.parametrize("early", [False, True])
def test_what_a_function_of_the_user_raises_is_his_and_the_engine_goes_on(make_engine, engine, early):
    fails = T.Lambda(lambda image, parameters: 1 // 0)
    plan, good = compile_plan([fails, *CROP] if early else [*CROP, fails]), compile_plan([*CROP, T.ColorJitter(0.4)])
    made, slot, expected = make_engine(engine, good), *(make_slot(12, good.output) for _ in range(2))
    pending = [made.submit(request(one), slot) for one in (good, plan, good)]
    with pytest.raises(ZeroDivisionError):
        pending[1].result()
    assert pending[2].result() == ()
    make_engine(CpuEngine, good).submit(request(good), expected).result()
    np.testing.assert_array_equal(slot, expected)


def test_spans_and_counters_say_where_the_time_went(make_engine):
    plan, stats = compile_plan([T.RandomInvert(1.0), *CROP, T.ColorJitter(0.4)]), Stats()
    make_engine(DaliEngine, plan, stats=stats).submit(request(plan), make_slot(12, plan.output)).result()
    assert list(stats.spans()) == ["plan", "read", "decode", "before", "augment"]
    assert stats.spans()["before"].items == 12
    assert stats.counts()["decoder.dali"] == 12
    assert stats.counts()["bytes.read"] == sum(map(len, FILES))


def test_what_dali_has_not_in_a_further_view_is_said_at_once(make_engine):
    plan = compile_plan(T.MultiView([CROP, [T.RandomResizedCrop(16, interpolation="area")]]))
    with pytest.raises(ConfigError, match='engine="dali" has no area interpolation'):
        make_engine(DaliEngine, plan)
