"""The way to a CUDA device; what needs one is marked gpu, the rest of the logic runs everywhere."""

import functools

import numpy as np
import pytest
import torch

from fastload.augment import Output, compile_plan
from fastload.batch import Ring, as_tensor, storage_dtype
from fastload.device import Copy, CudaCopyStream, SlotReturns, normalise_on_device, pinned_memory, resolve_device
from fastload.engine.cpu.kernels.layout import make_constants
from fastload.errors import ConfigError

needs_no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


class FakeEvent:
    """An event that is done when the test says so."""

    def __init__(self):
        self.done = False
        self.waited = 0

    def query(self):
        return self.done

    def synchronize(self):
        self.waited += 1
        self.done = True


@pytest.mark.parametrize("device", [None, "cpu", "cpu:0", torch.device("cpu")])
def test_ordinary_memory_needs_no_device(device):
    assert resolve_device(device) is None


@needs_no_cuda
@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
def test_cuda_without_cuda_is_one_clear_error(device):
    with pytest.raises(ConfigError, match="torch finds no CUDA device: install a driver and a CUDA build of torch, or"):
        resolve_device(device)


@pytest.mark.parametrize("device", ["gpu", "mps", "meta", 1.5, "cuda:x"])
def test_what_is_no_device_of_ours_is_one_clear_error(device):
    with pytest.raises(ConfigError, match="device must be None, 'cpu', 'cuda' or 'cuda:N', not"):
        resolve_device(device)


def test_slots_come_back_in_order_when_their_copies_are_done():
    back: list[str] = []
    returns = SlotReturns(limit=3)
    events = [FakeEvent() for _ in range(2)]
    returns.add(lambda: back.append("first"), events[0])
    returns.add(lambda: back.append("second"), events[1])
    returns.collect()
    assert back == []
    events[1].done = True
    returns.collect()
    assert back == [], "the second copy cannot be done before the first: both are on one stream"
    events[0].done = True
    returns.collect()
    assert back == ["first", "second"]
    assert [event.waited for event in events] == [0, 0], "the host must not wait"


def test_the_host_waits_for_a_copy_only_at_the_limit():
    back: list[int] = []
    returns = SlotReturns(limit=2)
    events = [FakeEvent() for _ in range(3)]
    for number, event in enumerate(events):
        returns.add(functools.partial(back.append, number), event)
        returns.collect()
        assert len(back) >= number, "memory would grow with every copy"
    assert back == [0, 1]
    assert [event.waited for event in events] == [1, 1, 0]
    returns.drain()
    assert back == [0, 1, 2]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_copies_arrive_whole_and_in_the_format_of_the_slot(dtype, memory_format):
    planar = memory_format is torch.contiguous_format
    ring = Ring((8, 3, 16, 12) if planar else (8, 16, 12, 3), storage_dtype(dtype), 2, allocate=pinned_memory)
    stream = CudaCopyStream(torch.device("cuda", 0))
    for number in range(5):
        slot = ring.take()
        slot[...] = number
        images = as_tensor(slot, dtype) if planar else as_tensor(slot, dtype).permute(0, 3, 1, 2)
        labels = torch.arange(8)
        assert images.is_pinned()
        copy = stream.start((images, labels))
        on_device, labels_on_device = stream.hand_over(copy)
        assert on_device.is_contiguous(memory_format=memory_format)
        assert torch.equal(on_device.cpu(), images)
        assert torch.equal(labels_on_device.cpu(), labels)
        copy.done.synchronize()
        ring.give_back(slot)


@pytest.mark.gpu
def test_a_copy_does_not_wait_for_the_users_work_nor_the_host_for_the_copy():
    stream = CudaCopyStream(torch.device("cuda", 0))
    source = torch.zeros(64 << 20, dtype=torch.uint8, pin_memory=True)
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)  # about a second of the user's stream
    copy: Copy = stream.start((source,))
    busy = torch.cuda.Event()
    busy.record()
    copy.done.synchronize()
    assert not busy.query(), "the copy was done only after the user's work"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_normalising_there_stores_the_bits_that_the_cpu_engine_stores(dtype, memory_format, device):
    rng = np.random.default_rng(0)
    # Every grey level of every channel under ImageNet's constants, under awkward ones, and beyond float16's range.
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    looks = [((1 / (255 * std)).tolist(), (-mean / std).tolist())]
    looks += [(rng.normal(0, 1, 3).tolist(), rng.normal(0, 100, 3).tolist()) for _ in range(50)]
    looks += [([300.0, 1e-7, 0.0], [-3.0, 1e-8, 0.1])]
    pixels = np.tile(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), (2, 1, 1, 3))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(memory_format=memory_format).to(device)
    for scale, bias in looks:
        output = Output(
            height=16,
            width=16,
            dtype=dtype,
            scale=tuple(scale),
            bias=tuple(bias),
            interpolation="bilinear",
            antialias=True,
        )
        made = make_constants(output)
        table = made.table4 if dtype == "float32" else made.table2
        expected = as_tensor(np.ascontiguousarray(table), dtype).view(3, 16, 16).expand(2, 3, 16, 16)
        constants = [torch.tensor(values, dtype=torch.float32, device=device) for values in (scale, bias)]
        found = normalise_on_device(images, *constants, getattr(torch, dtype))
        assert found.is_contiguous(memory_format=memory_format)
        bits = torch.int32 if dtype == "float32" else torch.int16
        assert torch.equal(found.cpu().contiguous().view(bits), expected.contiguous().view(bits))


def test_normalising_whole_batches_gives_what_the_engine_delivers(tmp_path):
    from PIL import Image

    import fastload
    from fastload import transforms as T

    rng = np.random.default_rng(1)
    (tmp_path / "a").mkdir()
    for number in range(5):
        Image.fromarray(rng.integers(0, 256, (70, 50, 3), dtype=np.uint8)).save(tmp_path / "a" / f"{number}.jpg")
    geometry = (T.RandomResizedCrop(32), T.RandomHorizontalFlip())
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for dtype in ("float16", "bfloat16", "float32"):
        look = (*geometry, T.ToDtype(dtype, scale=True), T.Normalize(mean, std))
        output = compile_plan(look).output
        with (
            fastload.Loader(tmp_path, batch_size=5, transforms=geometry, num_workers=1) as plain,
            fastload.Loader(tmp_path, batch_size=5, transforms=look, num_workers=1) as normalised,
        ):
            pixels, expected = next(iter(plain)).images, next(iter(normalised)).images
        assert pixels.dtype == torch.uint8
        constants = [torch.tensor(values, dtype=torch.float32) for values in (output.scale, output.bias)]
        assert torch.equal(normalise_on_device(pixels, *constants, getattr(torch, dtype)), expected)
