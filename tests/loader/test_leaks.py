"""Threads and memory do not grow: not over abandoned iterators, not over epochs, not with what the user drops."""

import gc
import itertools
import threading
import time
import weakref

import psutil
import pytest
import torch

import fastload as fl
from fastload import transforms as T
from fastload.batch import Ring, ordinary_memory
from fastload.dataset import ImageFolderDataset
from fastload.loader.lane import Shortage
from tests.child import in_a_child


def threads():
    """Those of loaders, without the ones that the collector may be ending loaders of other tests in."""
    found = {thread for thread in threading.enumerate() if thread.name.startswith("fastload")}
    return {thread for thread in found if thread.name != "fastload-close"}


@pytest.fixture
def made(monkeypatch):
    """Weak references to the pages of every slot that is made: they go back to the system with the object."""
    found = []

    def watched(shape, dtype):
        memory = ordinary_memory(shape, dtype)
        found.append(weakref.ref(memory.base))
        return memory

    monkeypatch.setattr(Ring.__init__, "__kwdefaults__", {**Ring.__init__.__kwdefaults__, "allocate": watched})
    return found


def alive(references):
    return sum(ref() is not None for ref in references)


def wait_for_none(before, seconds=120.0):
    """Threads that the collector ends are not waited for by anybody else."""
    end = time.monotonic() + seconds
    while threads() - before and time.monotonic() < end:
        time.sleep(0.01)
    return threads() - before


def break_out(loader):
    for _ in loader:
        break


def raise_inside(loader):
    def train(batch):
        raise KeyError("the user's own error")

    with pytest.raises(KeyError):
        list(map(train, loader))


def drop_iterator(loader):
    iterator = iter(loader)
    next(iterator)
    del iterator


def drop_iterator_before_its_first_batch(loader):
    iter(loader)


def drop_generator(loader):
    generator = (batch for batch in loader)
    next(generator)
    del generator


def close_generator(loader):
    generator = (batch for batch in loader)
    next(generator)
    generator.close()


def leave_in_a_cycle(loader):
    holder = {"iterator": iter(loader)}
    holder["itself"] = holder
    next(holder["iterator"])
    del holder
    gc.collect()


ABANDON = [
    break_out,
    raise_inside,
    drop_iterator,
    drop_iterator_before_its_first_batch,
    drop_generator,
    close_generator,
    leave_in_a_cycle,
]


@pytest.mark.parametrize("abandon", ABANDON, ids=lambda function: function.__name__)
def test_an_abandoned_iterator_frees_its_threads_and_slots(photos, train, abandon):
    before = threads()
    loader = fl.Loader(photos, batch_size=4, transforms=train, num_workers=3)
    for _ in range(3):
        abandon(loader)
        assert not wait_for_none(before)
    assert loader._keeper.machinery is None, "slots are kept"
    assert len(list(loader)) == 13, "the loader still serves"


def test_an_iterator_collected_in_one_of_the_engines_own_threads_ends_all_of_them(photos, train):
    """The garbage collector runs wherever memory is asked for; a thread must not wait for itself to end."""
    before = threads()
    holder = {}

    class Dataset(ImageFolderDataset):
        def sizes(self, ids):
            holder.clear()  # drops the last reference to the iterator, in a thread of its own engine
            return super().sizes(ids)

    loader = fl.Loader(Dataset(photos), batch_size=4, transforms=train, num_workers=3)
    holder["iterator"] = iter(loader)
    iteration = loader._active
    iteration._submit_ahead(2)
    del iteration
    assert not wait_for_none(before)
    assert not holder


def test_a_dropped_loader_ends_its_threads(photos, train):
    before = threads()
    loader = fl.Loader(photos, batch_size=4, transforms=train, num_workers=3)
    list(loader)
    assert len(threads() - before) == 3, "between epochs threads wait for the next one"
    del loader
    gc.collect()
    assert not wait_for_none(before)


def test_closing_ends_threads_at_once(photos, train):
    before = threads()
    loader = fl.Loader(photos, batch_size=4, transforms=train, num_workers=3)
    iterator = iter(loader)
    next(iterator)
    loader.close()
    assert not threads() - before


def grown(photos):
    """Private bytes and threads beyond those before, after 20 abandoned iterators and 6 epochs."""
    Shortage.note = lambda self, lost, elapsed: False  # two slots in all
    chain = [T.RandomResizedCrop(256), T.RandomHorizontalFlip()]
    loader = fl.Loader(photos, batch_size=32, transforms=chain, num_workers=2)

    def work(iterators, epochs):
        for _ in range(iterators):
            for batch in itertools.islice(loader, 1):
                del batch
        for _ in range(epochs):
            for batch in loader:
                del batch
        gc.collect()
        return psutil.Process().memory_full_info().uss, threading.active_count()

    memory, running = work(5, 2)
    memory_then, running_then = work(20, 6)
    return memory_then - memory, running_then - running


def test_memory_and_threads_do_not_grow(photos):
    """One slot has 6 MB: a leak of one shows, and of one for each iterator or epoch all the more."""
    memory, running = in_a_child(grown, photos)
    assert running == 0
    assert memory < 6 << 20


def test_hoarded_batches_cost_memory_only_while_they_are_kept(photos, made):
    loader = fl.Loader(photos, batch_size=4, transforms=[T.RandomResizedCrop(512)], num_workers=2)
    hoard = list(loader)
    assert alive(made) >= 13
    assert loader.stats().counts["slots.added"] > 0
    hoard.clear()
    assert alive(made) <= 4, "those that stand ready anyway"


def test_two_slots_serve_a_loop_that_uses_batches_at_once(photos, monkeypatch):
    """More are made only where batches come late for want of one, which is a matter of time and left out here."""
    monkeypatch.setattr(Shortage, "note", lambda self, lost, elapsed: False)
    loader = fl.Loader(photos, batch_size=4, transforms=[T.RandomResizedCrop(64)], num_workers=3)
    addresses = set()
    for _ in range(3):
        for batch in loader:
            addresses.add(batch.images.data_ptr())
    assert len(addresses) == 2
    previous = None
    for batch in loader:  # who holds two gets a third
        assert previous is None or not torch.equal(previous.images, batch.images)
        previous = batch
    assert loader.stats().counts["slots.added"] == 0


def test_a_slot_more_is_made_where_a_share_of_the_time_is_lost_for_want_of_one():
    shortage = Shortage()
    assert not any(shortage.note(0.001, 0.05) for _ in range(64))
    assert [shortage.note(0.01, 0.05) for _ in range(16)].count(True) == 2


def test_slots_go_with_the_loader_and_not_with_the_next_garbage_collection(photos, train, made):
    """A cycle would keep them: 150 MB for batches of 256, until Python happens to collect."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            loader = fl.Loader(photos, batch_size=8, transforms=train, num_workers=2)
            iterator = iter(loader)
            next(iterator)
            del iterator
            list(loader)
            loader.close()
            del loader
        assert len(made) >= 8
        assert alive(made) == 0
    finally:
        gc.enable()
