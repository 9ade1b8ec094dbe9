"""A slot is the user's for as long as any view of it lives, and the ring's memory is bounded all the same."""

import copy
import gc
import random
import threading

import numpy as np
import psutil
import pytest
import torch

from fastload.batch import Batch, Ring, as_tensor, storage_dtype
from tests.child import in_a_child

SHAPE = (4, 6, 8, 3)


def lend(ring: Ring, dtype: str = "uint8") -> torch.Tensor:
    """A slot as the user sees it, in the way in which the loader makes it."""
    slot = ring.take()
    return as_tensor(ring.lend(slot, slot), dtype).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("dtype", "torch_dtype"),
    [
        ("uint8", torch.uint8),
        ("float16", torch.float16),
        ("bfloat16", torch.bfloat16),
        ("float32", torch.float32),
    ],
)
def test_every_type_is_shown_as_torch_has_it(dtype, torch_dtype):
    ring = Ring(SHAPE, storage_dtype(dtype), 1)
    slot = ring.take()
    reference = torch.linspace(-3, 3, slot.size).to(torch_dtype)
    bits = reference.view(torch.uint8).numpy().view(storage_dtype(dtype))
    slot[...] = bits.reshape(SHAPE)
    shown = as_tensor(ring.lend(slot, slot), dtype).permute(0, 3, 1, 2)
    assert shown.dtype == torch_dtype
    assert shown.shape == (4, 3, 6, 8)
    assert shown.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(shown.permute(0, 2, 3, 1).reshape(-1), reference)


VIEWS = {
    "the tensor itself": lambda tensor: tensor,
    "a slice": lambda tensor: tensor[1:2],
    "one element": lambda tensor: tensor[3, 2, 5, 7],
    "permuted": lambda tensor: tensor.permute(3, 2, 1, 0),
    "a view of other bits": lambda tensor: tensor.permute(0, 2, 3, 1).view(torch.int8),
    "detached": lambda tensor: tensor.detach(),
    "its storage": lambda tensor: tensor.untyped_storage(),
    "a numpy array": lambda tensor: tensor.numpy(),
    "a view of a numpy array": lambda tensor: tensor.numpy()[1:, 0].T,
    "a view of a view of a numpy array": lambda tensor: tensor.permute(0, 2, 3, 1).numpy().reshape(-1, 24)[::2][1:],
    "a memoryview": lambda tensor: memoryview(tensor.permute(0, 2, 3, 1).numpy()),
    "a tensor of a numpy array": lambda tensor: torch.from_numpy(tensor.numpy()[0]),
    "by DLPack": lambda tensor: np.from_dlpack(tensor),
    "a shallow copy": lambda tensor: copy.copy(tensor),
    "in a closure": lambda tensor: lambda: tensor,
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_slot_stays_the_users_while_any_view_of_it_lives(name):
    ring = Ring(SHAPE, np.dtype(np.uint8), 1)
    view = VIEWS[name](lend(ring))
    gc.collect()
    other = ring.take()
    assert ring.num_added == 1, "the only slot was handed out again although the user still sees it"
    ring.give_back(other)
    del view, other
    gc.collect()
    assert len(ring) == 1
    ring.take()
    assert ring.num_added == 1, "the slot did not come back when the last view of it was gone"


def test_a_view_that_is_dropped_in_another_thread_gives_the_slot_back():
    ring = Ring(SHAPE, np.dtype(np.uint8), 1)
    held = [lend(ring)]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    ring.take()
    assert ring.num_added == 0


def test_what_the_user_keeps_is_never_overwritten():
    """Random keeping and dropping over many batches, against copies made when they were handed out."""
    chance = random.Random(1)
    ring = Ring(SHAPE, np.dtype(np.uint8), 3)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    for step in range(400):
        slot = ring.take()
        slot[...] = step % 251
        shown = as_tensor(ring.lend(slot, slot), "uint8")
        kept.append((shown[chance.randrange(4)], shown[0].clone()))
        del shown, slot
        while kept and chance.random() < 0.55:
            kept.pop(chance.randrange(len(kept)))
        assert all(torch.equal(view, value) for view, value in kept)
        assert len(ring) == max(3, len(kept))
    kept.clear()
    assert len(ring) == 3


def test_the_ring_grows_while_batches_are_hoarded_and_returns_to_its_size():
    ring = Ring(SHAPE, np.dtype(np.uint8), 2)
    hoard = [lend(ring) for _ in range(10)]
    assert len({tensor.data_ptr() for tensor in hoard}) == 10
    assert (len(ring), ring.num_added) == (10, 8)
    hoard.clear()
    assert len(ring) == 2


def test_a_ring_begins_small_and_grows_when_told_or_when_it_must():
    ring = Ring(SHAPE, np.dtype(np.uint8), 4, begin=2)
    first, second = ring.take_spare(), ring.take_spare()
    assert first is not None
    assert second is not None
    assert len(ring) == 2
    assert ring.take_spare() is None, "both are seen, and two are to do"
    ring.grow()
    third = ring.take_spare()
    assert third is not None
    assert len(ring) == 3
    ring.take()  # somebody waits
    assert (len(ring), ring.wanted, ring.num_added) == (4, 4, 0)
    returned = []
    ring.on_return = lambda: returned.append(len(ring))
    ring.give_back(third)
    assert returned == [4]
    assert ring.take_spare() is third


def test_slots_are_used_again():
    ring = Ring(SHAPE, np.dtype(np.uint8), 2)
    addresses = {lend(ring).data_ptr() for _ in range(20)}
    assert len(addresses) <= 2
    assert ring.num_added == 0


def test_reuse_takes_the_last_slot_back_when_the_next_is_asked_for():
    ring = Ring(SHAPE, np.dtype(np.uint8), 2, reuse=True)
    kept = []
    for _ in range(6):
        ring.reclaim()
        ahead = ring.take()
        kept.append(lend(ring))
        ring.give_back(ahead)
    assert len({tensor.data_ptr() for tensor in kept}) <= 2
    assert (len(ring), ring.num_added) == (2, 0)


def pages_of_a_ring():
    """Private bytes that a ring of 25 MB brings, whether its slots are empty, and private bytes once it is gone."""
    process = psutil.Process()
    before = process.memory_full_info().uss
    ring = Ring((16, 256, 256, 3), np.dtype(np.uint8), 8)
    brought = process.memory_full_info().uss - before
    empty = not ring.take().any()
    del ring
    return brought, empty, process.memory_full_info().uss - before


def test_the_pages_of_the_slots_are_there_before_they_are_used_and_go_with_the_ring():
    size = 8 * 16 * 256 * 256 * 3
    brought, empty, left = in_a_child(pages_of_a_ring)
    assert brought > 0.9 * size, "the first batch would meet page faults"
    assert empty
    assert left < 0.2 * size, "the memory did not go back to the system"


def test_a_batch_unpacks_and_moves():
    batch = Batch(
        images=torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        labels=torch.tensor([3, 4]),
        ids=torch.tensor([9, 8]),
        valid=torch.tensor([True, False]),
    )
    images, labels = batch
    assert images is batch.images
    assert labels is batch.labels
    assert len(batch) == 2
    moved = batch.to("meta")
    assert (moved.images.device.type, moved.labels.device.type, moved.ids.device.type) == ("meta", "meta", "cpu")
    assert moved.valid is batch.valid
