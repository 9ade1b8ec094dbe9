"""One behaviour suite for every engine: rows, failures, order, types, pixels, cancellation and the end of threads."""

import contextlib
import gc
import threading

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from fastload.engine.base import LateSlot, Request, Requests
from fastload.engine.cpu import CpuEngine
from fastload.engine.dali import DaliEngine
from fastload.errors import ConfigError, FastloadError
from fastload.stats import Stats
from tests.engine.helpers import (
    BIAS,
    SCALE,
    DiskDataset,
    MemoryDataset,
    decoded,
    eventually,
    jpeg,
    make_draws,
    make_output,
    make_slot,
    picture,
    pillow_reference,
    threads_of_engines,
    whole_images,
)

ENGINES = {"cpu": CpuEngine, "dali": DaliEngine}
DECODERS = {"cpu": "decoder.fastload", "dali": "decoder.dali"}
STAGES = {"cpu": ("plan", "read", "decode", "resize"), "dali": ("plan", "read", "decode")}


@pytest.fixture(params=sorted(ENGINES))
def make_engine(request):
    made = []

    def make(dataset, output, num_workers=2, stats=None):
        engine = ENGINES[request.param](dataset, output, num_workers=num_workers, stats=stats or Stats())
        made.append(engine)
        return engine

    make.name = request.param
    yield make
    for engine in made:
        engine.close()


@pytest.fixture(params=[MemoryDataset, DiskDataset])
def make_dataset(request):
    """Samples that only the data set can read, and samples that an engine may read by itself."""
    made = []

    def make(*args, **options):
        made.append(request.param(*args, **options))
        return made[-1]

    yield make
    for dataset in made:
        dataset.close()


def assert_like_pillow(make_engine, image, reference, step=1.0):
    """Within one grey level (of size ``step``); with DALI not so in the outermost rows and columns, see DaliEngine."""
    difference = np.abs(image.astype(np.float64) - reference) / step
    if make_engine.name == "dali":
        assert difference.mean() <= 0.5
        assert difference.max() <= 24
        difference = difference[1:-1, 1:-1]
    assert difference.max() <= 1.01


@pytest.fixture(scope="module")
def files():
    return [jpeg(picture(60 + 7 * i, 80 + 5 * i, seed=i), quality=90) for i in range(20)]


def test_each_row_holds_the_sample_that_was_asked_for(make_engine, make_dataset, files):
    dataset, output = make_dataset(files), make_output()
    ids, rows = [3, 7, 3, 0, 19], [4, 1, 0, 6, 2]
    slot = make_slot(8, output)
    untouched = slot[[3, 5, 7]].copy()
    plan = whole_images(dataset, output, ids=ids, rows=rows, flips=[False, True, True, False, False])
    assert make_engine(dataset, output).submit(plan, slot).result() == ()
    for item, (sample, row) in enumerate(zip(ids, rows, strict=True)):
        reference = pillow_reference(decoded(files[sample]), plan().draws, item, output)
        assert_like_pillow(make_engine, slot[row], reference)
    np.testing.assert_array_equal(slot[[3, 5, 7]], untouched)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("size", [(32, 48), (7, 5)])
