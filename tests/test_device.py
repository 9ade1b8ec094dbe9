"""The way to a CUDA device; what needs one is marked gpu, the rest of the logic runs everywhere."""

import functools

import pytest
import torch

from fastload.batch import Ring, as_tensor, storage_dtype
from fastload.device import Copy, CudaCopyStream, SlotReturns, pinned_memory, resolve_device
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
