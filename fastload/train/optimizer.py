"""Optimisers of torch.optim by name, and which parameters decay."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from fastload.errors import ConfigError
from fastload.recipe import nearest
from fastload.train.model import is_norm

# Not for this loop: LBFGS evaluates the loss several times per step, SparseAdam takes sparse gradients only.
_UNSUITED = frozenset({"LBFGS", "SparseAdam", "Optimizer"})
# One kernel for all parameters on a CUDA device, and loss scaling without the host's having to wait. The others take
# what torch takes by itself there, a kernel per operation for all parameters (foreach).
_FUSED_ON_CUDA = frozenset({"SGD", "Adam", "AdamW"})
# Arguments that choose between torch's implementations of one optimiser.
_IMPLEMENTATIONS = ("fused", "foreach", "capturable", "differentiable")


def optimizer_names() -> list[str]:
    """The optimisers of torch.optim that :func:`create_optimizer` takes."""
    return sorted(
        name
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and name not in _UNSUITED
    )


def decay_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    decay_norm: bool = False,
    decay_bias: bool = False,
    no_decay: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """Trainable parameters in up to two groups, without and with weight decay, each in the order of the model.

    Args:
        model: The network.
        weight_decay: Of the second group.
        decay_norm: Whether parameters of normalisation layers (their biases included) belong to it.
        decay_bias: Whether other biases belong to it.
        no_decay: Patterns of names that do not.
    """
    patterns = tuple(no_decay)
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ConfigError(f"optimizer.no_decay: no parameter is called {pattern!r}{nearest(pattern, names)}")
    norms = {id(parameter) for module in model.modules() if is_norm(module) for parameter in module.parameters(False)}
    without: list[nn.Parameter] = []
    with_decay: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            decays = False
        elif id(parameter) in norms:
            decays = decay_norm
        else:
            decays = decay_bias or not name.rpartition(".")[2].endswith("bias")
        (with_decay if decays else without).append(parameter)
    groups = [{"params": without, "weight_decay": 0.0}, {"params": with_decay, "weight_decay": weight_decay}]
    return [group for group in groups if group["params"]]


def create_optimizer(
    name: str,
    groups: list[dict[str, Any]],
    *,
    lr: float,
    args: Mapping[str, Any] | None = None,
    device: torch.device | None = None,
) -> torch.optim.Optimizer:
    """An optimiser of torch.optim over the groups of :func:`decay_groups`.

    Args:
        name: One of :func:`optimizer_names`.
        groups: Parameters and their weight decay.
        lr: Learning rate.
        args: Further arguments of its constructor.
        device: Where the parameters are. On CUDA the fused implementation is taken where there is one and ``args`` do
            not choose another.

    Raises:
        ConfigError: The name, an argument or its value is none that torch.optim takes.
    """
    if name not in optimizer_names():
        hint = nearest(name, optimizer_names())
        raise ConfigError(f"optimizer.name: torch.optim has no optimiser {name!r} for this loop{hint}")
    kind = getattr(torch.optim, name)
    known = [key for key in inspect.signature(kind).parameters if key not in ("params", "lr", "weight_decay")]
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in (args or {}).items()}
    for key in values:
        if key in ("lr", "weight_decay"):
            raise ConfigError(f"optimizer.args.{key}: say it as optimizer.{key}")
        if key not in known:
            raise ConfigError(f"optimizer.args.{key}: {name} has no such argument{nearest(key, known)}")
    if "weight_decay" not in inspect.signature(kind).parameters:
        if any(group["weight_decay"] for group in groups):
            raise ConfigError(f"optimizer.weight_decay: {name} has none; set it to 0")
        groups = [{"params": group["params"]} for group in groups]
    if device is not None and device.type == "cuda" and name in _FUSED_ON_CUDA:
        values = values if any(key in values for key in _IMPLEMENTATIONS) else {**values, "fused": True}
    try:
        optimizer = kind(groups, lr=lr, **values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"optimizer.args: {name} does not take {values!r}: {error}") from error
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer
