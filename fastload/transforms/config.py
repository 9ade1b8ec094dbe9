"""Declarations from plain data and back, for recipes."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, Final

from fastload.errors import ConfigError
from fastload.transforms import (
    color,
    containers,
    erasing,
    filters,
    geometry,
    mixing,
    padding,
    policies,
    scaling,
    targets,
    values,
    views,
    warping,
)
from fastload.transforms.base import Transform
from fastload.transforms.containers import Container, flatten
from fastload.transforms.custom import Lambda

_MODULES: Final = (
    color,
    containers,
    erasing,
    filters,
    geometry,
    mixing,
    padding,
    policies,
    scaling,
    targets,
    values,
    views,
    warping,
)


def _declared(module: ModuleType) -> list[type[Transform]]:
    """The declarations that a module owns: those that can be made, not what they share."""
    found = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Transform)]
    mine = [cls for cls in found if cls.__module__ == module.__name__ and not cls.__name__.startswith("_")]
    return [cls for cls in mine if dataclasses.is_dataclass(cls)]


# By name. In recipes a Compose is of use inside a RandomChoice or a RandomOrder; elsewhere a list does the same.
REGISTRY: Final[dict[str, type[Transform]]] = {
    cls.__name__: cls
    for cls in sorted((cls for module in _MODULES for cls in _declared(module)), key=lambda cls: cls.__name__)
}


def from_config(config: Sequence[str | Mapping[str, Mapping[str, Any] | None]]) -> tuple[Transform, ...]:
    """Declarations from a list of ``{name: {argument: value}}``; an entry without arguments may be its bare name.

    Containers hold such a list in ``transforms``.

    Example:
        >>> from_config([{"RandomResizedCrop": {"size": 224}}, "RandomHorizontalFlip"])
        >>> from_config([{"RandomApply": {"transforms": [{"ColorJitter": {"hue": 0.1}}], "p": 0.8}}])

    Raises:
        ConfigError: An entry cannot be used; the message says where it is, what was expected and what is nearest.
    """
    return tuple(flatten(_build_all(config, "transforms")))


def to_config(
    transforms: Iterable[Transform] | Transform | None, *, functions: bool = False
) -> list[dict[str, dict[str, Any]]]:
    """The inverse of :func:`from_config`: dicts, lists, strings and numbers only, every argument spelt out.

    Args:
        transforms: Declarations.
        functions: Write the name of a Lambda's function in its place, for a look at it: it cannot be read back.

    Raises:
        ConfigError: There is a Lambda among them, and ``functions`` is not set.
    """
    return [_written(step, functions) for step in flatten(transforms)]


def _written(step: Transform, functions: bool) -> dict[str, dict[str, Any]]:
    if isinstance(step, Lambda) and not functions:
        raise ConfigError(f"{step} calls a function, which a recipe cannot hold: pass the transforms to Loader")
    fields = dataclasses.fields(step)  # type: ignore[arg-type]
    return {type(step).__name__: {field.name: _plain(getattr(step, field.name), functions) for field in fields}}


def _plain(value: Any, functions: bool) -> Any:
    if isinstance(value, Transform):
        return _written(value, functions)
    if callable(value):
        function = getattr(value, "py_func", value)  # of a numba kernel
        return f"{function.__module__}:{getattr(function, '__qualname__', type(function).__qualname__)}"
    return [_plain(item, functions) for item in value] if isinstance(value, tuple) else value


def _build_all(config: Any, path: str) -> list[Transform]:
    if isinstance(config, (str, Mapping)) or not isinstance(config, Sequence):
        raise ConfigError(f"{path}: expected a list of {{name: arguments}}, but got {config!r}")
    return [_build(entry, f"{path}[{place}]") for place, entry in enumerate(config)]


def _build(entry: Any, path: str) -> Transform:
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise ConfigError(f"{path}: expected one {{name: arguments}}, but got {entry!r}")
    ((name, arguments),) = entry.items()
    if name == Lambda.__name__:
        raise ConfigError(f"{path}: a Lambda calls a function, which a recipe cannot hold: pass transforms to Loader")
    cls = REGISTRY.get(name) if isinstance(name, str) else None
    if cls is None:
        raise ConfigError(f"{path}: there is no transform {name!r}{_nearest(name, list(REGISTRY))}")
    path = f"{path}.{name}"
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"{path}: expected a mapping of arguments, but got {arguments!r}")
    fields = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in arguments:
        if key not in fields:
            raise ConfigError(f"{path}.{key}: there is no such argument{_nearest(key, fields)}")
    parameters = inspect.signature(cls).parameters.values()
    missing = [p.name for p in parameters if p.default is inspect.Parameter.empty and p.name not in arguments]
    if missing:
        raise ConfigError(f"{path}: {' and '.join(map(repr, missing))} must be given")
    if issubclass(cls, Container) and "transforms" in arguments:
        arguments = {**arguments, "transforms": _build_all(arguments["transforms"], f"{path}.transforms")}
    try:
        return cls(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{path}: {str(error).removeprefix(f'{name}: ')}") from None


def _nearest(name: object, valid: list[str]) -> str:
    close = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.5)
    if not close:  # get_close_matches minds case
        lower = {candidate.lower(): candidate for candidate in valid}
        close = [lower[match] for match in difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.4)]
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (valid: {', '.join(valid)})" if hint else f" (valid: {', '.join(valid)})"
