"""The processes of a run: who they are, and the few things that they tell each other."""

from __future__ import annotations

import gc
import importlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from fastload.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among those of the run.

    Attributes:
        rank: Number of this process, 0 <= rank < size. Rank 0 alone writes and draws.
        size: Number of processes.
        device: Where this process computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0


@contextmanager
def world(device: str = "auto") -> Iterator[World]:
    """Joins the processes that torchrun started, or stands alone; leaves them at the end if it joined them.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: The device is not there.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if dist.is_available() and dist.is_initialized():
        yield World(rank=dist.get_rank(), size=dist.get_world_size(), device=choose_device(device))
        return
    chosen = choose_device(device)
    if size == 1:
        yield World(rank=0, size=1, device=chosen)
        return
    # Its functions take the group as it is at import as their default: imported later, by the wrapper of the network,
    # it would keep the group, and its threads, alive.
    importlib.import_module("torch.distributed.nn.functional")

    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        dist.init_process_group("nccl", device_id=chosen)
    else:
        dist.init_process_group("gloo")
    try:
        yield World(rank=dist.get_rank(), size=dist.get_world_size(), device=chosen)
    finally:
        # The wrapped network is part of a cycle and holds the group. Only without it does the group end its threads:
        # one that still let go of a tensor while the interpreter ends would abort the process.
        gc.collect()
        dist.destroy_process_group()


def choose_device(device: str) -> torch.device:
    """The device of this process; with torchrun the GPU of its local rank."""
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(f"train.device: {device!r} was asked for, but torch finds no CUDA device here")
    index = int(device.partition(":")[2]) if ":" in device else int(os.environ.get("LOCAL_RANK", "0"))
    if index >= torch.cuda.device_count():
        raise ConfigError(f"train.device: cuda:{index} was asked for, but there are {torch.cuda.device_count()} GPUs")
    return torch.device("cuda", index)


def all_reduce_sum(place: World, *tensors: torch.Tensor) -> None:
    """Sums each tensor over all processes, in place."""
    if place.size > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def broadcast_json(place: World, value: Any) -> Any:
    """Rank 0's value, made of what JSON has, on every process."""
    if place.size == 1:
        return value
    payload = json.dumps(value).encode() if place.is_main else b""
    length = torch.tensor([len(payload)], device=place.device)
    dist.broadcast(length, 0)
    data = torch.zeros(int(length.item()), dtype=torch.uint8, device=place.device)
    if place.is_main:
        data.copy_(torch.frombuffer(bytearray(payload), dtype=torch.uint8))
    dist.broadcast(data, 0)
    return json.loads(bytes(data.cpu().numpy().tobytes()))


def gather_json(place: World, value: Any) -> list[Any]:
    """Every process's value, made of what JSON has, in the order of the ranks; on every process."""
    if place.size == 1:
        return [value]
    payload = json.dumps(value).encode()
    lengths = [torch.zeros(1, dtype=torch.int64, device=place.device) for _ in range(place.size)]
    dist.all_gather(lengths, torch.tensor([len(payload)], device=place.device))
    longest = max(int(length.item()) for length in lengths)
    own = torch.zeros(longest, dtype=torch.uint8)
    own[: len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
    rows = [torch.zeros(longest, dtype=torch.uint8, device=place.device) for _ in range(place.size)]
    dist.all_gather(rows, own.to(place.device))
    return [
        json.loads(bytes(row[: int(length.item())].cpu().numpy().tobytes()))
        for row, length in zip(rows, lengths, strict=True)
    ]


def broadcast_tensors(place: World, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rank 0's tensors by name, on every process, on the CPU. The other processes' argument is not looked at."""
    if place.size == 1:
        return dict(tensors)
    layout = [[key, str(value.dtype).removeprefix("torch."), list(value.shape)] for key, value in tensors.items()]
    received: dict[str, torch.Tensor] = {}
    for key, dtype, shape in broadcast_json(place, layout if place.is_main else None):
        if place.is_main:
            buffer = tensors[key].to(place.device).contiguous()
        else:
            buffer = torch.empty(shape, dtype=getattr(torch, dtype), device=place.device)
        dist.broadcast(buffer, 0)
        received[key] = buffer.cpu()
    return received


@torch.no_grad()
def broadcast_buffers(place: World, *models: torch.nn.Module) -> None:
    """Gives every process rank 0's running statistics, so that all evaluate one network: the one that is saved."""
    if place.size > 1:
        for model in models:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)