def test_stored_values_are_scaled_and_rounded_once(make_engine, make_dataset, files, dtype, size):
    dataset, output, levels = make_dataset(files), make_output(size, dtype), make_output(size)
    slot, grey = make_slot(20, output), make_slot(20, levels)
    make_engine(dataset, output).submit(whole_images(dataset, output), slot).result()
    make_engine(dataset, levels).submit(whole_images(dataset, levels), grey).result()
    if dtype == "uint8":
        np.testing.assert_array_equal(slot, grey)
        return
    values = torch.from_numpy(grey).to(torch.float32) * torch.tensor(SCALE) + torch.tensor(BIAS)
    expected = values.to({"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}[dtype])
    ours = torch.from_numpy(slot.view(np.int16) if dtype == "bfloat16" else slot)
    ours = ours.view(torch.bfloat16) if dtype == "bfloat16" else ours
    # DALI subtracts and multiplies where the CPU engine multiplies and adds: a last bit of float32 may differ.
    tolerance = {} if make_engine.name == "dali" else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(ours, expected, **tolerance)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("size", [(64, 48), (45, 81), (7, 5)])
def test_contiguous_slots_hold_the_values_of_channels_last_ones(make_engine, make_dataset, files, dtype, size):
    """Windows reach beyond the grid here and there, so that black is stored too."""
    dataset = make_dataset(files)
    height, width = size
    slots = []
    for memory_format in ("channels_last", "contiguous"):
        output = make_output(size, dtype, memory_format=memory_format)
        draws = make_draws(
            range(20),
            [(i, 2 * i, 40, 40 - i) for i in range(20)],
            output,
            grids=[(height + 2 * i - 20, width + 20 - 2 * i) for i in range(20)] if height > 20 else None,
            windows=[(i // 2 - 5, 5 - i // 2, *size) for i in range(20)],
            flips=[i % 2 for i in range(20)],
        )
        slots.append(make_slot(20, output))
        request = Request(rows=np.arange(20)[::-1].copy(), draws=draws)
        assert make_engine(dataset, output).submit(lambda request=request: request, slots[-1]).result() == ()
    assert slots[1].shape == (20, 3, *size)
    np.testing.assert_array_equal(slots[1], slots[0].transpose(0, 3, 1, 2))
    assert len(np.unique(slots[0])) > 100


def test_a_whole_pipeline_equals_torchvision(make_engine, make_dataset, files):
    output = make_output((64, 64), "float32")
    dataset = make_dataset(files)
    boxes = [(3, 5, 40, 50), (0, 0, 60, 80), (20, 10, 33, 44)]
    plan_draws = make_draws([0, 1, 2], boxes, output, flips=[False, True, False])
    slot = make_slot(3, output)
    make_engine(dataset, output).submit(lambda: Request(rows=np.arange(3), draws=plan_draws), slot).result()
    normalise = v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    for row, (top, left, height, width) in enumerate(boxes):
        image = torch.from_numpy(decoded(files[row]).copy()).permute(2, 0, 1)
        image = v2.functional.resized_crop(image, top, left, height, width, [64, 64], antialias=True)
        image = v2.functional.horizontal_flip(image) if plan_draws.flip[row] else image
        expected = normalise(v2.functional.to_dtype(image, torch.float32, scale=True)).permute(1, 2, 0).numpy()
        assert_like_pillow(make_engine, slot[row], expected, step=max(SCALE))


def test_failures_are_named_and_leave_the_others_alone(make_engine, make_dataset, files):
    stats = Stats()
    dataset = make_dataset([*files[:6], b"", files[0][:2000], b"not an image at all"], refused=[2])
    output = make_output()
    sizes = [(60, 80)] * 9
    draws = make_draws(range(9), [(0, 0, *size) for size in sizes], output)
    slot = make_slot(9, output)
    request = Request(rows=np.arange(9)[::-1].copy(), draws=draws)
    failures = make_engine(dataset, output, stats=stats).submit(lambda: request, slot).result()
    assert [(failure.row, failure.sample_id) for failure in failures] == [(0, 8), (1, 7), (2, 6), (6, 2)]
    assert [failure.key for failure in failures] == ["sample-8", "sample-7", "sample-6", "sample-2"]
    assert failures[3].path == "memory/2"
    assert failures[3].reason == "it does not match its checksum"
    for sample in (0, 1, 3, 4, 5):
        reference = pillow_reference(decoded(files[sample]), draws, sample, output)
        assert_like_pillow(make_engine, slot[8 - sample], reference)
    assert stats.counts()[DECODERS[make_engine.name]] == 5
    assert stats.spans()["read"].items == 9


def test_a_box_outside_the_image_is_a_failure(make_engine, make_dataset, files):
    dataset, output = make_dataset(files), make_output()
    boxes = [(0, 0, 60, 80), (0, 0, 61, 80), (-0.5, 0, 60, 80), (0, 79, 10, 2), (0, 0, 0, 5), (0, np.nan, 1, 1)]
    draws = make_draws([0] * 6, boxes, output)
    failures = make_engine(dataset, output).submit(
        lambda: Request(rows=np.arange(6), draws=draws), make_slot(6, output)
    )
    assert [failure.row for failure in failures.result()] == [1, 2, 3, 4, 5]
    assert "80 x 60" in failures.result()[0].reason


def test_requests_are_served_in_order_and_planned_once_off_the_calling_thread(make_engine, files):
    dataset, output = MemoryDataset(files), make_output()
    engine = make_engine(dataset, output, num_workers=1)
    planned = []

    def planning(number):
        def plan():
            planned.append((number, threading.current_thread()))
            return whole_images(dataset, output, ids=[number])()

        return plan

    pending = [engine.submit(planning(number), make_slot(1, output)) for number in range(10)]
    assert [one.result() for one in reversed(pending)] == [()] * 10
    assert [number for number, _ in planned] == list(range(10))
    assert dataset.reads == list(range(10))
    assert threading.current_thread() not in [thread for _, thread in planned]


def test_planning_needs_no_slot_and_writing_waits_for_one(files):
    """The CPU engine: batches are planned meanwhile, none is begun before the one in front of it has its slot."""
    dataset, output = MemoryDataset(files), make_output()
    free, planned, asked = [], [], threading.Semaphore(0)
    with contextlib.closing(CpuEngine(dataset, output, num_workers=2)) as engine:

        def late(number):
            def plan():
                planned.append(number)
                return whole_images(dataset, output, ids=[number])()

            def take(at_once):
                asked.release()
                return free.pop() if free else make_slot(2, output) if at_once else None

            return engine.submit(plan, LateSlot(1, take))

        first, second, third = (late(number) for number in range(3))
        assert asked.acquire(timeout=60)
        assert eventually(lambda: sorted(planned) == [0, 1, 2])
        assert dataset.reads == []
        free.append(make_slot(2, output))
        engine.waker()()
        assert eventually(lambda: dataset.reads == [0])
        assert first.result() == ()
        assert (second.result(), third.result()) == ((), ())  # they are waited for, and get slots at once
    assert dataset.reads == [0, 1, 2]
    assert first.starved > 0


@pytest.mark.parametrize("num_workers", [1, 3, 8])
def test_pixels_do_not_depend_on_the_number_of_threads(make_engine, make_dataset, files, num_workers):
    dataset, output = make_dataset(files), make_output((40, 40), "float16")
    plan = whole_images(dataset, output, flips=[i % 2 for i in range(20)])
    slots = [make_slot(20, output) for _ in range(2)]
    make_engine(dataset, output, num_workers=1).submit(plan, slots[0]).result()
    make_engine(dataset, output, num_workers=num_workers).submit(plan, slots[1]).result()
    np.testing.assert_array_equal(slots[0], slots[1])


def test_what_planning_raises_reaches_result_and_the_engine_goes_on(make_engine, files):
    dataset, output = MemoryDataset(files), make_output()
    engine = make_engine(dataset, output)

    def plan():
        raise ZeroDivisionError("in the plan")

    bad = engine.submit(plan, make_slot(1, output))
    good = engine.submit(whole_images(dataset, output, ids=[1]), make_slot(1, output))
    with pytest.raises(ZeroDivisionError, match="in the plan"):
        bad.result()
    assert good.result() == ()


def test_a_fault_of_the_engine_itself_reaches_result(make_engine, files):
    dataset, output = MemoryDataset(files), make_output()
    dataset.read_into = lambda sample_id, buffer: 1 // 0
    with pytest.raises(ZeroDivisionError):
        make_engine(dataset, output).submit(whole_images(dataset, output), make_slot(20, output)).result()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: {"rows": r.rows + 1},
        lambda r: {"rows": np.zeros_like(r.rows)},
        lambda r: {"ids": r.draws.ids + 18},
        lambda r: {"ids": r.draws.ids - 1},
        lambda r: {"grid": r.draws.grid * 0},
        lambda r: {"window": r.draws.window + 1},
        lambda r: {"box": r.draws.box[:, :3]},
        lambda r: {"flip": r.draws.flip[:1]},
    ],
)
def test_a_plan_that_does_not_fit_is_refused(make_engine, files, spoil):
    dataset, output = MemoryDataset(files), make_output()
    request = whole_images(dataset, output, ids=[0, 1, 2])()
    changed = spoil(request)
    draws = make_draws(request.draws.ids, request.draws.box, output)
    parts = {name: changed.get(name, getattr(draws, name)) for name in ("ids", "box", "grid", "window", "flip")}
    bad = Request(rows=changed.get("rows", request.rows), draws=type(draws)(**parts))
    with pytest.raises(ConfigError):
        make_engine(dataset, output).submit(lambda: bad, make_slot(3, output)).result()


def test_requests_that_were_planned_together_are_served_one_by_one(make_engine, make_dataset, files):
    dataset, output = make_dataset(files), make_output()
    engine = make_engine(dataset, output)
    ids = [i % len(files) for i in range(11)]
    boxes = [(i, 2 * i, 60 - 2 * i, 80 - 3 * i) for i in range(11)]
    draws = make_draws(ids, boxes, output, flips=[i % 2 for i in range(11)])
    together = Requests(draws=draws, starts=(0, 4, 8, 8, 11))
    slots = [make_slot(4, output) for _ in range(4)]
    pending = [engine.submit(lambda place=i: together[place], slot) for i, slot in enumerate(slots)]
    assert [one.result() for one in pending] == [()] * 4
    alone = make_slot(11, output)
    engine.submit(lambda: Request(rows=np.arange(11), draws=draws), alone).result()
    np.testing.assert_array_equal(np.concatenate([slots[0], slots[1], slots[3][:3]]), alone)
    assert (slots[2] == 0xA5).all()
    assert (slots[3][3:] == 0xA5).all()


def test_one_bad_request_does_not_spoil_those_that_were_planned_with_it(make_engine, make_dataset, files):
    dataset, output = make_dataset(files), make_output()
    engine = make_engine(dataset, output)
    draws = make_draws([0, 1, 2, len(files), 4, 5], [(0, 0, 60, 80)] * 6, output)
    together = Requests(draws=draws, starts=(0, 2, 4, 6))
    for place in (0, 2):
        assert engine.submit(lambda place=place: together[place], make_slot(2, output)).result() == ()
    with pytest.raises(ConfigError, match="samples of the data set"):
        engine.submit(lambda: together[1], make_slot(2, output)).result()
    with pytest.raises(ConfigError, match="rows of the slot"):
        engine.submit(lambda: together[0], make_slot(1, output)).result()


def test_a_slot_that_does_not_fit_is_refused(make_engine, files):
    dataset, output = MemoryDataset(files), make_output()
    engine = make_engine(dataset, output)
    slot = make_slot(4, output)
    for bad in (slot[:, :, :-1], slot.astype(np.float32), slot[..., ::-1], slot[0], slot[::2, ...][:, ::1].T):
        with pytest.raises(ConfigError):
            engine.submit(whole_images(dataset, output, ids=[0]), bad)


def test_an_empty_request_is_served(make_engine, make_dataset, files):
    dataset, output = make_dataset(files), make_output()
    nothing = Request(rows=np.zeros(0, np.int64), draws=make_draws([], [], output))
    assert make_engine(dataset, output).submit(lambda: nothing, make_slot(2, output)).result() == ()


def test_cancelled_work_leaves_the_slot_alone(make_engine, files):
    dataset, output = MemoryDataset(files), make_output()
    engine = make_engine(dataset, output, num_workers=1)
    dataset.gate.clear()
    slots = [make_slot(20, output) for _ in range(2)]
    first, second = (engine.submit(whole_images(dataset, output), slot) for slot in slots)
    assert eventually(lambda: dataset.reads == [0])
    cancelling = threading.Thread(target=first.cancel)
    cancelling.start()
    assert eventually(lambda: first._job.error is not None)
    second.cancel()  # by the same lock: the first has been stopped
    assert cancelling.is_alive(), "cancel() waits for the image that is being worked on"
    dataset.gate.set()
    cancelling.join()
    assert dataset.reads == [0], "work went on after cancel()"
    assert (slots[0][1:].view(np.uint8) == 0xA5).all()
    assert (slots[1].view(np.uint8) == 0xA5).all()
    with pytest.raises(FastloadError, match="cancelled"):
        first.result()
    assert engine.submit(whole_images(dataset, output), slots[0]).result() == ()


def test_cancelling_what_is_finished_changes_nothing(make_engine, files):
    dataset, output = MemoryDataset(files), make_output()
    pending = make_engine(dataset, output).submit(whole_images(dataset, output), make_slot(20, output))
    assert pending.result() == ()
    pending.cancel()
    assert pending.result() == ()


def test_close_ends_every_thread_and_may_be_repeated(make_engine, files):
    dataset, output = MemoryDataset(files), make_output()
    before = set(threading.enumerate())  # some of them may be about to end
    engine = make_engine(dataset, output, num_workers=3)
    assert set(threading.enumerate()) - before
    pending = [engine.submit(whole_images(dataset, output), make_slot(20, output)) for _ in range(20)]
    engine.close()
    engine.close()
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not left - {"fastload-close"}, "which end what the collector finds of other tests"
    with pytest.raises(FastloadError, match="closed"):
        pending[-1].result()
    with pytest.raises(FastloadError, match="closed"):
        engine.submit(whole_images(dataset, output), make_slot(20, output))


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_abandoned_engines_leave_no_threads(name, files):
    dataset, output = MemoryDataset(files), make_output()
    gc.collect()
    before = set(threading.enumerate())
    for _ in range(10 if name == "cpu" else 2):
        engine = ENGINES[name](dataset, output, num_workers=2, stats=Stats())
        pending = engine.submit(whole_images(dataset, output), make_slot(20, output))
    assert pending.result() == (), "a pending batch keeps its engine at work"
    del engine, pending
    assert eventually(lambda: not set(threading.enumerate()) - before), threads_of_engines()


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_an_engine_that_only_its_batch_holds_still_delivers(name, files):
    dataset, output = MemoryDataset(files), make_output()
    pending = ENGINES[name](dataset, output, num_workers=1, stats=Stats()).submit(
        whole_images(dataset, output), make_slot(20, output)
    )
    assert pending.result() == ()


def test_spans_and_counters_name_every_stage(make_engine, make_dataset, files):
    dataset, output, stats = make_dataset(files), make_output(), Stats()
    make_engine(dataset, output, stats=stats).submit(whole_images(dataset, output), make_slot(20, output)).result()
    spans = stats.spans()
    assert {stage: span.items for stage, span in spans.items()} == dict.fromkeys(STAGES[make_engine.name], 20)
    assert all(span.seconds > 0 for span in spans.values())
    assert stats.counts() == {"bytes.read": sum(map(len, files)), DECODERS[make_engine.name]: 20}


@pytest.mark.parametrize("engine", ENGINES.values())
@pytest.mark.parametrize(
    "change",
    [
        {"height": 0},
        {"width": 100_000},
        {"scale": (2.0, 1.0, 1.0)},
        {"dtype": "float32", "scale": (float("nan"), 1.0, 1.0)},
    ],
)
def test_an_output_that_cannot_be_is_refused(files, engine, change):
    import dataclasses

    with pytest.raises(ConfigError):
        engine(MemoryDataset(files), dataclasses.replace(make_output(), **change), num_workers=1)
    with pytest.raises(ConfigError, match="num_workers"):
        engine(MemoryDataset(files), make_output(), num_workers=0)
