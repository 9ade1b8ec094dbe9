"""A network by its name, ready to train: pretrained weights, blur, frozen parameters, memory layout."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from fastload.errors import ConfigError
from fastload.recipe import nearest
from fastload.train.networks import ResNetTiny

TINY: Final = "resnet_tiny"
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)


def model_names() -> list[str]:
    """Every name that :func:`create_model` takes."""
    models = _torchvision_models()
    return [TINY, *models.list_models(module=models)]


def _torchvision_models() -> Any:
    # Importing torchvision takes seconds, which the small network does without.
    from torchvision import models

    return models


def create_model(
    name: str,
    *,
    num_classes: int,
    args: Mapping[str, Any] | None = None,
    pretrained: str | None = None,
    freeze: Iterable[str] = (),
    blurpool: bool = False,
    channels_last: bool = True,
) -> nn.Module:
    """A network on the CPU in float32; its initial weights come from torch's global generator.

    Args:
        name: One of :func:`model_names`.
        num_classes: Outputs.
        args: Further arguments of its constructor.
        pretrained: ``hub`` or the path of a .safetensors or torch.save file.
        freeze: Patterns of parameter names that are not to be trained.
        blurpool: Blur before strided convolutions.
        channels_last: NHWC memory.

    Raises:
        ConfigError: The name, an argument, a pattern or the weights do not fit.
    """
    model = _construct(name, num_classes, dict(args or {}))
    if pretrained is not None:
        _load_pretrained(model, _read_weights(name, pretrained), pretrained, num_classes)
    if blurpool and apply_blurpool(model) == 0:
        raise ConfigError(f"model.blurpool: {name} has no strided convolution with 16 or more input channels")
    _freeze(model, tuple(freeze))
    return model.to(memory_format=torch.channels_last) if channels_last else model


def _construct(name: str, num_classes: int, args: dict[str, Any]) -> nn.Module:
    if name != TINY and name not in model_names():
        raise ConfigError(f"model.name: there is no model {name!r}{nearest(name, model_names())}")
    for reserved in ("num_classes", "weights", "pretrained"):
        if reserved in args:
            raise ConfigError(f"model.args.{reserved}: say it as model.{reserved.replace('weights', 'pretrained')}")
    if name in ("googlenet", "inception_v3"):  # their auxiliary heads return tuples and are of no use today
        args = {"aux_logits": False, "init_weights": True, **args}
    try:
        if name == TINY:
            _check_arguments("model.args", args, inspect.signature(ResNetTiny))
            return ResNetTiny(num_classes, **args)
        model = _torchvision_models().get_model(name, weights=None, num_classes=num_classes, **args)
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"model.args: {name} does not take {args!r}: {error}") from error
    assert isinstance(model, nn.Module)
    return model


def _check_arguments(path: str, args: Mapping[str, Any], signature: inspect.Signature) -> None:
    for key in args:
        if key not in signature.parameters:
            raise ConfigError(f"{path}.{key}: unknown key{nearest(key, list(signature.parameters))}")


def _read_weights(name: str, pretrained: str) -> dict[str, torch.Tensor]:
    if pretrained == "hub":
        if name == TINY:
            raise ConfigError(f"model.pretrained: torchvision's hub has no {TINY}; give a file")
        weights = _torchvision_models().get_model_weights(name).DEFAULT
        state: dict[str, torch.Tensor] = weights.get_state_dict(progress=False, check_hash=True)
        return state
    path = Path(pretrained).expanduser()
    if not path.is_file():
        raise ConfigError(f"model.pretrained: there is no file {path}: give 'hub', a .safetensors or a .pth file")
    try:
        if path.suffix == ".safetensors":
            import safetensors.torch

            return safetensors.torch.load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load and safetensors raise a dozen types for a bad file
        raise ConfigError(f"model.pretrained: {path} holds no readable weights: {error}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ConfigError(f"model.pretrained: {path} must hold a dict of tensors by parameter name")
    return {key.removeprefix("module."): value for key, value in content.items()}


def _load_pretrained(model: nn.Module, weights: Mapping[str, torch.Tensor], origin: str, num_classes: int) -> None:
    """Copies weights by name. What may differ is the classifier, where the number of classes does."""
    own = model.state_dict()
    missing = [key for key in own if key not in weights and not key.endswith("num_batches_tracked")]
    unknown = [key for key in weights if key not in own and not _is_auxiliary(key)]
    wrong = [key for key in own if key in weights and own[key].shape != weights[key].shape]
    head = [
        key for key in wrong if own[key].shape[:1] == (num_classes,) and own[key].shape[1:] == weights[key].shape[1:]
    ]
    if missing or unknown or len(head) != len(wrong):
        first = (missing + unknown + wrong)[0]
        raise ConfigError(
            f"model.pretrained: {origin} does not fit the model: {len(missing)} weights are missing, {len(unknown)} "
            f"unknown, {len(wrong) - len(head)} of another shape (first: {first!r}); check model.name and model.args"
        )
    fitting = {key: value for key, value in weights.items() if key in own and key not in head}
    model.load_state_dict(fitting, strict=False)


def _is_auxiliary(key: str) -> bool:
    return key.startswith(("aux1.", "aux2.", "AuxLogits."))


class BlurPoolConv2d(nn.Module):
    """A strided convolution whose input is blurred first, so that it does not alias. As FFCV's, names included."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        kernel = torch.tensor([[[[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]]]) / 16.0
        self.conv = conv
        self.blur_filter: torch.Tensor
        self.register_buffer("blur_filter", kernel.repeat(conv.in_channels, 1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        filters = self.blur_filter.to(images.dtype)
        blurred = nn.functional.conv2d(images, filters, stride=1, padding=(1, 1), groups=self.conv.in_channels)
        result: torch.Tensor = self.conv(blurred)
        return result


def apply_blurpool(module: nn.Module) -> int:
    """Puts a blur before every strided convolution with at least 16 input channels; returns how many."""
    count = 0
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and max(child.stride) > 1 and child.in_channels >= 16:
            setattr(module, name, BlurPoolConv2d(child))
            count += 1
        else:
            count += apply_blurpool(child)
    return count


def _freeze(model: nn.Module, patterns: tuple[str, ...]) -> None:
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ConfigError(f"model.freeze: no parameter is called {pattern!r}{nearest(pattern, names)}")
    for name, parameter in model.named_parameters():
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"model.freeze: {list(patterns)} freezes every parameter: nothing is left to train")


def is_norm(module: nn.Module) -> bool:
    """Whether the module normalises activations."""
    return isinstance(module, _NORMS)


def set_training_mode(model: nn.Module) -> None:
    """As ``model.train()``, but norms whose parameters are all frozen keep their statistics."""
    model.train()
    for module in model.modules():
        if is_norm(module):
            own = list(module.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()
