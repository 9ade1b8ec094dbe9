"""Batches that go to a device: order, lookahead, slots and errors, with the copies counted here and done on a GPU."""

import itertools

import pytest
import torch

import fastload as fl
from fastload import transforms as T
from fastload.batch import ordinary_memory
from fastload.device import Copy
from fastload.errors import DataError
from fastload.loader import build
from fastload.loader import loader as loader_module


class HostStream:
    """Copies to other ordinary memory when the user is handed the batch: as late as a device may."""

    def __init__(self):
        self.started = 0
        self.handed_over = 0
        self.waited = 0

    def start(self, tensors):
        self.started += 1
        targets = tuple(torch.empty_like(tensor) for tensor in tensors)
        return Copy(tensors=targets, done=HostEvent(self, tensors, targets))

    def hand_over(self, copy):
        self.handed_over += 1
        copy.done.run()
        return copy.tensors


class HostEvent:
    """Copies when it is made to; counts the times that the host had to wait for it."""

    def __init__(self, stream, sources, targets):
        self.stream, self.sources, self.targets = stream, sources, targets
        self.done = False

    def run(self):
        for target, source in zip(self.targets, self.sources, strict=True):
            target.copy_(source)
        self.done = True

    def query(self):
        return self.done

    def synchronize(self):
        if not self.done:
            self.stream.waited += 1
            self.run()


@pytest.fixture
def stream(monkeypatch):
    """Sends what a Loader delivers through a HostStream."""
    stream = HostStream()
    monkeypatch.setattr(loader_module, "resolve_device", lambda device: torch.device("cpu"))
    monkeypatch.setattr(build, "CudaCopyStream", lambda device: stream)
    monkeypatch.setattr(build, "pinned_memory", ordinary_memory)
    return stream


def test_one_batch_is_on_its_way_while_the_one_before_is_used(photos, train, stream):
    loader = fl.Loader(photos, batch_size=8, transforms=train, num_workers=2, engine="cpu")
    for number, _ in enumerate(loader, 1):
        assert stream.handed_over == number
        assert stream.started == min(number + 1, len(loader))
        assert loader.state_dict()["batch"] == number, "what is on its way was not handed to the user"
    assert loader.stats().epoch.read == 50
    assert loader.stats().counts["slots.added"] == 0
    assert stream.waited == 0, "the host waited for a copy"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
def test_what_arrives_is_what_was_read_and_scaled_where_it_arrives(photos, train, dtype, memory_format, request):
    if dtype != torch.uint8:
        train = [*train, T.ToDtype(dtype, scale=True), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    options = {"batch_size": 8, "transforms": train, "num_workers": 2, "engine": "cpu", "memory_format": memory_format}
    expected = [(batch.ids.tolist(), batch.images.clone()) for batch in fl.Loader(photos, **options)]
    request.getfixturevalue("stream")
    loader = fl.Loader(photos, **options)
    for (ids, images), batch in zip(expected, loader, strict=True):
        assert ids == batch.ids.tolist()
        assert batch.images.dtype == dtype
        assert batch.images.stride() == images.stride()
        assert torch.equal(images, batch.images)
        assert loader._keeper.machinery.lanes[0].slots.dtype == "uint8", "half of what float16 takes on the way"
        assert torch.equal(batch.labels, torch.from_numpy(loader.dataset.labels(batch.ids.numpy())))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [0.5, "random"])
def test_erased_values_travel_as_they_are_stored_and_operations_as_levels(photos, train, dtype, value):
    normalize = [T.ToDtype(dtype, scale=True), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    for chain, stored in (
        ([*train, T.ColorJitter(0.4), *normalize], "uint8"),
        ([*train, T.ColorJitter(0.4), *normalize, T.RandomErasing(0.9, value=value)], None),
    ):
        options = {"batch_size": 8, "transforms": chain, "num_workers": 2, "engine": "cpu"}
        with fl.Loader(photos, **options) as loader:
            expected = [batch.images.clone() for batch in loader]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loader_module, "resolve_device", lambda device: torch.device("cpu"))
            patch.setattr(build, "CudaCopyStream", lambda device: HostStream())
            patch.setattr(build, "pinned_memory", ordinary_memory)
            with fl.Loader(photos, **options) as loader:
                for images, batch in zip(expected, loader, strict=True):
                    slots = loader._keeper.machinery.lanes[0].slots
                    assert (slots.dtype == "uint8") == (stored == "uint8")
                    assert batch.images.dtype == dtype
                    assert torch.equal(images, batch.images)


def test_an_error_of_the_batch_ahead_waits_for_its_turn(own_photos, train, stream):
    loader = fl.Loader(own_photos, batch_size=5, transforms=train, num_workers=2, engine="cpu")
    order = [batch.ids.tolist() for batch in loader]
    (own_photos / loader.dataset.key(order[2][0])).write_bytes(b"no image")
    again = fl.Loader(own_photos, batch_size=5, transforms=train, num_workers=2, engine="cpu")
    iterator = iter(again)
    assert [next(iterator).ids.tolist() for _ in range(2)] == order[:2]
    with pytest.raises(DataError):
        next(iterator)
    assert again.state_dict()["batch"] == 2


def test_an_abandoned_iteration_waits_for_the_copy_that_still_reads_a_slot(photos, train, stream):
    loader = fl.Loader(photos, batch_size=8, transforms=train, num_workers=2, engine="cpu")
    list(itertools.islice(loader, 2))
    assert stream.started == 3
    assert stream.waited == 1, "pinned memory was freed under the third copy"


@pytest.mark.gpu
@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
def test_a_cuda_loader_delivers_what_a_cpu_loader_delivers(photos, train, memory_format):
    options = {"batch_size": 8, "transforms": train, "num_workers": 2, "memory_format": memory_format}
    expected = [(batch.images.clone(), batch.labels) for batch in fl.Loader(photos, **options)]
    loader = fl.Loader(photos, **options, device="cuda")
    kept = []
    for (images, labels), batch in zip(expected, loader, strict=True):
        assert batch.images.device.type == batch.labels.device.type == "cuda"
        assert batch.images.stride() == images.stride()
        assert torch.equal(batch.labels.cpu(), labels)
        kept.append(batch.images)
    assert all(torch.equal(on_device.cpu(), images) for on_device, (images, _) in zip(kept, expected, strict=True))
